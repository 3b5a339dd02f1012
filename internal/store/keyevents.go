package store

import (
	"context"
	"errors"

	"cardea/internal/vault"
)

// pruneEvents is how many old events a new one removes at most.
const pruneEvents = 100

// nextEvent takes the number of an event and, with it, a lock until the transaction
// ends, so that numbers become visible in their order; see numbers. Work on keys of
// all nodes runs one after the other from here on.
func nextEvent(ctx context.Context, c session) (number int64, err error) {
	found, err := queryOne(ctx, c, []any{&number}, "UPDATE change_counter SET n = n + 1 WHERE id = 1 RETURNING n")
	if err == nil && !found {
		err = errors.New("the row of table change_counter is gone")
	}
	return number, err
}

// tellEvent adds an event for other nodes, and removes some that are old. The last
// of the old ones stays: whoever has read up to it has missed nothing.
func (s *Store) tellEvent(ctx context.Context, c session, number int64, tenant string, v vault.KeyVersion) error {
	_, err := c.exec(ctx, "INSERT INTO key_event (number, changed_at, tenant, key_id, key_version) VALUES ($1, $2, $3, $4, $5)",
		number, s.now().UnixMicro(), tenant, v.ID[:], int64(v.Version))
	if err == nil {
		_, err = c.exec(ctx, `DELETE FROM key_event WHERE number < (SELECT max(number) FROM
			(SELECT number, changed_at FROM key_event ORDER BY number LIMIT $1) AS oldest WHERE changed_at < $2)`,
			int64(pruneEvents), s.now().Add(-changesKept).UnixMicro())
	}
	return err
}

// KeyEvents reads along the primary key. An event without a tenant says that
// events were missed: after one that is not there any more, as events are kept for
// a day, and at the very beginning.
func (s *Store) KeyEvents(ctx context.Context, after int64, limit int) ([]vault.KeyEvent, error) {
	var events []vault.KeyEvent
	read := func(ctx context.Context, c session, sql string, args ...any) error {
		events = nil
		return c.query(ctx, func(scan scanFunc) error {
			var e vault.KeyEvent
			var id []byte
			var version int64
			if err := scan(&e.Number, &e.Tenant, &id, &version); err != nil {
				return err
			}
			e.Key.Version = uint32(version)
			if err := copyBytes(e.Key.ID[:], id, "key_id"); err != nil {
				return err
			}
			events = append(events, e)
			return nil
		}, "SELECT number, tenant, key_id, key_version FROM key_event "+sql, args...)
	}
	err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
		if after > 0 {
			// The reader's own event is read again: it tells that nothing was missed.
			if err := read(ctx, c, "WHERE number >= $1 ORDER BY number LIMIT $2", after, int64(limit)+1); err != nil {
				return err
			}
			if len(events) > 0 && events[0].Number == after {
				events = events[1:]
				return nil
			}
		}
		if err := read(ctx, c, "ORDER BY number DESC LIMIT 1"); err != nil || after <= 0 {
			return err
		}
		for i := range events { // whatever it was, much has been missed
			events[i] = vault.KeyEvent{Number: events[i].Number}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return events, nil
}
