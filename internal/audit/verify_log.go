package audit

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// clockSlack is how far time may run backwards between entries without a note.
const clockSlack = time.Minute

// logVerifier verifies one log.
type logVerifier struct {
	src     Source
	horizon *horizon
	keys    note.Verifiers
	o       *VerifyOptions
	kept    []Checkpoint
	missing bool
	report  LogReport
	prefix

	// Set by the goroutine that reads segments, read when it has ended.
	gaps   []Finding // segments that do not follow each other
	beyond int64     // first entry after the head, or -1

	// What the scan found, for judge.
	tree       *Tree
	gapsInside []Finding // segments that have not as many lines as they say
	good       int64     // size of the last checkpoint that has the log's root
	badStored  int64     // size of the first that has not, or -1
	badKept    int64
	cutStored  int64 // size of the last that is beyond the log's end, or 0
	cutKept    int64
	tiles      tileCheck
	orphans    bool       // the entries from beyond on should not be there
	prunings   []prunedBy // entries of prunings, also of other logs
	blind      bool       // the hashes of pruned entries are not there, so that nothing more can be said

	// Times of entries.
	latest        time.Time
	unsignedSince time.Time // of the first entry after the last good checkpoint
}

func (l *logVerifier) verify(ctx context.Context, progress func(int64)) error {
	origin := l.report.Origin
	node, ok := nodeOf(origin)
	switch {
	case l.missing:
		l.report.find(KindTruncated, 0, 0, "the log is not there, but a key or checkpoint of it is, or it was asked for")
		return nil
	case !ok:
		l.report.find(KindMalformedEntry, 0, 0, "no node can have the log %q", origin)
		return nil
	}
	if err := l.openPrefix(ctx); err != nil {
		return err
	}
	if err := l.scan(ctx, node, progress); err != nil || l.blind {
		return err
	}
	return l.judge(ctx, node)
}

// scan reads the whole log once, and holds it against checkpoints and tiles.
func (l *logVerifier) scan(ctx context.Context, node string, progress func(int64)) error {
	l.tree = NewTree()
	points := newPoints(ctx, l.src, l.report.Origin, l.keys, l.o.AllowUnsigned, l.kept, func(kind Kind, size int64, message string) {
		l.report.find(kind, size, 0, "%s", message)
	})
	defer points.stop()
	l.tiles.open(ctx, l.src, l.horizon)
	defer l.tiles.stop()

	if err := l.passPoints(points); err != nil {
		return err
	}
	if whole, err := l.scanPrefix(ctx, points, progress); err != nil || !whole {
		l.blind = !whole
		return err
	}
	work := func(s []Segment) leaves { return hashSegments(node, true, s) }
	for batch, err := range hashLeaves(ctx, l.segments(ctx), l.o.Workers, work) {
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		for _, f := range batch.findings {
			if f.Kind == KindMalformedEntry {
				l.report.add(&l.report.Findings, f)
			} else if len(l.gapsInside) < maxFindings {
				l.gapsInside = append(l.gapsInside, f)
			}
		}
		for i, h := range batch.hashes {
			l.passTime(batch.times[i])
			if err := l.append(h, points); err != nil {
				return err
			}
		}
		l.prunings = append(l.prunings, batch.prunings...)
		if err := l.tiles.compare(l.tree.TakeTiles()); err != nil {
			return err
		}
		progress(int64(len(batch.hashes)))
	}
	if err := l.leftPoints(ctx, points); err != nil {
		return err
	}
	return l.tiles.finish(ctx)
}

// segments gives the segments up to the horizon and notes those that do not
// follow the one before.
func (l *logVerifier) segments(ctx context.Context) func(func(Segment, error) bool) {
	return func(yield func(Segment, error) bool) {
		l.gaps, l.beyond = nil, -1
		gap := func(kind Kind, seq, count int64) {
			if len(l.gaps) < maxFindings {
				l.gaps = append(l.gaps, Finding{Kind: kind, Seq: seq, Count: count, span: count + 1})
			}
		}
		next := l.hashed
		for s, err := range l.stored(ctx) {
			if err != nil {
				yield(Segment{}, err)
				return
			}
			if s.First >= l.horizon.head.Size {
				l.beyond = s.First
				return
			}
			if s.First > next {
				if pruned, err := l.prunedMeanwhile(ctx, s.First); pruned || err != nil {
					yield(Segment{}, cmp.Or(err, errPrunedMeanwhile))
					return
				}
				gap(KindDeleted, next, s.First-next)
			} else if s.First < next {
				gap(KindInserted, s.First, next-s.First)
			}
			next = max(next, s.First+int64(s.Count))
			if !yield(s, nil) {
				return
			}
		}
	}
}

