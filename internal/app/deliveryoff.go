package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/approval"
	"cardea/internal/config"
	"cardea/internal/disk"
	"cardea/internal/iam"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// OpAuditDisable is that deliveries of the audit log are turned off, or go elsewhere
// than before.
var OpAuditDisable = &vault.Operation{Name: "audit.disable", Action: "audit:Disable", PCI: "10.2.1.6", Kind: "log", Sealed: true}

// destination is where a delivery went at the last start. What it is sent to is kept as
// a hash alone: addresses of webhooks are often secret.
type destination struct {
	Type   string `json:"type"`
	Filter string `json:"filter,omitempty"`
	Logs   string `json:"logs,omitempty"`
	To     string `json:"to"` // SHA-256
}

// destinations are those of a configuration, by name.
func destinations(a config.Audit) map[string]destination {
	all := map[string]destination{}
	add := func(name, kind, filter, logs string, to ...string) {
		sum := sha256.Sum256([]byte(strings.Join(to, "\x00")))
		all[name] = destination{kind, filter, logs, hex.EncodeToString(sum[:])}
	}
	for _, d := range a.Delivery {
		add(d.Name, d.Type, d.Filter, d.Logs, d.Path, d.Address, d.URL, d.Bucket, d.Prefix, d.Endpoint)
	}
	p := a.Publish // a name with a slash is none of a delivery
	for _, t := range []struct {
		kind string
		on   bool
		to   []string
	}{
		{"folder", p.Dir != "", []string{p.Dir}},
		{"deliveries", p.Deliveries, nil},
		{"witness", p.WitnessURL != "", []string{p.WitnessURL}},
		{"bucket", p.Bucket != "", []string{p.Bucket, p.Prefix, p.Endpoint}},
	} {
		if t.on {
			add("publish/"+t.kind, t.kind, "", "", t.to...)
		}
	}
	return all
}

// lessened are the names of those that are gone or go elsewhere, and what is to be said
// of each.
func lessened(was, is map[string]destination) (names, words []string) {
	for _, name := range slices.Sorted(maps.Keys(was)) {
		old, now := was[name], is[name]
		switch {
		case old == now:
			continue
		case now == destination{}:
			words = append(words, fmt.Sprintf("%s (%s) is turned off", name, old.words()))
		case old.words() == now.words():
			words = append(words, fmt.Sprintf("%s (%s) goes elsewhere", name, old.words()))
		default:
			words = append(words, fmt.Sprintf("%s (%s) is now %s", name, old.words(), now.words()))
		}
		names = append(names, name)
	}
	return names, words
}

func (d destination) words() string {
	if d.Filter == "" {
		return "checkpoints"
	}
	return fmt.Sprintf("%s, filter %s, logs %s", d.Type, d.Filter, d.Logs)
}

// destinationsFile is what was configured at the last start.
func destinationsFile(cfg config.Config) string {
	return filepath.Join(DeliveryDir(cfg), "destinations.json")
}

func readDestinations(path string) (map[string]destination, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	was := map[string]destination{}
	if err := json.Unmarshal(text, &was); err != nil {
		return nil, fmt.Errorf("%s: %w; it says where the audit log was delivered to: restore it", path, err)
	}
	return was, nil
}

func writeDestinations(path string, is map[string]destination) error {
	text, err := json.Marshal(is)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return disk.Replace(path, append(text, '\n'))
}

// guardDeliveries compares where the audit log is delivered to with the last start.
// That a delivery is off, or goes elsewhere, needs the approval of people if the
// configuration names their register; it is recorded in each log and told to the
// deliveries that are left in any case. The error refuses the start.
func (a *App) guardDeliveries(ctx context.Context) error {
	cfg, now := a.current(), a.nodes()[0].now()
	path, is := destinationsFile(cfg), destinations(cfg.Audit)
	was, err := readDestinations(path)
	if err != nil {
		return fmt.Errorf("deliveries of the audit log: %w", err)
	}
	if maps.Equal(was, is) {
		return nil
	}
	names, words := lessened(was, is)
	if len(names) == 0 {
		return writeDestinations(path, is)
	}
	ledger := &approval.Ledger{Dir: filepath.Join(cfg.Node.DataDir, "approvals"), Now: func() time.Time { return now }}
	text := "deliveries of the audit log: " + strings.Join(words, "; ")
	permit, err := permitDisable(cfg, ledger, now, names)
	if err != nil {
		err = fmt.Errorf("%s: %w", text, err)
	}
	for _, n := range a.nodes() {
		rerr := n.gate.Perform(ctx, iam.System("delivery"), OpAuditDisable, vault.Target{}, "", func() (string, string, error) {
			return "disabled", text + permit.words, err
		})
		if err == nil && rerr != nil {
			return fmt.Errorf("record what is not delivered any more: %w", rerr)
		}
	}
	if err != nil {
		return errors.Join(err, ledger.Close())
	}
	a.log.ErrorContext(ctx, "deliveries of the audit log were turned off or go elsewhere", slog.String("what", strings.Join(words, "; ")))
	if a.delivery != nil {
		a.delivery.pumps.Raise(ctx, siem.Finding{
			Check: siem.CheckDelivery, Subject: strings.Join(names, ", "), Since: now, Message: text + permit.words,
			Next: "If nobody was to do that, put the configuration back: what was logged meanwhile is delivered then.",
		})
	}
	if err := writeDestinations(path, is); err != nil {
		return errors.Join(err, ledger.Close())
	}
	if permit.request != nil {
		return ledger.Finish(permit.request, text)
	}
	return nil
}

// permission is what lets deliveries be turned off.
type permission struct {
	request *approval.Request // nil if none is needed
	words   string            // of who approved
}

// permitDisable looks for the approval, if one is needed.
func permitDisable(cfg config.Config, ledger *approval.Ledger, now time.Time, names []string) (permission, error) {
	d := cfg.Audit.DualControl
	if d.Register == "" {
		return permission{}, nil
	}
	want := approval.Want{Operation: approval.AuditDisable, Target: cfg.Node.Name, Params: map[string]string{"deliveries": strings.Join(names, ", ")}, Approvals: d.Approvals}
	if d.Approval == "" {
		return permission{}, fmt.Errorf("it needs the approval of %d people: put it back, or name an approved request by audit.dual_control.approval: --operation %s --target %s --param 'deliveries=%s'",
			d.Approvals, want.Operation, want.Target, want.Params["deliveries"])
	}
	register, err := people{d.Register}.register()
	if err != nil {
		return permission{}, fmt.Errorf("audit.dual_control.register: %w", err)
	}
	signed, err := os.ReadFile(d.Approval)
	if err != nil {
		return permission{}, fmt.Errorf("audit.dual_control.approval: %w", err)
	}
	st, err := approval.Check(signed, register, now, want)
	if err != nil {
		return permission{}, fmt.Errorf("audit.dual_control.approval: %w", err)
	}
	if _, err := ledger.Begin(st.Request, signed); err != nil {
		return permission{}, fmt.Errorf("audit.dual_control.approval: %w", err)
	}
	return permission{st.Request, "; " + approved(st, register).Words()}, nil
}
