package keyspec

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// koblitzKey is a key on secp256k1 (SEC 2, 2.4.1), which no FIPS 140 module has.
// Its signatures are deterministic (RFC 6979) and their s is in the lower half.
type koblitzKey struct{ key *secp256k1.PrivateKey }

func generateKoblitz() (*koblitzKey, error) {
	k, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	return &koblitzKey{k}, nil
}

func newKoblitz(s Spec, scalar []byte) (*koblitzKey, error) {
	if len(scalar) != secp256k1.PrivKeyBytesLen {
		return nil, invalidKey(s, "scalar of another length")
	}
	var d secp256k1.ModNScalar
	defer d.Zero()
	if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
		return nil, invalidKey(s, "scalar out of range")
	}
	return &koblitzKey{secp256k1.NewPrivateKey(&d)}, nil
}

func (k *koblitzKey) scalar() ([]byte, error) { return k.key.Serialize(), nil }
func (k *koblitzKey) point() ([]byte, error)  { return k.key.PubKey().SerializeUncompressed(), nil }
func (k *koblitzKey) pkcs8() ([]byte, error)  { return ecDER(ECCSECGP256K1, k) }

func (k *koblitzKey) spki() ([]byte, error) {
	return ecPublicDER(ECCSECGP256K1, k.key.PubKey().SerializeUncompressed())
}

func (k *koblitzKey) sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	d, err := digest(a, t, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.Sign(k.key, d).Serialize(), nil
}

func (k *koblitzKey) destroy() { k.key.Zero() }

type koblitzPublic struct{ key *secp256k1.PublicKey }

func parseKoblitzPoint(s Spec, point []byte) (*koblitzPublic, error) {
	// The parser would also take compressed and hybrid points.
	if len(point) != secp256k1.PubKeyBytesLenUncompressed || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, invalidKey(s, "not an uncompressed point")
	}
	k, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return nil, invalidKey(s, "not a point of the curve")
	}
	return &koblitzPublic{k}, nil
}

func (k *koblitzPublic) verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	d, err := digest(a, t, message)
	if err != nil {
		return err
	}
	sig, err := ecdsa.ParseDERSignature(signature)
	if err != nil || !sig.Verify(d, k.key) {
		return ErrInvalidSignature
	}
	return nil
}
