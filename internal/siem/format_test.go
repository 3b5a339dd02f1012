package siem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"cardea/internal/audit"
	"cardea/internal/detect"
)

const testOrigin = "cardea/node-1"

var testTime = time.Date(2026, 11, 22, 7, 1, 2, 345678000, time.UTC)

// nasty is what a client would send to forge a line, a field or a record.
const nasty = "a|b=c\\d\"e]f\t^\r\n<14>1 - - - - - -\nCEF:0|x|y|z|1|n|10|act=forged \x00\u001b[31m\u2028\ufeff\u202eend\\n x09 {\"integration\":\"cardea\"}\xff"

func testEntry() audit.Entry {
	return audit.Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: testTime, Node: "node-1", RequestID: "req-1", Tenant: "acme",
		Who: audit.Actor{Type: "tenant", Name: "acme", Auth: "jws", IP: "192.0.2.7"}, Op: "card.retrieve", PCI: "10.2.1.1",
		Resource: audit.Resource{Kind: "card", Merchant: "m-1", Customer: "c-1", Reference: "r-1", MaskedPAN: "411111******1111", Key: "k-1", KeyVersion: 2},
		Outcome:  audit.Allowed, Result: "found",
	}
}

func callEntry() audit.Entry {
	e := testEntry()
	e.Op, e.Resource, e.Outcome, e.Result, e.Detail = "kms.decrypt", audit.Resource{Kind: "key", Key: "k-2"}, audit.Denied, "denied", "no policy allows it"
	e.Who = audit.Actor{Type: "identity", Name: "alice", Auth: "sigv4", IP: "2001:db8::1"}
	e.Call = &audit.Call{
		Event: "Decrypt", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", ReadOnly: true, Type: "IAMUser", ID: "AIDA1",
		ARN: "arn:aws:iam::111122223333:user/alice", Caller: "111122223333", Key: "AKIA1", Agent: "aws-cli/2", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256", Error: "AccessDeniedException",
		Request: []audit.Param{{Name: "keyId", Value: "k-2"}}, Context: []audit.Param{{Name: "tenant", Value: "acme"}}, Resources: []string{"arn:aws:kms:eu-central-1:111122223333:key/k-2"},
	}
	return e
}

// nastyEntry has s wherever a client can put text.
func nastyEntry(s string) audit.Entry {
	e := callEntry()
	e.RequestID, e.Tenant, e.Detail, e.Who.Name, e.Who.IP = s, s, s, s, s
	e.Resource = audit.Resource{Kind: "key", Merchant: s, Customer: s, Reference: s, Key: s, MaskedPAN: s}
	e.Call.Region, e.Call.Account, e.Call.ID, e.Call.ARN, e.Call.Caller, e.Call.Key, e.Call.Agent, e.Call.TLS, e.Call.Error = s, s, s, s, s, s, s, s, s
	e.Call.Issuer = s
	e.Call.Request, e.Call.Context, e.Call.Response = []audit.Param{{Name: s, Value: s}}, []audit.Param{{Name: s, Value: s}, {Name: "b", Value: s}}, []audit.Param{{Name: s, Value: s}}
	e.Call.Resources = []string{s, s}
	return e
}

func entryEvent(t testing.TB, e audit.Entry) *Event {
	t.Helper()
	sealed, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := EntryEvent(testOrigin, 41, sealed.Line)
	if err != nil {
		t.Fatal(err)
	}
	return &ev
}

func testAlert(s string) detect.Alert {
	return detect.Alert{
		ID: "b2-" + s, Rule: "B2", Title: "Burst of failed decrypts" + s, Severity: detect.High, Time: testTime, Start: testTime.Add(-time.Minute),
		PCI: []string{"10.4.1.1"}, Principal: "arn:aws:iam::111122223333:user/alice" + s, Keys: []string{"k-1" + s, "k-2"}, Tenant: s, Merchant: s, IP: "192.0.2.9",
		Region: s, Account: s, Reason: "40 where 2 are usual" + s, Score: 9.5, Baseline: &detect.Baseline{Expected: 2, Observed: 40, Window: "5m", Learned: "14 days" + s},
		Count: 40, Evidence: []detect.Evidence{{EventID: "e-1" + s, Time: testTime, Name: "Decrypt" + s, Detail: s}}, Next: "ask alice" + s,
		Rules: "r" + s,
	}
}

