package kms_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func TestGenerateThenVerifyMAC(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	who, ctx, message := kmstest.Admin(t), t.Context(), []byte("a message")
	for _, spec := range []keyspec.Spec{keyspec.HMAC224, keyspec.HMAC256, keyspec.HMAC384, keyspec.HMAC512} {
		k, a := f.Key(t, spec), spec.MACAlgorithms()[0]
		made, err := f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: k.ID, Message: message, MACAlgorithm: a})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if made.KeyID != k.ARN() || made.MACAlgorithm != a {
			t.Errorf("%s: got %s, %s", spec, made.KeyID, made.MACAlgorithm)
		}
		if e := f.Last(t); e.Op != "kms.generate_mac" || !slices.Equal(e.Call.Request, []audit.Param{{Name: "keyId", Value: k.ID}, {Name: "macAlgorithm", Value: string(a)}}) || len(e.Call.Response) != 0 {
			t.Errorf("%s: entry %s, %v, %v", spec, e.Op, e.Call.Request, e.Call.Response)
		}
		verify := func(m, mac []byte) (*kms.VerifyMACOutput, error) {
			return f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: k.ID, Message: m, MAC: mac, MACAlgorithm: a})
		}
		out, err := verify(message, made.MAC)
		if err != nil || !out.MACValid || out.KeyID != k.ARN() || out.MACAlgorithm != a {
			t.Errorf("%s: verify: %+v, %v", spec, out, err)
		}
		bad := slices.Clone(made.MAC)
		bad[0] ^= 1
		for what, c := range map[string]struct{ message, mac []byte }{
			"other message": {[]byte("another"), made.MAC},
			"other MAC":     {message, bad},
			"short MAC":     {message, made.MAC[:len(made.MAC)-1]},
			"long MAC":      {message, append(slices.Clone(made.MAC), 0)},
		} {
			out, err := verify(c.message, c.mac)
			if out != nil {
				t.Errorf("%s, %s: got an output", spec, what)
			}
			kmstest.Refused(t, err, kms.CodeInvalidMAC, "")
			if e := f.Last(t); e.Op != "kms.verify_mac" || e.Outcome != audit.Failed || e.Detail != "the MAC is not valid" {
				t.Errorf("%s, %s: entry %s %q", spec, what, e.Outcome, e.Detail)
			}
		}
	}
}

// The MAC is plain HMAC under the key's material.
func TestMACIsHMAC(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	material := make([]byte, 32)
	k := f.Key(t, keyspec.HMAC256, func(k *kms.Key) { k.Materials[0] = f.Import(t, k, material) })
	out, err := f.GenerateMAC(t.Context(), kmstest.Admin(t), &kms.GenerateMACInput{KeyID: k.ID, Message: []byte("m"), MACAlgorithm: keyspec.MACHMACSHA256})
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, material)
	h.Write([]byte("m"))
	if !hmac.Equal(h.Sum(nil), out.MAC) {
		t.Error("another MAC")
	}
}

func TestMACRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, symmetric, p256 := f.Key(t, keyspec.HMAC256), f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.ECCNISTP256)
	who, ctx, m := kmstest.Admin(t), t.Context(), []byte("a message")
	const one, a, would = "1 validation error detected: ", keyspec.MACHMACSHA256, "The request would have succeeded, but the DryRun option is set."
	made, err := f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: k.ID, Message: m, MACAlgorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	usage := func(k *kms.Key) string {
		return k.ARN() + " key usage is " + string(k.Usage) + " which is not valid for OPERATION."
	}
	for name, c := range map[string]struct {
		in   kms.GenerateMACInput
		code kms.Code
		want string
	}{
		"no key":        {kms.GenerateMACInput{Message: m, MACAlgorithm: a}, kms.CodeValidation, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"no message":    {kms.GenerateMACInput{KeyID: k.ID, MACAlgorithm: a}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must not be null"},
		"empty message": {kms.GenerateMACInput{KeyID: k.ID, Message: []byte{}, MACAlgorithm: a}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long message":  {kms.GenerateMACInput{KeyID: k.ID, Message: make([]byte, 4097), MACAlgorithm: a}, kms.CodeValidation, one + "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"no algorithm":  {kms.GenerateMACInput{KeyID: k.ID, Message: m}, kms.CodeValidation, one + "Value null at 'macAlgorithm' failed to satisfy constraint: Member must not be null"},
		"unknown algorithm": {
			kms.GenerateMACInput{KeyID: k.ID, Message: m, MACAlgorithm: "FOO"},
			kms.CodeValidation,
			one + "Value 'FOO' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_224, HMAC_SHA_256, HMAC_SHA_384, HMAC_SHA_512]",
		},
		"algorithm of another spec": {kms.GenerateMACInput{KeyID: k.ID, Message: m, MACAlgorithm: keyspec.MACHMACSHA512}, kms.CodeInvalidKeyUsage, "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256."},
		"symmetric key":             {kms.GenerateMACInput{KeyID: symmetric.ID, Message: m, MACAlgorithm: a}, kms.CodeInvalidKeyUsage, usage(symmetric)},
		"signing key":               {kms.GenerateMACInput{KeyID: p256.ID, Message: m, MACAlgorithm: a}, kms.CodeInvalidKeyUsage, usage(p256)},
		"dry run":                   {kms.GenerateMACInput{KeyID: k.ID, Message: m, MACAlgorithm: a, DryRun: true}, kms.CodeDryRun, would},
	} {
		out, err := f.GenerateMAC(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, replaceOperation(c.want, "GenerateMac"))
		if e := f.Last(t); out != nil || e.Outcome != audit.Failed || e.Call.Error != string(c.code) {
			t.Errorf("%s: entry %s %s", name, e.Outcome, e.Call.Error)
		}
		_, err = f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: c.in.KeyID, Message: c.in.Message, MACAlgorithm: c.in.MACAlgorithm, DryRun: c.in.DryRun, MAC: made.MAC})
		kmstest.Refused(t, err, c.code, replaceOperation(c.want, "VerifyMac"))
	}
	_, err = f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: k.ID, Message: m, MACAlgorithm: a, MAC: []byte("another"), DryRun: true})
	kmstest.Refused(t, err, kms.CodeInvalidMAC, "")
	for want, mac := range map[string][]byte{
		one + "Value null at 'mac' failed to satisfy constraint: Member must not be null":                       nil,
		one + "Value at 'mac' failed to satisfy constraint: Member must have length greater than or equal to 1": {},
		one + "Value at 'mac' failed to satisfy constraint: Member must have length less than or equal to 6144": make([]byte, 6145),
	} {
		_, err := f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: k.ID, Message: m, MACAlgorithm: a, MAC: mac})
		kmstest.Refused(t, err, kms.CodeValidation, want)
	}
	only := allowed(t, `"kms:GenerateMac"`, `{"StringEquals":{"kms:MacAlgorithm":"HMAC_SHA_512"}}`)
	_, err = f.GenerateMAC(ctx, only, &kms.GenerateMACInput{KeyID: k.ID, Message: m, MACAlgorithm: a})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:GenerateMac on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:GenerateMac action")
}
