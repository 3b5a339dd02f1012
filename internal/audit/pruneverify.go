package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Archive is where the entries of pruned logs are read.
type Archive interface {
	Source
	// Digest is that of the log's archive for a pruning of the entries before to
	// (docs/spec/audit-log.md, Pruning), or empty if the archive does not go back to
	// the log's first entry any more.
	Digest(origin string, to int64) string
}

// errPrunedMeanwhile says that entries were pruned while a log was verified.
var errPrunedMeanwhile = errors.New("the log was pruned while it was verified")

// prefix is the part of a log that is not stored, as far as that may be right.
type prefix struct {
	first    int64     // the first entry that is stored
	hashed   int64     // entries whose hashes come from tiles: first, or fewer with an archive
	archived bool      // entries from hashed to first come from the archive
	records  []Pruning // that a trusted key signed, ascending by To
	roots    []bool    // by record: the tree has its root
	again    bool      // the log is verified once more, because it was pruned meanwhile
}

// prunedBy is the entry of a pruning, of whatever log.
type prunedBy struct {
	seq               int64
	reference, detail string
}

// openPrefix finds out where the stored entries begin. Without a record of pruning
// a missing prefix is as any other gap.
func (l *logVerifier) openPrefix(ctx context.Context) error {
	origin, rows := l.report.Origin, 0
	for signed, err := range l.src.Prunings(ctx, origin) {
		if err != nil {
			return fmt.Errorf("read prunings: %w", err)
		}
		rows++
		p, err := openPruning(signed, l.keys)
		if l.o.AllowUnsigned && errors.Is(err, ErrUnknownKey) {
			err = nil
		}
		if err == nil && p.Origin != origin {
			err = fmt.Errorf("it is of the log %s", p.Origin)
		}
		if err != nil {
			l.report.find(KindPruning, p.From, p.To-p.From, "record %d of pruning: %s", rows, refusal(err))
			continue
		}
		l.records = append(l.records, p)
	}
	slices.SortStableFunc(l.records, func(a, b Pruning) int { return int(a.To - b.To) })
	l.roots = make([]bool, len(l.records))
	if rows == 0 {
		return nil
	}
	first, err := firstStored(ctx, l.src, origin)
	if err != nil {
		return err
	}
	l.first, l.hashed = first, min(first, l.horizon.head.Size)
	l.report.Pruned = l.hashed
	return l.openArchive(ctx)
}

// refusal says why a record of pruning is not believed.
func refusal(err error) string {
	switch {
	case errors.Is(err, ErrUnknownKey):
		return "no trusted key signs it"
	case errors.Is(err, ErrBadSignature):
		return "its signature is wrong: it was changed"
	}
	return err.Error()
}

// openArchive sees whether the archive has what is missing.
func (l *logVerifier) openArchive(ctx context.Context) error {
	if l.o.Archive == nil || l.hashed == 0 {
		return nil
	}
	head, err := l.o.Archive.Head(ctx, l.report.Origin)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	if head.Size < l.hashed {
		l.report.find(KindArchiveMismatch, head.Size, l.hashed-head.Size, "%s: pruned, but not in the archive that was given", entries(head.Size, l.hashed-head.Size))
		return nil
	}
	from, err := firstStored(ctx, l.o.Archive, l.report.Origin)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	if from < l.hashed {
		l.hashed, l.archived = from, true
	}
	return nil
}