func pointer(ev Event) *Event { return &ev }

func testCheckpoint(t testing.TB) *Event {
	t.Helper()
	key, _, err := audit.GenerateSigningKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	c := audit.Checkpoint{Origin: testOrigin, Size: 42, Root: audit.LeafHash([]byte("x")), Time: testTime}
	signed, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return pointer(CheckpointEvent(c, signed))
}

func testFinding(s string, failing bool) *Event {
	return pointer(FindingEvent(Finding{Check: CheckDelivery, Subject: "wazuh" + s, Failing: failing, Since: testTime.Add(-time.Hour), Message: "nothing for 1h" + s, Next: "see if it runs" + s}, testTime))
}

func samples(t testing.TB) map[string]*Event {
	big := strings.Repeat("\"\\|=]\n", 2000)
	many := testAlert(big)
	for range 40 {
		many.Evidence, many.Keys = append(many.Evidence, many.Evidence[0]), append(many.Keys, many.Keys[0])
	}
	void := detect.Alert{}
	return map[string]*Event{
		"entry": entryEvent(t, testEntry()), "call": entryEvent(t, callEntry()), "nasty entry": entryEvent(t, nastyEntry(nasty)), "huge entry": entryEvent(t, nastyEntry(big)),
		"alert": pointer(AlertEvent(testAlert(""))), "nasty alert": pointer(AlertEvent(testAlert(nasty))), "huge alert": pointer(AlertEvent(many)), "empty alert": pointer(AlertEvent(void)),
		"checkpoint": testCheckpoint(t), "finding": testFinding("", true), "finding over": testFinding("", false), "nasty finding": testFinding(nasty, true),
	}
}

func encoder(f Format) *Encoder { return &Encoder{Format: f, Product: "1.2|3", Host: "node 1\n"} }

// checkLine fails unless the message is one line that is text.
func checkLine(t *testing.T, what string, line []byte) {
	t.Helper()
	if len(line) > MaxMessage+1024 { // and the syslog header
		t.Errorf("%s: %d bytes", what, len(line))
	}
	if !utf8.Valid(line) {
		t.Errorf("%s: not UTF-8", what)
	}
	for _, r := range string(line) {
		if r != '\t' && unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			t.Errorf("%s: has %U", what, r)
		}
	}
}

func TestNothingBreaksOutOfItsLine(t *testing.T) {
	t.Parallel()
	for name, ev := range samples(t) {
		for _, f := range Formats() {
			e := encoder(f)
			plain, err := e.Append([]byte("before"), ev)
			if err != nil || !bytes.HasPrefix(plain, []byte("before")) {
				t.Fatalf("%s as %s: %v", name, f, err)
			}
			checkLine(t, name+" as "+string(f), plain[len("before"):])
			framed, err := e.Syslog(nil, ev)
			if err != nil {
				t.Fatalf("%s as %s over syslog: %v", name, f, err)
			}
			checkLine(t, name+" as "+string(f)+" over syslog", framed)
		}
	}
}

func TestTooLargeEventIsRefusedNotCutInTheMiddle(t *testing.T) {
	t.Parallel()
	ev := *testCheckpoint(t)
	ev.Checkpoint = &Checkpoint{Signed: strings.Repeat("x", MaxMessage)}
	for _, f := range []Format{FormatNDJSON, FormatOCSF, FormatCEF} {
		if b, err := encoder(f).Append([]byte("a"), &ev); err == nil || err.Error() != "event is too large for a message" || string(b) != "a" {
			t.Errorf("%s: got %d bytes, %v", f, len(b), err)
		}
	}
	if _, err := encoder("xml").Append(nil, &ev); err == nil || err.Error() != `format "xml" is not known` {
		t.Errorf("got %v", err)
	}
}

func TestNDJSONCarriesTheEntryAndItsPlace(t *testing.T) {
	t.Parallel()
	ev := entryEvent(t, nastyEntry(nasty))
	line, err := encoder(FormatNDJSON).Append(nil, ev)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var got record
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	c := got.Cardea
	if got.Integration != "cardea" || c.ID != "cardea/node-1#41" || c.Line != string(ev.Line) || c.Log.LeafHash != ev.hash() {
		t.Errorf("got %q %q %q", got.Integration, c.ID, c.Log.LeafHash)
	}
	if *c.Who != ev.Entry.Who || *c.Resource != ev.Entry.Resource || c.Detail != ev.Entry.Detail {
		t.Errorf("got %+v %+v, want %+v %+v", c.Who, c.Resource, ev.Entry.Who, ev.Entry.Resource)
	}
}

