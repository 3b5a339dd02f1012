package approval

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"cardea/internal/notekey"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)

// team is a register with its people's keys.
type team struct {
	*Register
	keys map[string]*notekey.Signer
}

func newTeam(t *testing.T, people ...string) *team {
	t.Helper()
	tm := &team{keys: map[string]*notekey.Signer{}}
	var text strings.Builder
	for _, p := range people {
		name, rest, _ := strings.Cut(p, " ")
		key, verifier, err := notekey.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		if tm.keys[name], err = notekey.Parse(key); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "[[person]]\nname = %q\nfull_name = \"A Person\"\nkey = %q\n%s\n", name, verifier, rest)
		if !strings.Contains(rest, "roles") {
			text.WriteString("roles = [\"requester\", \"approver\"]\n")
		}
		if !strings.Contains(rest, "valid_until") {
			text.WriteString("valid_until = 2026-12-31T00:00:00Z\n")
		}
	}
	var err error
	if tm.Register, err = ParseRegister([]byte(text.String())); err != nil {
		t.Fatal(err)
	}
	return tm
}

// deletion is what most tests ask for.
func deletion() Request {
	return Request{Operation: KeyDeletion, Target: "arn:aws:kms:eu-central-1:111122223333:key/k", Params: map[string]string{"window": "30"}, Reason: "project ended", Approvals: 2}
}

func wanted() Want {
	return Want{Operation: KeyDeletion, Target: deletion().Target, Params: map[string]string{"window": "30"}}
}

