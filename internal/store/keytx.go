package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cardea/internal/kms"
)

// keyTx implements kms.Tx.
type keyTx struct {
	work
	keyRows
	changes []kms.Change
}

// changed notes a change for other nodes, once.
func (tx *keyTx) changed(c kms.Change) {
	if !slices.Contains(tx.changes, c) {
		tx.changes = append(tx.changes, c)
	}
}

// tellChanges makes the changes known, numbered.
func (tx *keyTx) tellChanges(ctx context.Context, n *numbers, now time.Time) error {
	lists := make([][]any, len(tx.changes))
	for i, c := range tx.changes {
		number, err := n.take(ctx, tx.s)
		if err != nil {
			return err
		}
		lists[i] = []any{number, now.UnixMicro(), c.Account, c.Region, c.ID, c.Alias}
	}
	return execAll(ctx, tx.s, "INSERT INTO kms_change (n, changed_at, account, region, key_id, alias) VALUES ($1, $2, $3, $4, $5, $6)", lists)
}

// count adds to a tally: of the keys of an account and Region, or of a key's grants.
func (tx *keyTx) count(ctx context.Context, account, region, name string, by int64) error {
	_, err := tx.exec(ctx, `INSERT INTO kms_tally (account, region, name, n) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account, region, name) DO UPDATE SET n = kms_tally.n + $4`, account, region, name, by)
	return err
}

func (tx *keyTx) tally(ctx context.Context, account, region, name string) (int, error) {
	n, err := tx.view.number(ctx, "SELECT n FROM kms_tally WHERE account = $1 AND region = $2 AND name = $3", account, region, name)
	return int(n), err
}

// PutKey implements kms.Tx, as do the methods below.
func (tx *keyTx) PutKey(ctx context.Context, k *kms.Key) error {
	doc, err := encodeDoc(k)
	if err != nil {
		return fmt.Errorf("key %s: %w", k.ID, err)
	}
	if err := checkText(k.Account, k.Region, k.ID, k.KeyStoreID); err != nil {
		return fmt.Errorf("key %s: %w", k.ID, err)
	}
	sql := `INSERT INTO kms_key (account, region, key_id, version, key_store, due_at, doc) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (account, region, key_id) DO NOTHING`
	if k.Version != 0 {
		sql = `UPDATE kms_key SET version = version + 1, key_store = $5, due_at = $6, doc = $7
			WHERE account = $1 AND region = $2 AND key_id = $3 AND version = $4`
	}
	n, err := tx.exec(ctx, sql, k.Account, k.Region, k.ID, cmp.Or(k.Version, 1), k.KeyStoreID, dueMicros(k.Due()), doc)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: k.KeyRef})
	if k.Version != 0 {
		return nil
	}
	return tx.count(ctx, k.Account, k.Region, "", 1)
}

func (tx *keyTx) DeleteKey(ctx context.Context, ref kms.KeyRef) error {
	if checkText(ref.Account, ref.Region, ref.ID) != nil {
		return kms.ErrChanged
	}
	aliases, err := tx.aliasNames(ctx, ref)
	if err != nil {
		return err
	}
	// Aliases, grants and last use go with it.
	n, err := tx.exec(ctx, "DELETE FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3", ref.Account, ref.Region, ref.ID)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM kms_tally WHERE account = $1 AND region = $2 AND name = $3", ref.Account, ref.Region, ref.ID)
	if err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: ref})
	for _, a := range aliases {
		tx.changed(kms.Change{KeyRef: ref, Alias: a})
	}
	return tx.count(ctx, ref.Account, ref.Region, "", -1)
}

func (tx *keyTx) aliasNames(ctx context.Context, ref kms.KeyRef) (names []string, err error) {
	err = tx.view(ctx, func(ctx context.Context, c session) error {
		return c.query(ctx, func(scan scanFunc) error {
			names = append(names, "")
			return scan(&names[len(names)-1])
		}, "SELECT name FROM kms_alias WHERE key_row = "+rowOfKey+" ORDER BY name", ref.Account, ref.Region, ref.ID)
	})
	return names, err
}

func (tx *keyTx) CountKeys(ctx context.Context, account, region, keyStoreID string) (int, error) {
	if keyStoreID == "" {
		return tx.tally(ctx, account, region, "")
	}
	n, err := tx.view.number(ctx, `SELECT count(*) FROM kms_key
		WHERE account = $1 AND region = $2 AND key_store = $3 AND key_store <> ''`, account, region, keyStoreID)
	return int(n), err
}

