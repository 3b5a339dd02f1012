package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	lib "modernc.org/sqlite/lib"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// errUnchanged ends a transaction that has found nothing to change: what it did is
// undone, and its entry is not written.
var errUnchanged = errors.New("nothing to change")

// keyWork has the committer run fn alone in a transaction, and stays until it is
// answered once it has begun. fn may run more than once: what it has found by the
// last run counts.
func (s *Store) keyWork(ctx context.Context, fn func(ctx context.Context, c session) ([]audit.Sealed, error)) error {
	if s.com == nil {
		return ErrReadOnly
	}
	u := newUnit(kindClosure, audit.Sealed{})
	u.run = func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) { return fn(ctx, c) }
	err := s.com.whole(ctx, u)
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// Inventory implements vault.KeyWork, as do the methods below.
func (s *Store) Inventory(ctx context.Context, tenant string) (keys []vault.WrappedKey, err error) {
	if checkText(tenant) != nil {
		return nil, nil
	}
	err = s.view(ctx, readKey, func(ctx context.Context, c session) error {
		keys = nil
		return c.query(ctx, func(scan scanFunc) error {
			keys = append(keys, vault.WrappedKey{})
			return scanKey(scan, &keys[len(keys)-1])
		}, "SELECT "+keyColumns+" FROM wrapped_key WHERE tenant = $1 ORDER BY holder, purpose, version", tenant)
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// RotateKey tells other nodes of the version that it replaces, which is what they
// have in memory.
func (s *Store) RotateKey(ctx context.Context, k vault.WrappedKey, e audit.Sealed) (standing vault.WrappedKey, created bool, err error) {
	if err := checkText(k.Tenant, k.Holder, string(k.Purpose)); err != nil {
		return vault.WrappedKey{}, false, err
	}
	k.State = vault.KeyActive
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		standing, created = vault.WrappedKey{}, false
		number, err := nextEvent(ctx, c) // first: rotations run one after the other on all nodes
		if err != nil {
			return nil, err
		}
		newest, err := selectKey(ctx, c, "tenant = $1 AND holder = $2 AND purpose = $3 ORDER BY version DESC LIMIT 1", k.Tenant, k.Holder, string(k.Purpose))
		if err != nil {
			return nil, err
		}
		if newest != nil && newest.Version >= k.Version {
			standing = *newest
			return nil, callerError{errUnchanged}
		}
		active, err := selectActiveKey(ctx, c, k.Tenant, k.Holder, k.Purpose)
		if err != nil {
			return nil, err
		}
		replaced := vault.KeyVersion{ID: k.ID, Version: k.Version}
		if active != nil {
			replaced = vault.KeyVersion{ID: active.ID, Version: active.Version}
			_, err := c.exec(ctx, "UPDATE wrapped_key SET state = $1, changed_at = $2 WHERE key_id = $3 AND version = $4",
				string(vault.KeyDecryptOnly), int64(k.CreatedAt), active.ID[:], int64(active.Version))
			if err != nil {
				return nil, err
			}
		}
		inserted, err := insertKey(ctx, c, &k)
		if err == nil && !inserted { // by PutKey on another node, just now
			taken, err := standingKey(ctx, c, &k)
			if err != nil {
				return nil, err
			}
			if taken != nil {
				standing = *taken
				if err := errKeyID(&k, taken); err != nil {
					return nil, callerError{err}
				}
			}
			return nil, callerError{errUnchanged}
		}
		if err != nil {
			return nil, err
		}
		standing, created = k, true
		return []audit.Sealed{e}, s.tellEvent(ctx, c, number, k.Tenant, replaced)
	})
	if err != nil {
		return vault.WrappedKey{}, false, err
	}
	return standing, created, nil
}

// RewrapKey replaces the wrapping of a version that is not destroyed.
func (s *Store) RewrapKey(ctx context.Context, k vault.WrappedKey, was []byte, e audit.Sealed) (done bool, err error) {
	err = s.changeKey(ctx, vault.KeyVersion{ID: k.ID, Version: k.Version}, e, func(ctx context.Context, c session, _ *vault.WrappedKey) (bool, error) {
		n, err := c.exec(ctx, "UPDATE wrapped_key SET mode = $1, wrapped = $2 WHERE key_id = $3 AND version = $4 AND wrapped = $5 AND state <> $6",
			int64(k.Mode), k.Wrapped, k.ID[:], int64(k.Version), was, string(vault.KeyDestroyed))
		done = n == 1
		return done, err
	})
	return done && err == nil, err
}

// ChangeKey writes nothing, not even the entry, if the version is in the state to
// already. That no row is under a version that is to be retired is looked at in the
// transaction of the change; rows that other nodes insert under it at the same time
// PostgreSQL does not show, and the caller has to see to it that there are none.
// What a destroyed version was wrapped as is overwritten in a SQLite file, at the
// latest when the write-ahead log is next cut off; in PostgreSQL by the next vacuum.
func (s *Store) ChangeKey(ctx context.Context, v vault.KeyVersion, from, to vault.KeyState, at vault.Micros, e audit.Sealed) (done bool, err error) {
	if err := checkText(string(from), string(to)); err != nil {
		return false, err
	}
	var left leftovers
	if to == vault.KeyRetired {
		if left, err = s.lookForRows(ctx, v); err != nil {
			return false, err
		}
	}
	err = s.changeKey(ctx, v, e, func(ctx context.Context, c session, k *vault.WrappedKey) (bool, error) {
		if done = k.State == to; done || k.State != from {
			return false, nil
		}
		if to == vault.KeyRetired {
			if err := left.none(ctx, c); err != nil {
				return false, err
			}
		}
		sql, args := "UPDATE wrapped_key SET state = $1, changed_at = $2 WHERE key_id = $3 AND version = $4 AND state = $5",
			[]any{string(to), int64(at), v.ID[:], int64(v.Version), string(from)}
		if to == vault.KeyDestroyed {
			sql, args = "UPDATE wrapped_key SET state = $1, changed_at = $2, wrapped = $6 WHERE key_id = $3 AND version = $4 AND state = $5", append(args, []byte{})
		}
		n, err := c.exec(ctx, sql, args...)
		if isUnique(err) {
			return false, fmt.Errorf("another version of key %s is active: %w", v.ID, vault.ErrConflict)
		}
		done = n == 1
		return done, err
	})
	return done && err == nil, err
}

// changeKey runs change on a key version that is there. If it reports that it has
// changed the version, the entry is written and other nodes are told.
func (s *Store) changeKey(
	ctx context.Context, v vault.KeyVersion, e audit.Sealed, change func(context.Context, session, *vault.WrappedKey) (bool, error),
) error {
	return s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		number, err := nextEvent(ctx, c)
		if err != nil {
			return nil, err
		}
		k, err := selectKeyVersion(ctx, c, v.ID, v.Version)
		if err != nil {
			return nil, err
		}
		if k == nil {
			return nil, callerError{errUnchanged}
		}
		changed, err := change(ctx, c, k)
		switch {
		case errors.Is(err, vault.ErrConflict):
			return nil, callerError{err}
		case err != nil:
			return nil, err
		case !changed:
			return nil, callerError{errUnchanged}
		}
		return []audit.Sealed{e}, s.tellEvent(ctx, c, number, k.Tenant, v)
	})
}

