package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cardea/internal/custodian"
	"cardea/internal/keymanager"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// signer and encrypter are what a client of the JWE envelope needs.
type envelopeClient struct {
	signer    jose.Signer
	encrypter jose.Encrypter
}

// seal makes the five-part body of a request, as the locker's clients do.
func (c envelopeClient) seal(payload []byte) ([]byte, error) {
	jws, err := c.signer.Sign(payload)
	if err != nil {
		return nil, err
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		return nil, err
	}
	p := strings.Split(compact, ".")
	inner, err := json.Marshal(map[string]string{"header": p[0], "payload": p[1], "signature": p[2]})
	if err != nil {
		return nil, err
	}
	jwe, err := c.encrypter.Encrypt(inner)
	if err != nil {
		return nil, err
	}
	if compact, err = jwe.CompactSerialize(); err != nil {
		return nil, err
	}
	p = strings.Split(compact, ".")
	return json.Marshal(map[string]string{"header": p[0], "encryptedKey": p[1], "iv": p[2], "encryptedPayload": p[3], "tag": p[4]})
}

// rsaClient speaks RSA-OAEP-256 and RS256, ecClient ECDH-ES and ES256.
func rsaClient(vault *rsa.PublicKey, own *rsa.PrivateKey) (c envelopeClient, err error) {
	if c.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: own}, nil); err != nil {
		return c, err
	}
	c.encrypter, err = jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: vault}, nil)
	return c, err
}

func ecClient(vault *ecdsa.PublicKey, own *ecdsa.PrivateKey) (c envelopeClient, err error) {
	if c.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own}, nil); err != nil {
		return c, err
	}
	c.encrypter, err = jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: vault}, nil)
	return c, err
}

// measureEnvelope measures stores in the JWE envelope on SQLite. The bound of RSA
// is two private operations a request: one decrypts, one signs.
func measureEnvelope(ctx context.Context, o options, r *report, exe, dir string) error {
	private, err := boundRSA(o.window() / 2)
	if err != nil {
		return err
	}
	vaultRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	ownRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	c, err := rsaClient(&vaultRSA.PublicKey, ownRSA)
	if err != nil {
		return err
	}
	if err := envelope(ctx, o, r, exe, filepath.Join(dir, "rsa"), "JWE store, RSA-OAEP-256 + RS256", keyPair{vaultRSA, &ownRSA.PublicKey}, c, perSecond(2*private)); err != nil {
		return err
	}
	vaultEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ownEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if c, err = ecClient(&vaultEC.PublicKey, ownEC); err != nil {
		return err
	}
	return envelope(ctx, o, r, exe, filepath.Join(dir, "ec"), "JWE store, ECDH-ES + ES256", keyPair{vaultEC, &ownEC.PublicKey}, c, 0)
}

// envelopeRequests is how many requests are made beforehand: making them costs
// the client as much as opening them costs the server. They are stores of cards
// that are new the first time and duplicates from then on.
const envelopeRequests = 2000

func envelope(ctx context.Context, o options, r *report, exe, dir, what string, keys keyPair, c envelopeClient, bound float64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := start(ctx, exe, serverOptions{database: "sqlite", dir: dir, envelope: "jwe", keys: &keys})
	if err != nil {
		return err
	}
	bodies := make([][]byte, envelopeRequests)
	for i := range bodies {
		if bodies[i], err = c.seal(storeBody(0, i)); err != nil {
			return err
		}
	}
	res, err := check(s.load(o, func(buf []byte, w, i int) []byte {
		return post(buf, "/cards/add", bodies[(w*31+i)%len(bodies)])
	}))
	if err != nil {
		return err
	}
	r.add(row{what: what, bound: bound}.with(res))
	return s.stop()
}

// measureKeyCache measures what a million keys in clear cost in memory.
func measureKeyCache(r *report) error {
	const n = 200_000
	keys := inventory{}
	keeper := custodian.NewKeeper(custodian.Options{})
	defer keeper.Close()
	if err := keeper.SetTenant(tenant, masterKey{secret.Random(32)}); err != nil {
		return err
	}
	if err := keeper.Unlock(tenant); err != nil {
		return err
	}
	l, err := keymanager.NewLocal(keymanager.LocalOptions{Masters: keeper, Inventory: keys, Now: time.Now, Entries: n, TTL: time.Hour})
	if err != nil {
		return err
	}
	defer l.Close()
	before := heap()
	begin := time.Now()
	for i := range n {
		c := vault.RecordContext{Tenant: tenant, Holder: fmt.Sprintf("merchant-%d", i), Space: vault.SpaceV1, Reference: "r", Kind: vault.KindCard}
		if _, err := l.Seal(context.Background(), c, secret.Random(16)); err != nil {
			return err
		}
	}
	rate := n / time.Since(begin).Seconds()
	r.add(row{what: "keys made and cached", rate: rate, note: fmt.Sprintf("%.0f MiB a million cached keys", float64(heap()-before)/n*1e6/(1<<20))})
	return nil
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// inventory makes every key anew and keeps none.
type inventory struct{}

func (inventory) Active(context.Context, string, string, vault.Purpose) (vault.WrappedKey, error) {
	return vault.WrappedKey{}, vault.ErrNotFound
}

func (inventory) ByID(context.Context, vault.KeyID, uint32) (vault.WrappedKey, error) {
	return vault.WrappedKey{}, vault.ErrNotFound
}

func (inventory) Create(_ context.Context, k vault.WrappedKey) (vault.WrappedKey, error) {
	return k, nil
}

func (inventory) Rotate(_ context.Context, k vault.WrappedKey, _ string) (vault.WrappedKey, bool, error) {
	return k, true, nil
}

func (inventory) Rewrap(context.Context, vault.WrappedKey, []byte) (bool, error) { return true, nil }

// masterKey is a master key without custodians.
type masterKey struct{ key secret.Bytes }

func (masterKey) Info() custodian.Info       { return custodian.Info{} }
func (masterKey) Check(custodian.Part) error { return nil }

func (m masterKey) Open([]custodian.Part) (secret.Bytes, error) {
	return secret.Copy(m.key.Expose()), nil
}
