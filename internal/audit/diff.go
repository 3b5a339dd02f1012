package audit

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"
)

// window is how many hashes diff looks ahead on each side to find where entries
// and tiles agree again.
const window = 4096

// diff is the difference between the entries of a log and its level-0 tiles.
type diff struct {
	changes []Finding // Seq and Count as the tiles number entries
	proved  int64     // size of the last checkpoint that has the tiles' root
	proofs  point
	head    bool  // the head has the tiles' root
	size    int64 // entries compared
	stopped bool  // there were too many changes to go on
}

// proof says what shows that the tile is right about entry seq.
func (d *diff) proof(seq int64) string {
	switch {
	case seq < d.proved:
		return ", which " + d.proofs.String() + " proves"
	case d.head:
		return ", which tiles and head show"
	}
	return ", which the tiles show"
}

// add adds changes; edits that follow each other become one.
func (d *diff) add(changes []Finding) {
	for _, c := range changes {
		if n := len(d.changes); n > 0 && c.Kind == KindEdited {
			if last := &d.changes[n-1]; last.Kind == KindEdited && last.Seq+last.Count == c.Seq {
				last.Count += c.Count
				continue
			}
		}
		d.changes = append(d.changes, c)
	}
}

// feed is a sequence of hashes with lookahead.
type feed struct {
	what  string
	next  func() ([]tlog.Hash, error, bool)
	ahead []tlog.Hash
	ended bool
}

// fill looks n ahead, or to the end.
func (f *feed) fill(n int) error {
	for len(f.ahead) < n && !f.ended {
		more, err, ok := f.next()
		if err != nil {
			return fmt.Errorf("read %s: %w", f.what, err)
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

// differ compares the entries of a log with its level-0 tiles.
type differ struct {
	logged *feed // as the tiles have it
	found  *feed // as the entries are
	tree   *Tree // of the tiles, continued by the entries after the last
	points *points
	head   Head
	hashed int64 // entries that were pruned: only tiles have them
	diff   diff
}

// diff compares, and holds the tree of the tiles against checkpoints and head.
func (l *logVerifier) diff(ctx context.Context, node string) (*diff, error) {
	logged, stopLogged := pullHashes("tile", l.tileHashes(ctx))
	defer stopLogged()
	work := func(s []Segment) leaves { return hashSegments(node, false, s) }
	found, stopFound := pullHashes("entries", entryHashes(hashLeaves(ctx, l.segmentsAgain(ctx), l.o.Workers, work)))
	defer stopFound()
	points := newPoints(ctx, l.src, l.report.Origin, l.keys, l.o.AllowUnsigned, l.kept, func(Kind, int64, string) {})
	defer points.stop()
	d := &differ{logged: logged, found: found, tree: NewTree(), points: points, head: l.horizon.head, hashed: l.hashed}
	if err := d.run(); err != nil {
		return nil, err
	}
	return &d.diff, nil
}

func (d *differ) run() error {
	for left := d.hashed; left > 0; left = d.hashed - d.tree.Size() {
		if err := d.logged.fill(1); err != nil || len(d.logged.ahead) == 0 {
			return err
		}
		if err := d.pass(d.logged.take(int(min(left, int64(len(d.logged.ahead)))))); err != nil {
			return err
		}
	}
	for {
		if err := d.fill(1); err != nil {
			return err
		}
		logged, found := d.logged.ahead, d.found.ahead
		switch same := common(logged, found); {
		case len(logged) == 0 && len(found) == 0:
			return nil
		case len(logged) == 0: // the entries after the last tile
			if err := d.pass(d.found.take(len(found))); err != nil {
				return err
			}
		case len(found) == 0: // the tiles after the last entry
			if err := d.pass(d.logged.take(len(logged))); err != nil {
				return err
			}
		case same > 0:
			d.found.take(same)
			if err := d.pass(d.logged.take(same)); err != nil {
				return err
			}
		default:
			if err := d.explain(); err != nil || d.diff.stopped {
				return err
			}
		}
	}
}

// explain passes over a difference and notes what it is.
func (d *differ) explain() error {
	if err := d.fill(window); err != nil {
		return err
	}
	changes, takeLogged, takeFound := compare(d.tree.Size(), d.logged, d.found)
	d.diff.add(changes)
	if len(d.diff.changes) > maxFindings {
		d.diff.stopped = true
		return nil
	}
	d.found.take(takeFound)
	return d.pass(d.logged.take(takeLogged))
}

// fill looks n ahead on both sides.
func (d *differ) fill(n int) error {
	if err := d.logged.fill(n); err != nil {
		return err
	}
	return d.found.fill(n)
}

// pass appends to the tree and holds it against head and checkpoints.
func (d *differ) pass(hashes []tlog.Hash) error {
	for _, h := range hashes {
		if err := d.tree.Append(h); err != nil {
			return err
		}
		d.diff.size = d.tree.Size()
		if d.diff.size == d.head.Size {
			d.diff.head = d.tree.Root() == d.head.Root
		}
		if err := d.passPoints(); err != nil {
			return err
		}
	}
	d.tree.TakeTiles()
	return nil
}

func (d *differ) passPoints() error {
	for {
		pt, ok, err := d.points.peek()
		if err != nil || !ok || pt.Size > d.tree.Size() {
			return err
		}
		d.points.drop(pt)
		if pt.Size == d.tree.Size() && pt.Root == d.tree.Root() {
			d.diff.proved, d.diff.proofs = pt.Size, pt
		}
	}
}

// common is how many hashes both begin with.
func common(a, b []tlog.Hash) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
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
			if !yield(hashesOf(t), nil) {
				return
			}
			next++
		}
	}
}

// segmentsAgain gives the segments that the scan read.
func (l *logVerifier) segmentsAgain(ctx context.Context) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		for s, err := range l.stored(ctx) {
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

func pullHashes(what string, seq iter.Seq2[[]tlog.Hash, error]) (*feed, func()) {
	next, stop := iter.Pull2(seq)
	return &feed{what: what, next: next}, stop
}
