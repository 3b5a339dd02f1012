package vaulttest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// Store is a vault.Store in memory. Make it with NewStore.
type Store struct {
	mu           sync.Mutex // guards all below
	records      map[vault.Lookup]vault.Record
	dedupe       map[vault.MAC]vault.Lookup
	holders      map[holderName]vault.Holder
	holderByID   map[int64]vault.Holder
	keys         map[keyVersion]vault.WrappedKey
	fingerprints map[vault.MAC]string
	log          []audit.Sealed
	fail         func(op string) error
	probe        vault.Probe
	work         work
}

type holderName struct{ tenant, name string }

type keyVersion struct {
	id      vault.KeyID
	version uint32
}

var _ vault.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		records: map[vault.Lookup]vault.Record{}, dedupe: map[vault.MAC]vault.Lookup{},
		holders: map[holderName]vault.Holder{}, holderByID: map[int64]vault.Holder{},
		keys: map[keyVersion]vault.WrappedKey{}, fingerprints: map[vault.MAC]string{}, work: newWork(),
	}
}

// FailWith makes every later call ask fail by the method's name first; what it
// returns, wrapping vault.ErrUnavailable, is the call's error. nil ends it.
func (s *Store) FailWith(fail func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// SetProbe is what Probe returns.
func (s *Store) SetProbe(p vault.Probe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probe = p
}

// Entries decodes the audit log from entry from on.
func (s *Store) Entries(from int) ([]audit.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []audit.Entry
	for _, e := range s.log[min(from, len(s.log)):] {
		d, err := audit.Decode(e.Line)
		if err != nil {
			return nil, fmt.Errorf("decode audit entry: %w", err)
		}
		out = append(out, d)
	}
	return out, nil
}

// Len is the number of audit entries.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

// Lines is the audit log as it would be stored.
func (s *Store) Lines() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for _, e := range s.log {
		out = append(append(out, e.Line...), '\n')
	}
	return out
}

// Damage flips a bit in every stored record.
func (s *Store) Damage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, r := range s.records {
		r.Sealed = slices.Clone(r.Sealed)
		r.Sealed[len(r.Sealed)-1] ^= 1
		s.records[l] = r
	}
}

// enter locks the store, unless op has to fail.
func (s *Store) enter(op string) error {
	s.mu.Lock()
	if s.fail != nil {
		if err := s.fail(op); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("%w: %s: %w", vault.ErrUnavailable, op, err)
		}
	}
	return nil
}

// Append implements vault.Store.
func (s *Store) Append(_ context.Context, entries ...audit.Sealed) error {
	if err := s.enter("Append"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.log = append(s.log, entries...)
	return nil
}

// Probe implements vault.Store.
func (s *Store) Probe(context.Context) vault.Probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe
}

// Record implements vault.Records.
func (s *Store) Record(_ context.Context, l vault.Lookup) (vault.Record, error) {
	if err := s.enter("Record"); err != nil {
		return vault.Record{}, err
	}
	defer s.mu.Unlock()
	r, ok := s.records[l]
	if !ok {
		return vault.Record{}, vault.ErrNotFound
	}
	return r, nil
}

