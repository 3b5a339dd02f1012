package store

import (
	"context"

	"cardea/internal/vault"
)

const holderColumns = "id, tenant, name, secret, created_at, shredded_at"

func scanHolder(scan scanFunc, h *vault.Holder) error {
	var created, shredded int64
	if err := scan(&h.ID, &h.Tenant, &h.Name, &h.Secret, &created, &shredded); err != nil {
		return err
	}
	h.CreatedAt, h.ShreddedAt = vault.Micros(created), vault.Micros(shredded)
	return nil
}

// selectHolder returns nil if there is none.
func selectHolder(ctx context.Context, s session, tenant, name string) (*vault.Holder, error) {
	var h *vault.Holder
	err := s.query(ctx, func(scan scanFunc) error {
		h = new(vault.Holder)
		return scanHolder(scan, h)
	}, "SELECT "+holderColumns+" FROM holder WHERE tenant = $1 AND name = $2", tenant, name)
	return h, err
}

// insertHolder inserts h, completes its ID and reports whether its name was free.
func insertHolder(ctx context.Context, s session, h *vault.Holder) (created bool, err error) {
	return queryOne(ctx, s, []any{&h.ID}, `INSERT INTO holder (tenant, name, secret, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, name) DO NOTHING RETURNING id`, h.Tenant, h.Name, h.Secret, int64(h.CreatedAt))
}

// mayStore is the condition of a holder for which records are stored. Whoever
// inserts a record has it looked at in the transaction of the insert, so that a
// holder that is marked gets no row more, from whatever node.
const mayStore = "shredded_at = 0"

// holderMayStore reports whether records may be stored for a holder.
func holderMayStore(ctx context.Context, s session, id int64) (bool, error) {
	var found int64
	return queryOne(ctx, s, []any{&found}, "SELECT id FROM holder WHERE id = $1 AND "+mayStore, id)
}

// holdersByName joins holders with two arrays, PostgreSQL only.
const holdersByName = `FROM unnest($1::text[], $2::text[]) AS k (tenant, name)
	JOIN holder h ON h.tenant = k.tenant AND h.name = k.name`

// selectFingerprint returns false if hash is not known.
func selectFingerprint(ctx context.Context, s session, hash *vault.MAC) (id string, found bool, err error) {
	found, err = queryOne(ctx, s, []any{&id}, "SELECT id FROM fingerprint WHERE hash = $1", hash[:])
	return id, found, err
}

// insertFingerprint reports whether hash was new.
func insertFingerprint(ctx context.Context, s session, hash *vault.MAC, hashedBy uint32, tenant, id string) (bool, error) {
	n, err := s.exec(ctx, "INSERT INTO fingerprint (hash, tenant, id, key_version) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO NOTHING",
		hash[:], tenant, id, int64(hashedBy))
	return n == 1, err
}
