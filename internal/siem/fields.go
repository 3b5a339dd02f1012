package siem

import (
	"strconv"
	"strings"
)

// field is a value by name, for the formats that are lists of them.
type field struct{ name, value string }

// fields are what an event says, in a fixed order, without those that are empty.
// Names are of a-z and underscore.
func (ev *Event) fields() []field {
	var list []field
	add := func(name, value string) {
		if value != "" {
			list = append(list, field{name, oneLine(value)})
		}
	}
	add("id", ev.ID)
	add("kind", string(ev.Kind))
	add("severity", ev.Severity.String())
	add("pci_dss", strings.Join(ev.PCI(), ","))
	add("origin", ev.Origin)
	if ev.Origin != "" {
		add("seq", strconv.FormatInt(ev.Seq, 10))
	}
	switch ev.Kind {
	case KindEntry:
		e, r := ev.Entry, ev.Entry.Resource
		add("leaf_hash", ev.hash())
		add("entry", e.ID)
		add("node", e.Node)
		add("request", e.RequestID)
		add("tenant", e.Tenant)
		add("who_type", e.Who.Type)
		add("who", e.Who.Name)
		add("auth", e.Who.Auth)
		add("ip", e.Who.IP)
		add("op", e.Op)
		add("outcome", string(e.Outcome))
		add("result", e.Result)
		add("res_kind", r.Kind)
		add("merchant", r.Merchant)
		add("customer", r.Customer)
		add("reference", r.Reference)
		add("pan", r.MaskedPAN)
		add("key", r.Key)
		if r.KeyVersion > 0 {
			add("key_version", strconv.Itoa(r.KeyVersion))
		}
		if c := e.Call; c != nil {
			add("event", c.Event)
			add("region", c.Region)
			add("account", c.Account)
			add("arn", c.ARN)
			add("access_key", c.Key)
			add("agent", c.Agent)
			add("error", c.Error)
		}
	case KindAlert:
		a := ev.Alert
		add("rule", a.Rule)
		add("who", a.Principal)
		add("ip", a.IP)
		add("tenant", a.Tenant)
		add("merchant", a.Merchant)
		add("region", a.Region)
		add("account", a.Account)
		add("key", strings.Join(a.Keys, ","))
		add("count", strconv.Itoa(a.Count))
		add("next", a.Next)
		add("suppressed_by", a.SuppressedBy)
		add("rules", a.Rules)
	case KindCheckpoint:
		add("root", ev.Checkpoint.Root)
		add("signed", noteText(ev.Checkpoint.Signed))
	case KindFinding:
		f := ev.Finding
		add("check", f.Check)
		add("subject", f.Subject)
		add("failing", strconv.FormatBool(f.Failing))
		add("next", f.Next)
	}
	return list
}

// noteText is a signed note on one line: its line ends as backslash and n, which no
// note has otherwise.
func noteText(signed string) string { return strings.ReplaceAll(signed, "\n", `\n`) }
