package retention_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

// errKilled is where a process ends in a test.
var errKilled = errors.New("killed")

// memStore is a store that can be pruned, and in which a process may end.
type memStore struct {
	*memLog
	t      testing.TB
	killed string // the call that is not made any more, or "half" of one
}

func (m *memStore) PruneLimit(_ context.Context, origin string, upTo int64) (from, to int64, err error) {
	l := m.logs[origin]
	for _, note := range l.prunings {
		p, err := audit.OpenPruning(note, m.verifiers()...)
		if err != nil {
			return 0, 0, err
		}
		from = p.To
	}
	limit := min(upTo, l.tree.Size()/256*256)
	for _, s := range l.segments {
		if s.First <= limit {
			to = s.First
		}
	}
	return from, to, nil
}

func (m *memStore) RecordPruning(_ context.Context, p audit.Pruning, note []byte, e audit.Sealed) error {
	if m.killed == "record" {
		return errKilled
	}
	m.logs[p.Origin].prunings = append(m.logs[p.Origin].prunings, note)
	m.commitSealed(m.t, cliLog, p.Time, e)
	return nil
}

func (m *memStore) FinishPruning(ctx context.Context, origin string) error {
	switch m.killed {
	case "finish":
		m.killed = "finish now" // not the one that takes up what was left
		return nil
	case "finish now":
		return errKilled
	}
	from, _, err := m.PruneLimit(ctx, origin, 0)
	if err != nil {
		return err
	}
	l := m.logs[origin]
	for len(l.segments) > 0 && l.segments[0].First < from {
		l.segments = l.segments[1:]
		if m.killed == "half" {
			return errKilled
		}
	}
	return nil
}

func newMemStore(t testing.TB, n int) *memStore {
	t.Helper()
	m := newMemLog(t, vaultLog, cliLog)
	fill(t, m, n)
	m.commit(t, cliLog, noon, entry("vault-1-cli", 1, noon))
	return &memStore{memLog: m, t: t}
}

// fill writes entries, one each minute, an hour a segment.
func fill(t testing.TB, m *memLog, n int) {
	t.Helper()
	for i := int(m.logs[vaultLog].tree.Size()); n > 0; {
		var batch []audit.Entry
		for range min(60, n) {
			batch = append(batch, entry("vault-1", i, noon.Add(time.Duration(i)*time.Minute)))
			i, n = i+1, n-1
		}
		m.commit(t, vaultLog, noon.Add(time.Duration(i)*time.Minute), batch...)
	}
}

func (m *memStore) options(before time.Time) retention.PruneOptions {
	return retention.PruneOptions{
		Before: before, Verifiers: m.verifiers(), Now: func() time.Time { return hours(60) }, Signer: m.logs[cliLog].signer,
		Undelivered: func(string) (int64, string, error) { return math.MaxInt64, "", nil },
		Record: func(ctx context.Context, origin, detail string, write func(context.Context, audit.Sealed) error) error {
			e := entry("vault-1-cli", int(m.logs[cliLog].tree.Size()), hours(60))
			e.Op, e.Result, e.Resource, e.Detail = audit.OpLogPrune, "pruned", audit.Resource{Kind: "log", Reference: origin}, detail
			s, err := e.Seal()
			if err != nil {
				return err
			}
			return write(ctx, s)
		},
	}
}

func (m *memStore) archive(place retention.Place, before time.Time) *retention.Archive {
	m.t.Helper()
	a, err := retention.OpenArchive(m.t.Context(), place)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := a.Add(m.t.Context(), m, vaultLog, before, noon, m.verifiers())
	if err != nil || len(r.Report.Findings) > 0 {
		m.t.Fatalf("%+v, %v", r, err)
	}
	return a
}

// first is the first entry that is stored.
func (m *memStore) first() int64 { return m.logs[vaultLog].segments[0].First }

