package watch

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
	"cardea/internal/detect"
)

// Options are what Open needs. Name, Sources, Detect, State, Hand, Now and Logger
// are required.
type Options struct {
	Name string // of the source, in metrics and troubles
	// Sources are read in turn. The first is the log that is watched; others tell
	// about it, as collect.Digests does.
	Sources []collect.Source
	Detect  detect.Options
	State   string // file of what was learned; its folder must be there
	// Hand takes an alert. When it returns without error the alert survives the
	// process. Another alert with the same id is the same one.
	Hand func(context.Context, *detect.Alert) error
	// Changes, if set, gives the approved changes; it is asked before each round and
	// may give nil for no change of them.
	Changes func() (*detect.Changes, error)

	Lag         time.Duration // how much later than the clock events are taken to come
	StallAfter  time.Duration // without having read the source; default 15 min
	SilentAfter time.Duration // without a new event; 0: that is left to rule B9
	SaveEvery   time.Duration // between writing down what was learned; default 1 min
	Alarm       Alarm         // nil: troubles are only logged

	Now    func() time.Time
	Logger *slog.Logger
}

// Defaults of Options.
const (
	defaultStallAfter = 15 * time.Minute
	defaultSaveEvery  = time.Minute
)

// saveEvents is how many events may come until what was learned is written down: it
// bounds what is remembered of them, 8 bytes each.
const saveEvents = 1_000_000

// Watcher watches. It is for one goroutine, but Status and the metrics are for any.
type Watcher struct {
	o       Options
	d       *detect.Detector
	last    []*collect.Batch // by source: the latest that was not acknowledged
	since   []byte           // marks of the events since then
	learned map[uint64]struct{}
	saved   time.Time
	begun   time.Time
	late    uint64
	said    string // the latest error of a source

	mu       sync.Mutex // guards what follows
	stats    detect.Stats
	told     map[alertKind]int64
	troubles map[string]Trouble
}

type alertKind struct {
	rule       string
	suppressed bool
}

// Open takes the detection up where it was left. The error is detect.ErrState if
// what was learned cannot be used.
func Open(o Options) (*Watcher, error) {
	if o.StallAfter <= 0 {
		o.StallAfter = defaultStallAfter
	}
	if o.SaveEvery <= 0 {
		o.SaveEvery = defaultSaveEvery
	}
	o.Detect.Now = o.Now
	d, err := detect.Load(o.State, o.Detect)
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		o: o, d: d, last: make([]*collect.Batch, len(o.Sources)), learned: map[uint64]struct{}{}, saved: o.Now(), begun: o.Now(),
		late: d.Stats().Late, stats: d.Stats(), told: map[alertKind]int64{}, troubles: map[string]Trouble{},
	}
	for note := d.Note(); len(note) >= markSize; note = note[markSize:] {
		w.learned[binary.LittleEndian.Uint64(note)] = struct{}{}
	}
	return w, nil
}

// markSize is that of an event in the note that is saved with what was learned.
const markSize = 8

func mark(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.LittleEndian.Uint64(sum[:])
}

// Round reads what there is and judges it. What goes wrong with a source, or when
// what was learned is written down, is a Trouble, and tried again; Round errs only
// if ctx ends or an alert cannot be handed over. After the latter the Watcher is of
// no use any more: another one begins where the last Save was.
func (w *Watcher) Round(ctx context.Context) error {
	w.takeChanges(ctx)
	for i := range w.o.Sources {
		if err := w.read(ctx, i); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, w.Save(context.WithoutCancel(ctx)))
	}
	if err := w.passed(ctx); err != nil {
		return err
	}
	w.look(ctx)
	if w.o.Now().Sub(w.saved) >= w.o.SaveEvery {
		w.trySave(ctx)
	}
	return nil
}

// trySave saves, or tells that it cannot: then it is tried again, and meanwhile
// nothing is acknowledged.
func (w *Watcher) trySave(ctx context.Context) {
	subject := w.o.Name + "/state"
	if err := w.Save(ctx); err != nil {
		w.raise(ctx, Trouble{
			Subject: subject, Message: "what was learned cannot be kept: " + err.Error(),
			Next: "see whether the disk is full; nothing is lost, after a restart events since then are judged again",
		})
		return
	}
	w.resolve(ctx, subject, "what was learned is kept again")
}

