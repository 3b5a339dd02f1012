package keymanager

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/secret"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// plain is a master key without custodians, as a source for a real keeper.
type plain struct{ key [32]byte }

func (plain) Info() custodian.Info       { return custodian.Info{} }
func (plain) Check(custodian.Part) error { return custodian.ErrWrongPart }
func (p plain) Open([]custodian.Part) (secret.Bytes, error) {
	return secret.Copy(p.key[:]), nil
}

// masters are a real keeper's master keys; what it gives out is kept for a look.
type masters struct {
	*custodian.Keeper
	mu    sync.Mutex // guards given
	given []secret.Bytes
}

func (m *masters) Master(tenant string) (secret.Bytes, error) {
	k, err := m.Keeper.Master(tenant)
	if err == nil {
		m.mu.Lock()
		m.given = append(m.given, k)
		m.mu.Unlock()
	}
	return k, err
}

// newMasters unlocks tenants. Each has a key of its own.
func newMasters(t testing.TB, tenants ...string) *masters {
	t.Helper()
	m := &masters{Keeper: custodian.NewKeeper(custodian.Options{})}
	t.Cleanup(m.Close)
	for _, name := range tenants {
		m.set(t, name, byte(len(name)), name[0])
	}
	return m
}

// set gives a tenant the master key that seed stands for, and unlocks it.
func (m *masters) set(t testing.TB, tenant string, seed ...byte) {
	t.Helper()
	var p plain
	copy(p.key[:], seed)
	if err := m.SetTenant(tenant, p); err != nil {
		t.Fatal(err)
	}
	m.unlock(t, tenant)
}

func (m *masters) unlock(t testing.TB, tenant string) {
	t.Helper()
	if err := m.Unlock(tenant); err != nil {
		t.Fatal(err)
	}
}

func (m *masters) lock(t testing.TB, tenant string) {
	t.Helper()
	if err := m.Keeper.Lock(tenant); err != nil {
		t.Fatal(err)
	}
}

// inventory is a real keyring that counts, and that a test may get in the way of.
type inventory struct {
	*vault.Keyring
	store *keyStore

	active, byID, created, rotated, rewrapped atomic.Int64

	// before, if set, runs in front of each look-up.
	before func(ctx context.Context, method string) error
	// change, if set, changes what a look-up returns.
	change func(*vault.WrappedKey)
}

func newInventory() *inventory {
	s := &keyStore{Store: vaulttest.NewStore(), keys: map[vault.KeyVersion]vault.WrappedKey{}}
	g := &vault.Gate{Node: "test", Log: s, Tenants: vault.NewTenants(), Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	return &inventory{Keyring: vault.NewKeyring(g, s), store: s}
}

// keyStore is a store that also changes keys.
type keyStore struct {
	*vaulttest.Store
	mu   sync.Mutex // guards keys
	keys map[vault.KeyVersion]vault.WrappedKey
}

func versionOf(k vault.WrappedKey) vault.KeyVersion {
	return vault.KeyVersion{ID: k.ID, Version: k.Version}
}

func (s *keyStore) Key(_ context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[vault.KeyVersion{ID: id, Version: version}]
	if !ok {
		return k, vault.ErrNotFound
	}
	return k, nil
}

func (s *keyStore) ActiveKey(_ context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.Tenant == tenant && k.Holder == holder && k.Purpose == p && k.State == vault.KeyActive {
			return k, nil
		}
	}
	return vault.WrappedKey{}, vault.ErrNotFound
}

func (s *keyStore) PutKey(ctx context.Context, k vault.WrappedKey, e audit.Sealed) (vault.WrappedKey, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.keys {
		if o.Tenant == k.Tenant && o.Holder == k.Holder && o.Purpose == k.Purpose && o.Version == k.Version {
			return o, false, nil
		}
	}
	s.keys[versionOf(k)] = k
	return k, true, s.Append(ctx, e)
}

func (s *keyStore) RotateKey(ctx context.Context, k vault.WrappedKey, e audit.Sealed) (vault.WrappedKey, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := k
	for _, o := range s.keys {
		if o.ID == k.ID && o.Version >= newest.Version {
			newest = o
		}
	}
	if newest.Version > k.Version || newest.Wrapped != nil && &newest.Wrapped[0] != &k.Wrapped[0] {
		return newest, false, nil
	}
	for v, o := range s.keys {
		if o.ID == k.ID && o.State == vault.KeyActive {
			o.State, o.ChangedAt = vault.KeyDecryptOnly, k.CreatedAt
			s.keys[v] = o
		}
	}
	s.keys[versionOf(k)] = k
	return k, true, s.Append(ctx, e)
}

