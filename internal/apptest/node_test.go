// Package apptest tests the whole of Cardea from outside: the real binary, real
// databases, real HTTP, and SIGKILL.
package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/secret"
	"cardea/internal/store/storetest"
	"cardea/internal/testlog"
)

// patience is how long tests wait for what must happen, on a machine that may be busy
// with all the other tests.
const patience = 2 * time.Minute

// tenant is the tenant of every node in these tests.
const tenant = "acme"

// binaryDir is a folder for as long as the tests run.
var binaryDir string

// binary builds cardea once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "cardea")
	out, err := exec.Command("go", "build", "-o", path, "cardea/cmd/cardea").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if file := os.Getenv(clockEnv); file != "" {
		os.Exit(clockedMain(clockFile(file)))
	}
	var err error
	if binaryDir, err = os.MkdirTemp("", "cardea-apptest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// databases are the databases that every test of this package runs on.
var databases = map[string]func(t *testing.T, dir string) string{
	"sqlite":   func(_ *testing.T, dir string) string { return "sqlite:" + filepath.Join(dir, "vault.db") },
	"postgres": func(t *testing.T, _ string) string { return storetest.Postgres(t) },
}

// installation is a configured node that can be started again and again.
type installation struct {
	dir    string
	config string
	clock  clockFile // if there is one, nodes are this program on that clock
}

// install writes a configuration whose tenant is unlocked from the start, because
// no custodian comes after a SIGKILL.
func install(t *testing.T, database string) *installation {
	t.Helper()
	dir := t.TempDir()
	master := secret.Random(32)
	write(t, filepath.Join(dir, "master.hex"), hex.EncodeToString(master.Expose()))
	in := &installation{dir: dir, config: filepath.Join(dir, "cardea.toml")}
	write(t, in.config, fmt.Sprintf(`
[node]
name = "crash"
data_dir = %q
[vault]
listen = "127.0.0.1:0"
[ops]
listen = "127.0.0.1:0"
[database]
url = %q
[log]
format = "json"
level = "info"
[tenants.%s]
mode = "local"
master_key_file = %q
insecure_master_key_without_custodians = true
`, dir, databases[database](t, dir), tenant, filepath.Join(dir, "master.hex")))
	return in
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// node is a running process.
type node struct {
	cmd    *exec.Cmd
	url    string
	ops    string          // where it tells metrics
	log    *testlog.Buffer // what it wrote to standard error, complete when it has ended
	exited chan struct{}   // closed when err is set
	err    error
}

// start runs the node and waits until it says where it listens.
func (in *installation) start(t *testing.T) *node {
	t.Helper()
	n := &node{cmd: in.command(t, "serve", "--config", in.config), log: &testlog.Buffer{}, exited: make(chan struct{})}
	pipe, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It must be gone before its folder is removed.
	t.Cleanup(func() { n.kill(t) })
	serving := make(chan [2]string, 1)
	go func() {
		defer close(n.exited)
		s := bufio.NewScanner(pipe)
		for s.Buffer(nil, 1<<20); s.Scan(); {
			fmt.Fprintf(n.log, "%s\n", s.Bytes())
			var line struct {
				Msg   string `json:"msg"`
				Vault string `json:"vault"`
				Keys  string `json:"keys"`
				Ops   string `json:"ops"`
			}
			if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "serving" {
				serving <- [2]string{line.Vault + line.Keys, line.Ops} // a node of these tests serves one of them
			}
		}
		n.err = n.cmd.Wait()
	}()
	select {
	case at := <-serving:
		n.url, n.ops = at[0], at[1]
	case <-n.exited:
		t.Fatalf("the node ended at once: %v\n%s", n.err, n.log)
	case <-time.After(patience):
		t.Fatalf("the node did not begin to serve within %s\n%s", patience, n.log)
	}
	return n
}

// kill ends the process as a power cut would.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-n.exited
}

// stop ends the process as an operator would, and wants status 0.
func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if <-n.exited; n.err != nil {
		t.Fatalf("the node did not stop cleanly: %v\n%s", n.err, n.log)
	}
}

// call posts a body under a request id of its own. A status of 0 means that no
// whole answer came.
func (n *node) call(ctx context.Context, client *http.Client, id, path, body string) (status int, answer []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Tenant-Id", tenant)
	req.Header.Set("X-Request-Id", id)
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, answer
}

// command is a command of cardea.
func (in *installation) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if in.clock != "" {
		path, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, args...)
		cmd.Env = append(os.Environ(), clockEnv+"="+string(in.clock))
		return cmd
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, args...)
}

// run runs a command of the binary on the installation and returns its output.
func (in *installation) run(t *testing.T, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := in.command(t, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("cardea %s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}
