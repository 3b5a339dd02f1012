package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/store/storetest"
)

// TestPruningSurvivesSIGKILL kills the command at moments all over its time. Whenever
// it ends, the log verifies, alone and with the archive, no entry is lost, and the next
// call goes on.
func TestPruningSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	made := t.TempDir()
	if err := os.WriteFile(filepath.Join(made, "cardea.toml"), []byte("[node]\nname = \"vault-1\"\ndata_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const entries = 4000
	writeOldLog(t, filepath.Join(made, "cardea.toml"), entries)

	copied := func() string {
		dir := filepath.Join(t.TempDir(), "x")
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	prune := []string{"audit", "archive", "--config", "cardea.toml", "--before", "0s", "--keep", "0s", "--prune", "--out", "archive", "--origin", "cardea/vault-1"}
	must := func(dir string, args ...string) string {
		t.Helper()
		out, code := output(t, dir, os.Environ(), args...)
		if code != 0 {
			t.Fatalf("cardea %s exits with %d\n%s", strings.Join(args, " "), code, out)
		}
		return out
	}
	start := time.Now()
	must(copied(), prune...)
	whole := time.Since(start)

	const kills = 8
	for i := range kills {
		dir := copied()
		cmd := exec.Command("cardea", prune...)
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(whole*time.Duration(i+1)/kills, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		must(dir, "audit", "verify", "--config", "cardea.toml")
		shown := []string{"audit", "show", "--config", "cardea.toml", "--origin", "cardea/vault-1", "--output", "json"}
		if _, err := os.Stat(filepath.Join(dir, "archive", "manifest.json")); err == nil {
			must(dir, "audit", "verify", "--config", "cardea.toml", "--archive", "archive")
			shown = append(shown, "--archive", "archive")
		}
		if got := strings.Count(must(dir, shown...), `"log":"cardea/vault-1"`); got != entries {
			t.Errorf("killed at %d of %d (%v): %d entries, want %d", i+1, kills, err, got, entries)
		}
		must(dir, prune...)
		out := must(dir, "audit", "verify", "--config", "cardea.toml", "--archive", "archive")
		if !strings.Contains(out, "entries before 3840 were archived and pruned") {
			t.Errorf("killed at %d of %d (%v): afterwards\n%s", i+1, kills, err, out)
		}
	}
}

// writeOldLog writes a node's log, in commits of ten entries.
func writeOldLog(t *testing.T, file string, entries int) {
	t.Helper()
	cfg, err := config.Load([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	signer, err := app.LoadOrMakeSigningKey(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer signer.Destroy()
	s, err := app.OpenStore(t.Context(), cfg, app.StoreOptions{Logger: log, Now: time.Now, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < entries; i += 10 {
		var batch []audit.Sealed
		for j := range 10 {
			batch = append(batch, storetest.EntryOf(t, "vault-1", fmt.Sprint("ref-", i+j)))
		}
		if err := s.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
