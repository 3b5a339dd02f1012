package siem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
)

// Receiver is a sink and how it is served.
type Receiver struct {
	Name   string // of a-z, 0-9 and hyphen; names the files of its state
	Sink   Sink
	Filter Filter // default FilterAll

	Origins []string // the logs that it gets; nil for all of the delivery's

	BatchEntries int           // events in a batch; default 500
	BatchBytes   int           // lines in it, in bytes; default 1 MiB
	Linger       time.Duration // how long to wait for a batch to fill; default 0
	Timeout      time.Duration // of one batch; default 1 min
	StallAfter   time.Duration // without success while something waits; default 15 min
	FromNow      bool          // a new receiver gets what comes, not what is there
}

// Options are what Open needs.
type Options struct {
	Dir       string // of the state; made if need be
	Logs      []Log
	Receivers []Receiver
	Spool     *Spool // default: that of Dir
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // nil for none

	Poll                   time.Duration // between looks at logs; default 1 s
	MinBackoff, MaxBackoff time.Duration // between tries; default 1 s and 5 min
}

// Delivery carries events to receivers. Open makes it; Run or Drain uses it.
type Delivery struct {
	o     Options
	spool *Spool
	pumps []*pump

	mu     sync.Mutex         // guards the rest
	raised map[string]Finding // checks that fail, by check and subject
	told   map[string]bool    // messages about logs, each of which matters
}

// ErrBusy says that another process delivers to a receiver.
var ErrBusy = errors.New("another process is delivering")

var receiverName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidName reports whether a receiver may have the name.
func ValidName(name string) bool { return receiverName.MatchString(name) }

// Open takes up the deliveries where they were left. The caller closes it. The error
// is ErrBusy if another process has one of them.
func Open(o Options) (d *Delivery, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open delivery: %w", err)
	}
	o.Poll = or(o.Poll, time.Second)
	o.MinBackoff, o.MaxBackoff = or(o.MinBackoff, time.Second), or(o.MaxBackoff, 5*time.Minute)
	d = &Delivery{o: o, spool: o.Spool, raised: map[string]Finding{}, told: map[string]bool{}}
	if d.spool == nil {
		if d.spool, err = OpenSpool(o.Dir); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
			d = nil
		}
	}()
	for _, r := range o.Receivers {
		p, err := openPump(d, r)
		if err != nil {
			return d, fmt.Errorf("delivery %s: %w", r.Name, err)
		}
		d.pumps = append(d.pumps, p)
	}
	return d, d.register(o.Metrics)
}

func or[T comparable](v, def T) T {
	if v == *new(T) {
		return def
	}
	return v
}

// Spool is where events that are in no log are given to the delivery.
func (d *Delivery) Spool() *Spool { return d.spool }

// Run delivers until ctx ends.
func (d *Delivery) Run(ctx context.Context) {
	var g errgroup.Group
	for _, p := range d.pumps {
		g.Go(func() error { p.run(ctx); return nil })
	}
	g.Go(func() error { d.watch(ctx); return nil })
	_ = g.Wait()
}

// Drain delivers what is there and returns when it is all delivered, or when a
// receiver has failed three times in a row.
func (d *Delivery) Drain(ctx context.Context) error {
	errs := make([]error, len(d.pumps))
	var g errgroup.Group
	for i, p := range d.pumps {
		g.Go(func() error {
			if err := p.drain(ctx); err != nil {
				errs[i] = fmt.Errorf("delivery %s: %w", p.r.Name, err)
			}
			return nil
		})
	}
	_ = g.Wait()
	d.look(ctx)
	return errors.Join(errs...)
}

// Close closes the sinks and gives the deliveries up for other processes.
func (d *Delivery) Close() error {
	var errs error
	for _, p := range d.pumps {
		errs = errors.Join(errs, p.close())
	}
	return errs
}

// origins are the logs of all sources.
func (d *Delivery) origins(ctx context.Context) (map[string]audit.Source, error) {
	all := map[string]audit.Source{}
	for _, l := range d.o.Logs {
		names, err := l.Source.Logs(ctx)
		if err != nil {
			return all, fmt.Errorf("list audit logs: %w", err)
		}
		for _, name := range names {
			if l.Origins == nil || slices.Contains(l.Origins, name) {
				all[name] = l.Source
			}
		}
	}
	return all, nil
}

// maxTold bounds the messages about damaged logs: one that is damaged throughout
// must not fill the spool.
const maxTold = 1000

// raise tells of a check that fails, once until it is resolved: in the operator's
// log, and to all receivers.
func (d *Delivery) raise(ctx context.Context, f Finding) {
	f.Failing = true
	key := f.Check + "/" + f.Subject
	d.mu.Lock()
	_, known := d.raised[key]
	d.raised[key] = f
	if f.Check == CheckIntegrity && len(d.told) < maxTold {
		known = d.told[f.Message]
		d.told[f.Message] = true
	}
	d.mu.Unlock()
	if known {
		return
	}
	d.o.Logger.ErrorContext(ctx, "delivery of the audit log is in trouble", slog.String("check", f.Check),
		slog.String("subject", f.Subject), slog.String("what", f.Message), slog.String("next", f.Next))
	d.tell(ctx, f)
}

