// Package lockerdb reads the PostgreSQL database of Hyperswitch's card vault, one
// schema a tenant, in the order of its primary keys, so that reading can go on
// where it ended.
//
// It promises to change nothing there: its session is read-only, and so the
// database itself refuses what would write.
package lockerdb

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is a peer's schema. It is not safe for concurrent use.
type DB struct {
	conn   *pgx.Conn
	schema string
	gone   map[string]bool // tables that this version of the peer does not have
}

// schemaName is what the peer's configuration allows, so that none needs quoting.
var schemaName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Open connects to a database by URL or keywords and looks at the schema.
func Open(ctx context.Context, dsn, schema string) (*DB, error) {
	if !schemaName.MatchString(schema) {
		return nil, fmt.Errorf("schema %q: must be a plain name of letters, digits and underscores", schema)
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("dsn: not a PostgreSQL URL or keyword list") // its own error may quote the password
	}
	cfg.RuntimeParams["application_name"] = "cardea-import"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["search_path"] = schema
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Hyperswitch's database: %w", connectError(err))
	}
	d := &DB{conn: conn, schema: schema, gone: map[string]bool{}}
	if err := d.look(ctx); err != nil {
		conn.Close(ctx) //nolint:errcheck // the other error matters
		return nil, err
	}
	return d, nil
}

// connectError is err without the user, host and database names that pgx adds.
func connectError(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return errors.New(pg.Message)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// Close hangs up.
func (d *DB) Close(ctx context.Context) error { return d.conn.Close(ctx) }

// look finds out which tables there are. The tables of v1 are required.
func (d *DB) look(ctx context.Context) error {
	for _, t := range []string{"merchant", "locker", "fingerprint", "vault", "entity"} {
		var there bool
		if err := d.conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = $1 AND table_name = $2)`, d.schema, t).Scan(&there); err != nil {
			return fmt.Errorf("look for table %s: %w", t, err)
		}
		d.gone[t] = !there
	}
	if d.gone["merchant"] || d.gone["locker"] {
		return fmt.Errorf("schema %s has no tables merchant and locker: is it that of Hyperswitch's card vault? name the tenant's with --schema", d.schema)
	}
	return nil
}

// Counts are how many rows each table has.
type Counts struct {
	Merchants    int64 `json:"merchants"`
	Cards        int64 `json:"cards"`
	Values       int64 `json:"values"`
	Fingerprints int64 `json:"fingerprints"`
	Entities     int64 `json:"entities"` // with keys in an external key manager
}

// Counts counts.
func (d *DB) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	for table, n := range map[string]*int64{"merchant": &c.Merchants, "locker": &c.Cards, "vault": &c.Values, "fingerprint": &c.Fingerprints, "entity": &c.Entities} {
		if d.gone[table] {
			continue
		}
		if err := d.conn.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(n); err != nil {
			return c, fmt.Errorf("count table %s: %w", table, err)
		}
	}
	return c, nil
}

// Merchant is a merchant or entity with its wrapped key.
type Merchant struct {
	ID        string
	Key       []byte // wrapped under the tenant's master key
	CreatedAt time.Time
}

// Merchant returns the merchant or entity with an id, nil if there is none.
func (d *DB) Merchant(ctx context.Context, id string) (*Merchant, error) {
	m := &Merchant{ID: id}
	err := d.conn.QueryRow(ctx, `SELECT enc_key, created_at FROM merchant WHERE merchant_id = $1`, id).Scan(&m.Key, &m.CreatedAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil //nolint:nilnil // that it has no key of its own is an answer
	case err != nil:
		return nil, fmt.Errorf("read table merchant: %w", err)
	}
	return m, nil
}

// CardKey is the primary key of table locker.
type CardKey struct {
	Merchant  string `json:"merchant"`
	Customer  string `json:"customer"`
	Reference string `json:"reference"`
}

// Card is a row of table locker: a card or opaque data.
type Card struct {
	CardKey
	Blob      []byte
	CreatedAt time.Time
	ExpiresAt *time.Time
}

// Cards lists rows by primary key, those after one, at most limit.
func (d *DB) Cards(ctx context.Context, after CardKey, limit int) ([]Card, error) {
	rows, err := d.conn.Query(ctx, `SELECT merchant_id, customer_id, locker_id, enc_data, created_at, ttl FROM locker
		WHERE (merchant_id, customer_id, locker_id) > ($1, $2, $3) ORDER BY merchant_id, customer_id, locker_id LIMIT $4`,
		after.Merchant, after.Customer, after.Reference, limit)
	return collect(rows, err, "locker", func(r pgx.CollectableRow) (c Card, err error) {
		return c, r.Scan(&c.Merchant, &c.Customer, &c.Reference, &c.Blob, &c.CreatedAt, &c.ExpiresAt)
	})
}

// ValueKey is the primary key of table vault.
type ValueKey struct {
	Entity string `json:"entity"`
	ID     string `json:"id"`
}

// Value is a row of table vault: a JSON value.
type Value struct {
	ValueKey
	Blob      []byte
	CreatedAt time.Time
	ExpiresAt *time.Time
}

// Values lists rows by primary key, those after one, at most limit.
func (d *DB) Values(ctx context.Context, after ValueKey, limit int) ([]Value, error) {
	if d.gone["vault"] {
		return nil, nil
	}
	rows, err := d.conn.Query(ctx, `SELECT entity_id, vault_id, encrypted_data, created_at, expires_at FROM vault
		WHERE (entity_id, vault_id) > ($1, $2) ORDER BY entity_id, vault_id LIMIT $3`, after.Entity, after.ID, limit)
	return collect(rows, err, "vault", func(r pgx.CollectableRow) (v Value, err error) {
		return v, r.Scan(&v.Entity, &v.ID, &v.Blob, &v.CreatedAt, &v.ExpiresAt)
	})
}

// Fingerprint is a row of table fingerprint.
type Fingerprint struct {
	Hash []byte // HMAC-SHA-512 twice, under the key that the client gave
	ID   string
}

// Fingerprints lists rows by hash, those after one, at most limit.
func (d *DB) Fingerprints(ctx context.Context, after []byte, limit int) ([]Fingerprint, error) {
	if d.gone["fingerprint"] {
		return nil, nil
	}
	if after == nil {
		after = []byte{}
	}
	rows, err := d.conn.Query(ctx, `SELECT fingerprint_hash, fingerprint_id FROM fingerprint WHERE fingerprint_hash > $1 ORDER BY fingerprint_hash LIMIT $2`, after, limit)
	return collect(rows, err, "fingerprint", func(r pgx.CollectableRow) (f Fingerprint, err error) {
		return f, r.Scan(&f.Hash, &f.ID)
	})
}

func collect[T any](rows pgx.Rows, err error, table string, scan pgx.RowToFunc[T]) ([]T, error) {
	var all []T
	if err == nil {
		all, err = pgx.CollectRows(rows, scan)
	}
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", table, err)
	}
	return all, nil
}
