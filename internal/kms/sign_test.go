package kms_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"slices"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func signer(k *kms.Key) { k.Usage = keyspec.SignVerify }

func TestSignThenVerify(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	who, ctx, message := kmstest.Admin(t), t.Context(), []byte("a message")
	sum256, sum512 := sha256.Sum256(message), sha512.Sum512(message)
	sum384 := sha512.Sum384(message)
	digests := map[keyspec.SigningAlgorithm][]byte{
		keyspec.SignPSSSHA256: sum256[:], keyspec.SignPKCS1SHA256: sum256[:], keyspec.SignECDSASHA256: sum256[:],
		keyspec.SignPSSSHA384: sum384[:], keyspec.SignPKCS1SHA384: sum384[:], keyspec.SignECDSASHA384: sum384[:],
		keyspec.SignPSSSHA512: sum512[:], keyspec.SignPKCS1SHA512: sum512[:], keyspec.SignECDSASHA512: sum512[:], keyspec.SignEd25519ph: sum512[:],
	}
	for _, spec := range []keyspec.Spec{
		keyspec.RSA2048, keyspec.ECCNISTP256, keyspec.ECCNISTP384, keyspec.ECCNISTP521, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519,
		keyspec.MLDSA44, keyspec.MLDSA65, keyspec.MLDSA87,
	} {
		k, other := f.Key(t, spec, signer), f.Key(t, spec, signer)
		for _, a := range spec.SigningAlgorithms() {
			var types []keyspec.MessageType
			if a != keyspec.SignEd25519ph {
				types = append(types, "", keyspec.MessageRaw)
			}
			if digests[a] != nil {
				types = append(types, keyspec.MessageDigest)
			}
			if a == keyspec.SignMLDSA {
				types = append(types, keyspec.MessageExternalMu)
			}
			for _, kind := range types {
				m := message
				switch kind {
				case keyspec.MessageDigest:
					m = digests[a]
				case keyspec.MessageExternalMu:
					m = sum512[:]
				case keyspec.MessageRaw:
				}
				name := string(spec) + " " + string(a) + " " + string(kind)
				signed, err := f.Sign(ctx, who, &kms.SignInput{KeyID: k.ID, Message: m, SigningAlgorithm: a, MessageType: kind})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if signed.KeyID != k.ARN() || signed.SigningAlgorithm != a {
					t.Errorf("%s: got %s, %s", name, signed.KeyID, signed.SigningAlgorithm)
				}
				want := []audit.Param{{Name: "keyId", Value: k.ID}, {Name: "messageType", Value: string(kind)}, {Name: "signingAlgorithm", Value: string(a)}}
				if kind == "" {
					want[1].Value = "RAW"
				}
				if e := f.Last(t); e.Op != "kms.sign" || !slices.Equal(e.Call.Request, want) || len(e.Call.Response) != 0 {
					t.Errorf("%s: entry %s, %v, %v", name, e.Op, e.Call.Request, e.Call.Response)
				}
				verify := func(k *kms.Key, m, signature []byte) (*kms.VerifyOutput, error) {
					return f.Verify(ctx, who, &kms.VerifyInput{KeyID: k.ID, Message: m, Signature: signature, SigningAlgorithm: a, MessageType: kind})
				}
				out, err := verify(k, m, signed.Signature)
				if err != nil || !out.SignatureValid || out.KeyID != k.ARN() || out.SigningAlgorithm != a {
					t.Errorf("%s: verify: %+v, %v", name, out, err)
				}
				if e := f.Last(t); e.Op != "kms.verify" || e.Outcome != audit.Allowed || !slices.Equal(e.Call.Request, want) {
					t.Errorf("%s: entry %s, %v", name, e.Op, e.Call.Request)
				}
				wrong := slices.Clone(m)
				wrong[0] ^= 1
				bad := slices.Clone(signed.Signature)
				bad[len(bad)-1] ^= 1
				for what, try := range map[string]func() (*kms.VerifyOutput, error){
					"other message":   func() (*kms.VerifyOutput, error) { return verify(k, wrong, signed.Signature) },
					"other signature": func() (*kms.VerifyOutput, error) { return verify(k, m, bad) },
					"other key":       func() (*kms.VerifyOutput, error) { return verify(other, m, signed.Signature) },
					"short signature": func() (*kms.VerifyOutput, error) { return verify(k, m, []byte{1}) },
				} {
					out, err := try()
					if out != nil {
						t.Errorf("%s, %s: got an output", name, what)
					}
					kmstest.Refused(t, err, kms.CodeInvalidSignature, "")
					if e := f.Last(t); e.Outcome != audit.Failed || e.Result != "kms_invalid_signature" || e.Detail != "the signature is not valid" {
						t.Errorf("%s, %s: entry %s %q", name, what, e.Result, e.Detail)
					}
				}
			}
		}
	}
}

