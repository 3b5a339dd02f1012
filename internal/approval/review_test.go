package approval

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// custodians is a register of alice, bob, who has left, and carol, with what they hold.
func custodians(t *testing.T, change func(string) string) (*team, *Register, error) {
	t.Helper()
	const role = ` roles = ["custodian"]`
	tm := newTeam(t, "alice"+role, "bob"+role, "carol"+role)
	var text strings.Builder
	for i, name := range []string{"alice", "bob", "carol"} {
		p, err := tm.Person(name)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := Acknowledge(tm.keys[name], now, 365*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "[[person]]\nname = %q\nfull_name = \"A Person\"\nroles = [\"custodian\"]\nkey = %q\nvalid_until = 2028-01-01T00:00:00Z\n", name, p.Key)
		if name == "bob" {
			text.WriteString("left = 2026-06-01T00:00:00Z\n")
		}
		fmt.Fprintf(&text, "acknowledgement = \"\"\"\n%s\"\"\"\nholds = [{ of = \"key-service, generation 1\", part = \"share %d of 3\" }]\n", ack, i+1)
	}
	r, err := ParseRegister([]byte(change(text.String())))
	return tm, r, err
}

func TestReviewTellsWhatEndsAndWhatALeaverKnows(t *testing.T) {
	t.Parallel()
	_, r, err := custodians(t, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		at     time.Time
		within time.Duration
		want   string
	}{
		{"alice", now, 0, ""},
		{"alice", now.AddDate(0, 11, 10), 0, ""},
		{"alice", now.AddDate(0, 11, 10), 30 * 24 * time.Hour, `soon: "alice" acknowledged until 2027-03-01: have it signed again`},
		{"alice", now.AddDate(1, 0, 0), 0, `"alice" acknowledged until 2027-03-01: have it signed again`},
		{"alice", now.AddDate(2, 0, 0), 0, `"alice" was valid until 2028-01-01: review the register`},
		{"bob", now, 0, ""},
		{"bob", now, 100 * 24 * time.Hour, `soon: "bob" left on 2026-06-01`},
		{"bob", now.AddDate(0, 4, 0), 0, `"bob" left on 2026-06-01 and knows share 2 of 3 of key-service, generation 1: replace that key, or divide it anew`},
		{"nobody", now, 0, `"nobody" is not in the register`},
	} {
		var words []string
		for _, f := range r.Review(c.name, c.at, c.within) {
			words = append(words, f.Error())
		}
		if got := strings.Join(words, "; "); got != c.want {
			t.Errorf("%s at %s: got %q, want %q", c.name, c.at.Format(time.DateOnly), got, c.want)
		}
	}
	if got := r.AcknowledgedUntil("alice"); !got.Equal(now.Truncate(time.Second).Add(365 * 24 * time.Hour)) {
		t.Errorf("acknowledged until %s", got)
	}
}

func TestRegisterRefusesPartsThatTellAgainstSplitKnowledge(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(string) string{
		`register: person "bob": holds: share 1 of 3 of key-service, generation 1 is held by "alice", too: a part has one holder`: func(s string) string {
			return strings.Replace(s, "share 2", "share 1", 1)
		},
		`register: person "alice": holds: has share 1 of 3 and share 9 of 9 of key-service, generation 1: split knowledge needs different people`: func(s string) string {
			return strings.Replace(s, `share 1 of 3" }`, `share 1 of 3" }, { of = "key-service, generation 1", part = "share 9 of 9" }`, 1)
		},
		`register: person "alice": holds: only a custodian holds parts of keys`: func(s string) string {
			return strings.Replace(s, `["custodian"]`, `["approver"]`, 1)
		},
		`register: person "alice": holds: part: must not be empty, nor begin or end with white space`: func(s string) string {
			return strings.Replace(s, "share 1 of 3", "", 1)
		},
	} {
		if _, _, err := custodians(t, change); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// Who signs with a program of his own does not get around the yearly renewal.
func TestAnAcknowledgementForLongerThanAYearDoesNotCount(t *testing.T) {
	t.Parallel()
	tm, _, err := custodians(t, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	a := Acknowledgement{Name: "alice", Signed: now.Truncate(time.Second), Expires: now.Truncate(time.Second).AddDate(10, 0, 0)}
	signed, err := note.Sign(&note.Note{Text: a.text()}, tm.keys["alice"])
	if err != nil {
		t.Fatal(err)
	}
	p, err := tm.Person("alice")
	if err != nil {
		t.Fatal(err)
	}
	p.Acknowledgement = string(signed)
	const want = `"alice" has not acknowledged the responsibilities of a key custodian: the acknowledgement is for more than 400 days`
	if err := tm.Custodian("alice", now); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
