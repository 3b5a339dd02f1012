package vaulttest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

var _ vault.KeyWork = (*Store)(nil)

// work is what the store keeps for vault.KeyWork.
type work struct {
	numbers   map[vault.Lookup]int64 // row numbers
	lastRow   int64
	hashedBy  map[vault.MAC]fingerprintKey
	jobs      []vault.Job // in the order in which they were put
	suspended map[string]string
	events    []vault.KeyEvent
}

type fingerprintKey struct {
	tenant  string
	version uint32
}

func newWork() work {
	return work{numbers: map[vault.Lookup]int64{}, hashedBy: map[vault.MAC]fingerprintKey{}, suspended: map[string]string{}}
}

// number is a row's number. The caller holds mu.
func (s *Store) number(l vault.Lookup) int64 {
	n, ok := s.work.numbers[l]
	if !ok {
		s.work.lastRow++
		n = s.work.lastRow
		s.work.numbers[l] = n
	}
	return n
}

// event tells other nodes. The caller holds mu.
func (s *Store) event(tenant string, v vault.KeyVersion) {
	s.work.events = append(s.work.events, vault.KeyEvent{Number: int64(len(s.work.events) + 1), Tenant: tenant, Key: v})
}

// Inventory implements vault.KeyWork.
func (s *Store) Inventory(_ context.Context, tenant string) ([]vault.WrappedKey, error) {
	if err := s.enter("Inventory"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []vault.WrappedKey
	for _, k := range s.keys {
		if k.Tenant == tenant {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b vault.WrappedKey) int {
		return cmp.Or(cmp.Compare(a.Holder, b.Holder), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Version, b.Version))
	})
	return out, nil
}

// RotateKey implements vault.KeyWork.
func (s *Store) RotateKey(_ context.Context, k vault.WrappedKey, e audit.Sealed) (vault.WrappedKey, bool, error) {
	if err := s.enter("RotateKey"); err != nil {
		return vault.WrappedKey{}, false, err
	}
	defer s.mu.Unlock()
	newest := k
	newest.Version = 0
	for _, o := range s.keys {
		if o.ID == k.ID && o.Version > newest.Version {
			newest = o
		}
	}
	if newest.Version >= k.Version {
		return newest, false, nil
	}
	for name, o := range s.keys {
		if o.ID == k.ID && o.State == vault.KeyActive {
			o.State, o.ChangedAt = vault.KeyDecryptOnly, k.CreatedAt
			s.keys[name] = o
		}
	}
	s.keys[keyVersion{k.ID, k.Version}] = k
	s.event(k.Tenant, vault.KeyVersion{ID: k.ID, Version: k.Version})
	s.log = append(s.log, e)
	return k, true, nil
}

