package store

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/audit"
)

const (
	// maxChanges bounds the changes in one commit: each takes a few round trips to
	// PostgreSQL, and others wait for the same commit.
	maxChanges = 32
	// numberBlock is how many numbers of changes are taken at a time.
	numberBlock = 256
)

// changeFunc makes changes in the open transaction, which it shares with other
// units, and returns the entries for them. It may run more than once. If there is
// an error, wrote says whether it leaves something behind to undo.
type changeFunc func(ctx context.Context, s session, n *numbers) (entries []audit.Sealed, wrote bool, err error)

// change has the committer run fn, in one transaction with what else waits. fn
// does not run after change has returned.
func (s *Store) change(ctx context.Context, fn changeFunc) error {
	if s.com == nil {
		return ErrReadOnly
	}
	u := newUnit(kindChange, audit.Sealed{})
	u.entries, u.change = nil, fn
	return s.com.whole(ctx, u)
}

// whole is submit of a unit whose function may refer to what its caller owns: once
// the committer has taken it, the caller stays until it is answered.
func (c *committer) whole(ctx context.Context, u *unit) error {
	if err := c.send(ctx, u); err != nil {
		u.free()
		return err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		if u.state.CompareAndSwap(queued, abandoned) {
			return unavailable(context.Cause(ctx))
		}
		<-u.done
	}
	err := u.err
	u.free()
	if ce, is := errors.AsType[callerError](err); is {
		return ce.error
	}
	return err
}

// runChange runs the unit's function.
func (u *unit) runChange(ctx context.Context, s session, n *numbers) (wrote bool, err error) {
	defer func() {
		if r := recover(); r != nil { // it runs on the committer's goroutine, which is not its to end
			wrote, err = true, callerError{fmt.Errorf("panic in a transaction: %v", r)}
		}
		u.applied = err == nil
	}()
	u.entries, wrote, err = u.change(ctx, s, n)
	return wrote, err
}

// change runs a unit's function in the open transaction. One that fails for
// reasons of its own is undone and leaves the transaction as it was.
func (w *sqliteWriter) change(ctx context.Context, u *unit, n *numbers) error {
	if err := n.reserve(ctx, w); err != nil { // outside of what may be undone
		return err
	}
	if _, err := w.exec(ctx, "SAVEPOINT unit"); err != nil {
		return err
	}
	_, err := u.runChange(ctx, w, n)
	if err != nil {
		if w.judge(err) != faultUnit && !errors.As(err, new(callerError)) {
			return err
		}
		u.err = err
		if _, err := w.exec(ctx, "ROLLBACK TO unit"); err != nil {
			return err
		}
		n.next = n.end // a block that was taken meanwhile is not taken any more
	}
	_, err = w.exec(ctx, "RELEASE unit")
	return err
}

// changes runs the functions of units in the open transaction. To spare a round
// trip for each there are no savepoints: an error after something was written is
// that of the transaction, and the committer finds out whose it is.
func (w *postgresWriter) changes(ctx context.Context, us []*unit) error {
	var n numbers
	for _, u := range us {
		if u.kind != kindChange {
			continue
		}
		if err := n.reserve(ctx, w); err != nil {
			return err
		}
		if wrote, err := u.runChange(ctx, w, &n); err != nil {
			if wrote || !errors.As(err, new(callerError)) {
				return err
			}
			u.err = err
		}
	}
	return nil
}

func anyChange(us []*unit) bool {
	for _, u := range us {
		if u.kind == kindChange {
			return true
		}
	}
	return false
}

// numbers gives the changes of a transaction their numbers, which tell other nodes
// what they have not seen yet.
//
// A sequence would not do: it gives numbers out in one order and transactions
// commit in another, so that one who has seen number 8 may miss number 7, which
// becomes visible later. The numbers come from a row of a table, whose lock the
// transaction keeps until it has committed. So the next one gets its numbers, and
// commits, after this one has become visible: whoever sees a number sees all
// smaller ones. The lock is taken before the first function runs, and so these
// transactions run one after the other on all nodes, and what a function has read
// of the key service is still so when it writes.
type numbers struct{ next, end int64 }

// reserve locks the row and takes a block of numbers, unless there are some left.
func (n *numbers) reserve(ctx context.Context, s session) error {
	if n.next < n.end {
		return nil
	}
	var last int64
	found, err := queryOne(ctx, s, []any{&last}, "UPDATE change_counter SET n = n + $1 WHERE id = 1 RETURNING n", int64(numberBlock))
	if err == nil && !found {
		err = errors.New("the row of table change_counter is gone")
	}
	n.next, n.end = last-numberBlock+1, last+1
	return err
}

func (n *numbers) take(ctx context.Context, s session) (int64, error) {
	if err := n.reserve(ctx, s); err != nil {
		return 0, err
	}
	n.next++
	return n.next - 1, nil
}

// execAll runs a statement once for each list of arguments, in one round trip
// where there are any.
func execAll(ctx context.Context, s session, sql string, lists [][]any) error {
	if w, is := s.(*postgresWriter); is {
		return w.execAll(ctx, sql, lists)
	}
	for _, args := range lists {
		if _, err := s.exec(ctx, sql, args...); err != nil {
			return err
		}
	}
	return nil
}

func (w *postgresWriter) execAll(ctx context.Context, sql string, lists [][]any) error {
	if _, err := w.session(); err != nil || len(lists) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	b := &pipeline{}
	for _, args := range lists {
		b.exec(sql, nil, args...)
	}
	return b.run(ctx, w.conn)
}
