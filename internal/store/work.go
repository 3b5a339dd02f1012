package store

import (
	"context"
	"errors"

	"cardea/internal/audit"
)

// work is what the transactions of the key service have in common.
type work struct {
	s       session
	entries []audit.Sealed
	wrote   bool
	broken  error // of the database; the transaction cannot go on
}

func (w *work) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	n, err := w.s.exec(ctx, sql, args...)
	w.broken, w.wrote = err, w.wrote || n > 0
	return n, err
}

// do implements rowView in the transaction.
func (w *work) do(ctx context.Context, fn func(context.Context, session) error) error {
	if w.broken == nil {
		w.broken = fn(ctx, w.s)
	}
	return w.broken
}

// one turns how many rows a statement has changed into an error.
func one(n int64, err, other error) error {
	if err == nil && n != 1 {
		return other
	}
	return err
}

// Append implements kms.Tx and identity.Tx.
func (w *work) Append(e audit.Sealed) { w.entries = append(w.entries, e) }

// finish is the outcome of a transaction whose function returned err. tell makes
// known what was changed.
func (w *work) finish(err error, tell func() error) ([]audit.Sealed, bool, error) {
	if w.broken == nil && err == nil && len(w.entries) > 0 {
		w.broken = tell()
	}
	switch {
	case w.broken != nil:
		return nil, w.wrote, w.broken
	case err != nil:
		return nil, w.wrote, callerError{err}
	case len(w.entries) == 0:
		return nil, w.wrote, callerError{errUnaudited}
	}
	return w.entries, w.wrote, nil
}

// errUnaudited is that of a change that nobody would know of.
var errUnaudited = errors.New("change without an audit entry")
