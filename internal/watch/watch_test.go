package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
	"cardea/internal/detect"
	"cardea/internal/watch"
)

var start = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// deletion is an event that is an alert at once.
func deletion(n int) cloudtrail.Event {
	return cloudtrail.Event{
		ID: fmt.Sprint("event-", n), Time: start.Add(time.Duration(n) * time.Second), Source: cloudtrail.SourceKMS, Name: "ScheduleKeyDeletion", Account: "111122223333",
		Principal: "arn:aws:iam::111122223333:role/ops", Keys: []string{fmt.Sprintf("arn:aws:kms:eu-central-1:111122223333:key/%d", n)},
	}
}

// fake is a source that gives its events in batches, from the first that was not
// acknowledged when it was opened.
type fake struct {
	events []cloudtrail.Event
	batch  int
	at     int
	acked  *int
	fail   error // of Next
	noAck  error
	status collect.Status
}

func (f *fake) Next(context.Context) (collect.Batch, error) {
	if f.fail != nil {
		return collect.Batch{}, f.fail
	}
	if f.at == len(f.events) {
		return collect.Batch{}, io.EOF
	}
	end := min(f.at+f.batch, len(f.events))
	b := collect.Batch{Events: f.events[f.at:end]}
	f.at = end
	return b.WithAck(func(context.Context) error {
		if f.noAck == nil {
			*f.acked = end
		}
		return f.noAck
	}), nil
}

func (f *fake) Status() collect.Status { return f.status }

// bench is a watcher with what it needs.
type bench struct {
	state  string
	now    time.Time
	source *fake
	alerts []string
	fail   error // of handing over
	told   []string
	acked  int
	o      watch.Options
}

func (b *bench) Raise(_ context.Context, t watch.Trouble) {
	b.told = append(b.told, "failing: "+t.Subject+": "+t.Message)
}

func (b *bench) Resolve(_ context.Context, subject, message string) {
	b.told = append(b.told, "working: "+subject+": "+message)
}

func newBench(t *testing.T, events int) *bench {
	t.Helper()
	b := &bench{state: filepath.Join(t.TempDir(), "state"), now: start.Add(time.Hour)}
	b.source = &fake{batch: 3, acked: &b.acked, status: collect.Status{LastSuccess: b.now, NewestEvent: b.now}}
	for n := range events {
		b.source.events = append(b.source.events, deletion(n))
	}
	return b
}

// open opens the watcher as a process that has just been started does.
func (b *bench) open(t *testing.T) *watch.Watcher {
	t.Helper()
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.source.at = b.acked
	o := b.o
	o.Name, o.Sources, o.State, o.Alarm = "trail", []collect.Source{b.source}, b.state, b
	o.Detect = detect.Options{Rules: rules}
	o.Now, o.Logger = func() time.Time { return b.now }, slog.New(slog.DiscardHandler)
	o.Hand = func(_ context.Context, a *detect.Alert) error {
		if b.fail != nil {
			return b.fail
		}
		b.alerts = append(b.alerts, a.ID)
		return nil
	}
	w, err := watch.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (b *bench) distinct() int {
	ids := slices.Clone(b.alerts)
	slices.Sort(ids)
	return len(slices.Compact(ids))
}

func round(t *testing.T, w *watch.Watcher) {
	t.Helper()
	if err := w.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsNotHandedOverComesAgain: an alert that cannot be handed over ends the
// watch, and nothing of what it was read from is noted.
func TestWhatIsNotHandedOverComesAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10)
	w := b.open(t)
	b.fail = errors.New("no space left on device")
	if err := w.Round(t.Context()); !errors.Is(err, b.fail) || !strings.HasPrefix(err.Error(), "hand over alert ") {
		t.Fatalf("got %v", err)
	}
	if b.acked != 0 {
		t.Errorf("%d events were acknowledged", b.acked)
	}
	b.fail = nil
	w = b.open(t)
	round(t, w)
	if b.acked != 0 || len(b.alerts) != 10 {
		t.Errorf("%d acknowledged before what was learned is written down, %d alerts", b.acked, len(b.alerts))
	}
	w = b.open(t) // killed after the alerts: they come again with the same ids
	round(t, w)
	if len(b.alerts) != 20 || b.distinct() != 10 {
		t.Errorf("%d alerts of %d ids", len(b.alerts), b.distinct())
	}
	if err := w.Save(t.Context()); err != nil || b.acked != 10 {
		t.Errorf("%d acknowledged, %v", b.acked, err)
	}
	w = b.open(t)
	round(t, w)
	if len(b.alerts) != 20 {
		t.Errorf("%d alerts after all was acknowledged", len(b.alerts))
	}
}

// TestNothingIsLearnedTwice: the process ends when what was learned is written down
// and the events are not acknowledged yet. They come again, and are known.
func TestNothingIsLearnedTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10)
	w := b.open(t)
	round(t, w)
	b.source.noAck = errors.New("killed")
	if err := w.Save(t.Context()); !errors.Is(err, b.source.noAck) {
		t.Fatalf("got %v", err)
	}
	b.source.noAck = nil
	b.source.events = append(b.source.events, deletion(10))
	w = b.open(t)
	round(t, w)
	if s := w.Stats(); s.Events != 11 || len(b.alerts) != 11 || b.distinct() != 11 {
		t.Errorf("%d events were learned, %d alerts of %d ids", s.Events, len(b.alerts), b.distinct())
	}
	if err := w.Save(t.Context()); err != nil || b.acked != 11 {
		t.Errorf("%d acknowledged, %v", b.acked, err)
	}
}