func (tx *keyTx) PutAlias(ctx context.Context, a *kms.Alias, replace bool) error {
	doc, err := encodeDoc(a)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	if err := checkText(a.Account, a.Region, a.Name, a.KeyID); err != nil {
		return err
	}
	ref := kms.KeyRef{Account: a.Account, Region: a.Region, ID: a.KeyID}
	sql := `INSERT INTO kms_alias (account, region, name, key_row, doc)
		SELECT $1, $2, $4, id, $5 FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3
		ON CONFLICT (account, region, name) DO NOTHING`
	if replace {
		old, err := tx.keyOf(ctx, a.Account, a.Region, a.Name)
		if err != nil {
			return err
		}
		tx.changed(kms.Change{KeyRef: old})
		sql = `UPDATE kms_alias SET key_row = k.id, doc = $5
			FROM (SELECT id FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3) AS k
			WHERE account = $1 AND region = $2 AND name = $4`
	}
	n, err := tx.exec(ctx, sql, a.Account, a.Region, a.KeyID, a.Name, doc)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: ref, Alias: a.Name})
	return nil
}

// keyOf is the key of an alias, ErrChanged if there is none.
func (tx *keyTx) keyOf(ctx context.Context, account, region, name string) (kms.KeyRef, error) {
	refs, err := tx.refs(ctx, `SELECT k.account, k.region, k.key_id FROM kms_alias a JOIN kms_key k ON k.id = a.key_row
		WHERE a.account = $1 AND a.region = $2 AND a.name = $3`, account, region, name)
	if err := one(int64(len(refs)), err, kms.ErrChanged); err != nil {
		return kms.KeyRef{}, err
	}
	return refs[0], nil
}

func (tx *keyTx) DeleteAlias(ctx context.Context, account, region, name string) error {
	ref, err := tx.keyOf(ctx, account, region, name)
	if err != nil {
		return err
	}
	n, err := tx.exec(ctx, "DELETE FROM kms_alias WHERE account = $1 AND region = $2 AND name = $3", account, region, name)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: ref, Alias: name})
	return nil
}

func (tx *keyTx) PutGrant(ctx context.Context, g *kms.Grant) error {
	doc, err := encodeDoc(g)
	if err != nil {
		return fmt.Errorf("grant %s: %w", g.ID, err)
	}
	if err := checkText(g.Key.Account, g.Key.Region, g.Key.ID, g.ID, g.Grantee, g.Retiring, g.Name); err != nil {
		return fmt.Errorf("grant %s: %w", g.ID, err)
	}
	n, err := tx.exec(ctx, `INSERT INTO kms_grant (key_row, grant_id, account, region, grantee, retiring, name, doc)
		SELECT id, $4, $1, $2, $5, $6, $7, $8 FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3
		ON CONFLICT (key_row, grant_id) DO NOTHING`, g.Key.Account, g.Key.Region, g.Key.ID, g.ID, g.Grantee, g.Retiring, g.Name, doc)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: g.Key})
	return tx.count(ctx, g.Key.Account, g.Key.Region, g.Key.ID, 1)
}

func (tx *keyTx) DeleteGrant(ctx context.Context, ref kms.KeyRef, id string) error {
	if checkText(ref.Account, ref.Region, ref.ID, id) != nil {
		return kms.ErrChanged
	}
	n, err := tx.exec(ctx, "DELETE FROM kms_grant WHERE key_row = "+rowOfKey+" AND grant_id = $4", ref.Account, ref.Region, ref.ID, id)
	if err := one(n, err, kms.ErrChanged); err != nil {
		return err
	}
	tx.changed(kms.Change{KeyRef: ref})
	return tx.count(ctx, ref.Account, ref.Region, ref.ID, -1)
}

func (tx *keyTx) CountGrants(ctx context.Context, ref kms.KeyRef) (int, error) {
	return tx.tally(ctx, ref.Account, ref.Region, ref.ID)
}

func (tx *keyTx) PutKeyStore(ctx context.Context, s *kms.KeyStore) error {
	doc, err := encodeDoc(s)
	if err != nil {
		return fmt.Errorf("key store %s: %w", s.ID, err)
	}
	if err := checkText(s.Account, s.Region, s.ID); err != nil {
		return fmt.Errorf("key store %s: %w", s.ID, err)
	}
	sql := `INSERT INTO kms_key_store (account, region, key_store_id, version, doc) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account, region, key_store_id) DO NOTHING`
	if s.Version != 0 {
		sql = `UPDATE kms_key_store SET version = version + 1, doc = $5
			WHERE account = $1 AND region = $2 AND key_store_id = $3 AND version = $4`
	}
	n, err := tx.exec(ctx, sql, s.Account, s.Region, s.ID, cmp.Or(s.Version, 1), doc)
	return one(n, err, kms.ErrChanged)
}

func (tx *keyTx) DeleteKeyStore(ctx context.Context, account, region, id string) error {
	if checkText(account, region, id) != nil {
		return kms.ErrChanged
	}
	n, err := tx.exec(ctx, "DELETE FROM kms_key_store WHERE account = $1 AND region = $2 AND key_store_id = $3", account, region, id)
	return one(n, err, kms.ErrChanged)
}
