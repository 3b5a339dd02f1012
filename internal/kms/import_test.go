package kms_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// parameters are what a client gets to import with.
func parameters(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string, a keyspec.WrappingAlgorithm, s keyspec.Spec) *kms.GetParametersForImportOutput {
	t.Helper()
	return must(f.GetParametersForImport(t.Context(), who, &kms.GetParametersForImportInput{KeyID: id, WrappingAlgorithm: a, WrappingKeySpec: s}))(t)
}

// wrap is what a client does with its material.
func wrap(t testing.TB, p *kms.GetParametersForImportOutput, a keyspec.WrappingAlgorithm, s keyspec.Spec, material secret.Bytes) []byte {
	t.Helper()
	public := must(keyspec.ParsePublic(s, p.PublicKey))(t)
	return must(keyspec.Wrap(a, public, material))(t)
}

// importing is a request to import material, wrapped in the usual way.
func importing(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string, material secret.Bytes) kms.ImportKeyMaterialInput {
	t.Helper()
	p := parameters(t, f, who, id, keyspec.WrapOAEPSHA256, keyspec.RSA2048)
	return kms.ImportKeyMaterialInput{
		KeyID: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, p, keyspec.WrapOAEPSHA256, keyspec.RSA2048, material),
		ExpirationModel: kms.MaterialDoesNotExpire,
	}
}

func importMaterial(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string, material secret.Bytes, kind kms.ImportType) *kms.ImportKeyMaterialOutput {
	t.Helper()
	in := importing(t, f, who, id, material)
	in.ImportType = kind
	return must(f.ImportKeyMaterial(t.Context(), who, &in))(t)
}

func external(t testing.TB, f *kmstest.Fixture, more ...func(*kms.CreateKeyInput)) *kms.KeyMetadata {
	t.Helper()
	in := kms.CreateKeyInput{Origin: kms.OriginExternal}
	for _, m := range more {
		m(&in)
	}
	return createKey(t, f, in)
}

func describe(t testing.TB, f *kmstest.Fixture, who kms.Caller, id string) *kms.KeyMetadata {
	t.Helper()
	return must(f.DescribeKey(t.Context(), who, &kms.DescribeKeyInput{KeyID: id}))(t).KeyMetadata
}

func wantState(t testing.TB, f *kmstest.Fixture, id string, want kms.KeyState) {
	t.Helper()
	if got := describe(t, f, kmstest.Admin(t), id).KeyState; got != want {
		t.Errorf("key is %s, want %s", got, want)
	}
}