// resolve tells that a check works again, if it was told to fail.
func (d *Delivery) resolve(ctx context.Context, check, subject, message string) {
	key := check + "/" + subject
	d.mu.Lock()
	f, known := d.raised[key]
	delete(d.raised, key)
	d.mu.Unlock()
	if !known {
		return
	}
	f.Failing, f.Message, f.Next = false, message, ""
	d.o.Logger.InfoContext(ctx, "delivery of the audit log works again", slog.String("check", check), slog.String("subject", subject))
	d.tell(ctx, f)
}

func (d *Delivery) tell(ctx context.Context, f Finding) {
	if err := d.spool.Append(FindingEvent(f, d.o.Now())); err != nil {
		d.o.Logger.ErrorContext(ctx, "finding about the delivery finds no room", slog.Any("error", err))
	}
}

// Raise is for checks that others make, such as the publication of checkpoints.
func (d *Delivery) Raise(ctx context.Context, f Finding) { d.raise(ctx, f) }

// Resolve is the end of what Raise told.
func (d *Delivery) Resolve(ctx context.Context, check, subject, message string) {
	d.resolve(ctx, check, subject, message)
}

// Failing are the checks that fail now, for readiness.
func (d *Delivery) Failing() []Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Finding
	for _, f := range d.raised {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Finding) int { return strings.Compare(a.Check+a.Subject, b.Check+b.Subject) })
	return list
}

// watchEvery is how often lag and stalls are looked at.
const watchEvery = 5 * time.Second

// watch looks for deliveries that stall, whatever their pumps wait for.
func (d *Delivery) watch(ctx context.Context) {
	tick := time.NewTicker(min(watchEvery, max(d.o.Poll, 10*time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.look(ctx)
		}
	}
}

func (d *Delivery) look(ctx context.Context) {
	sizes := map[string]int64{}
	origins, err := d.origins(ctx)
	for name, src := range origins {
		head, herr := src.Head(ctx, name)
		if herr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, herr))
			continue
		}
		sizes[name] = head.Size
	}
	if ctx.Err() != nil {
		return
	}
	d.judgeSource(ctx, err)
	lowest := int64(-1)
	for _, p := range d.pumps {
		file := p.look(ctx, sizes, d.o.Now())
		if lowest < 0 || file < lowest {
			lowest = file
		}
	}
	if err := d.spool.prune(lowest); err != nil {
		d.o.Logger.WarnContext(ctx, "spool not cleaned up", slog.Any("error", err))
	}
}

// judgeSource raises the finding of a log that cannot be read. Databases fail for
// seconds when they switch over; a minute is not that.
func (d *Delivery) judgeSource(ctx context.Context, err error) {
	const subject, patience = "logs", time.Minute
	if err == nil {
		for _, p := range d.pumps {
			p.sourceFailing(time.Time{})
		}
		d.resolve(ctx, CheckSource, subject, "audit logs can be read again")
		return
	}
	for _, p := range d.pumps {
		if since := p.sourceFailing(d.o.Now()); d.o.Now().Sub(since) >= patience {
			d.raise(ctx, Finding{
				Check: CheckSource, Subject: subject, Since: since, Message: "audit logs cannot be read: " + err.Error(),
				Next: "see whether the database answers; nothing is lost, what is read later is delivered then",
			})
			return
		}
	}
}

// Status is how a delivery is.
type Status struct {
	Name     string           `json:"name"`
	Next     map[string]int64 `json:"next"`    // by origin: number of the first entry not delivered
	Pending  map[string]int64 `json:"pending"` // entries that are not
	Sent     int64            `json:"sent"`
	Parked   int64            `json:"parked"`
	SentAt   time.Time        `json:"sent_at,omitzero"`
	Error    string           `json:"error,omitempty"`
	ErrorAt  time.Time        `json:"error_at,omitzero"`
	Stalled  time.Time        `json:"stalled_at,omitzero"`
	Unbroken bool             `json:"held_against_tree"` // what was read was held against the heads of the logs
}

// ReadStatus reads how a delivery is from its file, beside the process that runs
// it. sizes are the sizes of logs, if known.
func ReadStatus(dir, name string, sizes map[string]int64) (Status, error) {
	if !ValidName(name) {
		return Status{}, fmt.Errorf("delivery %q: not a name", name)
	}
	s, err := readState(filepath.Join(dir, name+".json"))
	if err != nil {
		return Status{}, err
	}
	return s.status(name, sizes), nil
}

func (s *state) status(name string, sizes map[string]int64) Status {
	st := Status{
		Name: name, Next: map[string]int64{}, Pending: map[string]int64{}, Sent: s.Sent, Parked: s.Parked, SentAt: s.SentAt,
		Error: s.Error, ErrorAt: s.ErrorAt, Stalled: s.StalledAt, Unbroken: true,
	}
	for origin, p := range s.Logs {
		st.Next[origin] = p.Next
		st.Unbroken = st.Unbroken && !p.Blind
	}
	for origin, size := range sizes {
		st.Pending[origin] = max(0, size-s.Logs[origin].Next)
	}
	return st
}
