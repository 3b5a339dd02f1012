package audit

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// window is how many hashes locate looks ahead on each side to find where entries
// and tiles agree again.
const window = 4096

// locate reads a log whose roots disagree once more, and finds out by its stored
// level-0 tiles, which hold the hash of every entry, what was done to it. gaps are
// the findings of its segments.
func (l *logVerifier) locate(ctx context.Context, node string, gaps []Finding) error {
	d, err := l.diff(ctx, node)
	if err != nil {
		return err
	}
	var found []Finding // of entries
	for _, c := range d.changes {
		if c.Seq+max(c.Count, 1) <= l.good {
			continue // the entries are signed, so their tile is wrong
		}
		c.Message = describe(c) + d.proof(c.Seq)
		found = append(found, c)
	}
	for _, g := range gaps {
		if !slices.ContainsFunc(found, func(f Finding) bool { return overlap(f, g) }) {
			found = append(found, g)
		}
	}
	for _, f := range l.tiles.wrong {
		// Changed entries make other tiles. What a checkpoint proves does not.
		if len(d.changes)+len(found) == 0 && l.tree.Size() == l.horizon.head.Size || f.Seq+f.Count <= l.good {
			l.report.add(&l.report.Findings, f)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, f := range found {
		l.report.add(&l.report.Findings, f)
	}
	l.judgeRoots(found)
	return nil
}

// judgeRoots reports the roots and sizes that what was found does not explain.
func (l *logVerifier) judgeRoots(found []Finding) {
	// explained reports whether a change was found that makes the root at size bad
	// wrong: one after those entries that the last good checkpoint covers.
	explained := func(bad int64) bool {
		return slices.ContainsFunc(found, func(f Finding) bool { return f.Seq < bad && f.Seq+f.reach() > l.good })
	}
	head, size := l.horizon.head, l.tree.Size()
	roots := 0
	if bad := l.badStored; bad > l.good && !explained(bad) {
		if l.badKept > l.good {
			bad = min(bad, l.badKept)
		}
		l.report.find(KindEdited, l.good, bad-l.good, "%s: not, or not all, those that the signed checkpoint of %d entries is of; the tiles do not show which",
			entries(l.good, bad-l.good), l.badStored)
		roots++
	} else if bad >= 0 && bad <= l.good {
		l.report.find(KindFork, 0, bad, "the checkpoints of %d and of %d entries are both signed, but of different logs", bad, l.good)
		roots++
	}
	if bad := l.badKept; bad >= 0 && (bad <= l.good || !explained(bad) && roots == 0) {
		l.report.find(KindFork, min(l.good, bad), 0, "the kept checkpoint of %d entries is signed, but not of this log", bad)
		roots++
	}

	missing, inserted := head.Size-size, int64(0)
	for _, f := range found {
		switch f.Kind {
		case KindDeleted:
			missing -= f.Count
		case KindInserted:
			missing += f.Count
			inserted += f.Count
		}
	}
	if l.orphans && missing > 0 {
		// Entries that were put in moved others beyond the head.
		l.orphans = missing > inserted
		return
	}
	switch {
	case missing > 0:
		l.report.find(KindTruncated, head.Size-missing, missing, "%s: missing at the end; the head says %d", entries(head.Size-missing, missing), head.Size)
	case missing < 0 && size > head.Size:
		l.report.find(KindInserted, head.Size, -missing, "%d entries are more than the head's %d", -missing, head.Size)
	case size != head.Size || l.tree.Root() == head.Root || roots > 0 || explained(size):
	case l.good == size:
		l.report.find(KindHeadMismatch, size, 0, "the head's root is not that of the %d entries, which a checkpoint proves", size)
	default:
		l.report.find(KindHeadMismatch, l.good, size-l.good, "the head's root is not that of the %d entries, and no changed one was found: "+
			"the head was changed, or some of %s, which no checkpoint signs", size, entries(l.good, size-l.good))
	}
}

// reach is how many entries from Seq on the finding may be about.
func (f Finding) reach() int64 { return max(f.Count, f.span, 1) }

// overlap reports whether two findings may be about the same entries.
func overlap(a, b Finding) bool { return a.Seq < b.Seq+b.reach() && b.Seq < a.Seq+a.reach() }

// describe is the message of a change.
func describe(c Finding) string {
	switch c.Kind {
	case KindDeleted:
		return entries(c.Seq, c.Count) + ": deleted"
	case KindInserted:
		return fmt.Sprintf("%d more before what was logged as entry %d", c.Count, c.Seq)
	case KindReordered:
		return entries(c.Seq, c.Count) + ": in another order than they were logged in"
	}
	return entries(c.Seq, c.Count) + ": not what was logged"
}

// diff is the difference between the entries of a log and its level-0 tiles.
type diff struct {
	changes []Finding // Seq and Count as the tiles number entries
	proved  int64     // size of the last checkpoint that has the tiles' root
	proofs  point
	at      Head
	head    bool // the head has the tiles' root
}

// proof says what shows that the tile is right about entry seq.
func (d *diff) proof(seq int64) string {
	switch {
	case seq < d.proved:
		return ", which " + d.proofs.String() + " proves"
	case d.head:
		return ", by the head and tiles"
	}
	return ", by the tiles; no checkpoint proves them"
}

// feed is a sequence of hashes with lookahead.
type feed struct {
	next  func() ([]tlog.Hash, error, bool)
	ahead []tlog.Hash
	ended bool
}

// fill looks n ahead, or to the end.
func (f *feed) fill(n int) error {
	for len(f.ahead) < n && !f.ended {
		more, err, ok := f.next()
		if err != nil {
			return err
		}
		f.ended = !ok
		f.ahead = append(f.ahead, more...)
	}
	return nil
}

// take removes the first n.
func (f *feed) take(n int) []tlog.Hash {
	taken := f.ahead[:n]
	f.ahead = f.ahead[n:]
	return taken
}

// diff compares the entries with the tiles, and the tree of the tiles, continued
// by the entries after the last, with checkpoints and head.
func (l *logVerifier) diff(ctx context.Context, node string) (*diff, error) {
	logged, stopLogged := pullHashes(l.tileHashes(ctx))
	defer stopLogged()
	work := func(s []Segment) leaves { return hashSegments(node, false, s) }
	found, stopFound := pullHashes(entryHashes(hashLeaves(ctx, l.segmentsAgain(ctx), l.o.Workers, work)))
	defer stopFound()
	points := newPoints(ctx, l.src, l.report.Origin, l.keys, l.o.AllowUnsigned, l.kept, func(Kind, int64, string) {})
	defer points.stop()

	d := &diff{at: l.horizon.head}
	tree := NewTree()
	appendAll := func(hashes []tlog.Hash) error {
		for _, h := range hashes {
			if err := tree.Append(h); err != nil {
				return err
			}
			if err := d.passPoints(points, tree); err != nil {
				return err
			}
		}
		tree.TakeTiles()
		return nil
	}
	for {
		if err := logged.fill(1); err != nil {
			return nil, fmt.Errorf("read tile: %w", err)
		}
		if err := found.fill(1); err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		if len(logged.ahead) == 0 || len(found.ahead) == 0 {
			if len(logged.ahead) == 0 && len(found.ahead) == 0 {
				break
			}
			// The entries after the last tile, or the tiles after the last entry.
			if err := appendAll(logged.take(len(logged.ahead))); err != nil {
				return nil, err
			}
			if err := appendAll(found.take(len(found.ahead))); err != nil {
				return nil, err
			}
			continue
		}
		same := 0
		for same < min(len(logged.ahead), len(found.ahead)) && logged.ahead[same] == found.ahead[same] {
			same++
		}
		if same == 0 {
			if err := logged.fill(window); err != nil {
				return nil, fmt.Errorf("read tile: %w", err)
			}
			if err := found.fill(window); err != nil {
				return nil, fmt.Errorf("read entries: %w", err)
			}
			changes, i, j := compare(tree.Size(), logged, found)
			if d.changes = append(d.changes, changes...); len(d.changes) > maxFindings {
				return d, nil
			}
			found.take(j)
			if err := appendAll(logged.take(i)); err != nil {
				return nil, err
			}
			continue
		}
		found.take(same)
		if err := appendAll(logged.take(same)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// passPoints holds the tree of the tiles against head and checkpoints of its size.
func (d *diff) passPoints(p *points, tree *Tree) error {
	if tree.Size() == d.at.Size {
		d.head = tree.Root() == d.at.Root
	}
	for {
		pt, ok, err := p.peek()
		if err != nil || !ok || pt.Size > tree.Size() {
			return err
		}
		p.drop(pt)
		if pt.Size == tree.Size() && pt.Root == tree.Root() {
			d.proved, d.proofs = pt.Size, pt
		}
	}
}

// compare explains a difference at entry seq: what of logged was done to give
// found, and how many hashes of each this takes up.
func compare(seq int64, logged, found *feed) (changes []Finding, takeLogged, takeFound int) {
	e, a := logged.ahead[:min(window, len(logged.ahead))], found.ahead[:min(window, len(found.ahead))]
	if n := permuted(e, a); n > 0 {
		return []Finding{{Kind: KindReordered, Seq: seq, Count: int64(n)}}, n, n
	}
	i, j := resync(e, a)
	if i < 0 {
		// Nothing agrees again: the shorter side has ended, or all of the window changed.
		i = min(len(e), len(a))
		j = i
	}
	if both := min(i, j); both > 0 {
		changes = append(changes, Finding{Kind: KindEdited, Seq: seq, Count: int64(both)})
	}
	switch {
	case i > j:
		changes = append(changes, Finding{Kind: KindDeleted, Seq: seq + int64(j), Count: int64(i - j)})
	case j > i:
		changes = append(changes, Finding{Kind: KindInserted, Seq: seq + int64(i), Count: int64(j - i)})
	}
	return changes, i, j
}

// permuted gives the smallest n for which the first n hashes of both are the same
// in another order, or 0.
func permuted(e, a []tlog.Hash) int {
	count := make(map[tlog.Hash]int)
	odd := 0 // hashes with a count other than 0
	add := func(h tlog.Hash, by int) {
		was := count[h]
		count[h] = was + by
		if was == 0 {
			odd++
		} else if was+by == 0 {
			odd--
		}
	}
	for n := range min(len(e), len(a)) {
		add(e[n], 1)
		add(a[n], -1)
		if odd == 0 {
			return n + 1
		}
	}
	return 0
}

// resync gives the i and j with the smallest sum for which e[i] == a[j], or -1.
func resync(e, a []tlog.Hash) (int, int) {
	at := make(map[tlog.Hash]int, len(e))
	for i, h := range e {
		if _, ok := at[h]; !ok {
			at[h] = i
		}
	}
	bestI, bestJ := -1, -1
	for j, h := range a {
		if i, ok := at[h]; ok && (bestI < 0 || i+j < bestI+bestJ) {
			bestI, bestJ = i, j
		}
	}
	return bestI, bestJ
}

// tileHashes gives the entries' hashes as the level-0 tiles have them, up to the
// first tile that is not there or not one.
func (l *logVerifier) tileHashes(ctx context.Context) iter.Seq2[[]tlog.Hash, error] {
	return func(yield func([]tlog.Hash, error) bool) {
		var next int64
		for t, err := range l.src.Tiles(ctx, l.report.Origin) {
			if err != nil {
				yield(nil, err)
				return
			}
			if t.Level != 0 || t.Index != next || len(t.Data) != TileBytes {
				return
			}
			hashes := make([]tlog.Hash, TileWidth)
			for i := range hashes {
				hashes[i] = tlog.Hash(t.Data[i*tlog.HashSize:])
			}
			if !yield(hashes, nil) {
				return
			}
			next++
		}
	}
}

// segmentsAgain gives the segments that the scan read.
func (l *logVerifier) segmentsAgain(ctx context.Context) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		for s, err := range l.src.Segments(ctx, l.report.Origin, 0) {
			if err == nil && s.First >= l.horizon.head.Size || !yield(s, err) || err != nil {
				return
			}
		}
	}
}

func entryHashes(batches iter.Seq2[leaves, error]) iter.Seq2[[]tlog.Hash, error] {
	return func(yield func([]tlog.Hash, error) bool) {
		for l, err := range batches {
			if !yield(l.hashes, err) {
				return
			}
		}
	}
}

func pullHashes(seq iter.Seq2[[]tlog.Hash, error]) (*feed, func()) {
	next, stop := iter.Pull2(seq)
	return &feed{next: next}, stop
}
