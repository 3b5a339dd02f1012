package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"
)

// TestCosign does what cosign does by sigstore's library to make a key and sign with
// it: look the alias up, make the key only if that is exactly NotFoundException, take
// the first signing algorithm, sign a digest, and verify with the public key alone.
func TestCosign(t *testing.T) {
	t.Parallel()
	sdk := serve(t).sdk()
	for _, spec := range []types.KeySpec{
		types.KeySpecEccNistP256, types.KeySpecEccNistP384, types.KeySpecEccNistP521, types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecRsa4096,
	} {
		t.Run(string(spec), func(t *testing.T) {
			t.Parallel()
			alias := "alias/cosign-" + uuid.NewString()
			_, err := sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias})
			if _, is := errors.AsType[*types.NotFoundException](err); !is {
				t.Fatalf("got %v, want NotFoundException", err)
			}
			key := newKey(t, sdk, kms.CreateKeyInput{CustomerMasterKeySpec: types.CustomerMasterKeySpec(spec), KeyUsage: types.KeyUsageTypeSignVerify}) //nolint:staticcheck // sigstore still sends it
			if _, err := sdk.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &key}); err != nil {
				t.Fatal(err)
			}
			pub, err := sdk.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &alias})
			if err != nil {
				t.Fatal(err)
			}
			algorithm := pub.SigningAlgorithms[0]
			hash, digest := digestOf(t, algorithm, []byte("an image"))
			signed, err := sdk.Sign(t.Context(), &kms.SignInput{
				KeyId: &alias, MessageType: types.MessageTypeDigest, Message: digest, SigningAlgorithm: algorithm,
			})
			if err != nil {
				t.Fatal(err)
			}
			if !verifies(t, pub.PublicKey, algorithm, hash, digest, signed.Signature) {
				t.Errorf("the signature by %s does not verify with the public key", algorithm)
			}
			_, other := digestOf(t, algorithm, []byte("another image"))
			if verifies(t, pub.PublicKey, algorithm, hash, other, signed.Signature) {
				t.Error("the signature verifies for another image")
			}
			_, err = sdk.Verify(t.Context(), &kms.VerifyInput{
				KeyId: &alias, MessageType: types.MessageTypeDigest, Message: other, SigningAlgorithm: algorithm, Signature: signed.Signature,
			})
			if _, is := errors.AsType[*types.KMSInvalidSignatureException](err); !is {
				t.Errorf("got %v, want KMSInvalidSignatureException", err)
			}
			disable(t, sdk, key)
			_, err = sdk.Sign(t.Context(), &kms.SignInput{
				KeyId: &alias, MessageType: types.MessageTypeDigest, Message: digest, SigningAlgorithm: algorithm,
			})
			refused(t, err, "DisabledException", key+" is disabled.")
		})
	}
}

func TestEd25519SignatureVerifiesWithThePublicKeyAlone(t *testing.T) {
	t.Parallel()
	sdk := serve(t).sdk()
	key := newKey(t, sdk, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistEdwards25519, KeyUsage: types.KeyUsageTypeSignVerify})
	pub, err := sdk.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sdk.Sign(t.Context(), &kms.SignInput{
		KeyId: &key, MessageType: types.MessageTypeRaw, Message: []byte("a release"), SigningAlgorithm: pub.SigningAlgorithms[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(pub.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(public.(ed25519.PublicKey), []byte("a release"), signed.Signature) {
		t.Errorf("the signature by %s does not verify", pub.SigningAlgorithms[0])
	}
}

// digestOf hashes a message as an algorithm of KMS wants it.
func digestOf(t *testing.T, a types.SigningAlgorithmSpec, message []byte) (crypto.Hash, []byte) {
	t.Helper()
	switch a[len(a)-3:] {
	case "256":
		d := sha256.Sum256(message)
		return crypto.SHA256, d[:]
	case "384":
		d := sha512.Sum384(message)
		return crypto.SHA384, d[:]
	case "512":
		d := sha512.Sum512(message)
		return crypto.SHA512, d[:]
	}
	t.Fatalf("no hash of %s", a)
	return 0, nil
}

// verifies checks a signature by the standard library.
func verifies(t *testing.T, pkix []byte, a types.SigningAlgorithmSpec, hash crypto.Hash, digest, signature []byte) bool {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(pkix)
	if err != nil {
		t.Fatal(err)
	}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		if a[:len("RSASSA_PSS")] == "RSASSA_PSS" {
			return rsa.VerifyPSS(k, hash, digest, signature, nil) == nil
		}
		return rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil
	}
	t.Fatalf("got a %T", public)
	return false
}