// intact verifies the log by itself and with the archive, and reads both as one.
func (m *memStore) intact(place retention.Place) {
	m.t.Helper()
	a, err := retention.OpenArchive(m.t.Context(), place)
	if err != nil {
		m.t.Fatal(err)
	}
	back, err := a.Restore(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	defer back.Close()
	for _, archive := range []audit.Archive{nil, back} {
		r, err := audit.Verify(m.t.Context(), m, audit.VerifyOptions{Verifiers: m.verifiers(), Archive: archive})
		if err != nil || !r.OK() || r.Logs[0].Pruned != m.first() {
			m.t.Errorf("archive %v: %+v, %v", archive != nil, r, err)
		}
	}
	next := int64(0)
	for n, err := range audit.Entries(m.t.Context(), retention.Joined{Source: m, Archive: back}, vaultLog, 0) {
		if err != nil || n.Seq != next {
			m.t.Fatalf("entry %d after %d: %v", n.Seq, next-1, err)
		}
		next++
	}
	if size := m.logs[vaultLog].tree.Size(); next != size {
		m.t.Errorf("%d entries of %d", next, size)
	}
}

func TestWhatIsArchivedIsPruned(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 3000), retention.Folder(filepath.Join(t.TempDir(), "a"))
	m.archive(place, hours(10))
	a := m.archive(place, hours(30))
	for _, c := range []struct {
		before   time.Time
		from, to int64
	}{
		{hours(10).Add(-time.Minute), 0, 0}, // no period is so old
		{hours(20), 0, 600},
		{hours(30), 600, 1800},
		{hours(30), 0, 0},
	} {
		r, err := a.Prune(t.Context(), m, vaultLog, m.options(c.before))
		if err != nil || r.From != c.from || r.To != c.to || len(r.Findings) > 0 || c.to > 0 && m.first() != c.to || len(r.Archive) != 64 && c.to > 0 {
			t.Errorf("before %s: %+v, %v; the log begins at %d", c.before, r, err, m.first())
		}
		m.intact(place)
	}
	fill(t, m.memLog, 600)
	a = m.archive(place, hours(55))
	if r, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(55))); err != nil || r.From != 1800 || r.To != 3300 {
		t.Errorf("later: %+v, %v", r, err)
	}
	m.intact(place)
}

// TestPruningThatEndsAnywhereLeavesAllReadable ends the process at each step, and has
// the next one go on.
func TestPruningThatEndsAnywhereLeavesAllReadable(t *testing.T) {
	t.Parallel()
	for _, killed := range []string{"record", "finish", "half"} {
		m, place := newMemStore(t, 1200), retention.Folder(filepath.Join(t.TempDir(), "a"))
		a := m.archive(place, hours(15))
		m.killed = killed
		if _, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); !errors.Is(err, errKilled) {
			t.Errorf("%s: %v", killed, err)
		}
		m.killed = ""
		m.intact(place)
		a = m.archive(place, hours(15))
		if _, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); err != nil || m.first() != 900 {
			t.Errorf("%s: the next time: %v; the log begins at %d", killed, err, m.first())
		}
		m.intact(place)
	}
}

