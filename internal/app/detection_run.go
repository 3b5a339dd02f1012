package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/collect"
	"cardea/internal/detect"
	"cardea/internal/disk"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/vault"
	"cardea/internal/watch"
)

// detectAgain is how long is waited after a source could not be opened.
const detectAgain = 30 * time.Second

// run watches one source until ctx ends. A vault does not go down with what watches
// it: whatever goes wrong is told, and tried again.
func (d *Detection) run(ctx context.Context, w *watched) {
	for ctx.Err() == nil {
		err := d.watch(ctx, w)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) {
				d.o.Logger.ErrorContext(ctx, "detection did not end in order; after the restart some alerts come again, with the same id", slog.String("source", w.name), slog.Any("error", err))
			}
			return
		}
		t := watch.Trouble{
			Subject: w.name, Since: d.o.Now(), Message: fmt.Sprintf("source %s cannot be watched: %v", w.name, err),
			Next: "see [detect] of the configuration; nothing is lost, what is there later is judged then",
		}
		w.set(nil, t)
		d.raise(ctx, t)
		if sleep(ctx, detectAgain) != nil {
			return
		}
	}
}

// ErrWatched says that another process has the folder of a detection's state.
var ErrWatched = errors.New("another process keeps what it learns there")

// LockDetection makes the folder of a detection's state and takes it for this process: two
// that write down there what they learned and how far they read would undo each other's.
// The error is an ErrWatched if another has it.
func LockDetection(state string) (*disk.Lock, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	lock, err := disk.TryLock(filepath.Join(state, ".lock"))
	if errors.Is(err, disk.ErrHeld) {
		err = fmt.Errorf("%s: %w", state, ErrWatched)
	}
	return lock, err
}

func (d *Detection) raise(ctx context.Context, t watch.Trouble) {
	if d.alarm != nil {
		d.alarm.Raise(ctx, t)
		return
	}
	d.o.Logger.ErrorContext(ctx, "detection is in trouble", slog.String("subject", t.Subject), slog.String("what", t.Message), slog.String("next", t.Next))
}

func (d *Detection) watch(ctx context.Context, w *watched) (err error) {
	state := filepath.Join(d.cfg.StateDir, w.name)
	lock, err := LockDetection(state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	sources, err := w.open(ctx, state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, CloseSources(sources)) }()
	o := watch.Options{
		Name: w.name, Sources: Sources(sources), State: filepath.Join(state, "detection.state"), Detect: detect.Options{Rules: d.rules},
		Hand: d.hand, Changes: ChangesFile(d.cfg.ChangesFile), Lag: w.lag, StallAfter: d.cfg.StallAfter.Duration, SilentAfter: w.quiet,
		Alarm: d.alarm, Now: d.o.Now, Logger: d.o.Logger,
	}
	watcher, err := watch.Open(o)
	if errors.Is(err, detect.ErrState) {
		// What was learned can be learned again; what happens meanwhile cannot be seen later.
		aside := o.State + ".unusable"
		d.raise(ctx, watch.Trouble{
			Subject: w.name + "/learned", Since: d.o.Now(), Message: fmt.Sprintf("%v; it was moved to %s, and baselines are learned anew", err, aside),
			Next: "see what became of the file, and look at the log yourself while baselines are young",
		})
		if err := os.Rename(o.State, aside); err != nil {
			return err
		}
		watcher, err = watch.Open(o)
	}
	if err != nil {
		return err
	}
	if w.set(watcher) && d.alarm != nil {
		d.alarm.Resolve(ctx, w.name, "source "+w.name+" is watched")
	}
	return watcher.Run(ctx, d.cfg.Interval.Duration, sleep)
}

// hand hands an alert to the deliveries, and to the log.
func (d *Detection) hand(ctx context.Context, a *detect.Alert) error {
	if d.alerts != nil {
		if err := d.alerts.Hand(ctx, a); err != nil {
			return err
		}
	}
	level := slog.LevelWarn
	if a.SuppressedBy != "" {
		level = slog.LevelInfo
	}
	d.o.Logger.Log(ctx, level, "detection", slog.String("alert", a.ID), slog.String("rule", a.Rule), slog.String("severity", a.Severity.String()),
		slog.String("reason", a.Reason), slog.String("suppressed_by", a.SuppressedBy))
	return nil
}

// waits keeps why an alert waits, for readiness: the receivers who would be told
// are those that do not take alerts.
func (d *Detection) waits(ctx context.Context, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.waiting
	if d.waiting = ""; err != nil {
		d.waiting = "alerts wait: " + err.Error()
	}
	if d.waiting != was && err != nil {
		d.o.Logger.ErrorContext(ctx, "alerts of detection find no room, and detection waits", slog.Any("error", err))
	}
}

// set says who watches, or why nobody does. It reports whether nobody did.
func (w *watched) set(watcher *watch.Watcher, troubles ...watch.Trouble) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := len(w.troubles) > 0
	w.watcher, w.troubles = watcher, troubles
	return before
}

// Describe implements prometheus.Collector: what it collects is the watcher's.
func (w *watched) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (w *watched) Collect(to chan<- prometheus.Metric) {
	w.mu.Lock()
	watcher, troubles := w.watcher, len(w.troubles)
	w.mu.Unlock()
	if watcher != nil {
		watcher.Collect(to)
		return
	}
	watch.CollectTroubles(to, w.name, troubles)
}

// status is that of the source, the zero Status while nobody watches it.
func (w *watched) status() collect.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watcher == nil {
		return collect.Status{}
	}
	return w.watcher.Status()
}

func (w *watched) messages() []string {
	w.mu.Lock()
	watcher, troubles := w.watcher, w.troubles
	w.mu.Unlock()
	if watcher != nil {
		troubles = watcher.Troubles()
	}
	var list []string
	for _, t := range troubles {
		list = append(list, t.Message)
	}
	return list
}

// detect watches until ctx ends, in goroutines of g. That logs are read, and what
// for, is itself an entry (PCI DSS 10.2.1.3): once, not for each reading.
func (a *App) detect(ctx context.Context, g *errgroup.Group) error {
	if a.detection == nil {
		return nil
	}
	if a.detection.cfg.OwnLogs {
		for _, n := range a.nodes() {
			if err := n.gate.Record(ctx, iam.System("detection"), vault.OpLogRead, vault.Target{}, "read", "detection"); err != nil {
				return fmt.Errorf("record the detection: %w", err)
			}
		}
	}
	for _, w := range a.detection.watched {
		g.Go(func() error { a.detection.run(ctx, w); return nil })
	}
	return nil
}

// detectionReadiness tells of detection in trouble, which like delivery is no
// reason to be unready.
func (a *App) detectionReadiness() []httpd.Check {
	if a.detection == nil {
		return nil
	}
	d := a.detection
	d.mu.Lock()
	waiting := d.waiting
	d.mu.Unlock()
	var troubles []string
	if waiting != "" {
		troubles = append(troubles, waiting)
	}
	for _, w := range d.watched {
		troubles = append(troubles, w.messages()...)
	}
	return []httpd.Check{{Name: "detection", State: httpd.Working, Detail: strings.Join(troubles, "; ")}}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
