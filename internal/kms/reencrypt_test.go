package kms_test

import (
	"slices"
	"strings"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func TestReEncryptMovesToAnotherKeyAndContext(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	from, to := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	old, now := map[string]string{"version": "1"}, map[string]string{"version": "2"}
	blob := encrypt(t, f, from.ID, "a secret", old)
	for _, source := range []string{"", from.ID} {
		n := len(f.Entries(t))
		out, err := f.ReEncrypt(t.Context(), kmstest.Admin(t), &kms.ReEncryptInput{
			CiphertextBlob: blob, SourceKeyID: source, SourceEncryptionContext: old, DestinationKeyID: to.ID, DestinationEncryptionContext: now,
		})
		if err != nil {
			t.Fatal(err)
		}
		want := kms.ReEncryptOutput{
			CiphertextBlob: out.CiphertextBlob, KeyID: to.ARN(), SourceKeyID: from.ARN(),
			SourceEncryptionAlgorithm: keyspec.EncryptSymmetric, DestinationEncryptionAlgorithm: keyspec.EncryptSymmetric,
			SourceKeyMaterialID: from.Materials[0].ID, DestinationKeyMaterialID: to.Materials[0].ID,
		}
		if !slices.Equal(out.CiphertextBlob, want.CiphertextBlob) || out.KeyID != want.KeyID || out.SourceKeyID != want.SourceKeyID ||
			out.SourceKeyMaterialID != want.SourceKeyMaterialID || out.DestinationKeyMaterialID != want.DestinationKeyMaterialID ||
			out.SourceEncryptionAlgorithm != want.SourceEncryptionAlgorithm || out.DestinationEncryptionAlgorithm != want.DestinationEncryptionAlgorithm {
			t.Errorf("got %+v, want %+v", out, want)
		}
		es := f.Entries(t)
		e := es[len(es)-1]
		if len(es) != n+1 || e.Op != "kms.re_encrypt" || !slices.Equal(e.Call.Resources, []string{from.ARN(), to.ARN()}) {
			t.Errorf("%d entries, %s, resources %v", len(es)-n, e.Op, e.Call.Resources)
		}
		if !slices.Equal(e.Call.Context, []audit.Param{{Name: "sourceEncryptionContext.version", Value: "1"}, {Name: "destinationEncryptionContext.version", Value: "2"}}) {
			t.Errorf("context %v", e.Call.Context)
		}
		if !slices.Equal(e.Call.Response, []audit.Param{{Name: "sourceKeyMaterialId", Value: from.Materials[0].ID}, {Name: "destinationKeyMaterialId", Value: to.Materials[0].ID}}) {
			t.Errorf("response %v", e.Call.Response)
		}
		if e.Call.Param("sourceKeyId") != source || e.Call.Param("destinationKeyId") != to.ID ||
			e.Call.Param("sourceEncryptionAlgorithm") != "SYMMETRIC_DEFAULT" || e.Call.Param("destinationEncryptionAlgorithm") != "SYMMETRIC_DEFAULT" {
			t.Errorf("request %v", e.Call.Request)
		}
		if !strings.HasPrefix(e.Detail, "source: allowed by") || !strings.Contains(e.Detail, "; destination: allowed by") {
			t.Errorf("detail %q", e.Detail)
		}
		p, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{KeyID: to.ID, CiphertextBlob: out.CiphertextBlob, EncryptionContext: now})
		if err != nil || string(p.Plaintext.Expose()) != "a secret" {
			t.Errorf("decrypt: %v, or another plaintext", err)
		}
		for _, k := range []*kms.Key{from, to} {
			u, err := f.GetKeyLastUsage(t.Context(), kmstest.Admin(t), &kms.GetKeyLastUsageInput{KeyID: k.ID})
			if err != nil || k == from && (u.KeyLastUsage.Operation != "ReEncrypt" || u.KeyLastUsage.CloudTrailEventID != e.ID) {
				t.Errorf("last usage %+v, %v", u, err)
			}
		}
	}
}

// After a rotation ReEncrypt moves a ciphertext to the current material.
func TestReEncryptUnderTheSameKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	k = f.Rotate(t, k)
	out, err := f.ReEncrypt(t.Context(), kmstest.Admin(t), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	if out.SourceKeyMaterialID != k.Materials[0].ID || out.DestinationKeyMaterialID != k.Materials[1].ID {
		t.Errorf("materials %s, %s", out.SourceKeyMaterialID, out.DestinationKeyMaterialID)
	}
	if e := f.Last(t); !slices.Equal(e.Call.Resources, []string{k.ARN()}) {
		t.Errorf("resources %v", e.Call.Resources)
	}
}

