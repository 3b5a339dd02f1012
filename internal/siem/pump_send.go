package siem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// maxParked bounds the file of what a receiver does not take, in bytes. When it is
// full the delivery stops there rather than lose more.
const maxParked = 64 << 20

// drainTries is how often Drain tries a receiver before it gives up.
const drainTries = 3

// deliver sends a batch and moves the position with each part that arrived. move
// sets the position to one that is the end of the batch, or behind an event.
func (p *pump) deliver(ctx context.Context, b Batch, move func(s *state, upTo int64)) error {
	if len(b.Events) > 0 {
		p.waits(b.Events[0])
		if _, ok := p.r.Sink.(Planned); ok {
			p.update(func(s *state) { s.Plan = &plan{Source: b.Origin, First: b.First, End: b.End} })
			if err := p.save(); err != nil {
				return err
			}
		}
		arrived := 0
		err := p.send(ctx, b, &arrived)
		if err != nil {
			if arrived > 0 && b.Origin != "" { // what arrived need not be sent again
				p.update(func(s *state) { move(s, b.Events[arrived-1].Seq+1); s.Plan = nil })
				p.succeeded(ctx, arrived)
				err = errors.Join(err, p.save())
			}
			return err
		}
	}
	p.update(func(s *state) { move(s, b.End); s.Plan = nil })
	if len(b.Events) > 0 {
		p.succeeded(ctx, len(b.Events))
	}
	return p.save()
}

func (p *pump) succeeded(ctx context.Context, n int) {
	now := p.d.o.Now()
	p.mu.Lock()
	p.state.Sent += int64(n)
	p.state.SentAt, p.state.Error, p.state.ErrorAt, p.state.StalledAt = now, "", time.Time{}, time.Time{}
	p.pending = now // if more waits, since now; pass clears it if not
	p.mu.Unlock()
	p.d.resolve(ctx, CheckDelivery, p.r.Name, "delivery "+p.r.Name+" works again")
}

// send sends events, those that the receiver refuses apart from the others. arrived
// counts those from the first on that it has or that were parked.
func (p *pump) send(ctx context.Context, b Batch, arrived *int) error {
	for len(b.Events) > 0 {
		sctx, cancel := context.WithTimeout(ctx, p.r.Timeout)
		n, err := p.r.Sink.Send(sctx, b)
		cancel()
		if err == nil {
			n = len(b.Events)
		}
		n = max(0, min(n, len(b.Events)))
		*arrived += n
		b.Events = b.Events[n:]
		if err == nil || len(b.Events) == 0 {
			return nil
		}
		rejected, ok := errors.AsType[*RejectedError](err)
		if !ok {
			return err
		}
		if len(b.Events) == 1 {
			if err := p.park(ctx, b.Events[0], rejected.Reason); err != nil {
				return err
			}
			*arrived++
			return nil
		}
		// One of them is at fault, or there are too many: halves tell.
		half, rest := b, b
		half.Events, rest.Events = b.Events[:len(b.Events)/2], b.Events[len(b.Events)/2:]
		half.Part, rest.Part = 2*max(b.Part, 1), 2*max(b.Part, 1)+1
		if err := p.send(ctx, half, arrived); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// park keeps an event that the receiver does not take, in a file, and tells of it.
func (p *pump) park(ctx context.Context, ev *Event, reason string) (err error) {
	line, err := json.Marshal(struct {
		At     time.Time `json:"at"`
		Reason string    `json:"reason"`
		ID     string    `json:"id"`
		Line   string    `json:"line,omitempty"`
		Event  *Event    `json:"event,omitempty"`
	}{p.d.o.Now(), cut(reason, maxText), ev.ID, string(ev.Line), ev})
	if err != nil {
		return err
	}
	path := filepath.Join(p.d.o.Dir, p.r.Name+".parked.ndjson")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() > maxParked {
		return fmt.Errorf("%s is full: see why the receiver refuses events, and move the file away", path)
	}
	if err := errors.Join(appendLine(f, append(line, '\n')), f.Sync()); err != nil {
		return err
	}
	p.update(func(s *state) { s.Parked++ })
	p.d.raise(ctx, Finding{
		Check: CheckRejected, Subject: p.r.Name, Since: p.d.o.Now(),
		Message: fmt.Sprintf("delivery %s: the receiver refuses %s and maybe others: %s", p.r.Name, ev.ID, reason),
		Next:    "see " + path + " for what it does not take, and set it right at the receiver",
	})
	return nil
}
