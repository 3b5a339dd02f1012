package siem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
)

func TestDeliveryGoesOnWhereItWasLeft(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newMemLog(t, "node-1")
	log.add(t, 23)
	for _, more := range []int{0, 7, 300} {
		log.add(t, more)
		before, got := 0, &collector{}
		if s, err := ReadStatus(dir, "siem", nil); err == nil {
			before = int(s.Next[log.origin])
		}
		o, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "siem", Sink: got, BatchEntries: 10})
		d := mustOpen(t, o)
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		size := int(log.tree.Size())
		if ids := got.got(); len(ids) != size-before || len(ids) > 0 && ids[0] != entryID(log.origin, int64(before)) {
			t.Fatalf("after %d: got %d entries, want %d", before, len(ids), size-before)
		}
		s, err := ReadStatus(dir, "siem", map[string]int64{log.origin: int64(size) + 2})
		if err != nil || s.Next[log.origin] != int64(size) || s.Pending[log.origin] != 2 || s.Sent != int64(size) || !s.Unbroken {
			t.Errorf("status %+v, %v", s, err)
		}
	}
}

func TestSlowReceiverHoldsNobody(t *testing.T) {
	t.Parallel()
	log, quick := newMemLog(t, "node-1"), &collector{}
	log.add(t, 50)
	release := make(chan struct{})
	slow := sinkFunc(func(ctx context.Context, b Batch) (int, error) {
		select {
		case <-release:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		return len(b.Events), nil
	})
	o, c, text := options(t, t.TempDir(), []*memLog{log}, Receiver{Name: "slow", Sink: slow, Timeout: time.Hour}, Receiver{Name: "quick", Sink: quick})
	registry := prometheus.NewPedanticRegistry()
	o.Metrics = registry
	d := mustOpen(t, o)
	running(t, d)
	eventually(t, "the quick one has everything", func() bool { return len(quick.got()) == 50 })
	log.add(t, 50)
	eventually(t, "the quick one has what came later", func() bool { return len(quick.got()) == 100 })
	wantIDs(t, log.origin, 100, quick.got())

	// It has noted so too: else it would seem to wait for as long as the clock moves on now.
	eventually(t, "nothing waits for the quick one", func() bool { p := d.pumps[1]; p.mu.Lock(); defer p.mu.Unlock(); return p.pending.IsZero() })

	// An alarm of our own reaches the others (PCI DSS 10.7.2).
	c.add(20 * time.Minute)
	eventually(t, "the stall is told to the quick one", func() bool { return len(quick.findings()) == 1 })
	f := quick.findings()[0]
	if f.Check != CheckDelivery || f.Subject != "slow" || !f.Failing || !strings.Contains(f.Message, "delivery slow stalls: nothing has arrived since 2026-11-22T07:01:02Z: no answer") {
		t.Errorf("finding %+v", f)
	}
	if failing := d.Failing(); len(failing) != 1 || failing[0].Subject != "slow" {
		t.Errorf("failing: %+v", failing)
	}
	if !strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("the operator's log has no error: %s", text)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	stalled := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "cardea_delivery_stalled" {
			for _, m := range f.GetMetric() {
				stalled[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if len(stalled) != 2 || stalled["slow"] != 1 || stalled["quick"] != 0 {
		t.Errorf("metric stalled: %v", stalled)
	}
	lag, entries, _ := d.pumps[0].gauges(c.Now())
	if lag < 20*60 || entries != 100 {
		t.Errorf("lag %v s, %v entries", lag, entries)
	}
	close(release)
	eventually(t, "the end of the stall is told", func() bool { return len(quick.findings()) == 2 })
	if f := quick.findings()[1]; f.Failing || f.Message != "delivery slow works again" {
		t.Errorf("finding %+v", f)
	}
	if len(d.Failing()) != 0 {
		t.Errorf("failing: %+v", d.Failing())
	}
}

func TestReceiverThatComesBackGetsEverything(t *testing.T) {
	t.Parallel()
	log, got := newMemLog(t, "node-1"), &collector{err: errTest}
	log.add(t, 40)
	dir := t.TempDir()
	o, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "siem", Sink: got, BatchEntries: 7})
	running(t, mustOpen(t, o))
	eventually(t, "the error is kept", func() bool {
		s, err := ReadStatus(dir, "siem", nil)
		return err == nil && s.Error == errTest.Error()
	})
	got.fails(nil)
	eventually(t, "it has everything", func() bool { return len(got.got()) == 40 })
	wantIDs(t, log.origin, 40, got.got())
	eventually(t, "the error is gone", func() bool {
		s, err := ReadStatus(dir, "siem", nil)
		return err == nil && s.Error == ""
	})
}

func TestPartOfABatchThatArrivedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	log := newMemLog(t, "node-1")
	log.add(t, 10)
	var ids []string
	part := sinkFunc(func(_ context.Context, b Batch) (int, error) {
		ids = append(ids, b.Events[0].ID)
		if len(b.Events) == 1 {
			return 1, nil
		}
		return 1, errTest
	})
	o, _, _ := options(t, t.TempDir(), []*memLog{log}, Receiver{Name: "siem", Sink: part})
	d := mustOpen(t, o)
	defer d.Close()
	for range 5 { // it gives up after three errors
		if d.Drain(t.Context()) == nil {
			break
		}
	}
	wantIDs(t, log.origin, 10, ids)
}

func TestWhatAReceiverRefusesIsParkedAndTold(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newMemLog(t, "node-1")
	log.add(t, 20)
	var good []string
	picky := sinkFunc(func(_ context.Context, b Batch) (int, error) {
		for _, ev := range b.Events {
			if ev.ID == "cardea/node-1#7" || ev.ID == "cardea/node-1#13" {
				return 0, &RejectedError{"400 Bad Request: number"}
			}
		}
		for _, ev := range b.Events {
			good = append(good, ev.ID)
		}
		return len(b.Events), nil
	})
	other := &collector{}
	o, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "picky", Sink: picky, Filter: FilterAll}, Receiver{Name: "other", Sink: other})
	d := mustOpen(t, o)
	defer d.Close()
	for range 2 { // the finding is of the first
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	entries := slices.DeleteFunc(slices.Clone(good), func(id string) bool { return !strings.HasPrefix(id, "cardea/") })
	if len(entries) != 18 {
		t.Errorf("got %q", entries)
	}
	parked, err := os.ReadFile(filepath.Join(dir, "picky.parked.ndjson"))
	if err != nil || strings.Count(string(parked), "\n") != 2 || !strings.Contains(string(parked), `"id":"cardea/node-1#13"`) || !strings.Contains(string(parked), "number 13") {
		t.Errorf("parked %s, %v", parked, err)
	}
	if f := other.findings(); len(f) != 1 || f[0].Check != CheckRejected || !strings.Contains(f[0].Message, "the receiver refuses cardea/node-1#7 and maybe others: 400 Bad Request: number") {
		t.Errorf("findings %+v", f)
	}
	if s, err := ReadStatus(dir, "picky", nil); err != nil || s.Parked != 2 || s.Next[log.origin] != 20 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestDamageOfTheLogIsFoundAndTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage func(t *testing.T, m *memLog)
		want   string
		got    int // entries
	}{
		"an entry is changed": {func(_ *testing.T, m *memLog) {
			m.segments[3].Body = []byte(strings.Replace(string(m.segments[3].Body), "411111******1111", "411111******1119", 1))
		}, "the 40 entries of cardea/node-1 that were delivered do not have the root of its head: some were changed", 40},
		"a segment is missing": {func(_ *testing.T, m *memLog) { m.segments = slices.Delete(m.segments, 2, 4) }, "are missing", -1},
		"a line is no entry": {func(_ *testing.T, m *memLog) {
			m.segments[2].Body = []byte(strings.Replace(string(m.segments[2].Body), `"v":1`, `"v":9`, 1))
		}, "malformed audit entry", 39},
		"an entry of another node": {func(t *testing.T, m *memLog) {
			m.add(t, 1, func(_ int, e *audit.Entry) { e.Node = "node-2" })
		}, "entry 40 of cardea/node-1: it is of node node-2", 40},
		"a segment has too few lines": {func(_ *testing.T, m *memLog) { m.segments[2].Count++ }, "cannot be read: malformed audit segment", -1},
		"the end is missing":          {func(_ *testing.T, m *memLog) { m.segments = m.segments[:0] }, "those from 0 on cannot be found", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, got := newMemLog(t, "node-1"), &collector{}
			log.add(t, 40)
			tc.damage(t, log)
			o, _, text := options(t, t.TempDir(), []*memLog{log}, Receiver{Name: "siem", Sink: got, BatchEntries: 1000})
			d := mustOpen(t, o)
			defer d.Close()
			for range 2 {
				if err := d.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			found := false
			for _, f := range got.findings() {
				found = found || f.Check == CheckIntegrity && f.Failing && strings.Contains(f.Message, tc.want)
			}
			if !found {
				t.Errorf("findings %+v, want one with %q", got.findings(), tc.want)
			}
			if !strings.Contains(text.String(), "level=ERROR") {
				t.Error("the operator's log has no error")
			}
			entries := 0
			for _, id := range got.got() {
				if strings.HasPrefix(id, "cardea/") {
					entries++
				}
			}
			if tc.got >= 0 && entries != tc.got || tc.got < 0 && (entries < 30 || entries >= 40) {
				t.Errorf("%d entries were delivered", entries)
			}
		})
	}
}

