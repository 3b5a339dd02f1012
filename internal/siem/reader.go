package siem

import (
	"context"
	"errors"
	"fmt"

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
			c.holes = append(c.holes, fmt.Sprintf("entries %d to %d of %s are missing", c.end, seg.First-1, origin))
			c.end, c.blind = seg.First, true
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
		return c, fmt.Errorf("%w: %s has %d entries, but those from %d on cannot be found", errCut, origin, size, from)
	}
	return c, nil
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
