package collect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"cardea/internal/cloudtrail"
)

// Limits of reading files.
const (
	DefaultBatch = 4096 // events of a batch
	maxTries     = 5    // until a file that cannot be read is a finding
	firstRetry   = time.Minute
	lastRetry    = time.Hour // it is tried for ever
	stuckAfter   = 10 * time.Minute
	maxFailed    = 10_000 // files that cannot be read and are remembered
	maxGrowing   = 1_000  // plain files of which the place is remembered
)

// Options are common to all sources.
type Options struct {
	State string            // folder of its own for what is remembered; required
	Now   func() time.Time  // required
	Names *cloudtrail.Names // default one of its own
	Batch int               // events of a batch, default DefaultBatch
}

// file is something to read.
type file struct {
	name    string
	version string // differs if the content does
	size    int64
	grows   bool // plain, so that it may be in the middle of being written
}

func (f file) mark() uint64 { return mark(f.name + "\x00" + f.version) }

// lister knows a place with files. It is used by one goroutine.
type lister interface {
	// more gives some files that may be new, and io.EOF with the last of them. done
	// says which were read. Called after that it begins again.
	more(ctx context.Context, done func(file) bool) ([]file, error)
	open(ctx context.Context, f file) (io.ReadCloser, error)
	// placed says that a file was read and acknowledged; progress gives what to
	// remember of that, and wanted, after a whole round, which files can come again.
	placed(f file)
	progress() map[string]string
	restore(map[string]string)
	wanted() map[uint64]struct{}
}

// growing is a plain file that was read so far.
type growing struct {
	Version string    `json:"version"`
	Offset  int64     `json:"offset"`         // of what is complete
	Size    int64     `json:"size"`           // of what was read
	Head    string    `json:"head,omitempty"` // hash of the first bytes, and how many these are
	HeadLen int       `json:"head_len,omitempty"`
	Since   time.Time `json:"since"` // it is like this
}

// failed is a file that could not be read.
type failed struct {
	Version string    `json:"version"`
	Grows   bool      `json:"grows,omitempty"`
	Tries   int       `json:"tries"`
	Error   string    `json:"error"`
	Since   time.Time `json:"since"`
	Again   time.Time `json:"again"`
}

// cursor is what is remembered of a place. The marks of files that were read are
// in a file of their own.
type cursor struct {
	Version  int                `json:"v"`
	Progress map[string]string  `json:"progress,omitempty"`
	Growing  map[string]growing `json:"growing,omitempty"`
	Failed   map[string]failed  `json:"failed,omitempty"`
}

// step is what becomes of the cursor when a batch is acknowledged.
type step struct {
	number  int
	file    file
	done    bool
	growing *growing // nil: not one, or not any more
	failed  *failed
	forget  bool
}

// files is a source of files, wherever they are.
type files struct {
	health
	o    Options
	l    lister
	read *cloudtrail.Reader

	queue   []file
	ended   bool // a round
	cur     *reading
	growing map[string]growing // as it will be once all is acknowledged
	bad     map[string]failed

	mu      sync.Mutex // guards what follows
	steps   []step
	number  int
	saved   cursor
	done    *marks
	ahead   map[uint64]struct{} // read, and not acknowledged
	cleanup map[uint64]struct{}
}

// reading is a file in the middle of being read.
type reading struct {
	file
	body     io.ReadCloser
	from     int64 // offset that was begun at
	problems int
	head     string // hash of the first bytes, if it grows
	headLen  int
}

func newFiles(name string, l lister, o Options) (*files, error) {
	if o.Names == nil {
		o.Names = cloudtrail.NewNames()
	}
	if o.Batch <= 0 {
		o.Batch = DefaultBatch
	}
	if err := makeFolder(o.State); err != nil {
		return nil, err
	}
	f := &files{
		health: health{now: o.Now, s: Status{Source: name}}, o: o, l: l, ahead: map[uint64]struct{}{},
		read:    cloudtrail.NewReader(nil, cloudtrail.Options{Names: o.Names}),
		growing: map[string]growing{}, bad: map[string]failed{},
		saved: cursor{Growing: map[string]growing{}, Failed: map[string]failed{}},
	}
	if err := loadJSON(f.path(), &f.saved); err != nil {
		return nil, err
	}
	if f.saved.Version > cursorVersion {
		return nil, fmt.Errorf("%s is of a newer release (version %d)", f.path(), f.saved.Version)
	}
	f.saved.Version = cursorVersion
	for name, g := range f.saved.Growing {
		f.growing[name] = g
	}
	for name, b := range f.saved.Failed {
		f.bad[name] = b
	}
	f.findings()
	l.restore(f.saved.Progress)
	var err error
	f.done, err = openMarks(filepath.Join(o.State, "files"))
	return f, err
}

const cursorVersion = 1

func (f *files) path() string { return filepath.Join(f.o.State, "cursor.json") }

