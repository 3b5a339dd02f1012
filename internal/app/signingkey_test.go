package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cardea/internal/config"
)

// TestSigningKeyIsMadeOnce: many processes start together, and one that was killed
// between the key and the public one is followed by another.
func TestSigningKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Audit.SigningKeyFile = "n", filepath.Join(t.TempDir(), "keys", "audit.key")
	load := func() string {
		s, err := LoadOrMakeSigningKey(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer s.Destroy()
		return s.Verifier()
	}
	verifiers := make([]string, 8)
	var wg sync.WaitGroup
	for i := range verifiers {
		wg.Go(func() { verifiers[i] = load() })
	}
	wg.Wait()
	public := func() string {
		b, err := os.ReadFile(cfg.Audit.SigningKeyFile + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	for _, v := range verifiers {
		if v != verifiers[0] || v != public() {
			t.Errorf("verifiers %q, public key %s", verifiers, public())
		}
	}
	if err := os.Remove(cfg.Audit.SigningKeyFile + ".pub"); err != nil {
		t.Fatal(err)
	}
	if v := load(); v != verifiers[0] || v != public() {
		t.Errorf("after the public key was lost: %s, public key %s", v, public())
	}
	left, err := os.ReadDir(filepath.Dir(cfg.Audit.SigningKeyFile))
	if err != nil || len(left) != 2 {
		t.Errorf("%v lie there, %v", left, err)
	}
}
