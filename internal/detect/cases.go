package detect

import (
	"bytes"
	_ "embed" // the cases that ship
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"cardea/internal/cloudtrail"
)

//go:embed cases.toml
var shippedCases []byte

// Case is a unit test of a rule: events, and whether it fires on them.
type Case struct {
	Rule    string     `toml:"rule"`
	Name    string     `toml:"name"`
	Fires   bool       `toml:"fires"`
	Days    int        `toml:"days"`  // of history before the events
	Hour    int        `toml:"hour"`  // of the day at which the events begin, UTC; the day is a Monday if days is 0 or a multiple of 7
	Tail    Duration   `toml:"tail"`  // time that passes after the last event; default 20m
	Rules   string     `toml:"rules"` // laid over the file's
	History []CaseFlow `toml:"history"`
	Events  []CaseFlow `toml:"events"`
}

// CaseFlow is events that are alike.
type CaseFlow struct {
	After Duration `toml:"after"` // of the first, from the beginning
	Every Duration `toml:"every"`
	Count int      `toml:"count"` // default 1; of a history as many as fit
	Vary  []string `toml:"vary"`  // what gets a number at its end that grows: "key", "ip", "merchant", "context.NAME"

	ID        string            `toml:"id"`
	Source    string            `toml:"source"` // default kms.amazonaws.com
	Name      string            `toml:"name"`
	Principal string            `toml:"principal"`
	Type      string            `toml:"type"` // default AssumedRole
	Account   string            `toml:"account"`
	Caller    string            `toml:"caller"`
	Region    string            `toml:"region"`
	IP        string            `toml:"ip"`
	Agent     string            `toml:"agent"`
	Endpoint  string            `toml:"endpoint"`
	TLS       string            `toml:"tls"`
	Host      string            `toml:"host"`
	Error     string            `toml:"error"`
	Key       string            `toml:"key"`
	Material  string            `toml:"material"`
	Context   map[string]string `toml:"context"`
	Params    string            `toml:"params"` // JSON
	Tenant    string            `toml:"tenant"`
	Merchant  string            `toml:"merchant"`
	MFA       string            `toml:"mfa"` // present, absent, or unknown
	Console   bool              `toml:"console"`
	InvokedBy string            `toml:"invoked_by"`
	ByService bool              `toml:"service_event"`
}

// CaseResult is what became of a case.
type CaseResult struct {
	Rule  string `json:"rule"`
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Fires bool   `json:"fires"` // what it should
	Said  string `json:"said"`  // the alert's reason, or what fired instead
}

type caseFile struct {
	Rules string `toml:"rules"` // a rules file
	Cases []Case `toml:"case"`
}

// ShippedCases is the text of the cases that ship, for a start of one's own.
func ShippedCases() []byte { return slices.Clone(shippedCases) }

// RunShippedCases runs the cases that ship under the rules given, for thresholds
// and switches; what the cases register is theirs.
func RunShippedCases(rules []byte) ([]CaseResult, error) { return RunCases(shippedCases, rules) }

