package kms_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

func TestGenerateDataKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	who, ctx, pairs := kmstest.Admin(t), t.Context(), map[string]string{"a": "b"}
	one, most := int32(1), int32(1024)
	for name, c := range map[string]struct {
		spec  kms.DataKeySpec
		bytes *int32
		want  int
		param audit.Param
	}{
		"AES_256":    {kms.DataKeyAES256, nil, 32, audit.Param{Name: "keySpec", Value: "AES_256"}},
		"AES_128":    {kms.DataKeyAES128, nil, 16, audit.Param{Name: "keySpec", Value: "AES_128"}},
		"1 byte":     {"", &one, 1, audit.Param{Name: "numberOfBytes", Value: "1"}},
		"1024 bytes": {"", &most, 1024, audit.Param{Name: "numberOfBytes", Value: "1024"}},
	} {
		out, err := f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: c.spec, NumberOfBytes: c.bytes, EncryptionContext: pairs})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out.Plaintext.Len() != c.want || out.KeyID != k.ARN() || out.KeyMaterialID != k.Materials[0].ID {
			t.Errorf("%s: %d bytes, %s, %s", name, out.Plaintext.Len(), out.KeyID, out.KeyMaterialID)
		}
		e := f.Last(t)
		if e.Op != "kms.generate_data_key" || !slices.Equal(e.Call.Request, []audit.Param{{Name: "keyId", Value: k.ID}, c.param}) ||
			!slices.Equal(e.Call.Context, []audit.Param{{Name: "a", Value: "b"}}) || !slices.Equal(e.Call.Response, []audit.Param{{Name: "keyMaterialId", Value: out.KeyMaterialID}}) {
			t.Errorf("%s: entry %s, %v, %v, %v", name, e.Op, e.Call.Request, e.Call.Context, e.Call.Response)
		}
		p, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: pairs})
		if err != nil || !p.Plaintext.Equal(out.Plaintext) {
			t.Errorf("%s: decrypt: %v, or another key", name, err)
		}
		later, err := f.GenerateDataKeyWithoutPlaintext(ctx, who, &kms.GenerateDataKeyWithoutPlaintextInput{KeyID: k.ID, KeySpec: c.spec, NumberOfBytes: c.bytes, EncryptionContext: pairs})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e := f.Last(t); e.Op != "kms.generate_data_key_without_plaintext" || later.KeyID != k.ARN() || later.KeyMaterialID != k.Materials[0].ID {
			t.Errorf("%s: entry %s, output %s, %s", name, e.Op, later.KeyID, later.KeyMaterialID)
		}
		again, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: later.CiphertextBlob, EncryptionContext: pairs})
		if err != nil || again.Plaintext.Len() != c.want || c.want > 1 && again.Plaintext.Equal(out.Plaintext) {
			t.Errorf("%s without plaintext: %v, %d bytes, or the same key", name, err, again.Plaintext.Len())
		}
	}
}

func TestGenerateDataKeyRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, asymmetric, hmac := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.RSA2048), f.Key(t, keyspec.HMAC256)
	zero, many, some := int32(0), int32(1025), int32(32)
	who, ctx := kmstest.Admin(t), t.Context()
	const one, either = "1 validation error detected: ", "Please specify either number of bytes or key spec."
	for name, c := range map[string]struct {
		in   kms.GenerateDataKeyInput
		code kms.Code
		want string
	}{
		"neither":        {kms.GenerateDataKeyInput{KeyID: k.ID}, kms.CodeValidation, either},
		"both":           {kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256, NumberOfBytes: &some}, kms.CodeValidation, either},
		"no bytes":       {kms.GenerateDataKeyInput{KeyID: k.ID, NumberOfBytes: &zero}, kms.CodeValidation, one + "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"too many bytes": {kms.GenerateDataKeyInput{KeyID: k.ID, NumberOfBytes: &many}, kms.CodeValidation, one + "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"unknown spec":   {kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: "AES_257"}, kms.CodeValidation, one + "Value 'AES_257' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
		"no key":         {kms.GenerateDataKeyInput{KeySpec: kms.DataKeyAES256}, kms.CodeValidation, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"asymmetric key": {kms.GenerateDataKeyInput{KeyID: asymmetric.ID, KeySpec: kms.DataKeyAES256}, kms.CodeInvalidKeyUsage, "You cannot generate a data key with an asymmetric CMK"},
		"HMAC key":       {kms.GenerateDataKeyInput{KeyID: hmac.ID, KeySpec: kms.DataKeyAES256}, kms.CodeInvalidKeyUsage, hmac.ARN() + " key usage is GENERATE_VERIFY_MAC which is not valid for GenerateDataKey."},
		"dry run":        {kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256, DryRun: true}, kms.CodeDryRun, "The request would have succeeded, but the DryRun option is set."},
	} {
		n := len(f.Entries(t))
		out, err := f.GenerateDataKey(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, c.want)
		_, err = f.GenerateDataKeyWithoutPlaintext(ctx, who, &kms.GenerateDataKeyWithoutPlaintextInput{
			KeyID: c.in.KeyID, KeySpec: c.in.KeySpec, NumberOfBytes: c.in.NumberOfBytes, DryRun: c.in.DryRun,
		})
		if name != "HMAC key" {
			kmstest.Refused(t, err, c.code, c.want)
		} else {
			kmstest.Refused(t, err, c.code, hmac.ARN()+" key usage is GENERATE_VERIFY_MAC which is not valid for GenerateDataKeyWithoutPlaintext.")
		}
		if es := f.Entries(t); out != nil || len(es) != n+2 || es[n].Outcome != audit.Failed {
			t.Errorf("%s: %d entries", name, len(es)-n)
		}
	}
}

func TestGenerateDataKeyPair(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	who, ctx, pairs := kmstest.Admin(t), t.Context(), map[string]string{"a": "b"}
	for _, spec := range []keyspec.Spec{
		keyspec.RSA2048, keyspec.ECCNISTP256, keyspec.ECCNISTP384, keyspec.ECCNISTP521, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519,
	} {
		out, err := f.GenerateDataKeyPair(ctx, who, &kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: spec, EncryptionContext: pairs})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if out.KeyID != k.ARN() || out.KeyMaterialID != k.Materials[0].ID || out.KeyPairSpec != spec {
			t.Errorf("%s: got %s, %s, %s", spec, out.KeyID, out.KeyMaterialID, out.KeyPairSpec)
		}
		e := f.Last(t)
		if e.Op != "kms.generate_data_key_pair" || !slices.Equal(e.Call.Request, []audit.Param{{Name: "keyId", Value: k.ID}, {Name: "keyPairSpec", Value: string(spec)}}) ||
			!slices.Equal(e.Call.Context, []audit.Param{{Name: "a", Value: "b"}}) {
			t.Errorf("%s: entry %s, %v, %v", spec, e.Op, e.Call.Request, e.Call.Context)
		}
		p, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob, EncryptionContext: pairs})
		if err != nil || !p.Plaintext.Equal(out.PrivateKeyPlaintext) {
			t.Errorf("%s: decrypt: %v, or another key", spec, err)
		}
		if !isPair(t, spec, out.PrivateKeyPlaintext, out.PublicKey) {
			t.Errorf("%s: the halves do not belong together", spec)
		}
		later, err := f.GenerateDataKeyPairWithoutPlaintext(ctx, who, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyID: k.ID, KeyPairSpec: spec})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		private, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: later.PrivateKeyCiphertextBlob})
		if err != nil || !isPair(t, spec, private.Plaintext, later.PublicKey) || later.KeyPairSpec != spec || later.KeyID != k.ARN() || later.KeyMaterialID != k.Materials[0].ID {
			t.Errorf("%s without plaintext: %v, or halves that do not belong together", spec, err)
		}
		if e := f.Entries(t); e[len(e)-2].Op != "kms.generate_data_key_pair_without_plaintext" {
			t.Errorf("%s: entry %s", spec, e[len(e)-2].Op)
		}
	}
}