// The way of Terraform's aws_kms_external_key.
func TestImportedMaterialExpiresAndComesBack(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin, material := kmstest.Admin(t), secret.Random(32)
	k := external(t, f)
	p := parameters(t, f, admin, k.KeyID, keyspec.WrapOAEPSHA256, keyspec.RSA2048)
	if want := f.Clock.Now().Add(day); p.KeyID != k.ARN || !p.ParametersValidTo.Equal(want) {
		t.Errorf("parameters are for %s until %v, want %s until %v", p.KeyID, p.ParametersValidTo, k.ARN, want)
	}
	if n := len(p.ImportToken); n > 6144 {
		t.Errorf("the token has %d bytes, more than a client may send", n)
	}
	validTo := f.Clock.Now().Add(40 * day)
	in := kms.ImportKeyMaterialInput{
		KeyID: k.KeyID, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, p, keyspec.WrapOAEPSHA256, keyspec.RSA2048, material), ValidTo: validTo,
	}
	out := must(f.ImportKeyMaterial(t.Context(), admin, &in))(t)
	if out.KeyID != k.ARN || len(out.KeyMaterialID) != 64 {
		t.Errorf("answer is %+v", out)
	}
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.KeyID, "expirationModel": "KEY_MATERIAL_EXPIRES", "validTo": validTo.UTC().Format(time.RFC3339)})
	now := describe(t, f, admin, k.KeyID)
	if now.KeyState != kms.StateEnabled || !now.Enabled || now.ExpirationModel != kms.MaterialExpires || !now.ValidTo.Equal(validTo) || now.CurrentKeyMaterialID != out.KeyMaterialID {
		t.Errorf("after the import the key is %+v", now)
	}
	sealed := encrypt(t, f, k.KeyID, "text", nil)

	pass(t, f, 40*day-time.Second)
	wantState(t, f, k.KeyID, kms.StateEnabled)
	n := len(f.Entries(t))
	pass(t, f, time.Second)
	wantEntries(t, f, n, "DeleteExpiredKeyMaterial "+kmstest.Region+" allowed")
	e = f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.KeyID, "keyMaterialId": out.KeyMaterialID})
	if e.Who.Name != "expiry" || e.Resource.Key != k.ARN {
		t.Errorf("entry of the expiry is by %s of %s", e.Who.Name, e.Resource.Key)
	}
	now = describe(t, f, admin, k.KeyID)
	if now.KeyState != kms.StatePendingImport || now.ExpirationModel != "" || !now.ValidTo.IsZero() {
		t.Errorf("after the expiry the key is %+v", now)
	}
	_, err := f.Decrypt(t.Context(), admin, &kms.DecryptInput{CiphertextBlob: sealed})
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN+" is pending import.")

	again := importMaterial(t, f, admin, k.KeyID, material, "")
	if again.KeyMaterialID != out.KeyMaterialID {
		t.Error("the same material has another id")
	}
	opens(t, f, admin, sealed, "text")
	if m := describe(t, f, admin, k.KeyID); m.ExpirationModel != kms.MaterialDoesNotExpire || !m.ValidTo.IsZero() {
		t.Errorf("after the second import the key is %+v", m)
	}
	for _, line := range f.Store.Entries() {
		for _, s := range [][]byte{material.Expose(), in.ImportToken[:60], in.EncryptedKeyMaterial[:60]} {
			if strings.Contains(line, base64.StdEncoding.EncodeToString(s)[:40]) || strings.Contains(line, hex.EncodeToString(s)[:40]) {
				t.Fatal("the audit log holds what must not be in it")
			}
		}
	}
}

