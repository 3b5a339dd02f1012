package store

import (
	"context"
	"errors"

	"cardea/internal/vault"
)

const recordColumns = `lookup, dedupe, holder_id, space, kind, customer, reference, mode, key_id, key_version, sealed, created_at, expires_at, hashed_by`

// recordRow has the columns of a record as they are scanned.
type recordRow struct {
	lookup, dedupe, key        []byte
	space, kind, mode, version int64
	created, expires, hashedBy int64
}

func (c *recordRow) targets(r *vault.Record) []any {
	return []any{
		&c.lookup, &c.dedupe, &r.HolderID, &c.space, &c.kind, &r.Customer, &r.Reference,
		&c.mode, &c.key, &c.version, &r.Sealed, &c.created, &c.expires, &c.hashedBy,
	}
}

// fill completes r.
func (c *recordRow) fill(r *vault.Record) error {
	if err := copyBytes(r.Lookup[:], c.lookup, "lookup"); err != nil {
		return err
	}
	if err := copyBytes(r.Key[:], c.key, "key_id"); err != nil {
		return err
	}
	if c.dedupe != nil {
		r.Dedupe = new(vault.MAC)
		if err := copyBytes(r.Dedupe[:], c.dedupe, "dedupe"); err != nil {
			return err
		}
		r.HashedBy = uint32(c.hashedBy)
	}
	r.Space, r.Kind, r.Mode = vault.Space(c.space), vault.Kind(c.kind), vault.Mode(c.mode)
	r.KeyVersion = uint32(c.version)
	r.CreatedAt, r.ExpiresAt = vault.Micros(c.created), vault.Micros(c.expires)
	return nil
}

// selectRecord reads one record by a condition that at most one meets.
func selectRecord(ctx context.Context, s session, where string, arg []byte) (*vault.Record, error) {
	r, err := selectOne(ctx, s, where, arg)
	return r, orNotFound(r, err)
}

// selectOne is selectRecord that returns nil if there is none.
func selectOne(ctx context.Context, s session, where string, arg []byte) (*vault.Record, error) {
	r, c := new(vault.Record), recordRow{}
	found, err := queryOne(ctx, s, c.targets(r), "SELECT "+recordColumns+" FROM record WHERE "+where, arg)
	if err != nil || !found {
		return nil, err
	}
	return r, c.fill(r)
}

const (
	byLookup = "lookup = $1"
	byDedupe = "dedupe = $1"
)

// standing returns the record that keeps r from being inserted, nil if there is none.
func standing(ctx context.Context, s session, r *vault.Record) (*vault.Record, error) {
	if r.Dedupe != nil {
		if got, err := selectRecord(ctx, s, byDedupe, r.Dedupe[:]); !errors.Is(err, vault.ErrNotFound) {
			return got, err
		}
	}
	got, err := selectRecord(ctx, s, byLookup, r.Lookup[:])
	if errors.Is(err, vault.ErrNotFound) {
		return nil, nil
	}
	return got, err
}

const selectRecordAndHolder = `SELECT r.lookup, r.dedupe, r.holder_id, r.space, r.kind, r.customer, r.reference, r.mode, r.key_id,
	r.key_version, r.sealed, r.created_at, r.expires_at, r.hashed_by, h.id, h.tenant, h.name, h.secret, h.created_at
	FROM record r JOIN holder h ON h.id = r.holder_id WHERE `

// recordAndHolderRow is recordRow with the holder's columns.
type recordAndHolderRow struct {
	recordRow
	holderCreated int64
}

func (c *recordAndHolderRow) targets(r *vault.Record, h *vault.Holder) []any {
	return append(c.recordRow.targets(r), &h.ID, &h.Tenant, &h.Name, &h.Secret, &c.holderCreated)
}

func (c *recordAndHolderRow) fill(r *vault.Record, h *vault.Holder) error {
	h.CreatedAt = vault.Micros(c.holderCreated)
	return c.recordRow.fill(r)
}

