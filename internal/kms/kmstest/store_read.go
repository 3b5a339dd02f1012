package kmstest

import (
	"cmp"
	"context"
	"slices"

	"cardea/internal/kms"
)

// reader reads one state.
type reader struct{ state }

func (r *reader) Key(_ context.Context, ref kms.KeyRef) (*kms.Key, error) { return row(r.keys, ref) }

func (r *reader) Keys(_ context.Context, account, region, after string, limit int) ([]kms.KeyRef, error) {
	var refs []kms.KeyRef
	for ref := range r.keys {
		if ref.Account == account && ref.Region == region && ref.ID > after {
			refs = append(refs, ref)
		}
	}
	return page(refs, limit, func(k kms.KeyRef) string { return k.ID }), nil
}

func (r *reader) Alias(_ context.Context, account, region, name string) (*kms.Alias, error) {
	a, found := r.aliases[aliasKey{account, region, name}]
	if !found {
		return nil, kms.ErrNoRow
	}
	return &a, nil
}

func (r *reader) Aliases(_ context.Context, account, region, after string, limit int) ([]kms.Alias, error) {
	return r.listAliases(limit, func(a kms.Alias) bool {
		return a.Account == account && a.Region == region && a.Name > after
	}), nil
}

func (r *reader) AliasesOf(_ context.Context, ref kms.KeyRef, after string, limit int) ([]kms.Alias, error) {
	return r.listAliases(limit, func(a kms.Alias) bool {
		return a.Account == ref.Account && a.Region == ref.Region && a.KeyID == ref.ID && a.Name > after
	}), nil
}

func (r *reader) listAliases(limit int, want func(kms.Alias) bool) []kms.Alias {
	var out []kms.Alias
	for _, a := range r.aliases {
		if want(a) {
			out = append(out, a)
		}
	}
	return page(out, limit, func(a kms.Alias) string { return a.Name })
}

func (r *reader) Grant(_ context.Context, ref kms.KeyRef, id string) (*kms.Grant, error) {
	g, found := r.grants[grantKey{ref, id}]
	if !found {
		return nil, kms.ErrNoRow
	}
	return &g, nil
}

func (r *reader) Grants(_ context.Context, ref kms.KeyRef, f kms.GrantFilter, after string, limit int) ([]kms.Grant, error) {
	return r.listGrants(limit, func(g kms.Grant) bool {
		return g.Key == ref && g.ID > after && (f.Grantee == "" || f.Grantee == g.Grantee) && (f.Name == "" || f.Name == g.Name)
	}), nil
}

func (r *reader) Retirable(_ context.Context, account, region, principal, after string, limit int) ([]kms.Grant, error) {
	return r.listGrants(limit, func(g kms.Grant) bool {
		return g.Key.Account == account && g.Key.Region == region && g.Retiring == principal && g.ID > after
	}), nil
}

func (r *reader) listGrants(limit int, want func(kms.Grant) bool) []kms.Grant {
	var out []kms.Grant
	for _, g := range r.grants {
		if want(g) {
			out = append(out, g)
		}
	}
	return page(out, limit, func(g kms.Grant) string { return g.ID })
}

func (r *reader) KeyStore(_ context.Context, account, region, id string) (*kms.KeyStore, error) {
	s, found := r.stores[storeKey{account, region, id}]
	if !found {
		return nil, kms.ErrNoRow
	}
	return &s, nil
}

func (r *reader) KeyStores(_ context.Context, account, region, after string, limit int) ([]kms.KeyStore, error) {
	var out []kms.KeyStore
	for k, s := range r.stores {
		if k.account == account && k.region == region && k.id > after {
			out = append(out, s)
		}
	}
	return page(out, limit, func(s kms.KeyStore) string { return s.ID }), nil
}

func (r *reader) Usage(_ context.Context, ref kms.KeyRef) (*kms.Usage, error) {
	u, found := r.usage[ref]
	if !found {
		return nil, kms.ErrNoRow
	}
	return &u, nil
}

func row[K comparable, V any](m map[K]*V, k K) (*V, error) {
	v, found := m[k]
	if !found {
		return nil, kms.ErrNoRow
	}
	c := *v
	return &c, nil
}

func page[T any](items []T, limit int, name func(T) string) []T {
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return items[:min(len(items), limit)]
}
