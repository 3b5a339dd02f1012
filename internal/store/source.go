package store

import (
	"context"
	"iter"

	"cardea/internal/audit"
)

// The audit log is read in pages, each a query of its own, so that no reader
// keeps the database from cleaning up.
const (
	segmentsPage    = 64
	tilesPage       = 256
	checkpointsPage = 1024
)

// Logs implements audit.Source.
func (s *Store) Logs(ctx context.Context) (origins []string, err error) {
	err = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		return c.query(ctx, func(scan scanFunc) error {
			origins = append(origins, "")
			return scan(&origins[len(origins)-1])
		}, "SELECT origin FROM audit_log ORDER BY origin")
	})
	return origins, err
}

// Head implements audit.Source.
func (s *Store) Head(ctx context.Context, origin string) (audit.Head, error) {
	var h head
	err := s.view(ctx, readOther, func(ctx context.Context, c session) (err error) {
		h, _, err = selectHead(ctx, c, origin)
		return err
	})
	return audit.Head{Size: h.size, Root: h.root}, err
}

// Segments implements audit.Source.
func (s *Store) Segments(ctx context.Context, origin string, from int64) iter.Seq2[audit.Segment, error] {
	return func(yield func(audit.Segment, error) bool) {
		where, next := "first >= "+firstSegment, from
		readPages(ctx, s, origin, segmentsPage, yield, func(ctx context.Context, c session, log int64, add func(audit.Segment)) error {
			err := c.query(ctx, func(scan scanFunc) error {
				var g audit.Segment
				if err := scanSegment(scan, &g); err != nil {
					return err
				}
				add(g)
				next = g.First
				return nil
			}, "SELECT first, count, body FROM audit_segment WHERE log_id = $1 AND "+where+" ORDER BY first LIMIT $3", log, next, int64(segmentsPage))
			where = "first > $2"
			return err
		})
	}
}

// Tiles implements audit.Source.
func (s *Store) Tiles(ctx context.Context, origin string) iter.Seq2[audit.Tile, error] {
	return func(yield func(audit.Tile, error) bool) {
		level, position := int64(0), int64(-1)
		readPages(ctx, s, origin, tilesPage, yield, func(ctx context.Context, c session, log int64, add func(audit.Tile)) error {
			return c.query(ctx, func(scan scanFunc) error {
				var t audit.Tile
				if err := scan(&level, &position, &t.Data); err != nil {
					return err
				}
				t.Level, t.Index = int(level), position
				add(t)
				return nil
			}, `SELECT level, position, hashes FROM audit_tile WHERE log_id = $1 AND (level, position) > ($2, $3)
				ORDER BY level, position LIMIT $4`, log, level, position, int64(tilesPage))
		})
	}
}

// Checkpoints implements audit.Source.
func (s *Store) Checkpoints(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		size := int64(-1)
		readPages(ctx, s, origin, checkpointsPage, yield, func(ctx context.Context, c session, log int64, add func([]byte)) error {
			return c.query(ctx, func(scan scanFunc) error {
				var note []byte
				if err := scan(&size, &note); err != nil {
					return err
				}
				add(note)
				return nil
			}, "SELECT size, note FROM audit_checkpoint WHERE log_id = $1 AND size > $2 ORDER BY size LIMIT $3", log, size, int64(checkpointsPage))
		})
	}
}

// CheckpointAt returns the signed checkpoint of so many entries of the node's own log,
// nil if there is none: old ones are thinned out.
func (s *Store) CheckpointAt(ctx context.Context, size int64) (note []byte, err error) {
	err = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		_, err := queryOne(ctx, c, []any{&note}, `SELECT p.note FROM audit_checkpoint p JOIN audit_log l ON l.id = p.log_id
			WHERE l.origin = $1 AND p.size = $2`, s.origin, size)
		return err
	})
	return note, err
}

// Prunings implements audit.Source.
func (s *Store) Prunings(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		upTo := int64(-1)
		readPages(ctx, s, origin, checkpointsPage, yield, func(ctx context.Context, c session, log int64, add func([]byte)) error {
			return c.query(ctx, func(scan scanFunc) error {
				var note []byte
				if err := scan(&upTo, &note); err != nil {
					return err
				}
				add(note)
				return nil
			}, "SELECT up_to, note FROM audit_pruning WHERE log_id = $1 AND up_to > $2 ORDER BY up_to LIMIT $3", log, upTo, int64(checkpointsPage))
		})
	}
}

// readPages yields what read adds, page after page, until one is not full.
func readPages[T any](ctx context.Context, s *Store, origin string, full int, yield func(T, error) bool,
	read func(ctx context.Context, c session, log int64, add func(T)) error,
) {
	for {
		var items []T
		err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
			items = items[:0]
			var log int64
			found, err := queryOne(ctx, c, []any{&log}, "SELECT id FROM audit_log WHERE origin = $1", origin)
			if err != nil || !found {
				return err
			}
			return read(ctx, c, log, func(item T) { items = append(items, item) })
		})
		if err != nil {
			yield(*new(T), err)
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if len(items) < full {
			return
		}
	}
}
