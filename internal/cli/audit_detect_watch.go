package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
	"cardea/internal/detect"
)

type auditWatchCommand struct {
	detectFlags
	output
	State string        `type:"path" required:"" placeholder:"DIR" help:"Folder for what was learned and how far was read; made if it is not there. One per source."`
	Every time.Duration `default:"30s" placeholder:"DURATION" help:"How often the source is looked at (default 30s)."`
	Once  bool          `help:"Stop when there is nothing new, instead of waiting."`
}

// Help implements kong.HelpProvider.
func (auditWatchCommand) Help() string {
	return "Examples:\n  cardea audit watch --from s3://trail-bucket/AWSLogs --state /var/lib/cardea/detect --rules detection.toml --output json\n" +
		"  cardea audit watch --config cardea.toml --state /var/lib/cardea/detect --rules detection.toml\n\n" +
		"Alerts are printed as they come, one a line. They are printed before the place in the source is noted: after a crash some come twice, with the same id."
}

// trailLag is how much later than the clock CloudTrail's files are taken to be: so
// long after an event its absence says something.
const trailLag = 20 * time.Minute

// saveEvery is how often what was learned is written down.
const saveEvery = time.Minute

func (c auditWatchCommand) Run(ctx context.Context, p *Process) (err error) {
	if len(c.From) > 1 {
		return usageError{errors.New("--from: watch one place; run another watch, with its own --state, for the other")}
	}
	if c.Every <= 0 {
		return usageError{fmt.Errorf("--every: %v, expected more than 0", c.Every)}
	}
	o, err := c.options(p)
	if err != nil {
		return err
	}
	o.Now = p.Now
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return err
	}
	file := filepath.Join(c.State, "detection.state")
	d, err := detect.Load(file, o)
	if errors.Is(err, detect.ErrState) {
		return hinted(err, "move the file away to begin anew; baselines are then learned again")
	}
	if err != nil {
		return err
	}
	src, done, err := c.source(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	w := watcher{p: p, d: d, src: src, file: file, asJSON: c.Output == "json", saved: p.Now(), late: d.Stats().Late}
	if len(c.From) > 0 {
		w.lag = trailLag
	}
	for {
		err := w.round(ctx)
		if err != nil {
			return err
		}
		if c.Once {
			return w.save(ctx)
		}
		if err := p.sleep(ctx, c.Every); err != nil { // stopped: what was read is kept
			return errors.Join(err, w.save(context.WithoutCancel(ctx)))
		}
	}
}

// watched is a source, and how it is told that a batch was processed.
type watched struct {
	collect.Source
	ack func(collect.Batch, context.Context) error
}

// source opens what is watched.
func (c auditWatchCommand) source(ctx context.Context, p *Process) (watched, func() error, error) {
	o := collect.Options{State: filepath.Join(c.State, "source"), Now: p.Now}
	if len(c.From) == 0 {
		s, err := c.openGrowing(ctx, p)
		if err != nil {
			return watched{}, nil, err
		}
		return watched{s, s.acknowledge}, s.src.close, nil
	}
	seen, err := collect.OpenSeen(filepath.Join(c.State, "seen"), 0)
	if err != nil {
		return watched{}, nil, err
	}
	var s interface {
		collect.Source
		io.Closer
	}
	if rest, ok := strings.CutPrefix(c.From[0], "s3://"); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		s, err = collect.OpenBucket(ctx, collect.BucketOptions{Options: o, Bucket: bucket, Prefix: prefix})
	} else {
		s, err = collect.OpenFolder(c.From[0], o)
	}
	if err != nil {
		return watched{}, nil, errors.Join(fmt.Errorf("--from %s: %w", c.From[0], err), seen.Close())
	}
	return watched{collect.Unique(s, seen), collect.Batch.Ack}, func() error { return errors.Join(s.Close(), seen.Close()) }, nil
}

// watcher takes batches, prints alerts and notes how far it came.
type watcher struct {
	p      *Process
	d      *detect.Detector
	file   string
	asJSON bool
	saved  time.Time
	src    watched
	last   *collect.Batch // the latest not acknowledged
	said   string         // the last error of the source
	lag    time.Duration  // of the source
	late   uint64         // events of which it was said that they were late
}

// passed is what there is to tell because time passes.
func (w *watcher) passed() error {
	if s := w.d.Stats(); s.Late > w.late {
		fmt.Fprintf(w.p.Stderr, "%d events came later than engine.lateness allows and were seen by rules only; raise it if this goes on\n", s.Late-w.late)
		w.late = s.Late
	}
	return w.print(w.d.Advance(w.p.Now().Add(-w.lag)))
}