func TestReEncryptBetweenSymmetricAndRSA(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	symmetric, asymmetric := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.RSA2048)
	who, ctx, pairs := kmstest.Admin(t), t.Context(), map[string]string{"a": "b"}
	const oaep = keyspec.EncryptOAEPSHA256
	blob := encrypt(t, f, symmetric.ID, "a secret", pairs)
	there, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{
		CiphertextBlob: blob, SourceEncryptionContext: pairs, DestinationKeyID: asymmetric.ID, DestinationEncryptionAlgorithm: oaep,
	})
	if err != nil || there.DestinationKeyMaterialID != "" || there.DestinationEncryptionAlgorithm != oaep {
		t.Fatalf("%+v, %v", there, err)
	}
	back, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{
		CiphertextBlob: there.CiphertextBlob, SourceKeyID: asymmetric.ID, SourceEncryptionAlgorithm: oaep,
		DestinationKeyID: symmetric.ID, DestinationEncryptionContext: pairs,
	})
	if err != nil || back.SourceKeyMaterialID != "" {
		t.Fatalf("%+v, %v", back, err)
	}
	p, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: back.CiphertextBlob, EncryptionContext: pairs})
	if err != nil || string(p.Plaintext.Expose()) != "a secret" {
		t.Errorf("%v, or another plaintext", err)
	}
	const noContext = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs."
	_, err = f.ReEncrypt(ctx, who, &kms.ReEncryptInput{
		CiphertextBlob: blob, SourceEncryptionContext: pairs, DestinationKeyID: asymmetric.ID, DestinationEncryptionAlgorithm: oaep, DestinationEncryptionContext: pairs,
	})
	kmstest.Refused(t, err, kms.CodeValidation, noContext)
	_, err = f.ReEncrypt(ctx, who, &kms.ReEncryptInput{
		CiphertextBlob: there.CiphertextBlob, SourceKeyID: asymmetric.ID, SourceEncryptionAlgorithm: oaep, SourceEncryptionContext: pairs, DestinationKeyID: symmetric.ID,
	})
	kmstest.Refused(t, err, kms.CodeValidation, noContext)
	_, err = f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: pairs, DestinationKeyID: asymmetric.ID})
	kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
	// A plaintext of 4096 bytes does not fit the key.
	long := encrypt(t, f, symmetric.ID, strings.Repeat("x", 4096), nil)
	_, err = f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: long, DestinationKeyID: asymmetric.ID, DestinationEncryptionAlgorithm: oaep})
	kmstest.Refused(t, err, kms.CodeValidation, "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")
}

