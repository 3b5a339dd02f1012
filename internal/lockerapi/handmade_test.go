package lockerapi_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"testing"

	"cardea/internal/lockerapi"
)

// What follows is the envelope once more, from RFC 7515, 7516 and 7518 and the
// standard library alone, so that the server is not only tested against the
// library that it is made with.

var b64 = base64.RawURLEncoding

func unb64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := b64.Strict().DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// handSign is the JWS object with RS256 or ES256.
func handSign(t *testing.T, key crypto.PrivateKey, payload string) string {
	t.Helper()
	header, sign := "", func([]byte) []byte { return nil }
	switch k := key.(type) {
	case *rsa.PrivateKey:
		header = b64.EncodeToString([]byte(`{"kid":"1","alg":"RS256"}`))
		sign = func(d []byte) []byte {
			s, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, d)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	case *ecdsa.PrivateKey:
		header = b64.EncodeToString([]byte(`{"alg":"ES256","kid":"1"}`))
		sign = func(d []byte) []byte {
			r, s, err := ecdsa.Sign(rand.Reader, k, d)
			if err != nil {
				t.Fatal(err)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	}
	body := b64.EncodeToString([]byte(payload))
	digest := sha256.Sum256([]byte(header + "." + body))
	return fmt.Sprintf(`{"header":%q,"payload":%q,"signature":%q}`, header, body, b64.EncodeToString(sign(digest[:])))
}

// handEncrypt is the JWE object, A256GCM with the key wrapped by RSA-OAEP-256 or
// agreed on by ECDH-ES.
func handEncrypt(t *testing.T, to crypto.PublicKey, plaintext string) string {
	t.Helper()
	var header, encryptedKey string
	var cek []byte
	switch k := to.(type) {
	case *rsa.PublicKey:
		header = b64.EncodeToString([]byte(`{"enc":"A256GCM","typ":"JWT","alg":"RSA-OAEP-256"}`))
		cek = make([]byte, 32)
		rand.Read(cek)
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k, cek, nil)
		if err != nil {
			t.Fatal(err)
		}
		encryptedKey = b64.EncodeToString(wrapped)
	case *ecdsa.PublicKey:
		ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		static, err := k.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		point := ephemeral.PublicKey().Bytes() // 04 x y
		header = b64.EncodeToString(fmt.Appendf(nil, `{"alg":"ECDH-ES","enc":"A256GCM","epk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`,
			b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])))
		z, err := ephemeral.ECDH(static)
		if err != nil {
			t.Fatal(err)
		}
		cek = concatKDF(z, "A256GCM")
	}
	iv := make([]byte, 12)
	rand.Read(iv)
	sealed := gcm(t, cek).Seal(nil, iv, []byte(plaintext), []byte(header))
	text, tag := sealed[:len(sealed)-16], sealed[len(sealed)-16:]
	return fmt.Sprintf(`{"header":%q,"iv":%q,"encryptedPayload":%q,"tag":%q,"encryptedKey":%q}`,
		header, b64.EncodeToString(iv), b64.EncodeToString(text), b64.EncodeToString(tag), encryptedKey)
}

