package vaulttest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// Keys is a vault.KeyManager and vault.KeyChanger whose keys are in an inventory
// and have versions. What wraps them is played: a key's wrapping is only the name
// of what wraps it, and its material comes of that name never, so that it stays
// when it is wrapped anew. In vault.ModeKMS records are sealed under the tenant's
// direct key.
type Keys struct {
	inventory *vault.Keyring
	store     vault.Keys
	tenants   *vault.Tenants
	now       func() vault.Micros
	root      [32]byte

	mu     sync.Mutex // guards all below
	kms    map[string]string
	long   int // in vault.ModeKMS, records of more bytes are under branch keys; 0 for none
	fail   func(op string) error
	counts map[vault.KeyVersion]uint64
	forgot []string
}

var (
	_ vault.KeyManager = (*Keys)(nil)
	_ vault.KeyChanger = (*Keys)(nil)
)

// NewKeys makes keys for the tenants of a gate.
func NewKeys(g *vault.Gate, store vault.KeyChanges) *Keys {
	k := &Keys{
		inventory: vault.NewKeyring(g, store), store: store, tenants: g.Tenants, now: func() vault.Micros { return vault.MicrosOf(g.Now()) },
		kms: map[string]string{}, counts: map[vault.KeyVersion]uint64{},
	}
	rand.Read(k.root[:])
	return k
}

// FailWith makes every later call ask fail by the method's name first.
func (k *Keys) FailWith(fail func(op string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = fail
}

// SetKMSKey configures a tenant's KMS key.
func (k *Keys) SetKMSKey(tenant, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kms[tenant] = id
}

// SetOversize makes records of more than n bytes be sealed under branch keys in
// vault.ModeKMS, too.
func (k *Keys) SetOversize(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.long = n
}

// tooLong says whether a record of n bytes is too long for a KMS.
func (k *Keys) tooLong(n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.long > 0 && n > k.long
}

// Stays implements vault.KeyChanger.
func (k *Keys) Stays(tenant string, s vault.Sealed) bool {
	t, err := k.tenants.Tenant(tenant)
	const overhead = 12 + 16
	return err == nil && t.Mode == vault.ModeKMS && s.Mode == vault.ModeKMSEnvelope && k.tooLong(len(s.Blob)-overhead)
}

// Forgot lists what was to be forgotten, in order.
func (k *Keys) Forgot() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.forgot...)
}

func (k *Keys) enter(op string) error {
	k.mu.Lock()
	fail := k.fail
	k.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(op)
}

// wrapping is the mode and the wrapping of a new key.
func (k *Keys) wrapping(tenant string, p vault.Purpose) (vault.Mode, string, error) {
	t, err := k.tenants.Tenant(tenant)
	if err != nil {
		return 0, "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m := t.Mode
	if m == vault.ModeKMS && p != vault.PurposeDirect && (!t.HashesInKMS || p == vault.PurposeRecord) {
		m = vault.ModeKMSEnvelope
	}
	return m, m.String() + " " + k.kms[tenant], nil
}

func (k *Keys) active(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error) {
	w, err := k.store.ActiveKey(ctx, tenant, holder, p)
	if !errors.Is(err, vault.ErrNotFound) {
		return w, err
	}
	m, wrapped, err := k.wrapping(tenant, p)
	if err != nil {
		return vault.WrappedKey{}, err
	}
	w, err = k.inventory.Create(ctx, vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: tenant, Holder: holder, Purpose: p, Version: 1, State: vault.KeyActive, Mode: m, Wrapped: []byte(wrapped), CreatedAt: k.now(),
	})
	if err == nil && w.State != vault.KeyActive {
		err = fmt.Errorf("key %s is %s: %w", w.ID, w.State, vault.ErrKeyUnavailable)
	}
	return w, err
}

// material is the key itself.
func (k *Keys) material(w vault.WrappedKey) []byte {
	h := hmac.New(sha256.New, k.root[:])
	h.Write(w.ID[:])
	h.Write(binary.BigEndian.AppendUint32(nil, w.Version))
	if w.Mode == vault.ModeKMS {
		h.Write(w.Wrapped) // another key in KMS is another key
	}
	return h.Sum(nil)
}

func (k *Keys) aead(w vault.WrappedKey) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.material(w))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal implements vault.KeyManager.
func (k *Keys) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	if err := k.enter("Seal"); err != nil {
		return vault.Sealed{}, err
	}
	t, err := k.tenants.Tenant(c.Tenant)
	if err != nil {
		return vault.Sealed{}, err
	}
	holder, purpose := c.Holder, vault.PurposeRecord
	if t.Mode == vault.ModeKMS && !k.tooLong(plaintext.Len()) {
		holder, purpose = "", vault.PurposeDirect
	} else if c.Space == vault.SpaceV2 {
		holder = ""
	}
	w, err := k.active(ctx, c.Tenant, holder, purpose)
	if err != nil {
		return vault.Sealed{}, err
	}
	a, err := k.aead(w)
	if err != nil {
		return vault.Sealed{}, err
	}
	aad, err := json.Marshal(c)
	if err != nil {
		return vault.Sealed{}, err
	}
	v := vault.KeyVersion{ID: w.ID, Version: w.Version}
	k.mu.Lock()
	k.counts[v]++
	k.mu.Unlock()
	return vault.Sealed{Mode: w.Mode, Key: w.ID, KeyVersion: w.Version, Blob: a.Seal(nil, nil, plaintext.Expose(), aad)}, nil
}

