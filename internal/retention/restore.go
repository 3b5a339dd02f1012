package retention

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"cardea/internal/audit"
)

// Restored is an archive's logs, unpacked, as a source. Each log is whole from its
// first entry to the end of its last period.
type Restored struct {
	dir  string
	logs map[string][]part
}

type part struct {
	Period
	file   *os.File
	bundle *audit.Bundle
}

// Restore unpacks the periods of a log, or of all if origin is empty, into a folder
// that it makes and that Close removes. It fails with ErrArchive if a file is missing
// or is not the one that was archived. It verifies no log: audit.Verify does.
func (a *Archive) Restore(ctx context.Context, origin string) (_ *Restored, err error) {
	dir, err := os.MkdirTemp("", "cardea-restore-")
	if err != nil {
		return nil, err
	}
	r := &Restored{dir: dir, logs: map[string][]part{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for i, p := range a.periods {
		if origin != "" && p.Log != origin {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		file, err := a.unpack(ctx, p, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", a.place, p.File, err)
		}
		r.logs[p.Log] = append(r.logs[p.Log], part{Period: p, file: file})
		parts := r.logs[p.Log]
		b, err := audit.OpenBundle(file, p.Unpacked)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrArchive, p.File, err)
		}
		head, err := b.Head(ctx, p.Log)
		if err != nil {
			return nil, err
		}
		if head.Size != p.To || head.Root.String() != p.Root {
			return nil, fmt.Errorf("%w: %s is not of what %s says", ErrArchive, p.File, manifestName)
		}
		parts[len(parts)-1].bundle = b
	}
	os.Remove(dir) //nolint:errcheck // if it is empty, likewise
	return r, nil
}

// unpack writes a period's bundle into a new file, which stays open.
func (a *Archive) unpack(ctx context.Context, p Period, to string) (_ *os.File, err error) {
	in, err := a.place.open(ctx, p.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file is missing", ErrArchive)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	os.Remove(to) //nolint:errcheck // where the system lets open files go, a process that is killed leaves none; else Close removes it
	// It is read once, as it may come over a network: what is wrong with it is told
	// only when its hash shows that it is the file.
	sum := sha256.New()
	packed := &counter{w: sum}
	read := io.TeeReader(io.LimitReader(in, p.Bytes+1), packed)
	wrong := p.gunzip(out, read)
	if _, err := io.Copy(io.Discard, read); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if packed.n != p.Bytes || hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
		wrong = fmt.Errorf("%w: it is not the file that was archived (SHA-256)", ErrArchive)
	}
	if wrong != nil {
		return nil, errors.Join(wrong, out.Close())
	}
	return out, nil
}

func (p Period) gunzip(to io.Writer, from io.Reader) error {
	z, err := gzip.NewReader(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	n, err := io.Copy(to, io.LimitReader(z, p.Unpacked+1))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if n != p.Unpacked {
		return fmt.Errorf("%w: it does not have the size that %s says", ErrArchive, manifestName)
	}
	return nil
}

// Close removes what was unpacked.
func (r *Restored) Close() (err error) {
	for _, parts := range r.logs {
		for _, p := range parts {
			err = errors.Join(err, p.file.Close())
		}
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// Logs implements audit.Source.
func (r *Restored) Logs(context.Context) ([]string, error) {
	var names []string
	for name := range r.logs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Head implements audit.Source.
func (r *Restored) Head(ctx context.Context, origin string) (audit.Head, error) {
	parts := r.logs[origin]
	if len(parts) == 0 {
		return audit.Head{}, nil
	}
	return parts[len(parts)-1].bundle.Head(ctx, origin)
}

// Segments implements audit.Source.
func (r *Restored) Segments(ctx context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		for _, p := range r.logs[origin] {
			if p.To <= from {
				continue
			}
			for s, err := range p.bundle.Segments(ctx, origin, from) {
				if !yield(s, err) || err != nil {
					return
				}
			}
		}
	}
}

// Tiles implements audit.Source.
func (r *Restored) Tiles(ctx context.Context, origin string) iter.Seq2[audit.Tile, error] {
	return func(yield func(audit.Tile, error) bool) {
		const levels = 8
		for level := range levels {
			for _, p := range r.logs[origin] {
				for t, err := range p.bundle.Tiles(ctx, origin) {
					if err == nil && t.Level != level {
						continue
					}
					if !yield(t, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// Checkpoints implements audit.Source.
func (r *Restored) Checkpoints(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, p := range r.logs[origin] {
			for signed, err := range p.bundle.Checkpoints(ctx, origin) {
				if !yield(signed, err) || err != nil {
					return
				}
			}
		}
	}
}

// Prunings implements audit.Source.
func (r *Restored) Prunings(context.Context, string) iter.Seq2[[]byte, error] {
	return func(func([]byte, error) bool) {}
}

// Digest implements audit.Archive.
func (r *Restored) Digest(origin string, to int64) string {
	var periods []Period
	for _, p := range r.logs[origin] {
		periods = append(periods, p.Period)
	}
	return digest(periods, origin, to)
}

// verify verifies a log as the archive has it, and looks at it with also, if that is
// not nil and nothing is wrong.
func (a *Archive) verify(ctx context.Context, origin string, verifiers []string, also func(*Restored) error) (report audit.LogReport, err error) {
	r, err := a.Restore(ctx, origin)
	if err != nil {
		return audit.LogReport{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	all, err := audit.Verify(ctx, r, audit.VerifyOptions{Verifiers: verifiers, Origins: []string{origin}})
	if err != nil {
		return audit.LogReport{}, err
	}
	if report = all.Logs[0]; len(report.Findings) == 0 && also != nil {
		err = also(r)
	}
	return report, err
}
