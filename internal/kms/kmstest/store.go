// Package kmstest has what tests of the key service need in place of a database:
// a store in memory, with faults on request.
package kmstest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"cardea/internal/audit"
	"cardea/internal/kms"
)

// Store is a kms.Store in memory.
type Store struct {
	mu      sync.Mutex
	state   state
	log     []audit.Sealed
	changes []kms.Change
	fault   func(call string) error
}

type aliasKey struct{ account, region, name string }

type grantKey struct {
	key kms.KeyRef
	id  string
}

type storeKey struct{ account, region, id string }

// state is replaced as a whole, never changed in place.
type state struct {
	keys    map[kms.KeyRef]*kms.Key
	aliases map[aliasKey]kms.Alias
	grants  map[grantKey]kms.Grant
	stores  map[storeKey]kms.KeyStore
	usage   map[kms.KeyRef]kms.Usage
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{state: state{
		map[kms.KeyRef]*kms.Key{}, map[aliasKey]kms.Alias{}, map[grantKey]kms.Grant{}, map[storeKey]kms.KeyStore{}, map[kms.KeyRef]kms.Usage{},
	}}
}

// Fail makes calls fail: f gets the name of each, Append, Update, Key and so on,
// Tx.PutKey and so on for writes inside a transaction and Commit for its end, and
// returns nil to let it pass. nil takes the fault away. f must not call the store.
func (s *Store) Fail(f func(call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Entries are the lines of the audit log.
func (s *Store) Entries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.log {
		out = append(out, string(e.Line))
	}
	return out
}

func (s *Store) read(call string) (state, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		if err := s.fault(call); err != nil {
			return state{}, err
		}
	}
	return s.state, nil
}

// Append implements kms.Store.
func (s *Store) Append(_ context.Context, entries ...audit.Sealed) error {
	if _, err := s.read("Append"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, entries...)
	return nil
}

// Update implements kms.Store.
func (s *Store) Update(_ context.Context, fn func(kms.Tx) error) error {
	st, err := s.read("Update")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st = s.state
	tx := &tx{fault: s.fault, reader: reader{state: state{
		maps.Clone(st.keys), maps.Clone(st.aliases), maps.Clone(st.grants), maps.Clone(st.stores), maps.Clone(st.usage),
	}}}
	if err := fn(tx); err != nil {
		return err
	}
	if len(tx.entries) == 0 {
		panic("a change without an audit entry")
	}
	if err := tx.fails("Commit"); err != nil {
		return err
	}
	s.state, s.log = tx.state, append(s.log, tx.entries...)
	s.changes = append(s.changes, tx.changes...)
	return nil
}