// round reads what there is.
func (w *watcher) round(ctx context.Context) error {
	for {
		b, err := w.src.Next(ctx)
		if errors.Is(err, io.EOF) {
			if err := w.passed(); err != nil {
				return err
			}
			if w.p.Now().Sub(w.saved) >= saveEvery {
				return w.save(ctx)
			}
			return nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), w.save(context.WithoutCancel(ctx)))
			}
			if w.said != err.Error() { // once: it is tried again all the time
				w.said = err.Error()
				fmt.Fprintln(w.p.Stderr, "cardea: the source cannot be read, trying again:", printable(err.Error()))
			}
			return w.passed() // silence is a finding too
		}
		w.said = ""
		for i := range b.Events {
			if err := w.print(w.d.Observe(&b.Events[i])); err != nil {
				return err
			}
		}
		w.last = &b
		if w.p.Now().Sub(w.saved) >= saveEvery {
			if err := w.save(ctx); err != nil {
				return err
			}
		}
	}
}

// save writes down what was learned and only then how far was read.
func (w *watcher) save(ctx context.Context) error {
	if err := w.d.Save(w.file); err != nil {
		return err
	}
	w.saved = w.p.Now()
	if w.last == nil {
		return nil
	}
	err := w.src.ack(*w.last, ctx)
	w.last = nil
	return err
}

func (w *watcher) print(alerts []detect.Alert) error {
	for i := range alerts {
		a := &alerts[i]
		if w.asJSON {
			b, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if _, err := w.p.Stdout.Write(append(b, '\n')); err != nil {
				return err
			}
			continue
		}
		ticket := ""
		if a.SuppressedBy != "" {
			ticket = " (suppressed by " + a.SuppressedBy + ")"
		}
		if _, err := fmt.Fprintf(w.p.Stdout, "%s %s %s: %s%s. %s\n", a.Time.UTC().Format(time.RFC3339), a.Severity, a.Rule, printable(a.Reason), printable(ticket), a.Next); err != nil {
			return err
		}
	}
	return nil
}

// growingLogs are our own logs as a source. The cursor is a file.
type growingLogs struct {
	src     *opened
	origins func(context.Context) ([]string, error)
	path    string
	next    map[string]int64
	now     func() time.Time
	status  collect.Status
}

func (c auditWatchCommand) openGrowing(ctx context.Context, p *Process) (*growingLogs, error) {
	src, err := c.open(ctx, p, "watch")
	if err != nil {
		return nil, err
	}
	g := &growingLogs{src: src, path: filepath.Join(c.State, "log.cursor"), next: map[string]int64{}, now: p.Now}
	g.origins = func(ctx context.Context) ([]string, error) { return c.origins(ctx, src) }
	b, err := os.ReadFile(g.path)
	if err == nil {
		err = json.Unmarshal(b, &g.next)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: %w", g.path, err), src.close())
	}
	return g, nil
}

// Next implements collect.Source.
func (g *growingLogs) Next(ctx context.Context) (collect.Batch, error) {
	var b collect.Batch
	origins, err := g.origins(ctx)
	if err != nil {
		return b, err
	}
	next := map[string]int64{}
	for _, origin := range origins {
		next[origin] = g.next[origin]
		for n, err := range audit.Entries(ctx, g.src, origin, g.next[origin]) {
			if err != nil && !errors.Is(err, audit.ErrMalformedEntry) && !errors.Is(err, audit.ErrMalformedSegment) {
				return b, err
			}
			next[origin] = n.Seq + 1
			if err != nil {
				g.status.Skipped++
				continue
			}
			if e, ok := cloudtrail.EventOf(&n.Entry); ok {
				b.Events = append(b.Events, e)
			}
			if len(b.Events) >= collect.DefaultBatch {
				break
			}
		}
	}
	g.status.LastSuccess = g.now()
	if len(b.Events) == 0 {
		return b, io.EOF
	}
	g.next = next
	return b, nil
}

// Status implements collect.Source.
func (g *growingLogs) Status() collect.Status { return g.status }

// acknowledge writes the cursor, in one step.
func (g *growingLogs) acknowledge(collect.Batch, context.Context) error {
	b, err := json.Marshal(g.next)
	if err != nil {
		return err
	}
	tmp := g.path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, g.path)
}