func (tm *team) ask(t *testing.T, who string, r Request) []byte {
	t.Helper()
	_, signed, err := Ask(r, tm.Register, tm.keys[who], now)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (tm *team) approve(t *testing.T, signed []byte, who ...string) []byte {
	t.Helper()
	for _, name := range who {
		var err error
		if _, signed, err = Approve(signed, tm.Register, tm.keys[name], now); err != nil {
			t.Fatal(err)
		}
	}
	return signed
}

func TestQuorumPermitsExactlyWhatWasAsked(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol")
	signed := tm.approve(t, tm.ask(t, "alice", deletion()), "bob", "carol")
	st, err := Check(signed, tm.Register, now, wanted())
	if err != nil || strings.Join(st.Approvers, " ") != "bob carol" || st.Request.Requester != "alice" || len(st.Others) != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	for want, change := range map[string]func(*Want){
		"the request is of another operation: key.schedule-deletion, not key.shred":    func(w *Want) { w.Operation = KeyShred },
		"the request is of another target: " + deletion().Target + ", not other":       func(w *Want) { w.Target = "other" },
		"the request is of another parameter: it is for {window: 30}, not {window: 7}": func(w *Want) { w.Params = map[string]string{"window": "7"} },
		"the request is of another parameter: it is for {window: 30}, not {}":          func(w *Want) { w.Params = nil },
		"not approved: needs 3 approvals, has 2 (bob, carol): have others run 'cardea approval approve'": func(w *Want) {
			w.Approvals = 3
		},
	} {
		w := wanted()
		change(&w)
		if _, err := Check(signed, tm.Register, now, w); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := Check(signed, tm.Register, now.Add(DefaultLife), wanted()); !errors.Is(err, ErrExpired) || err.Error() != "the request has expired on 2026-03-04T12:00:00Z: ask again" {
		t.Errorf("later: %v", err)
	}
	if _, err := Check(signed, tm.Register, now.Add(-time.Hour), wanted()); err == nil || err.Error() != "not approved: it was made in the future, at 2026-03-01T12:00:00Z: check the clocks" {
		t.Errorf("earlier: %v", err)
	}
}

func TestNobodyCountsWhoMayNot(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol", "dave left = 2026-03-02T00:00:00Z", "erin roles = [\"requester\"]", "frank")
	signed := tm.ask(t, "alice", deletion())
	for who, want := range map[string]string{
		"alice": `not approved: "alice" asked for it: somebody else must approve`,
		"erin":  `not approved: "erin" is not an approver in the register`,
	} {
		if _, _, err := Approve(signed, tm.Register, tm.keys[who], now); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	signed = tm.approve(t, signed, "bob", "dave")
	if _, _, err := Approve(signed, tm.Register, tm.keys["bob"], now); err == nil || err.Error() != `not approved: "bob" has approved it already` {
		t.Errorf("twice: %v", err)
	}
	if _, err := Check(signed, tm.Register, now, wanted()); err != nil {
		t.Errorf("while dave is there: %v", err)
	}
	later := now.Add(24 * time.Hour)
	if st, err := Open(signed, tm.Register, later); err != nil || strings.Join(st.Approvers, " ") != "bob" || strings.Join(st.Others, "") != `"dave" left on 2026-03-02` {
		t.Errorf("after dave left: %+v, %v", st, err)
	}
	if _, err := Check(signed, tm.Register, later, wanted()); !errors.Is(err, ErrRefused) {
		t.Errorf("after dave left: %v", err)
	}
	if _, _, err := Approve(signed, tm.Register, tm.keys["dave"], later); err == nil {
		t.Error("who has left approves")
	}
	if _, _, err := Approve(signed, tm.Register, tm.keys["frank"], now.Add(DefaultLife)); !errors.Is(err, ErrExpired) {
		t.Errorf("late: %v", err)
	}
	// Somebody of the same name with another key is a stranger.
	other := newTeam(t, "frank")
	if _, _, err := Approve(signed, tm.Register, other.keys["frank"], now); err == nil || err.Error() != `not approved: the key is not the one that the register has of "frank"` {
		t.Errorf("another frank: %v", err)
	}
	n, err := note.Open(signed, tm.verifiers())
	if err != nil {
		t.Fatal(err)
	}
	forged, err := note.Sign(n, other.keys["frank"])
	if err != nil {
		t.Fatal(err)
	}
	if st, err := Open(forged, tm.Register, now); err != nil || len(st.Approvers) != 2 || st.Others[0] != `"frank" is not in the register, or signed with another key` {
		t.Errorf("forged: %+v, %v", st, err)
	}
}

func TestRequestNeedsItsRequestersSignature(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol")
	r := deletion()
	full, _, err := Ask(r, tm.Register, tm.keys["alice"], now)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: full.text()}, tm.keys["bob"], tm.keys["carol"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(signed, tm.Register, now); err == nil || err.Error() != `not approved: its requester "alice" has not signed it` {
		t.Errorf("got %v", err)
	}
	strangers := newTeam(t, "alice", "bob", "carol")
	if _, err := Open(strangers.ask(t, "alice", r), tm.Register, now); err == nil || err.Error() != "not approved: nobody in the register has signed it" {
		t.Errorf("got %v", err)
	}
}

func TestAskRefuses(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol", "erin roles = [\"approver\"]", "old valid_until = 2026-02-01T00:00:00Z")
	for want, c := range map[string]struct {
		who    string
		change func(*Request)
	}{
		`operation: "key.paint" is none that needs approval; those are key.schedule-deletion, key.put-policy, key.import-material, key.delete-material, key.disable, key.replicate, key.end-dual-control, key.retire, key.shred, key.compromise, key.leaver, custodian.unlock, audit.disable`: {"alice", func(r *Request) { r.Operation = "key.paint" }},
		"reason: must not be empty, nor begin or end with white space":                    {"alice", func(r *Request) { r.Reason = "" }},
		"reason: must not contain the character U+000A":                                   {"alice", func(r *Request) { r.Reason = "a\napprovals: 0" }},
		"target: must not contain the character U+202E":                                   {"alice", func(r *Request) { r.Target = "key/\u202ek" }},
		"target: longer than 1024 bytes":                                                  {"alice", func(r *Request) { r.Target = strings.Repeat("x", 1025) }},
		"target: must be UTF-8":                                                           {"alice", func(r *Request) { r.Target = "\xff" }},
		`param "A": the name must be of a-z, 0-9, dot, underscore and hyphen`:             {"alice", func(r *Request) { r.Params = map[string]string{"A": "1"} }},
		"param a: must not be empty, nor begin or end with white space":                   {"alice", func(r *Request) { r.Params = map[string]string{"a": " "} }},
		"approvals: must be 1 to 10":                                                      {"alice", func(r *Request) { r.Approvals = 0 }},
		"approvals: 4 are asked for, and the register has 3 other people who may approve": {"alice", func(r *Request) { r.Approvals = 4 }},
		"expires: must be after created, by at most 30 days":                              {"alice", func(r *Request) { r.Expires = now.Add(31 * 24 * time.Hour) }},
		`"erin" is not a requester in the register`:                                       {"erin", func(*Request) {}},
		`"old" was valid until 2026-02-01: review the register`:                           {"old", func(*Request) {}},
	} {
		r := deletion()
		c.change(&r)
		if _, _, err := Ask(r, tm.Register, tm.keys[c.who], now); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	_, key, err := notekey.Generate("alice")
	if err != nil {
		t.Fatal(err)
	}
	good := "[[person]]\nname = \"alice\"\nfull_name = \"A\"\nroles = [\"approver\"]\nvalid_until = 2026-12-31T00:00:00Z\nkey = \"" + key + "\"\n"
	if r, err := ParseRegister([]byte(good)); err != nil || len(r.Digest()) != 64 {
		t.Fatalf("good: %v", err)
	}
	for want, text := range map[string]string{
		`register: person "al ice": name: must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen`:               strings.Replace(good, `"alice"`, `"al ice"`, 1),
		`register: person "alice": full_name: must not be empty`:                                                 strings.Replace(good, `"A"`, `""`, 1),
		`register: person "alice": roles: "king" is none of requester, approver, custodian`:                      strings.Replace(good, `"approver"`, `"king"`, 1),
		`register: person "alice": roles: must name one of requester, approver, custodian`:                       strings.Replace(good, `"approver"`, ``, 1),
		`register: person "alice": key: is not a verifier NAME+HASH+KEY, as 'cardea approval keygen' prints it`:  strings.Replace(good, key, "x", 1),
		`register: person "bob": key: is of "alice"`:                                                             strings.Replace(good, `"alice"`, `"bob"`, 1),
		`register: person "alice": valid_until: must be given: who may approve is reviewed, at least every year`: strings.Replace(good, "valid_until = 2026-12-31T00:00:00Z\n", "", 1),
		`register: person "alice": has the name of person "alice": nobody may count twice`:                       good + good,
	} {
		_, err := ParseRegister([]byte(text))
		if err == nil || err.Error() != want && (text != good+good || !strings.HasSuffix(err.Error(), "nobody may count twice")) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := ParseRegister([]byte(good + "admin = true\n")); err == nil || !strings.HasPrefix(err.Error(), "register: unknown member:") {
		t.Errorf("unknown member: %v", err)
	}
}

func TestCustodianNeedsAnAcknowledgementInForce(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice roles = [\"custodian\"]", "bob")
	if err := tm.Custodian("bob", now); err == nil || err.Error() != `"bob" is not a custodian in the register` {
		t.Errorf("got %v", err)
	}
	if err := tm.Custodian("alice", now); err == nil || err.Error() != `"alice" has not acknowledged the responsibilities of a key custodian: the register has no acknowledgement: 'cardea approval acknowledge' makes it` {
		t.Errorf("got %v", err)
	}
	p, err := tm.Person("alice")
	if err != nil {
		t.Fatal(err)
	}
	ack, err := Acknowledge(tm.keys["alice"], now, 200*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p.Acknowledgement = "\n" + string(ack)
	if err := tm.Custodian("alice", now); err != nil {
		t.Error(err)
	}
	if err := tm.Custodian("alice", now.Add(201*24*time.Hour)); err == nil || err.Error() != `"alice" acknowledged until 2026-09-17: have it signed again` {
		t.Errorf("got %v", err)
	}
	other, err := Acknowledge(tm.keys["bob"], now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	resigned, err := note.Sign(&note.Note{Text: strings.Replace(string(ack[:strings.Index(string(ack), "\n\n")+1]), "secret", "safe", 1)}, tm.keys["alice"])
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		string(other):    "is not signed by the person's key",
		string(resigned): "is of another text or version",
		strings.Replace(string(ack), "2026-03", "2026-04", 1): "is not signed by the person's key",
	} {
		p.Acknowledgement = text
		if err := tm.Custodian("alice", now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := Acknowledge(tm.keys["alice"], now, 500*24*time.Hour); err == nil || err.Error() != "life: must be above 0 and at most 400 days" {
		t.Errorf("got %v", err)
	}
}

func TestLedgerLetsARequestBeExecutedOnce(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol")
	signed := tm.ask(t, "alice", deletion())
	st, err := Open(signed, tm.Register, now)
	if err != nil {
		t.Fatal(err)
	}
	l := &Ledger{Dir: t.TempDir() + "/ledger", Now: func() time.Time { return now }}
	for _, want := range []bool{false, true, true} { // cut off twice
		if resumed, err := l.Begin(st.Request, signed); err != nil || resumed != want {
			t.Errorf("resumed %v, %v", resumed, err)
		}
	}
	if err := l.Finish(st.Request, "deletion on\n2026-04-01"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(st.Request, signed); !errors.Is(err, ErrExecuted) || err.Error() != "ledger of approvals: the request has been executed: deletion on 2026-04-01: ask for a new one" {
		t.Errorf("got %v", err)
	}
}

// No change of a signed request is accepted.
func TestEveryChangedByteIsRefused(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, "alice", "bob", "carol")
	signed := tm.approve(t, tm.ask(t, "alice", deletion()), "bob", "carol")
	for i := range signed {
		changed := append([]byte(nil), signed...)
		changed[i] ^= 1
		if st, err := Check(changed, tm.Register, now, wanted()); err == nil {
			t.Fatalf("byte %d changed, and approved by %v", i, st.Approvers)
		}
	}
}

func TestParseIsTheInverseOfText(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[ -~]{0,20}[!-~]`)
	rapid.Check(t, func(rt *rapid.T) {
		tm := deletion()
		tm.ID, tm.Requester, tm.Created = "01890000-0000-7000-8000-000000000000", "alice", now.Truncate(time.Second)
		tm.Expires = tm.Created.Add(time.Hour)
		tm.Reason = strings.TrimSpace(word.Draw(rt, "reason"))
		tm.Target = strings.TrimSpace(word.Draw(rt, "target"))
		tm.Params = rapid.MapOfN(rapid.StringMatching(`[a-z0-9._-]{1,8}`), word.Filter(func(s string) bool { return strings.TrimSpace(s) == s }), 0, 4).Draw(rt, "params")
		got, err := parseRequest(tm.text())
		if err != nil {
			rt.Fatal(err)
		}
		if got.text() != tm.text() || !maps.Equal(got.Params, tm.Params) || got.Reason != tm.Reason {
			rt.Errorf("%q became %q", tm.text(), got.text())
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("cardea approval request v1\n"))
	f.Add([]byte(header + "\nid: 01890000-0000-7000-8000-000000000000\noperation: key.shred\ntarget: t\nreason: r\nrequester: a\ncreated: 2026-03-01T12:00:00Z\nexpires: 2026-03-02T12:00:00Z\napprovals: 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(string(b)); err == nil && r.text() != string(b) {
			t.Errorf("%q is accepted", b)
		}
		if _, err := Open(b, &Register{}, now); err == nil {
			t.Error("accepted without anybody in the register")
		}
	})
}
