package collect

import (
	"context"
	"io"
	"sync"
	"time"

	"cardea/internal/cloudtrail"
)

// Source gives events in batches. It is for one goroutine, but Status may be
// called by others.
type Source interface {
	// Next gives the next batch. When there is nothing new for now it gives io.EOF;
	// called again later it looks again. Another error says that the source could
	// not be reached; it too may be gone the next time.
	Next(ctx context.Context) (Batch, error)
	// Status tells how reading goes (PCI DSS 10.7: a failure of logging is noticed).
	Status() Status
}

// Batch is events that were read together. It may have none: then there was
// something to read, but no events in it.
type Batch struct {
	Events   []cloudtrail.Event
	From     string    // for people: the file or message, and how many more
	Problems []Problem // parts that were skipped
	ack      func(context.Context) error
}

// Ack says that the events of this batch and of all before it were processed
// durably. When it returns they will not be given again.
func (b Batch) Ack(ctx context.Context) error {
	if b.ack == nil {
		return nil
	}
	return b.ack(ctx)
}

// WithAck is the batch with what Ack is to do.
func (b Batch) WithAck(ack func(context.Context) error) Batch {
	b.ack = ack
	return b
}

// Problem is a part of a file that is not an event.
type Problem struct {
	From string
	cloudtrail.Problem
}

// Status is how reading a source goes.
type Status struct {
	Source      string        `json:"source"`
	LastSuccess time.Time     `json:"last_success,omitzero"` // when the source was last looked at without error
	LastError   string        `json:"last_error,omitempty"`  // since then
	NewestEvent time.Time     `json:"newest_event,omitzero"`
	Lag         time.Duration `json:"lag"`     // age of the newest event; 0 before the first
	Backlog     int           `json:"backlog"` // files known and not yet read
	Events      int64         `json:"events"`
	Duplicates  int64         `json:"duplicates"` // events left out as they came before
	Skipped     int64         `json:"skipped"`    // parts that are no events
	Findings    []Finding     `json:"findings,omitempty"`
}

// Finding is a file or message that cannot be read, after several attempts.
type Finding struct {
	Name  string    `json:"name"`
	Error string    `json:"error"`
	Since time.Time `json:"since"`
}

// health keeps a Status.
type health struct {
	mu  sync.Mutex // guards s
	s   Status
	now func() time.Time
}

func (h *health) looked(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && err != io.EOF { //nolint:errorlint // Next gives it as it is
		h.s.LastError = err.Error()
		return
	}
	h.s.LastSuccess, h.s.LastError = h.now(), ""
}

func (h *health) gave(b *Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.s.Events += int64(len(b.Events))
	h.s.Skipped += int64(len(b.Problems))
	for i := range b.Events {
		if at := b.Events[i].Time; at.After(h.s.NewestEvent) {
			h.s.NewestEvent = at
		}
	}
}

func (h *health) set(f func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.s)
}

// Status implements Source.
func (h *health) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.s
	s.Findings = append([]Finding(nil), h.s.Findings...)
	if !s.NewestEvent.IsZero() {
		s.Lag = h.now().Sub(s.NewestEvent)
	}
	return s
}