func TestSignAndVerifyRefuse(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	p256, ed, mldsa := f.Key(t, keyspec.ECCNISTP256), f.Key(t, keyspec.ECCEdwards25519), f.Key(t, keyspec.MLDSA44)
	symmetric, hmac := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.HMAC256)
	agreement := f.Key(t, keyspec.ECCNISTP256, func(k *kms.Key) { k.Usage = keyspec.KeyAgreement })
	rsa := f.Key(t, keyspec.RSA2048)
	who, ctx, m := kmstest.Admin(t), t.Context(), []byte("a message")
	const one, ecdsa = "1 validation error detected: ", keyspec.SignECDSASHA256
	usage := func(k *kms.Key) string {
		return k.ARN() + " key usage is " + string(k.Usage) + " which is not valid for OPERATION."
	}
	for name, c := range map[string]struct {
		in   kms.SignInput
		code kms.Code
		want string
	}{
		"no key":        {kms.SignInput{Message: m, SigningAlgorithm: ecdsa}, kms.CodeValidation, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"no message":    {kms.SignInput{KeyID: p256.ID, SigningAlgorithm: ecdsa}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must not be null"},
		"empty message": {kms.SignInput{KeyID: p256.ID, Message: []byte{}, SigningAlgorithm: ecdsa}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long message":  {kms.SignInput{KeyID: p256.ID, Message: make([]byte, 4097), SigningAlgorithm: ecdsa}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"no algorithm":  {kms.SignInput{KeyID: p256.ID, Message: m}, kms.CodeValidation, one + "Value null at 'signingAlgorithm' failed to satisfy constraint: Member must not be null"},
		"unknown algorithm": {kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: "FOO"}, kms.CodeValidation, one + "Value 'FOO' at 'signingAlgorithm' failed to satisfy constraint: " +
			"Member must satisfy enum value set: [RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, RSASSA_PKCS1_V1_5_SHA_384, " +
			"RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256]"},
		"unknown message type": {
			kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: ecdsa, MessageType: "FOO"},
			kms.CodeValidation,
			one + "Value 'FOO' at 'messageType' failed to satisfy constraint: Member must satisfy enum value set: [RAW, DIGEST, EXTERNAL_MU]",
		},
		"algorithm of another curve": {kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: keyspec.SignECDSASHA384}, kms.CodeInvalidKeyUsage, "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256."},
		"SM2":                        {kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: "SM2DSA"}, kms.CodeInvalidKeyUsage, "Algorithm SM2DSA is incompatible with key spec ECC_NIST_P256."},
		"algorithm before digest":    {kms.SignInput{KeyID: p256.ID, Message: m, MessageType: keyspec.MessageDigest, SigningAlgorithm: keyspec.SignECDSASHA384}, kms.CodeInvalidKeyUsage, "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256."},
		"digest of another length":   {kms.SignInput{KeyID: p256.ID, Message: m, MessageType: keyspec.MessageDigest, SigningAlgorithm: ecdsa}, kms.CodeValidation, "Digest is invalid length for algorithm ECDSA_SHA_256."},
		"Ed25519 of a digest":        {kms.SignInput{KeyID: ed.ID, Message: make([]byte, 64), MessageType: keyspec.MessageDigest, SigningAlgorithm: keyspec.SignEd25519}, kms.CodeValidation, "Message type DIGEST is incompatible with algorithm ED25519_SHA_512."},
		"Ed25519ph of a message":     {kms.SignInput{KeyID: ed.ID, Message: m, SigningAlgorithm: keyspec.SignEd25519ph}, kms.CodeValidation, "Message type RAW is incompatible with algorithm ED25519_PH_SHA_512."},
		"ML-DSA of a digest":         {kms.SignInput{KeyID: mldsa.ID, Message: m, MessageType: keyspec.MessageDigest, SigningAlgorithm: keyspec.SignMLDSA}, kms.CodeValidation, "Message type DIGEST is incompatible with key spec ML_DSA_44."},
		"ECDSA of an external mu":    {kms.SignInput{KeyID: p256.ID, Message: make([]byte, 64), MessageType: keyspec.MessageExternalMu, SigningAlgorithm: ecdsa}, kms.CodeValidation, "Message type EXTERNAL_MU is incompatible with algorithm ECDSA_SHA_256."},
		"symmetric key":              {kms.SignInput{KeyID: symmetric.ID, Message: m, SigningAlgorithm: ecdsa}, kms.CodeInvalidKeyUsage, usage(symmetric)},
		"HMAC key":                   {kms.SignInput{KeyID: hmac.ID, Message: m, SigningAlgorithm: ecdsa}, kms.CodeInvalidKeyUsage, usage(hmac)},
		"key for agreement":          {kms.SignInput{KeyID: agreement.ID, Message: m, SigningAlgorithm: ecdsa}, kms.CodeInvalidKeyUsage, usage(agreement)},
		"key for encryption":         {kms.SignInput{KeyID: rsa.ID, Message: m, SigningAlgorithm: keyspec.SignPSSSHA256}, kms.CodeInvalidKeyUsage, usage(rsa)},
	} {
		text := func(op string) string { return replaceOperation(c.want, op) }
		out, err := f.Sign(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, text("Sign"))
		if e := f.Last(t); out != nil || e.Outcome != audit.Failed || e.Call.Error != string(c.code) {
			t.Errorf("%s: entry %s %s", name, e.Outcome, e.Call.Error)
		}
		_, err = f.Verify(ctx, who, &kms.VerifyInput{
			KeyID: c.in.KeyID, Message: c.in.Message, MessageType: c.in.MessageType, SigningAlgorithm: c.in.SigningAlgorithm, Signature: []byte("x"),
		})
		kmstest.Refused(t, err, c.code, text("Verify"))
	}
	for want, signature := range map[string][]byte{
		one + "Value null at 'signature' failed to satisfy constraint: Member must not be null":                       nil,
		one + "Value at 'signature' failed to satisfy constraint: Member must have length greater than or equal to 1": {},
		one + "Value at 'signature' failed to satisfy constraint: Member must have length less than or equal to 6144": make([]byte, 6145),
	} {
		_, err := f.Verify(ctx, who, &kms.VerifyInput{KeyID: p256.ID, Message: m, SigningAlgorithm: ecdsa, Signature: signature})
		kmstest.Refused(t, err, kms.CodeValidation, want)
	}
}

