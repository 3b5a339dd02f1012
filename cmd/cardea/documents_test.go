package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// root is the project's folder as seen from this package's tests.
const root = "../.."

// block is a fenced block of a document.
type block struct {
	line int
	info string // what follows the three backticks
	text string
}

var fence = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```")

func blocks(text string) []block {
	var all []block
	for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
		all = append(all, block{line: 1 + strings.Count(text[:m[0]], "\n"), info: text[m[2]:m[3]], text: text[m[4]:m[5]]})
	}
	return all
}

// documents are README.md and docs/**.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	paths := []string{filepath.Join(root, "README.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, e os.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(b)
	}
	return all
}

// prepared are files that a document's reader is taken to have.
var prepared = map[string]map[string]string{
	"README.md": {"cardea.toml": "[node]\nname = \"vault-1\"\ndata_dir = \"data\"\n[tenants.acme]\n"},
}

// suite is the command that CI runs as a step of its own, and that would not end
// if it ran here.
const suite = "go test ./..."

// TestDocumentsCommands runs every block of shell commands in README.md and docs/,
// in order, as a reader would type them: in a folder of his own, with cardea in
// his PATH. A server in the foreground runs on until the document ends. A block
// that cannot run here says so, and why, behind 'sh norun'.
func TestDocumentsCommands(t *testing.T) {
	t.Parallel()
	ran := 0
	for name, text := range documents(t) {
		var todo []block
		for _, b := range blocks(text) {
			switch kind, rest, _ := strings.Cut(b.info, " "); {
			case kind == "bash" || kind == "shell" || kind == "console" || kind == "zsh":
				t.Errorf("%s:%d: a block of commands is marked 'sh', so that it is run, not %q", name, b.line, kind)
			case kind != "sh":
			case rest == "":
				todo = append(todo, b)
			default:
				reason, ok := strings.CutPrefix(rest, "norun ")
				if !ok || strings.TrimSpace(reason) == "" {
					t.Errorf("%s:%d: want 'sh', or 'sh norun' and a reason, not %q", name, b.line, b.info)
				}
				t.Logf("%s:%d is not run: %s", name, b.line, reason)
			}
		}
		if ran += len(todo); len(todo) > 0 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runDocument(t, name, todo)
			})
		}
	}
	if ran < 10 {
		t.Errorf("only %d blocks in all documents: are they looked for in the right places?", ran)
	}
}

// preamble makes a shell of a reader's: his curl, and a node that listens where
// the document says, though here it listens elsewhere.
const preamble = `
cardea() {
	case "$1 ${2-}" in "custodian unlock" | "custodian status")
		case " $* " in
		*" --url "*) ;;
		*" --tenant key-service "* | *"/key-service-"*) set -- "$@" --url "$KEYS" ;;
		*) set -- "$@" --url "$VAULT" ;;
		esac ;;
	esac
	command cardea "$@"
}
command -v curl >/dev/null || curl() { cardea-curl "$@"; }
`

// serverLine is a block that is a server in the foreground.
var serverLine = regexp.MustCompile(`^cardea ((?:dev|serve)(?: [^&|;<>\n]*)?)\n$`)

func runDocument(t *testing.T, name string, todo []block) {
	dir := t.TempDir()
	for file, text := range prepared[name] {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vault, keys, ops := freeAddress(t), freeAddress(t), freeAddress(t)
	env := append(os.Environ(), "VAULT=http://"+vault, "KEYS=http://"+keys, "HOME="+dir,
		"CARDEA__LIMITS__CUSTODIAN_ATTEMPTS_PER_MINUTE=60")
	preamble := preamble
	if !hasAWS() && name == filepath.Join("docs", "files.md") {
		t.Skip("its keys are made by AWS's command line, which this machine does not have")
	}
	if !hasAWS() {
		t.Logf("%s: lines with aws are not run: this machine has no AWS command line", name)
		preamble += noAWS
	}
	elsewhere := strings.NewReplacer("go run ./cmd/cardea", "cardea",
		"127.0.0.1:8080", vault, "127.0.0.1:4599", keys, "127.0.0.1:9464", ops, "127.0.0.1:9465", freeAddress(t))
	for _, b := range todo {
		at := fmt.Sprintf("%s:%d", name, b.line)
		if strings.TrimSpace(b.text) == suite {
			ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
			if err != nil || !strings.Contains(string(ci), "\n"+suite+"\n") {
				t.Errorf("%s: CI does not run %q, which the document shows (%v)", at, suite, err)
			}
			continue
		}
		text := elsewhere.Replace(b.text)
		if m := serverLine.FindStringSubmatch(text); m != nil {
			args := strings.Fields(m[1])
			if args[0] == "dev" {
				args = append(args, "--listen", vault, "--keys", keys, "--ops", ops)
			}
			s := &server{name: at}
			err := s.begin(dir, append(env, listeners(dir, args, vault, ops)...), args...)
			if s.cmd.Process != nil {
				defer endOfDocument(t, s)
			}
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			continue
		}
		cmd := exec.Command("sh", "-eu", "-c", preamble+text)
		if _, err := exec.LookPath("bash"); err == nil {
			cmd = exec.Command("bash", "-eu", "-o", "pipefail", "-c", preamble+text)
		}
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", at, err, b.text, out)
		}
	}
}

// listeners are settings that move the default addresses of a server, unless its
// configuration says where it listens.
func listeners(dir string, args []string, vault, ops string) []string {
	i := slices.Index(args, "--config")
	if i < 0 || i+1 == len(args) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, args[i+1]))
	if err != nil || strings.Contains(string(text), "\nlisten = ") {
		return nil // or the server itself says what is wrong
	}
	return []string{"CARDEA__VAULT__LISTEN=" + vault, "CARDEA__OPS__LISTEN=" + ops}
}

func endOfDocument(t *testing.T, s *server) {
	if err := s.end(syscall.SIGINT); err != nil {
		t.Errorf("%s: the server did not stop in order: %v\n%s", s.name, err, s.stderr.String())
	}
}

// ports counts those that freeAddress has given.
var ports atomic.Int64

// freeAddress is an address on loopback that nobody listens on. Its port is below
// those that the system gives to whoever wants any, so that other tests, which run
// meanwhile, do not get it before the document's server listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	const count = 12000
	first := max(2000, min(20000, anyPort(t)-count))
	for range count {
		address := fmt.Sprintf("127.0.0.1:%d", first+int((int64(os.Getpid())*100+ports.Add(1))%count))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// anyPort is the lowest port that the system gives to whoever wants any: 32768 unless
// it says otherwise.
func anyPort(t *testing.T) (low int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 32768
	}
	if _, err := fmt.Sscan(string(text), &low); err != nil {
		t.Fatal(err)
	}
	return low
}