// parseCEF reads one message strictly: header and extension.
func parseCEF(line string) (header []string, ext map[string]string, err error) {
	rest, ok := strings.CutPrefix(line, "CEF:")
	if !ok {
		return nil, nil, fmt.Errorf("no CEF: in front")
	}
	var part strings.Builder
	for len(header) < 7 {
		if rest == "" {
			return nil, nil, fmt.Errorf("%d fields", len(header))
		}
		switch c := rest[0]; {
		case c == '\\' && len(rest) > 1 && (rest[1] == '\\' || rest[1] == '|'):
			part.WriteByte(rest[1])
			rest = rest[1:]
		case c == '\\':
			return nil, nil, fmt.Errorf("stray backslash in the header")
		case c == '|':
			header = append(header, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
		rest = rest[1:]
	}
	ext = map[string]string{}
	// A key is a word before an equals sign that is not escaped; the value ends
	// before the next one.
	key, value := "", ""
	put := func() error {
		if _, twice := ext[key]; twice {
			return fmt.Errorf("key %s twice", key)
		}
		ext[key] = value
		return nil
	}
	var token strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest) && (rest[i+1] == '\\' || rest[i+1] == '='):
			i++
			token.WriteByte(rest[i])
		case c == '\\':
			return nil, nil, fmt.Errorf("stray backslash in the extension")
		case c == '=':
			// What is behind the last space that no escape made is the key. Escapes
			// cannot make a space, so the decoded text has it in the same place.
			text := token.String()
			at := strings.LastIndexByte(text, ' ')
			if key != "" {
				if at < 0 {
					return nil, nil, fmt.Errorf("equals sign in the value of %s", key)
				}
				value = text[:at]
				if err := put(); err != nil {
					return nil, nil, err
				}
			}
			key = text[at+1:]
			if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r > 127 || !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
				return nil, nil, fmt.Errorf("key %q", key)
			}
			token.Reset()
		default:
			token.WriteByte(c)
		}
	}
	value = token.String()
	return header, ext, put()
}

// parseLEEF reads one message of LEEF 2.0 strictly.
func parseLEEF(line string) (header []string, attributes map[string]string, err error) {
	parts := strings.SplitN(line, "|", 7)
	if len(parts) != 7 || parts[0] != "LEEF:2.0" || parts[5] != "x09" {
		return nil, nil, fmt.Errorf("header %q", parts)
	}
	attributes = map[string]string{}
	for pair := range strings.SplitSeq(parts[6], "\t") {
		key, value, ok := strings.Cut(pair, "=")
		if _, twice := attributes[key]; !ok || key == "" || twice {
			return nil, nil, fmt.Errorf("attribute %q", pair)
		}
		attributes[key] = value
	}
	return parts[:6], attributes, nil
}

// checkText fails unless the text formats give back the fields of the event.
func checkText(t *testing.T, ev *Event) {
	t.Helper()
	line, err := encoder(FormatCEF).Append(nil, ev)
	if err != nil {
		t.Fatal(err)
	}
	header, ext, err := parseCEF(string(line))
	if err != nil {
		t.Fatalf("CEF %q: %v", line, err)
	}
	if header[0] != "0" || header[1] != "Cardea" || header[3] != "1.2|3" || header[4] != ev.signature() || header[5] != oneLine(ev.title()) {
		t.Errorf("CEF header %q", header)
	}
	want := 2 // rt and msg
	for _, f := range ev.fields() {
		want++
		// Spaces at the end of a value are not told from the one before the next key.
		if got := ext[cefKey(f.name)]; got != f.value {
			t.Errorf("CEF %s: got %q, want %q", f.name, got, f.value)
		}
	}
	switch a := ev.ip(); {
	case a.Is4():
		want++
	case a.Is6():
		want += 2
	}
	if len(ext) != want {
		t.Errorf("CEF: got %d keys, want %d: %q", len(ext), want, ext)
	}
	if line, err = encoder(FormatLEEF).Append(nil, ev); err != nil {
		t.Fatal(err)
	}
	header, attributes, err := parseLEEF(string(line))
	if err != nil {
		t.Fatalf("LEEF %q: %v", line, err)
	}
	if header[3] != "1.2_3" || header[4] != ev.signature() {
		t.Errorf("LEEF header %q", header)
	}
	want = 4
	if ev.ip().IsValid() {
		want++
	}
	for _, f := range ev.fields() {
		want++
		if got := attributes[leefKey(f.name)]; got != f.value {
			t.Errorf("LEEF %s: got %q, want %q", f.name, got, f.value)
		}
	}
	if len(attributes) != want {
		t.Errorf("LEEF: got %d attributes, want %d: %q", len(attributes), want, attributes)
	}
}