// RecordAndHolder implements vault.Records.
func (s *Store) RecordAndHolder(ctx context.Context, l vault.Lookup) (vault.Record, vault.Holder, error) {
	r, err := s.Record(ctx, l)
	if err != nil {
		return vault.Record{}, vault.Holder{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r, s.holderByID[r.HolderID], nil
}

// PutRecord implements vault.Records.
func (s *Store) PutRecord(_ context.Context, r vault.Record, e audit.Sealed) (*vault.Record, error) {
	if err := s.enter("PutRecord"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if r.Dedupe != nil {
		if l, ok := s.dedupe[*r.Dedupe]; ok {
			found := s.records[l]
			return &found, nil
		}
	}
	if found, ok := s.records[r.Lookup]; ok {
		return &found, nil
	}
	if err := s.mayStore(r); err != nil {
		return nil, err
	}
	s.put(r)
	s.log = append(s.log, e)
	return nil, nil
}

// mayStore refuses records of a holder that is shredded or not there. The caller
// holds mu.
func (s *Store) mayStore(r vault.Record) error {
	if h, ok := s.holderByID[r.HolderID]; !ok || h.ShreddedAt != 0 {
		return fmt.Errorf("holder %d: %w", r.HolderID, vault.ErrShredded)
	}
	return nil
}

func (s *Store) put(r vault.Record) {
	s.number(r.Lookup)
	s.records[r.Lookup] = r
	if r.Dedupe != nil {
		s.dedupe[*r.Dedupe] = r.Lookup
	}
}

// UpsertRecord implements vault.Records.
func (s *Store) UpsertRecord(_ context.Context, r vault.Record, e audit.Sealed) error {
	if err := s.enter("UpsertRecord"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := s.mayStore(r); err != nil {
		return err
	}
	s.put(r)
	s.log = append(s.log, e)
	return nil
}

// DeleteRecord implements vault.Records.
func (s *Store) DeleteRecord(_ context.Context, l vault.Lookup, expiredAt vault.Micros, e audit.Sealed) (bool, error) {
	if err := s.enter("DeleteRecord"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	r, ok := s.records[l]
	if !ok || (expiredAt != 0 && (r.ExpiresAt == 0 || r.ExpiresAt >= expiredAt)) {
		return false, nil
	}
	delete(s.records, l)
	delete(s.work.numbers, l)
	if r.Dedupe != nil {
		delete(s.dedupe, *r.Dedupe)
	}
	s.log = append(s.log, e)
	return true, nil
}

// Expired implements vault.Records.
func (s *Store) Expired(_ context.Context, now vault.Micros, limit int) ([]vault.ExpiredRecord, error) {
	if err := s.enter("Expired"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []vault.ExpiredRecord
	for l, r := range s.records {
		if r.ExpiresAt == 0 || r.ExpiresAt >= now {
			continue
		}
		h := s.holderByID[r.HolderID]
		out = append(out, vault.ExpiredRecord{
			Lookup: l, Tenant: h.Tenant, Holder: h.Name, Space: r.Space, Kind: r.Kind,
			Customer: r.Customer, Reference: r.Reference, ExpiresAt: r.ExpiresAt,
		})
	}
	slices.SortFunc(out, func(a, b vault.ExpiredRecord) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) })
	return out[:min(limit, len(out))], nil
}

// Holder implements vault.Holders.
func (s *Store) Holder(_ context.Context, tenant, name string) (vault.Holder, error) {
	if err := s.enter("Holder"); err != nil {
		return vault.Holder{}, err
	}
	defer s.mu.Unlock()
	h, ok := s.holders[holderName{tenant, name}]
	if !ok {
		return vault.Holder{}, vault.ErrNotFound
	}
	return h, nil
}

// PutHolder implements vault.Holders.
func (s *Store) PutHolder(_ context.Context, h vault.Holder, e audit.Sealed) (vault.Holder, bool, error) {
	if err := s.enter("PutHolder"); err != nil {
		return vault.Holder{}, false, err
	}
	defer s.mu.Unlock()
	key := holderName{h.Tenant, h.Name}
	if standing, ok := s.holders[key]; ok {
		return standing, false, nil
	}
	h.ID = int64(len(s.holderByID) + 1)
	s.holders[key], s.holderByID[h.ID] = h, h
	s.log = append(s.log, e)
	return h, true, nil
}

// Key implements vault.Keys.
func (s *Store) Key(_ context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error) {
	if err := s.enter("Key"); err != nil {
		return vault.WrappedKey{}, err
	}
	defer s.mu.Unlock()
	k, ok := s.keys[keyVersion{id, version}]
	if !ok {
		return vault.WrappedKey{}, vault.ErrNotFound
	}
	return k, nil
}

// ActiveKey implements vault.Keys.
func (s *Store) ActiveKey(_ context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error) {
	if err := s.enter("ActiveKey"); err != nil {
		return vault.WrappedKey{}, err
	}
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.Tenant == tenant && k.Holder == holder && k.Purpose == p && k.State == vault.KeyActive {
			return k, nil
		}
	}
	return vault.WrappedKey{}, vault.ErrNotFound
}

// PutKey implements vault.Keys.
func (s *Store) PutKey(_ context.Context, k vault.WrappedKey, e audit.Sealed) (vault.WrappedKey, bool, error) {
	if err := s.enter("PutKey"); err != nil {
		return vault.WrappedKey{}, false, err
	}
	defer s.mu.Unlock()
	for _, standing := range s.keys {
		if standing.Tenant == k.Tenant && standing.Holder == k.Holder && standing.Purpose == k.Purpose && standing.Version == k.Version {
			return standing, false, nil
		}
	}
	s.keys[keyVersion{k.ID, k.Version}] = k
	s.log = append(s.log, e)
	return k, true, nil
}

// Fingerprint implements vault.Store.
func (s *Store) Fingerprint(_ context.Context, hash vault.MAC) (string, error) {
	if err := s.enter("Fingerprint"); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	id, ok := s.fingerprints[hash]
	if !ok {
		return "", vault.ErrNotFound
	}
	return id, nil
}

// PutFingerprint implements vault.Store.
func (s *Store) PutFingerprint(_ context.Context, tenant string, hash vault.MAC, by uint32, id string, e audit.Sealed) (string, bool, error) {
	if err := s.enter("PutFingerprint"); err != nil {
		return "", false, err
	}
	defer s.mu.Unlock()
	if standing, ok := s.fingerprints[hash]; ok {
		return standing, false, nil
	}
	s.fingerprints[hash] = id
	s.work.hashedBy[hash] = fingerprintKey{tenant, by}
	s.log = append(s.log, e)
	return id, true, nil
}
