package retention

import (
	"context"
	"fmt"
	"iter"
	"time"

	"cardea/internal/audit"
)

// period is the entries of a log from number From to before number To, which a
// signed checkpoint covers, as a source: with the tiles and checkpoints that it has
// and those before it have not. With the periods before it, it is a whole log.
type period struct {
	src      audit.Source
	origin   string
	from, to int64
	head     audit.Head
}

// cut finds the last checkpoint that a trusted key signed and whose entries are all
// older than before. Its size is 0 if there is none of more than from entries. If
// there are some, but all of them signed by others, it is ErrUntrusted.
func cut(ctx context.Context, src audit.Source, origin string, from int64, before time.Time, verifiers []string) (audit.Checkpoint, error) {
	young, err := firstYoung(ctx, src, origin, from, before)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	var last audit.Checkpoint
	strange := false
	for signed, err := range src.Checkpoints(ctx, origin) {
		if err != nil {
			return audit.Checkpoint{}, fmt.Errorf("read checkpoints of %s: %w", origin, err)
		}
		c, err := audit.OpenCheckpoint(signed, verifiers...)
		if err != nil || c.Origin != origin {
			strange = strange || c.Size > from && c.Size <= young
			continue // if a later one is good, this one is found when the archive is verified
		}
		if c.Size > young {
			break
		}
		if c.Size > from {
			last = c
		}
	}
	if last.Size == 0 && strange {
		return audit.Checkpoint{}, ErrUntrusted
	}
	return last, nil
}

// firstYoung gives the number of the first entry, not before number from, that is
// not older than before.
func firstYoung(ctx context.Context, src audit.Source, origin string, from int64, before time.Time) (int64, error) {
	start, err := From(ctx, src, origin, before)
	if err != nil {
		return 0, err
	}
	next := max(start, from)
	for n, err := range audit.Entries(ctx, src, origin, next) {
		if err != nil {
			return 0, fmt.Errorf("%s: %w", origin, err)
		}
		if !n.Entry.Time.Before(before) {
			return n.Seq, nil
		}
		next = n.Seq + 1
	}
	return next, nil
}

// Logs implements audit.Source.
func (p *period) Logs(context.Context) ([]string, error) { return []string{p.origin}, nil }

// Head implements audit.Source.
func (p *period) Head(context.Context, string) (audit.Head, error) { return p.head, nil }

// Segments implements audit.Source.
func (p *period) Segments(ctx context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		for s, err := range p.src.Segments(ctx, origin, max(from, p.from)) {
			if err != nil {
				yield(s, err)
				return
			}
			if s.First >= p.to {
				return
			}
			if s.First < p.from {
				continue // of the period before, which must end where a commit does
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Tiles implements audit.Source.
func (p *period) Tiles(ctx context.Context, origin string) iter.Seq2[audit.Tile, error] {
	return func(yield func(audit.Tile, error) bool) {
		for t, err := range p.src.Tiles(ctx, origin) {
			if err != nil {
				yield(t, err)
				return
			}
			if end := tileEnd(t); end > p.from && end <= p.to && !yield(t, nil) {
				return
			}
		}
	}
}

// tileEnd is the number of the entry after those under a tile.
func tileEnd(t audit.Tile) int64 {
	const most = 5 // levels of tiles whose entries an int64 counts with room to spare
	if t.Level < 0 || t.Level > most {
		return 0
	}
	return (t.Index + 1) << (audit.TileHeight * (t.Level + 1))
}

// Checkpoints implements audit.Source.
func (p *period) Checkpoints(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for signed, err := range p.src.Checkpoints(ctx, origin) {
			if err != nil {
				yield(nil, err)
				return
			}
			size, ok := statedSize(signed)
			if ok && size > p.to {
				return
			}
			if (!ok || size > p.from) && !yield(signed, nil) {
				return
			}
		}
	}
}

// Prunings implements audit.Source. A period is whole.
func (p *period) Prunings(context.Context, string) iter.Seq2[[]byte, error] {
	return func(func([]byte, error) bool) {}
}

// statedSize reads the size that a checkpoint states, whoever signed it.
func statedSize(signed []byte) (int64, bool) {
	c, err := audit.OpenCheckpoint(signed)
	return c.Size, err == nil || c.Origin != ""
}
