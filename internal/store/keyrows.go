package store

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/kms"
)

// keyRows reads the state of the key service, in a transaction or outside. It
// implements kms.Reader.
type keyRows struct{ view rowView }

// rowOfKey is the row of a key that is $1, $2, $3.
const rowOfKey = "(SELECT id FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3)"

// Key implements kms.Reader, as do the methods below.
func (r keyRows) Key(ctx context.Context, ref kms.KeyRef) (*kms.Key, error) {
	k := new(kms.Key)
	version, found, err := r.view.one(ctx, k, "SELECT version, doc FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3",
		ref.Account, ref.Region, ref.ID)
	if err := asRow(found, k.KeyRef == ref, err); err != nil {
		return nil, about("key", ref.ID, err)
	}
	k.Version = version
	return k, nil
}

// asRow is the error of a row that was read.
func asRow(found, belongs bool, err error) error {
	switch {
	case err != nil:
		return err
	case !found:
		return kms.ErrNoRow
	case !belongs:
		return errMisplaced
	}
	return nil
}

// about says what an error is about. A row that is not there is no error to tell of.
func about(kind, id string, err error) error {
	if err == nil || errors.Is(err, kms.ErrNoRow) {
		return err
	}
	return fmt.Errorf("%s %s: %w", kind, id, err)
}

func (r keyRows) Keys(ctx context.Context, account, region, after string, limit int) ([]kms.KeyRef, error) {
	return r.refs(ctx, `SELECT account, region, key_id FROM kms_key
		WHERE account = $1 AND region = $2 AND key_id > $3 ORDER BY key_id LIMIT $4`, account, region, after, int64(limit))
}

// refs reads the names of keys.
func (r keyRows) refs(ctx context.Context, sql string, args ...any) (refs []kms.KeyRef, err error) {
	if checkArgs(args) != nil {
		return nil, nil
	}
	err = r.view(ctx, func(ctx context.Context, c session) error {
		refs = nil
		return c.query(ctx, func(scan scanFunc) error {
			var ref kms.KeyRef
			err := scan(&ref.Account, &ref.Region, &ref.ID)
			refs = append(refs, ref)
			return err
		}, sql, args...)
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

func (r keyRows) Alias(ctx context.Context, account, region, name string) (*kms.Alias, error) {
	a := new(kms.Alias)
	_, found, err := r.view.one(ctx, a, "SELECT 0, doc FROM kms_alias WHERE account = $1 AND region = $2 AND name = $3", account, region, name)
	if err := asRow(found, a.Account == account && a.Region == region && a.Name == name, err); err != nil {
		return nil, about("alias", name, err)
	}
	return a, nil
}

func (r keyRows) Aliases(ctx context.Context, account, region, after string, limit int) ([]kms.Alias, error) {
	return docs(ctx, r.view, anyAlias, `SELECT 0, doc FROM kms_alias
		WHERE account = $1 AND region = $2 AND name > $3 ORDER BY name LIMIT $4`, account, region, after, int64(limit))
}

func (r keyRows) AliasesOf(ctx context.Context, ref kms.KeyRef, after string, limit int) ([]kms.Alias, error) {
	return docs(ctx, r.view, anyAlias, "SELECT 0, doc FROM kms_alias WHERE key_row = "+rowOfKey+" AND name > $4 ORDER BY name LIMIT $5",
		ref.Account, ref.Region, ref.ID, after, int64(limit))
}

func anyAlias(*kms.Alias, int64) error { return nil }

func (r keyRows) Grant(ctx context.Context, ref kms.KeyRef, id string) (*kms.Grant, error) {
	g := new(kms.Grant)
	_, found, err := r.view.one(ctx, g, "SELECT 0, doc FROM kms_grant WHERE key_row = "+rowOfKey+" AND grant_id = $4",
		ref.Account, ref.Region, ref.ID, id)
	if err := asRow(found, g.Key == ref && g.ID == id, err); err != nil {
		return nil, about("grant", id, err)
	}
	return g, nil
}

// Grants reads by the index that fits what is asked for: a condition that is left
// to a filter is hidden from the planner, which might take its index instead.
func (r keyRows) Grants(ctx context.Context, ref kms.KeyRef, f kms.GrantFilter, after string, limit int) ([]kms.Grant, error) {
	where, args := "", []any{ref.Account, ref.Region, ref.ID, after, int64(limit)}
	switch {
	case f.Name != "" && f.Grantee != "":
		where, args = " AND name = $6 AND name <> '' AND grantee || '' = $7", append(args, f.Name, f.Grantee)
	case f.Name != "":
		where, args = " AND name = $6 AND name <> ''", append(args, f.Name)
	case f.Grantee != "":
		where, args = " AND grantee = $6", append(args, f.Grantee)
	}
	return docs(ctx, r.view, func(g *kms.Grant, _ int64) error {
		if g.Key != ref {
			return about("grant", g.ID, errMisplaced)
		}
		return nil
	}, "SELECT 0, doc FROM kms_grant WHERE key_row = "+rowOfKey+" AND grant_id > $4"+where+" ORDER BY grant_id LIMIT $5", args...)
}

func (r keyRows) Retirable(ctx context.Context, account, region, principal, after string, limit int) ([]kms.Grant, error) {
	return docs(ctx, r.view, func(*kms.Grant, int64) error { return nil }, `SELECT 0, doc FROM kms_grant
		WHERE account = $1 AND region = $2 AND retiring = $3 AND retiring <> '' AND grant_id > $4 ORDER BY grant_id LIMIT $5`,
		account, region, principal, after, int64(limit))
}

func (r keyRows) KeyStore(ctx context.Context, account, region, id string) (*kms.KeyStore, error) {
	s := new(kms.KeyStore)
	version, found, err := r.view.one(ctx, s, "SELECT version, doc FROM kms_key_store WHERE account = $1 AND region = $2 AND key_store_id = $3",
		account, region, id)
	if err := asRow(found, s.Account == account && s.Region == region && s.ID == id, err); err != nil {
		return nil, about("key store", id, err)
	}
	s.Version = version
	return s, nil
}

func (r keyRows) KeyStores(ctx context.Context, account, region, after string, limit int) ([]kms.KeyStore, error) {
	return docs(ctx, r.view, func(s *kms.KeyStore, version int64) error {
		s.Version = version
		return nil
	}, `SELECT version, doc FROM kms_key_store
		WHERE account = $1 AND region = $2 AND key_store_id > $3 ORDER BY key_store_id LIMIT $4`, account, region, after, int64(limit))
}

func (r keyRows) Usage(ctx context.Context, ref kms.KeyRef) (*kms.Usage, error) {
	u := new(kms.Usage)
	_, found, err := r.view.one(ctx, u, "SELECT 0, doc FROM kms_usage WHERE key_row = "+rowOfKey, ref.Account, ref.Region, ref.ID)
	if err := asRow(found, u.Key == ref, err); err != nil {
		return nil, about("last use of key", ref.ID, err)
	}
	return u, nil
}
