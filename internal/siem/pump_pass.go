package siem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"cardea/internal/audit"
)

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
