package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func agreement(k *kms.Key) { k.Usage = keyspec.KeyAgreement }

func TestDeriveSharedSecret(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	who, ctx := kmstest.Admin(t), t.Context()
	for spec, curve := range map[keyspec.Spec]ecdh.Curve{
		keyspec.ECCNISTP256: ecdh.P256(), keyspec.ECCNISTP384: ecdh.P384(), keyspec.ECCNISTP521: ecdh.P521(),
	} {
		k := f.Key(t, spec, agreement)
		mine, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.DeriveSharedSecret(ctx, who, &kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: keyspec.AgreeECDH, PublicKey: peer})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if out.KeyID != k.ARN() || out.KeyAgreementAlgorithm != keyspec.AgreeECDH || out.KeyOrigin != kms.OriginKMS {
			t.Errorf("%s: got %s, %s, %s", spec, out.KeyID, out.KeyAgreementAlgorithm, out.KeyOrigin)
		}
		if e := f.Last(t); e.Op != "kms.derive_shared_secret" || len(e.Call.Response) != 0 ||
			!slices.Equal(e.Call.Request, []audit.Param{{Name: "keyId", Value: k.ID}, {Name: "keyAgreementAlgorithm", Value: "ECDH"}}) {
			t.Errorf("%s: entry %s, %v", spec, e.Op, e.Call.Request)
		}
		theirs, err := curve.NewPublicKey(point(t, k.Materials[0].Public))
		if err != nil {
			t.Fatal(err)
		}
		want, err := mine.ECDH(theirs)
		if err != nil || !bytes.Equal(want, out.SharedSecret.Expose()) {
			t.Errorf("%s: %v, or another secret", spec, err)
		}
	}
}

// point is the point of a public key on a NIST curve.
func point(t *testing.T, spki []byte) []byte {
	t.Helper()
	k, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	e, err := k.(interface {
		ECDH() (*ecdh.PublicKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return e.Bytes()
}

func TestDeriveSharedSecretRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, p384 := f.Key(t, keyspec.ECCNISTP256, agreement), f.Key(t, keyspec.ECCNISTP384, agreement)
	signing := f.Key(t, keyspec.ECCNISTP256)
	who, ctx, peer := kmstest.Admin(t), t.Context(), signing.Materials[0].Public
	const one, a = "1 validation error detected: ", keyspec.AgreeECDH
	for name, c := range map[string]struct {
		in   kms.DeriveSharedSecretInput
		code kms.Code
		want string
	}{
		"no key":            {kms.DeriveSharedSecretInput{KeyAgreementAlgorithm: a, PublicKey: peer}, kms.CodeValidation, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"no algorithm":      {kms.DeriveSharedSecretInput{KeyID: k.ID, PublicKey: peer}, kms.CodeValidation, one + "Value null at 'keyAgreementAlgorithm' failed to satisfy constraint: Member must not be null"},
		"unknown algorithm": {kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: "X25519", PublicKey: peer}, kms.CodeValidation, one + "Value 'X25519' at 'keyAgreementAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [ECDH]"},
		"no public key":     {kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: a}, kms.CodeValidation, one + "Value null at 'publicKey' failed to satisfy constraint: Member must not be null"},
		"long public key":   {kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: a, PublicKey: make([]byte, 8193)}, kms.CodeValidation, one + "Value at 'publicKey' failed to satisfy constraint: Member must have length less than or equal to 8192"},
		"signing key":       {kms.DeriveSharedSecretInput{KeyID: signing.ID, KeyAgreementAlgorithm: a, PublicKey: peer}, kms.CodeInvalidKeyUsage, signing.ARN() + " key usage is SIGN_VERIFY which is not valid for DeriveSharedSecret."},
		"dry run":           {kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: a, PublicKey: peer, DryRun: true}, kms.CodeDryRun, "The request would have succeeded, but the DryRun option is set."},
	} {
		out, err := f.DeriveSharedSecret(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, c.want)
		if e := f.Last(t); out != nil || e.Outcome != audit.Failed || e.Call.Error != string(c.code) {
			t.Errorf("%s: entry %s %s", name, e.Outcome, e.Call.Error)
		}
	}
	for name, in := range map[string]kms.DeriveSharedSecretInput{
		"other curve": {KeyID: p384.ID, KeyAgreementAlgorithm: a, PublicKey: peer},
		"garbage":     {KeyID: k.ID, KeyAgreementAlgorithm: a, PublicKey: []byte("garbage")},
		"dry run":     {KeyID: k.ID, KeyAgreementAlgorithm: a, PublicKey: []byte("garbage"), DryRun: true},
	} {
		_, err := f.DeriveSharedSecret(ctx, who, &in)
		if e := f.Last(t); err == nil || e.Call.Error != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	only := allowed(t, `"kms:DeriveSharedSecret"`, `{"StringNotEquals":{"kms:KeyAgreementAlgorithm":"ECDH"}}`)
	_, err := f.DeriveSharedSecret(ctx, only, &kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: a, PublicKey: peer})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:DeriveSharedSecret on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:DeriveSharedSecret action")
}

func TestGetPublicKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	who, ctx := kmstest.Admin(t), t.Context()
	for _, c := range []struct {
		spec       keyspec.Spec
		usage      keyspec.Usage
		encryption []keyspec.EncryptionAlgorithm
		signing    []keyspec.SigningAlgorithm
		agreement  []keyspec.AgreementAlgorithm
	}{
		{spec: keyspec.RSA2048, usage: keyspec.EncryptDecrypt, encryption: []keyspec.EncryptionAlgorithm{keyspec.EncryptOAEPSHA1, keyspec.EncryptOAEPSHA256}},
		{spec: keyspec.RSA2048, usage: keyspec.SignVerify, signing: keyspec.RSA2048.SigningAlgorithms()},
		{spec: keyspec.ECCNISTP256, usage: keyspec.SignVerify, signing: []keyspec.SigningAlgorithm{keyspec.SignECDSASHA256}},
		{spec: keyspec.ECCNISTP256, usage: keyspec.KeyAgreement, agreement: []keyspec.AgreementAlgorithm{keyspec.AgreeECDH}},
		{spec: keyspec.MLDSA65, usage: keyspec.SignVerify, signing: []keyspec.SigningAlgorithm{keyspec.SignMLDSA}},
	} {
		k := f.Key(t, c.spec, func(k *kms.Key) { k.Usage = c.usage })
		out, err := f.GetPublicKey(ctx, who, &kms.GetPublicKeyInput{KeyID: k.ID})
		if err != nil {
			t.Fatalf("%s: %v", c.spec, err)
		}
		if out.KeyID != k.ARN() || out.KeySpec != c.spec || out.CustomerMasterKeySpec != c.spec || out.KeyUsage != c.usage || !bytes.Equal(out.PublicKey, k.Materials[0].Public) ||
			!slices.Equal(out.EncryptionAlgorithms, c.encryption) || !slices.Equal(out.SigningAlgorithms, c.signing) || !slices.Equal(out.KeyAgreementAlgorithms, c.agreement) {
			t.Errorf("%s: got %+v", c.spec, out)
		}
		if e := f.Last(t); e.Op != "kms.get_public_key" || !slices.Equal(e.Call.Request, []audit.Param{{Name: "keyId", Value: k.ID}}) || !e.Call.ReadOnly {
			t.Errorf("%s: entry %+v", c.spec, e)
		}
	}
	for _, k := range []*kms.Key{f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.HMAC512)} {
		_, err := f.GetPublicKey(ctx, who, &kms.GetPublicKeyInput{KeyID: k.ID})
		kmstest.Refused(t, err, kms.CodeUnsupported, k.ARN()+" key spec is "+string(k.Spec)+" which is not valid for GetPublicKey.")
	}
	_, err := f.GetPublicKey(ctx, who, &kms.GetPublicKeyInput{})
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
}
