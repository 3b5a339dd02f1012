package siem

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cardea/internal/audit"
	"cardea/internal/disk"
)

// Defaults of a Receiver.
const (
	defaultBatchEntries = 500
	defaultBatchBytes   = 1 << 20
	defaultTimeout      = time.Minute
	defaultStallAfter   = 15 * time.Minute
)

// maxParked bounds the file of what a receiver does not take, in bytes. When it is
// full the delivery stops there rather than lose more.
const maxParked = 64 << 20

// drainTries is how often Drain tries a receiver before it gives up.
const drainTries = 3

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

// pass delivers one batch of each source; more reports whether there may be
// another at once. all delivers also what would linger.
func (p *pump) pass(ctx context.Context, all bool) (more bool, err error) {
	if err := p.start(ctx); err != nil {
		return false, err
	}
	more, errs := p.passSpool(ctx, all)
	origins, err := p.origins(ctx)
	errs = errors.Join(errs, err)
	for _, origin := range slices.Sorted(maps.Keys(origins)) {
		m, err := p.passLog(ctx, origins[origin], origin, all)
		more, errs = more || m, errors.Join(errs, err)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	p.mu.Lock()
	if errs == nil && !more && len(p.waiting) == 0 {
		p.pending, p.oldest = time.Time{}, time.Time{}
	}
	p.mu.Unlock()
	return more, errs
}

// start is the first pass of a new delivery, which may pass over what is there.
func (p *pump) start(ctx context.Context) error {
	if p.state.Started {
		return nil
	}
	if !p.r.FromNow {
		p.update(func(s *state) { s.Started = true })
		return nil
	}
	origins, err := p.origins(ctx)
	if err != nil {
		return err
	}
	logs := map[string]position{}
	for origin, src := range origins {
		head, err := src.Head(ctx, origin)
		if err != nil {
			return fmt.Errorf("read head of %s: %w", origin, err)
		}
		logs[origin] = position{Next: head.Size, Blind: head.Size > 0}
	}
	end, err := p.d.spool.end()
	if err != nil {
		return err
	}
	p.update(func(s *state) { s.Started, s.Logs, s.Spool = true, logs, end })
	return p.save()
}

// origins are the logs that the receiver gets.
func (p *pump) origins(ctx context.Context) (map[string]audit.Source, error) {
	all, err := p.d.origins(ctx)
	maps.DeleteFunc(all, func(origin string, _ audit.Source) bool { return !p.gets(origin) })
	return all, err
}

func (p *pump) gets(origin string) bool {
	return p.r.Origins == nil || slices.Contains(p.r.Origins, origin)
}

// passLog delivers a batch of a log.
func (p *pump) passLog(ctx context.Context, src audit.Source, origin string, all bool) (more bool, err error) {
	head, err := src.Head(ctx, origin)
	if err != nil {
		return false, fmt.Errorf("read head of %s: %w", origin, err)
	}
	at := p.state.Logs[origin]
	if head.Size < at.Next {
		p.d.raise(ctx, Finding{
			Check: CheckIntegrity, Subject: origin, Since: p.d.o.Now(),
			Message: fmt.Sprintf("%s has %d entries, but %d were delivered: it was cut off or rolled back", origin, head.Size, at.Next),
			Next:    "keep the database as it is, and see what 'cardea audit verify' finds",
		})
		return false, nil
	}
	if head.Size == at.Next {
		p.hold(ctx, origin, at, head)
		return false, nil
	}
	size := head.Size
	planned := p.state.Plan != nil && p.state.Plan.Source == origin && p.state.Plan.First == at.Next
	if planned {
		size = min(size, p.state.Plan.End)
	}
	c, err := readLog(ctx, src, origin, at.Next, size, p.r.Filter, p.r.BatchEntries, p.r.BatchBytes)
	if errors.Is(err, errCut) {
		p.d.raise(ctx, Finding{Check: CheckIntegrity, Subject: origin, Since: p.d.o.Now(), Message: err.Error(), Next: "keep the database as it is, and see what 'cardea audit verify' finds"})
		return false, nil // no reason for others to wait
	}
	if err != nil {
		return false, err
	}
	full := len(c.events) >= p.r.BatchEntries || c.end < size
	if len(c.events) > 0 && !planned && !full && !all && p.lingers(origin, c.events[0]) {
		return false, nil
	}
	delete(p.waiting, origin)
	if c.absent != "" {
		p.d.o.Logger.InfoContext(ctx, "delivery begins after the log's beginning", slog.String("delivery", p.r.Name), slog.String("what", c.absent))
	}
	for _, hole := range c.holes {
		p.d.raise(ctx, Finding{Check: CheckIntegrity, Subject: origin, Since: p.d.o.Now(), Message: hole, Next: "keep the database as it is, and see what 'cardea audit verify' finds"})
	}
	err = p.deliver(ctx, Batch{Origin: origin, First: at.Next, End: c.end, Events: c.events}, func(s *state, upTo int64) { s.Logs[origin] = at.advance(c, upTo) })
	return err == nil, err
}

// hold holds the tree of what was read against the log's head.
func (p *pump) hold(ctx context.Context, origin string, at position, head audit.Head) {
	if at.Blind || at.Next == 0 || edgeRoot(at.Edge) == head.Root {
		return
	}
	p.update(func(s *state) { s.Logs[origin] = position{Next: at.Next, Blind: true} }) // told once is enough
	p.d.raise(ctx, Finding{
		Check: CheckIntegrity, Subject: origin, Since: p.d.o.Now(),
		Message: fmt.Sprintf("the %d entries of %s that were delivered do not have the root of its head: some were changed", at.Next, origin),
		Next:    "keep the database as it is, and see what 'cardea audit verify' finds",
	})
}

// passSpool delivers a batch of alerts, findings and checkpoints.
func (p *pump) passSpool(ctx context.Context, all bool) (more bool, err error) {
	at := p.state.Spool
	until := int64(0)
	// The position of a spool in a plan is that in its file, whose number is in the
	// state; a plan of another file is no plan any more.
	planned := p.state.Plan != nil && p.state.Plan.Source == "" && p.state.Plan.First == at.Offset
	if planned {
		until = p.state.Plan.End
	}
	items, err := p.d.spool.read(at, p.r.BatchEntries, until)
	if err != nil || len(items) == 0 {
		return false, err
	}
	if file := items[0].next.File; file != at.File {
		at = spoolPosition{File: file}
		p.update(func(s *state) { s.Spool = at })
	}
	b := Batch{File: at.File, First: at.Offset, End: items[len(items)-1].next.Offset}
	upTo := make([]spoolPosition, 0, len(items))
	for _, item := range items {
		if item.ev == nil {
			p.d.raise(ctx, Finding{
				Check: CheckSpool, Subject: "spool", Since: p.d.o.Now(),
				Message: fmt.Sprintf("a line before byte %d of %s is no event and was passed over: a process ended while it wrote it, or it was changed", item.next.Offset, p.d.spool.path(item.next.File)),
				Next:    "look at the file; what a detection could not hand over it hands over again",
			})
			continue
		}
		if p.r.Filter.Match(item.ev) {
			b.Events = append(b.Events, item.ev)
			upTo = append(upTo, item.next)
		}
	}
	if len(b.Events) > 0 && !planned && !all && len(items) < p.r.BatchEntries && p.lingers("", b.Events[0]) {
		return false, nil
	}
	delete(p.waiting, "")
	err = p.deliver(ctx, b, func(s *state, to int64) {
		s.Spool = items[len(items)-1].next
		for _, pos := range upTo {
			if pos.Offset == to {
				s.Spool = pos
			}
		}
	})
	return err == nil, err
}

// lingers reports whether a batch is to wait for more.
func (p *pump) lingers(source string, first *Event) bool {
	if p.r.Linger <= 0 {
		return false
	}
	since, waits := p.waiting[source]
	if !waits {
		since = p.d.o.Now()
		p.waiting[source] = since
	}
	p.waits(first)
	return p.d.o.Now().Sub(since) < p.r.Linger
}

// waits notes that something is to be delivered.
func (p *pump) waits(first *Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending.IsZero() {
		p.pending = p.d.o.Now()
	}
	p.oldest = first.Time
}

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
