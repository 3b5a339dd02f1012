package lockerapi_test

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// envelopeClient is the client's side of the envelope, as Hyperswitch has it:
// sign, cut into parts, encrypt, cut into parts. Everything goes through go-jose,
// which the server does not use for signatures.
type envelopeClient struct {
	vaultKey  crypto.PublicKey
	clientKey crypto.PrivateKey
	alg       jose.KeyAlgorithm // of requests
	enc       jose.ContentEncryption
	answerAlg jose.KeyAlgorithm // of responses
	headers   map[jose.HeaderKey]any
}

func rsaClient() *envelopeClient {
	return &envelopeClient{vaultKey: &lockerRSA().PublicKey, clientKey: clientRSA(), alg: jose.RSA_OAEP_256, enc: jose.A256GCM, answerAlg: jose.RSA_OAEP_256}
}

func ecClient() *envelopeClient {
	return &envelopeClient{vaultKey: &lockerEC().PublicKey, clientKey: clientEC(), alg: jose.ECDH_ES, enc: jose.A256GCM, answerAlg: jose.ECDH_ES}
}

func signatureAlgorithm(key any) jose.SignatureAlgorithm {
	switch key.(type) {
	case *ecdsa.PrivateKey, *ecdsa.PublicKey:
		return jose.ES256
	}
	return jose.RS256
}

// seal is the body of a request.
func (c *envelopeClient) seal(t testing.TB, payload string) string {
	t.Helper()
	return c.encrypt(t, c.sign(t, payload))
}

func (c *envelopeClient) sign(t testing.TB, payload string) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithHeader("kid", "1")
	for k, v := range c.headers {
		opts.WithHeader(k, v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: signatureAlgorithm(c.clientKey), Key: c.clientKey}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return object(t, compact, "header", "payload", "signature")
}

func (c *envelopeClient) encrypt(t testing.TB, plaintext string) string {
	t.Helper()
	e, err := jose.NewEncrypter(c.enc, jose.Recipient{Algorithm: c.alg, Key: c.vaultKey}, (&jose.EncrypterOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt([]byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return object(t, compact, "header", "encryptedKey", "iv", "encryptedPayload", "tag")
}

// object writes the parts of a compact serialisation under names.
func object(t testing.TB, compact string, names ...string) string {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != len(names) {
		t.Fatalf("%d parts, want %d", len(parts), len(names))
	}
	m := map[string]string{}
	for i, n := range names {
		m[n] = parts[i]
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// compactOf is the inverse of object; the object must have exactly these names.
func compactOf(t testing.TB, body string, names ...string) string {
	t.Helper()
	var m map[string]string
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&m); err != nil || len(m) != len(names) {
		t.Fatalf("not an object of %v: %v", names, err)
	}
	var parts []string
	for _, n := range names {
		if _, ok := m[n]; !ok {
			t.Fatalf("no %s", n)
		}
		parts = append(parts, m[n])
	}
	return strings.Join(parts, ".")
}

// open is the payload of a response.
func (c *envelopeClient) open(t testing.TB, body string) string {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(compactOf(t, body, "header", "encryptedKey", "iv", "encryptedPayload", "tag"),
		[]jose.KeyAlgorithm{c.answerAlg}, []jose.ContentEncryption{c.enc})
	if err != nil {
		t.Fatalf("response JWE: %v", err)
	}
	plaintext, err := jwe.Decrypt(c.clientKey)
	if err != nil {
		t.Fatalf("response JWE: %v", err)
	}
	jws, err := jose.ParseSignedCompact(compactOf(t, string(plaintext), "header", "payload", "signature"),
		[]jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		t.Fatalf("response JWS: %v", err)
	}
	var key any = &lockerRSA().PublicKey
	if jws.Signatures[0].Header.Algorithm == string(jose.ES256) {
		key = &lockerEC().PublicKey
	}
	payload, err := jws.Verify(key)
	if err != nil {
		t.Fatalf("response JWS: %v", err)
	}
	return string(payload)
}

// do sends r in an envelope and opens the answer if it is in one.
func (c *envelopeClient) do(t testing.TB, s *server, r request) reply {
	t.Helper()
	r.body = c.seal(t, r.body)
	got := s.do(t, r)
	if strings.HasPrefix(got.body, `{"header":`) {
		got.body = c.open(t, got.body)
	}
	return got
}

// answerInEnvelope is a golden answer that came in an envelope.
func (s *server) answerInEnvelope(t *testing.T, c *envelopeClient, r request) string {
	t.Helper()
	return writeAnswer(c.do(t, s, r))
}
