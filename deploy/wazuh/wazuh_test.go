package wazuh_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/detect"
	"cardea/internal/siem"
)

type rule struct {
	ID         int      `xml:"id,attr"`
	Level      int      `xml:"level,attr"`
	Frequency  int      `xml:"frequency,attr"`
	Timeframe  int      `xml:"timeframe,attr"`
	DecodedAs  string   `xml:"decoded_as"`
	IfSID      string   `xml:"if_sid"`
	IfMatched  string   `xml:"if_matched_sid"`
	Same       []string `xml:"same_field"`
	Fields     []field  `xml:"field"`
	Desc       string   `xml:"description"`
	Groups     string   `xml:"group"`
	Unexpected []struct {
		XMLName xml.Name
	} `xml:",any"`
}

type field struct {
	Name string `xml:"name,attr"`
	Type string `xml:"type,attr"`
	Text string `xml:",chardata"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	b, err := os.ReadFile("cardea_rules.xml")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Name  string `xml:"name,attr"`
		Rules []rule `xml:"rule"`
	}
	if err := xml.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if g.Name != "cardea," || len(g.Rules) < 20 {
		t.Fatalf("group %q with %d rules", g.Name, len(g.Rules))
	}
	return g.Rules
}

var testTime = time.Date(2026, 11, 22, 7, 1, 2, 0, time.UTC)

// line is an event as the agent reads it, flattened as Wazuh's JSON decoder does.
func line(t *testing.T, ev siem.Event) map[string]string {
	t.Helper()
	b, err := (&siem.Encoder{Format: siem.FormatNDJSON, Product: "v1", Host: "node-1"}).Append(nil, &ev)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	flat := map[string]string{}
	flatten(flat, "", doc)
	return flat
}

func flatten(to map[string]string, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			flatten(to, strings.TrimPrefix(prefix+"."+name, "."), below)
		}
	case []any:
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		to[prefix] = string(b)
	case float64:
		to[prefix] = strconv.FormatFloat(v, 'f', -1, 64)
	default:
		to[prefix] = fmt.Sprint(v)
	}
}

func entry(t *testing.T, op string, outcome audit.Outcome, who string) siem.Event {
	t.Helper()
	e := audit.Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: testTime, Node: "node-1", RequestID: "r", Tenant: "acme",
		Who: audit.Actor{Type: "tenant", Name: who, Auth: "jws", IP: "192.0.2.1"}, Op: op, PCI: "10.2.1.1",
		Resource: audit.Resource{Kind: "card", Merchant: "m", Customer: "c", Reference: "x", MaskedPAN: "411111******1111", Key: "k", KeyVersion: 1},
		Outcome:  outcome, Result: "done", Detail: "detail",
	}
	s, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := siem.EntryEvent("cardea/node-1", 0, s.Line)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func alert(s detect.Severity) siem.Event {
	return siem.AlertEvent(detect.Alert{
		ID: "a", Rule: "B2", Title: "burst", Severity: s, Time: testTime, Start: testTime, PCI: []string{"10.4.1.1"}, Principal: "p", Keys: []string{"k"}, Tenant: "t", Merchant: "m",
		IP: "192.0.2.1", Region: "r", Account: "a", Reason: "why", Score: 1, Baseline: &detect.Baseline{}, Count: 1, Evidence: []detect.Evidence{{EventID: "e"}}, Next: "next",
	})
}

// explained is an alert that an approved change explains in advance.
func explained() siem.Event {
	a := *alert(detect.Critical).Alert
	a.SuppressedBy = "CHG-1"
	return siem.AlertEvent(a)
}

func finding(check string, failing bool) siem.Event {
	return siem.FindingEvent(siem.Finding{Check: check, Subject: "s", Failing: failing, Since: testTime, Message: "m", Next: "n"}, testTime)
}

func checkpoint() siem.Event {
	return siem.CheckpointEvent(audit.Checkpoint{Origin: "cardea/node-1", Size: 3, Time: testTime}, []byte("note"))
}

// fires is the rule that Wazuh ends at: from rule to child as long as one matches,
// of siblings level 0 first, then the highest level first, then by id.
func fires(t *testing.T, all []rule, decoder string, ev map[string]string) rule {
	t.Helper()
	matches := func(r rule) bool {
		for _, f := range r.Fields {
			if v, there := ev[f.Name]; !there || !regexp.MustCompile(f.Text).MatchString(v) {
				return false
			}
		}
		return r.Frequency == 0
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b rule) int {
		if (a.Level == 0) != (b.Level == 0) {
			if a.Level == 0 {
				return -1
			}
			return 1
		}
		return b.Level - a.Level
	})
	var at rule
	for {
		next := rule{}
		for _, r := range sorted {
			child := at.ID == 0 && r.IfSID == "" && r.DecodedAs == decoder || at.ID != 0 && slices.Contains(strings.Split(r.IfSID, ","), strconv.Itoa(at.ID))
			if child && matches(r) {
				next = r
				break
			}
		}
		if next.ID == 0 {
			return at
		}
		at = next
	}
}

func TestRulesFireOnWhatCardeaWrites(t *testing.T) {
	t.Parallel()
	all := rules(t)
	reached := map[int]bool{}
	for name, tc := range map[string]struct {
		ev   siem.Event
		want int
	}{
		"routine use":            {entry(t, "card.retrieve", audit.Allowed, "acme"), 110010},
		"decrypt":                {entry(t, "kms.decrypt", audit.Allowed, "acme"), 110010},
		"denied":                 {entry(t, "card.retrieve", audit.Denied, "acme"), 110011},
		"failed":                 {entry(t, "card.retrieve", audit.Failed, "acme"), 110012},
		"administration":         {entry(t, "tenants.load", audit.Allowed, "ops"), 110013},
		"unknown operation":      {entry(t, "some.thing", audit.Allowed, "ops"), 110013},
		"policy":                 {entry(t, "kms.put_key_policy", audit.Allowed, "ops"), 110014},
		"policy denied":          {entry(t, "kms.put_key_policy", audit.Denied, "ops"), 110015},
		"deletion":               {entry(t, "kms.schedule_key_deletion", audit.Allowed, "ops"), 110016},
		"start":                  {entry(t, "log.open", audit.Allowed, "node"), 110017},
		"log read":               {entry(t, "log.read", audit.Allowed, "root"), 110018},
		"custodian":              {entry(t, "custodian.unlock", audit.Allowed, "alice"), 110019},
		"lockout":                {entry(t, "identity.lockout", audit.Allowed, "system"), 110020},
		"privileges":             {entry(t, "identity.put_user_policy", audit.Allowed, "root"), 110021},
		"alert, low":             {alert(detect.Low), 110030},
		"alert, medium":          {alert(detect.Medium), 110031},
		"alert, high":            {alert(detect.High), 110032},
		"alert, critical":        {alert(detect.Critical), 110033},
		"alert, explained":       {explained(), 110034},
		"source stalls":          {finding(siem.CheckDetection, true), 110050},
		"checkpoint":             {checkpoint(), 110040},
		"stalled":                {finding(siem.CheckDelivery, true), 110050},
		"works again":            {finding(siem.CheckDelivery, false), 110051},
		"changed":                {finding(siem.CheckIntegrity, true), 110052},
		"name like another kind": {entry(t, "card.retrieve", audit.Allowed, "finding"), 110010},
	} {
		for _, decoder := range []string{"json", "cardea-json"} {
			if got := fires(t, all, decoder, line(t, tc.ev)); got.ID != tc.want {
				t.Errorf("%s as %s: rule %d, want %d", name, decoder, got.ID, tc.want)
			}
		}
		reached[tc.want] = true
	}
	for _, r := range all {
		if !reached[r.ID] && r.Frequency == 0 && r.ID > 110001 {
			t.Errorf("rule %d is never reached", r.ID)
		}
	}
	if got := fires(t, all, "json", map[string]string{"integration": "aws", "cardea.kind": "entry"}); got.ID != 0 {
		t.Errorf("rule %d fires on others' lines", got.ID)
	}
}

func TestRulesAreWellFormed(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, ev := range []siem.Event{entry(t, "card.retrieve", audit.Allowed, "acme"), alert(detect.High), explained(), finding(siem.CheckDelivery, true), checkpoint()} {
		for name := range line(t, ev) {
			known[name] = true
		}
	}
	// Requirements of PCI DSS v4.0.1 that the rules may name.
	pci := strings.Fields("3.7.5 3.7.6 8.3.4 10.2.1.1 10.2.1.2 10.2.1.3 10.2.1.4 10.2.1.5 10.2.1.6 10.2.1.7 10.2.2 10.3.3 10.3.4 10.4.1.1 10.7.2 10.7.3 12.10.5")
	ids := map[int]bool{}
	for _, r := range rules(t) {
		if r.ID < 100000 || r.ID > 120000 || ids[r.ID] {
			t.Errorf("id %d: from 100000 to 120000 are for rules of one's own, each once", r.ID)
		}
		if r.Level < 0 || r.Level > 16 || r.Desc == "" || len(r.Unexpected) > 0 {
			t.Errorf("rule %d: level %d, description %q, unexpected %v", r.ID, r.Level, r.Desc, r.Unexpected)
		}
		if (r.Frequency > 0) != (r.Timeframe > 0 && r.IfMatched != "") {
			t.Errorf("rule %d: frequency %d in %d s of %q", r.ID, r.Frequency, r.Timeframe, r.IfMatched)
		}
		for _, parent := range strings.Split(strings.Trim(r.IfSID+","+r.IfMatched, ","), ",") {
			if n, err := strconv.Atoi(parent); parent != "" && (err != nil || !ids[n]) {
				t.Errorf("rule %d: there is no rule %q before it", r.ID, parent)
			}
		}
		ids[r.ID] = true
		names := slices.Clone(r.Same)
		for _, f := range r.Fields {
			names = append(names, f.Name)
			if _, err := regexp.Compile(f.Text); err != nil || f.Type != "pcre2" || !strings.HasPrefix(f.Text, "^") {
				t.Errorf("rule %d: field %s: %q of type %q, %v", r.ID, f.Name, f.Text, f.Type, err)
			}
		}
		for _, m := range regexp.MustCompile(`\$\(([a-z_.]+)\)`).FindAllStringSubmatch(r.Desc, -1) {
			names = append(names, m[1])
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("rule %d: Cardea writes no %s", r.ID, name)
			}
		}
		for _, g := range strings.Split(strings.TrimSuffix(r.Groups, ","), ",") {
			if n, ok := strings.CutPrefix(g, "pci_dss_"); ok && !slices.Contains(pci, n) {
				t.Errorf("rule %d: PCI DSS v4.0.1 has no requirement %s that is meant here", r.ID, n)
			}
		}
		if r.Level > 0 && !strings.Contains(r.Groups, "pci_dss_") {
			t.Errorf("rule %d names no requirement", r.ID)
		}
	}
}

func TestOtherFilesAreWellFormed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cardea_decoders.xml", "localfile.conf"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			XMLName  xml.Name
			Prematch string `xml:"prematch"`
		}
		if err := xml.Unmarshal(b, &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if v.Prematch == "" {
			continue
		}
		// The decoder finds the JSON in a message over syslog, whatever is in the id.
		ev := alert(detect.High)
		ev.ID = `a"b]c\ {"x":1} [cardea@1 id="" kind="x"] `
		msg, err := (&siem.Encoder{Format: siem.FormatNDJSON, Host: "node-1"}).Syslog(nil, &ev)
		if err != nil {
			t.Fatal(err)
		}
		at := regexp.MustCompile(v.Prematch).FindIndex(msg)
		if at == nil || !json.Valid(msg[at[1]:]) {
			t.Errorf("the decoder does not find the JSON in %q", msg)
		}
	}
}
