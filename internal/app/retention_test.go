package app

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/retention"
	"cardea/internal/vault"
)

// newKeeper is that of a node which wrote so many entries a hundred days ago.
func newKeeper(t *testing.T, entries int, more string) *keeper {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "cardea.toml")
	text := "[node]\nname = \"node-1\"\ndata_dir = \"data\"\n" + strings.ReplaceAll(more, "DIR", dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var at atomic.Int64 // the store signs on a goroutine of its own
	at.Store(time.Now().Add(-100 * 24 * time.Hour).UnixNano())
	now := func() time.Time { return time.Unix(0, at.Load()) }
	n := &Node{name: "vault", log: slog.New(slog.DiscardHandler), now: now, config: cfg}
	if n.signer, err = LoadOrMakeSigningKey(cfg, n.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.signer.Destroy)
	write := func() {
		n.store, err = OpenStore(t.Context(), cfg, StoreOptions{Logger: n.log, Now: now, Signer: n.signer})
		if err != nil {
			t.Fatal(err)
		}
		n.gate = &vault.Gate{Node: "node-1", Log: n.store, Tenants: vault.NewTenants(), Now: now, Logger: n.log}
	}
	write()
	for i := range entries {
		at.Add(int64(time.Second))
		if err := n.gate.Record(t.Context(), iam.System("node"), vault.OpLogOpen, vault.Target{Reference: fmt.Sprint(i)}, "opened", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.store.Close(); err != nil { // signs
		t.Fatal(err)
	}
	at.Store(time.Now().UnixNano())
	write()
	t.Cleanup(func() {
		if err := n.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &keeper{n: n, whole: cfg, now: now, log: n.log}
}

// begins is the first entry of the node's log that is stored.
func (k *keeper) begins(t *testing.T) int64 {
	t.Helper()
	a, err := audit.AbsentOf(t.Context(), k.n.store, "cardea/node-1")
	if err != nil {
		t.Fatal(err)
	}
	return a.Before
}

func TestNodeArchivesAndPrunesItsLogs(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, 600, "[audit.retention]\ndir = \"archive\"\nprune = true\n")
	for range 2 { // the second time there is nothing to do
		if err := k.archive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := k.begins(t); got != 512 {
		t.Errorf("the log begins at %d, want 512", got)
	}
	a, err := retention.OpenArchive(t.Context(), retention.Folder(k.whole.Audit.Retention.Dir))
	if err != nil || len(a.Periods()) != 1 || a.Periods()[0].To != 600 {
		t.Errorf("%+v, %v", a, err)
	}
	r, err := audit.Verify(t.Context(), k.n.store, audit.VerifyOptions{Verifiers: []string{k.n.Verifier()}})
	if err != nil || !r.OK() || r.Logs[0].Pruned != 512 || r.Logs[0].Entries != 601 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNodeKeepsWhatIsToStay(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"pruning is not asked for": "[audit.retention]\ndir = \"archive\"\n",
		"young":                    "[audit.retention]\ndir = \"archive\"\nprune = true\nat_hand = \"2500h\"\n",
		"not delivered":            "[audit.retention]\ndir = \"archive\"\nprune = true\n[[audit.delivery]]\nname = \"siem\"\ntype = \"file\"\npath = \"x\"\n",
	} {
		k := newKeeper(t, 300, more)
		if err := k.archive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := k.begins(t); got != 0 {
			t.Errorf("%s: the log begins at %d", name, got)
		}
	}
}

func TestNodeDoesNotArchiveWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, 300, "[audit.retention]\ndir = \"archive\"\nprune = true\n")
	other, _, err := audit.GenerateSigningKey("cardea/node-1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.NewSigner(other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	if err := os.WriteFile(k.whole.Audit.SigningKeyFile+".pub", []byte(s.Verifier()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.archive(t.Context()); err == nil || !strings.Contains(err.Error(), "no checkpoint of the period is signed by a trusted key") || k.begins(t) != 0 {
		t.Errorf("%v; the log begins at %d", err, k.begins(t))
	}
}

func TestArchiveOfANodeIsMeasuredAndTold(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, 1, "[audit.retention]\ndir = \"archive\"\n")
	a := &App{vault: k.n, config: k.whole, log: k.log, registry: prometheus.NewRegistry()}
	g, ctx := errgroup.WithContext(t.Context())
	if err := a.retain(ctx, g); err != nil {
		t.Fatal(err)
	}
	families, err := a.registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "cardea_log_archive_age_seconds" {
		t.Errorf("%v, %v", families, err)
	}
	var last audit.Entry
	for n, err := range audit.Entries(t.Context(), k.n.store, "cardea/node-1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = n.Entry
	}
	if last.Op != "log.read" || last.Who.Name != "retention" || !strings.HasPrefix(last.Detail, "archive to ") {
		t.Errorf("%+v", last)
	}
	k.whole.Audit.Retention.Dir, k.whole.Audit.Retention.Bucket, k.whole.Audit.Retention.CAFile = "", "b", "nowhere"
	if err := k.archive(t.Context()); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
}
