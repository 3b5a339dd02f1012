package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"cardea/internal/awstest"
	"cardea/internal/sdkhttp"
	"cardea/internal/testlog"
)

// fileKeys are keys of a running key service, which AWS's configuration in the
// environment points to.
type fileKeys struct {
	sdk        *kms.Client
	url        string
	key, other string // ARNs
}

// ownEnvironment keeps the machine's AWS settings out of the test.
func ownEnvironment(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("NO_PROXY", "127.0.0.1")
}

// newFileKeys starts the key service of 'cardea dev'.
func newFileKeys(t *testing.T) fileKeys {
	t.Helper()
	ownEnvironment(t)
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	said := &testlog.Buffer{}
	p := &Process{Stdout: io.Discard, Stderr: said, Now: time.Now, sleep: sleep}
	d, err := startDev(t.Context(), p, devOptions{DataDir: dir, Listen: "127.0.0.1:0", Keys: "127.0.0.1:0", Region: "us-east-1", Ops: "127.0.0.1:0", Level: "warn"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the key service warned of:\n%s", said)
		}
		stop()
		if err := errors.Join(<-done, d.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, devCredentialsFile))
	t.Setenv("AWS_REGION", "us-east-1")
	return useKeys(t, d.Keys().URL())
}

func useKeys(t *testing.T, url string) fileKeys {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL_KMS", url)
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTPClient = sdkhttp.New(cfg.HTTPClient)
	k := fileKeys{sdk: kms.NewFromConfig(cfg), url: url}
	k.key, k.other = k.newKey(t), k.newKey(t)
	if _, err := k.sdk.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/files"), TargetKeyId: &k.key}); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k fileKeys) newKey(t *testing.T) string {
	t.Helper()
	out, err := k.sdk.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// done runs a command that succeeds.
func done(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := run(t, Process{}, args...)
	if code != exitDone || stderr != "" {
		t.Fatalf("cardea %s: exit %d, %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// fails runs a command that ends with the status and a message.
func fails(t *testing.T, status int, words string, args ...string) {
	t.Helper()
	code, _, stderr := run(t, Process{}, args...)
	if code != status || !strings.Contains(stderr, words) {
		t.Errorf("cardea %s: exit %d, %q; want %d, %q", strings.Join(args, " "), code, stderr, status, words)
	}
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, want %d, %v", path, len(got), len(want), err)
	}
}

// only fails the test unless the folder has these files and no other, hidden ones
// included.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if slices.Sort(want); err != nil || !slices.Equal(names, want) {
		t.Errorf("%s has %q, want %q; %v", dir, names, want, err)
	}
}

func TestEncryptFilesUnderTheKeyService(t *testing.T) {
	k := newFileKeys(t)
	dir, plain := t.TempDir(), make([]byte, 1<<20+17)
	rand.Read(plain)
	in, sealed, back := write(t, filepath.Join(dir, "in"), plain), filepath.Join(dir, "sealed"), filepath.Join(dir, "back")

	out := done(t, "encrypt", "--key-id", "alias/files", "--key-id", k.other, "--context", "tenant=shop", "--required-context", "ticket=17", "--in", in, "--out", sealed)
	if want := fmt.Sprintf("%s: encrypted, %d bytes, under %s, %s\n", sealed, len(plain), k.key, k.other); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if info, err := os.Stat(sealed); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	_, bare, _ := strings.Cut(k.other, "key/")
	for _, key := range []string{k.key, "alias/files", bare} {
		done(t, "decrypt", "--key-id", key, "--context", "tenant=shop", "--context", "ticket=17", "--in", sealed, "--out", back)
		same(t, back, plain)
		os.Remove(back)
	}
	done(t, "decrypt", "--account", strings.Split(k.key, ":")[4], "--context", "ticket=17", "--in", sealed, "--out", back)
	same(t, back, plain)

	t.Run("inspect", func(t *testing.T) {
		var x inspection
		if err := json.Unmarshal([]byte(done(t, "inspect", "--output", "json", sealed)), &x); err != nil {
			t.Fatal(err)
		}
		if x.Suite != "0x0478" || !x.Committing || x.Signed || x.FrameLength != 65536 || len(x.Keys) != 2 || x.Keys[1].Key != k.other || fmt.Sprint(x.Context) != "[{tenant shop}]" {
			t.Errorf("got %+v", x)
		}
		if text := done(t, "inspect", sealed); !strings.Contains(text, "key commitment  yes\n") || !strings.Contains(text, "context         tenant=shop\n") {
			t.Errorf("got %s", text)
		}
		if text := done(t, "inspect", "--in", sealed); !strings.Contains(text, "key commitment  yes\n") {
			t.Errorf("by --in: %s", text)
		}
		fails(t, exitWrongUse, "name the file once: as the argument, or by --in", "inspect", "--in", sealed, sealed)
		fails(t, exitFailed, "is it a file that 'cardea encrypt' or an AWS Encryption SDK made?", "inspect", in)
	})

	t.Run("refusals", func(t *testing.T) {
		open := []string{"decrypt", "--key-id", k.key, "--context", "ticket=17", "--out", filepath.Join(t.TempDir(), "x")}
		bad := func(name string, message []byte) []string {
			return append(slices.Clone(open), "--in", write(t, filepath.Join(t.TempDir(), name), message))
		}
		message, err := os.ReadFile(sealed)
		if err != nil {
			t.Fatal(err)
		}
		flip := func(at int) []byte {
			b := slices.Clone(message)
			b[at] ^= 1
			return b
		}
		third := k.newKey(t)
		from := func(args ...string) []string {
			return append(args, "--in", sealed, "--out", filepath.Join(t.TempDir(), "x"))
		}
		for _, c := range []struct {
			status int
			words  string
			args   []string
		}{
			{exitFailed, "the message has tenant=shop, not bank: 'cardea inspect' shows the context", from("decrypt", "--key-id", k.key, "--context", "tenant=bank")},
			{exitFailed, "pairs that are not stored in it are given by --context", from("decrypt", "--key-id", k.key)},
			{exitFailed, "pairs that are not stored in it are given by --context", from("decrypt", "--key-id", k.key, "--context", "ticket=18")},
			{exitFailed, "it is encrypted under " + k.key + ", " + k.other + ": name one of them by --key-id", from("decrypt", "--key-id", third)},
			{exitFailed, "name one of them by --key-id, or their account by --account", from("decrypt", "--account", "444455556666")},
			{exitWrongUse, "which key may be asked? name it by --key-id", from("decrypt")},
			{exitWrongUse, `--account: "4444" is no account id of 12 digits`, from("decrypt", "--account", "4444")},
			{exitFailed, "exists already: choose another name, or replace it by --force", []string{"decrypt", "--key-id", k.key, "--in", sealed, "--out", in}},
			{exitFailed, "exists already", []string{"encrypt", "--key-id", k.key, "--in", in, "--out", sealed}},
			{exitWrongUse, "is a folder: name a file in it", []string{"encrypt", "--key-id", k.key, "--in", in, "--out", dir}},
			{exitWrongUse, "is a folder: give --recursive", []string{"encrypt", "--key-id", k.key, "--in", dir, "--out", back + "2"}},
			{exitFailed, "no such file or directory", []string{"encrypt", "--key-id", k.key, "--in", in + "none", "--out", back + "2"}},
			{exitFailed, "is it a file that 'cardea encrypt' or an AWS Encryption SDK made?", bad("plain", plain)},
			{exitFailed, "get the whole file; nothing was written", bad("cut", message[:len(message)-1])},
			{exitFailed, "something follows the message: do not trust this file", bad("trailing", append(slices.Clone(message), 0))},
			{exitFailed, "the message is not authentic: it was made with another data key than it commits to: do not trust this file", bad("header", flip(10))},
			{exitFailed, "the message is not authentic: frame 17 was changed: do not trust this file", bad("body", flip(len(message)-1))},
			{exitWrongUse, "names that begin with aws-crypto- are the message format's", from("encrypt", "--key-id", k.key, "--context", "aws-crypto-x=y")},
			{exitWrongUse, `--context: "a" is given twice`, from("encrypt", "--key-id", k.key, "--context", "a=b", "--context", "a=c")},
			{exitWrongUse, "frames of 5000000 bytes, 1 to 4194304 are written", from("encrypt", "--key-id", k.key, "--frame-length", "5000000")},
			{exitFailed, "check its name and Region", from("encrypt", "--key-id", "alias/none")},
			{exitFailed, "check --endpoint-url", from("encrypt", "--key-id", k.key, "--endpoint-url", "http://127.0.0.1:1")},
			{exitWrongUse, "must be https://host", from("encrypt", "--key-id", k.key, "--endpoint-url", "ftp://x")},
			{exitWrongUse, "--in-place: name the file by --in, and none by --out", []string{"rewrap", "--key-id", k.key, "--from-key-id", k.key, "--in", sealed, "--in-place", "--out", back}},
			{exitWrongUse, "which key may be asked? name it by --from-key-id", []string{"rewrap", "--key-id", k.key, "--in", sealed, "--in-place"}},
		} {
			fails(t, c.status, c.words, c.args...)
		}
		only(t, dir, "in", "sealed", "back")
	})

	t.Run("rewrap", func(t *testing.T) {
		dir := t.TempDir()
		message, _ := os.ReadFile(sealed)
		file := write(t, filepath.Join(dir, "f"), message)
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
		fails(t, exitFailed, "get the whole file; nothing was written", "rewrap", "--from-key-id", k.key, "--key-id", k.other, "--context", "ticket=17", "--in-place", "--in", write(t, filepath.Join(dir, "cut"), message[:len(message)-1]))
		same(t, filepath.Join(dir, "cut"), message[:len(message)-1])
		done(t, "rewrap", "--from-key-id", k.key, "--key-id", k.other, "--context", "ticket=17", "--in", file, "--in-place")
		only(t, dir, "f", "cut")
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		fails(t, exitFailed, "it is encrypted under "+k.other, "decrypt", "--key-id", k.key, "--context", "ticket=17", "--in", file, "--out", filepath.Join(dir, "x"))
		done(t, "decrypt", "--key-id", k.other, "--context", "ticket=17", "--in", file, "--out", filepath.Join(dir, "x"))
		same(t, filepath.Join(dir, "x"), plain)
	})

	t.Run("disabled", func(t *testing.T) {
		if _, err := k.sdk.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &k.other}); err != nil {
			t.Fatal(err)
		}
		fails(t, exitFailed, "enable the key, or name another", "encrypt", "--key-id", k.key, "--key-id", k.other, "--in", in, "--out", filepath.Join(dir, "y"))
		only(t, dir, "in", "sealed", "back")
	})
}

