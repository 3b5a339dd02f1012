package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"cardea/internal/disk"
	"cardea/internal/vault"
)

// sqliteDB is a SQLite file in WAL mode: one connection that writes, some that
// read, one for upkeep.
type sqliteDB struct {
	path    string
	dsn     string
	log     *slog.Logger
	com     func() *committer
	mono    func() time.Time
	readers chan *sqliteConn
	opened  int           // readers
	closed  chan struct{} // closed by close
	lock    *disk.Lock    // of this node, nil if read-only
	w       sqliteWriter
}

// openSQLite opens path, which it makes with its folder unless o.ReadOnly.
func openSQLite(ctx context.Context, path string, s *Store, o Options) (*sqliteDB, error) {
	if path == "" || path == ":memory:" {
		return nil, fmt.Errorf("sqlite path %q: want that of a file", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &sqliteDB{
		path: path, log: o.Logger, mono: s.mono, com: func() *committer { return s.com },
		dsn:     "file:" + (&url.URL{Path: path}).EscapedPath(),
		readers: make(chan *sqliteConn, o.ReadConns), closed: make(chan struct{}),
	}
	d.w.db = d
	if o.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		d.dsn += "?mode=ro"
	} else if err := d.prepareFiles(o.Node); err != nil {
		return nil, err
	}
	err = d.migrate(ctx, o.ReadOnly)
	for err == nil && d.opened < o.ReadConns {
		var c *sqliteConn
		if c, err = openSQLiteConn(d.dsn, d.pragmas("query_only(ON)", "cache_size(-16384)")...); err == nil {
			d.readers <- c
			d.opened++
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), d.close())
	}
	s.met.gauge("wal_bytes", "Size of SQLite's write-ahead log.", func() float64 { return float64(d.walBytes()) })
	s.met.gauge("read_connections", "Connections to the database that read.", func() float64 { return float64(d.opened) })
	s.met.gauge("read_connections_idle", "Connections to the database that wait for a read.", func() float64 { return float64(len(d.readers)) })
	return d, nil
}

// prepareFiles makes folder and file, for this user only, and takes the lock on
// the node's log.
func (d *sqliteDB) prepareFiles(node string) error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{d.path, d.path + "-wal", d.path + "-shm"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	lock, err := disk.TryLock(d.path + "." + node + ".lock")
	if errors.Is(err, disk.ErrHeld) {
		err = ErrLogTaken
	}
	d.lock = lock
	return err
}

// pragmas are those of every connection, and more.
func (d *sqliteDB) pragmas(more ...string) []string {
	return append([]string{"busy_timeout(5000)", "temp_store(MEMORY)", "trusted_schema(OFF)"}, more...)
}

// migrate runs the migrations while no other process does.
func (d *sqliteDB) migrate(ctx context.Context, readOnly bool) error {
	if !readOnly {
		unlock, err := d.lockMigrations(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		// Whether pages can be given back must be said before there is a table.
		c, err := openSQLiteConn(d.dsn, d.pragmas("auto_vacuum(INCREMENTAL)", "journal_mode(WAL)")...)
		if err != nil {
			return err
		}
		if err := c.close(); err != nil {
			return err
		}
	}
	connector, err := sqlite.NewConnector(d.dsn)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // the migrations have returned their errors
	db.SetMaxOpenConns(1)
	return schema{
		dialect: goose.DialectSQLite3, folder: "migrations/sqlite",
		exists: "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
	}.migrate(ctx, db, readOnly)
}

func (d *sqliteDB) lockMigrations(ctx context.Context) (unlock func(), err error) {
	for {
		lock, err := disk.TryLock(d.path + ".migrate.lock")
		if err == nil {
			return func() { lock.Release() }, nil //nolint:errcheck // nothing was written
		}
		if !errors.Is(err, disk.ErrHeld) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another process to migrate: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *sqliteDB) writer() writer { return &d.w }

// view implements database.
func (d *sqliteDB) view(ctx context.Context, fn func(context.Context, session) error) error {
	select {
	case c := <-d.readers:
		defer func() { d.readers <- c }()
		return fn(ctx, c)
	default:
	}
	select {
	case c := <-d.readers:
		defer func() { d.readers <- c }()
		return fn(ctx, c)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.closed:
		return ErrClosed
	}
}

// point is view for a point read. It asks the writing connection, whose cache of
// pages its own commits keep up to date: those that only read start with an empty
// one after each commit.
func (d *sqliteDB) point(ctx context.Context, fn func(context.Context, session) error) error {
	com := d.com()
	if com == nil { // read-only
		return d.view(ctx, fn)
	}
	err := com.view(ctx, fn)
	if errors.Is(err, errElsewhere) {
		return d.view(ctx, fn)
	}
	return err
}

func (d *sqliteDB) record(ctx context.Context, l vault.Lookup) (r *vault.Record, err error) {
	err = d.point(ctx, func(ctx context.Context, s session) error {
		r, err = selectRecord(ctx, s, byLookup, l[:])
		return err
	})
	return r, err
}

func (d *sqliteDB) recordAndHolder(ctx context.Context, l vault.Lookup) (r *vault.Record, h *vault.Holder, err error) {
	err = d.point(ctx, func(ctx context.Context, s session) error {
		var c recordAndHolderRow
		r, h = new(vault.Record), new(vault.Holder)
		found, err := queryOne(ctx, s, c.targets(r, h), selectRecordAndHolder+"r.lookup = $1", l[:])
		if err != nil || !found {
			r, h = nil, nil
			return err
		}
		return c.fill(r, h)
	})
	return r, h, err
}

func (d *sqliteDB) fingerprint(ctx context.Context, hash vault.MAC) (id string, found bool, err error) {
	err = d.point(ctx, func(ctx context.Context, s session) error {
		id, found, err = selectFingerprint(ctx, s, &hash)
		return err
	})
	return id, found, err
}

func (d *sqliteDB) holder(ctx context.Context, tenant, name string) (h *vault.Holder, err error) {
	err = d.point(ctx, func(ctx context.Context, s session) error {
		h, err = selectHolder(ctx, s, tenant, name)
		return err
	})
	return h, err
}

// close waits for the reads that are running. The committer has closed the
// writing connection.
func (d *sqliteDB) close() error {
	close(d.closed)
	var err error
	for ; d.opened > 0; d.opened-- {
		err = errors.Join(err, (<-d.readers).close())
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Release())
		d.lock = nil
	}
	return err
}
