package lockerapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"cardea/internal/lockerapi"
	"cardea/internal/secret"
)

func newInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

const retrieveBody = `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`

var (
	notFound      = failure("TE_02", "Requested resource not found")
	badEnvelope   = failure("TE_03", "failed in request middleware: Failed while encrypting/decrypting")
	badSignedData = failure("TE_03", "Failed while decoding data")
)

// jweTenants are one tenant with an RSA key and one with an EC key.
func jweTenants() map[string]lockerapi.TenantConfig {
	return map[string]lockerapi.TenantConfig{
		"acme": {Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey},
		"ec":   {Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientEC().PublicKey, ResponseSignature: "ES256"},
	}
}

// TestEnvelopeTakesEveryAlgorithmOfTheContract pairs all requests with all
// answers. Under GODEBUG=fips140=only those remain that it allows.
func TestEnvelopeTakesEveryAlgorithmOfTheContract(t *testing.T) {
	t.Parallel()
	answers := []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES, jose.ECDH_ES_A256KW, jose.RSA_OAEP}
	contents := []jose.ContentEncryption{jose.A256CBC_HS512, jose.A256GCM}
	if fips140.Enforced() {
		answers, contents = answers[:3], contents[:1]
	}
	for _, answerAlg := range answers {
		for _, signature := range []string{"RS256", "ES256", ""} {
			config := lockerapi.TenantConfig{
				Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey,
				ResponseKeyAlgorithm: string(answerAlg), ResponseSignature: signature,
			}
			client := *rsaClient()
			if strings.HasPrefix(string(answerAlg), "ECDH") {
				config.ClientKey, client = &clientEC().PublicKey, *ecClient()
			}
			s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{"acme": config}})
			for _, alg := range []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES, jose.ECDH_ES_A256KW} {
				for _, enc := range contents {
					c := client
					c.alg, c.enc, c.answerAlg = alg, enc, answerAlg
					c.vaultKey = &lockerRSA().PublicKey
					if alg != jose.RSA_OAEP_256 {
						c.vaultKey = &lockerEC().PublicKey
					}
					got := c.do(t, s, post("/cards/retrieve", retrieveBody))
					if got.status != http.StatusNotFound || got.body != notFound {
						t.Errorf("%s %s answered with %s %s: %d %s", alg, enc, answerAlg, signature, got.status, got.body)
					}
				}
			}
		}
	}
}

// edit changes one member of a JSON object of strings.
func edit(t *testing.T, object, name string, change func(string) string) string {
	t.Helper()
	var m map[string]string
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatal(err)
	}
	m[name] = change(m[name])
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// header is an encoded header in place of another.
func header(text string) func(string) string {
	return func(string) string { return b64.EncodeToString([]byte(text)) }
}

