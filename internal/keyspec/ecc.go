package keyspec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"

	"cardea/internal/secret"
)

// curve is what is known of the curve of a spec.
type curve struct {
	oid  asn1.ObjectIdentifier
	nist elliptic.Curve // nil for secp256k1, which the standard library does not have
}

func curveOf(s Spec) curve {
	switch s {
	case ECCNISTP256:
		return curve{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()}
	case ECCNISTP384:
		return curve{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()}
	case ECCNISTP521:
		return curve{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521()}
	}
	return curve{oid: asn1.ObjectIdentifier{1, 3, 132, 0, 10}} // SEC 2, section A.2.1
}

// ecKey is a private key on one of the curves.
type ecKey interface {
	pair
	signer
	scalar() ([]byte, error) // as long as the curve's order; the caller wipes it
	point() ([]byte, error)  // not compressed
}

func generateEC(s Spec) (ecKey, error) {
	c := curveOf(s)
	if c.nist == nil {
		return generateKoblitz()
	}
	k, err := ecdsa.GenerateKey(c.nist, rand.Reader)
	if err != nil {
		return nil, err
	}
	return &nistKey{s, k}, nil
}

func newECKey(s Spec, scalar []byte) (ecKey, error) {
	c := curveOf(s)
	if c.nist == nil {
		return newKoblitz(s, scalar)
	}
	k, err := ecdsa.ParseRawPrivateKey(c.nist, scalar)
	if err != nil {
		return nil, invalidKey(s, "scalar out of range")
	}
	return &nistKey{s, k}, nil
}

// The ASN.1 of RFC 5208, 5280, 5480 and 5915. The encodings are made here and not
// by crypto/x509, for the sake of secp256k1 and of the variants below.
type (
	ecAlgorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }

	ecPKCS8 struct {
		Version    int
		Algorithm  ecAlgorithm
		PrivateKey []byte
	}
	ecPrivateKey struct {
		Version   int
		Scalar    []byte
		Curve     asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		PublicKey asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	ecSPKI struct {
		Algorithm ecAlgorithm
		PublicKey asn1.BitString
	}
)

func (c curve) algorithm() ecAlgorithm {
	return ecAlgorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, c.oid}
}

func (a ecAlgorithm) equal(b ecAlgorithm) bool {
	return a.Algorithm.Equal(b.Algorithm) && a.Curve.Equal(b.Curve)
}

func bitString(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }

// parseEC takes an ECPrivateKey with or without its public half, as Java leaves it
// out, and with or without its curve, as BouncyCastle puts it in. All else has one encoding.
func parseEC(s Spec, der []byte) (ecKey, error) {
	c := curveOf(s)
	var outer ecPKCS8
	defer func() { secret.Wipe(outer.PrivateKey) }()
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, invalidKey(s, "not a PKCS #8 elliptic curve key")
	}
	if !outer.Algorithm.equal(c.algorithm()) {
		return nil, invalidKey(s, "another algorithm or curve")
	}
	var inner ecPrivateKey
	defer func() { secret.Wipe(inner.Scalar) }()
	if _, err := asn1.Unmarshal(outer.PrivateKey, &inner); err != nil {
		return nil, invalidKey(s, "not an ECPrivateKey")
	}
	if len(inner.Curve) > 0 && !inner.Curve.Equal(c.oid) {
		return nil, invalidKey(s, "another curve inside")
	}
	k, err := newECKey(s, inner.Scalar)
	if err != nil {
		return nil, err
	}
	point, err := k.point()
	if err == nil && len(inner.PublicKey.Bytes) > 0 && !bytes.Equal(inner.PublicKey.Bytes, point) {
		err = invalidKey(s, "the public half is that of another key")
	}
	if err == nil {
		var again []byte
		again, err = c.encode(inner)
		if err == nil && !bytes.Equal(again, der) {
			err = invalidKey(s, "not the DER encoding of its content")
		}
		secret.Wipe(again)
	}
	if err != nil {
		k.destroy()
		return nil, err
	}
	return k, nil
}

