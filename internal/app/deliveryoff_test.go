package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/approval"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/notekey"
	"cardea/internal/vault"
)

// runUntil runs a node until condition holds, or it ends by itself.
func runUntil(t *testing.T, cfg config.Config, condition func() bool) error {
	t.Helper()
	a, err := New(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var ended bool
	until(t, "the node has done what it should", func() bool {
		select {
		case err = <-done:
			ended = true
		default:
		}
		return ended || condition()
	})
	if !ended {
		stop()
		err = <-done
	}
	return errors.Join(err, a.Close())
}

// entriesOf are the outcomes, results and details of an operation in a node's log.
func entriesOf(t *testing.T, cfg config.Config, op *vault.Operation) (all []string) {
	t.Helper()
	s, err := OpenStore(t.Context(), cfg, StoreOptions{Logger: slog.New(slog.DiscardHandler), Now: time.Now, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n, err := range audit.Entries(t.Context(), s, "cardea/"+cfg.Node.Name, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Entry.Op == op.Name {
			all = append(all, fmt.Sprintf("%s %s: %s", n.Entry.Outcome, n.Entry.Result, n.Entry.Detail))
		}
	}
	return all
}

func configured(cfg config.Config) func() bool {
	return func() bool {
		was, err := readDestinations(destinationsFile(cfg))
		names, _ := lessened(was, destinations(cfg.Audit))
		return err == nil && was != nil && len(names) == 0
	}
}

func TestDeliveriesThatAreTurnedOffAreRecordedAndTold(t *testing.T) {
	t.Parallel()
	cfg := deliveryConfig(t)
	cfg.KeyService.Listen = ""
	all := append(cfg.Audit.Delivery, config.Delivery{Name: "second", Type: config.DeliveryFile, Path: filepath.Join(cfg.Node.DataDir, "second.ndjson")})
	cfg.Audit.Delivery = all
	cfg.Derive("")
	if err := runUntil(t, cfg, configured(cfg)); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, cfg, OpAuditDisable); len(got) != 0 {
		t.Errorf("the first start says %q", got)
	}
	cfg.Audit.Delivery = all[:1]
	if err := runUntil(t, cfg, func() bool {
		text, err := os.ReadFile(cfg.Audit.Delivery[0].Path)
		return err == nil && strings.Contains(string(text), "second (file, filter all, logs own) is turned off")
	}); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, cfg, OpAuditDisable); len(got) != 1 || !strings.HasPrefix(got[0], "allowed disabled: deliveries of the audit log: second (") || !strings.HasSuffix(got[0], "is turned off") {
		t.Errorf("the log says %q", got)
	}
	if err := runUntil(t, cfg, configured(cfg)); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, cfg, OpAuditDisable); len(got) != 1 {
		t.Errorf("it is told at each start: %q", got)
	}
}

func TestDeliveriesAreTurnedOffWithApproval(t *testing.T) {
	t.Parallel()
	cfg := deliveryConfig(t)
	cfg.KeyService.Listen = ""
	if err := runUntil(t, cfg, configured(cfg)); err != nil {
		t.Fatal(err)
	}
	keys := map[string]*notekey.Signer{}
	var text strings.Builder
	for _, name := range []string{"carol", "dave", "erin"} {
		key, verifier, err := notekey.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		if keys[name], err = notekey.Parse(key); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "[[person]]\nname = %q\nfull_name = \"A Person\"\nroles = [\"requester\", \"approver\"]\nvalid_until = 2099-01-01T00:00:00Z\nkey = %q\n", name, verifier)
	}
	register, err := approval.ParseRegister([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	d := &cfg.Audit.DualControl
	d.Register, d.Approvals = filepath.Join(cfg.Node.DataDir, "people.toml"), 2
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(d.Register, []byte(text.String()))
	refused := func(want string) {
		t.Helper()
		err := runUntil(t, cfg, configured(cfg))
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		got := entriesOf(t, cfg, OpAuditDisable)
		if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "failed ") || !strings.HasSuffix(got[len(got)-1], ": "+want) {
			t.Errorf("the log says %q", got)
		}
	}

	// To another place, and checkpoints nowhere.
	cfg.Audit.Delivery[0].Path = "/dev/null"
	cfg.Audit.Publish.Deliveries = false
	const what = "deliveries of the audit log: agent (file, filter all, logs own) goes elsewhere; publish/deliveries (checkpoints) is turned off: "
	refused(what + "it needs the approval of 2 people: put it back, or name an approved request by audit.dual_control.approval: " +
		"--operation audit.disable --target node-1 --param 'deliveries=agent, publish/deliveries'")
	_, signed, err := approval.Ask(approval.Request{
		Operation: approval.AuditDisable, Target: "node-1", Params: map[string]string{"deliveries": "agent, publish/deliveries"}, Reason: "new receiver", Approvals: 2,
	}, register, keys["carol"], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d.Approval = filepath.Join(cfg.Node.DataDir, "off.request")
	write(d.Approval, signed)
	refused(what + "audit.dual_control.approval: not approved: needs 2 approvals, has 0 (nobody): have others run 'cardea approval approve'")
	for _, name := range []string{"dave", "erin"} {
		if _, signed, err = approval.Approve(signed, register, keys[name], time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	write(d.Approval, signed)
	if err := runUntil(t, cfg, configured(cfg)); err != nil {
		t.Fatal(err)
	}
	got := entriesOf(t, cfg, OpAuditDisable)
	if last := got[len(got)-1]; !strings.HasPrefix(last, "allowed disabled: ") || !strings.Contains(last, ", asked by carol, approved by dave, erin, register ") {
		t.Errorf("the log says %q", last)
	}

	// Once: not again when it was put back meanwhile.
	back := cfg
	back.Audit.Publish.Deliveries = true
	if err := runUntil(t, back, configured(back)); err != nil {
		t.Fatal(err)
	}
	refused("deliveries of the audit log: publish/deliveries (checkpoints) is turned off: " +
		"audit.dual_control.approval: the request is of another parameter: it is for {deliveries: agent, publish/deliveries}, not {deliveries: publish/deliveries}")
}