// passPoints holds the tree against the checkpoints of its size.
func (l *logVerifier) passPoints(p *points) error {
	for {
		pt, ok, err := p.peek()
		if err != nil || !ok || pt.Size > l.tree.Size() {
			return err
		}
		p.drop(pt)
		switch {
		case pt.Root == l.tree.Root():
			l.good, l.report.SignedAt = pt.Size, pt.Time
			l.report.Checkpoints++
			l.unsignedSince = time.Time{}
		case pt.kept && l.badKept < 0:
			l.badKept = pt.Size
		case !pt.kept && l.badStored < 0:
			l.badStored = pt.Size
		}
	}
}

// leftPoints looks at the checkpoints that are of more entries than there are.
func (l *logVerifier) leftPoints(ctx context.Context, p *points) error {
	for {
		pt, ok, err := p.peek()
		if err != nil || !ok {
			return err
		}
		p.drop(pt)
		if pt.kept {
			// It was signed before the head was read, and for a committed one.
			if pt.Size > l.horizon.head.Size {
				l.cutKept = max(l.cutKept, pt.Size)
			}
			continue
		}
		if pt.Size <= l.horizon.head.Size {
			continue // judged by the head
		}
		grew, err := l.horizon.grew(ctx, pt.Size)
		if err != nil {
			return fmt.Errorf("read head: %w", err)
		}
		if !grew {
			l.cutStored = max(l.cutStored, pt.Size)
		}
	}
}

// passTime takes the time of the next entry.
func (l *logVerifier) passTime(t time.Time) {
	if t.IsZero() {
		return
	}
	if l.report.First.IsZero() {
		l.report.First = t
	}
	if l.unsignedSince.IsZero() {
		l.unsignedSince = t
	}
	l.report.Last = t
	if t.Before(l.latest.Add(-clockSlack)) {
		l.report.note(KindClock, l.tree.Size(), "entry %d is %s older than one before it", l.tree.Size(), l.latest.Sub(t))
		l.latest = t // one note for a clock that was set
	}
	if t.After(l.latest) {
		l.latest = t
	}
}

// judge turns what the scan found into findings.
func (l *logVerifier) judge(ctx context.Context, node string) error {
	head, size := l.horizon.head, l.tree.Size()
	root := l.tree.Root()
	l.report.Entries, l.report.Root = size, root.String()
	l.report.Signed, l.report.UnsignedTail = l.good, max(0, size-l.good)

	if l.beyond >= 0 {
		grew, err := l.horizon.grew(ctx, l.beyond+1)
		if err != nil {
			return fmt.Errorf("read head: %w", err)
		}
		l.orphans = !grew
	}
	gaps := l.gapFindings()
	doubt := len(gaps) > 0 || size != head.Size || root != head.Root || l.badStored >= 0 || l.badKept >= 0
	if doubt {
		if err := l.locate(ctx, node, gaps); err != nil {
			return err
		}
	} else {
		l.tiles.report(&l.report)
		l.judgeTail()
	}
	l.judgeCuts(size)
	if l.orphans {
		l.report.find(KindInserted, l.beyond, 0, "entries from %d on are after the head, which says %d", l.beyond, head.Size)
	}
	return nil
}

// gapFindings are the findings of segments, with messages.
func (l *logVerifier) gapFindings() []Finding {
	for i, f := range l.gaps {
		if f.Kind == KindDeleted {
			l.gaps[i].Message = entries(f.Seq, f.Count) + ": no segment has them"
		} else {
			l.gaps[i].Message = entries(f.Seq, f.Count) + ": more than one segment has them"
		}
	}
	return append(l.gaps, l.gapsInside...)
}

// judgeTail looks at the entries of a sound log that no checkpoint covers.
func (l *logVerifier) judgeTail() {
	tail := l.report.UnsignedTail
	if l.o.AllowUnsigned || tail == 0 {
		return
	}
	span := l.report.Last.Sub(l.unsignedSince)
	switch {
	case l.report.Checkpoints == 0:
		l.report.find(KindUnsigned, 0, tail, "no trusted checkpoint signs any of the %d entries", tail)
	case span > l.o.UnsignedSpan:
		l.report.find(KindUnsigned, l.good, tail, "%s, of %s, are after the last trusted checkpoint: later ones were removed or never made",
			entries(l.good, tail), span.Round(time.Second))
	}
}

// judgeCuts reports checkpoints of more entries than head and entries have.
func (l *logVerifier) judgeCuts(size int64) {
	if l.cutStored > 0 {
		l.report.find(KindTruncated, size, l.cutStored-size, "the log ends after %d entries, but a checkpoint stored with it signs %d", size, l.cutStored)
	}
	if l.cutKept > 0 {
		l.report.find(KindRollback, size, l.cutKept-size, "the log ends after %d entries, but a kept checkpoint signs %d", size, l.cutKept)
	}
}