const allowActions = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[%ACTIONS%],"Resource":"*"%CONDITION%}]}`

func allowed(t *testing.T, actions, condition string) kms.Caller {
	t.Helper()
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return kmstest.As(kmstest.Subject(t, kmstest.Account, "alice", strings.NewReplacer("%ACTIONS%", actions, "%CONDITION%", condition).Replace(allowActions)))
}

func TestReEncryptNeedsBothPermissions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	from, to := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, from.ID, "a secret", nil)
	in := kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyID: from.ID, DestinationKeyID: to.ID}
	same := kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyID: from.ID, DestinationKeyID: from.ID}
	const both = `"kms:ReEncryptFrom","kms:ReEncryptTo"`
	const onSame = `{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`
	denied := func(action string, k *kms.Key) string {
		return "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:" + action + " on resource: " + k.ARN() +
			" because no identity-based policy allows the kms:" + action + " action"
	}
	for name, c := range map[string]struct {
		actions, condition string
		in                 kms.ReEncryptInput
		want               string
		resources          []string
	}{
		"both":           {both, "", in, "", []string{from.ARN(), to.ARN()}},
		"from alone":     {`"kms:ReEncryptFrom"`, "", in, denied("ReEncryptTo", to), []string{from.ARN(), to.ARN()}},
		"to alone":       {`"kms:ReEncryptTo"`, "", in, denied("ReEncryptFrom", from), []string{from.ARN()}},
		"others":         {`"kms:Decrypt","kms:Encrypt","kms:ReEncrypt"`, "", in, denied("ReEncryptFrom", from), []string{from.ARN()}},
		"on same key":    {both, onSame, same, "", []string{from.ARN()}},
		"on another key": {both, onSame, in, denied("ReEncryptFrom", from), []string{from.ARN()}},
	} {
		n := len(f.Entries(t))
		_, err := f.ReEncrypt(t.Context(), allowed(t, c.actions, c.condition), &c.in)
		if c.want != "" {
			kmstest.Refused(t, err, kms.CodeAccessDenied, c.want)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		es := f.Entries(t)
		e := es[len(es)-1]
		if len(es) != n+1 || (e.Outcome == audit.Denied) != (c.want != "") || !slices.Equal(e.Call.Resources, c.resources) ||
			c.want != "" && e.Detail != "denied: no identity policy allows it" {
			t.Errorf("%s: entry %s %q, resources %v", name, e.Outcome, e.Detail, e.Call.Resources)
		}
	}
}

func TestReEncryptAcrossAccounts(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	shared := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Policy = crossAccount })
	theirs := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Account, k.Policy = kmstest.Other, kmstest.DefaultPolicy(kmstest.Other) })
	blob := encrypt(t, f, shared.ID, "a secret", nil)
	who, ctx := kmstest.Foreigner(t), t.Context()
	there, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: theirs.ID})
	if err != nil || there.SourceKeyID != shared.ARN() || there.KeyID != theirs.ARN() {
		t.Fatalf("%+v, %v", there, err)
	}
	back, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: there.CiphertextBlob, DestinationKeyID: shared.ARN()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Decrypt(ctx, kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: back.CiphertextBlob})
	if err != nil || string(p.Plaintext.Expose()) != "a secret" {
		t.Errorf("%v, or another plaintext", err)
	}
	// The owner of the shared key may not use the key of the other account.
	_, err = f.ReEncrypt(ctx, kmstest.Admin(t), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: theirs.ARN()})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/admin is not authorized to perform: kms:ReEncryptTo on resource: "+
		theirs.ARN()+" because no resource-based policy allows the kms:ReEncryptTo action")
	_, err = f.ReEncrypt(ctx, kmstest.Admin(t), &kms.ReEncryptInput{CiphertextBlob: there.CiphertextBlob, DestinationKeyID: shared.ID})
	kmstest.Refused(t, err, kms.CodeAccessDenied, textForUnnamed)
}

func TestReEncryptRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	from, to := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, from.ID, "a secret", map[string]string{"a": "bc"})
	who, ctx := kmstest.Admin(t), t.Context()
	const one = "1 validation error detected: "
	ignore := []kms.DryRunModifier{kms.IgnoreCiphertext}
	for name, c := range map[string]struct {
		in   kms.ReEncryptInput
		code kms.Code
		want string
	}{
		"no destination": {
			kms.ReEncryptInput{CiphertextBlob: blob},
			kms.CodeValidation,
			one + "Value null at 'destinationKeyId' failed to satisfy constraint: Member must not be null",
		},
		"no ciphertext": {
			kms.ReEncryptInput{DestinationKeyID: to.ID},
			kms.CodeValidation,
			one + "Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null",
		},
		"RSA without a source": {
			kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionAlgorithm: keyspec.EncryptOAEPSHA1, DestinationKeyID: to.ID},
			kms.CodeValidation,
			one + "Value null at 'sourceKeyId' failed to satisfy constraint: Member must not be null",
		},
		"algorithms": {
			kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyID: from.ID, SourceEncryptionAlgorithm: "A", DestinationEncryptionAlgorithm: "B", DestinationKeyID: to.ID},
			kms.CodeValidation,
			"2 validation errors detected: Value 'A' at 'sourceEncryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]; " +
				"Value 'B' at 'destinationEncryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]",
		},
		"other context": {kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: map[string]string{"ab": "c"}, DestinationKeyID: to.ID}, kms.CodeInvalidCiphertext, ""},
		"other source": {
			kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyID: to.ID, DestinationKeyID: to.ID},
			kms.CodeIncorrectKey,
			"The key ID in the request does not identify a CMK that can perform this operation.",
		},
		"garbage": {kms.ReEncryptInput{CiphertextBlob: []byte("garbage"), DestinationKeyID: to.ID}, kms.CodeInvalidCiphertext, ""},
		"dry run": {
			kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: map[string]string{"a": "bc"}, DestinationKeyID: to.ID, DryRun: true},
			kms.CodeDryRun,
			"The request would have succeeded, but the DryRun option is set.",
		},
		"dry run of another context": {kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: to.ID, DryRun: true}, kms.CodeInvalidCiphertext, ""},
		"dry run without ciphertext": {
			kms.ReEncryptInput{SourceKeyID: from.ID, DestinationKeyID: to.ID, DryRun: true, DryRunModifiers: ignore},
			kms.CodeDryRun,
			"The request would have succeeded, but the DryRun option is set.",
		},
		"dry run without a source": {
			kms.ReEncryptInput{DestinationKeyID: to.ID, DryRun: true, DryRunModifiers: ignore},
			kms.CodeValidation,
			one + "Value null at 'sourceKeyId' failed to satisfy constraint: Member must not be null",
		},
		"no such destination": {
			kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: "alias/none"},
			kms.CodeNotFound,
			"Alias arn:aws:kms:eu-central-1:111122223333:alias/none is not found.",
		},
	} {
		n := len(f.Entries(t))
		out, err := f.ReEncrypt(ctx, who, &c.in)
		kmstest.Refused(t, err, c.code, c.want)
		if es := f.Entries(t); out != nil || len(es) != n+1 || es[n].Call.Error != string(c.code) {
			t.Errorf("%s: %d entries", name, len(es)-n)
		}
	}
}
