package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

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
		if c.Kind == KindEdited && c.Seq < l.good {
			c.Seq, c.Count = l.good, c.Seq+c.Count-l.good // as far as they are not signed
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
	if d.stopped {
		l.report.Omitted++
		l.report.note(KindEdited, d.size, "too many changes: from entry %d on entries and tiles were not compared", d.size)
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
		if count := min(bad, l.hashed) - l.good; count > 0 {
			l.report.find(KindTileMismatch, l.good, count, "%s: pruned, and the hashes in their tiles are not, or not all, those that the signed checkpoint of %d entries is of",
				entries(l.good, count), l.badStored)
		} else {
			l.report.find(KindEdited, l.good, bad-l.good, "%s: not, or not all, those that the signed checkpoint of %d entries is of; the tiles do not show which",
				entries(l.good, bad-l.good), l.badStored)
		}
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