// TestEncryptFolders runs the commands on folders, twice, as one does after a
// failure.
func TestEncryptFolders(t *testing.T) {
	k := newFileKeys(t)
	dir := t.TempDir()
	in, sealed, back := filepath.Join(dir, "in"), filepath.Join(dir, "sealed"), filepath.Join(dir, "back")
	if err := os.MkdirAll(filepath.Join(in, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(in, "a"), []byte("a"))
	write(t, filepath.Join(in, "sub", "b"), nil)
	encrypt := []string{"encrypt", "--key-id", k.key, "--recursive", "--in", in, "--out", sealed}
	if out := done(t, encrypt...); !strings.HasSuffix(out, "2 files encrypted, 0 left alone\n") {
		t.Errorf("got %q", out)
	}
	first, _ := os.ReadFile(filepath.Join(sealed, "a.encrypted"))
	write(t, filepath.Join(in, "c"), []byte("c"))
	if out := done(t, encrypt...); !strings.HasSuffix(out, "1 files encrypted, 2 left alone\n") {
		t.Errorf("got %q", out)
	}
	same(t, filepath.Join(sealed, "a.encrypted"), first)

	rewrap := []string{"rewrap", "--from-key-id", k.key, "--key-id", k.other, "--recursive", "--in", sealed, "--in-place"}
	for _, want := range []string{"3 files rewrapped, 0 left alone\n", "0 files rewrapped, 3 left alone\n"} {
		if out := done(t, rewrap...); !strings.HasSuffix(out, want) {
			t.Errorf("got %q, want %q", out, want)
		}
	}
	write(t, filepath.Join(sealed, "note"), nil)
	if out := done(t, "decrypt", "--key-id", k.other, "--recursive", "--in", sealed, "--out", back); !strings.HasSuffix(out, "3 files decrypted, 1 left alone\n") {
		t.Errorf("got %q", out)
	}
	same(t, filepath.Join(back, "a"), []byte("a"))
	same(t, filepath.Join(back, "sub", "b"), nil)
	only(t, back, "a", "c", "sub")

	fails(t, exitWrongUse, "--recursive: name a folder by --in, and one by --out", "encrypt", "--key-id", k.key, "--recursive", "--in", in)
	write(t, filepath.Join(sealed, "sub", "z.encrypted"), []byte("no message"))
	fails(t, exitFailed, filepath.Join("sub", "z.encrypted")+": not a message", "decrypt", "--key-id", k.other, "--recursive", "--in", sealed, "--out", back)
}

// piped runs a command on a pipe with the content.
func piped(t *testing.T, content []byte, args ...string) (int, string, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		w.Write(content)
		w.Close()
	}()
	code, stdout, stderr := run(t, Process{Stdin: r}, args...)
	r.Close() // the writer ends, whatever was read
	<-wrote
	return code, stdout, stderr
}