// countsBatch is how many counts share a transaction.
const countsBatch = 256

// AddSealed leaves out versions that are not there.
func (s *Store) AddSealed(ctx context.Context, counts map[vault.KeyVersion]uint64) error {
	// In the order of the keys: nodes must not wait for each other in a circle.
	versions := slices.SortedFunc(maps.Keys(counts), compareVersions)
	const sql = "UPDATE wrapped_key SET sealed_count = sealed_count + $1 WHERE key_id = $2 AND version = $3"
	for len(versions) > 0 {
		n := min(len(versions), countsBatch)
		var lists [][]any
		for _, v := range versions[:n] {
			lists = append(lists, []any{countOf(counts[v]), v.ID[:], int64(v.Version)})
		}
		err := s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
			return nil, execAll(ctx, c, sql, lists)
		})
		if err != nil {
			return err
		}
		versions = versions[n:]
	}
	return nil
}

func compareVersions(a, b vault.KeyVersion) int {
	if n := slices.Compare(a.ID[:], b.ID[:]); n != 0 {
		return n
	}
	return int(int64(a.Version) - int64(b.Version))
}

// ShredHolder tells other nodes to forget the holder's tenant. In PostgreSQL it
// waits for transactions that insert records of the holder, which hold its row, and
// those that come look at the mark; in SQLite only one transaction writes at a time.
func (s *Store) ShredHolder(ctx context.Context, holderID int64, at vault.Micros, e audit.Sealed) (bool, error) {
	return s.changeHolder(ctx, holderID, e, "UPDATE holder SET shredded_at = $2, secret = NULL WHERE id = $1 AND "+mayStore, holderID, int64(max(at, 1)))
}