// flip changes the value of a part, not only its spelling.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	good := rsaClient().seal(t, retrieveBody)
	signed := rsaClient().sign(t, retrieveBody)
	withKey := func(change func(*envelopeClient)) string {
		c := rsaClient()
		change(c)
		return c.seal(t, retrieveBody)
	}
	onCurve := func(curve elliptic.Curve) *ecdsa.PublicKey {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &k.PublicKey
	}
	// HMAC keyed with the public key's PEM is the classic confusion of algorithms.
	spki, err := x509.MarshalPKIXPublicKey(&clientRSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hmacSigner, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.HS256,
		Key:       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hmacJWS, err := hmacSigner.Sign([]byte(retrieveBody))
	if err != nil {
		t.Fatal(err)
	}
	hmacCompact, err := hmacJWS.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	ecBody := func(change func(*envelopeClient)) string {
		c := ecClient()
		change(c)
		return c.seal(t, retrieveBody)
	}
	for _, c := range []struct {
		name, body, answer, detail string
		tenant                     string
	}{
		{name: "request by RSA-OAEP with SHA-1", body: withKey(func(c *envelopeClient) { c.alg = jose.RSA_OAEP }), detail: "key management algorithm is not accepted"},
		{name: "request by RSA1_5", body: withKey(func(c *envelopeClient) { c.alg = jose.RSA1_5 }), detail: "key management algorithm is not accepted"},
		{name: "request by ECDH-ES+A128KW", body: ecBody(func(c *envelopeClient) { c.alg = jose.ECDH_ES_A128KW }), tenant: "ec", detail: "key management algorithm is not accepted"},
		{name: "request by A256GCM with direct key", body: edit(t, good, "header", header(`{"alg":"dir","enc":"A256GCM"}`)), detail: "key management algorithm is not accepted"},
		{name: "A128GCM", body: withKey(func(c *envelopeClient) { c.enc = jose.A128GCM }), detail: "content encryption algorithm is not accepted"},
		{name: "no enc", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256"}`)), detail: "content encryption algorithm is not accepted"},
		{name: "no alg", body: edit(t, good, "header", header(`{"enc":"A256GCM"}`)), detail: "missing field `alg`"},
		{name: "alg is a number", body: edit(t, good, "header", header(`{"alg":1,"enc":"A256GCM"}`)), detail: "alg: invalid type"},
		{name: "zip", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"}`)), detail: "zip is not supported"},
		{name: "crit", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM","crit":["exp"]}`)), detail: "crit is not supported"},
		{name: "a name twice", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM","x":1,"x":2}`)), detail: "duplicate names"},
		{name: "header is no JSON", body: edit(t, good, "header", header(`alg`)), detail: "duplicate names"},
		{name: "header too long", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM","x":"`+strings.Repeat("x", 4096)+`"}`)), detail: "header longer than 4096"},
		{name: "header with padding", body: edit(t, good, "header", func(s string) string { return s + "==" }), detail: "not canonical base64url"},
		{name: "header changed, still acceptable", body: edit(t, good, "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM","typ":"jwt"}`)), detail: "does not decrypt"},
		{name: "line break in a part", body: edit(t, good, "encryptedPayload", func(s string) string { return s[:4] + "\n" + s[4:] }), detail: "encryptedPayload is too long or not base64url"},
		{name: "bits left over", body: edit(t, good, "tag", func(s string) string { return s[:21] + "B" }), detail: "tag is too long or not base64url"},
		{name: "iv too long", body: edit(t, good, "iv", func(s string) string { return strings.Repeat(s, 4) }), detail: "iv is too long"},
		{name: "iv of another length", body: edit(t, good, "iv", func(s string) string { return s[:8] }), detail: "does not decrypt"},
		{name: "tag cut", body: edit(t, good, "tag", func(s string) string { return s[:16] }), detail: "does not decrypt"},
		{name: "iv changed", body: edit(t, good, "iv", flip), detail: "does not decrypt"},
		{name: "tag changed", body: edit(t, good, "tag", flip), detail: "does not decrypt"},
		{name: "ciphertext changed", body: edit(t, good, "encryptedPayload", flip), detail: "does not decrypt"},
		{name: "key changed", body: edit(t, good, "encryptedKey", flip), detail: "does not decrypt"},
		{name: "key too long", body: edit(t, good, "encryptedKey", func(s string) string { return strings.Repeat(s, 5) }), detail: "encryptedKey is too long"},
		{name: "key missing", body: edit(t, good, "encryptedKey", func(string) string { return "" }), detail: "encryptedKey does not fit"},
		{name: "encrypted to somebody else", body: withKey(func(c *envelopeClient) { c.vaultKey = &otherRSA().PublicKey }), detail: "does not decrypt"},
		{name: "key with ECDH-ES", body: edit(t, ecClient().seal(t, retrieveBody), "encryptedKey", func(string) string { return "AAAA" }), tenant: "ec", detail: "encryptedKey does not fit"},
		{name: "ephemeral key on another curve", body: ecBody(func(c *envelopeClient) { c.vaultKey = onCurve(elliptic.P384()) }), tenant: "ec", detail: "does not decrypt"},
		{name: "ephemeral key missing", body: edit(t, ecClient().seal(t, retrieveBody), "header", header(`{"alg":"ECDH-ES","enc":"A256GCM"}`)), tenant: "ec", detail: "does not decrypt"},
		{name: "RSA algorithm named for an EC envelope", body: edit(t, ecClient().seal(t, retrieveBody), "header", header(`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`)), tenant: "ec", detail: "encryptedKey does not fit"},

		{name: "signed by somebody else", body: withKey(func(c *envelopeClient) { c.clientKey = otherRSA() }), detail: "signature does not verify"},
		{name: "signed by another tenant's key type", body: withKey(func(c *envelopeClient) { c.clientKey = clientEC() }), detail: "signature algorithm is not the key's"},
		{name: "another tenant's envelope", body: good, tenant: "ec", detail: "signature algorithm is not the key's"},
		{name: "HS256 with the public key", body: rsaClient().encrypt(t, object(t, hmacCompact, "header", "payload", "signature")), detail: "signature algorithm is not the key's"},
		{name: "alg none", body: rsaClient().encrypt(t, edit(t, edit(t, signed, "header", header(`{"alg":"none"}`)), "signature", func(string) string { return "" })), detail: "signature algorithm is not the key's"},
		{name: "RS512", body: rsaClient().encrypt(t, edit(t, signed, "header", header(`{"alg":"RS512"}`))), detail: "signature algorithm is not the key's"},
		{name: "JWS crit", body: rsaClient().encrypt(t, edit(t, signed, "header", header(`{"alg":"RS256","crit":["b64"]}`))), detail: "crit is not supported"},
		{name: "JWS b64", body: rsaClient().encrypt(t, edit(t, signed, "header", header(`{"alg":"RS256","b64":false}`))), detail: "b64 is not supported"},
		{name: "JWS header changed", body: rsaClient().encrypt(t, edit(t, signed, "header", header(`{"alg":"RS256"}`))), detail: "signature does not verify"},
		{name: "JWS payload changed", body: rsaClient().encrypt(t, edit(t, signed, "payload", flip)), detail: "signature does not verify"},
		{name: "JWS signature changed", body: rsaClient().encrypt(t, edit(t, signed, "signature", flip)), detail: "signature does not verify"},
		{name: "JWS signature padded", body: rsaClient().encrypt(t, edit(t, signed, "signature", func(s string) string { return s + "==" })), detail: "not canonical base64url"},
		{name: "JWS signature too long", body: rsaClient().encrypt(t, edit(t, signed, "signature", func(s string) string { return strings.Repeat(s, 5) })), detail: "signature is too long"},
		{name: "ES256 signature of the wrong length", body: ecClient().encrypt(t, edit(t, ecClient().sign(t, retrieveBody), "signature", func(s string) string { return s[:84] })), tenant: "ec", detail: "signature does not verify"},

		{name: "what was encrypted is no JWS", body: rsaClient().encrypt(t, retrieveBody), answer: badSignedData, detail: "no JWS"},
		{name: "what was encrypted is no JSON", body: rsaClient().encrypt(t, "hello"), answer: badSignedData, detail: "no JWS"},
		{name: "what was encrypted is no UTF-8", body: rsaClient().encrypt(t, "\xff\xfe"), answer: badSignedData, detail: "no JWS"},
		{name: "nothing was encrypted", body: rsaClient().encrypt(t, ""), answer: badSignedData, detail: "no JWS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.tenant == "" {
				c.tenant = "acme"
			}
			if c.answer == "" {
				c.answer = badEnvelope
			}
			before := s.Store.Len()
			got := s.do(t, post("/cards/retrieve", c.body, "x-tenant-id", c.tenant))
			got.want(t, http.StatusBadRequest, c.answer)
			lines := s.auditLines(t, before)
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "card.retrieve denied bad_envelope by anonymous/anonymous/none "+c.tenant+" (") || !strings.Contains(lines[0], c.detail) {
				t.Errorf("audit %q, want one entry with %q", lines, c.detail)
			}
		})
	}
}

// TestEnvelopeLayerErrorsArePlain: a body that never became an envelope is
// answered as the contract says, without one.
func TestEnvelopeLayerErrorsArePlain(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	s.do(t, post("/cards/retrieve", "{}", "content-type", "text/plain")).want(t, 415, failure("TE_03", "Expected request with `Content-Type: application/json`"))
	s.do(t, post("/cards/retrieve", "no")).want(t, 400, failure("TE_03", "Failed to parse the request body as JSON: syntax error at byte 1"))
	s.do(t, post("/cards/retrieve", retrieveBody)).want(t, 422, failure("TE_03", "Failed to deserialize the JSON body into the target type: missing field `header`"))
	s.do(t, post("/cards/retrieve", `{"header":1}`)).want(t, 422, failure("TE_03", "Failed to deserialize the JSON body into the target type: header: invalid type, expected a string"))
	s.do(t, post("/cards/retrieve", "{}", "x-tenant-id", "nobody")).want(t, 400, failure("TE_03", "Tenant error: Invalid x-tenant-id"))
	s.do(t, post("/cards/retrieve", `{"x":"`+strings.Repeat("x", 2<<20)+`"}`)).want(t, 413, failure("TE_03", "Failed to buffer the request body: length limit exceeded"))
}

// TestInnerErrorsKeepTheirStatusAndAreWrapped covers one answer of each kind.
func TestInnerErrorsKeepTheirStatusAndAreWrapped(t *testing.T) {
	t.Parallel()
	tenants := jweTenants()
	acme := tenants["acme"]
	acme.DeleteLimit = lockerapi.DeleteLimit{Requests: 1, Per: 60e9}
	tenants["acme"] = acme
	s := serve(t, serverOptions{tenants: tenants})
	c := rsaClient()
	for _, x := range []struct {
		path, payload string
		status        int
		body          string
	}{
		{"/cards/retrieve", "nonsense", 400, failure("TE_03", "Failed to parse the request body as JSON: syntax error at byte 1")},
		{"/cards/retrieve", "{}", 422, failure("TE_03", "Failed to deserialize the JSON body into the target type: missing field `merchant_id`")},
		{"/api/v2/vault/add?mode=x", "{}", 400, failure("TE_03", "Failed to deserialize query string: mode: unknown variant, expected `insert` or `upsert`")},
		{"/cards/delete", retrieveBody, 404, notFound},
		{"/cards/delete", retrieveBody, 429, "Rate Limit Applied"},
	} {
		sent := post(x.path, c.seal(t, x.payload))
		got := s.do(t, sent)
		if ct := got.header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
			t.Errorf("%s: content type %v", x.path, ct)
		}
		got.body = c.open(t, got.body)
		got.want(t, x.status, x.body)
	}
}

func TestFingerprintAnswersPlainWhenAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	c := rsaClient()
	body := `{"data":"4111111111111111","key":"k"}`
	for _, path := range []string{"/cards/fingerprint", "/data/fingerprint", "/api/v2/vault/fingerprint"} {
		got := s.do(t, post(path, c.seal(t, body), "x-response-encoding", "plain", "x-fingerprint-id", "abcdefghijABCDEFGHIJ"))
		got.want(t, 200, `{"fingerprint_id":"abcdefghijABCDEFGHIJ"}`)
		if got.header.Get("X-Response-Encoding") != "plain" {
			t.Errorf("%s does not echo x-response-encoding", path)
		}
	}
	got := s.do(t, post("/cards/fingerprint", c.seal(t, "{}"), "x-response-encoding", "plain"))
	got.want(t, 422, failure("TE_03", "Failed to deserialize the JSON body into the target type: missing field `data`"))
	if got.header.Get("X-Response-Encoding") != "plain" {
		t.Error("an error does not echo x-response-encoding")
	}
	s.do(t, post("/cards/fingerprint", body, "x-response-encoding", "plain")).want(t, 422,
		failure("TE_03", "Failed to deserialize the JSON body into the target type: missing field `header`")) // the request is JWE still
	for path, encoding := range map[string]string{"/cards/retrieve": "plain", "/cards/fingerprint": "PLAIN"} {
		got := s.do(t, post(path, c.seal(t, "{}"), "x-response-encoding", encoding))
		if !strings.HasPrefix(got.body, `{"header":`) || got.header.Get("X-Response-Encoding") != "" {
			t.Errorf("%s answers in clear to x-response-encoding: %s", path, encoding)
		}
	}
}

func TestResponseThatCannotBeSealedIsNotSent(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	c := rsaClient()
	c.do(t, s, post("/cards/add", `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","enc_card_data":"00"}`))
	s.api.BreakSigner("acme")
	s.do(t, post("/cards/retrieve", c.seal(t, retrieveBody))).want(t, 500, failure("TE_00", "failed in response middleware: Failed while encrypting response"))
}

func TestTenantConfigRefuses(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwe := func(change func(*lockerapi.TenantConfig)) lockerapi.TenantConfig {
		c := lockerapi.TenantConfig{Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey}
		change(&c)
		return c
	}
	client := lockerapi.Client{Name: "app", CommonName: "app"}
	refused := map[string]lockerapi.TenantConfig{
		`envelope "xml" is neither plain nor jwe`:              {Envelope: "xml"},
		"are for envelope jwe only":                            {ClientKey: &clientRSA().PublicKey},
		"response algorithms and replay protection are for":    {Replay: lockerapi.ReplayPolicy{Bind: true}},
		"client certificates are for envelope plain only":      jwe(func(c *lockerapi.TenantConfig) { c.Clients = []lockerapi.Client{client} }),
		"needs the tenant's public key":                        {Envelope: lockerapi.EnvelopeJWE},
		"EC key is on P-384, want P-256":                       jwe(func(c *lockerapi.TenantConfig) { c.ClientKey = &p384.PublicKey }),
		"type string is neither RSA nor EC":                    jwe(func(c *lockerapi.TenantConfig) { c.ClientKey = "key" }),
		`"ECDH-ES" does not fit the tenant's public key`:       jwe(func(c *lockerapi.TenantConfig) { c.ResponseKeyAlgorithm = "ECDH-ES" }),
		`"RSA1_5" does not fit the tenant's public key`:        jwe(func(c *lockerapi.TenantConfig) { c.ResponseKeyAlgorithm = "RSA1_5" }),
		`no locker private key for response signature "PS256"`: jwe(func(c *lockerapi.TenantConfig) { c.ResponseSignature = "PS256" }),
		"replay window 25h0m0s is not between 0 and 24h0m0s":   jwe(func(c *lockerapi.TenantConfig) { c.Replay.Window = 25 * 3600e9 }),
		"client 1 has no name":                                 {Clients: []lockerapi.Client{{CommonName: "x"}}},
		"client app: one of sha256 and common name":            {Clients: []lockerapi.Client{{Name: "app"}}},
		"client app: its common name is mapped twice":          {Clients: []lockerapi.Client{client, client}},
		"client app: sha256 is not 64 hexadecimal digits":      {Clients: []lockerapi.Client{{Name: "app", SHA256: "abcd"}}},
		"requests and period must both be above 0":             {DeleteLimit: lockerapi.DeleteLimit{Requests: 1}},
	}
	if small, err := rsa.GenerateKey(rand.Reader, 1024); err == nil {
		refused["RSA key has 1024 bits, want 2048 to 8192"] = jwe(func(c *lockerapi.TenantConfig) { c.ClientKey = &small.PublicKey })
	} else if !fips140.Enabled() { // the FIPS 140-3 module makes no key so small
		t.Fatal(err)
	}
	for want, c := range refused {
		s := serve(t, serverOptions{})
		err := s.api.SetTenants(map[string]lockerapi.TenantConfig{"bad": c})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "tenant bad: ") {
			t.Errorf("got %v, want tenant bad: … %s", err, want)
		}
		if got := s.do(t, post("/cards/retrieve", retrieveBody)); got.status != http.StatusNotFound {
			t.Errorf("the tenants before do not answer any more: %d", got.status)
		}
	}
}

func TestServerKeysRefuse(t *testing.T) {
	t.Parallel()
	if _, err := lockerapi.NewServerKeys(lockerRSA(), otherRSA()); err == nil || err.Error() != "locker private key: two RSA keys" {
		t.Errorf("two RSA keys: %v", err)
	}
	if _, err := lockerapi.NewServerKeys(lockerEC(), clientEC()); err == nil || err.Error() != "locker private key: two EC keys" {
		t.Errorf("two EC keys: %v", err)
	}
	if _, err := lockerapi.NewServerKeys("key"); err == nil || err.Error() != "locker private key: type string is neither RSA nor EC" {
		t.Errorf("no key: %v", err)
	}
}

func TestKeysParseInEveryFormOfTheContract(t *testing.T) {
	t.Parallel()
	pkcs8 := func(k any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sec1, err := x509.MarshalECPrivateKey(lockerEC())
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, text := range map[string][]byte{
		"PKCS#8 RSA": encode("PRIVATE KEY", pkcs8(lockerRSA())),
		"PKCS#1":     encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(lockerRSA())),
		"PKCS#8 EC":  encode("PRIVATE KEY", pkcs8(lockerEC())),
		"SEC 1":      encode("EC PRIVATE KEY", sec1),
	} {
		k, err := lockerapi.ParsePrivateKey(secret.Copy(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := lockerapi.NewServerKeys(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := lockerapi.ParsePrivateKey(secret.Copy(append(text, text...))); err == nil || err.Error() != "more than one PEM block" {
			t.Errorf("%s twice: %v", name, err)
		}
		if _, err := lockerapi.ParsePublicKey(text); err == nil || err.Error() != "PEM block is not a public key" {
			t.Errorf("%s as public key: %v", name, err)
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(&clientEC().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"SPKI":   encode("PUBLIC KEY", spki),
		"PKCS#1": encode("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&clientRSA().PublicKey)),
	} {
		if _, err := lockerapi.ParsePublicKey(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := lockerapi.ParsePrivateKey(secret.Copy(text)); err == nil || err.Error() != "PEM block is not an unencrypted private key" {
			t.Errorf("%s as private key: %v", name, err)
		}
	}
	if _, err := lockerapi.ParsePublicKey([]byte("x")); err == nil || err.Error() != "no PEM block found" {
		t.Errorf("no PEM: %v", err)
	}
}

// TestCanonicalBase64 holds our check against the strict standard decoder, which
// differs only in skipping line breaks.
func TestCanonicalBase64(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[A-Za-z0-9_\-=+/ \n]{0,12}`).Draw(t, "text")
		decoded, err := b64.Strict().DecodeString(text)
		want := err == nil && b64.EncodeToString(decoded) == text
		if got := lockerapi.CanonicalBase64([]byte(text)); got != want {
			t.Fatalf("%q: got %v, want %v", text, got, want)
		}
	})
}

// TestBodyThatIsNoJSONSaysWhy where the reason is no part of the body.
func TestBodyThatIsNoJSONSaysWhy(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	deep := strings.Repeat("[", 20_000)
	for name, tc := range map[string]struct{ body, want string }{
		"beyond the decoder's own depth": {`{"entity_id":"e","vault_id":"v","data":` + deep, "nested deeper than 64 levels"},
		"not UTF-8":                      {"{\"entity_id\":\"e\xff\"}", "invalid UTF-8 at byte 15"},
	} {
		t.Run(name, func(t *testing.T) {
			s.do(t, post("/api/v2/vault/add", tc.body)).want(t, 400, failure("TE_03", "Failed to parse the request body as JSON: "+tc.want))
		})
	}
}