// insertOne inserts a record, unless its holder is shredded or not there.
const insertOne = "INSERT INTO record (" + recordColumns + `)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
	WHERE EXISTS (SELECT 1 FROM holder WHERE id = $3 AND ` + mayStore + ")"

// insertRecord inserts r and reports whether nothing stood in its way.
func insertRecord(ctx context.Context, s session, r *vault.Record) (bool, error) {
	const sql = insertOne + " ON CONFLICT DO NOTHING"
	n, err := s.exec(ctx, sql, recordArgs(r)...)
	return n == 1, err
}

// upsertTail replaces all columns but the key.
const upsertTail = ` ON CONFLICT (lookup) DO UPDATE SET dedupe = excluded.dedupe, holder_id = excluded.holder_id,
	space = excluded.space, kind = excluded.kind, customer = excluded.customer, reference = excluded.reference,
	mode = excluded.mode, key_id = excluded.key_id, key_version = excluded.key_version, sealed = excluded.sealed,
	created_at = excluded.created_at, expires_at = excluded.expires_at, hashed_by = excluded.hashed_by`

// upsertRecord reports false if records may not be stored for r's holder.
func upsertRecord(ctx context.Context, s session, r *vault.Record) (bool, error) {
	const sql = insertOne + upsertTail
	n, err := s.exec(ctx, sql, recordArgs(r)...)
	return n == 1, err
}

func recordArgs(r *vault.Record) []any {
	var dedupe any
	if r.Dedupe != nil {
		dedupe = r.Dedupe[:]
	}
	return []any{
		r.Lookup[:], dedupe, r.HolderID, int64(r.Space), int64(r.Kind), r.Customer, r.Reference,
		int64(r.Mode), r.Key[:], int64(r.KeyVersion), r.Sealed, int64(r.CreatedAt), int64(r.ExpiresAt), hashedBy(r),
	}
}

// hashedBy is the version of the key that made the record's keyed hash: 0 if there is
// none, and the first if its caller does not say.
func hashedBy(r *vault.Record) int64 {
	if r.Dedupe == nil {
		return 0
	}
	return int64(max(1, r.HashedBy))
}

const (
	deleteAny     = "DELETE FROM record WHERE lookup = $1"
	deleteExpired = "DELETE FROM record WHERE lookup = $1 AND expires_at <> 0 AND expires_at < $2"
)

// deleteRecord reports whether there was a row to remove.
func deleteRecord(ctx context.Context, s session, l *vault.Lookup, expiredAt vault.Micros) (bool, error) {
	var n int64
	var err error
	if expiredAt == 0 {
		n, err = s.exec(ctx, deleteAny, l[:])
	} else {
		n, err = s.exec(ctx, deleteExpired, l[:], int64(expiredAt))
	}
	return n > 0, err
}

// selectExpired reads through the partial index on expires_at, so that what is
// not expired costs nothing.
func selectExpired(ctx context.Context, s session, now vault.Micros, limit int) ([]vault.ExpiredRecord, error) {
	const sql = `SELECT r.lookup, h.tenant, h.name, r.space, r.kind, r.customer, r.reference, r.expires_at
		FROM record r JOIN holder h ON h.id = r.holder_id
		WHERE r.expires_at <> 0 AND r.expires_at < $1 ORDER BY r.expires_at LIMIT $2`
	var out []vault.ExpiredRecord
	err := s.query(ctx, func(scan scanFunc) error {
		var e vault.ExpiredRecord
		var lookup []byte
		var space, kind, expires int64
		if err := scan(&lookup, &e.Tenant, &e.Holder, &space, &kind, &e.Customer, &e.Reference, &expires); err != nil {
			return err
		}
		e.Space, e.Kind, e.ExpiresAt = vault.Space(space), vault.Kind(kind), vault.Micros(expires)
		out = append(out, e)
		return copyBytes(out[len(out)-1].Lookup[:], lookup, "lookup")
	}, sql, int64(now), int64(limit))
	return out, err
}
