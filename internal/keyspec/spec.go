// Package keyspec knows every key spec of AWS KMS and what can be done with a key
// of it: it makes keys, signs and verifies, encrypts and decrypts, computes MACs,
// agrees on secrets, and unwraps imported key material.
//
// It promises that a key is only used as its spec allows and only by algorithms
// that belong to it, that secrets are wiped when their owner says so, and that
// what does not verify or open says nothing more than that. It is a leaf of pure
// functions over bytes, safe for concurrent use, that knows no key ids, no
// policies and no store.
//
// Everything runs with GODEBUG=fips140=on. What the Go Cryptographic Module does
// then compute is all but secp256k1 (github.com/decred/dcrd/dcrec/secp256k1), ML-DSA
// (filippo.io/mldsa, and the verification of a given mu here) and the wrapping around
// AES of AES-KWP. With fips140=only, RSAES_OAEP_SHA_1 is ErrUnsupported as well.
package keyspec

import "slices"

// Spec is a KeySpec of the KMS API 2014-11-01.
type Spec string

// The key specs. SM2 exists in AWS's China Regions only and is not supported.
const (
	SymmetricDefault Spec = "SYMMETRIC_DEFAULT"
	HMAC224          Spec = "HMAC_224"
	HMAC256          Spec = "HMAC_256"
	HMAC384          Spec = "HMAC_384"
	HMAC512          Spec = "HMAC_512"
	RSA2048          Spec = "RSA_2048"
	RSA3072          Spec = "RSA_3072"
	RSA4096          Spec = "RSA_4096"
	ECCNISTP256      Spec = "ECC_NIST_P256"
	ECCNISTP384      Spec = "ECC_NIST_P384"
	ECCNISTP521      Spec = "ECC_NIST_P521"
	ECCSECGP256K1    Spec = "ECC_SECG_P256K1"
	ECCEdwards25519  Spec = "ECC_NIST_EDWARDS25519"
	MLDSA44          Spec = "ML_DSA_44"
	MLDSA65          Spec = "ML_DSA_65"
	MLDSA87          Spec = "ML_DSA_87"
	SM2              Spec = "SM2"
)

// Usage is a KeyUsage: what a key is for, fixed when it is created.
type Usage string

// The usages.
const (
	EncryptDecrypt    Usage = "ENCRYPT_DECRYPT"
	SignVerify        Usage = "SIGN_VERIFY"
	GenerateVerifyMAC Usage = "GENERATE_VERIFY_MAC"
	KeyAgreement      Usage = "KEY_AGREEMENT"
)

// EncryptionAlgorithm is an EncryptionAlgorithmSpec.
type EncryptionAlgorithm string

// The encryption algorithms. EncryptSymmetric is the name for AES-256-GCM under a
// symmetric key, whose ciphertext is docs/spec/kms-ciphertext.md.
const (
	EncryptSymmetric  EncryptionAlgorithm = "SYMMETRIC_DEFAULT"
	EncryptOAEPSHA1   EncryptionAlgorithm = "RSAES_OAEP_SHA_1"
	EncryptOAEPSHA256 EncryptionAlgorithm = "RSAES_OAEP_SHA_256"
)

// SigningAlgorithm is a SigningAlgorithmSpec.
type SigningAlgorithm string

// The signing algorithms.
const (
	SignPSSSHA256   SigningAlgorithm = "RSASSA_PSS_SHA_256"
	SignPSSSHA384   SigningAlgorithm = "RSASSA_PSS_SHA_384"
	SignPSSSHA512   SigningAlgorithm = "RSASSA_PSS_SHA_512"
	SignPKCS1SHA256 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_256"
	SignPKCS1SHA384 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_384"
	SignPKCS1SHA512 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_512"
	SignECDSASHA256 SigningAlgorithm = "ECDSA_SHA_256"
	SignECDSASHA384 SigningAlgorithm = "ECDSA_SHA_384"
	SignECDSASHA512 SigningAlgorithm = "ECDSA_SHA_512"
	SignEd25519     SigningAlgorithm = "ED25519_SHA_512"    // MessageType RAW only
	SignEd25519ph   SigningAlgorithm = "ED25519_PH_SHA_512" // MessageType DIGEST only
	SignMLDSA       SigningAlgorithm = "ML_DSA_SHAKE_256"
)

// MessageType says what the message of a signature is.
type MessageType string

// The message types. An empty one means MessageRaw.
const (
	MessageRaw        MessageType = "RAW"
	MessageDigest     MessageType = "DIGEST"
	MessageExternalMu MessageType = "EXTERNAL_MU" // ML-DSA: the 64 bytes of FIPS 204's mu
)

// MACAlgorithm is a MacAlgorithmSpec.
type MACAlgorithm string

// The MAC algorithms.
const (
	MACHMACSHA224 MACAlgorithm = "HMAC_SHA_224"
	MACHMACSHA256 MACAlgorithm = "HMAC_SHA_256"
	MACHMACSHA384 MACAlgorithm = "HMAC_SHA_384"
	MACHMACSHA512 MACAlgorithm = "HMAC_SHA_512"
)

// AgreementAlgorithm is a KeyAgreementAlgorithmSpec.
type AgreementAlgorithm string

