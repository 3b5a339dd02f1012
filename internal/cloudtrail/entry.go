package cloudtrail

import (
	"encoding/json"
	"strings"

	"cardea/internal/audit"
)

// EventOf makes the event of an entry of our own audit logs: one of the key
// service gives what reading its CloudTrail record gives, any other one an event
// of SourceVault. It reports false for an entry that says nothing.
func EventOf(e *audit.Entry) (Event, bool) {
	if e == nil || e.Op == "" {
		return Event{}, false
	}
	if e.Call != nil {
		return eventOfCall(e)
	}
	ev := Event{
		ID: e.ID, Time: e.Time.UTC(), Source: SourceVault, Name: e.Op, Account: e.Tenant,
		Principal: e.Who.Type, PrincipalType: e.Who.Type, IP: e.Who.IP, Host: e.Node,
		ReadOnly: looksOnly(e.Op), Tenant: e.Tenant, Merchant: e.Resource.Merchant,
	}
	if e.Who.Name != "" {
		ev.Principal += "/" + e.Who.Name
	}
	if e.Resource.Key != "" {
		ev.Keys = []string{e.Resource.Key}
	}
	switch e.Outcome {
	case audit.Denied:
		ev.ErrorCode, ev.ErrorMessage = "AccessDenied", e.Detail
	case audit.Failed:
		ev.ErrorCode, ev.ErrorMessage = e.Result, e.Detail
	case audit.Allowed:
		if gives(e.Op) {
			ev.Records = 1
		}
	}
	return ev, true
}

// eventOfCall goes by the record, so that the key service's log and the records
// written from it give the same.
func eventOfCall(e *audit.Entry) (Event, bool) {
	r, ok := FromEntry(*e)
	if !ok {
		return Event{}, false
	}
	b, err := json.Marshal(r)
	if err != nil {
		return Event{}, false
	}
	p := parser{texts: &texts{}, names: NewNames()}
	p.reset(b)
	var ev Event
	return ev, p.object(&ev, false, maxWrapped) == foundRecord
}

// gives reports whether an operation of the vault gives out a record in clear.
func gives(op string) bool { return op == "card.retrieve" || op == "data.retrieve" }

// looksOnly reports whether an operation of the vault changes nothing.
func looksOnly(op string) bool {
	switch op[strings.LastIndexByte(op, '.')+1:] {
	case "retrieve", "get", "read", "list", "status", "diagnose", "verify", "load":
		return true
	}
	return false
}
