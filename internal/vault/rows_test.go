package vault_test

import (
	"context"
	"slices"
	"sync"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// rows is a store whose rows somebody may change behind the vault's back.
type rows struct {
	vault.Store

	mu       sync.Mutex // guards all below
	put      []vault.Record
	holders  []vault.Holder
	changed  map[vault.Lookup]vault.Record // instead of what is stored
	standing *vault.Record                 // found in the way of every insert
}

// last is the record that was put last.
func (r *rows) last() *vault.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.put[len(r.put)-1]
	return &c
}

// change makes rec what is found under l.
func (r *rows) change(l vault.Lookup, rec vault.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = map[vault.Lookup]vault.Record{}
	}
	r.changed[l] = rec
}

func (r *rows) restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed, r.standing = nil, nil
}

func (r *rows) find(l vault.Lookup) (vault.Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.changed[l]
	return rec, ok
}

func (r *rows) PutRecord(ctx context.Context, rec vault.Record, e audit.Sealed) (*vault.Record, error) {
	r.mu.Lock()
	standing := r.standing
	r.mu.Unlock()
	if standing != nil {
		return standing, nil
	}
	existing, err := r.Store.PutRecord(ctx, rec, e)
	if existing == nil && err == nil {
		r.mu.Lock()
		r.put = append(r.put, rec)
		r.mu.Unlock()
	}
	return existing, err
}

func (r *rows) UpsertRecord(ctx context.Context, rec vault.Record, e audit.Sealed) error {
	err := r.Store.UpsertRecord(ctx, rec, e)
	if err == nil {
		r.mu.Lock()
		r.put = append(r.put, rec)
		r.mu.Unlock()
	}
	return err
}

func (r *rows) PutHolder(ctx context.Context, h vault.Holder, e audit.Sealed) (vault.Holder, bool, error) {
	standing, created, err := r.Store.PutHolder(ctx, h, e)
	if created {
		r.mu.Lock()
		r.holders = append(r.holders, standing)
		r.mu.Unlock()
	}
	return standing, created, err
}

func (r *rows) Record(ctx context.Context, l vault.Lookup) (vault.Record, error) {
	if rec, ok := r.find(l); ok {
		return rec, nil
	}
	return r.Store.Record(ctx, l)
}

func (r *rows) RecordAndHolder(ctx context.Context, l vault.Lookup) (vault.Record, vault.Holder, error) {
	rec, ok := r.find(l)
	if !ok {
		return r.Store.RecordAndHolder(ctx, l)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.holders, func(h vault.Holder) bool { return h.ID == rec.HolderID })
	if i < 0 {
		return vault.Record{}, vault.Holder{}, vault.ErrNotFound
	}
	return rec, r.holders[i], nil
}
