package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/httpd"
	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// TestEveryOperationIsKnownToDelivery holds the table of operations in package siem
// against those of the services.
func TestEveryOperationIsKnownToDelivery(t *testing.T) {
	t.Parallel()
	var names []string
	for _, op := range vault.Operations() {
		names = append(names, op.Name)
	}
	for _, op := range append(kms.Operations(), kms.OpReEncryptFrom, kms.OpReEncryptTo, kms.OpRotateKey, kms.OpDeleteKey, kms.OpDeleteKeyMaterial, kms.OpSynchronizeKey, kms.OpFinishConnection, kms.OpDepositApproval, kms.OpListApprovals, kms.OpWithdrawApproval) {
		names = append(names, op.Code)
	}
	for _, op := range []*vault.Operation{OpApprovalAsk, OpApprovalApprove, OpCeremonyGenerate, OpCeremonyImport, OpAuditDisable, OpLogRollback} {
		names = append(names, op.Name)
	}
	for _, op := range identity.Operations() {
		if op != identity.OpUnknown {
			names = append(names, op.Code)
		}
	}
	for _, name := range names {
		if siem.ActivityOf(name) == siem.ActivityUnknown {
			t.Errorf("%s has no activity: put it into internal/siem/operations.go", name)
		}
	}
}

// deliveryConfig is a node with a vault, a key service, a file and a folder.
func deliveryConfig(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Node = config.Node{Name: "node-1", DataDir: dir}
	cfg.Vault.Listen, cfg.Ops.Listen, cfg.KeyService.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Audit.CheckpointInterval.Duration = 100 * time.Millisecond
	cfg.Audit.Delivery = []config.Delivery{{Name: "agent", Type: config.DeliveryFile, Path: filepath.Join(dir, "cardea.ndjson")}}
	cfg.Audit.Publish = config.Publish{Dir: filepath.Join(dir, "published"), Interval: config.Duration{Duration: 10 * time.Second}, Deliveries: true}
	cfg.Derive("")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// delivered are the lines of the file.
func delivered(t *testing.T, cfg config.Config) (ids, kinds map[string]int) {
	t.Helper()
	b, err := os.ReadFile(cfg.Audit.Delivery[0].Path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	ids, kinds = map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var r struct{ Cardea struct{ ID, Kind string } }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		ids[r.Cardea.ID]++
		kinds[r.Cardea.Kind]++
	}
	return ids, kinds
}

func TestNodeDeliversItsLogsAndTheCommandLineWhatIsLeft(t *testing.T) {
	t.Parallel()
	cfg := deliveryConfig(t)
	o := Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Version: "v1"}
	a, err := New(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	until(t, "both logs are delivered", func() bool {
		ids, _ := delivered(t, cfg)
		return ids["cardea/node-1#1"] == 1 && ids["cardea/node-1-keys#1"] == 1
	})
	found := false
	for _, c := range a.readiness(t.Context()) {
		found = found || c.Name == "audit_delivery" && c.State == httpd.Working && c.Detail == ""
	}
	if !found {
		t.Error("readiness says nothing of the delivery")
	}
	if _, err := OpenDelivery(t.Context(), cfg, o); err == nil || err.Error() != "delivery agent: another process is delivering" {
		t.Errorf("got %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	// The last entries are left to the next run, or to the command line.
	d, err := OpenDelivery(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	ids, kinds := delivered(t, cfg)
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
	for _, c := range NodeConfigs(cfg) {
		s, err := OpenStore(t.Context(), c, StoreOptions{Logger: o.Logger, Now: o.Now, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		origin := "cardea/" + c.Node.Name
		head, err := s.Head(t.Context(), origin)
		if err != nil || head.Size < 3 {
			t.Fatalf("%d entries, %v", head.Size, err)
		}
		for i := range head.Size {
			if ids[origin+"#"+string(rune('0'+i))] != 1 && i < 10 {
				t.Errorf("%s: entry %d is not delivered", origin, i)
			}
		}
		published, err := siem.ReadFolder(filepath.Join(cfg.Audit.Publish.Dir, "cardea", c.Node.Name))
		if err != nil || len(published) == 0 {
			t.Fatalf("%d published, %v", len(published), err)
		}
		key, err := os.ReadFile(c.Audit.SigningKeyFile + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(t.Context(), s, audit.VerifyOptions{Verifiers: []string{strings.TrimSpace(string(key))}, Kept: published, Origins: []string{origin}})
		if err != nil || !report.OK() {
			t.Errorf("%+v, %v", report, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if kinds["checkpoint"] < 2 {
		t.Errorf("kinds %v", kinds)
	}
	last, err := ReadPublished(cfg)
	if err != nil || len(last) != 4 {
		t.Errorf("published %+v, %v", last, err)
	}
}

func TestDeliveryWithoutReceiversIsRefused(t *testing.T) {
	t.Parallel()
	cfg := deliveryConfig(t)
	cfg.Audit.Delivery, cfg.Audit.Publish = nil, config.Publish{}
	if _, err := OpenDelivery(t.Context(), cfg, Options{}); err == nil || !strings.Contains(err.Error(), "there is nothing to deliver to") {
		t.Errorf("got %v", err)
	}
}
