package siem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/audit"
	"cardea/internal/disk"
	"cardea/internal/notekey"
	"cardea/internal/secret"
)

// Published is a signed checkpoint on its way out.
type Published struct {
	audit.Checkpoint
	Signed []byte
}

// Name is where a folder or bucket keeps it: by log, and by size so that names are
// in order and the same checkpoint has one name.
func (p Published) Name() string { return fmt.Sprintf("%s/%020d.checkpoint", p.Origin, p.Size) }

// Target is where checkpoints are published. Publishing the same one again does
// nothing. One goroutine uses it at a time.
type Target interface {
	Publish(ctx context.Context, p Published) error
}

// Folder publishes into a folder, which should be on another machine's disk or on
// one that can be written once: whoever can change the log must not be able to
// change what it is held against.
type Folder struct{ Dir string }

// ErrForked says that another checkpoint of the same size was published before.
var ErrForked = errors.New("another checkpoint of the same size was published before: the log was replaced")

// Publish implements Target.
func (f Folder) Publish(_ context.Context, p Published) error {
	path := filepath.Join(f.Dir, filepath.FromSlash(p.Name()))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // checkpoints are public
		return err
	}
	there, err := os.ReadFile(path)
	if err == nil {
		if !sameCheckpoint(there, p.Signed) {
			return fmt.Errorf("%s: %w", path, ErrForked)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeFile(path, p.Signed, 0o644); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// sameCheckpoint reports whether two notes say the same of size and root, the first
// three lines. When each was signed may differ.
func sameCheckpoint(a, b []byte) bool {
	head := func(note []byte) []byte {
		for i, lines := 0, 0; i < len(note); i++ {
			if note[i] == '\n' {
				if lines++; lines == 3 {
					return note[:i]
				}
			}
		}
		return nil
	}
	x := head(a)
	return x != nil && bytes.Equal(x, head(b))
}

// Witness posts checkpoints to somebody who keeps them.
type Witness struct {
	URL    string
	Key    secret.Bytes // as of a webhook
	Now    func() time.Time
	client *http.Client
}

// NewWitness returns the target.
func NewWitness(o WebhookOptions) *Witness {
	return &Witness{URL: o.URL, Key: o.Key, Now: o.Now, client: newClient(o.TLS)}
}

// Publish implements Target.
func (w *Witness) Publish(ctx context.Context, p Published) error {
	return post(ctx, w.client, w.URL, "text/plain; charset=utf-8", fmt.Sprintf("checkpoint/%s@%d", p.Origin, p.Size), p.Signed, w.Key, w.Now())
}

// Spooled publishes through deliveries: all of them get the checkpoint as an event.
type Spooled struct{ Spool *Spool }

// Publish implements Target.
func (s Spooled) Publish(_ context.Context, p Published) error {
	return s.Spool.Append(CheckpointEvent(p.Checkpoint, p.Signed))
}

// PublisherOptions are what NewPublisher needs.
type PublisherOptions struct {
	Path     string // of the file with what was published last
	Logs     []Log
	Targets  map[string]Target // by name, for people
	Interval time.Duration     // default 5 min
	Delivery *Delivery         // is told of what goes wrong
	Now      func() time.Time
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // nil for none
}

// Publisher publishes the newest signed checkpoint of each log, where it changed,
// at least once an interval.
type Publisher struct {
	o PublisherOptions

	mu   sync.Mutex // guards last
	last map[string]LastPublished
}

// LastPublished is what a target has got of a log.
type LastPublished struct {
	Size int64     `json:"size"`
	Root string    `json:"root"`
	At   time.Time `json:"at"` // of the last success, also of finding nothing new
}

// NewPublisher takes up where it was left.
func NewPublisher(o PublisherOptions) (*Publisher, error) {
	o.Interval = or(o.Interval, 5*time.Minute)
	p := &Publisher{o: o}
	var err error
	if p.last, err = ReadPublished(o.Path); err != nil {
		return nil, err
	}
	if o.Metrics == nil {
		return p, nil
	}
	err = o.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cardea_checkpoint_publication_age_seconds", Help: "Age of the oldest success of publishing a log's checkpoint to a target.",
	}, func() float64 { return p.age().Seconds() }))
	return p, err
}

// ReadPublished reads what was published last, by target and origin.
func ReadPublished(path string) (map[string]LastPublished, error) {
	last := map[string]LastPublished{}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &last); err != nil {
		return nil, fmt.Errorf("%s: %w; it says what was published last: restore it, or remove it to publish again", path, err)
	}
	return last, nil
}