func TestDamagedLogDoesNotHoldOthers(t *testing.T) {
	t.Parallel()
	bad, good, got := newMemLog(t, "node-1"), newMemLog(t, "node-2"), &collector{}
	bad.add(t, 40)
	bad.segments = nil
	good.add(t, 500)
	o, _, _ := options(t, t.TempDir(), []*memLog{bad, good}, Receiver{Name: "siem", Sink: got, BatchEntries: 10})
	d := mustOpen(t, o)
	defer d.Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, good.origin, 500, got.got())
	if f := d.Failing(); len(f) != 1 || f[0].Subject != bad.origin {
		t.Errorf("failing: %+v", f)
	}
}

func TestRollbackOfTheLogIsFound(t *testing.T) {
	t.Parallel()
	dir, log, got := t.TempDir(), newMemLog(t, "node-1"), &collector{}
	log.add(t, 20)
	o, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "siem", Sink: got})
	d := mustOpen(t, o)
	defer d.Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	older := newMemLog(t, "node-1")
	older.add(t, 12)
	log.segments, log.tree = older.segments, older.tree
	for range 2 {
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f := got.findings(); len(f) != 1 || f[0].Message != "cardea/node-1 has 12 entries, but 20 were delivered: it was cut off or rolled back" {
		t.Errorf("findings %+v", f)
	}
	if n := len(got.got()); n != 21 {
		t.Errorf("%d events", n)
	}
}