// PutUsage implements kms.Store.
func (s *Store) PutUsage(_ context.Context, us []kms.Usage) error {
	if _, err := s.read("PutUsage"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	usage := maps.Clone(s.state.usage)
	for _, u := range us {
		if _, found := s.state.keys[u.Key]; !found {
			continue
		}
		if old, ok := usage[u.Key]; !ok || old.At.Before(u.At) {
			usage[u.Key] = u
		}
	}
	s.state.usage = usage
	return nil
}

// Due implements kms.Store.
func (s *Store) Due(_ context.Context, at time.Time, limit int) ([]kms.KeyRef, error) {
	st, err := s.read("Due")
	if err != nil {
		return nil, err
	}
	var due []*kms.Key
	for _, k := range st.keys {
		if d := k.Due(); !d.IsZero() && !d.After(at) {
			due = append(due, k)
		}
	}
	slices.SortFunc(due, func(a, b *kms.Key) int { return a.Due().Compare(b.Due()) })
	var refs []kms.KeyRef
	for _, k := range due[:min(len(due), limit)] {
		refs = append(refs, k.KeyRef)
	}
	return refs, nil
}

// Changes implements kms.Store.
func (s *Store) Changes(_ context.Context, after int64) ([]kms.Change, int64, error) {
	if _, err := s.read("Changes"); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(len(s.changes))
	if after < 0 {
		return nil, n, nil
	}
	return slices.Clone(s.changes[min(after, n):]), n, nil
}

// Every read of the store is that of a reader on the state now.

func (s *Store) reader(call string) (*reader, error) {
	st, err := s.read(call)
	return &reader{st}, err
}

// Key implements kms.Reader, as do the methods below.
func (s *Store) Key(ctx context.Context, ref kms.KeyRef) (*kms.Key, error) {
	r, err := s.reader("Key")
	if err != nil {
		return nil, err
	}
	return r.Key(ctx, ref)
}

func (s *Store) Keys(ctx context.Context, account, region, after string, limit int) ([]kms.KeyRef, error) {
	r, err := s.reader("Keys")
	if err != nil {
		return nil, err
	}
	return r.Keys(ctx, account, region, after, limit)
}

func (s *Store) Alias(ctx context.Context, account, region, name string) (*kms.Alias, error) {
	r, err := s.reader("Alias")
	if err != nil {
		return nil, err
	}
	return r.Alias(ctx, account, region, name)
}

func (s *Store) Aliases(ctx context.Context, account, region, after string, limit int) ([]kms.Alias, error) {
	r, err := s.reader("Aliases")
	if err != nil {
		return nil, err
	}
	return r.Aliases(ctx, account, region, after, limit)
}

func (s *Store) AliasesOf(ctx context.Context, ref kms.KeyRef, after string, limit int) ([]kms.Alias, error) {
	r, err := s.reader("AliasesOf")
	if err != nil {
		return nil, err
	}
	return r.AliasesOf(ctx, ref, after, limit)
}

func (s *Store) Grant(ctx context.Context, ref kms.KeyRef, id string) (*kms.Grant, error) {
	r, err := s.reader("Grant")
	if err != nil {
		return nil, err
	}
	return r.Grant(ctx, ref, id)
}

func (s *Store) Grants(ctx context.Context, ref kms.KeyRef, f kms.GrantFilter, after string, limit int) ([]kms.Grant, error) {
	r, err := s.reader("Grants")
	if err != nil {
		return nil, err
	}
	return r.Grants(ctx, ref, f, after, limit)
}

func (s *Store) Retirable(ctx context.Context, account, region, principal, after string, limit int) ([]kms.Grant, error) {
	r, err := s.reader("Retirable")
	if err != nil {
		return nil, err
	}
	return r.Retirable(ctx, account, region, principal, after, limit)
}

func (s *Store) KeyStore(ctx context.Context, account, region, id string) (*kms.KeyStore, error) {
	r, err := s.reader("KeyStore")
	if err != nil {
		return nil, err
	}
	return r.KeyStore(ctx, account, region, id)
}

func (s *Store) KeyStores(ctx context.Context, account, region, after string, limit int) ([]kms.KeyStore, error) {
	r, err := s.reader("KeyStores")
	if err != nil {
		return nil, err
	}
	return r.KeyStores(ctx, account, region, after, limit)
}

func (s *Store) Usage(ctx context.Context, ref kms.KeyRef) (*kms.Usage, error) {
	r, err := s.reader("Usage")
	if err != nil {
		return nil, err
	}
	return r.Usage(ctx, ref)
}

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

// tx changes a copy of the state.
type tx struct {
	reader
	entries []audit.Sealed
	changes []kms.Change
	fault   func(call string) error
}

func (t *tx) fails(call string) error {
	if t.fault == nil {
		return nil
	}
	return t.fault(call)
}

func (t *tx) changed(ref kms.KeyRef) { t.changes = append(t.changes, kms.Change{KeyRef: ref}) }

func (t *tx) PutKey(_ context.Context, k *kms.Key) error {
	if err := t.fails("Tx.PutKey"); err != nil {
		return err
	}
	old, found := t.keys[k.KeyRef]
	if found != (k.Version != 0) || found && old.Version != k.Version {
		return kms.ErrChanged
	}
	c := k.Clone()
	c.Version++
	t.keys[k.KeyRef] = c
	t.changed(k.KeyRef)
	return nil
}

func (t *tx) DeleteKey(_ context.Context, ref kms.KeyRef) error {
	if err := t.fails("Tx.DeleteKey"); err != nil {
		return err
	}
	if _, found := t.keys[ref]; !found {
		return kms.ErrChanged
	}
	delete(t.keys, ref)
	delete(t.usage, ref)
	for k, a := range t.aliases {
		if a.Account == ref.Account && a.Region == ref.Region && a.KeyID == ref.ID {
			delete(t.aliases, k)
			t.changes = append(t.changes, kms.Change{KeyRef: kms.KeyRef{Account: a.Account, Region: a.Region}, Alias: a.Name})
		}
	}
	for k := range t.grants {
		if k.key == ref {
			delete(t.grants, k)
		}
	}
	t.changed(ref)
	return nil
}

func (t *tx) CountKeys(_ context.Context, account, region, keyStoreID string) (int, error) {
	n := 0
	for ref, k := range t.keys {
		if ref.Account == account && ref.Region == region && (keyStoreID == "" || k.KeyStoreID == keyStoreID) {
			n++
		}
	}
	return n, nil
}

func (t *tx) PutAlias(_ context.Context, a *kms.Alias, replace bool) error {
	if err := t.fails("Tx.PutAlias"); err != nil {
		return err
	}
	k := aliasKey{a.Account, a.Region, a.Name}
	old, found := t.aliases[k]
	ref := kms.KeyRef{Account: a.Account, Region: a.Region, ID: a.KeyID}
	if _, there := t.keys[ref]; found != replace || !there {
		return kms.ErrChanged
	}
	if found {
		t.changed(kms.KeyRef{Account: a.Account, Region: a.Region, ID: old.KeyID})
	}
	t.aliases[k] = *a
	t.changes = append(t.changes, kms.Change{KeyRef: ref, Alias: a.Name})
	return nil
}

func (t *tx) DeleteAlias(_ context.Context, account, region, name string) error {
	if err := t.fails("Tx.DeleteAlias"); err != nil {
		return err
	}
	k := aliasKey{account, region, name}
	old, found := t.aliases[k]
	if !found {
		return kms.ErrChanged
	}
	delete(t.aliases, k)
	t.changes = append(t.changes, kms.Change{KeyRef: kms.KeyRef{Account: account, Region: region, ID: old.KeyID}, Alias: name})
	return nil
}

func (t *tx) PutGrant(_ context.Context, g *kms.Grant) error {
	if err := t.fails("Tx.PutGrant"); err != nil {
		return err
	}
	k := grantKey{g.Key, g.ID}
	_, found := t.grants[k]
	if _, there := t.keys[g.Key]; found || !there {
		return kms.ErrChanged
	}
	t.grants[k] = *g
	t.changed(g.Key)
	return nil
}

func (t *tx) DeleteGrant(_ context.Context, ref kms.KeyRef, id string) error {
	if err := t.fails("Tx.DeleteGrant"); err != nil {
		return err
	}
	k := grantKey{ref, id}
	if _, found := t.grants[k]; !found {
		return kms.ErrChanged
	}
	delete(t.grants, k)
	t.changed(ref)
	return nil
}

func (t *tx) CountGrants(_ context.Context, ref kms.KeyRef) (int, error) {
	n := 0
	for k := range t.grants {
		if k.key == ref {
			n++
		}
	}
	return n, nil
}

func (t *tx) PutKeyStore(_ context.Context, s *kms.KeyStore) error {
	if err := t.fails("Tx.PutKeyStore"); err != nil {
		return err
	}
	k := storeKey{s.Account, s.Region, s.ID}
	old, found := t.stores[k]
	if found != (s.Version != 0) || found && old.Version != s.Version {
		return kms.ErrChanged
	}
	c := *s
	c.Version++
	t.stores[k] = c
	return nil
}

func (t *tx) DeleteKeyStore(_ context.Context, account, region, id string) error {
	if err := t.fails("Tx.DeleteKeyStore"); err != nil {
		return err
	}
	k := storeKey{account, region, id}
	if _, found := t.stores[k]; !found {
		return kms.ErrChanged
	}
	delete(t.stores, k)
	return nil
}

func (t *tx) Append(e audit.Sealed) { t.entries = append(t.entries, e) }

var _ kms.Store = (*Store)(nil)