func TestEveryKindOfKeyIsImportedAsItsTableSays(t *testing.T) {
	t.Parallel()
	const oaep1, oaep256, hybrid1, hybrid256 = keyspec.WrapOAEPSHA1, keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKWSHA1, keyspec.WrapRSAAESKW256
	all := []keyspec.WrappingAlgorithm{oaep1, oaep256, hybrid1, hybrid256}
	for _, c := range []struct {
		spec     keyspec.Spec
		wrapping keyspec.Spec
		takes    []keyspec.WrappingAlgorithm
	}{
		{keyspec.SymmetricDefault, keyspec.RSA2048, all[:2]},
		{keyspec.SymmetricDefault, keyspec.RSA4096, []keyspec.WrappingAlgorithm{oaep256}},
		{keyspec.HMAC224, keyspec.RSA2048, all[:2]},
		{keyspec.HMAC512, keyspec.RSA2048, all[:2]},
		{keyspec.RSA2048, keyspec.RSA2048, all[2:]},
		{keyspec.RSA4096, keyspec.RSA3072, []keyspec.WrappingAlgorithm{hybrid256}},
		{keyspec.ECCNISTP256, keyspec.RSA2048, all},
		{keyspec.ECCNISTP521, keyspec.RSA2048, all[2:]},
		{keyspec.ECCNISTP521, keyspec.RSA3072, []keyspec.WrappingAlgorithm{oaep256, hybrid256}},
		{keyspec.ECCSECGP256K1, keyspec.RSA2048, all},
		{keyspec.ECCEdwards25519, keyspec.RSA2048, all},
		{keyspec.MLDSA65, keyspec.RSA2048, all},
	} {
		t.Run(string(c.spec)+" under "+string(c.wrapping), func(t *testing.T) {
			t.Parallel()
			f := kmstest.New(t)
			admin := kmstest.Admin(t)
			material, public, err := keyspec.Generate(c.spec)
			ok(t, err)
			for _, a := range all {
				if c.wrapping != keyspec.RSA2048 && !slices.Contains(c.takes, a) {
					continue // each wrapping key takes its time
				}
				k := external(t, f, func(in *kms.CreateKeyInput) { in.KeySpec, in.KeyUsage = c.spec, c.spec.Usages()[0] })
				p, err := f.GetParametersForImport(t.Context(), admin, &kms.GetParametersForImportInput{KeyID: k.KeyID, WrappingAlgorithm: a, WrappingKeySpec: c.wrapping})
				if !slices.Contains(c.takes, a) {
					kmstest.Refused(t, err, kms.CodeUnsupported, "Key material of key spec "+string(c.spec)+" cannot be wrapped by "+string(a)+" under "+string(c.wrapping)+".")
					continue
				}
				ok(t, err)
				if len(p.ImportToken) > 6144 {
					t.Errorf("the token has %d bytes", len(p.ImportToken))
				}
				in := kms.ImportKeyMaterialInput{
					KeyID: k.KeyID, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, p, a, c.wrapping, material), ExpirationModel: kms.MaterialDoesNotExpire,
				}
				must(f.ImportKeyMaterial(t.Context(), admin, &in))(t)
				wantState(t, f, k.KeyID, kms.StateEnabled)
				if c.spec.Asymmetric() {
					got := must(f.GetPublicKey(t.Context(), admin, &kms.GetPublicKeyInput{KeyID: k.KeyID}))(t)
					if !slices.Equal(got.PublicKey, public) {
						t.Error("the imported key has another public half")
					}
				}
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k, other, ours := external(t, f), external(t, f), createKey(t, f, kms.CreateKeyInput{})
	hmac := external(t, f, func(in *kms.CreateKeyInput) { in.KeySpec, in.KeyUsage = keyspec.HMAC256, keyspec.GenerateVerifyMAC })
	gone := external(t, f)
	must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: gone.KeyID}))(t)
	good := importing(t, f, admin, k.KeyID, secret.Random(32))
	short := importing(t, f, admin, k.KeyID, secret.Random(31))
	one := "1 validation error detected: Value "
	const invalidToken = "The import token is invalid or is associated with a different KMS key."
	now := f.Clock.Now()
	for name, c := range map[string]struct {
		change func(*kms.ImportKeyMaterialInput)
		code   kms.Code
		text   string
	}{
		"no key":   {func(in *kms.ImportKeyMaterialInput) { in.KeyID = "" }, kms.CodeValidation, one + "null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"no token": {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = nil }, kms.CodeValidation, one + "null at 'importToken' failed to satisfy constraint: Member must not be null"},
		"no material": {
			func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = nil }, kms.CodeValidation,
			one + "null at 'encryptedKeyMaterial' failed to satisfy constraint: Member must not be null",
		},
		"long token": {
			func(in *kms.ImportKeyMaterialInput) { in.ImportToken = make([]byte, 6145) }, kms.CodeValidation,
			one + "at 'importToken' failed to satisfy constraint: Member must have length less than or equal to 6144",
		},
		"expiration model": {
			func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "SOON" }, kms.CodeValidation,
			one + "'SOON' at 'expirationModel' failed to satisfy constraint: Member must satisfy enum value set: [KEY_MATERIAL_EXPIRES, KEY_MATERIAL_DOES_NOT_EXPIRE]",
		},
		"import type": {
			func(in *kms.ImportKeyMaterialInput) { in.ImportType = "OLD" }, kms.CodeValidation,
			one + "'OLD' at 'importType' failed to satisfy constraint: Member must satisfy enum value set: [NEW_KEY_MATERIAL, EXISTING_KEY_MATERIAL]",
		},
		"material id": {
			func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialID = strings.Repeat("A", 64) }, kms.CodeValidation,
			one + "'" + strings.Repeat("A", 64) + "' at 'keyMaterialId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-f0-9]+$",
		},
		"description": {
			func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = "a*b" }, kms.CodeValidation,
			one + `'a*b' at 'keyMaterialDescription' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_\s.-]+$`,
		},
		"expires never": {func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" }, kms.CodeValidation, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		"does not expire but then": {
			func(in *kms.ImportKeyMaterialInput) { in.ValidTo = now.Add(day) }, kms.CodeValidation,
			"A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
		},
		"expires now": {
			func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel, in.ValidTo = kms.MaterialExpires, now }, kms.CodeValidation,
			"The validTo date must be in the future.",
		},
		"expires too late": {
			func(in *kms.ImportKeyMaterialInput) {
				in.ExpirationModel, in.ValidTo = kms.MaterialExpires, now.Add(365*day+time.Second)
			}, kms.CodeValidation,
			"The validTo date must be at most 365 days from now.",
		},
		"new with an id": {
			func(in *kms.ImportKeyMaterialInput) {
				in.ImportType, in.KeyMaterialID = kms.NewMaterial, strings.Repeat("a", 64)
			}, kms.CodeValidation,
			"A KeyMaterialId is not valid with ImportType NEW_KEY_MATERIAL.",
		},
		"HMAC with a type": {
			func(in *kms.ImportKeyMaterialInput) { in.KeyID, in.ImportType = hmac.KeyID, kms.NewMaterial }, kms.CodeValidation,
			"ImportType, KeyMaterialId and KeyMaterialDescription are valid only for symmetric encryption KMS keys.",
		},
		"not external":         {func(in *kms.ImportKeyMaterialInput) { in.KeyID = ours.KeyID }, kms.CodeUnsupported, ours.ARN + " origin is AWS_KMS which is not valid for this operation."},
		"pending deletion":     {func(in *kms.ImportKeyMaterialInput) { in.KeyID = gone.KeyID }, kms.CodeInvalidState, gone.ARN + " is pending deletion."},
		"token of another key": {func(in *kms.ImportKeyMaterialInput) { in.KeyID = other.KeyID }, kms.CodeInvalidImportToken, invalidToken},
		"damaged token": {func(in *kms.ImportKeyMaterialInput) {
			in.ImportToken = slices.Clone(in.ImportToken)
			in.ImportToken[len(in.ImportToken)/2] ^= 1
		}, kms.CodeInvalidImportToken, invalidToken},
		"token of another version": {func(in *kms.ImportKeyMaterialInput) {
			in.ImportToken = slices.Clone(in.ImportToken)
			in.ImportToken[0] = 2
		}, kms.CodeInvalidImportToken, invalidToken},
		"short token":        {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = []byte{1} }, kms.CodeInvalidImportToken, invalidToken},
		"damaged material":   {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = make([]byte, 256) }, kms.CodeInvalidCiphertext, ""},
		"token of another":   {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = short.ImportToken }, kms.CodeInvalidCiphertext, ""},
		"material too short": {func(in *kms.ImportKeyMaterialInput) { *in = short }, kms.CodeIncorrectMaterial, "The key material is not valid for key spec SYMMETRIC_DEFAULT."},
		"another id": {
			func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialID = strings.Repeat("a", 64) }, kms.CodeIncorrectMaterial,
			"The key material is not that of the key material ID in the request.",
		},
		"existing of none": {
			func(in *kms.ImportKeyMaterialInput) { in.ImportType = kms.ExistingMaterial }, kms.CodeIncorrectMaterial,
			"The key material is not one that was previously imported into the KMS key.",
		},
	} {
		in := good
		c.change(&in)
		_, err := f.ImportKeyMaterial(t.Context(), admin, &in)
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != c.code || e.Message != c.text {
			t.Errorf("%s: got %v, want %s: %s", name, err, c.code, c.text)
		}
		if e := f.Last(t); e.Call.Event != "ImportKeyMaterial" || e.Outcome != "failed" {
			t.Errorf("%s: recorded as %s %s", name, e.Call.Event, e.Outcome)
		}
	}
	wantState(t, f, k.KeyID, kms.StatePendingImport)

	f.Clock.Advance(day)
	_, err := f.ImportKeyMaterial(t.Context(), admin, &good)
	kmstest.Refused(t, err, kms.CodeExpiredImportToken, "The import token expired at "+now.Add(day).UTC().Format(time.RFC3339)+". Get new parameters for import.")
	f.Clock.Advance(-time.Second)
	must(f.ImportKeyMaterial(t.Context(), admin, &good))(t)
}