// stored gives the segments: those of the archive, if it is needed, and the log's.
func (l *logVerifier) stored(ctx context.Context) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		if l.archived {
			for s, err := range l.o.Archive.Segments(ctx, l.report.Origin, 0) {
				if err == nil && s.First >= l.first {
					break
				}
				if !yield(s, err) || err != nil {
					return
				}
			}
		}
		for s, err := range l.src.Segments(ctx, l.report.Origin, 0) {
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// scanPrefix appends the hashes of pruned entries to the tree, from the tiles. It
// returns false if they are not all there.
func (l *logVerifier) scanPrefix(ctx context.Context, points *points, progress func(int64)) (bool, error) {
	for hashes, err := range TileLeaves(ctx, l.src, l.report.Origin, l.hashed) {
		if errors.Is(err, ErrDamaged) {
			at := l.tree.Size()
			l.report.find(KindTileMismatch, at, l.hashed-at, "%s: pruned, and the tile with their hashes is not there or is none: only the archive can tell what they were", entries(at, l.hashed-at))
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, h := range hashes {
			if err := l.append(h, points); err != nil {
				return false, err
			}
		}
		if err := l.tiles.compare(l.tree.TakeTiles()); err != nil {
			return false, err
		}
		progress(int64(len(hashes)))
	}
	return true, nil
}

// append appends a leaf, and holds the tree against what is said of its size.
func (l *logVerifier) append(h tlog.Hash, points *points) error {
	if err := l.tree.Append(h); err != nil {
		return err
	}
	for i, p := range l.records {
		if p.To == l.tree.Size() {
			l.roots[i] = p.Root == l.tree.Root()
		}
	}
	return l.passPoints(points)
}

// prunedMeanwhile reports whether a gap before an entry is because the log was
// pruned after its beginning was looked at.
func (l *logVerifier) prunedMeanwhile(ctx context.Context, before int64) (bool, error) {
	if l.again {
		return false, nil
	}
	a, err := AbsentOf(ctx, l.src, l.report.Origin)
	return a.Pruning != nil && a.Before > l.first && a.Pruning.To >= before, err
}

// TileLeaves gives the hashes of a log's first entries, up to number to, as its
// tiles of level 0 have them. The error is ErrDamaged if a tile is missing.
func TileLeaves(ctx context.Context, src Source, origin string, to int64) iter.Seq2[[]tlog.Hash, error] {
	return func(yield func([]tlog.Hash, error) bool) {
		var next int64
		if to > 0 {
			for t, err := range src.Tiles(ctx, origin) {
				if err != nil {
					yield(nil, fmt.Errorf("read tiles of %s: %w", origin, err))
					return
				}
				if t.Level != 0 || t.Index != next/TileWidth || len(t.Data) != TileBytes {
					break
				}
				hashes := hashesOf(t)
				hashes = hashes[:min(TileWidth, to-next)]
				next += int64(len(hashes))
				if !yield(hashes, nil) || next == to {
					return
				}
			}
		}
		if next < to {
			yield(nil, fmt.Errorf("%s: %w: tile 0/%d is missing", origin, ErrDamaged, next/TileWidth))
		}
	}
}

// hashesOf are the hashes in a full tile.
func hashesOf(t Tile) []tlog.Hash {
	hashes := make([]tlog.Hash, TileWidth)
	for i := range hashes {
		hashes[i] = tlog.Hash(t.Data[i*tlog.HashSize:])
	}
	return hashes
}

// Leaves gives the hashes of a log's entries in their order: of entries, where they
// are stored, and of tiles for a prefix that is not. It verifies neither. The error
// is ErrDamaged if entries are missing otherwise.
func Leaves(ctx context.Context, src Source, origin string) iter.Seq2[tlog.Hash, error] {
	return func(yield func(tlog.Hash, error) bool) {
		next, err := firstStored(ctx, src, origin)
		if err != nil {
			yield(tlog.Hash{}, err)
			return
		}
		for hashes, err := range TileLeaves(ctx, src, origin, next) {
			if err != nil {
				yield(tlog.Hash{}, err)
				return
			}
			for _, h := range hashes {
				if !yield(h, nil) {
					return
				}
			}
		}
		for s, err := range src.Segments(ctx, origin, next) {
			if err != nil {
				yield(tlog.Hash{}, fmt.Errorf("read entries of %s: %w", origin, err))
				return
			}
			lines, err := SplitSegment(s.Body, s.Count)
			if err != nil || s.First != next {
				yield(tlog.Hash{}, fmt.Errorf("%s: %w: see 'cardea audit verify'", origin, ErrDamaged))
				return
			}
			for _, line := range lines {
				if !yield(LeafHash(line), nil) {
					return
				}
			}
			next += int64(len(lines))
		}
	}
}

// judgePrunings decides, when all logs were read, whether the missing prefix of a log
// was pruned. recorder gives the verifier of a log that records prunings, or nil.
func (l *logVerifier) judgePrunings(recorder func(origin string) (*logVerifier, error)) error {
	if l.report.Pruned == 0 && len(l.records) == 0 {
		return nil
	}
	var held *Pruning
	for i := len(l.records) - 1; i >= 0 && held == nil; i-- {
		p := &l.records[i]
		why, missing, err := l.doubt(i, recorder)
		if err != nil {
			return err
		}
		newest := i == len(l.records)-1
		switch {
		case why == "":
			held = p
		case missing && (!newest || p.From >= l.first):
			// Entries of older prunings may have been pruned themselves. That of one which
			// has removed nothing yet may not be signed yet.
		default:
			l.report.find(KindPruning, p.From, p.To-p.From, "the record that %s were pruned does not hold: %s", entries(p.From, p.To-p.From), why)
		}
	}
	covered := int64(0)
	if held != nil {
		covered = held.To
	}
	if l.report.Pruned > covered {
		l.report.find(KindDeleted, covered, l.report.Pruned-covered, "%s: missing, and no pruning that holds covers them", entries(covered, l.report.Pruned-covered))
	}
	if held != nil && l.report.Pruned > 0 {
		l.report.PrunedAt, l.report.PrunedInto = held.Time, held.Archive
		l.judgeArchive(held)
	}
	return nil
}

// doubt says why a record of pruning does not hold, or nothing. missing is set if
// that is for its entry only.
func (l *logVerifier) doubt(i int, recorder func(string) (*logVerifier, error)) (why string, missing bool, err error) {
	p := l.records[i]
	r, err := recorder(p.Recorder)
	if err != nil || r == nil {
		return fmt.Sprintf("the log %s, whose key signs it, is not there", p.Recorder), false, err
	}
	at := slices.IndexFunc(r.prunings, func(e prunedBy) bool {
		return e.reference == clean(p.Origin, maxName) && e.detail == clean(p.Detail(), maxDetail)
	})
	switch {
	case at < 0:
		return fmt.Sprintf("the log %s, whose key signs it, has no entry of it", p.Recorder), true, nil
	case r.prunings[at].seq >= r.good && !l.o.AllowUnsigned:
		return fmt.Sprintf("its entry %d of %s is not covered by a trusted checkpoint", r.prunings[at].seq, p.Recorder), true, nil
	case !l.roots[i] && !l.tilesWrong(p.To):
		return fmt.Sprintf("the root of the first %d entries is not what it says", p.To), false, nil
	}
	return "", false, nil
}

// tilesWrong reports whether hashes of the first entries are known to be wrong, so
// that their root is wrong too.
func (l *logVerifier) tilesWrong(to int64) bool {
	return slices.ContainsFunc(l.report.Findings, func(f Finding) bool { return f.Kind == KindTileMismatch && f.Seq < to })
}

// judgeArchive holds the archive that was given against the one that was recorded.
func (l *logVerifier) judgeArchive(p *Pruning) {
	if l.o.Archive == nil {
		return
	}
	if got := l.o.Archive.Digest(l.report.Origin, p.To); l.archived && got != "" && got != p.Archive {
		l.report.find(KindArchiveMismatch, 0, p.To, "the archive that was given is not the one into which %s were put when they were pruned: "+
			"its digest is %s, recorded is %s", entries(0, p.To), got, p.Archive)
	}
}