func TestLogThatCannotBeReadIsTold(t *testing.T) {
	t.Parallel()
	log, got := newMemLog(t, "node-1"), &collector{}
	log.add(t, 5)
	o, c, _ := options(t, t.TempDir(), []*memLog{log}, Receiver{Name: "siem", Sink: got})
	d := mustOpen(t, o)
	running(t, d)
	eventually(t, "all is there", func() bool { return len(got.got()) == 5 })
	log.fail(errors.New("disk on fire"))
	eventually(t, "it is noticed", func() bool { p := d.pumps[0]; p.mu.Lock(); defer p.mu.Unlock(); return !p.source.IsZero() })
	c.add(2 * time.Minute)
	eventually(t, "it is told", func() bool { return len(got.findings()) == 1 })
	if f := got.findings()[0]; f.Check != CheckSource || !strings.Contains(f.Message, "audit logs cannot be read: list audit logs: disk on fire") {
		t.Errorf("finding %+v", f)
	}
	log.fail(nil)
	log.add(t, 3)
	eventually(t, "it goes on", func() bool { return len(got.findings()) == 2 && len(got.got()) == 10 })
}

func TestNewReceiverMayPassOverWhatIsThere(t *testing.T) {
	t.Parallel()
	dir, one, two, got := t.TempDir(), newMemLog(t, "node-1"), newMemLog(t, "node-1-keys"), &collector{}
	one.add(t, 9)
	two.add(t, 4)
	for range 2 {
		o, _, _ := options(t, dir, []*memLog{one, two}, Receiver{Name: "siem", Sink: got, FromNow: true})
		d := mustOpen(t, o)
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		one.add(t, 1)
	}
	if ids := got.got(); len(ids) != 1 || ids[0] != "cardea/node-1#9" {
		t.Errorf("got %q", ids)
	}
}

func TestReceiverGetsOnlyItsLogs(t *testing.T) {
	t.Parallel()
	one, two, mine, all := newMemLog(t, "node-1"), newMemLog(t, "node-2"), &collector{}, &collector{}
	one.add(t, 9)
	two.add(t, 4)
	o, _, _ := options(t, t.TempDir(), []*memLog{one, two}, Receiver{Name: "mine", Sink: mine, Origins: []string{one.origin}}, Receiver{Name: "all", Sink: all})
	d := mustOpen(t, o)
	defer d.Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.look(t.Context())
	if n, m := len(mine.got()), len(all.got()); n != 9 || m != 13 {
		t.Errorf("%d and %d entries", n, m)
	}
	if _, lag, _ := d.pumps[0].gauges(testTime); lag != 0 {
		t.Errorf("%v entries wait", lag)
	}
}

func TestFilterMovesOnOverWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	dir, log, got := t.TempDir(), newMemLog(t, "node-1"), &collector{}
	log.add(t, 5000, func(i int, e *audit.Entry) {
		if i%1000 == 500 {
			e.Outcome = audit.Denied
		}
	})
	o, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "siem", Sink: got, Filter: FilterSecurity})
	d := mustOpen(t, o)
	defer d.Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids := got.got(); len(ids) != 5 || ids[4] != "cardea/node-1#4500" {
		t.Errorf("got %q", ids)
	}
	if s, err := ReadStatus(dir, "siem", nil); err != nil || s.Next[log.origin] != 5000 || !s.Unbroken {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestAlertsAreKeptUntilTheyAreDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	spool.file = 2000 // several files
	for i := range 40 {
		a := testAlert("")
		a.ID = fmt.Sprint("a-", i)
		if err := spool.Append(AlertEvent(a)); err != nil {
			t.Fatal(err)
		}
		if i == 20 { // an appender that was killed in the middle
			f, err := os.OpenFile(spool.path(lastFile(t, spool)), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(`{"kind":"alert","id":"half`); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	files, _, err := spool.files()
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	got := &collector{}
	o, _, _ := options(t, dir, nil, Receiver{Name: "siem", Sink: got, BatchEntries: 3, Filter: FilterAlerts})
	d := mustOpen(t, o)
	defer d.Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := slices.DeleteFunc(got.got(), func(id string) bool { return !strings.HasPrefix(id, "alert/") })
	if len(ids) != 40 || ids[0] != "alert/a-0" || ids[39] != "alert/a-39" {
		t.Errorf("got %q", ids)
	}
	if files, _, err := spool.files(); err != nil || len(files) != 1 {
		t.Errorf("%d files stay, %v", len(files), err)
	}
	if err := d.Drain(t.Context()); err != nil || len(got.got()) != 41 {
		t.Errorf("%d events, %v", len(got.got()), err)
	}
	if f := got.findings(); len(f) != 1 || f[0].Check != CheckSpool || !strings.Contains(f[0].Message, "is no event and was passed over") {
		t.Errorf("findings %+v", f)
	}
}

func lastFile(t *testing.T, s *Spool) int64 {
	t.Helper()
	files, _, err := s.files()
	if err != nil {
		t.Fatal(err)
	}
	return files[len(files)-1]
}

func TestSpoolRefuses(t *testing.T) {
	t.Parallel()
	spool, err := OpenSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	spool.max = 100
	if err := spool.Append(AlertEvent(testAlert(""))); !errors.Is(err, ErrSpoolFull) {
		t.Errorf("got %v", err)
	}
	if err := spool.Append(*entryEvent(t, testEntry())); err == nil || err.Error() != "spool: entries are delivered from their log" {
		t.Errorf("got %v", err)
	}
}

func TestManyAppendAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			spool, err := OpenSpool(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 10 {
				a := testAlert("")
				a.ID = fmt.Sprint(w, "-", i)
				if err := spool.Append(AlertEvent(a)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	spool, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	items, err := spool.read(spoolPosition{}, 100, 0)
	if err != nil || len(items) != 40 || slices.ContainsFunc(items, func(i spooled) bool { return i.ev == nil }) {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func TestTwoProcessesDoNotDeliverAtATime(t *testing.T) {
	t.Parallel()
	o, _, _ := options(t, t.TempDir(), nil, Receiver{Name: "siem", Sink: &collector{}})
	d := mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, ErrBusy) || err.Error() != "delivery siem: another process is delivering" {
		t.Errorf("got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, o)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStateThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{`:             "unexpected EOF; it says how far the delivery has come: restore it, or remove it to deliver everything again",
		`{"name":1}`:    "cannot unmarshal number",
		`{"unknown":1}`: `unknown field "unknown"`,
		`{"logs":{"cardea/a":{"next":3,"edge":[]}}}`: "the position in cardea/a makes no sense",
		`{"logs":{"cardea/a":{"next":-1}}}`:          "the position in cardea/a makes no sense",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "siem.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o, _, _ := options(t, dir, nil, Receiver{Name: "siem", Sink: &collector{}})
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	o, _, _ := options(t, t.TempDir(), nil, Receiver{Name: "../x", Sink: &collector{}})
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "want 1 to 63 of a-z, 0-9 and hyphen") {
		t.Errorf("got %v", err)
	}
}

// TestEdgeIsTheTree holds the short form of the tree against the tree of the log.
func TestEdgeIsTheTree(t *testing.T) {
	t.Parallel()
	tree, edge := audit.NewTree(), []hash(nil)
	for i := range int64(300) {
		if got := edgeRoot(edge); got != tree.Root() || len(edge) != edgeSize(i) {
			t.Fatalf("at %d: %d hashes, root %s, want %s", i, len(edge), got, tree.Root())
		}
		leaf := audit.LeafHash([]byte{byte(i)})
		edge = appendLeaf(edge, i, leaf)
		if err := tree.Append(leaf); err != nil {
			t.Fatal(err)
		}
	}
}
