package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
)

// LogsOptions say which of our own audit logs are read.
type LogsOptions struct {
	Options
	Name   string // for people: "audit log of vault-1"
	Source audit.Source
	// Origins gives the logs, asked each time there is something to look for; nil is
	// all that Source has.
	Origins func(context.Context) ([]string, error)
}

// Logs is a source of the entries of our own audit logs, those of all logs in the
// order of time. It verifies nothing: 'cardea audit verify' does.
type Logs struct {
	health
	o    LogsOptions
	next map[string]int64 // by origin: the first that was not given

	mu     sync.Mutex // guards what follows
	number int
	given  []logsGiven
}

type logsGiven struct {
	number int
	next   map[string]int64
}

type logsCursor struct {
	Version int              `json:"v"`
	Next    map[string]int64 `json:"next"`
}

// OpenLogs opens audit logs as a source. The audit.Source stays the caller's.
func OpenLogs(o LogsOptions) (*Logs, error) {
	if o.Origins == nil {
		o.Origins = o.Source.Logs
	}
	if o.Batch <= 0 {
		o.Batch = DefaultBatch
	}
	if err := makeFolder(o.State); err != nil {
		return nil, err
	}
	l := &Logs{health: health{now: o.Now, s: Status{Source: o.Name}}, o: o, next: map[string]int64{}}
	c := logsCursor{Next: l.next}
	if err := loadJSON(l.path(), &c); err != nil {
		return nil, err
	}
	if c.Version > cursorVersion {
		return nil, fmt.Errorf("%s is of a newer release (version %d)", l.path(), c.Version)
	}
	l.next = c.Next
	return l, nil
}

func (l *Logs) path() string { return filepath.Join(l.o.State, "logs.json") }

// Close does nothing: there is nothing open between calls.
func (l *Logs) Close() error { return nil }

// Next implements Source.
func (l *Logs) Next(ctx context.Context) (Batch, error) {
	b, next, skipped, err := l.read(ctx)
	l.looked(err)
	if err != nil {
		return Batch{}, err
	}
	if len(b.Events) == 0 && maps.Equal(next, l.next) {
		return Batch{}, io.EOF
	}
	l.gave(&b)
	l.set(func(s *Status) { s.Skipped += int64(skipped) })
	l.next = next
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	number := l.number
	l.given = append(l.given, logsGiven{number, maps.Clone(next)})
	b.ack = func(context.Context) error { return l.acked(number) }
	return b, nil
}

func (l *Logs) read(ctx context.Context) (b Batch, next map[string]int64, skipped int, err error) {
	b.From = l.o.Name
	origins, err := l.o.Origins(ctx)
	if err != nil {
		return b, nil, 0, err
	}
	next, skipped, err = EachEntry(ctx, l.o.Source, origins, l.next, func(e *cloudtrail.Event) bool {
		b.Events = append(b.Events, *e)
		return len(b.Events) < l.o.Batch
	})
	return b, next, skipped, err
}

// acked makes durable how far the batches up to a number went.
func (l *Logs) acked(number int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.given) && l.given[n].number <= number {
		n++
	}
	if n == 0 {
		return nil
	}
	if err := saveJSON(l.path(), logsCursor{Version: cursorVersion, Next: l.given[n-1].next}); err != nil {
		return err
	}
	l.given = l.given[n:]
	return nil
}

// EachEntry gives see the events of audit logs, of each from the number in from
// on, in the order of time, until see reports false. It returns how far each log
// was read, and how much of what was read is no entry.
func EachEntry(ctx context.Context, src audit.Source, origins []string, from map[string]int64, see func(*cloudtrail.Event) bool) (next map[string]int64, skipped int, err error) {
	next = maps.Clone(from)
	if next == nil {
		next = map[string]int64{}
	}
	var heads []*logHead
	for _, origin := range origins {
		pull, stop := iter.Pull2(audit.Entries(ctx, src, origin, next[origin]))
		defer stop()
		h := &logHead{origin: origin, pull: pull, read: next[origin]}
		more, err := h.advance()
		if err != nil {
			return next, skipped, err
		}
		if more {
			heads = append(heads, h)
			continue
		}
		next[origin], skipped = h.read, skipped+h.skipped
	}
	for goOn := true; goOn && len(heads) > 0; {
		first := slices.MinFunc(heads, func(a, b *logHead) int { return a.event.Time.Compare(b.event.Time) })
		goOn = see(&first.event)
		next[first.origin], skipped, first.skipped = first.read, skipped+first.skipped, 0
		more, err := first.advance()
		if err != nil {
			return next, skipped, err
		}
		if !more {
			next[first.origin], skipped = first.read, skipped+first.skipped
			heads = slices.DeleteFunc(heads, func(h *logHead) bool { return h == first })
		}
	}
	return next, skipped, nil
}

// logHead is where reading of a log is: its next event.
type logHead struct {
	origin  string
	pull    func() (audit.Numbered, error, bool)
	event   cloudtrail.Event
	read    int64 // number after the event
	skipped int   // before it, since the event that was seen last
}

// advance goes to the next event. It reports false at the end.
func (h *logHead) advance() (bool, error) {
	for {
		n, err, ok := h.pull()
		switch {
		case !ok:
			return false, nil
		case errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment):
			h.read = max(h.read, n.Seq+1)
			h.skipped++
			continue
		case err != nil:
			return false, fmt.Errorf("%s: %w", h.origin, err)
		}
		h.read = n.Seq + 1
		e, ok := cloudtrail.EventOf(&n.Entry)
		if ok {
			h.event = e
			return true, nil
		}
	}
}