// AgreeECDH is the only key agreement: the raw shared x coordinate (SP 800-56A, 5.7.1.2).
const AgreeECDH AgreementAlgorithm = "ECDH"

// WrappingAlgorithm is how imported key material is wrapped.
type WrappingAlgorithm string

// The wrapping algorithms of GetParametersForImport.
const (
	WrapPKCS1        WrappingAlgorithm = "RSAES_PKCS1_V1_5" // withdrawn by AWS; refused
	WrapOAEPSHA1     WrappingAlgorithm = "RSAES_OAEP_SHA_1"
	WrapOAEPSHA256   WrappingAlgorithm = "RSAES_OAEP_SHA_256"
	WrapRSAAESKWSHA1 WrappingAlgorithm = "RSA_AES_KEY_WRAP_SHA_1"
	WrapRSAAESKW256  WrappingAlgorithm = "RSA_AES_KEY_WRAP_SHA_256"
	WrapSM2PKE       WrappingAlgorithm = "SM2PKE" // refused
)

// Family is a kind of key.
type Family uint8

// The families.
const (
	FamilyNone Family = iota
	FamilySymmetric
	FamilyHMAC
	FamilyRSA
	FamilyECC     // ECDSA, and ECDH on the NIST curves
	FamilyEdwards // Ed25519
	FamilyMLDSA
)

// traits are what is fixed by a spec.
type traits struct {
	family     Family
	usages     []Usage
	encryption []EncryptionAlgorithm
	signing    []SigningAlgorithm // cosign and others take the first
	mac        []MACAlgorithm
	agreement  []AgreementAlgorithm
}

var (
	rsaSigning = []SigningAlgorithm{
		SignPKCS1SHA256, SignPKCS1SHA384, SignPKCS1SHA512, SignPSSSHA256, SignPSSSHA384, SignPSSSHA512,
	}
	rsaTraits   = traits{FamilyRSA, []Usage{EncryptDecrypt, SignVerify}, []EncryptionAlgorithm{EncryptOAEPSHA1, EncryptOAEPSHA256}, rsaSigning, nil, nil}
	mldsaTraits = traits{FamilyMLDSA, []Usage{SignVerify}, nil, []SigningAlgorithm{SignMLDSA}, nil, nil}
)

func nist(a SigningAlgorithm) traits {
	return traits{FamilyECC, []Usage{SignVerify, KeyAgreement}, nil, []SigningAlgorithm{a}, nil, []AgreementAlgorithm{AgreeECDH}}
}

func hmacTraits(a MACAlgorithm) traits {
	return traits{FamilyHMAC, []Usage{GenerateVerifyMAC}, nil, nil, []MACAlgorithm{a}, nil}
}

var specs = map[Spec]traits{
	SymmetricDefault: {FamilySymmetric, []Usage{EncryptDecrypt}, []EncryptionAlgorithm{EncryptSymmetric}, nil, nil, nil},
	HMAC224:          hmacTraits(MACHMACSHA224),
	HMAC256:          hmacTraits(MACHMACSHA256),
	HMAC384:          hmacTraits(MACHMACSHA384),
	HMAC512:          hmacTraits(MACHMACSHA512),
	RSA2048:          rsaTraits,
	RSA3072:          rsaTraits,
	RSA4096:          rsaTraits,
	ECCNISTP256:      nist(SignECDSASHA256),
	ECCNISTP384:      nist(SignECDSASHA384),
	ECCNISTP521:      nist(SignECDSASHA512),
	ECCSECGP256K1:    {FamilyECC, []Usage{SignVerify}, nil, []SigningAlgorithm{SignECDSASHA256}, nil, nil},
	ECCEdwards25519:  {FamilyEdwards, []Usage{SignVerify}, nil, []SigningAlgorithm{SignEd25519, SignEd25519ph}, nil, nil},
	MLDSA44:          mldsaTraits,
	MLDSA65:          mldsaTraits,
	MLDSA87:          mldsaTraits,
}

// Known reports whether keys of the spec can be made here.
func (s Spec) Known() bool { _, ok := specs[s]; return ok }

// Family is the kind of key, FamilyNone for an unknown spec.
func (s Spec) Family() Family { return specs[s].family }

// Asymmetric reports whether keys of the spec have a public half.
func (s Spec) Asymmetric() bool { return s.Family() > FamilyHMAC }

// Usages are what a key of the spec may be for; the caller does not change them,
// as with the algorithms below.
func (s Spec) Usages() []Usage { return specs[s].usages }

// Allows reports whether a key of the spec may have the usage.
func (s Spec) Allows(u Usage) bool { return slices.Contains(specs[s].usages, u) }

// EncryptionAlgorithms are those of a key of the spec with usage EncryptDecrypt.
func (s Spec) EncryptionAlgorithms() []EncryptionAlgorithm { return specs[s].encryption }

// SigningAlgorithms are those of a key of the spec with usage SignVerify.
func (s Spec) SigningAlgorithms() []SigningAlgorithm { return specs[s].signing }

// MACAlgorithms are those of a key of the spec.
func (s Spec) MACAlgorithms() []MACAlgorithm { return specs[s].mac }

// AgreementAlgorithms are those of a key of the spec with usage KeyAgreement.
func (s Spec) AgreementAlgorithms() []AgreementAlgorithm { return specs[s].agreement }
