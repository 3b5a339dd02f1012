package lockerapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"cardea/internal/pan"
	"cardea/internal/secret"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

func fuzzKeys(t testing.TB) (ServerKeys, crypto.PublicKey) {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := NewServerKeys(r, e)
	if err != nil {
		t.Fatal(err)
	}
	return keys, &r.PublicKey
}

const benchAdd = `{"merchant_id":"merchant_1700000000","merchant_customer_id":"cus_Y2oRr7nYrJwLrZbAbcde","requestor_card_reference":null,"card":{"card_number":"4111111111111111","name_on_card":"Ada Lovelace","card_exp_month":"03","card_exp_year":"2030","card_brand":"VISA","card_isin":"411111","nick_name":"work"},"ttl":220752000}`

func BenchmarkDecodeAdd(b *testing.B) {
	text := []byte(benchAdd)
	b.ReportAllocs()
	for b.Loop() {
		var r addCard
		if f := decodeBody(text, &r); f != nil {
			b.Fatal(f)
		}
		r.destroy()
	}
}

func BenchmarkEncodeCard(b *testing.B) {
	number, err := pan.Parse([]byte("4111111111111111"))
	if err != nil {
		b.Fatal(err)
	}
	text := func(s string) secret.Bytes { return secret.New([]byte(s)) }
	card := &vault.StoredCard{Card: &vault.Card{Number: number, Name: text("Ada Lovelace"), ExpMonth: text("03"), ExpYear: text("2030"), Brand: text("VISA")}}
	b.ReportAllocs()
	for b.Loop() {
		out := getBuffer()
		if err := encodeCard(out, card); err != nil {
			b.Fatal(err)
		}
		out.release()
	}
}

type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

type nobody struct{ *strings.Reader }

func (nobody) Close() error { return nil }

// benchServe measures requests through the whole handler. The service behind it
// refuses them before it does any work, so that its share is one audit entry in
// memory: what is left is this package.
func benchServe(b *testing.B, config TenantConfig, keys ServerKeys, path, body string) {
	v := vaulttest.New(b, nil, nil, "acme")
	a, err := New(Options{Service: v.Service, Tenants: map[string]TenantConfig{"acme": config}, LockerKeys: keys})
	if err != nil {
		b.Fatal(err)
	}
	header := http.Header{"X-Tenant-Id": {"acme"}, "Content-Type": {"application/json"}}
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, path, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header, r.RemoteAddr, r.Body, r.ContentLength = header, "127.0.0.1:1", io.NopCloser(nobody{strings.NewReader(body)}), int64(len(body))
		a.serve(nowhere{h: http.Header{}}, r)
	}
}

func BenchmarkServePlainAdd(b *testing.B) {
	// The action is denied: decoded, asked, answered.
	benchServe(b, TenantConfig{Actions: []string{"nothing"}}, ServerKeys{}, "/cards/add", benchAdd)
}

func BenchmarkServeHealth(b *testing.B) {
	a, err := New(Options{Service: vaulttest.New(b, nil, nil, "acme").Service})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "/health", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		a.serve(nowhere{h: http.Header{}}, r)
	}
}

func BenchmarkServeJWE(b *testing.B) {
	keys, _ := fuzzKeys(b)
	for _, c := range []struct {
		name string
		to   crypto.PublicKey
		key  crypto.Signer
		alg  jose.KeyAlgorithm
		sig  string
	}{
		{"RSA", &keys.rsa.PublicKey, keys.rsa, jose.RSA_OAEP_256, "RS256"},
		{"EC", &keys.ec.PublicKey, keys.ec, jose.ECDH_ES, "ES256"},
	} {
		b.Run(c.name, func(b *testing.B) {
			own := ServerKeys{rsa: keys.rsa, ec: keys.ec}
			s, err := own.signer(jose.SignatureAlgorithm(c.sig))
			if err != nil {
				b.Fatal(err)
			}
			jws, body := getBuffer(), getBuffer()
			if err := s.append(jws, []byte(benchAdd)); err != nil {
				b.Fatal(err)
			}
			e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: c.alg, Key: c.to}, nil)
			if err != nil {
				b.Fatal(err)
			}
			jwe, err := e.Encrypt(jws.b)
			if err != nil {
				b.Fatal(err)
			}
			compact, err := jwe.CompactSerialize()
			if err != nil {
				b.Fatal(err)
			}
			if err := encodeJWE(body, compact); err != nil {
				b.Fatal(err)
			}
			benchServe(b, TenantConfig{Envelope: EnvelopeJWE, ClientKey: c.key.Public(), ResponseSignature: c.sig, Actions: []string{"nothing"}}, keys, "/cards/add", string(body.b))
		})
	}
}
