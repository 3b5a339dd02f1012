package detect_test

import (
	"fmt"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
)

// daysOfBursts is a service that decrypts once a minute, and from the tenth day on
// 400 times in five minutes each day at ten. It gives the days on which B1 was told,
// and whether as suppressed.
func daysOfBursts(t *testing.T, changes *detect.Changes) (told, suppressed map[int]bool) {
	t.Helper()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := detect.New(detect.Options{Rules: rules, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	told, suppressed = map[int]bool{}, map[int]bool{}
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	n := 0
	give := func(at time.Time) {
		n++
		e := cloudtrail.Event{
			ID: fmt.Sprint(n), Time: at, Source: cloudtrail.SourceKMS, Name: "Decrypt", Account: "111122223333", Region: "eu-central-1",
			Principal: "arn:aws:iam::111122223333:role/vault", PrincipalType: "AssumedRole", Keys: []string{"k7"},
		}
		for _, a := range d.Observe(&e) {
			day := int(a.Time.Sub(begin).Hours() / 24)
			if a.Rule != "B1" {
				continue
			}
			if a.SuppressedBy != "" {
				suppressed[day] = true
			} else {
				told[day] = true
			}
		}
	}
	for m := range 24 * 1440 {
		at := begin.Add(time.Duration(m) * time.Minute)
		give(at)
		if m/1440 >= 10 && m%1440 >= 600 && m%1440 < 605 {
			for i := range 80 {
				give(at.Add(time.Duration(1+i) * 500 * time.Millisecond))
			}
		}
	}
	return told, suppressed
}

// TestWhatWasFlaggedIsNotLearned: the same burst each day is told each day, since
// nobody said that it is the new usual.
func TestWhatWasFlaggedIsNotLearned(t *testing.T) {
	t.Parallel()
	told, _ := daysOfBursts(t, nil)
	for day := range 24 {
		if want := day >= 10; told[day] != want {
			t.Errorf("day %d: told %v, want %v", day, told[day], want)
		}
	}
}

// TestApprovedChangeTeachesTheNewUsual: for a week the burst is suppressed and
// learned, and then it is the usual.
func TestApprovedChangeTeachesTheNewUsual(t *testing.T) {
	t.Parallel()
	changes, err := detect.ParseChanges([]byte(`
[[change]]
ticket = "CHG-7"
approved_by = "a@example.org"
rules = ["B1"]
principals = ["*:role/vault"]
from = 2026-03-12T00:00:00Z
until = 2026-03-19T00:00:00Z
learn = true
`))
	if err != nil {
		t.Fatal(err)
	}
	told, suppressed := daysOfBursts(t, changes)
	if len(told) != 0 || !suppressed[10] {
		t.Errorf("told on %v, suppressed on %v", told, suppressed)
	}
	if suppressed[20] {
		t.Error("the change goes on after its end")
	}
}