func TestEncryptPipes(t *testing.T) {
	k := newFileKeys(t)
	plain := bytes.Repeat([]byte("what goes through a pipe\n"), 40_000)
	_, message, _ := piped(t, plain, "encrypt", "--key-id", k.key)
	if code, got, stderr := piped(t, []byte(message), "decrypt", "--key-id", k.key); code != exitDone || got != string(plain) {
		t.Errorf("exit %d, %d bytes, %s", code, len(got), stderr)
	}
	code, got, stderr := piped(t, []byte(message[:len(message)-1]), "decrypt", "--key-id", k.key)
	if code != exitFailed || !strings.HasPrefix(string(plain), got) || !strings.Contains(stderr, "what was written is authentic but incomplete, throw it away") {
		t.Errorf("exit %d, %d bytes, %s", code, len(got), stderr)
	}

	_, signed, _ := piped(t, plain, "encrypt", "--key-id", k.key, "--sign")
	code, got, stderr = piped(t, []byte(signed), "decrypt", "--key-id", k.key)
	if code != exitFailed || got != "" || !strings.Contains(stderr, "its signature stands at the end: read it from a file or write it to one") {
		t.Errorf("exit %d, %d bytes, %s", code, len(got), stderr)
	}
	if code, got, _ := piped(t, []byte(signed), "decrypt", "--key-id", k.key, "--release-before-signature"); code != exitDone || got != string(plain) {
		t.Errorf("exit %d, %d bytes", code, len(got))
	}
	dir := t.TempDir()
	if got := done(t, "decrypt", "--key-id", k.key, "--in", write(t, filepath.Join(dir, "signed"), []byte(signed))); got != string(plain) {
		t.Errorf("%d bytes", len(got))
	}
	// Of a file whose signature is wrong nothing comes out, not even to a pipe.
	wrong := []byte(signed)
	wrong[len(wrong)-1] ^= 1
	code, got, stderr = run(t, Process{}, "decrypt", "--key-id", k.key, "--in", write(t, filepath.Join(dir, "wrong"), wrong))
	if code != exitFailed || got != "" || !strings.Contains(stderr, "its signature is wrong: do not trust this file") {
		t.Errorf("exit %d, %d bytes, %s", code, len(got), stderr)
	}
	done(t, "encrypt", "--key-id", k.key, "--in", write(t, filepath.Join(dir, "plain"), plain), "--out", os.DevNull)
}