// read reads one source until it has nothing new.
func (w *Watcher) read(ctx context.Context, source int) error {
	for ctx.Err() == nil {
		b, err := w.o.Sources[source].Next(ctx)
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if w.said != err.Error() { // once: it is tried again all the time
				w.said = err.Error()
				w.o.Logger.WarnContext(ctx, "a source of detection cannot be read, it is tried again", slog.String("source", w.o.Name), slog.Any("error", err))
			}
			return nil
		}
		w.said = ""
		if err := w.judge(ctx, source, &b); err != nil {
			return err
		}
		if w.o.Now().Sub(w.saved) >= w.o.SaveEvery || len(w.since) >= saveEvents*markSize {
			w.trySave(ctx)
		}
		if len(w.since) >= saveEvents*markSize {
			return nil // it cannot be written down: what is not read waits where it is
		}
	}
	return nil
}

// judge gives the events of a batch to the detector.
func (w *Watcher) judge(ctx context.Context, source int, b *collect.Batch) error {
	for i := range b.Events {
		e := &b.Events[i]
		if w.known(e) {
			continue
		}
		if err := w.hand(ctx, w.d.Observe(e)); err != nil {
			return err
		}
	}
	w.last[source] = b
	w.note()
	return nil
}

// known reports whether what was learned has the event in it already, because the
// process ended between writing that down and acknowledging.
func (w *Watcher) known(e *cloudtrail.Event) bool {
	m := mark(e.ID)
	w.since = binary.LittleEndian.AppendUint64(w.since, m)
	_, learned := w.learned[m]
	return learned
}

// passed is what there is to tell because time passes.
func (w *Watcher) passed(ctx context.Context) error {
	if s := w.d.Stats(); s.Late > w.late {
		w.o.Logger.WarnContext(ctx, "events came later than engine.lateness allows and were seen by rules only; raise it if this goes on",
			slog.String("source", w.o.Name), slog.Uint64("events", s.Late-w.late))
		w.late = s.Late
	}
	err := w.hand(ctx, w.d.Advance(w.o.Now().Add(-w.o.Lag)))
	w.note()
	return err
}

func (w *Watcher) hand(ctx context.Context, alerts []detect.Alert) error {
	for i := range alerts {
		a := &alerts[i]
		if err := w.o.Hand(ctx, a); err != nil {
			return fmt.Errorf("hand over alert %s: %w", a.ID, err)
		}
		w.mu.Lock()
		w.told[alertKind{a.Rule, a.SuppressedBy != ""}]++
		w.mu.Unlock()
	}
	return nil
}

func (w *Watcher) takeChanges(ctx context.Context) {
	if w.o.Changes == nil {
		return
	}
	c, err := w.o.Changes()
	if err != nil {
		w.raise(ctx, Trouble{
			Subject: w.o.Name + "/changes", Message: "the file of approved changes cannot be taken up, those before stay: " + err.Error(),
			Next: "set it right; 'cardea audit detect --changes' tells what is wrong with it",
		})
		return
	}
	w.resolve(ctx, w.o.Name+"/changes", "the approved changes were taken up")
	if c != nil {
		w.d.SetChanges(c)
	}
}

// Save writes down what was learned and only then how far was read. It is to be
// called before the process ends in order.
func (w *Watcher) Save(ctx context.Context) error {
	w.d.SetNote(w.since)
	if err := w.d.Save(w.o.State); err != nil {
		return err
	}
	w.saved = w.o.Now()
	for i, b := range w.last {
		if b == nil {
			continue
		}
		if err := b.Ack(ctx); err != nil {
			return fmt.Errorf("note how far %s was read: %w", w.o.Name, err)
		}
		w.last[i] = nil
	}
	w.since, w.learned = w.since[:0], map[uint64]struct{}{}
	return nil
}

// Run watches until ctx ends, and gives its error, or that of Round.
func (w *Watcher) Run(ctx context.Context, every time.Duration, sleep func(context.Context, time.Duration) error) error {
	for {
		if err := w.Round(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, every); err != nil { // stopped: what was read is kept
			return errors.Join(err, w.Save(context.WithoutCancel(ctx)))
		}
	}
}

// Stats are those of the detector.
func (w *Watcher) Stats() detect.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// note keeps the counts for other goroutines.
func (w *Watcher) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats = w.d.Stats()
}
