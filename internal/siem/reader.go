package siem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cardea/internal/audit"
)

// Log is where audit logs are read, and which of them.
type Log struct {
	Source audit.Source
	// Origins are the logs to deliver; nil for all that are there, also later.
	Origins []string
}

// scanLimit is how many entries are looked at for one batch, most of which a filter
// may leave out.
const scanLimit = 4096

// chunk is a stretch of a log: what is to be sent of it, and where it leads.
type chunk struct {
	events []*Event
	leaves []hash   // of all entries from the position on, those left out too
	end    int64    // position after it
	holes  []string // what is not as it should be
	absent string   // what was archived and pruned before the delivery began
	blind  bool     // entries are missing, so that the tree is not known any more
}

// readLog reads entries from a position up to a size of the log.
func readLog(ctx context.Context, src audit.Source, origin string, from, size int64, filter Filter, entries, bytes int) (*chunk, error) {
	c := &chunk{end: from}
	for seg, err := range src.Segments(ctx, origin, from) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", origin, err)
		}
		if seg.First >= size {
			break
		}
		if seg.First > c.end {
			if err := c.pass(ctx, src, origin, from, seg.First); err != nil {
				return nil, err
			}
		}
		lines, err := audit.SplitSegment(seg.Body, seg.Count)
		if err != nil {
			c.holes = append(c.holes, fmt.Sprintf("entries %d to %d of %s cannot be read: %v", seg.First, seg.First+int64(seg.Count)-1, origin, err))
			c.end, c.blind = max(c.end, seg.First+int64(seg.Count)), true
			continue
		}
		for i, line := range lines {
			seq := seg.First + int64(i)
			if seq < c.end || seq >= size {
				continue
			}
			if len(c.leaves) == scanLimit || len(c.events) == entries || bytes <= 0 {
				return c, nil
			}
			ev, err := EntryEvent(origin, seq, line)
			if err == nil && "cardea/"+ev.Entry.Node != origin {
				err = fmt.Errorf("it is of node %s", ev.Entry.Node)
			}
			c.leaves, c.end = append(c.leaves, audit.LeafHash(line)), seq+1
			if err != nil {
				c.holes = append(c.holes, fmt.Sprintf("entry %d of %s: %v", seq, origin, err))
				continue
			}
			if filter.Match(&ev) {
				c.events = append(c.events, &ev)
				bytes -= len(line)
			}
		}
	}
	if len(c.leaves) == 0 && c.end == from && from < size {
		if a, err := audit.AbsentOf(ctx, src, origin); err != nil || a.Pruning != nil && a.Before >= size {
			return c, errors.Join(err, c.pass(ctx, src, origin, from, size)) // all of it was pruned
		}
		return c, fmt.Errorf("%w: %s has %d entries, but those from %d on cannot be found", errCut, origin, size, from)
	}
	return c, nil
}

// pass passes over entries that are not there. A delivery that has just begun gets
// none that were pruned before; nothing that it has to deliver is pruned.
func (c *chunk) pass(ctx context.Context, src audit.Source, origin string, from, to int64) error {
	a, err := audit.AbsentOf(ctx, src, origin)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("entries %d to %d of %s", c.end, to-1, origin)
	switch {
	case a.Pruning == nil || to > a.Before:
		c.holes = append(c.holes, what+" are missing")
	case from > 0:
		c.holes = append(c.holes, what+" were pruned before they were delivered: they are in the archive of "+a.Pruning.Time.Format(time.DateOnly))
	default:
		c.absent = what + " were archived on " + a.Pruning.Time.Format(time.DateOnly) + " and pruned before this delivery began, which does not get them"
	}
	c.end, c.blind = to, true
	return nil
}

// errCut says that entries are missing at the end of a log.
var errCut = errors.New("audit log is cut off")

// advance moves a position over the first n entries of a chunk.
func (p position) advance(c *chunk, to int64) position {
	if p.Blind || c.blind {
		return position{Next: to, Blind: true}
	}
	edge := append([]hash(nil), p.Edge...)
	for i := range to - p.Next {
		edge = appendLeaf(edge, p.Next+i, c.leaves[i])
	}
	return position{Next: to, Edge: edge}
}
