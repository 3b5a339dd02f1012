package lockerapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of an envelope's parts, in characters of base64url. The encrypted key
// has room for RSA of 8192 bits; iv and tag for A256CBC-HS512.
const (
	maxJOSEHeader   = 4096
	maxEncryptedKey = 1368
	maxIV           = 32
	maxTag          = 64
	maxSignature    = 1368
)

// errEnvelope is in every error of an envelope that does not open. Which part
// failed is for the audit log; a client is told nothing of it.
var errEnvelope = errors.New("envelope refused")

func envelopeError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errEnvelope, fmt.Sprintf(format, args...))
}

// joseHeader is what is read of a JWE or JWS protected header. Members that
// would change how the object is processed are refused, others are ignored.
type joseHeader struct {
	alg, enc string
	replay   replayClaims
}

// parseHeader reads an encoded protected header.
func parseHeader(encoded []byte) (joseHeader, error) {
	var h joseHeader
	if len(encoded) > maxJOSEHeader {
		return h, envelopeError("header longer than %d characters", maxJOSEHeader)
	}
	text, err := appendBase64(make([]byte, 0, len(encoded)), encoded)
	if err != nil {
		return h, envelopeError("header: %v", err)
	}
	// A header that two parsers could read differently is refused here; go-jose
	// is then told to accept exactly the algorithms found.
	if !jsontext.Value(text).IsValid() {
		return h, envelopeError("header is not JSON without duplicate names")
	}
	if f := decodeBody(text, &h); f != nil {
		return h, envelopeError("header: %s", f.message)
	}
	return h, nil
}

var headerSpec = spec{
	names:    []string{"alg", "enc", "zip", "crit", "b64", "iat", "jti", "htm", "htu", "aud"},
	required: 1 << 0,
}

func (*joseHeader) spec() *spec { return &headerSpec }

func (h *joseHeader) member(d *decoder, i int) *fault {
	name := headerSpec.names[i]
	switch name {
	case "alg":
		return d.id(name, &h.alg)
	case "enc":
		return d.id(name, &h.enc)
	case "zip", "crit", "b64":
		return bodyFault(name + " is not supported")
	}
	return h.replay.member(d, name)
}

// The algorithms of requests.
var (
	contentAlgorithms = []jose.ContentEncryption{jose.A256GCM, jose.A256CBC_HS512}
	rsaAlgorithms     = []jose.KeyAlgorithm{jose.RSA_OAEP_256}
	ecAlgorithms      = []jose.KeyAlgorithm{jose.ECDH_ES, jose.ECDH_ES_A256KW}
)

// jweBody is a JWE on the wire: the five parts of the compact serialisation
// under the locker's names. The parts alias the request's buffer.
type jweBody struct{ header, iv, payload, tag, key []byte }

var jweSpec = spec{
	names:    []string{"header", "iv", "encryptedPayload", "tag", "encryptedKey"},
	required: 1<<5 - 1,
}

func (*jweBody) spec() *spec { return &jweSpec }

func (e *jweBody) member(d *decoder, i int) *fault {
	v, f := d.rawString(jweSpec.names[i])
	if f != nil {
		return f
	}
	// An escape is no base64url, so that what is refused later is right as it is.
	*[...]*[]byte{&e.header, &e.iv, &e.payload, &e.tag, &e.key}[i] = v[1 : len(v)-1]
	return nil
}

// open decrypts the JWE. Errors are errEnvelope.
func (k ServerKeys) open(e *jweBody) ([]byte, jose.ContentEncryption, error) {
	for _, p := range [...]struct {
		name  string
		value []byte
		limit int
	}{
		{"encryptedKey", e.key, maxEncryptedKey},
		{"iv", e.iv, maxIV},
		{"tag", e.tag, maxTag},
		{"encryptedPayload", e.payload, len(e.payload)},
	} {
		if len(p.value) > p.limit || !canonicalBase64(p.value) {
			return nil, "", envelopeError("%s is too long or not base64url", p.name)
		}
	}
	h, err := parseHeader(e.header)
	if err != nil {
		return nil, "", err
	}
	alg, key := k.decryptionKey(h.alg)
	if key == nil {
		return nil, "", envelopeError("key management algorithm is not accepted")
	}
	var enc jose.ContentEncryption
	for _, c := range contentAlgorithms {
		if string(c) == h.enc {
			enc = c
		}
	}
	if enc == "" {
		return nil, "", envelopeError("content encryption algorithm is not accepted")
	}
	if (alg == jose.ECDH_ES) != (len(e.key) == 0) {
		return nil, "", envelopeError("encryptedKey does not fit the algorithm") // RFC 7518 section 4.6
	}
	obj, err := jose.ParseEncryptedCompact(e.compact(), []jose.KeyAlgorithm{alg}, []jose.ContentEncryption{enc})
	if err != nil {
		return nil, "", envelopeError("JWE does not parse")
	}
	plaintext, err := obj.Decrypt(key)
	if err != nil {
		return nil, "", envelopeError("JWE does not decrypt")
	}
	return plaintext, enc, nil
}

// decryptionKey is the key that belongs to an algorithm, so that no algorithm
// can be tried on a key of the wrong type.
func (k ServerKeys) decryptionKey(alg string) (jose.KeyAlgorithm, any) {
	if k.rsa != nil {
		for _, a := range rsaAlgorithms {
			if string(a) == alg {
				return a, k.rsa
			}
		}
	}
	if k.ec != nil {
		for _, a := range ecAlgorithms {
			if string(a) == alg {
				return a, k.ec
			}
		}
	}
	return "", nil
}

func (e *jweBody) compact() string {
	var b strings.Builder
	b.Grow(len(e.header) + len(e.key) + len(e.iv) + len(e.payload) + len(e.tag) + 4)
	for i, p := range [...][]byte{e.header, e.key, e.iv, e.payload, e.tag} {
		if i > 0 {
			b.WriteByte('.')
		}
		b.Write(p)
	}
	return b.String()
}

// encodeJWE writes a compact JWE as the locker's object.
func encodeJWE(b *buffer, compact string) error {
	parts := strings.Split(compact, ".")
	if len(parts) != 5 {
		return errors.New("compact JWE does not have five parts")
	}
	b.grow(len(compact) + 80)
	for _, p := range [...]struct{ name, value string }{
		{`{"header":"`, parts[0]},
		{`","iv":"`, parts[2]},
		{`","encryptedPayload":"`, parts[3]},
		{`","tag":"`, parts[4]},
		{`","encryptedKey":"`, parts[1]},
	} {
		b.text(p.name)
		b.text(p.value)
	}
	b.text(`"}`)
	return nil
}
