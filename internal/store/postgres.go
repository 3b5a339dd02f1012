package store

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"cardea/internal/vault"
)

const (
	// pgTimeout ends a round trip that hangs, and with it its connection.
	pgTimeout = 15 * time.Second
	// pgConnectTimeout is that of connecting.
	pgConnectTimeout = 5 * time.Second
)

// settings are those of every connection, with o.StatementTimeout. Plans do not depend on statistics, which
// lag behind a table that grows from nothing to a million rows in a minute: each
// statement is a few index lookups, and stays that. What an engine that speaks
// PostgreSQL's protocol does not know is left out.
var settings = sessionSettings{
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"jit", "off"},
	{"plan_cache_mode", "force_generic_plan"},
	// A node that hangs must not hold the head of its log or rows of others.
	{"lock_timeout", "5s"},
	{"idle_in_transaction_session_timeout", "20s"},
	// A node that is gone without a word gives its log free in half a minute.
	{"tcp_keepalives_idle", "10"},
	{"tcp_keepalives_interval", "5"},
	{"tcp_keepalives_count", "3"},
	{"tcp_user_timeout", "25000"},
}

// postgresDB is a PostgreSQL database: a pool of connections that read, and one
// connection beside it that writes.
type postgresDB struct {
	pool  *pgxpool.Pool
	reads *coalescer
	w     postgresWriter
}

func openPostgres(ctx context.Context, s *Store, o Options) (*postgresDB, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	useTLS(cfg.ConnConfig, o.TLS)
	cfg.ConnConfig.ConnectTimeout = pgConnectTimeout
	cfg.ConnConfig.RuntimeParams["application_name"] = s.origin
	if o.ReadOnly {
		cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}
	cfg.MaxConns = int32(o.ReadConns)
	// A read that finds its connection broken takes another one.
	cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	own := append(slices.Clone(settings), [2]string{"statement_timeout", strconv.FormatInt(max(1, o.StatementTimeout.Milliseconds()), 10)})
	cfg.AfterConnect = own.apply
	if o.Password.Present() {
		cfg.ConnConfig.Password = string(o.Password.Expose()) // the driver wants a string
	}
	if o.dial != nil {
		cfg.ConnConfig.DialFunc = o.dial
	}
	if err := migratePostgres(ctx, cfg.ConnConfig.Copy(), o.ReadOnly); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, err
	}
	d := &postgresDB{pool: pool}
	d.reads = newCoalescer(d, min(o.ReadConns, readWorkers), s.met.coalesced)
	d.w = postgresWriter{config: cfg.ConnConfig, settings: own, lockKey: lockKey(s.origin), log: s.log}
	s.met.gauge("read_connections", "Connections to the database that read.", func() float64 { return float64(pool.Stat().TotalConns()) })
	s.met.gauge("read_connections_idle", "Connections to the database that wait for a read.", func() float64 { return float64(pool.Stat().IdleConns()) })
	return d, nil
}

// useTLS makes t the only way to connect, but on a socket of this machine.
func useTLS(c *pgx.ConnConfig, t *tls.Config) {
	if t == nil || strings.HasPrefix(c.Host, "/") {
		return
	}
	for _, f := range c.Fallbacks { // other hosts of the URL; never in clear
		f.TLSConfig = tlsFor(t, f.Host)
	}
	c.TLSConfig = tlsFor(t, c.Host)
}

func tlsFor(t *tls.Config, host string) *tls.Config {
	t = t.Clone()
	if t.ServerName == "" {
		t.ServerName = host
	}
	return t
}

// lockKey is that of the advisory lock on a log.
func lockKey(origin string) int64 {
	sum := sha256.Sum256([]byte("cardea audit log " + origin))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// sessionSettings are names and values.
type sessionSettings [][2]string

// apply tries all at once, then one by one.
func (s sessionSettings) apply(ctx context.Context, conn *pgx.Conn) error {
	names, values := make([]string, len(s)), make([]string, len(s))
	for i, nv := range s {
		names[i], values[i] = nv[0], nv[1]
	}
	_, err := conn.Exec(ctx, "SELECT set_config(n, v, false) FROM unnest($1::text[], $2::text[]) AS s (n, v)", names, values)
	for i := 0; i < len(names) && isServerError(err); i++ {
		if _, e := conn.Exec(ctx, "SELECT set_config($1, $2, false)", names[i], values[i]); e != nil && !isServerError(e) {
			return e
		}
	}
	if err != nil && !isServerError(err) {
		return err
	}
	// What is acknowledged is on disk. Stricter settings of the server stay.
	_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local')`)
	if isServerError(err) {
		return nil
	}
	return err
}

func isServerError(err error) bool {
	_, ok := errors.AsType[*pgconn.PgError](err)
	return ok
}

func migratePostgres(ctx context.Context, c *pgx.ConnConfig, readOnly bool) error {
	db := stdlib.OpenDB(*c)
	defer db.Close() //nolint:errcheck // the migrations have returned their errors
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 600), lock.WithUnlockTimeout(1, 60))
	if err != nil {
		return err
	}
	return schema{
		dialect: goose.DialectPostgres, folder: "migrations/postgres",
		exists:  "SELECT CASE WHEN to_regclass($1) IS NULL THEN 0 ELSE 1 END",
		options: []goose.ProviderOption{goose.WithSessionLocker(locker)},
	}.migrate(ctx, db, readOnly)
}

func (d *postgresDB) writer() writer { return &d.w }

func (d *postgresDB) upkeep(context.Context) {} // autovacuum and the checkpointer are the server's

// view implements database. fn may run twice: again if its connection turns out
// to be broken.
func (d *postgresDB) view(ctx context.Context, fn func(context.Context, session) error) error {
	for try := 0; ; try++ {
		conn, err := d.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		err = fn(ctx, &postgresSession{conn: conn.Conn()})
		broken := conn.Conn().IsClosed()
		conn.Release()
		if err == nil || !broken || try > 0 || ctx.Err() != nil {
			return err
		}
		d.pool.Reset() // the others are likely to be broken too
	}
}

func (d *postgresDB) record(ctx context.Context, l vault.Lookup) (*vault.Record, error) {
	q := &readRequest{kind: readRecord, lookup: l}
	if err := d.reads.do(ctx, q); err != nil {
		return nil, err
	}
	return q.record, nil
}

func (d *postgresDB) recordAndHolder(ctx context.Context, l vault.Lookup) (*vault.Record, *vault.Holder, error) {
	q := &readRequest{kind: readRecordAndHolder, lookup: l}
	if err := d.reads.do(ctx, q); err != nil {
		return nil, nil, err
	}
	return q.record, q.holder, nil
}

func (d *postgresDB) fingerprint(ctx context.Context, hash vault.MAC) (string, bool, error) {
	q := &readRequest{kind: readFingerprint, hash: hash}
	if err := d.reads.do(ctx, q); err != nil {
		return "", false, err
	}
	return q.id, q.found, nil
}

func (d *postgresDB) holder(ctx context.Context, tenant, name string) (*vault.Holder, error) {
	q := &readRequest{kind: readHolder, tenant: tenant, name: name}
	if err := d.reads.do(ctx, q); err != nil {
		return nil, err
	}
	return q.holder, nil
}

func (d *postgresDB) close() error {
	d.reads.close()
	d.pool.Close()
	return nil
}
