package interop

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// The account of all tests, and the Regions of the server. The first is that of the
// documents that the tests quote.
const (
	account     = "111122223333"
	region      = "us-east-1"
	otherRegion = "eu-west-1"
)

// patience is how long a server may take to start or to stop on a busy machine.
const patience = time.Minute

// server is a running 'cardea serve' and the access key of its administrator.
type server struct {
	dir, url    string
	credentials string // file
	id, secret  string // what is in it
	cmd         *exec.Cmd
	log         *lockedBuffer
	exited      chan error
}

// shared is the server of all tests but those that need their own: each test makes
// keys of its own in it.
var shared = sync.OnceValues(func() (*server, error) {
	s, err := startServer(binary, "")
	run.shared = s
	return s, err
})

// run holds what must be ended and removed when the tests are over.
var run struct {
	shared *server // set by shared
	mu     sync.Mutex
	dirs   []string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if s := run.shared; s != nil {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "the server did not stop cleanly:", err, s.log)
			code = 1
		}
	}
	for _, dir := range run.dirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// newDir is a folder with a short name, since it has a Unix socket in it.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("", "cardea-interop-")
	run.mu.Lock()
	defer run.mu.Unlock()
	run.dirs = append(run.dirs, dir)
	return dir, err
}

// binary and binaryOfPKCS11 build cardea once.
var (
	binary         = sync.OnceValues(func() (string, error) { return build("0", "") })
	binaryOfPKCS11 = sync.OnceValues(func() (string, error) { return build("1", "pkcs11") })
)

func build(cgo, tags string) (string, error) {
	dir, err := newDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cardea")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "./cmd/cardea")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// startServer runs a new key service, with more configuration and environment if
// there is any, and makes its administrator.
func startServer(binary func() (string, error), more string, env ...string) (*server, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	s := &server{log: &lockedBuffer{}, exited: make(chan error, 1)}
	if s.dir, err = newDir(); err != nil {
		return nil, err
	}
	var root [32]byte
	rand.Read(root[:])
	config := fmt.Sprintf(`
[node]
name = "interop"
data_dir = %q
[vault]
listen = ""
[ops]
listen = "127.0.0.1:0"
[key_service]
listen = "127.0.0.1:0"
regions = [%q, %q]
root_key_file = %q
insecure_root_key_without_custodians = true
%s`, s.dir, region, otherRegion, filepath.Join(s.dir, "root.hex"), more)
	for name, text := range map[string]string{"root.hex": hex.EncodeToString(root[:]), "cardea.toml": config} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.Command(path, "serve", "--config", filepath.Join(s.dir, "cardea.toml"))
	s.cmd.Env = append(os.Environ(), env...)
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	serving := make(chan string, 1)
	go s.follow(pipe, serving)
	select {
	case s.url = <-serving:
	case err := <-s.exited:
		return nil, fmt.Errorf("the server ended at once: %w\n%s", err, s.log)
	case <-time.After(patience):
		s.cmd.Process.Kill()
		return nil, fmt.Errorf("the server did not begin to serve\n%s", s.log)
	}
	s.credentials = filepath.Join(s.dir, "admin.credentials")
	if err := s.cardea("identity", "bootstrap", "--account-id", account, "--out-file", s.credentials); err != nil {
		s.cmd.Process.Kill()
		return nil, err
	}
	s.id, s.secret, err = accessKey(s.credentials)
	return s, err
}

// cardea runs a command of the binary on the server's configuration.
func (s *server) cardea(args ...string) error {
	cmd := exec.Command(s.cmd.Path, append(args, "--config", filepath.Join(s.dir, "cardea.toml"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cardea %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// accessKey reads a file as AWS's tools do.
func accessKey(path string) (id, secret string, err error) {
	text, err := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		switch name, value, _ := strings.Cut(line, "="); strings.TrimSpace(name) {
		case "aws_access_key_id":
			id = strings.TrimSpace(value)
		case "aws_secret_access_key":
			secret = strings.TrimSpace(value)
		}
	}
	return id, secret, err
}

// follow keeps what the server logs and tells where it serves, until it ends.
func (s *server) follow(pipe io.Reader, serving chan<- string) {
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		fmt.Fprintf(s.log, "%s\n", lines.Bytes())
		var line struct {
			Msg  string `json:"msg"`
			Keys string `json:"keys"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			serving <- line.Keys
		}
	}
	s.exited <- s.cmd.Wait()
}

// stop ends the server as an operator would.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		return err
	case <-time.After(patience):
		return s.cmd.Process.Kill()
	}
}

// serve is the shared server.
func serve(t testing.TB) *server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// user makes a user who may do nothing by himself, and returns a server to which
// requests go as his.
func (s *server) user(t testing.TB, name string) *server {
	t.Helper()
	own := &server{dir: s.dir, url: s.url, cmd: s.cmd, credentials: filepath.Join(t.TempDir(), "credentials")}
	if err := s.cardea("identity", "user", "create", name); err != nil {
		t.Fatal(err)
	}
	if err := s.cardea("identity", "key", "create", "--user", name, "--out-file", own.credentials); err != nil {
		t.Fatal(err)
	}
	var err error
	if own.id, own.secret, err = accessKey(own.credentials); err != nil {
		t.Fatal(err)
	}
	return own
}

// role makes a role of the account that may do nothing by itself.
func (s *server) role(t testing.TB, name string) {
	t.Helper()
	trust := filepath.Join(t.TempDir(), "trust.json")
	text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`
	if err := os.WriteFile(trust, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cardea("identity", "role", "create", name, "--trust", trust); err != nil {
		t.Fatal(err)
	}
}

// sdk is a client of the AWS SDK, of the first Region unless changed, that tries once.
func (s *server) sdk(change ...func(*kms.Options)) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(s.url), Region: region, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(s.id, s.secret, ""),
	}, change...)
}

func in(region string) func(*kms.Options) { return func(o *kms.Options) { o.Region = region } }

// newKey makes a key and returns its ARN.
func newKey(t testing.TB, c *kms.Client, in kms.CreateKeyInput) string {
	t.Helper()
	return *must(c.CreateKey(t.Context(), &in))(t).KeyMetadata.Arn
}

// rotate changes the material of a key.
func rotate(t testing.TB, c *kms.Client, key string) {
	t.Helper()
	if _, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
}

// disable takes a key out of use.
func disable(t testing.TB, c *kms.Client, key string) {
	t.Helper()
	if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err has all of the words.
func refused(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got error %v, want %q in it", err, w)
		}
	}
}

// lockedBuffer is a buffer that one goroutine writes and others read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// must takes the results of a call, and a test to end if there is an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