// TestUncommittedFile opens what AWS's library made in an old suite, and only if that
// is allowed.
func TestUncommittedFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "fileenc", "testdata", "esdk-go.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct{ Tests []struct{ Ciphertext []byte } }
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(t.TempDir(), "old"), vectors.Tests[0].Ciphertext)
	open := []string{"decrypt", "--account", "111122223333", "--in", file, "--out", file + ".plain"}
	fails(t, exitFailed, "the message has no key commitment (suite 0x0014): an old program made it; --allow-uncommitted opens it", open...)
	fails(t, exitFailed, `it is encrypted under "name`, append(open, "--allow-uncommitted")...)
}

func TestKeysNeedARegion(t *testing.T) {
	ownEnvironment(t)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	fails(t, exitWrongUse, "--key-id alias/files: in which Region? name it by --region or AWS_REGION", "encrypt", "--key-id", "alias/files", "--in", os.DevNull, "--out", filepath.Join(t.TempDir(), "x"))
}

// TestEncryptKilled: a process that is killed leaves no part of a file under its name,
// and nothing of plaintext under any.
func TestEncryptKilled(t *testing.T) {
	if os.Getenv("CARDEA_TEST_CHILD") != "" {
		os.Exit(Main(context.Background(), Process{Args: strings.Fields(os.Getenv("CARDEA_TEST_CHILD")), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	k := newFileKeys(t)
	dir := t.TempDir()
	f, nameless, err := hiddenFile(dir)
	if err != nil || !nameless {
		t.Skipf("the file system of %s has no files without a name: %v", dir, err)
	}
	f.Close()
	sealed := filepath.Join(dir, "sealed")
	old := []byte("what was there before")
	_, message, _ := piped(t, make([]byte, 8<<20), "encrypt", "--key-id", k.key)
	for _, c := range []struct {
		args  string
		input []byte
	}{
		{"encrypt --key-id " + k.key + " --out " + sealed, make([]byte, 4<<20)},
		{"encrypt --force --key-id " + k.key + " --out " + sealed, make([]byte, 4<<20)},
		{"decrypt --force --key-id " + k.key + " --out " + sealed, []byte(message[:4<<20])},
	} {
		force := strings.Contains(c.args, "--force")
		if force {
			write(t, sealed, old)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestEncryptKilled$")
		cmd.Env = append(os.Environ(), "CARDEA_TEST_CHILD="+c.args)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// All but what a pipe holds was read when this returns, and the end never comes.
		if _, err := stdin.Write(c.input); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if force {
			same(t, sealed, old)
			only(t, dir, "sealed")
			os.Remove(sealed)
		} else {
			only(t, dir)
		}
	}
}

// TestEncryptUnderMoto uses a KMS that we did not write.
func TestEncryptUnderMoto(t *testing.T) {
	ownEnvironment(t)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-central-1"} {
		t.Setenv(name, value)
	}
	url := awstest.Moto(t)
	k := useKeys(t, url)
	dir := t.TempDir()
	plain := write(t, filepath.Join(dir, "plain"), []byte("for moto"))
	sealed := filepath.Join(dir, "sealed")
	done(t, "encrypt", "--key-id", k.key, "--key-id", k.other, "--context", "tenant=shop", "--in", plain, "--out", sealed)
	for i, key := range []string{k.key, k.other} {
		back := filepath.Join(dir, fmt.Sprint(i))
		done(t, "decrypt", "--key-id", key, "--context", "tenant=shop", "--in", sealed, "--out", back)
		same(t, back, []byte("for moto"))
	}
	done(t, "rewrap", "--from-key-id", k.other, "--key-id", k.key, "--in", sealed, "--in-place")
}
