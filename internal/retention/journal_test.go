package retention_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

const cliLog = "cardea/vault-1-cli"

// note writes an entry of the journal.
func note(t *testing.T, m *memLog, at time.Time, op, reference, detail string) {
	t.Helper()
	e := entry("vault-1-cli", int(m.logs[cliLog].tree.Size()), at)
	e.Op, e.Resource, e.Detail, e.Result = op, audit.Resource{Kind: "review", Reference: reference}, detail, "intact"
	m.commit(t, cliLog, at, e)
}

func readJournal(t *testing.T, m *memLog) *retention.Journal {
	t.Helper()
	j, err := retention.ReadJournal(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJournalTellsWhichDaysAreReviewed(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, cliLog, "cardea/vault-1")
	day := func(d, h int) time.Time { return time.Date(2026, 3, d, h, 0, 0, 0, time.UTC) }
	note(t, m, day(2, 9), retention.OpReviewStart, "2026-03-01", "s")
	note(t, m, day(2, 10), retention.OpReviewClose, "2026-03-01", "nothing")
	note(t, m, day(3, 9), retention.OpReviewStart, "2026-03-02", "s") // never closed
	note(t, m, day(6, 9), retention.OpReviewStart, "2026-03-04", "s") // late
	note(t, m, day(6, 10), retention.OpReviewFinding, "2026-03-04/1", "bob: x: y")
	note(t, m, day(6, 11), retention.OpReviewSettle, "2026-03-04/1", "done")
	note(t, m, day(6, 12), retention.OpReviewClose, "2026-03-04", "ok")
	note(t, m, day(7, 0), retention.OpReviewStart, "2026-03-06", "s")
	j := readJournal(t, m)
	if j.Problems != 0 {
		t.Errorf("%d problems", j.Problems)
	}
	var got []string
	for _, d := range j.Days(day(1, 13), day(7, 1)) {
		got = append(got, string(d.Day[8:])+" "+d.Status)
	}
	if text, want := strings.Join(got, ", "), "01 reviewed, 02 missing, 03 missing, 04 late, 05 missing, 06 open"; text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
	f := j.Review("2026-03-04").Findings
	if len(f) != 1 || f[0].Owner != "bob" || f[0].Text != "x: y" || f[0].Outcome != "done" || !f[0].Settled.Equal(day(6, 11)) {
		t.Errorf("finding %+v", f)
	}
	if n := len(j.Days(day(7, 0), day(7, 1))); n != 0 {
		t.Errorf("%d days of a time in which none ended", n)
	}
}

func TestJournalRefusesWhatIsOutOfOrder(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, cliLog)
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	note(t, m, now, retention.OpReviewStart, "2026-03-01", "s")
	note(t, m, now, retention.OpReviewFinding, "2026-03-01/1", "bob: x")
	note(t, m, now, retention.OpReviewStart, "2026-03-02", "s")
	note(t, m, now, retention.OpReviewFinding, "2026-03-02/1", "bob: x")
	note(t, m, now, retention.OpReviewSettle, "2026-03-02/1", "y")
	note(t, m, now, retention.OpReviewStart, "2026-03-03", "s")
	note(t, m, now, retention.OpReviewClose, "2026-03-03", "s")
	j := readJournal(t, m)
	finding := func(d retention.Day, owner, text string) error {
		_, _, err := j.NewFinding(d, owner, text)
		return err
	}
	settle := func(d retention.Day, n int, text string) error {
		_, err := j.Settle(d, n, text)
		return err
	}
	for _, c := range []struct {
		err  error
		is   error
		want string
	}{
		{j.MayStart("2026-03-05", now), retention.ErrDayNotOver, "review of 2026-03-05: the day is not over before 2026-03-06T00:00:00Z"},
		{j.MayStart("2026-03-01", now), retention.ErrBegun, "review of 2026-03-01: the day's review was begun already"},
		{finding("2026-03-04", "bob", "x"), retention.ErrNotBegun, "review of 2026-03-04: no review of the day was begun"},
		{finding("2026-03-03", "bob", "x"), retention.ErrClosed, "review of 2026-03-03: the day's review is closed"},
		{finding("2026-03-01", "bob: eve", "x"), retention.ErrOwner, "owner: want a name of letters, digits and .-_@ of at most 64 bytes"},
		{finding("2026-03-01", "bob", "x\ny"), retention.ErrInvalidText, "finding: want 1 to 400 bytes of text on one line"},
		{finding("2026-03-01", "bob", strings.Repeat(`"`, 201)), retention.ErrInvalidText, "finding: want 1 to 400 bytes of text on one line"},
		{settle("2026-03-01", 2, "x"), retention.ErrNoFinding, "finding 2 of 2026-03-01: there is no such finding"},
		{settle("2026-03-02", 1, "x"), retention.ErrSettled, "finding 1 of 2026-03-02: the finding has an outcome already"},
		{settle("2026-03-01", 1, ""), retention.ErrInvalidText, "outcome: want 1 to 400 bytes of text on one line"},
		{j.MayClose("2026-03-01", "x"), retention.ErrOpen, "review of 2026-03-01: findings have no outcome: 1"},
		{j.MayClose("2026-03-02", ""), retention.ErrInvalidText, "conclusion: want 1 to 400 bytes of text on one line"},
	} {
		if !errors.Is(c.err, c.is) || c.err.Error() != c.want {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
	if err := errors.Join(j.MayStart("2026-03-04", now), j.MayClose("2026-03-02", "fine")); err != nil {
		t.Error(err)
	}
	if ref, detail, err := j.NewFinding("2026-03-01", "bob@x", "y"); err != nil || ref != "2026-03-01/2" || detail != "bob@x: y" {
		t.Error(ref, detail, err)
	}
	if _, err := retention.ParseDay("2026-3-1"); err == nil || err.Error() != `"2026-3-1" is not a day such as 2026-03-01` {
		t.Error(err)
	}
}

func TestJournalCountsEntriesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][][3]string{
		"begun twice":    {{retention.OpReviewStart, "2026-03-01", ""}, {retention.OpReviewStart, "2026-03-01", ""}},
		"never begun":    {{retention.OpReviewClose, "2026-03-01", ""}},
		"no day":         {{retention.OpReviewStart, "yesterday", ""}},
		"number missing": {{retention.OpReviewStart, "2026-03-01", ""}, {retention.OpReviewFinding, "2026-03-01/2", "a: b"}},
		"no owner":       {{retention.OpReviewStart, "2026-03-01", ""}, {retention.OpReviewFinding, "2026-03-01/1", "b"}},
		"other":          {{retention.OpReviewStart, "2026-03-01", ""}, {"review.other", "2026-03-01", "b"}},
	} {
		m := newMemLog(t, cliLog)
		for _, e := range entries {
			note(t, m, noon, e[0], e[1], e[2])
		}
		if j := readJournal(t, m); j.Problems != 1 {
			t.Errorf("%s: %d problems, want 1", name, j.Problems)
		}
	}
}

func TestFromFindsWhereATimeBegins(t *testing.T) {
	t.Parallel()
	const origin = "cardea/vault-1"
	m := newMemLog(t, origin)
	for n := 0; n < 3000; { // a minute an entry, in segments of 1 to 7
		var batch []audit.Entry
		for range n%7 + 1 {
			batch = append(batch, entry("vault-1", n, noon.Add(time.Duration(n)*time.Minute)))
			n++
		}
		m.commit(t, origin, noon, batch...)
	}
	for _, n := range []int{-100, 0, 1, 59, 60, 61, 500, 1000, 2999, 3050, 9000} {
		at := noon.Add(time.Duration(n) * time.Minute)
		from, err := retention.From(t.Context(), m, origin, at)
		if err != nil {
			t.Fatal(err)
		}
		want := int64(min(max(n-60, 0), 3006)) // ClockSlack before
		if from > want || from < want-7 {
			t.Errorf("minute %d: from entry %d, want just before %d", n, from, want)
		}
	}
	if got, err := retention.Began(t.Context(), m); err != nil || !got.Equal(noon) {
		t.Error(got, err)
	}
}