func (p *Publisher) age() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := time.Duration(0)
	for _, l := range p.last {
		oldest = max(oldest, p.o.Now().Sub(l.At))
	}
	return oldest
}

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	for {
		// What fails is told and tried again; an interval is the most that may pass.
		wait := p.o.Interval
		if err := p.Publish(ctx); err != nil {
			wait = min(wait, 30*time.Second)
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// Publish publishes once, to every target.
func (p *Publisher) Publish(ctx context.Context) error {
	var errs error
	for _, l := range p.o.Logs {
		names, err := l.Source.Logs(ctx)
		errs = errors.Join(errs, err)
		for _, origin := range names {
			if l.Origins != nil && !slices.Contains(l.Origins, origin) {
				continue
			}
			errs = errors.Join(errs, p.publishLog(ctx, l.Source, origin))
		}
	}
	return errs
}

func (p *Publisher) publishLog(ctx context.Context, src audit.Source, origin string) error {
	newest, err := newestCheckpoint(ctx, src, origin)
	if err == nil && newest == nil {
		return nil // a log that has just begun
	}
	var errs error
	for _, name := range slices.Sorted(maps.Keys(p.o.Targets)) {
		key := name + " " + origin
		terr := err
		if terr == nil {
			terr = p.publishTo(ctx, p.o.Targets[name], key, *newest)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.judge(ctx, name, origin, terr)
		errs = errors.Join(errs, terr)
	}
	return errs
}

func (p *Publisher) publishTo(ctx context.Context, t Target, key string, c Published) error {
	p.mu.Lock()
	was, known := p.last[key]
	p.mu.Unlock()
	switch {
	case known && c.Size < was.Size:
		return fmt.Errorf("%s has %d signed entries, but a checkpoint of %d was published: it was cut off or rolled back: %w", c.Origin, c.Size, was.Size, audit.ErrDamaged)
	case known && c.Size == was.Size && c.Root.String() != was.Root:
		return fmt.Errorf("%s: %w", c.Origin, ErrForked)
	case !known || c.Size > was.Size:
		tctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := t.Publish(tctx, c); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[key] = LastPublished{Size: c.Size, Root: c.Root.String(), At: p.o.Now()}
	b, err := json.Marshal(p.last)
	if err != nil {
		return err
	}
	return writeFile(p.o.Path, append(b, '\n'), 0o600)
}

// judge tells what went wrong: damage at once, a target that does not answer when it
// has not for two intervals.
func (p *Publisher) judge(ctx context.Context, target, origin string, err error) {
	subject := target + " " + origin
	if err == nil {
		p.o.Delivery.Resolve(ctx, CheckPublication, subject, "checkpoints of "+origin+" are published again to "+target)
		return
	}
	p.mu.Lock()
	was, known := p.last[subject]
	p.mu.Unlock()
	p.o.Logger.WarnContext(ctx, "checkpoint not published", slog.String("target", target), slog.String("log", origin), slog.Any("error", err))
	f := Finding{
		Check: CheckPublication, Subject: subject, Since: was.At, Message: fmt.Sprintf("checkpoints of %s are not published to %s: %v", origin, target, err),
		Next: "see whether the target can be written to",
	}
	switch {
	case errors.Is(err, audit.ErrDamaged), errors.Is(err, ErrForked):
		f.Check, f.Subject, f.Message = CheckIntegrity, origin, err.Error()
		f.Next = "keep the database as it is, and see what 'cardea audit verify' finds"
	case known && p.o.Now().Sub(was.At) < 2*p.o.Interval:
		return
	case !known:
		// Nothing was ever published there: that is worth telling at once.
		f.Since = p.o.Now()
	}
	p.o.Delivery.Raise(ctx, f)
}

// newestCheckpoint is the last signed checkpoint of a log, nil if it has none.
func newestCheckpoint(ctx context.Context, src audit.Source, origin string) (*Published, error) {
	var newest []byte
	for signed, err := range src.Checkpoints(ctx, origin) {
		if err != nil {
			return nil, fmt.Errorf("checkpoints of %s: %w", origin, err)
		}
		newest = signed
	}
	if newest == nil {
		return nil, nil //nolint:nilnil // a log that has just begun has none
	}
	// Whether its signature is right is for those who hold the public key.
	c, err := audit.OpenCheckpoint(newest)
	if err != nil && !errors.Is(err, audit.ErrUnknownKey) {
		return nil, fmt.Errorf("newest checkpoint of %s: %w", origin, err)
	}
	if c.Origin != origin {
		return nil, fmt.Errorf("newest checkpoint of %s: %w: it is of %s", origin, audit.ErrDamaged, c.Origin)
	}
	return &Published{Checkpoint: c, Signed: newest}, nil
}

// ReadFolder reads the checkpoints that were published into a folder, also one that
// was copied from a bucket, in the order of their names.
func ReadFolder(dir string) ([][]byte, error) {
	const most = 1_000_000
	var all [][]byte
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".checkpoint") {
			return err
		}
		if len(all) == most {
			return fmt.Errorf("more than %d checkpoints", most)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > audit.MaxCheckpoint {
			return fmt.Errorf("%s is not a checkpoint", path)
		}
		b, err := os.ReadFile(path) //nolint:gosec // a folder of the operator's; what is read is verified
		if err != nil {
			return err
		}
		if _, err := notekey.Open(b, note.VerifierList()); err != nil {
			if _, ok := errors.AsType[*note.UnverifiedNoteError](err); !ok {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		all = append(all, b)
		return nil
	})
	return all, err
}