func TestParametersForImportAreRefused(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k, ours := external(t, f), createKey(t, f, kms.CreateKeyInput{})
	for name, c := range map[string]struct {
		id   string
		a    keyspec.WrappingAlgorithm
		s    keyspec.Spec
		code kms.Code
		text string
	}{
		"PKCS #1":  {k.KeyID, keyspec.WrapPKCS1, keyspec.RSA2048, kms.CodeUnsupported, "The wrapping algorithm RSAES_PKCS1_V1_5 is not supported."},
		"SM2":      {k.KeyID, keyspec.WrapSM2PKE, keyspec.SM2, kms.CodeUnsupported, "The wrapping algorithm SM2PKE is not supported."},
		"SM2 spec": {k.KeyID, keyspec.WrapOAEPSHA256, keyspec.SM2, kms.CodeUnsupported, "The wrapping key spec SM2 is not supported."},
		"origin":   {ours.KeyID, keyspec.WrapOAEPSHA256, keyspec.RSA2048, kms.CodeUnsupported, ours.ARN + " origin is AWS_KMS which is not valid for this operation."},
		"algorithm": {
			k.KeyID, "ROT13", keyspec.RSA2048, kms.CodeValidation,
			"1 validation error detected: Value 'ROT13' at 'wrappingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: " +
				"[RSAES_PKCS1_V1_5, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_1, RSA_AES_KEY_WRAP_SHA_256, SM2PKE]",
		},
		"spec": {
			k.KeyID, keyspec.WrapOAEPSHA256, keyspec.ECCNISTP256, kms.CodeValidation,
			"1 validation error detected: Value 'ECC_NIST_P256' at 'wrappingKeySpec' failed to satisfy constraint: Member must satisfy enum value set: " +
				"[RSA_2048, RSA_3072, RSA_4096, SM2]",
		},
		"nothing": {
			k.KeyID, "", "", kms.CodeValidation, "2 validation errors detected: Value null at 'wrappingAlgorithm' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'wrappingKeySpec' failed to satisfy constraint: Member must not be null",
		},
	} {
		_, err := f.GetParametersForImport(t.Context(), admin, &kms.GetParametersForImportInput{KeyID: c.id, WrappingAlgorithm: c.a, WrappingKeySpec: c.s})
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != c.code || e.Message != c.text {
			t.Errorf("%s: got %v, want %s: %s", name, err, c.code, c.text)
		}
	}
	f.FailBackend(func(string) error { return kms.ErrSealed })
	_, err := f.GetParametersForImport(t.Context(), admin, &kms.GetParametersForImportInput{KeyID: k.KeyID, WrappingAlgorithm: keyspec.WrapOAEPSHA256, WrappingKeySpec: keyspec.RSA2048})
	kmstest.Refused(t, err, kms.CodeKeyUnavailable, "The key service is sealed: its root key has not been unsealed by the custodians.")
}

