package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
	"cardea/internal/config"
	"cardea/internal/detect"
	"cardea/internal/watch"
)

// TrailLag is how much later than the clock CloudTrail's events are taken to come:
// so long after an event its absence says something.
const TrailLag = 20 * time.Minute

// learnFrom is how much of a bucket's past is read the first time, to learn what is
// usual: a trail may have years.
const learnFrom = 28 * 24 * time.Hour

// Detection watches the node's own logs and CloudTrail's, each source on its own:
// what is learned of one says nothing of another.
type Detection struct {
	o       Options
	cfg     config.Detect
	rules   *detect.Rules
	alerts  *Alerts // nil: alerts are only logged
	alarm   watch.Alarm
	metrics prometheus.Registerer
	watched []*watched

	mu      sync.Mutex // guards waiting
	waiting string     // why an alert waits
}

// watched is a source and what watches it.
type watched struct {
	name  string
	lag   time.Duration
	quiet time.Duration // SilentAfter
	open  func(ctx context.Context, state string) ([]collect.SourceCloser, error)

	mu       sync.Mutex // guards what follows
	watcher  *watch.Watcher
	troubles []watch.Trouble // while there is no watcher
}

// ReadDetectionFiles reads the rules and the approved changes of a configuration.
// Changes are nil if it names no file of them.
func ReadDetectionFiles(cfg config.Detect) (*detect.Rules, *detect.Changes, error) {
	rules, err := readDetectionFile(cfg.RulesFile)
	if err != nil {
		return nil, nil, fmt.Errorf("detect.rules_file: %w", err)
	}
	r, err := detect.ParseRules(rules)
	if err != nil {
		return nil, nil, fmt.Errorf("detect.rules_file: %s: %w", cfg.RulesFile, err)
	}
	f := changesFile{path: cfg.ChangesFile}
	c, err := f.read()
	if err != nil {
		return nil, nil, fmt.Errorf("detect.changes_file: %w", err)
	}
	return r, c, nil
}

func readDetectionFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	return io.ReadAll(io.LimitReader(f, detect.MaxRulesFile+1))
}

// changesFile is a file of approved changes that is read again when it changes.
type changesFile struct {
	path string
	was  string // what tells versions of it apart
}

// read gives nil if there is nothing new.
func (f *changesFile) read() (*detect.Changes, error) {
	if f.path == "" {
		return nil, nil
	}
	st, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	is := fmt.Sprint(st.Size(), st.ModTime().UnixNano())
	if is == f.was {
		return nil, nil
	}
	b, err := readDetectionFile(f.path)
	if err != nil {
		return nil, err
	}
	c, err := detect.ParseChanges(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	f.was = is
	return c, nil
}

// ChangesFile gives a function for watch.Options.Changes.
func ChangesFile(path string) func() (*detect.Changes, error) {
	if path == "" {
		return nil
	}
	f := &changesFile{path: path}
	return f.read
}

// buildDetection builds what watches, if the configuration says so.
func (a *App) buildDetection(cfg config.Config, o Options) error {
	if !cfg.Detect.Enabled() {
		return nil
	}
	rules, _, err := ReadDetectionFiles(cfg.Detect)
	if err != nil {
		return err
	}
	d := &Detection{o: o, cfg: cfg.Detect, rules: rules, metrics: a.registry}
	if a.delivery != nil && len(cfg.Audit.Delivery) > 0 {
		d.alerts = &Alerts{Spool: a.delivery.pumps.Spool(), Sleep: sleep, Waiting: d.waits, Patient: true}
		d.alarm = siemAlarm{a.delivery.pumps}
	} else {
		a.log.Warn("detection has nobody to tell: there is no [[audit.delivery]], so alerts are in this log and in the metrics only")
	}
	if cfg.Detect.OwnLogs {
		for _, n := range a.nodes() {
			d.watched = append(d.watched, &watched{name: n.name, open: d.ownLog(n)})
		}
	}
	for _, s := range cfg.Detect.Source {
		d.watched = append(d.watched, &watched{name: s.Name, lag: TrailLag, quiet: s.SilentAfter.Duration, open: d.trail(s)})
	}
	for _, w := range d.watched {
		if err := a.registry.Register(w); err != nil {
			return fmt.Errorf("metrics of detection: %w", err)
		}
	}
	a.detection = d
	return nil
}

// ownLog opens the log of a part of this node, and that of its command line.
func (d *Detection) ownLog(n *Node) func(context.Context, string) ([]collect.SourceCloser, error) {
	return func(_ context.Context, state string) ([]collect.SourceCloser, error) {
		origin, err := audit.Origin(n.current().Node.Name)
		if err != nil {
			return nil, err
		}
		s, err := collect.OpenLogs(collect.LogsOptions{
			Options: collect.Options{State: filepath.Join(state, "source"), Now: d.o.Now}, Name: "audit log of " + origin, Source: n.store,
			Origins: func(ctx context.Context) ([]string, error) {
				all, err := n.store.Logs(ctx)
				var own []string
				for _, name := range all {
					if name == origin || name == origin+"-cli" {
						own = append(own, name)
					}
				}
				return own, err
			},
		})
		if err != nil {
			return nil, err
		}
		return []collect.SourceCloser{s}, nil
	}
}

// PlaceOf is where the records of a configured source are.
func PlaceOf(s config.DetectSource) collect.Place {
	return collect.Place{
		Kind: collect.Kind(s.Type), AWS: collect.AWS{Region: s.Region, Endpoint: s.Endpoint, Profile: s.Profile},
		Path: s.Path, Bucket: s.Bucket, Prefix: s.Prefix, Queue: s.Queue, Buckets: s.Buckets, EventSource: s.EventSource,
	}
}

// trail opens a source of CloudTrail's records, and its digests.
func (d *Detection) trail(s config.DetectSource) func(context.Context, string) ([]collect.SourceCloser, error) {
	return func(ctx context.Context, state string) ([]collect.SourceCloser, error) {
		var keys cloudtrail.Keys
		if s.PublicKeysFile != "" {
			set, err := cloudtrail.ReadKeys([]string{s.PublicKeysFile})
			if err != nil {
				return nil, err
			}
			keys = set
		}
		return OpenTrail(ctx, PlaceOf(s), collect.Options{State: state, Now: d.o.Now}, s.Digests, keys)
	}
}

// OpenTrail opens a place, and with digests also those, which AWS gives the keys
// of if keys is nil.
func OpenTrail(ctx context.Context, p collect.Place, o collect.Options, digests bool, keys cloudtrail.Keys) ([]collect.SourceCloser, error) {
	if p.Kind == collect.KindS3 && p.Since.IsZero() {
		p.Since = o.Now().Add(-learnFrom)
	}
	log, err := p.Open(ctx, o)
	if err != nil || !digests {
		return []collect.SourceCloser{log}, err
	}
	d, err := p.OpenDigests(ctx, o.State, keys, o.Now)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return []collect.SourceCloser{log, d}, nil
}

// CloseSources closes what OpenTrail opened.
func CloseSources(list []collect.SourceCloser) error {
	var err error
	for _, s := range list {
		err = errors.Join(err, s.Close())
	}
	return err
}

// Sources are what OpenTrail opened, as a watcher takes them.
func Sources(list []collect.SourceCloser) []collect.Source {
	var sources []collect.Source
	for _, s := range list {
		sources = append(sources, s)
	}
	return sources
}