// RunCases runs the cases of a file. What the file and its cases say of rules is
// laid over the rules given.
func RunCases(file, rules []byte) ([]CaseResult, error) {
	var f caseFile
	dec := toml.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(missing.Errors) > 0 {
			row, _ := missing.Errors[0].Position()
			return nil, fmt.Errorf("cases: line %d: no such setting %q", row, strings.Join(missing.Errors[0].Key(), "."))
		}
		return nil, fmt.Errorf("cases: %w", err)
	}
	var out []CaseResult
	for _, c := range f.Cases {
		r, err := c.run(rules, f.Rules)
		if err != nil {
			return out, fmt.Errorf("case %s %q: %w", c.Rule, c.Name, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// overlay reads rules files one over the other.
func overlay(files ...[]byte) (*Rules, error) {
	var settings map[string]Settings
	var r Rules
	if err := strict(defaultRules, &r); err != nil {
		return nil, err
	}
	settings, r.Settings = r.Settings, nil
	for _, f := range files {
		if len(f) == 0 {
			continue
		}
		if err := strict(f, &r); err != nil {
			return nil, err
		}
		if err := r.mergeSettings(settings); err != nil {
			return nil, err
		}
		settings, r.Settings = r.Settings, nil
	}
	if err := r.mergeSettings(settings); err != nil {
		return nil, err
	}
	r.hash = hashOf(files...)
	return &r, errors.Join(r.check()...)
}

func (c *Case) run(rules []byte, shared string) (CaseResult, error) {
	res := CaseResult{Rule: c.Rule, Name: c.Name, Fires: c.Fires}
	if !slices.ContainsFunc(Catalogue(), func(r Rule) bool { return r.ID == c.Rule }) {
		return res, errors.New("no such rule")
	}
	r, err := overlay(rules, []byte(shared), []byte(c.Rules))
	if err != nil {
		return res, err
	}
	d, err := New(Options{Rules: r})
	if err != nil {
		return res, err
	}
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).AddDate(0, 0, c.Days).Add(time.Duration(c.Hour) * time.Hour)
	events, err := c.events(begin)
	if err != nil {
		return res, err
	}
	if len(events) == 0 {
		return res, errors.New("it has no events")
	}
	var others []string
	fired := false
	see := func(alerts []Alert) {
		for _, a := range alerts {
			switch {
			case a.Rule == c.Rule && !a.Time.Before(begin):
				if !fired {
					res.Said = a.Reason
				}
				fired = true
			case !a.Time.Before(begin):
				others = append(others, a.Rule)
			}
		}
	}
	for i := range events {
		see(d.Observe(&events[i]))
	}
	tail := time.Duration(c.Tail)
	if tail == 0 {
		tail = 20 * time.Minute
	}
	see(d.Advance(events[len(events)-1].Time.Add(tail)))
	see(d.Finish())
	if !fired {
		res.Said = "silent"
		if len(others) > 0 {
			res.Said = "fired instead: " + strings.Join(slices.Compact(others), ", ")
		}
	}
	res.OK = fired == c.Fires
	return res, nil
}

func (c *Case) events(begin time.Time) ([]cloudtrail.Event, error) {
	var all []cloudtrail.Event
	for i, f := range c.History {
		if f.Every <= 0 {
			return nil, errors.New("history needs every")
		}
		f.Count = int(time.Duration(c.Days) * 24 * time.Hour / time.Duration(f.Every))
		flow, err := f.events(begin.Add(-time.Duration(c.Days)*24*time.Hour), fmt.Sprintf("h%d", i))
		if err != nil {
			return nil, err
		}
		all = append(all, flow...)
	}
	for i, f := range c.Events {
		f.Count = max(f.Count, 1)
		flow, err := f.events(begin, fmt.Sprintf("e%d", i))
		if err != nil {
			return nil, err
		}
		all = append(all, flow...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Time.Before(all[j].Time) })
	return all, nil
}

const maxCaseEvents = 1 << 20

func (f *CaseFlow) events(begin time.Time, id string) ([]cloudtrail.Event, error) {
	if f.Count > maxCaseEvents {
		return nil, fmt.Errorf("%d events, at most %d", f.Count, maxCaseEvents)
	}
	if f.Params != "" && !json.Valid([]byte(f.Params)) {
		return nil, errors.New("params is not JSON")
	}
	out := make([]cloudtrail.Event, f.Count)
	for i := range out {
		e := cloudtrail.Event{
			ID: fmt.Sprintf("%s%s-%d", f.ID, id, i), Time: begin.Add(time.Duration(f.After) + time.Duration(i)*time.Duration(f.Every)),
			Source: or(f.Source, cloudtrail.SourceKMS), Name: f.Name, Region: or(f.Region, "eu-central-1"), Account: or(f.Account, "111122223333"),
			Principal: f.Principal, PrincipalType: or(f.Type, "AssumedRole"), IP: f.IP, UserAgent: f.Agent, VPCEndpoint: f.Endpoint, TLSVersion: f.TLS, Host: f.Host,
			ErrorCode: f.Error, MaterialID: f.Material, Context: f.Context, Tenant: f.Tenant, Merchant: f.Merchant, Console: f.Console, InvokedBy: f.InvokedBy,
			ServiceEvent: f.ByService,
		}
		e.CallerAccount = or(f.Caller, e.Account)
		switch f.MFA {
		case "present":
			e.MFA = cloudtrail.MFAPresent
		case "absent":
			e.MFA = cloudtrail.MFAAbsent
		}
		if f.Key != "" {
			e.Keys = []string{f.Key}
		}
		if f.Params != "" {
			e.Params = json.RawMessage(f.Params)
		}
		op := operationOf(&e)
		e.ReadOnly = op.crypto() || op == opEnumerate
		if err := f.vary(&e, strconv.Itoa(i)); err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

func (f *CaseFlow) vary(e *cloudtrail.Event, number string) error {
	for _, v := range f.Vary {
		name, inContext := strings.CutPrefix(v, "context.")
		switch {
		case inContext:
			c := map[string]string{}
			for k, old := range e.Context {
				c[k] = old
			}
			c[name] += number
			e.Context = c
		case v == "key":
			e.Keys = []string{f.Key + number}
		case v == "merchant":
			e.Merchant += number
		case v == "ip":
			e.IP += number
		case v == "principal":
			e.Principal += number
		default:
			return fmt.Errorf("vary: %q, expected key, ip, merchant, principal or context.NAME", v)
		}
	}
	return nil
}