func (s *keyStore) RewrapKey(ctx context.Context, k vault.WrappedKey, was []byte, e audit.Sealed) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.keys[versionOf(k)]
	if !ok || !bytes.Equal(o.Wrapped, was) {
		return false, nil
	}
	o.Mode, o.Wrapped = k.Mode, k.Wrapped
	s.keys[versionOf(k)] = o
	return true, s.Append(ctx, e)
}

// setState changes a key behind the key manager's back.
func (s *keyStore) setState(v vault.KeyVersion, state vault.KeyState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[v]
	k.State = state
	s.keys[v] = k
}

func (i *inventory) enter(ctx context.Context, method string, n *atomic.Int64) error {
	n.Add(1)
	if i.before != nil {
		return i.before(ctx, method)
	}
	return nil
}

func (i *inventory) leave(k vault.WrappedKey, err error) (vault.WrappedKey, error) {
	if err == nil && i.change != nil {
		i.change(&k)
	}
	return k, err
}

func (i *inventory) Active(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error) {
	if err := i.enter(ctx, "Active", &i.active); err != nil {
		return vault.WrappedKey{}, err
	}
	return i.leave(i.Keyring.Active(ctx, tenant, holder, p))
}

func (i *inventory) ByID(ctx context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error) {
	if err := i.enter(ctx, "ByID", &i.byID); err != nil {
		return vault.WrappedKey{}, err
	}
	return i.leave(i.Keyring.ByID(ctx, id, version))
}

func (i *inventory) Create(ctx context.Context, k vault.WrappedKey) (vault.WrappedKey, error) {
	if err := i.enter(ctx, "Create", &i.created); err != nil {
		return vault.WrappedKey{}, err
	}
	return i.Keyring.Create(ctx, k)
}

func (i *inventory) Rotate(ctx context.Context, k vault.WrappedKey, reason string) (vault.WrappedKey, bool, error) {
	if err := i.enter(ctx, "Rotate", &i.rotated); err != nil {
		return vault.WrappedKey{}, false, err
	}
	return i.Keyring.Rotate(ctx, k, reason)
}

func (i *inventory) Rewrap(ctx context.Context, k vault.WrappedKey, was []byte) (bool, error) {
	if err := i.enter(ctx, "Rewrap", &i.rewrapped); err != nil {
		return false, err
	}
	return i.Keyring.Rewrap(ctx, k, was)
}

func newLocal(t testing.TB, m MasterKeys, i Inventory, change ...func(*LocalOptions)) *Envelope {
	t.Helper()
	o := LocalOptions{Masters: m, Inventory: i, Now: time.Now}
	for _, f := range change {
		f(&o)
	}
	l, err := NewLocal(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// card is the context of a v1 record of a merchant.
func card(tenant, merchant string) vault.RecordContext {
	return vault.RecordContext{
		Tenant: tenant, Holder: merchant, Space: vault.SpaceV1, Customer: "c", Reference: "r",
		Kind: vault.KindCard, CreatedAt: 1, ExpiresAt: 2,
	}
}

// value is the context of a v2 record of an entity.
func value(tenant, entity string) vault.RecordContext {
	return vault.RecordContext{
		Tenant: tenant, Holder: entity, HolderSecret: make([]byte, 32), Space: vault.SpaceV2,
		Reference: "r", Kind: vault.KindJSON, CreatedAt: 1,
	}
}

func text() secret.Bytes { return secret.Copy([]byte("what is sealed")) }

func seal(t testing.TB, l *Envelope, c vault.RecordContext) vault.Sealed {
	t.Helper()
	s, err := l.Seal(t.Context(), c, text())
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return s
}

func checkOpens(t testing.TB, l *Envelope, c vault.RecordContext, s vault.Sealed) {
	t.Helper()
	p, err := l.Open(t.Context(), c, s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer p.Destroy()
	if !p.Equal(text()) {
		t.Fatal("opened something else than was sealed")
	}
}

// keysInClear are the keys that l holds.
func keysInClear(l *Envelope) []*clearKey {
	var all []*clearKey
	for k := range l.keys.keys.Values() {
		if k.key.Present() {
			all = append(all, k)
		}
	}
	return all
}

func countEntries(t testing.TB, s *keyStore, op, result string) int {
	t.Helper()
	entries, err := s.Entries(0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Op == op && e.Result == result {
			n++
		}
	}
	return n
}
