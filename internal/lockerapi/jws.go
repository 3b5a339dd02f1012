package lockerapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"
)

// A JWS is made and verified here and not by go-jose, because that takes and
// gives strings, and the payload is cardholder data. It is two calls of the
// standard library (RFC 7515 section 5, RFC 7518 sections 3.3 and 3.4).

// es256Size is the length of r and of s in an ES256 signature.
const es256Size = 32

// jwsBody is a JWS on the wire, as it stands inside a JWE.
type jwsBody struct{ header, payload, signature []byte }

var jwsSpec = spec{names: []string{"header", "payload", "signature"}, required: 1<<3 - 1}

func (*jwsBody) spec() *spec { return &jwsSpec }

func (s *jwsBody) member(d *decoder, i int) *fault {
	v, f := d.rawString(jwsSpec.names[i])
	if f != nil {
		return f
	}
	*[...]*[]byte{&s.header, &s.payload, &s.signature}[i] = v[1 : len(v)-1]
	return nil
}

// digest is the hash of the signing input, header.payload.
func (s *jwsBody) digest() []byte {
	h := sha256.New()
	h.Write(s.header)
	h.Write([]byte{'.'})
	h.Write(s.payload)
	return h.Sum(nil)
}

// verify checks the signature by the tenant's public key, whose type alone says
// which algorithm the header must name, and appends the payload to into.
func (s *jwsBody) verify(key crypto.PublicKey, into *buffer) (joseHeader, error) {
	h, err := parseHeader(s.header)
	if err != nil {
		return h, err
	}
	if len(s.signature) > maxSignature {
		return h, envelopeError("signature is too long")
	}
	signature, err := appendBase64(nil, s.signature)
	if err != nil {
		return h, envelopeError("signature: %v", err)
	}
	ok := false
	switch key := key.(type) {
	case *rsa.PublicKey:
		if h.alg != string(jose.RS256) {
			return h, envelopeError("signature algorithm is not the key's")
		}
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, s.digest(), signature) == nil
	case *ecdsa.PublicKey:
		if h.alg != string(jose.ES256) {
			return h, envelopeError("signature algorithm is not the key's")
		}
		ok = len(signature) == 2*es256Size &&
			ecdsa.Verify(key, s.digest(), new(big.Int).SetBytes(signature[:es256Size]), new(big.Int).SetBytes(signature[es256Size:]))
	}
	if !ok {
		return h, envelopeError("signature does not verify")
	}
	into.grow(base64.RawURLEncoding.DecodedLen(len(s.payload)))
	if into.b, err = appendBase64(into.b, s.payload); err != nil {
		return h, envelopeError("payload: %v", err)
	}
	return h, nil
}

// signer makes the JWS of responses with one of the server's keys.
type signer struct {
	header string // encoded
	sign   func(digest []byte) ([]byte, error)
}

// signer returns the signer for an algorithm; the key must be there.
func (k ServerKeys) signer(alg jose.SignatureAlgorithm) (*signer, error) {
	s := &signer{header: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + string(alg) + `"}`))}
	switch {
	case alg == jose.RS256 && k.rsa != nil:
		s.sign = func(digest []byte) ([]byte, error) {
			return rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, digest)
		}
	case alg == jose.ES256 && k.ec != nil:
		s.sign = func(digest []byte) ([]byte, error) {
			x, y, err := ecdsa.Sign(rand.Reader, k.ec, digest)
			if err != nil {
				return nil, err
			}
			out := make([]byte, 2*es256Size)
			x.FillBytes(out[:es256Size])
			y.FillBytes(out[es256Size:])
			return out, nil
		}
	default:
		return nil, fmt.Errorf("no locker private key for response signature %q", alg)
	}
	return s, nil
}

// append writes the JWS of payload as the locker's object.
func (s *signer) append(b *buffer, payload []byte) error {
	b.grow(base64.RawURLEncoding.EncodedLen(len(payload)) + len(s.header) + maxSignature + 64)
	b.text(`{"header":"`)
	b.text(s.header)
	b.text(`","payload":"`)
	start := len(b.b)
	b.b = base64.RawURLEncoding.AppendEncode(b.b, payload)
	body := jwsBody{header: []byte(s.header), payload: b.b[start:]}
	signature, err := s.sign(body.digest())
	if err != nil {
		return fmt.Errorf("sign response: %w", err)
	}
	b.text(`","signature":"`)
	b.grow(base64.RawURLEncoding.EncodedLen(len(signature)))
	b.b = base64.RawURLEncoding.AppendEncode(b.b, signature)
	b.text(`"}`)
	return nil
}