// checkSyslog fails unless an independent parser gives back what was put in.
func checkSyslog(t *testing.T, ev *Event, f Format) {
	t.Helper()
	line, err := encoder(f).Syslog(nil, ev)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := rfc5424.NewParser().Parse(line)
	if err != nil {
		t.Fatalf("%s: %v: %q", f, err, line)
	}
	m, ok := parsed.(*rfc5424.SyslogMessage)
	if !ok || *m.Facility != 13 || *m.Severity != uint8(syslogSeverity(ev.Severity)) || *m.Appname != "cardea" || *m.Hostname != "node1" || *m.MsgID != string(ev.Kind) {
		t.Fatalf("header of %q", line)
	}
	if m.Timestamp != nil && !m.Timestamp.Equal(ev.Time.Truncate(time.Microsecond)) {
		t.Errorf("time %v, want %v", m.Timestamp, ev.Time)
	}
	elements := *m.StructuredData
	data := elements["cardea@32473"]
	if len(elements) != 1 || data["id"] != oneLine(ev.ID) {
		t.Errorf("structured data %q", elements)
	}
	if f != FormatRFC5424 {
		text, err := encoder(f).Append(nil, ev)
		if err != nil || *m.Message != string(text) {
			t.Errorf("message %q, %v", *m.Message, err)
		}
		return
	}
	if want := utf8BOM + oneLine(ev.message()); *m.Message != want && *m.Message != strings.TrimPrefix(want, utf8BOM) {
		t.Errorf("message %q, want %q", *m.Message, want)
	}
	for _, x := range ev.fields() {
		if got := data[x.name]; got != x.value {
			t.Errorf("%s: got %q, want %q", x.name, got, x.value)
		}
	}
	if len(data) != len(ev.fields()) {
		t.Errorf("got %d parameters, want %d", len(data), len(ev.fields()))
	}
}

func TestTextFormatsGiveBackWhatWasPutIn(t *testing.T) {
	t.Parallel()
	for name, ev := range samples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkText(t, ev)
			for _, f := range Formats() {
				checkSyslog(t, ev, f)
			}
		})
	}
}

func ocsfSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/ocsf.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("ocsf.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("ocsf.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func checkOCSF(t *testing.T, schema *jsonschema.Schema, e *Encoder, ev *Event) map[string]any {
	t.Helper()
	line, err := e.Append(nil, ev)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%s\n%v", line, err)
	}
	var o map[string]any
	if err := json.Unmarshal(line, &o); err != nil {
		t.Fatal(err)
	}
	if o["type_uid"].(float64) != o["class_uid"].(float64)*100+o["activity_id"].(float64) {
		t.Errorf("type_uid %v of class %v and activity %v", o["type_uid"], o["class_uid"], o["activity_id"])
	}
	return o
}

func TestOCSFKeepsToTheSchema(t *testing.T) {
	t.Parallel()
	schema := ocsfSchema(t)
	for name, ev := range samples(t) {
		if name == "empty alert" {
			continue // it has no time, which OCSF requires and detection always sets
		}
		o := checkOCSF(t, schema, encoder(FormatOCSF), ev)
		if want := map[Kind]float64{KindEntry: 6003, KindAlert: 2004, KindFinding: 2003, KindCheckpoint: 0}[ev.Kind]; o["class_uid"] != want {
			t.Errorf("%s: class %v, want %v", name, o["class_uid"], want)
		}
		if ev.Kind == KindEntry && o["raw_data"] != string(ev.Line) {
			t.Errorf("%s: raw_data is not the line of the log", name)
		}
		if _, has := o["attestation_list"]; has {
			t.Errorf("%s: has an attestation that nobody asked for", name)
		}
		e := encoder(FormatOCSF)
		e.RecordIntegrity = true
		o = checkOCSF(t, schema, e, ev)
		if _, has := o["attestation_list"]; has != (ev.Kind == KindEntry) {
			t.Errorf("%s: attestation: %v", name, has)
		}
	}
}

