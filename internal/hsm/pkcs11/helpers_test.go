//go:build pkcs11 && cgo

package pkcs11

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

const (
	testPIN   = "pin-of-the-user" // no digits alone: ids and times could have them
	testLabel = "cardea test"
)

// softHSM makes SoftHSM have tokens in a folder of the test alone, and returns it.
// Tests that call it cannot run in parallel: SoftHSM reads an environment variable.
func softHSM(t testing.TB) (library, folder string) {
	t.Helper()
	for _, path := range []string{os.Getenv("CARDEA_TEST_PKCS11"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); path != "" && err == nil {
			library = path
			break
		}
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil || library == "" {
		if os.Getenv("CARDEA_TEST_REQUIRE_SOFTHSM") != "" {
			t.Fatal("SoftHSM is required, but it is not installed")
		}
		t.Skip("SoftHSM is not installed (Debian: apt-get install softhsm2)")
	}
	dir := t.TempDir()
	folder = filepath.Join(dir, "tokens")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", folder)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	return library, folder
}

// newToken makes a token and says where it is.
func newToken(t testing.TB) (where Token, folder string) {
	t.Helper()
	library, folder := softHSM(t)
	initToken(t, testLabel, testPIN)
	return Token{library, testLabel}, folder
}

func initToken(t testing.TB, label, pin string) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "so-"+pin).CombinedOutput() //nolint:gosec // of a test
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

func pin(s string) secret.Bytes { return secret.Copy([]byte(s)) }

// fast tries again at once.
var fast = Options{RetryAfter: time.Nanosecond}

// open logs in to a token until the test ends.
func open(t testing.TB, where Token, o Options) *Backend {
	t.Helper()
	b, err := Open(t.Context(), where, pin(testPIN), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

var someAAD = []byte("associated data")

// newKey makes a key.
func newKey(t testing.TB, b *Backend, id string) kms.MaterialRef {
	t.Helper()
	m := kms.MaterialRef{KeyID: id, ID: "material of " + id, Spec: keyspec.SymmetricDefault}
	var err error
	if m.Handle, _, err = b.Generate(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// works checks that a key encrypts and decrypts.
func works(t testing.TB, b kms.Backend, m kms.MaterialRef) {
	t.Helper()
	sealed, err := b.Seal(t.Context(), m, someAAD, pin("a plaintext"))
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	p, err := b.Open(t.Context(), m, someAAD, sealed)
	if err != nil || string(p.Expose()) != "a plaintext" {
		t.Fatalf("open: %v, or another plaintext", err)
	}
}
