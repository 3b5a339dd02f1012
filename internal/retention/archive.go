package retention

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"cardea/internal/audit"
)

// manifestName is the file of an archive's folder that tells what is in it.
const manifestName = "manifest.json"

// manifestVersion is the version of its form.
const manifestVersion = 1

// maxManifest bounds it, in bytes: some 100,000 periods.
const maxManifest = 32 << 20

// Why there is no archive.
var (
	// ErrArchive says that a folder is not an archive, or not whole: a file is missing,
	// is not the one that was archived, or the periods do not follow each other.
	ErrArchive = errors.New("archive is not whole")
	// ErrElsewhere says that the entries before were archived in another place.
	ErrElsewhere = errors.New("the log goes on from another archive")
	// ErrUntrusted says that a period is signed, but by nobody who is trusted.
	ErrUntrusted = errors.New("no checkpoint of the period is signed by a trusted key")
)

// Period is a closed period of a log in an archive: a compressed bundle
// (docs/retention.md) of its entries, and of the tiles and checkpoints that came
// with them.
type Period struct {
	Log      string    `json:"log"`
	From     int64     `json:"from"` // first entry
	To       int64     `json:"to"`   // the entry after the last
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Root     string    `json:"root"` // of the log's first To entries, base64
	File     string    `json:"file"`
	SHA256   string    `json:"sha256"`   // of the file
	Bytes    int64     `json:"bytes"`    // of the file
	Unpacked int64     `json:"unpacked"` // bytes of the bundle in it
	Made     time.Time `json:"made"`
}

type manifest struct {
	Version int      `json:"version"`
	Periods []Period `json:"periods"`
}

// Archive is closed periods of logs in a folder or bucket. It is for one goroutine.
type Archive struct {
	place   Place
	periods []Period
}

