package store

import (
	"context"
	"errors"

	lib "modernc.org/sqlite/lib"
)

// sqliteWriter is the one connection that writes to the file.
type sqliteWriter struct {
	*sqliteConn // nil before open
	db          *sqliteDB
}

// open implements writer. That no other process has the log is seen to by a lock
// on a file, which openSQLite takes.
func (w *sqliteWriter) open(context.Context) error {
	w.close()
	conn, err := openSQLiteConn(w.db.dsn, w.db.pragmas(
		// Losing an acknowledged entry is not an option: a sync for each commit.
		"synchronous(FULL)",
		// upkeep moves the log of changes into the file: a commit never waits for it.
		"wal_autocheckpoint(0)",
		"foreign_keys(ON)",
		// What is deleted is overwritten: a destroyed secret is gone from the file.
		"secure_delete(ON)",
		"cache_size(-65536)",
	)...)
	w.sqliteConn = conn
	return err
}

func (w *sqliteWriter) begin(ctx context.Context) error {
	// Other nodes may share the file: to ask for the lock now is to wait for it
	// instead of failing half-way.
	_, err := w.exec(ctx, "BEGIN IMMEDIATE")
	return err
}

func (w *sqliteWriter) commit(ctx context.Context) error {
	_, err := w.exec(ctx, "COMMIT")
	return err
}

func (w *sqliteWriter) rollback(ctx context.Context) error {
	if w.sqliteConn == nil {
		return errNotConnected
	}
	_, err := w.exec(ctx, "ROLLBACK")
	if e, ok := errors.AsType[*sqliteError](err); ok && e.code == lib.SQLITE_ERROR {
		return nil // no transaction is open: SQLite has ended it
	}
	return err
}

// group implements writer: one unit after the other, as a statement costs no
// round trip here. A statement that a constraint refuses undoes itself, and the
// transaction goes on without it.
func (w *sqliteWriter) group(ctx context.Context, h head, us []*unit, extend func() (*addition, error)) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	var n numbers
	for _, u := range us {
		if u.kind == kindChange {
			if err := w.change(ctx, u, &n); err != nil {
				return err
			}
			continue
		}
		if err := u.apply(ctx, w); err != nil {
			if w.judge(err) != faultUnit {
				return err
			}
			u.err = err
		}
	}
	a, err := extend()
	if err != nil {
		return err
	}
	if a == nil {
		return w.rollback(ctx)
	}
	if err := writeLog(ctx, w, h, a); err != nil {
		return err
	}
	return w.commit(ctx)
}

func (w *sqliteWriter) judge(err error) fault {
	e, ok := errors.AsType[*sqliteError](err)
	if !ok {
		return faultDatabase
	}
	switch e.code & 0xff { // without the extension
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG:
		return faultUnit
	case lib.SQLITE_BUSY:
		return faultRetry
	default:
		return faultDatabase
	}
}

func (w *sqliteWriter) close() {
	if w.sqliteConn != nil {
		w.sqliteConn.close() //nolint:errcheck // what was to be durable is
		w.sqliteConn = nil
	}
}