// RewrapKey implements vault.KeyWork.
func (s *Store) RewrapKey(_ context.Context, k vault.WrappedKey, was []byte, e audit.Sealed) (bool, error) {
	if err := s.enter("RewrapKey"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	name := keyVersion{k.ID, k.Version}
	standing, ok := s.keys[name]
	if !ok || !bytes.Equal(standing.Wrapped, was) {
		return false, nil
	}
	standing.Mode, standing.Wrapped = k.Mode, k.Wrapped
	s.keys[name] = standing
	s.event(k.Tenant, vault.KeyVersion{ID: k.ID, Version: k.Version})
	s.log = append(s.log, e)
	return true, nil
}

// ChangeKey implements vault.KeyWork.
func (s *Store) ChangeKey(_ context.Context, v vault.KeyVersion, from, to vault.KeyState, at vault.Micros, e audit.Sealed) (bool, error) {
	if err := s.enter("ChangeKey"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	name := keyVersion{v.ID, v.Version}
	k, ok := s.keys[name]
	if !ok || k.State != from {
		return false, nil
	}
	if to == vault.KeyRetired && len(s.under(v)) > 0 {
		return false, vault.ErrConflict
	}
	k.State, k.ChangedAt = to, at
	if to == vault.KeyDestroyed {
		k.Wrapped = nil
	}
	s.keys[name] = k
	s.event(k.Tenant, v)
	s.log = append(s.log, e)
	return true, nil
}

// AddSealed implements vault.KeyWork.
func (s *Store) AddSealed(_ context.Context, counts map[vault.KeyVersion]uint64) error {
	if err := s.enter("AddSealed"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for v, n := range counts {
		if k, ok := s.keys[keyVersion{v.ID, v.Version}]; ok {
			k.Sealed += n
			s.keys[keyVersion{v.ID, v.Version}] = k
		}
	}
	return nil
}

// held lists the rows that match, by number. The caller holds mu.
func (s *Store) held(match func(*vault.Record, vault.Holder) bool) []vault.HeldRecord {
	var out []vault.HeldRecord
	for l, r := range s.records {
		if h := s.holderByID[r.HolderID]; match(&r, h) {
			out = append(out, vault.HeldRecord{Row: s.number(l), Record: r, Holder: h})
		}
	}
	slices.SortFunc(out, func(a, b vault.HeldRecord) int { return cmp.Compare(a.Row, b.Row) })
	return out
}

func (s *Store) under(v vault.KeyVersion) []vault.HeldRecord {
	return s.held(func(r *vault.Record, _ vault.Holder) bool { return r.Key == v.ID && r.KeyVersion == v.Version })
}

// page is the part of rows after a number.
func page(rows []vault.HeldRecord, after int64, limit int) []vault.HeldRecord {
	i, _ := slices.BinarySearchFunc(rows, after+1, func(h vault.HeldRecord, n int64) int { return cmp.Compare(h.Row, n) })
	return rows[i:min(i+limit, len(rows))]
}

// CountRecords implements vault.KeyWork.
func (s *Store) CountRecords(_ context.Context, v vault.KeyVersion) (int64, error) {
	if err := s.enter("CountRecords"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return int64(len(s.under(v))), nil
}

// CountHashed implements vault.KeyWork.
func (s *Store) CountHashed(_ context.Context, tenant string, p vault.Purpose, version uint32) (int64, error) {
	if err := s.enter("CountHashed"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if p == vault.PurposeFingerprint {
		n := int64(0)
		for _, k := range s.work.hashedBy {
			if k == (fingerprintKey{tenant, version}) {
				n++
			}
		}
		return n, nil
	}
	return int64(len(s.held(func(r *vault.Record, h vault.Holder) bool {
		return h.Tenant == tenant && r.Dedupe != nil && r.HashedBy == version
	}))), nil
}

// RecordsUnder implements vault.KeyWork.
func (s *Store) RecordsUnder(_ context.Context, v vault.KeyVersion, after int64, limit int) ([]vault.HeldRecord, error) {
	if err := s.enter("RecordsUnder"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return page(s.under(v), after, limit), nil
}

// RecordsAmong implements vault.KeyWork.
func (s *Store) RecordsAmong(_ context.Context, under map[vault.KeyVersion]bool, after int64, limit int) ([]vault.HeldRecord, error) {
	if err := s.enter("RecordsAmong"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return page(s.held(func(r *vault.Record, _ vault.Holder) bool {
		return under[vault.KeyVersion{ID: r.Key, Version: r.KeyVersion}]
	}), after, limit), nil
}

// PassPays says yes to a quarter of all rows.
func (s *Store) PassPays(_ context.Context, rows int64) (bool, error) {
	if err := s.enter("PassPays"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	return rows >= int64(len(s.records))/4, nil
}

// RecordsOf implements vault.KeyWork.
func (s *Store) RecordsOf(_ context.Context, tenant, holder string, after int64, limit int) ([]vault.HeldRecord, error) {
	if err := s.enter("RecordsOf"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return page(s.held(func(_ *vault.Record, h vault.Holder) bool { return h.Tenant == tenant && h.Name == holder }), after, limit), nil
}

// RecordsWithDedupe implements vault.KeyWork.
func (s *Store) RecordsWithDedupe(_ context.Context, tenant string, below uint32, after int64, limit int) ([]vault.HeldRecord, error) {
	if err := s.enter("RecordsWithDedupe"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return page(s.held(func(r *vault.Record, h vault.Holder) bool {
		return h.Tenant == tenant && r.Dedupe != nil && r.HashedBy < below
	}), after, limit), nil
}

// DuplicateOf implements vault.KeyWork.
func (s *Store) DuplicateOf(_ context.Context, hashes []vault.MAC) (vault.Record, error) {
	if err := s.enter("DuplicateOf"); err != nil {
		return vault.Record{}, err
	}
	defer s.mu.Unlock()
	for _, h := range hashes {
		if l, ok := s.dedupe[h]; ok {
			return s.records[l], nil
		}
	}
	return vault.Record{}, vault.ErrNotFound
}

// ReplaceSealed implements vault.KeyWork.
func (s *Store) ReplaceSealed(_ context.Context, changes []vault.ResealedRecord, e audit.Sealed) ([]bool, error) {
	if err := s.enter("ReplaceSealed"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	byNumber := map[int64]vault.Lookup{}
	for l, n := range s.work.numbers {
		byNumber[n] = l
	}
	done := make([]bool, len(changes))
	for i, c := range changes {
		r, ok := s.records[byNumber[c.Row]]
		if !ok || !bytes.Equal(r.Sealed, c.Was) {
			continue
		}
		r.Mode, r.Key, r.KeyVersion, r.Sealed = c.Sealed.Mode, c.Sealed.Key, c.Sealed.KeyVersion, c.Sealed.Blob
		if c.Dedupe != nil {
			s.rehash(&r, *c.Dedupe, c.HashedBy)
		}
		s.records[r.Lookup], done[i] = r, true
	}
	if slices.Contains(done, true) {
		s.log = append(s.log, e)
	}
	return done, nil
}

// rehash gives r a keyed hash, unless another row has it. The caller holds mu.
func (s *Store) rehash(r *vault.Record, h vault.MAC, by uint32) {
	if r.Dedupe != nil {
		delete(s.dedupe, *r.Dedupe)
	}
	if _, taken := s.dedupe[h]; taken {
		r.Dedupe, r.HashedBy = nil, 0
		return
	}
	r.Dedupe, r.HashedBy = &h, by
	s.dedupe[h] = r.Lookup
}

// DeleteRows implements vault.KeyWork.
func (s *Store) DeleteRows(_ context.Context, rows []int64, e audit.Sealed) (int, error) {
	if err := s.enter("DeleteRows"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	n := 0
	for l, number := range s.work.numbers {
		r, ok := s.records[l]
		if !ok || !slices.Contains(rows, number) {
			continue
		}
		delete(s.records, l)
		delete(s.work.numbers, l)
		if r.Dedupe != nil {
			delete(s.dedupe, *r.Dedupe)
		}
		n++
	}
	if n > 0 {
		s.log = append(s.log, e)
	}
	return n, nil
}

// FreeName implements vault.KeyWork.
func (s *Store) FreeName(_ context.Context, holderID int64, e audit.Sealed) (bool, error) {
	if err := s.enter("FreeName"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	h := s.holderByID[holderID]
	if h.ShreddedAt == 0 || h.Tenant == "" || len(s.held(func(_ *vault.Record, o vault.Holder) bool { return o.ID == h.ID })) > 0 {
		return false, nil
	}
	delete(s.holders, holderName{h.Tenant, h.Name})
	s.event(h.Tenant, vault.KeyVersion{})
	h.Tenant, h.Name = "", ""
	s.holderByID[holderID] = h
	s.log = append(s.log, e)
	return true, nil
}

// ShredHolder implements vault.KeyWork.
func (s *Store) ShredHolder(_ context.Context, holderID int64, at vault.Micros, e audit.Sealed) (bool, error) {
	if err := s.enter("ShredHolder"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	h, ok := s.holderByID[holderID]
	if !ok || h.ShreddedAt != 0 {
		return false, nil
	}
	h.Secret, h.ShreddedAt = nil, at
	s.holderByID[holderID], s.holders[holderName{h.Tenant, h.Name}] = h, h
	s.event(h.Tenant, vault.KeyVersion{})
	s.log = append(s.log, e)
	return true, nil
}

func ended(j vault.Job) bool { return j.State == vault.JobDone || j.State == vault.JobFailed }

// PutJob implements vault.KeyWork.
func (s *Store) PutJob(_ context.Context, j vault.Job, e audit.Sealed) (vault.Job, bool, error) {
	if err := s.enter("PutJob"); err != nil {
		return vault.Job{}, false, err
	}
	defer s.mu.Unlock()
	for _, o := range s.work.jobs {
		if o.Tenant == j.Tenant && o.Kind == j.Kind && o.Holder == j.Holder && !ended(o) {
			return o, false, nil
		}
	}
	s.work.jobs = append(s.work.jobs, j)
	s.log = append(s.log, e)
	return j, true, nil
}

// Jobs implements vault.KeyWork.
func (s *Store) Jobs(_ context.Context, tenant string, limit int) ([]vault.Job, error) {
	if err := s.enter("Jobs"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []vault.Job
	for i := len(s.work.jobs); i > 0; i-- {
		j := s.work.jobs[i-1]
		if (tenant == "" || j.Tenant == tenant) && (!ended(j) || len(out) < limit) {
			out = append(out, j)
		}
	}
	return out, nil
}

func (s *Store) jobAt(id vault.KeyID) int {
	return slices.IndexFunc(s.work.jobs, func(j vault.Job) bool { return j.ID == id })
}

// ClaimJob implements vault.KeyWork.
func (s *Store) ClaimJob(_ context.Context, id vault.KeyID, node string, now, until vault.Micros) (vault.Job, bool, error) {
	if err := s.enter("ClaimJob"); err != nil {
		return vault.Job{}, false, err
	}
	defer s.mu.Unlock()
	i := s.jobAt(id)
	if i < 0 {
		return vault.Job{}, false, nil
	}
	j := &s.work.jobs[i]
	if ended(*j) || j.Node != node && j.Until > now {
		return *j, false, nil
	}
	j.Node, j.Until = node, until
	return *j, true, nil
}

// SaveJob implements vault.KeyWork.
func (s *Store) SaveJob(_ context.Context, j vault.Job, e *audit.Sealed) (bool, error) {
	if err := s.enter("SaveJob"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	i := s.jobAt(j.ID)
	if i < 0 || s.work.jobs[i].Node != j.Node || ended(s.work.jobs[i]) {
		return false, nil
	}
	s.work.jobs[i] = j
	if e != nil {
		s.log = append(s.log, *e)
	}
	return true, nil
}

// Suspend implements vault.KeyWork.
func (s *Store) Suspend(_ context.Context, tenant, reason string, _ vault.Micros, e audit.Sealed) (bool, error) {
	if err := s.enter("Suspend"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	if _, is := s.work.suspended[tenant]; is {
		return false, nil
	}
	s.work.suspended[tenant] = reason
	s.event(tenant, vault.KeyVersion{})
	s.log = append(s.log, e)
	return true, nil
}

// Resume implements vault.KeyWork.
func (s *Store) Resume(_ context.Context, tenant string, e audit.Sealed) (bool, error) {
	if err := s.enter("Resume"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	if _, is := s.work.suspended[tenant]; !is {
		return false, nil
	}
	delete(s.work.suspended, tenant)
	s.event(tenant, vault.KeyVersion{})
	s.log = append(s.log, e)
	return true, nil
}

// Suspended implements vault.KeyWork.
func (s *Store) Suspended(context.Context) (map[string]string, error) {
	if err := s.enter("Suspended"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return maps.Clone(s.work.suspended), nil
}

// KeyEvents implements vault.KeyWork.
func (s *Store) KeyEvents(_ context.Context, after int64, limit int) ([]vault.KeyEvent, error) {
	if err := s.enter("KeyEvents"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	all := s.work.events
	if after == 0 {
		return slices.Clone(all[max(0, len(all)-1):]), nil
	}
	rest := all[min(int(after), len(all)):]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}