func TestImportsAreSubjectToConditions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := external(t, f)
	who := kmstest.As(kmstest.Subject(t, kmstest.Account, "importer", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"kms:GetParametersForImport","Resource":"*","Condition":{"StringEquals":{
			"kms:WrappingAlgorithm":"RSAES_OAEP_SHA_256","kms:WrappingKeySpec":"RSA_2048"}}},
		{"Effect":"Allow","Action":"kms:ImportKeyMaterial","Resource":"*","Condition":{
			"StringEquals":{"kms:ExpirationModel":"KEY_MATERIAL_EXPIRES"},"DateLessThan":{"kms:ValidTo":"2026-12-31T00:00:00Z"}}}]}`))
	in := importing(t, f, who, k.KeyID, secret.Random(32))
	denied := func(err error) {
		t.Helper()
		if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeAccessDenied {
			t.Errorf("got %v, want AccessDeniedException", err)
		}
	}
	_, err := f.GetParametersForImport(t.Context(), who, &kms.GetParametersForImportInput{KeyID: k.KeyID, WrappingAlgorithm: keyspec.WrapOAEPSHA1, WrappingKeySpec: keyspec.RSA2048})
	denied(err)
	_, err = f.ImportKeyMaterial(t.Context(), who, &in)
	denied(err)
	in.ExpirationModel, in.ValidTo = "", time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	_, err = f.ImportKeyMaterial(t.Context(), who, &in)
	denied(err)
	in.ValidTo = in.ValidTo.Add(-time.Second)
	must(f.ImportKeyMaterial(t.Context(), who, &in))(t)
}

func TestRotationToImportedMaterial(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k := external(t, f)
	first, second, third := secret.Random(32), secret.Random(32), secret.Random(32)
	one := importMaterial(t, f, admin, k.KeyID, first, "").KeyMaterialID
	sealed := encrypt(t, f, k.KeyID, "old", nil)

	in := importing(t, f, admin, k.KeyID, first)
	in.ImportType = kms.NewMaterial
	_, err := f.ImportKeyMaterial(t.Context(), admin, &in)
	kmstest.Refused(t, err, kms.CodeIncorrectMaterial, "The key material is already associated with the KMS key.")
	in = importing(t, f, admin, k.KeyID, second) // the default is EXISTING_KEY_MATERIAL now
	_, err = f.ImportKeyMaterial(t.Context(), admin, &in)
	kmstest.Refused(t, err, kms.CodeIncorrectMaterial, "The key material is not one that was previously imported into the KMS key.")

	in.ImportType, in.KeyMaterialDescription = kms.NewMaterial, "from HSM 2"
	two := must(f.ImportKeyMaterial(t.Context(), admin, &in))(t).KeyMaterialID
	in = importing(t, f, admin, k.KeyID, third)
	in.ImportType = kms.NewMaterial
	_, err = f.ImportKeyMaterial(t.Context(), admin, &in)
	kmstest.Refused(t, err, kms.CodeInvalidState, k.ARN+" already has key material pending rotation: "+two+".")
	if m := describe(t, f, admin, k.KeyID); m.CurrentKeyMaterialID != one {
		t.Error("material is current before the rotation")
	}
	must(f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
	want := []kms.RotationsListEntry{
		{KeyID: k.KeyID, KeyMaterialID: one, KeyMaterialState: kms.MaterialNonCurrent, ImportState: kms.Imported, ExpirationModel: kms.MaterialDoesNotExpire},
		{
			KeyID: k.KeyID, KeyMaterialID: two, KeyMaterialState: kms.MaterialCurrent, ImportState: kms.Imported, ExpirationModel: kms.MaterialDoesNotExpire,
			KeyMaterialDescription: "from HSM 2", RotationDate: f.Clock.Now(), RotationType: kms.RotatedOnDemand,
		},
	}
	if got := rotations(t, f, admin, k.KeyID, kms.AllMaterial); !slices.Equal(got, want) {
		t.Errorf("material is %+v, want %+v", got, want)
	}
	opens(t, f, admin, sealed, "old")
	_, err = f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID})
	kmstest.Refused(t, err, kms.CodeInvalidState, "No available key material pending rotation for the key: "+k.ARN+".")

	// All that the key has used must be there.
	must(f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID, KeyMaterialID: one}))(t)
	wantState(t, f, k.KeyID, kms.StatePendingImport)
	out := must(f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID}))(t)
	if out.KeyMaterialID != two || out.KeyID != k.ARN {
		t.Errorf("without an id %+v was deleted, want the current material", out)
	}
	importMaterial(t, f, admin, k.KeyID, second, kms.ExistingMaterial)
	wantState(t, f, k.KeyID, kms.StatePendingImport)
	in = importing(t, f, admin, k.KeyID, first)
	in.KeyMaterialID = one
	must(f.ImportKeyMaterial(t.Context(), admin, &in))(t)
	wantState(t, f, k.KeyID, kms.StateEnabled)
	opens(t, f, admin, sealed, "old")
	if r := rotations(t, f, admin, k.KeyID, kms.AllMaterial); r[1].KeyMaterialDescription != "from HSM 2" {
		t.Error("the description is lost by an import without one")
	}
}

func TestMaterialPendingRotationCanBeReplaced(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k := external(t, f)
	importMaterial(t, f, admin, k.KeyID, secret.Random(32), "")
	waiting := importMaterial(t, f, admin, k.KeyID, secret.Random(32), kms.NewMaterial)
	must(f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID, KeyMaterialID: waiting.KeyMaterialID}))(t)
	wantState(t, f, k.KeyID, kms.StateEnabled)
	if n := len(rotations(t, f, admin, k.KeyID, kms.AllMaterial)); n != 1 {
		t.Errorf("%d materials, want 1", n)
	}
	in := importing(t, f, admin, k.KeyID, secret.Random(32))
	in.ImportType, in.ExpirationModel, in.ValidTo = kms.NewMaterial, "", f.Clock.Now().Add(day)
	must(f.ImportKeyMaterial(t.Context(), admin, &in))(t)
	pass(t, f, day) // expired before it was used
	wantState(t, f, k.KeyID, kms.StateEnabled)
	if n := len(rotations(t, f, admin, k.KeyID, kms.AllMaterial)); n != 1 {
		t.Errorf("%d materials after the expiry, want 1", n)
	}
	importMaterial(t, f, admin, k.KeyID, secret.Random(32), kms.NewMaterial)
	must(f.RotateKeyOnDemand(t.Context(), admin, &kms.RotateKeyOnDemandInput{KeyID: k.KeyID}))(t)
}

func TestAsymmetricAndHMACKeysKeepTheirFirstMaterial(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	for _, spec := range []keyspec.Spec{keyspec.HMAC256, keyspec.ECCNISTP256} {
		k := external(t, f, func(in *kms.CreateKeyInput) { in.KeySpec, in.KeyUsage = spec, spec.Usages()[0] })
		first, _, err := keyspec.Generate(spec)
		ok(t, err)
		second, _, err := keyspec.Generate(spec)
		ok(t, err)
		importMaterial(t, f, admin, k.KeyID, first, "")
		must(f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: k.KeyID}))(t)
		wantState(t, f, k.KeyID, kms.StatePendingImport)
		in := importing(t, f, admin, k.KeyID, second)
		_, err = f.ImportKeyMaterial(t.Context(), admin, &in)
		kmstest.Refused(t, err, kms.CodeIncorrectMaterial, "The key material is not one that was previously imported into the KMS key.")
		importMaterial(t, f, admin, k.KeyID, first, "")
		wantState(t, f, k.KeyID, kms.StateEnabled)
	}
}

func TestDeletionOfImportedMaterial(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	ours, k := createKey(t, f, kms.CreateKeyInput{}), external(t, f)
	remove := func(id, material string) (*kms.DeleteImportedKeyMaterialOutput, error) {
		return f.DeleteImportedKeyMaterial(t.Context(), admin, &kms.DeleteImportedKeyMaterialInput{KeyID: id, KeyMaterialID: material})
	}
	_, err := remove(ours.KeyID, "")
	kmstest.Refused(t, err, kms.CodeUnsupported, ours.ARN+" origin is AWS_KMS which is not valid for this operation.")
	unknown := strings.Repeat("0", 64)
	_, err = remove(k.KeyID, unknown)
	kmstest.Refused(t, err, kms.CodeNotFound, "Key material "+unknown+" of "+k.ARN+" does not exist.")
	_, err = remove(k.KeyID, "00")
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value '00' at 'keyMaterialId' failed to satisfy constraint: Member must have length greater than or equal to 64")
	if out := must(remove(k.KeyID, ""))(t); out.KeyMaterialID != "" {
		t.Error("material was deleted that never was")
	}
	id := importMaterial(t, f, admin, k.KeyID, secret.Random(32), "").KeyMaterialID
	ok(t, f.DisableKey(t.Context(), admin, &kms.DisableKeyInput{KeyID: k.KeyID}))
	must(remove(k.KeyID, id))(t)
	wantState(t, f, k.KeyID, kms.StatePendingImport)
	must(remove(k.KeyID, id))(t) // again is no error
	must(f.ScheduleKeyDeletion(t.Context(), admin, &kms.ScheduleKeyDeletionInput{KeyID: k.KeyID}))(t)
	must(remove(k.KeyID, ""))(t)
	wantState(t, f, k.KeyID, kms.StatePendingDeletion)
}

func TestImportIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	admin := kmstest.Admin(t)
	k := external(t, f)
	in := importing(t, f, admin, k.KeyID, secret.Random(32))
	for _, call := range []string{"Update", "Append"} {
		f.Store.Fail(func(c string) error {
			if c == call {
				return kms.ErrUnavailable
			}
			return nil
		})
		_, err := f.ImportKeyMaterial(t.Context(), admin, &in)
		f.Store.Fail(nil)
		if call == "Update" {
			kmstest.Refused(t, err, kms.CodeInternal, "The change could not be written.")
			wantState(t, f, k.KeyID, kms.StatePendingImport)
		} else { // its entry is that of the change
			ok(t, err)
			wantState(t, f, k.KeyID, kms.StateEnabled)
		}
	}
}
