package siem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"cardea/internal/audit"
	"cardea/internal/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memLog is an audit log in memory.
type memLog struct {
	mu       sync.Mutex
	origin   string
	tree     *audit.Tree
	segments []audit.Segment
	signer   *audit.Signer
	verifier string
	signed   [][]byte
	prunings [][]byte
	broken   error
}

func newMemLog(t testing.TB, node string) *memLog {
	t.Helper()
	origin, err := audit.Origin(node)
	if err != nil {
		t.Fatal(err)
	}
	key, verifier, err := audit.GenerateSigningKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return &memLog{origin: origin, tree: audit.NewTree(), signer: signer, verifier: verifier}
}

// add appends n entries in segments of a few, and signs the log.
func (m *memLog) add(t testing.TB, n int, change ...func(i int, e *audit.Entry)) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 0; i < n; {
		var sealed []audit.Sealed
		for ; len(sealed) < 1+i%5 && i < n; i++ {
			e := testEntry()
			e.ID, e.Node = uuid.Must(uuid.NewV7()).String(), strings.TrimPrefix(m.origin, "cardea/")
			e.Detail = fmt.Sprint("number ", m.tree.Size())
			for _, c := range change {
				c(i, &e)
			}
			s, err := e.Seal()
			if err != nil {
				t.Fatal(err)
			}
			sealed = append(sealed, s)
			if err := m.tree.Append(s.Hash); err != nil {
				t.Fatal(err)
			}
		}
		m.segments = append(m.segments, audit.Segment{First: m.tree.Size() - int64(len(sealed)), Count: len(sealed), Body: audit.EncodeSegment(sealed)})
	}
	m.sign(t)
}

func (m *memLog) sign(t testing.TB) {
	t.Helper()
	signed, err := m.signer.Sign(audit.Checkpoint{Size: m.tree.Size(), Root: m.tree.Root(), Time: testTime})
	if err != nil {
		t.Fatal(err)
	}
	m.signed = append(m.signed, signed)
}

func (m *memLog) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

func (m *memLog) Logs(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return []string{m.origin}, m.broken
}

func (m *memLog) Head(context.Context, string) (audit.Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return audit.Head{Size: m.tree.Size(), Root: m.tree.Root()}, m.broken
}

func (m *memLog) Segments(_ context.Context, _ string, from int64) iter.Seq2[audit.Segment, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	segments, broken := m.segments, m.broken
	return func(yield func(audit.Segment, error) bool) {
		for _, s := range segments {
			if s.First+int64(s.Count) > from && !yield(s, nil) {
				return
			}
		}
		if broken != nil {
			yield(audit.Segment{}, broken)
		}
	}
}

func (m *memLog) Tiles(context.Context, string) iter.Seq2[audit.Tile, error] {
	return func(func(audit.Tile, error) bool) {}
}

func (m *memLog) Prunings(context.Context, string) iter.Seq2[[]byte, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	prunings := m.prunings
	return func(yield func([]byte, error) bool) {
		for _, p := range prunings {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// prune removes the first segments and records it.
func (m *memLog) prune(t testing.TB, segments int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	to := m.tree.Size()
	if segments < len(m.segments) {
		to = m.segments[segments].First
	}
	signed, err := m.signer.SignPruning(audit.Pruning{Origin: m.origin, To: to, Archive: strings.Repeat("ab", 32), Last: testTime, Time: testTime})
	if err != nil {
		t.Fatal(err)
	}
	m.prunings, m.segments = append(m.prunings, signed), m.segments[segments:]
}

func (m *memLog) Checkpoints(context.Context, string) iter.Seq2[[]byte, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	signed := m.signed
	return func(yield func([]byte, error) bool) {
		for _, s := range signed {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// sinkFunc is a sink made of a function.
type sinkFunc func(ctx context.Context, b Batch) (int, error)

func (f sinkFunc) Send(ctx context.Context, b Batch) (int, error) { return f(ctx, b) }
func (f sinkFunc) Close() error                                   { return nil }

// collector is a sink that keeps ids.
type collector struct {
	mu     sync.Mutex
	ids    []string
	events []*Event
	err    error
}

func (c *collector) Send(_ context.Context, b Batch) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for _, ev := range b.Events {
		c.ids, c.events = append(c.ids, ev.ID), append(c.events, ev)
	}
	return len(b.Events), nil
}

func (c *collector) Close() error { return nil }

func (c *collector) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.ids...)
}

func (c *collector) findings() []Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Finding
	for _, ev := range c.events {
		if ev.Finding != nil {
			list = append(list, *ev.Finding)
		}
	}
	return list
}

func (c *collector) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// options are those of tests: quick, and with a clock that stands.
func options(t testing.TB, dir string, logs []*memLog, receivers ...Receiver) (Options, *clock, *testlog.Buffer) {
	t.Helper()
	c, l := &clock{now: testTime}, &testlog.Buffer{}
	o := Options{
		Dir: dir, Receivers: receivers, Now: c.Now, Logger: slog.New(slog.NewTextHandler(l, nil)),
		Poll: 2 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
	}
	for _, m := range logs {
		o.Logs = append(o.Logs, Log{Source: m})
	}
	return o, c, l
}

func mustOpen(t testing.TB, o Options) *Delivery {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// running runs a delivery until the test or the returned function ends it.
func running(t testing.TB, d *Delivery) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			<-done
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// wantIDs fails unless ids are those of the first n entries of a log, in order.
func wantIDs(t testing.TB, origin string, n int, ids []string) {
	t.Helper()
	i := 0
	for _, id := range ids {
		if !strings.HasPrefix(id, origin+"#") {
			continue
		}
		if id != entryID(origin, int64(i)) {
			t.Fatalf("event %d of %s is %s", i, origin, id)
		}
		i++
	}
	if i != n {
		t.Fatalf("got %d entries of %s, want %d", i, origin, n)
	}
}

var errTest = errors.New("receiver is on fire")