func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(m *memStore, dir string, o *retention.PruneOptions)
		want   string // of the error, or of findings
	}{
		"an archive that was changed": {func(_ *memStore, dir string, _ *retention.PruneOptions) {
			files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
			edit(files[0], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "prune cardea/vault-1: " + "DIR/FILE: archive is not whole: it is not the file that was archived (SHA-256)"},
		"an archive that is gone": {func(_ *memStore, dir string, _ *retention.PruneOptions) {
			files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
			os.Remove(files[0])
		}, "archive is not whole: the file is missing"},
		"a log with other tiles": {func(m *memStore, _ string, _ *retention.PruneOptions) {
			m.logs[vaultLog].tiles[1].Data[5] ^= 1
		}, "the archive's entries are not those of the log: see 'cardea audit verify'"},
		"keys that are not trusted": {func(m *memStore, _ string, o *retention.PruneOptions) {
			o.Verifiers = newMemLog(t, vaultLog).verifiers()
		}, "findings: unknown_key"},
		"a delivery that cannot be asked": {func(m *memStore, _ string, o *retention.PruneOptions) {
			o.Undelivered = func(string) (int64, string, error) { return 0, "", errKilled }
		}, "prune cardea/vault-1: killed"},
	} {
		m, dir := newMemStore(t, 1200), filepath.Join(t.TempDir(), "a")
		file := m.archive(retention.Folder(dir), hours(15)).Periods()[0].File
		o := m.options(hours(15))
		c.change(m, dir, &o)
		a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Prune(t.Context(), m, vaultLog, o)
		got := fmt.Sprint(err)
		if len(r.Findings) > 0 {
			got = "findings: " + string(r.Findings[0].Kind)
		}
		want := strings.NewReplacer("DIR", dir, "FILE", file).Replace(c.want)
		if !strings.Contains(got, want) || r.To != 0 || m.first() != 0 || len(m.logs[vaultLog].prunings) != 0 {
			t.Errorf("%s: %+v, %s, want %s; the log begins at %d", name, r, got, want, m.first())
		}
	}
}

// TestManifestDoesNotMakeEntriesOlder: its times are believed only as far as entries
// have them.
func TestManifestDoesNotMakeEntriesOlder(t *testing.T) {
	t.Parallel()
	m, dir := newMemStore(t, 1200), filepath.Join(t.TempDir(), "a")
	p := m.archive(retention.Folder(dir), hours(15)).Periods()[0]
	last := p.Last.Format(time.RFC3339)
	if err := manifest(`"last": "`+last, `"last": "2001-01-01T00:00:00Z`)(dir); err != nil {
		t.Fatal(err)
	}
	a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(1))); err == nil || !strings.Contains(err.Error(), "which must stay: the archive's manifest says otherwise") || m.first() != 0 {
		t.Errorf("%v; the log begins at %d", err, m.first())
	}
}

func TestNothingUndeliveredIsPruned(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 1200), retention.Folder(filepath.Join(t.TempDir(), "a"))
	a := m.archive(place, hours(15))
	o := m.options(hours(15))
	for _, c := range []struct {
		next, to int64
		waits    string
	}{{0, 0, "siem"}, {100, 60, "siem"}, {899, 840, "siem"}, {900, 900, ""}} {
		o.Undelivered = func(string) (int64, string, error) { return c.next, "siem", nil }
		r, err := a.Prune(t.Context(), m, vaultLog, o)
		if err != nil || r.To != c.to || r.Waits != c.waits || m.first() != c.to {
			t.Errorf("delivered up to %d: %+v, %v; the log begins at %d", c.next, r, err, m.first())
		}
		m.intact(place)
	}
}

// overtaken is a store whose log another process prunes at the last moment.
type overtaken struct{ *memStore }

func (o overtaken) RecordPruning(ctx context.Context, p audit.Pruning, note []byte, e audit.Sealed) error {
	return errors.Join(o.memStore.RecordPruning(ctx, p, note, e), errors.New("these entries of the log must stay"))
}

func TestWhatAnotherProcessPrunesIsPruned(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 1200), retention.Folder(filepath.Join(t.TempDir(), "a"))
	a := m.archive(place, hours(15))
	if r, err := a.Prune(t.Context(), overtaken{m}, vaultLog, m.options(hours(15))); err != nil || r.To != 0 || m.first() != 900 {
		t.Errorf("%+v, %v; the log begins at %d", r, err, m.first())
	}
	m.intact(place)
}