// encode is the PKCS #8 of a key with the parts that inner has.
func (c curve) encode(inner ecPrivateKey) ([]byte, error) {
	inner.Version = 1
	if len(inner.PublicKey.Bytes) > 0 {
		inner.PublicKey = bitString(inner.PublicKey.Bytes) // no bits are unused
	}
	b, err := asn1.Marshal(inner)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(b)
	return asn1.Marshal(ecPKCS8{0, c.algorithm(), b})
}

// ecDER is what Generate makes: with the public half, without the curve inside.
func ecDER(s Spec, k ecKey) ([]byte, error) {
	d, err := k.scalar()
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(d)
	p, err := k.point()
	if err != nil {
		return nil, err
	}
	return curveOf(s).encode(ecPrivateKey{Scalar: d, PublicKey: bitString(p)})
}

func ecPublicDER(s Spec, point []byte) ([]byte, error) {
	return asn1.Marshal(ecSPKI{curveOf(s).algorithm(), bitString(point)})
}

func parseECPublic(s Spec, spki []byte) (publicKey, error) {
	var k ecSPKI
	if _, err := asn1.Unmarshal(spki, &k); err != nil {
		return nil, invalidKey(s, "not the SubjectPublicKeyInfo of an elliptic curve key")
	}
	c := curveOf(s)
	if !k.Algorithm.equal(c.algorithm()) {
		return nil, invalidKey(s, "another algorithm or curve")
	}
	if again, err := ecPublicDER(s, k.PublicKey.Bytes); err != nil || !bytes.Equal(again, spki) {
		return nil, invalidKey(s, "not the DER encoding of its content")
	}
	if c.nist == nil {
		return parseKoblitzPoint(s, k.PublicKey.Bytes)
	}
	p, err := ecdsa.ParseUncompressedPublicKey(c.nist, k.PublicKey.Bytes)
	if err != nil {
		return nil, invalidKey(s, "not a point of the curve")
	}
	return &nistPublic{p}, nil
}

// nistKey is a key on P-256, P-384 or P-521 (FIPS 186-5).
type nistKey struct {
	spec Spec
	key  *ecdsa.PrivateKey
}

func (k *nistKey) scalar() ([]byte, error) { return k.key.Bytes() }
func (k *nistKey) point() ([]byte, error)  { return k.key.PublicKey.Bytes() }
func (k *nistKey) pkcs8() ([]byte, error)  { return ecDER(k.spec, k) }

func (k *nistKey) spki() ([]byte, error) {
	p, err := k.point()
	if err != nil {
		return nil, err
	}
	return ecPublicDER(k.spec, p)
}

func (k *nistKey) sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	d, err := digest(a, t, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, k.key, d)
}

// agree computes Z of SP 800-56A, 5.7.1.2. The peer's point was checked when it was parsed.
func (k *nistKey) agree(peer []byte) ([]byte, error) {
	// Our own text: AWS's is not known.
	wrong := &InputError{"The public key is not a valid public key of key spec " + string(k.spec) + "."}
	if len(peer) > maxKey {
		return nil, wrong
	}
	p, err := parseECPublic(k.spec, peer)
	if err != nil {
		return nil, wrong
	}
	n, is := p.(*nistPublic)
	if !is {
		return nil, wrong
	}
	theirs, err := n.key.ECDH()
	if err != nil {
		return nil, wrong
	}
	ours, err := k.key.ECDH()
	if err != nil {
		return nil, err
	}
	return ours.ECDH(theirs)
}

func (k *nistKey) destroy() {
	wipeInts(k.key.D) //nolint:staticcheck // SA1019: wiping is the one change that is meant
}

type nistPublic struct{ key *ecdsa.PublicKey }

func (k *nistPublic) verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	d, err := digest(a, t, message)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(k.key, d, signature) {
		return ErrInvalidSignature
	}
	return nil
}
