package keyspec

import (
	"crypto"
	_ "crypto/sha1"   //nolint:gosec // RSAES_OAEP_SHA_1 is an algorithm of the API
	_ "crypto/sha256" // signatures
	_ "crypto/sha512"
)

// hash is the hash of a signing algorithm, 0 for those that are not over a digest
// which the caller may bring.
func (a SigningAlgorithm) hash() crypto.Hash {
	switch a {
	case SignPSSSHA256, SignPKCS1SHA256, SignECDSASHA256:
		return crypto.SHA256
	case SignPSSSHA384, SignPKCS1SHA384, SignECDSASHA384:
		return crypto.SHA384
	case SignPSSSHA512, SignPKCS1SHA512, SignECDSASHA512, SignEd25519ph:
		return crypto.SHA512
	case SignEd25519, SignMLDSA:
	}
	return 0
}

// hash is the hash of OAEP and of its mask.
func (a EncryptionAlgorithm) hash() crypto.Hash {
	switch a {
	case EncryptOAEPSHA1:
		return crypto.SHA1
	case EncryptOAEPSHA256:
		return crypto.SHA256
	case EncryptSymmetric:
	}
	return 0
}

// digest is what an RSA or ECDSA algorithm signs: the message's hash, or the
// message itself if it is one already.
func digest(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	switch t {
	case MessageRaw, "":
		h := a.hash().New()
		h.Write(message)
		return h.Sum(nil), nil
	case MessageDigest:
		return message, checkDigest(a, message)
	case MessageExternalMu:
	}
	return nil, wrongType(a, t)
}

func checkDigest(a SigningAlgorithm, message []byte) error {
	if len(message) != a.hash().Size() {
		return &InputError{"Digest is invalid length for algorithm " + string(a) + "."}
	}
	return nil
}

// wrongType is our own text: AWS's is not known.
func wrongType(a SigningAlgorithm, t MessageType) error {
	return &InputError{"MessageType " + string(t) + " is not valid for algorithm " + string(a) + "."}
}
