package store

import (
	"context"
	"log/slog"
	"time"

	"cardea/internal/audit"
)

const (
	// changesPage is how many changes are told at a time.
	changesPage = 1000
	// changesKept is how long they are known. Nodes ask every few seconds.
	changesKept = 24 * time.Hour
	// pruneEvery is how often older ones are removed, pruneBatch in a transaction.
	pruneEvery = 10 * time.Minute
	pruneBatch = 1000
)

// changeLog is a table of changes: who has read up to a number asks for those
// after it.
type changeLog struct {
	table, columns string
	pruned         string // column of change_counter: the number of the last that was removed
}

var (
	keyChanges      = changeLog{"kms_change", "account, region, key_id, alias", "kms_pruned"}
	identityChanges = changeLog{"identity_change", "kind, account, name", "identity_pruned"}
)

// changesRead is what was found: the number to go on from, and whether some that
// were asked for have been removed.
type changesRead struct {
	last      int64
	forgotten bool
}

// firstNumber is below those of all changes.
const firstNumber = 1

// after reads changes after a number. row gets each, with its number first. A
// negative number asks only from where to go on. 0 is that of a reader that knows
// nothing, who has missed nothing.
func (l changeLog) after(ctx context.Context, c session, after int64, row func(scan scanFunc, n *int64) error) (r changesRead, err error) {
	r.last = max(after, firstNumber)
	if after >= 0 {
		err := c.query(ctx, func(scan scanFunc) error { return row(scan, &r.last) },
			"SELECT n, "+l.columns+" FROM "+l.table+" WHERE n > $1 ORDER BY n LIMIT $2", after, int64(changesPage))
		if err != nil {
			return r, err
		}
	}
	// Only now: what has not been removed by now was there to be read.
	var n, pruned int64
	if _, err := queryOne(ctx, c, []any{&n, &pruned}, "SELECT n, "+l.pruned+" FROM change_counter WHERE id = 1"); err != nil {
		return r, err
	}
	if r.forgotten = after > 0 && after < pruned; r.forgotten || after < 0 {
		r.last = n // smaller numbers are visible now, see numbers
	}
	return r, nil
}

// startPruning has changes removed that are old. It is called before the store is
// used for the key service, never for a vault alone, whose role in the database
// may lack the rights.
func (s *Store) startPruning() {
	if s.com != nil {
		s.pruning.Do(func() { s.background(s.ctx, s.pruneChanges) })
	}
}

func (s *Store) pruneChanges(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.prune(ctx, pruneBatch); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "old changes not removed", slog.Any("error", err))
		}
	}
}

// prune removes old changes, so many in a transaction.
func (s *Store) prune(ctx context.Context, batch int64) error {
	before := s.now().Add(-changesKept).UnixMicro()
	for _, l := range []changeLog{keyChanges, identityChanges} {
		for more := true; more; {
			var n, last int64
			err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
				n, last = 0, 0
				return c.query(ctx, func(scan scanFunc) error {
					var number, at int64
					if err := scan(&number, &at); err != nil {
						return err
					}
					if at < before {
						n, last = n+1, number
					}
					return nil
				}, "SELECT n, changed_at FROM "+l.table+" ORDER BY n LIMIT $1", batch)
			})
			if err == nil && n > 0 {
				err = s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
					// First the number: a reader that misses a row must find out.
					_, err := c.exec(ctx, "UPDATE change_counter SET "+l.pruned+" = $1 WHERE id = 1 AND "+l.pruned+" < $1", last)
					if err == nil {
						_, err = c.exec(ctx, "DELETE FROM "+l.table+" WHERE n <= $1", last)
					}
					return nil, err
				})
			}
			if err != nil {
				return err
			}
			more = n == batch
		}
	}
	return nil
}