// concatKDF is RFC 7518 section 4.6.2 for 256 bits without party information.
func concatKDF(z []byte, alg string) []byte {
	var b bytes.Buffer
	b.Write([]byte{0, 0, 0, 1})
	b.Write(z)
	field := func(s string) {
		binary.Write(&b, binary.BigEndian, uint32(len(s)))
		b.WriteString(s)
	}
	field(alg)
	field("")
	field("")
	b.Write([]byte{0, 0, 1, 0}) // 256
	sum := sha256.Sum256(b.Bytes())
	return sum[:]
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// handOpen is the payload of a response and the headers of its two layers.
func handOpen(t *testing.T, key crypto.PrivateKey, body string) (payload string, jweHeader, jwsHeader map[string]any) {
	t.Helper()
	var jwe struct {
		Header, IV, EncryptedPayload, Tag, EncryptedKey string
	}
	decodeExactly(t, body, &jwe, "header", "iv", "encryptedPayload", "tag", "encryptedKey")
	if err := json.Unmarshal(unb64(t, jwe.Header), &jweHeader); err != nil {
		t.Fatal(err)
	}
	var cek []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		var h hash.Hash = sha256.New()
		if jweHeader["alg"] == "RSA-OAEP" {
			h = sha1.New()
		}
		if cek, err = rsa.DecryptOAEP(h, nil, k, unb64(t, jwe.EncryptedKey), nil); err != nil {
			t.Fatal(err)
		}
	case *ecdsa.PrivateKey:
		epk := jweHeader["epk"].(map[string]any)
		point := append([]byte{4}, append(unb64(t, epk["x"].(string)), unb64(t, epk["y"].(string))...)...)
		public, err := ecdh.P256().NewPublicKey(point)
		if err != nil {
			t.Fatal(err)
		}
		private, err := k.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		z, err := private.ECDH(public)
		if err != nil {
			t.Fatal(err)
		}
		cek = concatKDF(z, "A256GCM")
	}
	plaintext, err := gcm(t, cek).Open(nil, unb64(t, jwe.IV), append(unb64(t, jwe.EncryptedPayload), unb64(t, jwe.Tag)...), []byte(jwe.Header))
	if err != nil {
		t.Fatal(err)
	}
	var jws struct{ Header, Payload, Signature string }
	decodeExactly(t, string(plaintext), &jws, "header", "payload", "signature")
	if err := json.Unmarshal(unb64(t, jws.Header), &jwsHeader); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(jws.Header + "." + jws.Payload))
	signature := unb64(t, jws.Signature)
	switch jwsHeader["alg"] {
	case "RS256":
		if err := rsa.VerifyPKCS1v15(&lockerRSA().PublicKey, crypto.SHA256, digest[:], signature); err != nil {
			t.Fatal(err)
		}
	case "ES256":
		x, y := elliptic.P256().Params().N, signature
		if r, s := newInt(y[:32]), newInt(y[32:]); r.Cmp(x) >= 0 || !ecdsa.Verify(&lockerEC().PublicKey, digest[:], r, s) {
			t.Fatal("response signature does not verify")
		}
	default:
		t.Fatalf("response signed by %v", jwsHeader["alg"])
	}
	return string(unb64(t, jws.Payload)), jweHeader, jwsHeader
}

// decodeExactly fails unless text is an object of these names only.
func decodeExactly(t *testing.T, text string, into any, names ...string) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v in a response of %d bytes", err, len(text))
	}
	for _, n := range names {
		if _, ok := m[n]; !ok {
			t.Fatalf("response has no %s", n)
		}
	}
	if len(m) != len(names) {
		t.Fatalf("response has %d members, want %d", len(m), len(names))
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// TestEnvelopeByTheStandardLibraryAlone exchanges with a client that shares no
// code with the server.
func TestEnvelopeByTheStandardLibraryAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{
		"peer": {Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey, ResponseKeyAlgorithm: "RSA-OAEP"},
		"rsa":  {Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientRSA().PublicKey},
		"ec":   {Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientEC().PublicKey, ResponseSignature: "ES256"},
	}})
	for _, c := range []struct {
		tenant string
		to     crypto.PublicKey
		key    crypto.PrivateKey
		alg    string
		sig    string
	}{
		{"peer", &lockerRSA().PublicKey, clientRSA(), "RSA-OAEP", "RS256"},
		{"rsa", &lockerRSA().PublicKey, clientRSA(), "RSA-OAEP-256", "RS256"},
		{"ec", &lockerEC().PublicKey, clientEC(), "ECDH-ES", "ES256"},
		{"rsa", &lockerEC().PublicKey, clientRSA(), "RSA-OAEP-256", "RS256"}, // the locker's two keys are any tenant's
	} {
		t.Run(c.tenant, func(t *testing.T) {
			exchange := func(path, payload string) (reply, map[string]any, map[string]any) {
				t.Helper()
				r := s.do(t, post(path, handEncrypt(t, c.to, handSign(t, c.key, payload)), "x-tenant-id", c.tenant))
				var outer, inner map[string]any
				r.body, outer, inner = handOpen(t, c.key, r.body)
				return r, outer, inner
			}
			r, outer, inner := exchange("/cards/add", `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","card":{"card_number":"4111111111111111"}}`)
			if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("add: %d %s %s", r.status, r.header.Get("Content-Type"), r.body)
			}
			if outer["alg"] != c.alg || outer["enc"] != "A256GCM" || outer["typ"] != "JWT" {
				t.Errorf("JWE header %v", outer)
			}
			if len(inner) != 1 || inner["alg"] != c.sig {
				t.Errorf("JWS header %v, want only alg %s", inner, c.sig)
			}
			r, _, _ = exchange("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`)
			r.want(t, 200, `{"status":"Ok","payload":{"card":{"card_number":"4111111111111111","name_on_card":null,"card_exp_month":null,"card_exp_year":null,"card_brand":null,"card_isin":null,"nick_name":null},"enc_card_data":null}}`)
			r, _, _ = exchange("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"x"}`)
			r.want(t, 404, failure("TE_02", "Requested resource not found"))
		})
	}
}
