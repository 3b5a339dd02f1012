package cli

import (
	"bytes"
	"errors"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
)

func TestPrintableIsOneLineThatSteersNothing(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain text, ümläute ✓": "plain text, ümläute ✓",
		"a\tb\nc\rd":            "a\uFFFDb\uFFFDc\uFFFDd",
		"\x1b[31mred":           "\uFFFD[31mred",
		"abc\u202edcb":          "abc\uFFFDdcb",
		"\xff\xfe":              "\uFFFD\uFFFD",
		"":                      "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestQuotedIsOneWordForAShell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/var/lib/cardea": "/var/lib/cardea",
		"my data":         "'my data'",
		"it's":            `'it'\''s'`,
		"$(rm)":           "'$(rm)'",
		"":                "''",
	} {
		if got := quoted(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if words := shellWords("cardea " + quoted(in)); len(words) != 2 {
			t.Errorf("%q is not one word", in)
		}
	}
}

// TestSplitNotesTakesApartWhatWasAppended: an operator appends checkpoints to one
// file, with or without empty lines between.
func TestSplitNotesTakesApartWhatWasAppended(t *testing.T) {
	t.Parallel()
	var notes []string
	for _, node := range []string{"cardea/a", "cardea/b"} {
		key, _, err := audit.GenerateSigningKey(node)
		if err != nil {
			t.Fatal(err)
		}
		s, err := audit.NewSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		for size := range int64(2) {
			note, err := s.Sign(audit.Checkpoint{Size: size + 1, Time: time.Unix(1e9, 0)})
			if err != nil {
				t.Fatal(err)
			}
			notes = append(notes, string(note))
		}
	}
	var got []string
	for _, n := range splitNotes([]byte(strings.Join(notes, ""))) {
		got = append(got, string(n))
	}
	if !slices.Equal(got, notes) {
		t.Errorf("got %d notes of %d", len(got), len(notes))
	}
	for _, text := range []string{"", "no note", notes[0]} {
		if got := splitNotes([]byte(text)); len(got) != 1 || string(got[0]) != text {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestOperatorIsTheUserAndWhoeverIsBehindHim(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{nil, me.Username},
		{[]string{"USER=mallory", "LOGNAME=mallory"}, me.Username}, // anybody can say so
		{[]string{"SUDO_USER=alice"}, "alice as " + me.Username},
		{[]string{"SUDO_USER="}, me.Username},
	} {
		if got := operator(&Process{Env: tc.env}); got.Name != tc.want || got.Type != "operator" {
			t.Errorf("%q: got %s %q, want %q", tc.env, got.Type, got.Name, tc.want)
		}
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"24h":                       now.Add(-24 * time.Hour),
		"2026-01-01T00:00:00Z":      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-01-01T02:00:00+02:00": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := moment("--since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := moment("--since", "2026-01-01", now); err == nil || !strings.HasPrefix(err.Error(), `--since: "2026-01-01" is neither a time`) {
		t.Errorf("a day alone: %v", err)
	}
}

func TestProgressTellsHowFarAndHowLong(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1e9, 0)
	b := &progress{w: &out, what: "verify", unit: "entries", now: func() time.Time { return now }, start: now}
	b.set(0, 0)
	now = now.Add(time.Second)
	b.set(250, 1000)
	b.set(251, 1000) // too soon after the last
	now = now.Add(time.Second)
	b.set(500, 1000)
	b.finish()
	want := "\r\x1b[Kverify  25 %  250 of 1000 entries, 3s left\r\x1b[Kverify  50 %  500 of 1000 entries, 2s left\r\x1b[K"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestErrorsOfSeveralLinesOfOneCauseAreOneLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	code := report(Process{Stderr: &out}, errors.New("open store:\n\t127.0.0.1: refused\n\t::1: refused"))
	if code != exitFailed || out.String() != "cardea: open store: 127.0.0.1: refused ::1: refused\n" {
		t.Errorf("exit %d, %q", code, out.String())
	}
}