// Open implements vault.KeyManager.
func (k *Keys) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	if err := k.enter("Open"); err != nil {
		return secret.Bytes{}, err
	}
	w, err := k.store.Key(ctx, s.Key, s.KeyVersion)
	if err != nil {
		return secret.Bytes{}, err
	}
	if w.State == vault.KeyDestroyed {
		return secret.Bytes{}, fmt.Errorf("key %s is destroyed: %w: %w", w.ID, vault.ErrShredded, vault.ErrKeyUnavailable)
	}
	a, err := k.aead(w)
	if err != nil {
		return secret.Bytes{}, err
	}
	aad, err := json.Marshal(c)
	if err != nil {
		return secret.Bytes{}, err
	}
	p, err := a.Open(nil, nil, s.Blob, aad)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	return secret.New(p), nil
}

// MAC implements vault.KeyManager.
func (k *Keys) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	all, err := k.MACs(ctx, tenant, p, parts...)
	if err != nil {
		return vault.MAC{}, err
	}
	return all[0].MAC, nil
}

// MACs implements vault.KeyChanger.
func (k *Keys) MACs(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) ([]vault.VersionMAC, error) {
	if err := k.enter("MACs"); err != nil {
		return nil, err
	}
	w, err := k.active(ctx, tenant, "", p)
	if err != nil {
		return nil, err
	}
	var out []vault.VersionMAC
	for v := w.Version; v > 0; v-- {
		o, err := k.store.Key(ctx, w.ID, v)
		if err != nil {
			return nil, err
		}
		if o.State != vault.KeyActive && o.State != vault.KeyDecryptOnly {
			continue
		}
		h := hmac.New(sha256.New, k.material(o))
		for _, part := range append([][]byte{[]byte(tenant), []byte(p)}, parts...) {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			h.Write(part)
		}
		out = append(out, vault.VersionMAC{Version: v, Since: o.CreatedAt, MAC: vault.MAC(h.Sum(nil))})
	}
	return out, nil
}

// Rotate implements vault.KeyChanger.
func (k *Keys) Rotate(ctx context.Context, tenant, holder string, p vault.Purpose, reason string) (vault.WrappedKey, error) {
	if err := k.enter("Rotate"); err != nil {
		return vault.WrappedKey{}, err
	}
	w, err := k.active(ctx, tenant, holder, p)
	if err != nil {
		return vault.WrappedKey{}, err
	}
	m, wrapped, err := k.wrapping(tenant, p)
	if err != nil {
		return vault.WrappedKey{}, err
	}
	w.Version++
	w.Mode, w.Wrapped, w.CreatedAt, w.ChangedAt, w.Sealed = m, []byte(wrapped), k.now(), 0, 0
	w, _, err = k.inventory.Rotate(ctx, w, reason)
	return w, err
}

// Rewrap implements vault.KeyChanger.
func (k *Keys) Rewrap(ctx context.Context, w vault.WrappedKey) (vault.WrappedKey, error) {
	if err := k.enter("Rewrap"); err != nil {
		return w, err
	}
	m, wrapped, err := k.wrapping(w.Tenant, w.Purpose)
	if err != nil {
		return w, err
	}
	if m == vault.ModeKMS {
		m, wrapped = vault.ModeKMSEnvelope, vault.ModeKMSEnvelope.String()+wrapped[len(m.String()):]
	}
	if w.Mode == vault.ModeKMS {
		return w, fmt.Errorf("key %s: %w", w.ID, vault.ErrKeyFixed)
	}
	was := w.Wrapped
	w.Mode, w.Wrapped = m, []byte(wrapped)
	_, err = k.inventory.Rewrap(ctx, w, was)
	return w, err
}

// Current implements vault.KeyChanger.
func (k *Keys) Current(w vault.WrappedKey) bool {
	m, wrapped, err := k.wrapping(w.Tenant, w.Purpose)
	if err != nil {
		return false
	}
	if t, err := k.tenants.Tenant(w.Tenant); err != nil || (w.Purpose != vault.PurposeRecord || !k.tooLong(math.MaxInt)) && (t.Mode == vault.ModeKMS) != (w.Purpose == vault.PurposeDirect) && (w.Purpose == vault.PurposeDirect || w.Purpose == vault.PurposeRecord) {
		return false
	}
	if m == vault.ModeKMS && w.Mode != vault.ModeKMS {
		m, wrapped = vault.ModeKMSEnvelope, vault.ModeKMSEnvelope.String()+wrapped[len(m.String()):]
	}
	return w.Mode == m && string(w.Wrapped) == wrapped
}

// Reseal implements vault.KeyChanger.
func (k *Keys) Reseal(ctx context.Context, c vault.RecordContext, s vault.Sealed) (vault.Sealed, error) {
	if err := k.enter("Reseal"); err != nil {
		return vault.Sealed{}, err
	}
	p, err := k.Open(ctx, c, s)
	if err != nil {
		return vault.Sealed{}, err
	}
	defer p.Destroy()
	return k.Seal(ctx, c, p)
}

// Forget implements vault.KeyChanger.
func (k *Keys) Forget(tenant string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgot = append(k.forgot, tenant)
}

// ForgetKey implements vault.KeyChanger.
func (k *Keys) ForgetKey(tenant string, v vault.KeyVersion) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgot = append(k.forgot, fmt.Sprintf("%s version %d", tenant, v.Version))
}

// Counts implements vault.KeyChanger.
func (k *Keys) Counts() map[vault.KeyVersion]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.counts
	k.counts = map[vault.KeyVersion]uint64{}
	return c
}