// FreeName leaves the row, without the name, so that its number is never another
// holder's: a node that has the holder in memory may still try to store for it.
func (s *Store) FreeName(ctx context.Context, holderID int64, e audit.Sealed) (bool, error) {
	return s.changeHolder(ctx, holderID, e, `UPDATE holder SET tenant = '', name = CAST(id AS TEXT) WHERE id = $1 AND tenant <> '' AND NOT (`+mayStore+`)
		AND NOT EXISTS (SELECT 1 FROM record WHERE holder_id = $1)`, holderID)
}

// changeHolder runs an update of a holder's row and, if it has changed the row, tells
// other nodes to forget the tenant. In PostgreSQL the row is locked first, against
// those who insert records of it; see lockHolders.
func (s *Store) changeHolder(ctx context.Context, id int64, e audit.Sealed, sql string, args ...any) (done bool, err error) {
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		done = false
		lock := "SELECT tenant FROM holder WHERE id = $1"
		if _, is := c.(*postgresWriter); is {
			lock += " FOR UPDATE"
		}
		var tenant string
		if _, err := queryOne(ctx, c, []any{&tenant}, lock, id); err != nil {
			return nil, err
		}
		n, err := c.exec(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, callerError{errUnchanged}
		}
		number, err := nextEvent(ctx, c)
		if err != nil {
			return nil, err
		}
		done = true
		return []audit.Sealed{e}, s.tellEvent(ctx, c, number, tenant, vault.KeyVersion{})
	})
	return done && err == nil, err
}

// Suspend reports false if the tenant is suspended already, and keeps the reason
// that stands.
func (s *Store) Suspend(ctx context.Context, tenant, reason string, at vault.Micros, e audit.Sealed) (bool, error) {
	if err := checkText(tenant, reason); err != nil {
		return false, err
	}
	return s.markTenant(ctx, tenant, e, "INSERT INTO suspended_tenant (tenant, reason, suspended_at) VALUES ($1, $2, $3) ON CONFLICT (tenant) DO NOTHING",
		tenant, reason, int64(at))
}

// Resume reports false if the tenant is not suspended.
func (s *Store) Resume(ctx context.Context, tenant string, e audit.Sealed) (bool, error) {
	if err := checkText(tenant); err != nil {
		return false, err
	}
	return s.markTenant(ctx, tenant, e, "DELETE FROM suspended_tenant WHERE tenant = $1", tenant)
}

func (s *Store) markTenant(ctx context.Context, tenant string, e audit.Sealed, sql string, args ...any) (done bool, err error) {
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		done = false
		number, err := nextEvent(ctx, c)
		if err != nil {
			return nil, err
		}
		n, err := c.exec(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, callerError{errUnchanged}
		}
		done = true
		return []audit.Sealed{e}, s.tellEvent(ctx, c, number, tenant, vault.KeyVersion{})
	})
	return done && err == nil, err
}

// Suspended returns the reasons by tenant.
func (s *Store) Suspended(ctx context.Context) (map[string]string, error) {
	var marked map[string]string
	err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
		marked = map[string]string{}
		return c.query(ctx, func(scan scanFunc) error {
			var tenant, reason string
			err := scan(&tenant, &reason)
			marked[tenant] = reason
			return err
		}, "SELECT tenant, reason FROM suspended_tenant")
	})
	if err != nil {
		return nil, err
	}
	return marked, nil
}

// isUnique reports whether a unique index has refused a statement.
func isUnique(err error) bool {
	if e, ok := errors.AsType[*sqliteError](err); ok {
		return e.code == lib.SQLITE_CONSTRAINT_UNIQUE || e.code == lib.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "23505"
}
