package fileenc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// maxSignature is longer than any ECDSA signature over P-384 in DER.
const maxSignature = 120

func signatureHash(c elliptic.Curve) hash.Hash {
	if c == elliptic.P256() {
		return sha256.New()
	}
	return sha512.New384()
}

// signer signs a message under a key that is made for it alone: who may encrypt
// under the data key, but did not make the message, cannot change it.
type signer struct {
	key *ecdsa.PrivateKey
	hash.Hash
}

func newSigner(c elliptic.Curve) (*signer, error) {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return &signer{key, signatureHash(c)}, nil
}

// public is the public key as headers have it: its compressed point in base64 (SEC 1
// 2.3.3).
func (s *signer) public() (string, error) {
	point, err := s.key.PublicKey.Bytes() // 04, x, y
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	n := (len(point) - 1) / 2
	return base64.StdEncoding.EncodeToString(append([]byte{2 | point[2*n]&1}, point[1:1+n]...)), nil
}

// footer is the end of the message.
func (s *signer) footer() ([]byte, error) {
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, s.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return appendField(nil, sig), nil
}

// verifier checks a signature.
type verifier struct {
	key *ecdsa.PublicKey
	hash.Hash
}

// newVerifier is nil for a message without a signature.
func newVerifier(h *Header) (*verifier, error) {
	x, _ := suiteOf(h.Suite)
	if x.curve == nil {
		return nil, nil //nolint:nilnil // documented
	}
	var text string
	for _, p := range h.Context {
		if p.Key == publicKeyPair {
			text = p.Value
		}
	}
	point, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, notMessage("its public key is not base64")
	}
	c := x.curve()
	size := (c.Params().BitSize + 7) / 8
	px, py := elliptic.UnmarshalCompressed(c, point)
	if px == nil {
		return nil, notMessage("its public key is no point of the curve")
	}
	full := make([]byte, 1+2*size)
	full[0] = 4
	px.FillBytes(full[1 : 1+size])
	py.FillBytes(full[1+size:])
	key, err := ecdsa.ParseUncompressedPublicKey(c, full)
	if err != nil {
		return nil, notMessage("its public key: %v", err)
	}
	return &verifier{key, signatureHash(c)}, nil
}

// readFooter reads the signature and checks it.
func (v *verifier) readFooter(r io.Reader) error {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return cutOff(err, "before its signature")
	}
	size := int(binary.BigEndian.Uint16(n[:]))
	if size > maxSignature {
		return forged("its signature has %d bytes, more than one can have", size)
	}
	sig := make([]byte, size)
	if _, err := io.ReadFull(r, sig); err != nil {
		return cutOff(err, "in its signature")
	}
	if !ecdsa.VerifyASN1(v.key, v.Sum(nil), sig) {
		return forged("its signature is wrong")
	}
	return nil
}
