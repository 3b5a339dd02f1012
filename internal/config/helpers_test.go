package config_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"cardea/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a folder of the test with files in it.
type folder string

func newFolder(t testing.TB, files map[string]string) folder {
	t.Helper()
	f := folder(t.TempDir())
	for name, text := range files {
		f.write(t, name, text)
	}
	return f
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// load loads cardea.toml of the folder.
func (f folder) load(env ...string) (config.Config, error) {
	return config.Load([]string{f.path("cardea.toml")}, env)
}

func mustLoad(t testing.TB, f folder, env ...string) config.Config {
	t.Helper()
	c, err := f.load(env...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadText loads one file of that text.
func loadText(t testing.TB, text string, env ...string) (config.Config, error) {
	t.Helper()
	return newFolder(t, map[string]string{"cardea.toml": text}).load(env...)
}

// each returns the errors that err joins, as text.
func each(err error) []string {
	if err == nil {
		return nil
	}
	var texts []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			texts = append(texts, each(e)...)
		}
		return texts
	}
	return []string{err.Error()}
}

// wantErrors fails unless err joins exactly the texts.
func wantErrors(t *testing.T, err error, want ...string) {
	t.Helper()
	got := each(err)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got errors\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// wantProblems fails unless every error that err joins is a Problem with a key.
func wantProblems(t *testing.T, err error) {
	t.Helper()
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		if p, ok := errors.AsType[*config.Problem](e); !ok || p.Key == "" || p.Text == "" {
			t.Errorf("%v is no Problem with a key", e)
		}
	}
}

// keys are made once for all tests: RSA keys are slow.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{}
	for name, bits := range map[string]int{"rsa": 2048, "rsa1024": 1024} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		made[name] = k
	}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		made[name] = k
	}
	return made
})

func privatePEM(t testing.TB, name string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(keys()[name])
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func publicPEM(t testing.TB, name string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(keys()[name].Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func sec1PEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(keys()["p256"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func pkcs1PEM(t testing.TB) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys()["rsa"].(*rsa.PrivateKey))}))
}
