package app

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/testlog"
	"cardea/internal/vault"

	_ "modernc.org/sqlite" // to change a database behind a node's back
)

// restored is a node whose database is put back to an earlier state.
type restored struct {
	config.Config
	logged testlog.Buffer
}

// grow runs the node until its log has more entries and all conditions hold.
func (r *restored) grow(t *testing.T, entries int, conditions ...func() bool) {
	t.Helper()
	a, err := New(t.Context(), r.Config, Options{Logger: slog.New(slog.NewTextHandler(&r.logged, nil)), Now: time.Now, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for range entries {
		if err := a.vault.gate.Record(ctx, iam.System("test"), vault.OpLogRead, vault.Target{}, "read", "to have an entry"); err != nil {
			t.Error(err)
		}
	}
	for _, holds := range conditions {
		until(t, "the node has done what it should", holds)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// said are the entries about rollbacks.
func (r *restored) said(t *testing.T) []string {
	t.Helper()
	return entriesOf(t, r.Config, OpLogRollback)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func behind(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func newRestored(t *testing.T) *restored {
	t.Helper()
	r := &restored{Config: deliveryConfig(t)}
	r.KeyService.Listen, r.Audit.Publish = "", config.Publish{}
	return r
}

func TestDatabaseThatWasPutBackIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	db, backup := r.SQLitePath(), filepath.Join(t.TempDir(), "backup.db")
	r.grow(t, 5)
	copyFile(t, db, backup)
	r.grow(t, 5)
	if got := r.said(t); len(got) > 0 {
		t.Fatalf("a log that goes on is told as %q", got)
	}
	copyFile(t, backup, db)
	r.grow(t, 1, func() bool {
		delivered, err := os.ReadFile(r.Audit.Delivery[0].Path)
		return err == nil && bytes.Contains(delivered, []byte("If a backup was restored, note it in the incident record"))
	})
	got := r.said(t)
	const from, to = "allowed rolled_back: the database has ", " were signed on "
	if len(got) != 1 || !strings.HasPrefix(got[0], from) || !strings.Contains(got[0], " entries of cardea/node-1, of which ") || !strings.Contains(got[0], to) {
		t.Fatalf("the log says %q", got)
	}
	if !strings.Contains(r.logged.String(), `level=ERROR msg="the audit log was rolled back or replaced"`) {
		t.Errorf("the operator is told\n%s", r.logged.String())
	}
	_, aside, _ := strings.Cut(got[0], "the checkpoint is now in ")
	if _, err := os.Stat(aside); err != nil {
		t.Errorf("the evidence: %v", err)
	}
	r.grow(t, 1)
	if got := r.said(t); len(got) != 1 {
		t.Errorf("it is told at each start: %q", got)
	}
}

// TestLogThatWasReplacedIsNoticed has a log that was put back and has grown longer than
// it was, by who has the signing key, with and without the old checkpoint's size in it.
func TestLogThatWasReplacedIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	mark := strings.TrimSuffix(r.Audit.SigningKeyFile, ".key") + ".newest"
	db, backup, kept := r.SQLitePath(), filepath.Join(t.TempDir(), "backup.db"), filepath.Join(t.TempDir(), "kept")
	r.grow(t, 1)
	copyFile(t, db, backup)
	r.grow(t, 5)
	copyFile(t, mark, kept)
	copyFile(t, backup, db)
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	r.grow(t, 20)
	copyFile(t, kept, mark)
	r.grow(t, 1)
	if got := r.said(t); len(got) != 1 || !strings.HasPrefix(got[0], "allowed rolled_back: the database has another log cardea/node-1 than the one of which ") {
		t.Errorf("the log says %q", got)
	}
}

// TestLogThatGrewOnIsTheSame has a file that is older than the database, as SIGKILL
// leaves it, also when the database has thinned the old checkpoint out.
func TestLogThatGrewOnIsTheSame(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	mark := strings.TrimSuffix(r.Audit.SigningKeyFile, ".key") + ".newest"
	kept := filepath.Join(t.TempDir(), "kept")
	r.grow(t, 3)
	copyFile(t, mark, kept)
	r.grow(t, 3)
	for _, thinned := range []bool{false, true} {
		copyFile(t, kept, mark)
		if thinned {
			behind(t, r.SQLitePath(), "DELETE FROM audit_checkpoint WHERE size < (SELECT max(size) FROM audit_checkpoint)")
		}
		r.grow(t, 1)
		if got := r.said(t); len(got) > 0 {
			t.Errorf("thinned %v: the log says %q", thinned, got)
		}
	}
}

func TestKeptCheckpointThatIsNoneIsTold(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	r.grow(t, 1)
	if err := os.WriteFile(strings.TrimSuffix(r.Audit.SigningKeyFile, ".key")+".newest", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.grow(t, 1)
	if !strings.Contains(r.logged.String(), "the checkpoint that was kept cannot be used: whether the audit log was rolled back cannot be said") {
		t.Errorf("told\n%s", r.logged.String())
	}
}

func TestKeptCheckpointThatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	const gone = "the checkpoint that was kept is gone: whether the audit log was rolled back cannot be said"
	r := newRestored(t)
	for range 2 {
		r.grow(t, 1)
	}
	if strings.Contains(r.logged.String(), gone) {
		t.Errorf("nothing is gone, told is\n%s", r.logged.String())
	}
	if err := os.Remove(strings.TrimSuffix(r.Audit.SigningKeyFile, ".key") + ".newest"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.grow(t, 1)
	}
	if got := strings.Count(r.logged.String(), gone); got != 1 {
		t.Errorf("told %d times\n%s", got, r.logged.String())
	}
	if got := r.said(t); len(got) > 0 {
		t.Errorf("the log says %q", got)
	}
}