// TestStateThatCannotBeKeptIsTold: nothing is acknowledged until it can.
func TestStateThatCannotBeKeptIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.state = filepath.Join(t.TempDir(), "none", "state")
	w := b.open(t)
	for range 2 {
		b.now = b.now.Add(2 * time.Minute)
		b.source.status.LastSuccess = b.now
		round(t, w)
	}
	if len(b.told) != 1 || !strings.HasPrefix(b.told[0], "failing: trail/state: what was learned cannot be kept: save detection state: ") || b.acked != 0 {
		t.Errorf("told %q, %d acknowledged", b.told, b.acked)
	}
	if err := os.Mkdir(filepath.Dir(b.state), 0o700); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(2 * time.Minute)
	b.source.status.LastSuccess = b.now
	round(t, w)
	if len(b.told) != 2 || b.told[1] != "working: trail/state: what was learned is kept again" || b.acked != 4 {
		t.Errorf("told %q, %d acknowledged", b.told, b.acked)
	}
}

func TestSourceThatStallsIsToldOnceAndItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	b.o.SilentAfter = 2 * time.Hour
	w := b.open(t)
	pass := func(d time.Duration, want ...string) {
		t.Helper()
		b.now, b.told = b.now.Add(d), nil
		round(t, w)
		if !slices.Equal(b.told, want) {
			t.Errorf("told %q, want %q", b.told, want)
		}
	}
	pass(0)
	b.source.fail = errors.New("access denied")
	b.source.status.LastError = "access denied"
	pass(14 * time.Minute)
	pass(time.Minute, "failing: trail: source trail stalls: it has not been read since 2026-03-02T11:00:00Z: access denied")
	pass(time.Minute)
	if got := w.Troubles(); len(got) != 1 || got[0].Subject != "trail" || got[0].Next == "" || !got[0].Since.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	b.source.fail, b.source.status.LastSuccess = nil, b.now
	pass(0, "working: trail: source trail is read again")

	b.source.status.Findings = []collect.Finding{{Name: "a.gz", Error: "unexpected EOF", Since: start}, {Name: "b.gz"}}
	pass(time.Minute, "failing: trail/files: a.gz of trail cannot be read: unexpected EOF (and 1 more)")
	b.source.status.Findings = nil
	pass(time.Minute, "working: trail/files: all files of trail can be read")

	b.source.status.LastSuccess = b.now.Add(3 * time.Hour)
	pass(2*time.Hour, "failing: trail/silence: source trail has given no event since 2026-03-02T11:00:00Z")
	b.source.status.NewestEvent = b.now
	pass(time.Minute, "working: trail/silence: source trail gives events again")
}

// TestSourceThatNeverAnsweredStalls counts from when watching began.
func TestSourceThatNeverAnsweredStalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	b.source.fail, b.source.status = errors.New("no such bucket"), collect.Status{LastError: "no such bucket"}
	w := b.open(t)
	round(t, w)
	b.now = b.now.Add(15 * time.Minute)
	round(t, w)
	if len(b.told) != 1 || !strings.HasSuffix(b.told[0], "since 2026-03-02T11:00:00Z: no such bucket") {
		t.Errorf("told %q", b.told)
	}
}

func TestChangesAreTakenUpWhileWatching(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	var changes *detect.Changes
	var bad error
	b.o.Changes = func() (*detect.Changes, error) { return changes, bad }
	w := b.open(t)
	b.source.events = b.source.events[:1]
	round(t, w)
	bad = errors.New("line 3: no such setting")
	round(t, w)
	round(t, w)
	if len(b.told) != 1 || !strings.HasPrefix(b.told[0], "failing: trail/changes: the file of approved changes cannot be taken up, those before stay: line 3") {
		t.Errorf("told %q", b.told)
	}
	bad = nil
	var err error
	if changes, err = detect.ParseChanges([]byte("[[change]]\nticket = \"CHG-1\"\napproved_by = \"a\"\nrules = [\"R1\"]\nprincipals = [\"*\"]\nfrom = 2026-03-02T00:00:00Z\nuntil = 2026-03-03T00:00:00Z\n")); err != nil {
		t.Fatal(err)
	}
	b.source.events = append(b.source.events, deletion(1))
	round(t, w)
	if s := w.Stats(); s.Alerts != 1 || s.Suppressed != 1 || len(b.told) != 2 {
		t.Errorf("%+v, told %q", s, b.told)
	}
	r := prometheus.NewRegistry()
	if err := r.Register(w); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"cardea_detection_alerts_total R1 trail false": 1, "cardea_detection_alerts_total R1 trail true": 1,
		"cardea_detection_events_total trail": 2, "cardea_detection_troubles trail": 0, "cardea_detection_late_events_total trail": 1,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s is %v, want %v; all: %v", name, v, want, got)
		}
	}
}

func TestRunKeepsWhatItReadWhenStopped(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5)
	w := b.open(t)
	ctx, stop := context.WithCancel(t.Context())
	err := w.Run(ctx, time.Minute, func(ctx context.Context, _ time.Duration) error { stop(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) || b.acked != 5 || len(b.alerts) != 5 {
		t.Errorf("%v, %d acknowledged, %d alerts", err, b.acked, len(b.alerts))
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	if err := os.WriteFile(b.state, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := detect.ParseRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = watch.Open(watch.Options{State: b.state, Detect: detect.Options{Rules: rules}, Now: func() time.Time { return start }})
	if !errors.Is(err, detect.ErrState) {
		t.Errorf("got %v", err)
	}
}
