// Package kmstest has what tests of the key service need in place of a database:
// a store in memory, with faults on request.
package kmstest

import (
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

var _ kms.Store = (*Store)(nil)