// TestPrunedLogGoesOnInItsArchiveOnly: another archive would have a hole.
func TestPrunedLogGoesOnInItsArchiveOnly(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 1200), retention.Folder(filepath.Join(t.TempDir(), "a"))
	a := m.archive(place, hours(15))
	if _, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); err != nil {
		t.Fatal(err)
	}
	other, err := retention.OpenArchive(t.Context(), retention.Folder(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Add(t.Context(), m, vaultLog, hours(18), noon, m.verifiers())
	if !errors.Is(err, retention.ErrElsewhere) || !strings.Contains(err.Error(), "its entries 0 to 899 were pruned") {
		t.Error(err)
	}
}

// TestEntriesOfAPrunedLogAreProved: those that are left by the log alone, the others
// with the archive.
func TestEntriesOfAPrunedLogAreProved(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 1200), retention.Folder(filepath.Join(t.TempDir(), "a"))
	a := m.archive(place, hours(15))
	old, young := entry("vault-1", 17, noon).ID, entry("vault-1", 1100, noon).ID
	if _, err := a.Prune(t.Context(), m, vaultLog, m.options(hours(15))); err != nil {
		t.Fatal(err)
	}
	back, err := a.Restore(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if _, err := retention.Prove(t.Context(), m, []string{vaultLog}, old); !errors.Is(err, retention.ErrNoEntry) {
		t.Errorf("an entry that was pruned: %v", err)
	}
	for id, src := range map[string]audit.Source{young: m, old: retention.Joined{Source: m, Archive: back}} {
		p, err := retention.Prove(t.Context(), src, []string{vaultLog}, id)
		if err != nil {
			t.Fatal(err)
		}
		if e, _, err := p.Check(m.verifiers()...); err != nil || e.ID != id {
			t.Errorf("%s: %+v, %v", id, e, err)
		}
	}
}

// brokenSource fails when its prunings are read.
type brokenSource struct{ audit.Source }

func (brokenSource) Prunings(context.Context, string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(nil, errKilled) }
}

func TestJoinedTellsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	m, place := newMemStore(t, 600), retention.Folder(filepath.Join(t.TempDir(), "a"))
	a := m.archive(place, hours(5))
	m.logs[vaultLog].segments = m.logs[vaultLog].segments[2:]
	back, err := a.Restore(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for _, err := range audit.Entries(t.Context(), retention.Joined{Source: brokenSource{m}, Archive: back}, vaultLog, 0) {
		if !errors.Is(err, errKilled) {
			t.Error(err)
		}
	}
}

// TestJournalThatWasPrunedBeginsLater: days whose reviews may be in the archive are
// neither missing nor judged by halves.
func TestJournalThatWasPrunedBeginsLater(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, vaultLog, cliLog)
	day := func(d, h int) time.Time { return time.Date(2026, 3, d, h, 0, 0, 0, time.UTC) }
	note(t, m, day(2, 9), retention.OpReviewStart, "2026-03-01", "s")
	note(t, m, day(2, 10), retention.OpReviewClose, "2026-03-01", "nothing") // its beginning is pruned
	note(t, m, day(3, 9), retention.OpReviewStart, "2026-03-02", "s")
	note(t, m, day(3, 10), retention.OpReviewClose, "2026-03-02", "nothing")
	l := m.logs[cliLog]
	signed, err := l.signer.SignPruning(audit.Pruning{Origin: cliLog, To: 1, Archive: strings.Repeat("ab", 32), Last: day(2, 9), Time: noon})
	if err != nil {
		t.Fatal(err)
	}
	l.prunings, l.segments = [][]byte{signed}, l.segments[1:]
	j := readJournal(t, m)
	days := j.Days(day(1, 0), day(4, 1))
	if j.Problems != 0 || len(days) != 2 || days[0].Day != "2026-03-02" || days[0].Status != retention.DayReviewed || days[1].Status != retention.DayDue {
		t.Errorf("%d problems, %+v", j.Problems, days)
	}
	if err := j.MayStart("2026-03-01", day(4, 0)); !errors.Is(err, retention.ErrArchived) {
		t.Errorf("start: %v", err)
	}
	if err := j.MayClose("2026-03-01", "x"); !errors.Is(err, retention.ErrArchived) {
		t.Errorf("close: %v", err)
	}
}