func replaceOperation(s, op string) string {
	const mark = "OPERATION."
	if n := len(s) - len(mark); n >= 0 && s[n:] == mark {
		return s[:n] + op + "."
	}
	return s
}

func TestDryRunOfSignAndVerify(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.ECCNISTP256)
	who, ctx, m := kmstest.Admin(t), t.Context(), []byte("a message")
	const would, a = "The request would have succeeded, but the DryRun option is set.", keyspec.SignECDSASHA256
	signed, err := f.Sign(ctx, who, &kms.SignInput{KeyID: k.ID, Message: m, SigningAlgorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.Sign(ctx, who, &kms.SignInput{KeyID: k.ID, Message: m, SigningAlgorithm: a, DryRun: true})
	kmstest.Refused(t, err, kms.CodeDryRun, would)
	if out != nil {
		t.Error("a dry run signs")
	}
	_, err = f.Verify(ctx, who, &kms.VerifyInput{KeyID: k.ID, Message: m, Signature: signed.Signature, SigningAlgorithm: a, DryRun: true})
	kmstest.Refused(t, err, kms.CodeDryRun, would)
	_, err = f.Verify(ctx, who, &kms.VerifyInput{KeyID: k.ID, Message: []byte("another"), Signature: signed.Signature, SigningAlgorithm: a, DryRun: true})
	kmstest.Refused(t, err, kms.CodeInvalidSignature, "")
	_, err = f.Sign(ctx, who, &kms.SignInput{KeyID: k.ID, Message: m, MessageType: keyspec.MessageDigest, SigningAlgorithm: a, DryRun: true})
	kmstest.Refused(t, err, kms.CodeValidation, "Digest is invalid length for algorithm ECDSA_SHA_256.")
}

func TestConditionsOnSignatures(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.RSA2048, signer)
	who := allowed(t, `"kms:Sign","kms:Verify"`, `{"StringEquals":{"kms:SigningAlgorithm":"RSASSA_PSS_SHA_256","kms:MessageType":"RAW"}}`)
	m := []byte("a message")
	if _, err := f.Sign(t.Context(), who, &kms.SignInput{KeyID: k.ID, Message: m, SigningAlgorithm: keyspec.SignPSSSHA256}); err != nil {
		t.Errorf("allowed: %v", err)
	}
	denied := func(action string) string {
		return "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:" + action + " on resource: " + k.ARN() +
			" because no identity-based policy allows the kms:" + action + " action"
	}
	_, err := f.Sign(t.Context(), who, &kms.SignInput{KeyID: k.ID, Message: m, SigningAlgorithm: keyspec.SignPKCS1SHA256})
	kmstest.Refused(t, err, kms.CodeAccessDenied, denied("Sign"))
	_, err = f.Sign(t.Context(), who, &kms.SignInput{KeyID: k.ID, Message: make([]byte, 32), SigningAlgorithm: keyspec.SignPSSSHA256, MessageType: keyspec.MessageDigest})
	kmstest.Refused(t, err, kms.CodeAccessDenied, denied("Sign"))
	_, err = f.Verify(t.Context(), who, &kms.VerifyInput{KeyID: k.ID, Message: m, Signature: m, SigningAlgorithm: keyspec.SignPSSSHA512})
	kmstest.Refused(t, err, kms.CodeAccessDenied, denied("Verify"))
	_, err = f.Verify(t.Context(), who, &kms.VerifyInput{KeyID: k.ID, Message: m, Signature: m, SigningAlgorithm: keyspec.SignPSSSHA256})
	kmstest.Refused(t, err, kms.CodeInvalidSignature, "")
}
