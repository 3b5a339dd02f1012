package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// updateBatch is how many rows a commit changes, in the bounds as in the product.
const updateBatch = 100

// boundUpdateSQLite is how many rows a second one writer updates that does nothing else:
// rows as long as a card's, with an index by which those under a key are found, and an
// audit row a commit.
func boundUpdateSQLite(ctx context.Context, dir string, n int) (perSecond float64, err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "update.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `
		CREATE TABLE card (id INTEGER PRIMARY KEY, token BLOB NOT NULL UNIQUE, key BLOB NOT NULL, version INTEGER NOT NULL, sealed BLOB NOT NULL);
		CREATE INDEX card_key ON card (key, version);
		CREATE TABLE audit (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL)`); err != nil {
		return 0, err
	}
	key := random(16)
	commit := func(first int, row string, values func(id int) []any) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		st, err := tx.PrepareContext(ctx, row)
		if err != nil {
			return err
		}
		defer st.Close()
		for id := first; id < min(first+updateBatch, n+1); id++ {
			if _, err := st.ExecContext(ctx, values(id)...); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO audit (entry) VALUES (?)`, random(700)); err != nil {
			return err
		}
		return tx.Commit()
	}
	for first := 1; first <= n; first += updateBatch {
		if err := commit(first, `INSERT INTO card (id, token, key, version, sealed) VALUES (?,?,?,1,?)`, func(id int) []any {
			return []any{id, random(22), key, random(300)}
		}); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for first := 1; first <= n; first += updateBatch {
		if err := commit(first, `UPDATE card SET version = 2, sealed = ? WHERE id = ?`, func(id int) []any { return []any{random(300), id} }); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// boundUpdatePostgres is boundUpdateSQLite of PostgreSQL, a statement a commit.
func boundUpdatePostgres(ctx context.Context, dsn string, n int) (perSecond float64, err error) {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if _, err := c.Exec(ctx, `
		CREATE TABLE card (id BIGINT PRIMARY KEY, token BYTEA NOT NULL UNIQUE, key BYTEA NOT NULL, version BIGINT NOT NULL, sealed BYTEA NOT NULL);
		CREATE INDEX card_key ON card (key, version);
		CREATE TABLE audit (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entry BYTEA NOT NULL)`); err != nil {
		return 0, err
	}
	key := random(16)
	commit := func(first int, rows string, insert bool) error {
		var ids []int64
		var tokens, keys, sealed [][]byte
		for id := first; id < min(first+updateBatch, n+1); id++ {
			ids, sealed = append(ids, int64(id)), append(sealed, random(300))
			if insert {
				tokens, keys = append(tokens, random(22)), append(keys, key)
			}
		}
		q := &pgx.Batch{}
		if insert {
			q.Queue(rows, ids, sealed, tokens, keys)
		} else {
			q.Queue(rows, ids, sealed)
		}
		q.Queue(`INSERT INTO audit (entry) VALUES ($1)`, random(700))
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return tx.SendBatch(ctx, q).Close() })
	}
	for first := 1; first <= n; first += updateBatch {
		if err := commit(first, `INSERT INTO card (id, sealed, token, key, version)
			SELECT id, sealed, token, key, 1 FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[]) AS u (id, sealed, token, key)`, true); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for first := 1; first <= n; first += updateBatch {
		if err := commit(first, `UPDATE card SET version = 2, sealed = u.sealed
			FROM unnest($1::bigint[], $2::bytea[]) AS u (id, sealed) WHERE card.id = u.id`, false); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}