// isPair reports whether the halves belong together, by other code where there is some.
func isPair(t *testing.T, spec keyspec.Spec, private secret.Bytes, public []byte) bool {
	t.Helper()
	if spec == keyspec.ECCSECGP256K1 {
		k, err := keyspec.ParsePrivate(spec, private)
		return err == nil && slices.Equal(k.Public(), public)
	}
	pk, err := x509.ParsePKCS8PrivateKey(private.Expose())
	if err != nil {
		t.Error(err)
		return false
	}
	pub, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		t.Error(err)
		return false
	}
	switch pk := pk.(type) {
	case *rsa.PrivateKey:
		return pk.PublicKey.Equal(pub)
	case *ecdsa.PrivateKey:
		return pk.PublicKey.Equal(pub)
	case ed25519.PrivateKey:
		return pk.Public().(ed25519.PublicKey).Equal(pub)
	}
	return false
}

func TestGenerateDataKeyPairRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, asymmetric := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.RSA2048)
	who, ctx := kmstest.Admin(t), t.Context()
	const one = "1 validation error detected: "
	for name, c := range map[string]struct {
		in   kms.GenerateDataKeyPairInput
		code kms.Code
		want string
	}{
		"no spec": {kms.GenerateDataKeyPairInput{KeyID: k.ID}, kms.CodeValidation, one + "Value null at 'keyPairSpec' failed to satisfy constraint: Member must not be null"},
		"unknown spec": {
			kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: "SYMMETRIC_DEFAULT"},
			kms.CodeValidation,
			one + "Value 'SYMMETRIC_DEFAULT' at 'keyPairSpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, " +
				"ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SM2]",
		},
		"SM2":            {kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.SM2}, kms.CodeUnsupported, "Key pairs of spec SM2 are not supported: they exist in the China Regions only."},
		"asymmetric key": {kms.GenerateDataKeyPairInput{KeyID: asymmetric.ID, KeyPairSpec: keyspec.ECCNISTP256}, kms.CodeInvalidKeyUsage, "You cannot generate a data key with an asymmetric CMK"},
		"dry run":        {kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.RSA4096, DryRun: true}, kms.CodeDryRun, "The request would have succeeded, but the DryRun option is set."},
	} {
		out, err := f.GenerateDataKeyPair(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, c.want)
		if e := f.Last(t); out != nil || e.Outcome != audit.Failed || e.Call.Error != string(c.code) {
			t.Errorf("%s: entry %s %s", name, e.Outcome, e.Call.Error)
		}
		_, err = f.GenerateDataKeyPairWithoutPlaintext(ctx, who, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyID: c.in.KeyID, KeyPairSpec: c.in.KeyPairSpec, DryRun: c.in.DryRun})
		kmstest.Refused(t, err, c.code, c.want)
	}
	only := allowed(t, `"kms:GenerateDataKeyPair"`, `{"StringLike":{"kms:DataKeyPairSpec":"ECC_NIST_*"}}`)
	if _, err := f.GenerateDataKeyPair(ctx, only, &kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.ECCNISTP384}); err != nil {
		t.Errorf("allowed pair: %v", err)
	}
	_, err := f.GenerateDataKeyPair(ctx, only, &kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.RSA2048})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:GenerateDataKeyPair on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:GenerateDataKeyPair action")
}

func TestGenerateRandom(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	who, ctx := kmstest.Admin(t), t.Context()
	for _, n := range []int32{1, 32, 1024} {
		out, err := f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: &n})
		if err != nil || out.Plaintext.Len() != int(n) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if e := f.Last(t); e.Op != "kms.generate_random" || !slices.Equal(e.Call.Request, []audit.Param{{Name: "numberOfBytes", Value: "1024"}}) || e.Resource.Key != "" {
		t.Errorf("entry %+v", e)
	}
	zero, many, some := int32(0), int32(1025), int32(8)
	const one = "1 validation error detected: "
	for want, n := range map[string]*int32{
		one + "Value null at 'numberOfBytes' failed to satisfy constraint: Member must not be null":                             nil,
		one + "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1":    &zero,
		one + "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024": &many,
	} {
		_, err := f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: n})
		kmstest.Refused(t, err, kms.CodeValidation, want)
	}
	_, err := f.GenerateRandom(ctx, kmstest.User(t), &kms.GenerateRandomInput{NumberOfBytes: &some})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/user is not authorized to perform: kms:GenerateRandom because no identity-based policy allows the kms:GenerateRandom action")
	if e := f.Last(t); e.Outcome != audit.Denied || e.Detail != "denied: no identity policy allows it" {
		t.Errorf("entry %s %q", e.Outcome, e.Detail)
	}
}