// TestOCSFSchemaRefuses shows that the schema can refuse.
func TestOCSFSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := ocsfSchema(t)
	line, err := encoder(FormatOCSF).Append(nil, entryEvent(t, testEntry()))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(o map[string]any){
		"no actor":           func(o map[string]any) { delete(o, "actor") },
		"unknown attribute":  func(o map[string]any) { o["pan"] = "x" },
		"activity":           func(o map[string]any) { o["activity_id"] = 7 },
		"cloud not declared": func(o map[string]any) { o["cloud"] = map[string]any{"provider": "x"} },
		"time as text":       func(o map[string]any) { o["time"] = "2026" },
	} {
		var o map[string]any
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatal(err)
		}
		spoil(o)
		if schema.Validate(o) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestSuppressedAlertWakesNobody(t *testing.T) {
	t.Parallel()
	a := testAlert("")
	a.SuppressedBy = "CHG-7"
	ev := pointer(AlertEvent(a))
	o := checkOCSF(t, ocsfSchema(t), encoder(FormatOCSF), ev)
	if ev.Severity != detect.Info || ev.Alert.Severity != detect.High || o["status_id"] != 3.0 || o["severity_id"] != 1.0 {
		t.Errorf("severity %v, OCSF status %v, severity %v", ev.Severity, o["status_id"], o["severity_id"])
	}
	checkText(t, ev)
}

func TestActivities(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Activity{
		"kms.decrypt": ActivityRead, "kms.generate_data_key": ActivityRead, "kms.schedule_key_deletion": ActivityDelete, "kms.put_key_policy": ActivityUpdate,
		"card.store": ActivityCreate, "card.delete": ActivityDelete, "identity.create_access_key": ActivityCreate, "sts.unknown": ActivityUnknown, "new.thing": ActivityUnknown,
	} {
		if got := ActivityOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	denied, admin, failed := testEntry(), testEntry(), testEntry()
	denied.Outcome, admin.Op, failed.Outcome = audit.Denied, "tenants.load", audit.Failed
	explained := testAlert("")
	explained.SuppressedBy = "CHG-7"
	for name, tc := range map[string]struct {
		ev   *Event
		want map[Filter]bool
	}{
		"routine":                      {entryEvent(t, testEntry()), map[Filter]bool{FilterAll: true}},
		"denied":                       {entryEvent(t, denied), map[Filter]bool{FilterAll: true, FilterSecurity: true}},
		"failed":                       {entryEvent(t, failed), map[Filter]bool{FilterAll: true, FilterSecurity: true}},
		"admin":                        {entryEvent(t, admin), map[Filter]bool{FilterAll: true, FilterSecurity: true}},
		"alert":                        {pointer(AlertEvent(testAlert(""))), map[Filter]bool{FilterAll: true, FilterSecurity: true, FilterAlerts: true}},
		"alert that a change explains": {pointer(AlertEvent(explained)), map[Filter]bool{FilterAll: true, FilterSecurity: true}},
		"finding":                      {testFinding("", true), map[Filter]bool{FilterAll: true, FilterSecurity: true, FilterAlerts: true}},
	} {
		for _, f := range []Filter{FilterAll, FilterSecurity, FilterAlerts} {
			if got := f.Match(tc.ev); got != tc.want[f] {
				t.Errorf("%s by %s: %v", name, f, got)
			}
		}
	}
}

func FuzzEntryFormats(f *testing.F) {
	schema := ocsfSchema(f)
	f.Add(nasty)
	f.Add("")
	f.Add("x")
	f.Add("a =b| \\")
	f.Fuzz(func(t *testing.T, s string) {
		for _, ev := range []*Event{entryEvent(t, nastyEntry(s)), pointer(AlertEvent(testAlert(s))), testFinding(s, true)} {
			for _, f := range Formats() {
				line, err := encoder(f).Append(nil, ev)
				if err != nil {
					t.Fatal(err)
				}
				checkLine(t, string(f), line)
			}
			checkText(t, ev)
			checkSyslog(t, ev, FormatRFC5424)
			checkSyslog(t, ev, FormatNDJSON)
			checkOCSF(t, schema, encoder(FormatOCSF), ev)
		}
	})
}
