package siem

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"cardea/internal/disk"
)

// Defaults of a Receiver.
const (
	defaultBatchEntries = 500
	defaultBatchBytes   = 1 << 20
	defaultTimeout      = time.Minute
	defaultStallAfter   = 15 * time.Minute
)

// pump serves one receiver, on a goroutine of its own.
type pump struct {
	d    *Delivery
	r    Receiver
	lock *disk.Lock
	path string

	mu      sync.Mutex // guards the rest, which other goroutines look at
	state   state
	pending time.Time // since when something waits without success; zero if nothing does
	oldest  time.Time // time of the oldest event that waits
	source  time.Time // since when logs cannot be read
	lag     int64     // entries

	waiting map[string]time.Time // since when a batch lingers, by source; of the pump's goroutine
}

func openPump(d *Delivery, r Receiver) (*pump, error) {
	if !ValidName(r.Name) {
		return nil, fmt.Errorf("name %q: want 1 to 63 of a-z, 0-9 and hyphen", r.Name)
	}
	r.Filter = or(r.Filter, FilterAll)
	r.BatchEntries, r.BatchBytes = or(r.BatchEntries, defaultBatchEntries), or(r.BatchBytes, defaultBatchBytes)
	r.Timeout, r.StallAfter = or(r.Timeout, defaultTimeout), or(r.StallAfter, defaultStallAfter)
	p := &pump{d: d, r: r, path: filepath.Join(d.o.Dir, r.Name+".json"), waiting: map[string]time.Time{}}
	var err error
	p.lock, err = disk.TryLock(filepath.Join(d.o.Dir, r.Name+".lock"))
	if errors.Is(err, disk.ErrHeld) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	if p.state, err = readState(p.path); err != nil {
		return nil, errors.Join(err, p.lock.Release())
	}
	p.state.Name = r.Name
	if at := p.state.StalledAt; !at.IsZero() { // it was told, by an earlier process
		d.raised[CheckDelivery+"/"+r.Name] = Finding{Check: CheckDelivery, Subject: r.Name, Failing: true, Since: at}
	}
	return p, nil
}

func (p *pump) close() error {
	return errors.Join(p.r.Sink.Close(), p.lock.Release())
}

// run delivers until ctx ends.
func (p *pump) run(ctx context.Context) {
	tries := 0
	for ctx.Err() == nil {
		more, err := p.pass(ctx, false)
		wait := p.d.o.Poll
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = p.failed(ctx, err, tries)
			tries++
			if more { // of another source, which is not to wait for this one
				wait = min(wait, p.d.o.Poll)
			}
		case more:
			tries = 0
			continue
		default:
			tries = 0
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// drain delivers what is there.
func (p *pump) drain(ctx context.Context) error {
	for tries := 0; ; {
		more, err := p.pass(ctx, true)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wait := p.failed(ctx, err, tries)
			if tries++; tries == drainTries {
				return err
			}
			if err := pause(ctx, min(wait, 5*time.Second)); err != nil {
				return err
			}
		case !more:
			return nil
		default:
			tries = 0
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// failed keeps the error and says how long to wait: twice as long each time, less a
// random part, so that nodes do not come back all at once.
func (p *pump) failed(ctx context.Context, err error, tries int) time.Duration {
	wait := min(p.d.o.MaxBackoff, p.d.o.MinBackoff<<min(tries, 20))
	var b [8]byte
	rand.Read(b[:])
	wait -= time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(wait/2+1))
	if later, ok := errors.AsType[*RetryError](err); ok {
		wait = max(wait, min(later.After, time.Hour))
	}
	if tries == 0 {
		p.d.o.Logger.WarnContext(ctx, "delivery failed, it is tried again", slog.String("delivery", p.r.Name), slog.Any("error", err))
	}
	p.update(func(s *state) { s.Error, s.ErrorAt = cut(err.Error(), maxText), p.d.o.Now() })
	if err := p.save(); err != nil {
		p.d.o.Logger.WarnContext(ctx, "state of the delivery not kept", slog.String("delivery", p.r.Name), slog.Any("error", err))
	}
	return wait
}

func (p *pump) update(change func(s *state)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.state)
}

// save makes the state durable. Only the pump's goroutine changes positions.
func (p *pump) save() error {
	p.mu.Lock()
	s := p.state
	s.Logs = maps.Clone(s.Logs)
	p.mu.Unlock()
	return writeState(p.path, &s)
}

// look computes the lag and finds out whether the delivery stalls. It returns the
// file of the spool that it has come to.
func (p *pump) look(ctx context.Context, sizes map[string]int64, now time.Time) int64 {
	p.mu.Lock()
	p.lag = 0
	for origin, size := range sizes {
		if !p.gets(origin) {
			continue
		}
		p.lag += max(0, size-p.state.Logs[origin].Next)
	}
	since, file := p.pending, p.state.Spool.File

	stalls := !since.IsZero() && now.Sub(since) >= p.r.StallAfter+p.r.Linger
	if stalls && p.state.StalledAt.IsZero() {
		p.state.StalledAt = now
	}
	why := p.state.Error
	p.mu.Unlock()
	if stalls {
		if why == "" {
			why = "no answer"
		}
		p.d.raise(ctx, Finding{
			Check: CheckDelivery, Subject: p.r.Name, Since: since,
			Message: fmt.Sprintf("delivery %s stalls: nothing has arrived since %s: %s", p.r.Name, since.UTC().Format(time.RFC3339), why),
			Next:    "see whether the receiver runs and can be reached; nothing is lost, what waits is delivered when it can",
		})
	}
	return file
}

// sourceFailing notes since when logs cannot be read; the zero time ends it.
func (p *pump) sourceFailing(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.IsZero() || p.source.IsZero() {
		p.source = now
	}
	return p.source
}

// gauges are the values of the metrics.
func (p *pump) gauges(now time.Time) (lagSeconds, lagEntries, stalled float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.oldest.IsZero() {
		lagSeconds = max(0, now.Sub(p.oldest).Seconds())
	}
	if !p.state.StalledAt.IsZero() {
		stalled = 1
	}
	return lagSeconds, float64(p.lag), stalled
}
