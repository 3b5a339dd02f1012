package detect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
	"cardea/internal/detect/traffic"
)

// eager judges after a day, so that a few days of traffic have alerts.
const eager = "[engine]\nlearning = \"24h\"\n"

// shortWorld is a few days of traffic with attacks, and its events.
func shortWorld(t testing.TB) (*detect.Rules, []cloudtrail.Event) {
	t.Helper()
	p := traffic.Random(7)
	p.Days, p.WarmDays, p.Rate, p.Tenants, p.People, p.Intensity = 5, 1, 5, 2, 2, 0.5
	w := traffic.New(p)
	rules, err := detect.ParseRules(append([]byte(nil), append(w.Rules(), eager...)...))
	if err != nil {
		t.Fatal(err)
	}
	var events []cloudtrail.Event
	w.Each(func(e *cloudtrail.Event, _ int) bool {
		events = append(events, *e)
		return true
	})
	return rules, events
}

func detector(t testing.TB, rules *detect.Rules) *detect.Detector {
	t.Helper()
	d, err := detect.New(detect.Options{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lines(alerts []detect.Alert) (out []string) {
	for _, a := range alerts {
		b, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		out = append(out, string(b))
	}
	return out
}

func observeAll(d *detect.Detector, events []cloudtrail.Event) (out []string) {
	for i := range events {
		out = append(out, lines(d.Observe(&events[i]))...)
	}
	end := events[0].Time
	for i := range events {
		if events[i].Time.After(end) {
			end = events[i].Time
		}
	}
	return append(out, lines(d.Advance(end.Add(30*time.Minute)))...)
}

func rulesIn(alerts []string) map[string]bool {
	m := map[string]bool{}
	for _, l := range alerts {
		var a detect.Alert
		if json.Unmarshal([]byte(l), &a) == nil {
			m[a.Rule] = true
		}
	}
	return m
}

// TestOrderWithinLatenessDoesNotMatter gives the events in the order in which a
// slow delivery might: each up to ten minutes late.
func TestOrderWithinLatenessDoesNotMatter(t *testing.T) {
	t.Parallel()
	rules, events := shortWorld(t)
	want := observeAll(detector(t, rules), events)
	slices.Sort(want)
	if seen := rulesIn(want); len(seen) < 12 {
		t.Fatalf("only %v fired: the test would show little", seen)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.Uint64().Draw(t, "seed")
		limit := rapid.Int64Range(1, int64(10*time.Minute)-1).Draw(t, "lateness")
		type late struct {
			at time.Time
			i  int
		}
		order := make([]late, len(events))
		for i := range events {
			r = r*6364136223846793005 + 1442695040888963407
			order[i] = late{events[i].Time.Add(time.Duration(int64(r>>16) % limit)), i}
		}
		slices.SortStableFunc(order, func(a, b late) int { return a.at.Compare(b.at) })
		d, err := detect.New(detect.Options{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		shuffled := make([]cloudtrail.Event, len(events))
		for i, o := range order {
			shuffled[i] = events[o.i]
		}
		got := observeAll(d, shuffled)
		slices.Sort(got)
		same(t, want, got)
		if s := d.Stats(); s.Late != 0 {
			t.Fatalf("%d late events", s.Late)
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

func same(t fataler, want, got []string) {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("alert %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%d alerts, want %d", len(got), len(want))
	}
}

// TestRestartGivesTheSameAlerts stops and restores a detector at any events.
func TestRestartGivesTheSameAlerts(t *testing.T) {
	t.Parallel()
	rules, events := shortWorld(t)
	want := observeAll(detector(t, rules), events)
	rapid.Check(t, func(t *rapid.T) {
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(events)), 1, 3).Draw(t, "cuts")
		slices.Sort(cuts)
		d, err := detect.New(detect.Options{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		from := 0
		for _, cut := range cuts {
			for i := from; i < cut; i++ {
				got = append(got, lines(d.Observe(&events[i]))...)
			}
			from = cut
			var b bytes.Buffer
			if err := d.Snapshot(&b); err != nil {
				t.Fatal(err)
			}
			if d, err = detect.Restore(&b, detect.Options{Rules: rules}); err != nil {
				t.Fatal(err)
			}
		}
		for i := from; i < len(events); i++ {
			got = append(got, lines(d.Observe(&events[i]))...)
		}
		got = append(got, lines(d.Advance(events[len(events)-1].Time.Add(30*time.Minute)))...)
		same(t, want, got)
	})
}

func TestStateFileIsRefusedWhenDamaged(t *testing.T) {
	t.Parallel()
	rules, events := shortWorld(t)
	d := detector(t, rules)
	for i := range events[:2000] {
		d.Observe(&events[i])
	}
	path := filepath.Join(t.TempDir(), "state")
	if err := d.Save(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := detect.Load(path, detect.Options{Rules: rules}); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":       {},
		"cut":         good[:len(good)/2],
		"a bit":       flip(good, len(good)-9),
		"another one": flip(good, 3),
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := detect.Load(path, detect.Options{Rules: rules}); !errors.Is(err, detect.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := detect.Load(filepath.Join(t.TempDir(), "none"), detect.Options{Rules: rules}); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func flip(b []byte, i int) []byte {
	c := slices.Clone(b)
	c[i] ^= 0x40
	return c
}

// TestMadeUpNamesDoNotFillMemory floods the detector with principals, keys,
// addresses, programs, contexts, Regions and accounts that are all different.
func TestMadeUpNamesDoNotFillMemory(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules([]byte("[engine]\nmax_principals = 200\nmax_keys = 300\nmax_pairs = 1000\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := detector(t, rules)
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	limits := false
	for i := range 40000 {
		e := cloudtrail.Event{
			ID: fmt.Sprint(i), Time: begin.Add(time.Duration(i) * 300 * time.Millisecond), Source: cloudtrail.SourceKMS, Name: "Decrypt", Account: fmt.Sprint("a", i/7),
			Region: fmt.Sprint("r", i/5), Principal: fmt.Sprint("p", i), Keys: []string{fmt.Sprint("k", i)}, IP: fmt.Sprintf("10.%d.%d.1", i>>8&255, i&255), UserAgent: fmt.Sprint("ua", i),
			Context: map[string]string{"x": fmt.Sprint(i)}, ErrorCode: []string{"", "AccessDenied"}[i%2], TLSVersion: "TLSv1.1", Host: fmt.Sprint("h", i),
		}
		for _, a := range d.Observe(&e) {
			limits = limits || a.Rule == "D1"
		}
	}
	if !limits {
		t.Error("the detector did not say that it met its limits")
	}
	for what, n := range d.Sizes() {
		limit := map[string]int{"principals": 200, "keys": 300, "pairs": 1000, "logs": 4096, "cooling": 2000, "names": 2000, "open": 12 * 1000}[what]
		if limit == 0 || n > 2*limit { // once an hour it goes back to the limit, and an hour brings as many at most
			t.Errorf("%d %s are kept, the limit is %d", n, what, limit)
		}
	}
}

func TestApprovedChangeSuppresses(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := detect.ParseChanges([]byte(`
[[change]]
ticket = "CHG-1"
approved_by = "a@example.org"
rules = ["R1"]
principals = ["*:role/ops"]
keys = ["old-key"]
from = 2026-03-02T00:00:00Z
until = 2026-03-03T00:00:00Z
`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := detect.New(detect.Options{Rules: rules, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	e := cloudtrail.Event{
		ID: "1", Time: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC), Source: cloudtrail.SourceKMS, Name: "ScheduleKeyDeletion", Account: "111122223333",
		Principal: "arn:aws:iam::111122223333:role/ops", Keys: []string{"arn:aws:kms:eu-central-1:111122223333:key/old-key"},
	}
	check := func(what, want string) {
		t.Helper()
		a := d.Observe(&e)
		if len(a) != 1 || a[0].SuppressedBy != want {
			t.Errorf("%s: %+v, want one alert, suppressed by %q", what, a, want)
		}
	}
	check("as approved", "CHG-1")
	e.ID, e.Keys = "2", []string{"arn:aws:kms:eu-central-1:111122223333:key/another"}
	check("another key", "")
	e.ID, e.Keys, e.Principal = "3", []string{"old-key"}, "arn:aws:iam::111122223333:role/eve"
	check("another principal", "")
	e.ID, e.Principal, e.Time = "4", "arn:aws:iam::111122223333:role/ops", e.Time.AddDate(0, 0, 2)
	check("too late", "")
	if s := d.Stats(); s.Suppressed != 1 || s.Alerts != 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestChangesAreRefused(t *testing.T) {
	t.Parallel()
	const whole = `[[change]]
ticket = "CHG-1"
approved_by = "a@example.org"
rules = ["R1"]
keys = ["k"]
from = 2026-03-02T00:00:00Z
until = 2026-03-03T00:00:00Z
`
	if _, err := detect.ParseChanges([]byte(whole)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`ticket = "CHG-1"`, ``, "it has no ticket"},
		{`approved_by = "a@example.org"`, ``, "it has no approved_by"},
		{`rules = ["R1"]`, ``, "it names no rules"},
		{`rules = ["R1"]`, `rules = ["R77"]`, "no such rule R77"},
		{`keys = ["k"]`, ``, "neither principals nor keys"},
		{`until = 2026-03-03`, `until = 2026-03-01`, "a later time until"},
		{`until = 2026-03-03`, `until = 2026-05-03`, "longer than 31 days"},
		{`keys`, `key`, `no such setting "change.key"`},
	} {
		if _, err := detect.ParseChanges([]byte(strings.Replace(whole, c.from, c.to, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s → %s: %v, want %q", c.from, c.to, err, c.want)
		}
	}
}

func TestRulesAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version = 2":                            "version: 2, this release knows 1",
		"[engine]\nlatenes = \"1m\"":             `no such setting "engine.latenes"`,
		"[engine]\nlateness = \"2h\"":            "at most 1h",
		"[engine]\nlateness = \"-2m\"":           "negative",
		"[engine]\nmax_keys = -1":                "max_keys: -1",
		"[rules.R99]\nscore = 1.0":               "rules.R99: no such rule",
		"[rules.R1]\nseverity = \"dire\"":        `severity: "dire"`,
		"[hours]\ndays = [\"Mo\"]":               `"Mo"`,
		"[hours]\nlocation = \"Moon\"":           "hours.location",
		"[hours]\nfrom = 21":                     "from 21 to 20",
		"pinned_aliases = [\"cards\"]":           "expected alias/NAME",
		"[[key]]\nname = \"x\"":                  "needs a name and ids",
		"[[tenant]]\nname = \"x\"":               "needs a name and principals",
		"[[network]]\nname=\"x\"\ncidrs=[\"1\"]": "network x",
		"[[key]]\nname=\"a\"\nids=[\"k\"]\n[[key]]\nname=\"b\"\nids=[\"arn:aws:kms:x:y:key/k\"]": "is also of key a",
	} {
		if _, err := detect.ParseRules([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRulesHashTellsVersionsApart(t *testing.T) {
	t.Parallel()
	a, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := detect.ParseRules([]byte("[rules.B1]\nscore = 8.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash() == b.Hash() || len(a.Hash()) != 16 {
		t.Errorf("hashes %q and %q", a.Hash(), b.Hash())
	}
	if b.Settings["B1"].Score != 8 || b.Settings["B1"].Minimum != a.Settings["B1"].Minimum {
		t.Errorf("B1 is %+v, was %+v: a field that is set must be all that changes", b.Settings["B1"], a.Settings["B1"])
	}
}

// TestClockOfOneEventDoesNotCloseEverything gives an event of next year.
func TestClockOfOneEventDoesNotCloseEverything(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	d, err := detect.New(detect.Options{Rules: rules, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	e := cloudtrail.Event{ID: "1", Time: now, Source: cloudtrail.SourceKMS, Name: "Decrypt", Principal: "p", Keys: []string{"k"}}
	d.Observe(&e)
	e.ID, e.Time = "2", now.AddDate(1, 0, 0)
	d.Observe(&e)
	e.ID, e.Time = "3", now.Add(time.Minute)
	d.Observe(&e)
	if s := d.Stats(); s.Future == 0 || s.Late != 0 {
		t.Errorf("stats %+v: the event of next year must not make others late", s)
	}
}

func BenchmarkObserve(b *testing.B) {
	p := traffic.Random(7)
	p.Days, p.Attacks, p.Rate = 2, false, 2000
	w := traffic.New(p)
	rules, err := detect.ParseRules(w.Rules())
	if err != nil {
		b.Fatal(err)
	}
	var events []cloudtrail.Event
	w.Each(func(e *cloudtrail.Event, _ int) bool {
		events = append(events, *e)
		return len(events) < 100000
	})
	span := events[len(events)-1].Time.Sub(events[0].Time).Truncate(time.Minute) + time.Minute
	d := detector(b, rules)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		e := events[i%len(events)]
		e.Time = e.Time.Add(time.Duration(i/len(events)) * span)
		d.Observe(&e)
	}
}
