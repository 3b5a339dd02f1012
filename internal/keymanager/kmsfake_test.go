package keymanager

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

const (
	testRegion  = "eu-central-1"
	arnPrefix   = "arn:aws:kms:" + testRegion + ":111122223333:key/"
	testKey     = arnPrefix + "1234abcd-12ab-34cd-56ef-1234567890ab"
	testMACKey  = arnPrefix + "aaaaaaaa-12ab-34cd-56ef-1234567890ab"
	testKeyThen = arnPrefix + "bbbbbbbb-12ab-34cd-56ef-1234567890ab"
)

// fakeKMS is a KMS in memory whose ciphertext is bound to key and context, as
// KMS's is. It counts, and fails if a test wants that.
type fakeKMS struct {
	mu       sync.Mutex // guards all below
	calls    map[string]int
	fail     error
	contexts []map[string]string
	keys     []kmsclient.Key
	block    chan struct{} // if set, calls wait for its end
	answer   string        // if set, the ARN that it answers with
}

func newFakeKMS() *fakeKMS { return &fakeKMS{calls: map[string]int{}} }

func (f *fakeKMS) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakeKMS) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		n += c
	}
	return n
}

func (f *fakeKMS) enter(op string, k kmsclient.Key, c map[string]string) error {
	f.mu.Lock()
	f.calls[op]++
	f.contexts, f.keys = append(f.contexts, maps.Clone(c)), append(f.keys, k)
	err, block := f.fail, f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	return err
}

// id is what a key's ARN and its replicas' have in common.
func id(k string) string { return k[strings.LastIndexByte(k, '/')+1:] }

func (f *fakeKMS) aead(k string) cipher.AEAD {
	key := sha256.Sum256([]byte("fake " + id(k)))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func aad(c map[string]string) []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *fakeKMS) arn(k kmsclient.Key) string {
	if f.answer != "" {
		return f.answer
	}
	if strings.HasPrefix(k.ID, "arn:") {
		return k.ID
	}
	return arnPrefix + k.ID
}

func (f *fakeKMS) GenerateDataKey(_ context.Context, k kmsclient.Key, c map[string]string) (kmsclient.DataKey, error) {
	if err := f.enter("GenerateDataKey", k, c); err != nil {
		return kmsclient.DataKey{}, err
	}
	p := secret.Random(32)
	return kmsclient.DataKey{Plaintext: p, Blob: f.aead(k.ID).Seal(nil, nil, p.Expose(), aad(c)), KeyARN: f.arn(k)}, nil
}

func (f *fakeKMS) Encrypt(_ context.Context, k kmsclient.Key, p secret.Bytes, c map[string]string) ([]byte, string, error) {
	if err := f.enter("Encrypt", k, c); err != nil {
		return nil, "", err
	}
	if n := p.Len(); n < 1 || n > 4096 {
		return nil, "", fmt.Errorf("%d bytes: %w", n, kmsclient.ErrInvalid)
	}
	return f.aead(k.ID).Seal(nil, nil, p.Expose(), aad(c)), f.arn(k), nil
}

func (f *fakeKMS) Decrypt(_ context.Context, k kmsclient.Key, blob []byte, c map[string]string) (secret.Bytes, error) {
	if err := f.enter("Decrypt", k, c); err != nil {
		return secret.Bytes{}, err
	}
	if len(blob) < 28 {
		return secret.Bytes{}, kmsclient.ErrWrongContext
	}
	p, err := f.aead(k.ID).Open(nil, nil, blob, aad(c))
	if err != nil {
		return secret.Bytes{}, kmsclient.ErrWrongContext
	}
	return secret.New(p), nil
}

