package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/audit"
)

// writerID names who may write a log: eight random bytes of the process and a
// number that it raises whenever it has to make sure that none of its earlier
// transactions can still commit.
type writerID [16]byte

// process is the part that stays.
func (w writerID) process() []byte { return w[:8] }

// head is the row of a log in audit_log, as this process left it.
type head struct {
	log    int64 // id of the row
	size   int64
	root   tlog.Hash
	writer writerID
}

// addition is what a commit adds to a log.
type addition struct {
	count int
	body  []byte
	tiles []audit.Tile
	size  int64 // of the log with it
	root  tlog.Hash
}

// add computes what entries add to the log of tree, and the tree with them. The
// tree itself stays as it is. The other tree and the body lend their memory.
func add(tree, old *audit.Tree, body []byte, entries []audit.Sealed) (*audit.Tree, *addition, error) {
	next := tree.CloneTo(old)
	for i := range entries {
		if err := next.Append(entries[i].Hash); err != nil {
			return nil, nil, err
		}
	}
	return next, &addition{
		count: len(entries), body: audit.AppendSegment(body[:0], entries), tiles: next.TakeTiles(), size: next.Size(), root: next.Root(),
	}, nil
}

// writeLog adds a to the log in the open transaction. It fails with errHeadMoved
// unless the head is h.
func writeLog(ctx context.Context, s session, h head, a *addition) error {
	_, err := s.exec(ctx, "INSERT INTO audit_segment (log_id, first, count, body) VALUES ($1, $2, $3, $4)",
		h.log, h.size, int64(a.count), a.body)
	if err != nil {
		return err
	}
	for i := range a.tiles {
		t := &a.tiles[i]
		_, err := s.exec(ctx, "INSERT INTO audit_tile (log_id, level, position, hashes) VALUES ($1, $2, $3, $4)",
			h.log, int64(t.Level), t.Index, t.Data)
		if err != nil {
			return err
		}
	}
	n, err := s.exec(ctx, "UPDATE audit_log SET size = $1, root = $2 WHERE id = $3 AND size = $4 AND root = $5 AND writer = $6",
		a.size, a.root[:], h.log, h.size, h.root[:], h.writer[:])
	if err == nil && n != 1 {
		return errHeadMoved
	}
	return err
}

// selectHead returns false if there is no such log.
func selectHead(ctx context.Context, s session, origin string) (head, bool, error) {
	var h head
	var root, writer []byte
	found, err := queryOne(ctx, s, []any{&h.log, &h.size, &root, &writer},
		"SELECT id, size, root, writer FROM audit_log WHERE origin = $1", origin)
	if err != nil || !found {
		return head{}, false, err
	}
	if err := copyBytes(h.root[:], root, "root"); err != nil {
		return head{}, false, err
	}
	return h, true, copyBytes(h.writer[:], writer, "writer")
}

// seize makes id the writer of the log, in the open transaction, and returns its
// head. Unless fresh, the writer must so far be of the same process; otherwise
// errHeadMoved. No transaction of an earlier writer can commit afterwards: the
// row is locked by those that may still, and the others miss their name in it.
func seize(ctx context.Context, s session, origin string, id writerID, fresh bool) (head, error) {
	empty := audit.NewTree().Root()
	if fresh {
		_, err := s.exec(ctx, "INSERT INTO audit_log (origin, size, root, writer) VALUES ($1, 0, $2, $3) ON CONFLICT (origin) DO NOTHING",
			origin, empty[:], id[:])
		if err != nil {
			return head{}, err
		}
		_, err = s.exec(ctx, "UPDATE audit_log SET writer = $1 WHERE origin = $2", id[:], origin)
		if err != nil {
			return head{}, err
		}
	} else {
		n, err := s.exec(ctx, "UPDATE audit_log SET writer = $1 WHERE origin = $2 AND substr(writer, 1, 8) = $3", id[:], origin, id.process())
		if err != nil {
			return head{}, err
		}
		if n != 1 {
			return head{}, errHeadMoved
		}
	}
	h, _, err := selectHead(ctx, s, origin)
	return h, err
}

// resume restores the tree of a log from its tiles and its last entries. It
// refuses a log whose parts do not fit together, audit.ErrDamaged.
func resume(ctx context.Context, s session, h head) (*audit.Tree, error) {
	tail, err := selectTail(ctx, s, h)
	if err != nil {
		return nil, err
	}
	tiles := func(level int, index int64) ([]byte, error) {
		var data []byte
		found, err := queryOne(ctx, s, []any{&data},
			"SELECT hashes FROM audit_tile WHERE log_id = $1 AND level = $2 AND position = $3", h.log, int64(level), index)
		if err == nil && !found {
			err = fmt.Errorf("%w: it is missing", audit.ErrDamaged)
		}
		return data, err
	}
	tree, err := audit.ResumeTree(h.size, h.root, tiles, tail)
	if err != nil {
		return nil, err
	}
	return tree, checkSigned(ctx, s, h)
}

// selectTail returns the leaf hashes of the entries after the last full tile.
func selectTail(ctx context.Context, s session, h head) ([]tlog.Hash, error) {
	from := h.size &^ (audit.TileWidth - 1)
	var tail []tlog.Hash
	at := int64(-1) // the number of the next entry
	err := s.query(ctx, func(scan scanFunc) error {
		var g audit.Segment
		if err := scanSegment(scan, &g); err != nil {
			return err
		}
		if at >= 0 && g.First != at {
			return fmt.Errorf("%w: segment %d where %d should be", audit.ErrDamaged, g.First, at)
		}
		lines, err := audit.SplitSegment(g.Body, g.Count)
		if err != nil {
			return fmt.Errorf("%w: segment %d: %w", audit.ErrDamaged, g.First, err)
		}
		for i, line := range lines {
			if g.First+int64(i) >= from {
				tail = append(tail, audit.LeafHash(line))
			}
		}
		at = g.First + int64(g.Count)
		return nil
	}, "SELECT first, count, body FROM audit_segment WHERE log_id = $1 AND first >= "+firstSegment+" ORDER BY first", h.log, from)
	if err == nil && at > h.size {
		err = fmt.Errorf("%w: %d entries, the head says %d", audit.ErrDamaged, at, h.size)
	}
	return tail, err
}

// checkSigned refuses a log that is shorter than what was signed of it.
func checkSigned(ctx context.Context, s session, h head) error {
	var size int64
	found, err := queryOne(ctx, s, []any{&size},
		"SELECT size FROM audit_checkpoint WHERE log_id = $1 ORDER BY size DESC LIMIT 1", h.log)
	if err == nil && found && size > h.size {
		err = fmt.Errorf("%w: %d entries, a checkpoint of %d is signed", audit.ErrDamaged, h.size, size)
	}
	return err
}

// firstSegment is the number of the first entry of the segment that holds entry
// $2 of the log $1.
const firstSegment = "coalesce((SELECT max(first) FROM audit_segment WHERE log_id = $1 AND first <= $2), 0)"

func scanSegment(scan scanFunc, g *audit.Segment) error {
	var count int64
	if err := scan(&g.First, &count, &g.Body); err != nil {
		return err
	}
	g.Count = int(count)
	return nil
}
