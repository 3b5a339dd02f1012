package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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
	dir, url   string
	id, secret string
	cmd        *exec.Cmd
	log        *lockedBuffer
	exited     chan error
}

// shared is the server of all tests but those that need their own: each test makes
// keys of its own in it.
var shared = sync.OnceValues(func() (*server, error) { return startServer("") })

// run holds what must be removed when the tests are over.
var run struct {
	mu   sync.Mutex
	dirs []string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := shared(); err == nil {
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

// buildTags are those that cardea is built with: "pkcs11" where the tests of custom
// key stores run.
var buildTags = os.Getenv("CARDEA_TEST_TAGS")

// binary builds cardea once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := newDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cardea")
	cmd := exec.Command("go", "build", "-tags", buildTags, "-o", path, "./cmd/cardea")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// startServer runs a new key service, with more configuration if there is any, and
// makes its administrator.
func startServer(more string) (*server, error) {
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
	var made struct {
		Key struct{ ID, Secret string }
	}
	if err := s.administer("identity/Bootstrap", map[string]any{"Account": map[string]string{"ID": account}}, &made); err != nil {
		s.cmd.Process.Kill()
		return nil, err
	}
	s.id, s.secret = made.Key.ID, made.Key.Secret
	return s, nil
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

// administer asks the server's admin socket.
func (s *server) administer(operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, "admin.sock"))
		},
	}}
	res, err := client.Post("http://admin/"+operation, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", operation, text)
	}
	return json.Unmarshal(text, out)
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

// user makes a user who may do nothing by himself, and his access key.
func (s *server) user(t testing.TB, name string) (id, secret string) {
	t.Helper()
	var key struct{ ID, Secret string }
	who := map[string]string{"Account": account, "Name": name}
	if err := s.administer("identity/CreateUser", who, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	if err := s.administer("identity/CreateAccessKey", who, &key); err != nil {
		t.Fatal(err)
	}
	return key.ID, key.Secret
}

// role makes a role of the account that may do nothing by itself.
func (s *server) role(t testing.TB, name string) (arn string) {
	t.Helper()
	err := s.administer("identity/CreateRole", map[string]string{
		"Account": account, "Name": name,
		"TrustPolicy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`,
	}, &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return "arn:aws:iam::" + account + ":role/" + name
}

// sdk is a client of the AWS SDK, of the first Region unless changed, that tries once.
func (s *server) sdk(change ...func(*kms.Options)) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(s.url), Region: region, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(s.id, s.secret, ""),
	}, change...)
}

func in(region string) func(*kms.Options) { return func(o *kms.Options) { o.Region = region } }

func as(id, secret string) func(*kms.Options) {
	return func(o *kms.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(id, secret, "") }
}

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