func (f *fakeKMS) ReEncrypt(_ context.Context, from kmsclient.Key, blob []byte, fromContext map[string]string, to kmsclient.Key, toContext map[string]string) ([]byte, string, error) {
	if err := f.enter("ReEncrypt", from, fromContext); err != nil {
		return nil, "", err
	}
	p, err := f.aead(from.ID).Open(nil, nil, blob, aad(fromContext))
	if err != nil {
		return nil, "", kmsclient.ErrWrongContext
	}
	return f.aead(to.ID).Seal(nil, nil, p, aad(toContext)), f.arn(to), nil
}

func (f *fakeKMS) GenerateMAC(_ context.Context, k kmsclient.Key, message []byte) ([]byte, error) {
	if err := f.enter("GenerateMac", k, nil); err != nil {
		return nil, err
	}
	if len(message) > 4096 {
		return nil, kmsclient.ErrInvalid
	}
	h := hmac.New(sha256.New, []byte("a key that is long enough for FIPS "+id(k.ID)))
	h.Write(message)
	return h.Sum(nil), nil
}

func (f *fakeKMS) Check(_ context.Context, k kmsclient.Key) error { return f.enter("Check", k, nil) }

// kmsNode is what a vault has of AWS KMS: a fake one, two tenants on one key, and
// a real inventory.
type kmsNode struct {
	kms      *fakeKMS
	inv      *inventory
	masters  *masters
	modes    *vault.Tenants
	tenants  *KMSTenants
	envelope *Envelope
	direct   *Direct
}

func keysOf(change ...func(*KMSKeys)) KMSKeys {
	k := KMSKeys{
		Key: kmsclient.Key{ID: testKey, Region: testRegion}, MAC: kmsclient.Key{ID: testMACKey, Region: testRegion},
	}
	for _, f := range change {
		f(&k)
	}
	return k
}

func newKMSNode(t testing.TB, change ...func(*Options)) *kmsNode {
	t.Helper()
	n := &kmsNode{
		kms: newFakeKMS(), inv: newInventory(), masters: newMasters(t, "acme", "beta"), modes: vault.NewTenants(),
		tenants: NewKMSTenants(map[string]KMSKeys{"acme": keysOf(), "beta": keysOf()}),
	}
	n.setMode(vault.ModeKMSEnvelope)
	n.restart(t, change...)
	return n
}

// restart gives n key managers that have cached nothing.
func (n *kmsNode) restart(t testing.TB, change ...func(*Options)) {
	t.Helper()
	o := Options{
		Tenants: n.modes, Wrappers: append([]Wrapper{LocalWrapper(n.masters)}, KMSWrappers(n.kms, n.tenants, time.Now)...),
		Inventory: n.inv, Now: time.Now,
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if n.envelope, err = NewEnvelope(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.envelope.Close)
	n.direct = NewDirect(DirectOptions{KMS: n.kms, Tenants: n.tenants, Envelope: n.envelope})
}

// setMode is a change of the configuration of all tenants.
func (n *kmsNode) setMode(m vault.Mode) {
	n.modes.Replace(vault.Tenant{Name: "acme", Mode: m}, vault.Tenant{Name: "beta", Mode: m})
}

func (n *kmsNode) setKeys(tenant string, change ...func(*KMSKeys)) {
	all := maps.Clone(n.tenants.All())
	all[tenant] = keysOf(change...)
	n.tenants.Replace(all)
}

func mustSeal(t testing.TB, m sealer, c vault.RecordContext) vault.Sealed {
	t.Helper()
	s, err := m.Seal(t.Context(), c, text())
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return s
}

func mustOpen(t testing.TB, m sealer, c vault.RecordContext, s vault.Sealed) {
	t.Helper()
	p, err := m.Open(t.Context(), c, s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer p.Destroy()
	if !p.Equal(text()) {
		t.Fatal("opened something else than was sealed")
	}
}

// sealer is the part of a key manager that takes records.
type sealer interface {
	Seal(context.Context, vault.RecordContext, secret.Bytes) (vault.Sealed, error)
	Open(context.Context, vault.RecordContext, vault.Sealed) (secret.Bytes, error)
}
