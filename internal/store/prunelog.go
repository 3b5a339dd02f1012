package store

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/audit"
)

// removeBatch is how many segments are removed in a transaction.
const removeBatch = 256

// ErrNotPrunable says that entries of a log must stay where they are.
var ErrNotPrunable = errors.New("these entries of the log must stay")

// pruneState is what the store says of a log that is to be pruned.
type pruneState struct {
	log  int64
	from int64 // entries before were pruned
	to   int64 // entries before may be
}

// PruneLimit tells where the next pruning of a log begins, and up to where it may
// go, but not beyond upTo: to the end of a segment, as far as full tiles have all
// hashes, and not over the entry of the newest pruning of another log
// (docs/spec/audit-log.md, Pruning). There is nothing to prune if to is not more than
// from.
func (s *Store) PruneLimit(ctx context.Context, origin string, upTo int64) (from, to int64, err error) {
	var p pruneState
	err = s.view(ctx, readOther, func(ctx context.Context, c session) (err error) {
		p, err = selectPrunable(ctx, c, origin, upTo)
		return err
	})
	return p.from, p.to, err
}

func selectPrunable(ctx context.Context, c session, origin string, upTo int64) (p pruneState, err error) {
	h, found, err := selectHead(ctx, c, origin)
	if err != nil || !found {
		return p, err
	}
	p.log = h.log
	if _, err := queryOne(ctx, c, []any{&p.from}, "SELECT coalesce(max(up_to), 0) FROM audit_pruning WHERE log_id = $1", h.log); err != nil {
		return p, err
	}
	limit := min(upTo, h.size&^(audit.TileWidth-1))
	var entry int64
	if _, err := queryOne(ctx, c, []any{&entry}, `SELECT coalesce(min(p.number), $2) FROM audit_pruning p WHERE p.recorder = $1 AND p.log_id <> $1
		AND p.up_to = (SELECT max(q.up_to) FROM audit_pruning q WHERE q.log_id = p.log_id)`, h.log, limit); err != nil {
		return p, err
	}
	_, err = queryOne(ctx, c, []any{&p.to}, "SELECT coalesce(max(first), 0) FROM audit_segment WHERE log_id = $1 AND first <= $2", h.log, min(limit, entry))
	return p, err
}

// RecordPruning writes the signed note of a pruning and the entry e of it, which is
// of this node's log, in one transaction. It removes nothing: FinishPruning does. It
// fails with ErrNotPrunable, having done nothing, if PruneLimit does not allow it.
// That an archive has the entries is for the caller to see to.
func (s *Store) RecordPruning(ctx context.Context, p audit.Pruning, note []byte, e audit.Sealed) error {
	if s.com == nil {
		return ErrReadOnly
	}
	return s.com.closure(ctx, func(ctx context.Context, c session, h head) ([]audit.Sealed, error) {
		now, err := selectPrunable(ctx, c, p.Origin, p.To)
		if err != nil {
			return nil, err
		}
		if now.from != p.From || now.to != p.To || p.To <= p.From {
			return nil, callerError{fmt.Errorf("prune entries %d to %d of %s: %w", p.From, p.To-1, p.Origin, ErrNotPrunable)}
		}
		// What this session may not remove must not be recorded as removed.
		if _, err := c.exec(ctx, "DELETE FROM audit_segment WHERE log_id = $1 AND first < 0", now.log); err != nil {
			return nil, err
		}
		_, err = c.exec(ctx, "INSERT INTO audit_pruning (log_id, up_to, note, recorder, number) VALUES ($1, $2, $3, $4, $5)",
			now.log, p.To, note, h.log, h.size)
		return []audit.Sealed{e}, err
	})
}

// errRecordUnsigned says that a record of pruning proves nothing yet.
var errRecordUnsigned = errors.New("the log that records the pruning is not signed that far: its node signs when it runs")

// FinishPruning removes the entries of a log whose pruning is recorded, as far as
// they are still there, and signs the record first if it is this node's.
func (s *Store) FinishPruning(ctx context.Context, origin string) error {
	if s.com == nil {
		return ErrReadOnly
	}
	if s.points != nil {
		if err := s.points.sign(ctx); err != nil {
			return fmt.Errorf("sign the record of pruning: %w", err)
		}
	}
	for more := true; more; {
		var log, to, bound, signed int64
		err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
			found, err := queryOne(ctx, c, []any{&log, &to, &signed}, `SELECT p.log_id, p.up_to,
				(SELECT count(*) FROM audit_checkpoint c WHERE c.log_id = p.recorder AND c.size > p.number) FROM audit_pruning p JOIN audit_log l ON l.id = p.log_id
				WHERE l.origin = $1 ORDER BY p.up_to DESC LIMIT 1`, origin)
			if err != nil || !found {
				more = false
				return err
			}
			// The oldest segments; the last of them is -1 if there are none.
			_, err = queryOne(ctx, c, []any{&bound}, `SELECT coalesce(max(first), -1) FROM
				(SELECT first FROM audit_segment WHERE log_id = $1 AND first < $2 ORDER BY first LIMIT $3) AS oldest`, log, to, int64(removeBatch))
			more = bound >= 0
			if err == nil && more && signed == 0 {
				err = errRecordUnsigned
			}
			return err
		})
		if err == nil && more {
			err = s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
				_, err := c.exec(ctx, "DELETE FROM audit_segment WHERE log_id = $1 AND first <= $2", log, bound)
				return nil, err
			})
		}
		if err != nil {
			return fmt.Errorf("remove pruned entries of %s: %w", origin, err)
		}
	}
	return nil
}
