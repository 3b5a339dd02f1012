package siem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"cardea/internal/audit"
	"cardea/internal/detect"
)

// Integration is the name by which rules of SIEMs know our lines.
const Integration = "cardea"

// ndjsonVersion is the version of the shape below: members may be added to it, but
// none is removed or changes its meaning.
const ndjsonVersion = 1

// timeForm is RFC 3339 in UTC to the microsecond, as in the audit log.
const timeForm = "2006-01-02T15:04:05.000000Z"

// record is the line of an event (docs/siem.md). Wazuh's decoder flattens it to
// names such as cardea.who.name, so its depth and its names are bounded whatever
// clients send: what they name themselves is in lists of "name=value".
type record struct {
	Integration string     `json:"integration"`
	Cardea      recordBody `json:"cardea"`
}

type recordBody struct {
	Version    int        `json:"version"`
	Kind       Kind       `json:"kind"`
	ID         string     `json:"id"`
	Time       string     `json:"time"`
	Severity   string     `json:"severity"`
	SeverityID int        `json:"severity_id"`
	Signature  string     `json:"signature"`
	Message    string     `json:"message"`
	PCI        []string   `json:"pci_dss,omitempty"` // requirements of v4.0.1
	Log        *recordLog `json:"log,omitempty"`

	// Of entries.
	Entry    string          `json:"entry_id,omitempty"`
	Node     string          `json:"node,omitempty"`
	Request  string          `json:"request,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	Who      *audit.Actor    `json:"who,omitempty"`
	Op       string          `json:"op,omitempty"`
	Activity string          `json:"activity,omitempty"`
	Weight   string          `json:"weight,omitempty"` // routine, admin, sensitive
	Resource *audit.Resource `json:"res,omitempty"`
	Outcome  string          `json:"outcome,omitempty"`
	Result   string          `json:"result,omitempty"`
	Detail   string          `json:"detail,omitempty"`
	Call     *recordCall     `json:"call,omitempty"`
	Line     string          `json:"line,omitempty"` // exactly what is hashed

	Alert      *detect.Alert `json:"alert,omitempty"`
	Checkpoint *Checkpoint   `json:"checkpoint,omitempty"`
	Finding    *Finding      `json:"finding,omitempty"`
}

// recordLog is where an entry is, or what a checkpoint is of.
type recordLog struct {
	Origin   string `json:"origin"`
	Seq      int64  `json:"seq"`
	LeafHash string `json:"leaf_hash,omitempty"`
}

// recordCall is audit.Call with names that clients choose as values.
type recordCall struct {
	Event     string   `json:"event"`
	Source    string   `json:"source"`
	Region    string   `json:"region,omitempty"`
	Account   string   `json:"account,omitempty"`
	ReadOnly  bool     `json:"read_only"`
	Type      string   `json:"type"`
	ID        string   `json:"id,omitempty"`
	ARN       string   `json:"arn,omitempty"`
	Issuer    string   `json:"issuer,omitempty"`
	Caller    string   `json:"caller,omitempty"`
	Key       string   `json:"access_key,omitempty"`
	MFA       bool     `json:"mfa"`
	Agent     string   `json:"agent,omitempty"`
	TLS       string   `json:"tls,omitempty"`
	Error     string   `json:"error,omitempty"`
	Request   []string `json:"request,omitempty"`
	Response  []string `json:"response,omitempty"`
	Context   []string `json:"context,omitempty"`
	Resources []string `json:"resources,omitempty"`
}

func (w weight) String() string {
	switch w {
	case admin:
		return "admin"
	case sensitive:
		return "sensitive"
	}
	return "routine"
}

// appendNDJSON appends the event as one line of JSON, without its newline.
func appendNDJSON(b []byte, ev *Event) ([]byte, error) {
	r := recordBody{
		Version: ndjsonVersion, Kind: ev.Kind, ID: ev.ID, Time: ev.Time.UTC().Format(timeForm),
		Severity: ev.Severity.String(), SeverityID: int(ev.Severity), Signature: ev.signature(), Message: ev.message(), PCI: ev.PCI(),
		Alert: ev.Alert, Checkpoint: ev.Checkpoint, Finding: ev.Finding,
	}
	switch ev.Kind {
	case KindEntry:
		e, op := ev.Entry, lookup(ev.Entry.Op)
		r.Log = &recordLog{Origin: ev.Origin, Seq: ev.Seq, LeafHash: ev.hash()}
		r.Entry, r.Node, r.Request, r.Tenant, r.Who = e.ID, e.Node, e.RequestID, e.Tenant, &e.Who
		r.Op, r.Activity, r.Weight, r.Outcome, r.Result, r.Detail = e.Op, op.activity.String(), op.weight.String(), string(e.Outcome), e.Result, e.Detail
		if e.Resource != (audit.Resource{}) {
			r.Resource = &e.Resource
		}
		r.Call, r.Line = callOf(e.Call), string(ev.Line)
	case KindCheckpoint:
		r.Log = &recordLog{Origin: ev.Origin, Seq: ev.Seq}
	}
	return appendJSON(b, record{Integration: Integration, Cardea: r})
}

func callOf(c *audit.Call) *recordCall {
	if c == nil {
		return nil
	}
	return &recordCall{
		Event: c.Event, Source: c.Source, Region: c.Region, Account: c.Account, ReadOnly: c.ReadOnly, Type: c.Type, ID: c.ID, ARN: c.ARN,
		Issuer: c.Issuer, Caller: c.Caller, Key: c.Key, MFA: c.MFA, Agent: c.Agent, TLS: c.TLS, Error: c.Error,
		Request: pairs(c.Request), Response: pairs(c.Response), Context: pairs(c.Context), Resources: c.Resources,
	}
}

func pairs(params []audit.Param) []string {
	var list []string
	for _, p := range params {
		list = append(list, p.Name+"="+p.Value)
	}
	return list
}

// appendJSON appends v on one line. Line ends in strings are escaped, and so are
// the separators that JavaScript takes for them.
func appendJSON(b []byte, v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return b, fmt.Errorf("encode event: %w", err)
	}
	return appendSteerless(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// appendSteerless appends JSON in which the characters that oneLine replaces, and
// that JSON allows as they are, are written as escapes: whoever decodes it gets the
// same, and whoever prints it is not steered. They can only be inside of strings.
func appendSteerless(b, encoded []byte) []byte {
	text := string(encoded)
	for i, r := range text {
		if n := utf8.RuneLen(r); n > 0 && r != utf8.RuneError && steers(r) {
			b = fmt.Appendf(b, `\u%04x`, r)
		} else {
			b = append(b, text[i:i+max(n, 1)]...)
		}
	}
	return b
}

// millis is a time in OCSF's and CEF's unit.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
