package store

import (
	"context"
	"fmt"
	"math"

	"cardea/internal/vault"
)

const keyColumns = "key_id, version, tenant, holder, purpose, state, mode, wrapped, created_at, changed_at, sealed_count"

func scanKey(scan scanFunc, k *vault.WrappedKey) error {
	var id []byte
	var version, mode, created, changed, sealed int64
	var purpose, state string
	if err := scan(&id, &version, &k.Tenant, &k.Holder, &purpose, &state, &mode, &k.Wrapped, &created, &changed, &sealed); err != nil {
		return err
	}
	k.Version, k.Mode, k.CreatedAt = uint32(version), vault.Mode(mode), vault.Micros(created)
	k.Purpose, k.State = vault.Purpose(purpose), vault.KeyState(state)
	k.ChangedAt, k.Sealed = vault.Micros(changed), uint64(max(0, sealed))
	return copyBytes(k.ID[:], id, "key_id")
}

// selectKey reads the first key that a condition gives, nil if there is none.
func selectKey(ctx context.Context, s session, where string, args ...any) (k *vault.WrappedKey, err error) {
	err = s.query(ctx, func(scan scanFunc) error {
		k = new(vault.WrappedKey)
		return scanKey(scan, k)
	}, "SELECT "+keyColumns+" FROM wrapped_key WHERE "+where, args...)
	return k, err
}

func selectKeyVersion(ctx context.Context, s session, id vault.KeyID, version uint32) (*vault.WrappedKey, error) {
	return selectKey(ctx, s, "key_id = $1 AND version = $2", id[:], int64(version))
}

func selectActiveKey(ctx context.Context, s session, tenant, holder string, p vault.Purpose) (*vault.WrappedKey, error) {
	return selectKey(ctx, s, "tenant = $1 AND holder = $2 AND purpose = $3 AND state = $4 ORDER BY version DESC LIMIT 1",
		tenant, holder, string(p), string(vault.KeyActive))
}

// standingKeySQL reads the key that keeps another from being inserted: its version,
// or else the active one, or else one with its id, by mistake.
const standingKeySQL = "SELECT " + keyColumns + ` FROM wrapped_key WHERE tenant = $1 AND holder = $2 AND purpose = $3 AND (version = $4 OR state = $5)
	OR key_id = $6 AND version = $4
	ORDER BY tenant = $1 AND holder = $2 AND purpose = $3 DESC, version = $4 DESC LIMIT 1`

func standingKeyArgs(k *vault.WrappedKey) []any {
	return []any{k.Tenant, k.Holder, string(k.Purpose), int64(k.Version), string(vault.KeyActive), k.ID[:]}
}

// standingKey is the key that keeps k from being inserted, nil if it has gone.
func standingKey(ctx context.Context, s session, k *vault.WrappedKey) (standing *vault.WrappedKey, err error) {
	err = s.query(ctx, func(scan scanFunc) error {
		standing = new(vault.WrappedKey)
		return scanKey(scan, standing)
	}, standingKeySQL, standingKeyArgs(k)...)
	return standing, err
}

// errKeyID is that k has the id of another key: each names one.
func errKeyID(k, standing *vault.WrappedKey) error {
	if standing.Tenant == k.Tenant && standing.Holder == k.Holder && standing.Purpose == k.Purpose {
		return nil
	}
	return fmt.Errorf("key id %s is another key's", k.ID)
}

// insertKeySQL names no unique index. With one named, PostgreSQL reports a conflict in
// another as an error, and two nodes that make a key's first version at once meet in
// the index of active versions as often as in that of versions.
const insertKeySQL = "INSERT INTO wrapped_key (" + keyColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
	ON CONFLICT DO NOTHING`

func keyArgs(k *vault.WrappedKey) []any {
	return []any{
		k.ID[:], int64(k.Version), k.Tenant, k.Holder, string(k.Purpose), string(k.State), int64(k.Mode), k.Wrapped,
		int64(k.CreatedAt), int64(k.ChangedAt), countOf(k.Sealed),
	}
}

// insertKey reports whether tenant, holder, purpose and version were free.
func insertKey(ctx context.Context, s session, k *vault.WrappedKey) (bool, error) {
	n, err := s.exec(ctx, insertKeySQL, keyArgs(k)...)
	return n == 1, err
}

// countOf is n as it is stored.
func countOf(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
