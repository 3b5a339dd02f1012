package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"cardea/internal/cli"
)

// TestConfigCheckRefuses gives each file of testdata/refused.txtar to 'cardea
// config check'. Its first lines say what must be told, one problem a line.
func TestConfigCheckRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := makeCertificates(filepath.Join(dir, "tls"), 365); err != nil {
		t.Fatal(err)
	}
	ar, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ar.Files {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for line := range strings.Lines(string(f.Data)) {
				text, ok := strings.CutPrefix(line, "#! ")
				if !ok {
					break
				}
				want = append(want, strings.TrimSpace(text))
			}
			path := filepath.Join(dir, strings.ReplaceAll(f.Name, " ", "-")+".toml")
			if err := os.WriteFile(path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			code := cli.Main(t.Context(), cli.Process{Args: []string{"config", "check", "--config", path}, Stdout: &stdout, Stderr: &stderr})
			if code != 1 || stdout.Len() > 0 || len(want) == 0 {
				t.Errorf("exit status %d, want 1 and nothing on standard output, got %q", code, &stdout)
			}
			said := strings.ReplaceAll(stderr.String(), dir+"/", "")
			for _, w := range want {
				if !strings.Contains(said, w) {
					t.Errorf("not told: %s\ngot: %s", w, said)
				}
			}
			// One problem is told once, and nothing else with it.
			if got := strings.Count(strings.TrimSpace(said), "\n") + 1; got != len(want) {
				t.Errorf("%d lines for %d problems: %s", got, len(want), said)
			}
			if strings.Contains(said, "canary") {
				t.Errorf("a secret is shown: %s", said)
			}
		})
	}
}
