package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockWait is how long open waits for a log whose last process, or whose last
// connection of this process, may be only just gone: the server ends what a dead
// client has asked for before it lets go, and may be waiting for its disk. It tells of
// the wait after lockTold.
const (
	lockWait = pgTimeout
	lockTold = time.Second
)

// postgresWriter is the connection that writes. It holds the advisory lock on
// the log, so that lock and connection go together.
type postgresWriter struct {
	config   *pgx.ConnConfig
	settings sessionSettings
	lockKey  int64
	log      *slog.Logger
	conn     *pgx.Conn
	waited   bool // for the lock, in vain
	plan     plan
}

// open implements writer.
func (w *postgresWriter) open(ctx context.Context) error {
	w.close()
	conn, err := pgx.ConnectConfig(ctx, w.config.Copy())
	if err != nil {
		return err
	}
	w.conn = conn
	if err := w.settings.apply(ctx, conn); err != nil {
		return err
	}
	wait, tell := time.After(lockWait), time.After(lockTold)
	if w.waited {
		wait = time.After(0)
	}
	for {
		ok, err := w.tryLock(ctx)
		if err != nil || ok {
			w.waited = false
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wait:
			w.waited = true
			return ErrLogTaken
		case <-tell:
			w.log.WarnContext(ctx, "another process writes this node's audit log, or the database has yet to end its last connection: waiting", slog.Duration("at_most", lockWait))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tryLock takes the advisory lock. An engine that has none leaves it to the
// compare-and-swap of the head.
func (w *postgresWriter) tryLock(ctx context.Context) (ok bool, err error) {
	err = w.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", w.lockKey).Scan(&ok)
	if e, is := errors.AsType[*pgconn.PgError](err); is && (e.Code == "42883" || e.Code == "0A000") {
		w.log.WarnContext(ctx, "database has no advisory locks: a second process of this node is noticed only when it writes")
		return true, nil
	}
	return ok, err
}

func (w *postgresWriter) session() (*postgresSession, error) {
	if w.conn == nil || w.conn.IsClosed() {
		return nil, errNotConnected
	}
	return &postgresSession{w.conn}, nil
}

func (w *postgresWriter) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	s, err := w.session()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	return s.exec(ctx, sql, args...)
}

func (w *postgresWriter) query(ctx context.Context, row func(scan scanFunc) error, sql string, args ...any) error {
	s, err := w.session()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	return s.query(ctx, row, sql, args...)
}

func (w *postgresWriter) begin(ctx context.Context) error {
	_, err := w.exec(ctx, "BEGIN")
	return err
}

func (w *postgresWriter) commit(ctx context.Context) error {
	_, err := w.exec(ctx, "COMMIT")
	return err
}

func (w *postgresWriter) rollback(ctx context.Context) error {
	_, err := w.exec(ctx, "ROLLBACK")
	return err
}

// judge implements writer by the classes of SQLSTATE.
func (w *postgresWriter) judge(err error) fault {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(e.Code) != 5 {
		return faultDatabase
	}
	if e.Code == "40P01" {
		return faultDeadlock
	}
	switch e.Code[:2] {
	case "21", "22", "23", "54": // cardinality, data, integrity constraint, limit
		return faultUnit
	case "40": // serialization
		return faultRetry
	}
	if e.Code == "55P03" { // lock_timeout
		return faultRetry
	}
	return faultDatabase
}

func (w *postgresWriter) close() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.conn.Close(ctx) //nolint:errcheck // what was to be durable is
		w.conn = nil
	}
}
