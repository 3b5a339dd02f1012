package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// tileCheck holds computed tiles against the stored ones as a log is read. Tiles
// of level 0 are compared as they become full; of the others, which the source
// gives later, digests are kept until then.
type tileCheck struct {
	horizon *horizon
	next    func() (Tile, error, bool)
	stop    func()
	ahead   *Tile // read, not yet compared

	upper map[tileAt][sha256.Size]byte
	wrong []Finding
}

type tileAt struct {
	level int
	index int64
}

// first is the first entry under the tile, and count how many are.
func (t tileAt) first() int64 { return t.index * t.count() }

func (t tileAt) count() int64 {
	if t.level < 0 || t.level >= tileLevels-1 {
		return maxSize
	}
	return 1 << (TileHeight * (t.level + 1))
}

// inside reports whether all the entries under the tile are in a log of size.
func (t tileAt) inside(size int64) bool { return t.index >= 0 && t.index < size/t.count() }

func (c *tileCheck) open(ctx context.Context, src Source, h *horizon) {
	c.horizon = h
	c.upper = make(map[tileAt][sha256.Size]byte)
	c.next, c.stop = iter.Pull2(src.Tiles(ctx, h.origin))
}

func (c *tileCheck) note(t tileAt, what string) {
	if len(c.wrong) < maxFindings {
		c.wrong = append(c.wrong, Finding{
			Kind: KindTileMismatch, Seq: t.first(), Count: t.count(),
			Message: fmt.Sprintf("tile %d/%d %s", t.level, t.index, what),
		})
	}
}

// peek gives the next stored tile, or nil after the last.
func (c *tileCheck) peek() (*Tile, error) {
	if c.ahead == nil {
		t, err, ok := c.next()
		if err != nil {
			return nil, fmt.Errorf("read tile: %w", err)
		}
		if !ok {
			return nil, nil
		}
		c.ahead = &t
	}
	return c.ahead, nil
}

// compare takes the tiles that became full.
func (c *tileCheck) compare(computed []Tile) error {
	for _, t := range computed {
		at := tileAt{t.Level, t.Index}
		if t.Level > 0 {
			c.upper[at] = sha256.Sum256(t.Data)
			continue
		}
		for {
			stored, err := c.peek()
			if err != nil {
				return err
			}
			if stored == nil || stored.Level > 0 || stored.Index > t.Index {
				c.note(at, "is missing")
				break
			}
			c.ahead = nil
			if stored.Level == 0 && stored.Index == t.Index {
				if !bytes.Equal(stored.Data, t.Data) {
					c.note(at, "is not that of the entries")
				}
				break
			}
			c.note(tileAt{stored.Level, stored.Index}, "is out of order")
		}
	}
	return nil
}

// finish compares the tiles that are left when all entries were read.
func (c *tileCheck) finish(ctx context.Context) error {
	for {
		stored, err := c.peek()
		if err != nil {
			return err
		}
		if stored == nil {
			break
		}
		c.ahead = nil
		at := tileAt{stored.Level, stored.Index}
		want, ok := c.upper[at]
		switch {
		case ok && sha256.Sum256(stored.Data) == want:
		case ok:
			c.note(at, "is not that of the tiles below it")
		case at.inside(c.horizon.head.Size):
			c.note(at, "is there twice, or the entries under it are missing")
		default:
			grew := false
			if at.index >= 0 && at.index < maxSize/at.count()-1 {
				if grew, err = c.horizon.grew(ctx, at.first()+at.count()); err != nil {
					return fmt.Errorf("read head: %w", err)
				}
			}
			if !grew {
				c.note(at, "is of entries after the head")
			}
		}
		delete(c.upper, at)
	}
	missing := slices.SortedFunc(maps.Keys(c.upper), func(a, b tileAt) int {
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.index, b.index))
	})
	for _, at := range missing {
		c.note(at, "is missing")
	}
	return nil
}

// report reports wrong tiles of a log whose entries are proved otherwise.
func (c *tileCheck) report(to *LogReport) {
	for _, f := range c.wrong {
		to.add(&to.Findings, f)
	}
}
