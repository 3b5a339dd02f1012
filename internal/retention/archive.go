package retention

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// Archive is a folder of closed periods of logs. It is for one goroutine, and one
// process.
type Archive struct {
	dir     string
	periods []Period
}

// OpenArchive opens the archive in a folder, which may be empty or not there. The
// error is an ErrArchive if the manifest does not make sense.
func OpenArchive(dir string) (*Archive, error) {
	a := &Archive{dir: dir}
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := jsonv2.Unmarshal(b, &m, jsonv2.RejectUnknownMembers(true)); err != nil || len(b) > maxManifest {
		return nil, fmt.Errorf("%w: %s cannot be read: %w", ErrArchive, manifestName, err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("%w: %s is of version %d, this release reads version %d", ErrArchive, manifestName, m.Version, manifestVersion)
	}
	ends := map[string]int64{}
	for _, p := range m.Periods {
		if p.From != ends[p.Log] || p.To <= p.From {
			return nil, fmt.Errorf("%w: entries %d to %d of %s do not follow entry %d", ErrArchive, p.From, p.To-1, p.Log, ends[p.Log]-1)
		}
		if filepath.Base(p.File) != p.File || strings.HasPrefix(p.File, ".") {
			return nil, fmt.Errorf("%w: %q cannot be one of its files", ErrArchive, p.File)
		}
		ends[p.Log] = p.To
	}
	a.periods = m.Periods
	return a, nil
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
func (a *Archive) Add(ctx context.Context, src audit.Source, origin string, before, made time.Time, verifiers []string) (r Result, err error) {
	from := a.end(origin)
	c, err := cut(ctx, src, origin, from, before, verifiers)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	if c.Size == 0 {
		return Result{}, nil
	}
	p := &period{src: src, origin: origin, from: from, to: c.Size, head: audit.Head{Size: c.Size, Root: c.Root}}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return Result{}, err
	}
	r.Period, err = a.write(ctx, p)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", origin, err)
	}
	temporary := filepath.Join(a.dir, "."+r.Period.File)
	defer func() { err = errors.Join(err, removeIfThere(temporary)) }()
	r.Period.Made = made.UTC().Truncate(time.Second)

	tried := &Archive{dir: a.dir, periods: append(a.periods[:len(a.periods):len(a.periods)], r.Period)}
	tried.periods[len(tried.periods)-1].File = "." + r.Period.File
	report, err := tried.verify(ctx, origin, verifiers)
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
	tried.periods[len(tried.periods)-1] = r.Period
	if err := os.Rename(temporary, filepath.Join(a.dir, r.Period.File)); err != nil {
		return Result{}, err
	}
	if err := tried.save(); err != nil {
		return Result{}, err
	}
	a.periods = tried.periods
	return r, nil
}

func firstTime(ctx context.Context, p *period) (time.Time, error) {
	for n, err := range audit.Entries(ctx, p, p.origin, p.from) {
		return n.Entry.Time, err
	}
	return time.Time{}, nil
}

// write writes the period's file, under a name that begins with a dot.
func (a *Archive) write(ctx context.Context, p *period) (out Period, err error) {
	out = Period{Log: p.origin, From: p.from, To: p.to, Root: p.head.Root.String()}
	out.File = fmt.Sprintf("%s_%d-%d.bundle.gz", strings.ReplaceAll(p.origin, "/", "_"), p.from, p.to)
	path := filepath.Join(a.dir, "."+out.File)
	if err := removeIfThere(path); err != nil { // of a process that was killed
		return Period{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Period{}, err
	}
	sum := sha256.New()
	file := &counter{w: io.MultiWriter(f, sum)}
	buffered := bufio.NewWriter(file)
	z := gzip.NewWriter(buffered)
	plain := &counter{w: z}
	err = errors.Join(audit.WriteBundle(ctx, plain, p, nil), z.Close(), buffered.Flush(), f.Sync(), f.Close())
	if err != nil {
		return Period{}, errors.Join(err, removeIfThere(path))
	}
	out.SHA256, out.Bytes, out.Unpacked = hex.EncodeToString(sum.Sum(nil)), file.n, plain.n
	return out, nil
}

// save replaces the manifest.
func (a *Archive) save() error {
	b, err := json.MarshalIndent(manifest{Version: manifestVersion, Periods: a.periods}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(a.dir, "."+manifestName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(append(b, '\n')))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(a.dir, manifestName)); err != nil {
		return err
	}
	dir, err := os.Open(a.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // the names are durable
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
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