// Close closes what is open. What was acknowledged is on disk already.
func (f *files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.done.close()
	if f.cur != nil {
		err = errors.Join(err, f.cur.body.Close())
		f.cur = nil
	}
	return err
}

// Next implements Source.
func (f *files) Next(ctx context.Context) (Batch, error) {
	b := Batch{}
	names, touched := 0, false
	for len(b.Events) < f.o.Batch {
		if f.cur == nil {
			next, err := file{}, ctx.Err()
			if err == nil {
				next, err = f.pick(ctx)
			}
			if err != nil {
				f.looked(err)
				if touched {
					break // the next call finds the error again, if it is still there
				}
				return Batch{}, err
			}
			touched = true
			f.begin(ctx, next)
			if f.cur == nil {
				continue
			}
		}
		touched = true
		if names++; names == 1 {
			b.From = f.cur.name
		}
		f.some(ctx, &b)
	}
	if names > 1 {
		b.From += " and " + strconv.Itoa(names-1) + " more"
	}
	f.gave(&b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	number := f.number
	for i := range f.steps {
		if f.steps[i].number == 0 {
			f.steps[i].number = number
		}
	}
	b.ack = func(context.Context) error { return f.acked(number) }
	return b, nil
}

// pick gives the next file to read: one to try again, or a new one.
func (f *files) pick(ctx context.Context) (file, error) {
	for name, b := range f.bad {
		// A time further off than any wait is of a clock that was ahead.
		if wait := b.Again.Sub(f.now()); wait <= 0 || wait > lastRetry {
			return file{name: name, version: b.Version, grows: b.Grows}, nil
		}
	}
	for len(f.queue) == 0 {
		if f.ended {
			f.ended = false
			f.set(func(s *Status) { s.Backlog = 0 })
			return file{}, io.EOF
		}
		if err := ctx.Err(); err != nil {
			return file{}, err
		}
		f.mu.Lock()
		f.cleanup = nil
		f.mu.Unlock()
		more, err := f.l.more(ctx, f.known)
		if err != nil && err != io.EOF { //nolint:errorlint // more gives it as it is
			return file{}, err
		}
		f.queue = more
		if f.ended = err != nil; f.ended {
			f.mu.Lock()
			f.cleanup = f.l.wanted()
			f.mu.Unlock()
		}
	}
	next := f.queue[0]
	f.queue = f.queue[1:]
	f.set(func(s *Status) { s.Backlog = len(f.queue) })
	return next, nil
}

// known reports whether a file need not be looked at.
func (f *files) known(x file) bool {
	if b, there := f.bad[x.name]; there && b.Version == x.version {
		return true // in its own time
	}
	if g, there := f.growing[x.name]; there {
		return g.Version == x.version
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m := x.mark()
	_, ahead := f.ahead[m]
	return ahead || f.done.has(m)
}

// begin opens a file.
func (f *files) begin(ctx context.Context, x file) {
	body, err := f.l.open(ctx, x)
	if err != nil && ctx.Err() != nil {
		f.queue = append([]file{x}, f.queue...)
		return
	}
	if err != nil {
		f.fail(x, err)
		return
	}
	r := &reading{file: x, body: body}
	var in io.Reader = body
	if x.grows {
		if in, err = f.resume(r); err != nil {
			f.fail(x, errors.Join(err, body.Close()))
			return
		}
	}
	f.read.Reset(in)
	f.cur = r
}

// some reads events of the current file into the batch. What is in the batch is
// given in any case: the cursor goes on with it.
func (f *files) some(ctx context.Context, b *Batch) {
	r := f.cur
	var err error
	for len(b.Events) < f.o.Batch {
		var e cloudtrail.Event
		if err = f.read.Read(&e); err != nil {
			break
		}
		b.Events = append(b.Events, e)
	}
	stats := f.read.Stats()
	incomplete := false
	for _, p := range stats.Problems[min(r.problems, len(stats.Problems)):] {
		if r.grows && err == io.EOF && p.Offset >= f.read.Whole() { //nolint:errorlint // Read gives it as it is
			incomplete = true // what is there of a line is no problem yet
			continue
		}
		p.Offset += r.from
		b.Problems = append(b.Problems, Problem{From: r.name, Problem: p})
	}
	r.problems = len(stats.Problems)
	if err == nil { // the batch is full
		if r.grows {
			f.grown(r, false, false)
		}
		return
	}
	f.cur = nil
	closed := r.body.Close()
	switch {
	case ctx.Err() != nil:
		f.queue = append([]file{r.file}, f.queue...)
	case err != io.EOF || closed != nil: //nolint:errorlint // Read gives it as it is
		f.fail(r.file, cmp.Or(notEOF(err), closed))
	case r.grows:
		f.grown(r, true, incomplete)
	default:
		delete(f.bad, r.name)
		f.findings()
		f.step(step{file: r.file, done: true})
	}
}

func notEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // Read gives it as it is
		return nil
	}
	return err
}