// OpenArchive opens the archive in a place, which may be empty. The error is an
// ErrArchive if the manifest does not make sense.
func OpenArchive(ctx context.Context, in Place) (*Archive, error) {
	a := &Archive{place: in}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// load reads the manifest.
func (a *Archive) load(ctx context.Context) error {
	f, err := a.place.open(ctx, manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		a.periods = nil
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return err
	}
	var m manifest
	if err := jsonv2.Unmarshal(b, &m, jsonv2.RejectUnknownMembers(true)); err != nil || len(b) > maxManifest {
		return fmt.Errorf("%w: %s cannot be read: %w", ErrArchive, manifestName, err)
	}
	if m.Version != manifestVersion {
		return fmt.Errorf("%w: %s is of version %d, this release reads version %d", ErrArchive, manifestName, m.Version, manifestVersion)
	}
	ends := map[string]int64{}
	for _, p := range m.Periods {
		if p.From != ends[p.Log] || p.To <= p.From {
			return fmt.Errorf("%w: entries %d to %d of %s do not follow entry %d", ErrArchive, p.From, p.To-1, p.Log, ends[p.Log]-1)
		}
		if filepath.Base(p.File) != p.File || strings.HasPrefix(p.File, ".") {
			return fmt.Errorf("%w: %q cannot be one of its files", ErrArchive, p.File)
		}
		ends[p.Log] = p.To
	}
	a.periods = m.Periods
	return nil
}

// Periods gives what is archived, in the order in which it was.
func (a *Archive) Periods() []Period { return a.periods }

// end is the number of the first entry of a log that is not archived.
func (a *Archive) end(origin string) (to int64) {
	for _, p := range a.periods {
		if p.Log == origin {
			to = p.To
		}
	}
	return to
}

// Result is what became of an attempt to archive a log.
type Result struct {
	Period Period          // its To is 0 if there was nothing to archive
	Report audit.LogReport // of the log as the archive then has it, from its first entry on
}

// Add archives the entries of a log that are older than before and not archived
// yet, up to the last of their checkpoints that one of the verifiers signed. What it
// wrote it reads back, and verifies with all of the log that was archived before;
// unless nothing is wrong with it, the archive stays as it was, and the report tells
// what is. A process that is killed leaves the archive as it was, and at most a file
// whose name begins with a dot.
//
// Several processes may add to an archive: it goes on from what it has by then, not
// from what it had when it was opened.
func (a *Archive) Add(ctx context.Context, src audit.Source, origin string, before, made time.Time, verifiers []string) (r Result, err error) {
	release, err := a.place.hold(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := a.load(ctx); err != nil {
		return Result{}, err
	}
	from := a.end(origin)
	c, err := cut(ctx, src, origin, from, before, verifiers)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	if c.Size == 0 {
		return Result{}, nil
	}
	absent, err := audit.AbsentOf(ctx, src, origin)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	if absent.Before > from && absent.Pruning != nil {
		return Result{}, fmt.Errorf("archive %s: %w: its entries %d to %d were pruned, and this archive has them not", origin, ErrElsewhere, from, absent.Before-1)
	}
	p := &period{src: src, origin: origin, from: from, to: c.Size, head: audit.Head{Size: c.Size, Root: c.Root}}
	var temporary string
	if r.Period, temporary, err = a.write(ctx, p); err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	settled := false
	defer func() {
		if !settled { // also if ctx has ended
			err = errors.Join(err, a.place.drop(context.WithoutCancel(ctx), temporary))
		}
	}()
	r.Period.Made = made.UTC().Truncate(time.Second)

	tried := &Archive{place: a.place, periods: append(a.periods[:len(a.periods):len(a.periods)], r.Period)}
	tried.periods[len(tried.periods)-1].File = temporary
	report, err := tried.verify(ctx, origin, verifiers, nil)
	if err != nil {
		return Result{}, err
	}
	r.Report = report
	if len(report.Findings) > 0 {
		return r, nil
	}
	r.Period.Last = report.Last
	if r.Period.First, err = firstTime(ctx, p); err != nil {
		return Result{}, err
	}
	if err := a.place.settle(ctx, temporary, r.Period.File); err != nil {
		return Result{}, err
	}
	settled = true
	if err := a.enter(ctx, r.Period); err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	return r, nil
}

// enter puts a period into the manifest, beside those that others have put there
// meanwhile. The error is errMoved if one is of the same entries.
func (a *Archive) enter(ctx context.Context, p Period) error {
	for {
		with := append(a.periods[:len(a.periods):len(a.periods)], p)
		err := a.save(ctx, with)
		if err == nil {
			a.periods = with
		}
		if !errors.Is(err, errMoved) {
			return err
		}
		if err := a.load(ctx); err != nil {
			return err
		}
		if slices.ContainsFunc(a.periods, func(x Period) bool { return x.File == p.File }) {
			return nil // it arrived the first time, and the answer did not
		}
		if a.end(p.Log) != p.From {
			return errors.Join(errMoved, a.place.drop(ctx, p.File))
		}
	}
}

func firstTime(ctx context.Context, p *period) (time.Time, error) {
	for n, err := range audit.Entries(ctx, p, p.origin, p.from) {
		return n.Entry.Time, err
	}
	return time.Time{}, nil
}

// write writes the period's file, and gives the name under which it can be read
// before it is of the archive.
func (a *Archive) write(ctx context.Context, p *period) (out Period, temporary string, err error) {
	out = Period{Log: p.origin, From: p.from, To: p.to, Root: p.head.Root.String()}
	name := fmt.Sprintf("%s_%d-%d", strings.ReplaceAll(p.origin, "/", "_"), p.from, p.to)
	f, err := a.place.scratch(name)
	if err != nil {
		return Period{}, "", err
	}
	sum := sha256.New()
	file := &counter{w: io.MultiWriter(f, sum)}
	buffered := bufio.NewWriter(file)
	z := gzip.NewWriter(buffered)
	plain := &counter{w: z}
	err = errors.Join(audit.WriteBundle(ctx, plain, p, nil), z.Close(), buffered.Flush(), f.Sync(), f.Close())
	out.SHA256, out.Bytes, out.Unpacked = hex.EncodeToString(sum.Sum(nil)), file.n, plain.n
	// A name is of an attempt, so that of two processes at work neither replaces, nor
	// removes, what is the other's.
	var attempt [4]byte
	rand.Read(attempt[:])
	out.File = fmt.Sprintf("%s-%s-%x.bundle.gz", name, out.SHA256[:8], attempt)
	if err == nil {
		temporary, err = a.place.keep(ctx, f.Name(), out.File)
	}
	if err != nil {
		return Period{}, "", errors.Join(err, removeIfThere(f.Name()))
	}
	return out, temporary, nil
}

// save replaces the manifest.
func (a *Archive) save(ctx context.Context, periods []Period) error {
	b, err := json.MarshalIndent(manifest{Version: manifestVersion, Periods: periods}, "", "  ")
	if err != nil {
		return err
	}
	return a.place.save(ctx, append(b, '\n'))
}

// digest is that of a log's periods for a pruning of the entries before to
// (docs/spec/audit-log.md, Pruning); empty if they do not begin with the log.
func digest(periods []Period, origin string, to int64) string {
	sum, next := sha256.New(), int64(0)
	for _, p := range periods {
		if p.Log != origin || p.From >= to {
			continue
		}
		if p.From != next {
			return ""
		}
		fmt.Fprintf(sum, "%d %d %s\n", p.From, p.To, p.SHA256)
		next = p.To
	}
	if next < to {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
