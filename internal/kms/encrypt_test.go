package kms_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"cardea/internal/audit"
	"cardea/internal/ciphertext"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// textFor is what AWS answers for a key that the caller has not named.
const textForUnnamed = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."

func text(s string) secret.Bytes { return secret.Copy([]byte(s)) }

func encrypt(t testing.TB, f *kmstest.Fixture, key, plaintext string, pairs map[string]string) []byte {
	t.Helper()
	out, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: key, Plaintext: text(plaintext), EncryptionContext: pairs})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

func TestEncryptThenDecrypt(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, k, "alias/cards")
	pairs := map[string]string{"tenant": "acme", "purpose": "branch key"}
	for _, name := range []string{k.ID, k.ARN(), "alias/cards", "arn:aws:kms:eu-central-1:111122223333:alias/cards"} {
		in := &kms.EncryptInput{KeyID: name, Plaintext: text("a secret"), EncryptionContext: pairs}
		sealed, err := f.Encrypt(t.Context(), kmstest.Admin(t), in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if sealed.KeyID != k.ARN() || sealed.EncryptionAlgorithm != keyspec.EncryptSymmetric || len(sealed.CiphertextBlob) != 55+92+8 {
			t.Errorf("%s: got %s, %s, %d bytes", name, sealed.KeyID, sealed.EncryptionAlgorithm, len(sealed.CiphertextBlob))
		}
		if string(in.Plaintext.Expose()) != "a secret" {
			t.Error("the caller's plaintext was destroyed")
		}
		for _, by := range []string{name, ""} {
			out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{KeyID: by, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: pairs})
			if err != nil {
				t.Fatalf("%s, KeyId %q: %v", name, by, err)
			}
			if string(out.Plaintext.Expose()) != "a secret" || out.KeyID != k.ARN() || out.KeyMaterialID != k.Materials[0].ID || out.EncryptionAlgorithm != keyspec.EncryptSymmetric {
				t.Errorf("%s, KeyId %q: got %s, %s, %s, or another plaintext", name, by, out.KeyID, out.KeyMaterialID, out.EncryptionAlgorithm)
			}
		}
	}
}

func TestEncryptAndDecryptAreRecorded(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, k, "alias/cards")
	pairs := map[string]string{"tenant": "acme", "a": "first"}
	blob := encrypt(t, f, "alias/cards", "a secret", pairs)
	if _, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: pairs}); err != nil {
		t.Fatal(err)
	}
	es := f.Entries(t)
	if len(es) != 2 {
		t.Fatalf("%d entries", len(es))
	}
	for i, want := range []struct {
		op, event string
		request   []audit.Param
	}{
		{"kms.encrypt", "Encrypt", []audit.Param{{Name: "keyId", Value: "alias/cards"}, {Name: "encryptionAlgorithm", Value: "SYMMETRIC_DEFAULT"}}},
		{"kms.decrypt", "Decrypt", []audit.Param{{Name: "encryptionAlgorithm", Value: "SYMMETRIC_DEFAULT"}}},
	} {
		e := es[i]
		if e.Op != want.op || e.Call.Event != want.event || e.PCI != "10.2.1.1" || e.Outcome != audit.Allowed || e.Result != "done" ||
			e.Resource.Key != k.ARN() || e.RequestID != kmstest.Admin(t).RequestID || e.Who.Name != "arn:aws:iam::111122223333:user/admin" {
			t.Errorf("entry %d: %+v", i, e)
		}
		if want := `allowed by identity policy inline /Statement/0 "Everything", to which resource policy /Statement/0 "Enable IAM User Permissions" leaves it`; e.Detail != want {
			t.Errorf("entry %d: detail %q", i, e.Detail)
		}
		if !slices.Equal(e.Call.Request, want.request) || !slices.Equal(e.Call.Resources, []string{k.ARN()}) {
			t.Errorf("entry %d: parameters %v, resources %v", i, e.Call.Request, e.Call.Resources)
		}
		if !slices.Equal(e.Call.Context, []audit.Param{{Name: "a", Value: "first"}, {Name: "tenant", Value: "acme"}}) {
			t.Errorf("entry %d: context %v", i, e.Call.Context)
		}
		if !slices.Equal(e.Call.Response, []audit.Param{{Name: "keyMaterialId", Value: k.Materials[0].ID}}) {
			t.Errorf("entry %d: response %v", i, e.Call.Response)
		}
	}
}

func TestEncryptChecksParameters(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	few, many := text("x"), make(map[string]string)
	for i := range 65 {
		many[strings.Repeat("k", i+1)] = ""
	}
	const one = "1 validation error detected: "
	for name, c := range map[string]struct {
		in   kms.EncryptInput
		want string
	}{
		"no key": {kms.EncryptInput{Plaintext: few}, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"long key": {
			kms.EncryptInput{KeyID: strings.Repeat("k", 2049), Plaintext: few},
			one + "Value '" + strings.Repeat("k", 128) + "…' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048",
		},
		"no plaintext":    {kms.EncryptInput{KeyID: k.ID}, one + "Value at 'plaintext' failed to satisfy constraint: Member must not be null"},
		"empty plaintext": {kms.EncryptInput{KeyID: k.ID, Plaintext: text("")}, one + "Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long plaintext": {
			kms.EncryptInput{KeyID: k.ID, Plaintext: secret.New(make([]byte, 4097))},
			one + "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096",
		},
		"algorithm": {
			kms.EncryptInput{KeyID: k.ID, Plaintext: few, EncryptionAlgorithm: "ROT13"},
			one + "Value 'ROT13' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]",
		},
		"context of many pairs": {
			kms.EncryptInput{KeyID: k.ID, Plaintext: few, EncryptionContext: many},
			one + "Value at 'encryptionContext' failed to satisfy constraint: Member must have at most 64 pairs",
		},
		"context of many bytes": {
			kms.EncryptInput{KeyID: k.ID, Plaintext: few, EncryptionContext: map[string]string{"a": strings.Repeat("v", 8192)}},
			one + "Value at 'encryptionContext' failed to satisfy constraint: Member must have keys and values of at most 8192 bytes together",
		},
		"context with an empty name": {
			kms.EncryptInput{KeyID: k.ID, Plaintext: few, EncryptionContext: map[string]string{"": "v"}},
			one + "Value at 'encryptionContext' failed to satisfy constraint: Member must not have an empty key",
		},
		"two things": {
			kms.EncryptInput{GrantTokens: make([]string, 11), Plaintext: few},
			"2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; " +
				"Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10",
		},
	} {
		out, err := f.Encrypt(t.Context(), kmstest.Admin(t), &c.in)
		kmstest.Refused(t, err, kms.CodeValidation, c.want)
		if e := f.Last(t); out != nil || e.Outcome != audit.Failed || e.Result != "validation" || e.Call.Error != "ValidationException" {
			t.Errorf("%s: entry %+v", name, e)
		}
	}
}

func TestDecryptChecksParameters(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	ignore := []kms.DryRunModifier{kms.IgnoreCiphertext}
	const one = "1 validation error detected: "
	for name, c := range map[string]struct {
		in   kms.DecryptInput
		want string
	}{
		"no ciphertext":    {kms.DecryptInput{KeyID: k.ID}, one + "Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
		"empty ciphertext": {kms.DecryptInput{CiphertextBlob: []byte{}}, one + "Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long ciphertext": {
			kms.DecryptInput{CiphertextBlob: make([]byte, 6145)},
			one + "Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144",
		},
		"RSA without a key": {
			kms.DecryptInput{CiphertextBlob: []byte("x"), EncryptionAlgorithm: keyspec.EncryptOAEPSHA256},
			one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null",
		},
		"ignoring without a key": {
			kms.DecryptInput{DryRun: true, DryRunModifiers: ignore},
			one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null",
		},
		"modifier without dry run": {
			kms.DecryptInput{CiphertextBlob: []byte("x"), DryRunModifiers: ignore},
			one + "Value at 'dryRunModifiers' failed to satisfy constraint: Member must not be set unless DryRun is true",
		},
		"unknown modifier": {
			kms.DecryptInput{CiphertextBlob: []byte("x"), DryRun: true, DryRunModifiers: []kms.DryRunModifier{"HOPE"}},
			one + "Value 'HOPE' at 'dryRunModifiers' failed to satisfy constraint: Member must satisfy enum value set: [IGNORE_CIPHERTEXT]",
		},
	} {
		if out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &c.in); out != nil {
			t.Errorf("%s: got an output", name)
		} else {
			kmstest.Refused(t, err, kms.CodeValidation, c.want)
		}
	}
}

// Whatever is wrong with a ciphertext the answer is the same and says nothing; the
// log says why.
func TestDecryptOfWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, other := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	pairs := map[string]string{"a": "bc"}
	blob := encrypt(t, f, k.ID, "a secret", pairs)
	with := func(i int, x byte) []byte { b := slices.Clone(blob); b[i] ^= x; return b }
	swapped := slices.Clone(blob)
	h := ciphertext.KMSHeader{Account: other.Account, KeyID: other.ID, MaterialID: other.Materials[0].ID}
	header, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	copy(swapped, header)
	// An id whose digits are a card number's, which the log must not mask.
	unknown, card := slices.Clone(blob), "4111111111111111"+strings.Repeat("a", 48)
	h = ciphertext.KMSHeader{Account: k.Account, KeyID: k.ID, MaterialID: card}
	if header, err = h.Append(nil); err != nil {
		t.Fatal(err)
	}
	copy(unknown, header)
	const boxed, parsed = "does not open", "ciphertext is corrupt"
	for name, c := range map[string]struct {
		blob   []byte
		pairs  map[string]string
		reason string
	}{
		"other context":                  {blob, map[string]string{"ab": "c"}, boxed},
		"no context":                     {blob, nil, boxed},
		"more context":                   {blob, map[string]string{"a": "bc", "d": ""}, boxed},
		"case of a name":                 {blob, map[string]string{"A": "bc"}, boxed},
		"last byte":                      {with(len(blob)-1, 1), pairs, boxed},
		"salt":                           {with(55, 1), pairs, boxed},
		"cut":                            {blob[:len(blob)-1], pairs, boxed},
		"longer":                         {append(slices.Clone(blob), 0), pairs, boxed},
		"only a header":                  {blob[:55], pairs, parsed},
		"version":                        {with(0, 2), pairs, "unknown format version"},
		"material":                       {with(23, 1), pairs, "the key has no material/" + hexOf(with(23, 1)[23:55])},
		"unknown material":               {unknown, pairs, "the key has no material/" + card},
		"header of another key":          {swapped, pairs, boxed},
		"garbage":                        {[]byte("garbage"), pairs, "unknown format version"},
		"one byte":                       {[]byte{1}, pairs, parsed},
		"header and one byte":            {blob[:56], pairs, boxed},
		"of the right length, all zeros": {make([]byte, len(blob)), pairs, "unknown format version"},
	} {
		n := len(f.Entries(t))
		out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: c.blob, EncryptionContext: c.pairs})
		kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
		es := f.Entries(t)
		if e := es[len(es)-1]; out != nil || len(es) != n+1 || e.Outcome != audit.Failed || e.Result != "invalid_ciphertext" ||
			e.Call.Error != "InvalidCiphertextException" || !strings.Contains(e.Detail, c.reason) {
			t.Errorf("%s: entry %s %q, want %q", name, e.Result, e.Detail, c.reason)
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// A ciphertext opens under the encryption context it was made with and under no
// other, however alike.
func TestEncryptionContextIsBound(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	who := kmstest.Admin(t)
	word := rapid.StringOfN(rapid.RuneFrom([]rune("aB")), 1, 2, -1)
	pairs := rapid.MapOfN(word, rapid.OneOf(word, rapid.Just("")), 0, 2)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := pairs.Draw(rt, "encrypted with"), pairs.Draw(rt, "decrypted with")
		sealed, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("a secret"), EncryptionContext: a})
		if err != nil {
			rt.Fatal(err)
		}
		out, err := f.Decrypt(t.Context(), who, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: b})
		if opened := err == nil && string(out.Plaintext.Expose()) == "a secret"; opened != maps.Equal(a, b) {
			rt.Fatalf("%v opens %v: %v, %v", b, a, opened, err)
		}
	})
}

func TestDecryptWithTheWrongKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	// The digits of the id are a card number's, which the log must not mask.
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.ID = "42424242-4242-4242-abcd-abcdefabcdef" })
	blob := encrypt(t, f, k.ID, "a secret", nil)
	// As AWS answers, whatever else is wrong with the other key.
	for name, other := range map[string]*kms.Key{
		"symmetric": f.Key(t, keyspec.SymmetricDefault),
		"disabled":  f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.State = kms.StateDisabled }),
		"imported":  f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Origin, k.State, k.Materials = kms.OriginExternal, kms.StatePendingImport, nil }),
		"HMAC":      f.Key(t, keyspec.HMAC256),
		"signing":   f.Key(t, keyspec.ECCNISTP256),
	} {
		out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{KeyID: other.ID, CiphertextBlob: blob})
		if out != nil {
			t.Errorf("%s: got an output", name)
		}
		kmstest.Refused(t, err, kms.CodeIncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
		if e := f.Last(t); e.Detail != "the ciphertext is of account 111122223333, key/"+k.ID || e.Resource.Key != other.ARN() {
			t.Errorf("%s: %s %q", name, e.Resource.Key, e.Detail)
		}
		// Who may not use the key named is told nothing of the ciphertext.
		_, err = f.Decrypt(t.Context(), kmstest.User(t), &kms.DecryptInput{KeyID: other.ID, CiphertextBlob: blob})
		kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/user is not authorized to perform: kms:Decrypt on resource: "+
			other.ARN()+" because no identity-based policy allows the kms:Decrypt action")
	}
}

// A key that only the ciphertext names is not told from one that does not exist.
func TestDecryptWithoutKeyIDTellsNothingOfTheKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	gone := slices.Clone(blob)
	gone[10] ^= 1
	for name, c := range map[string]struct {
		who    kms.Caller
		blob   []byte
		reason string
	}{
		"no such key":    {kmstest.Admin(t), gone, "does not exist"},
		"other Region":   {kmstest.In(kmstest.Admin(t), kmstest.OtherRegion), blob, "does not exist"},
		"not allowed":    {kmstest.User(t), blob, "denied: no identity policy allows it"},
		"other account":  {kmstest.Foreigner(t), blob, "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"},
		"anonymous":      {kms.Caller{Region: kmstest.Region}, blob, "denied: the caller is not authenticated"},
		"other, no such": {kmstest.Foreigner(t), gone, "does not exist"},
	} {
		out, err := f.Decrypt(t.Context(), c.who, &kms.DecryptInput{CiphertextBlob: c.blob})
		kmstest.Refused(t, err, kms.CodeAccessDenied, textForUnnamed)
		if e := f.Last(t); out != nil || e.Outcome != audit.Denied || e.Result != "access_denied" || !strings.Contains(e.Detail, c.reason) || e.Resource.Key == "" {
			t.Errorf("%s: entry %s %s %q", name, e.Outcome, e.Resource.Key, e.Detail)
		}
	}
}

const crossAccount = `{"Version":"2012-10-17","Statement":[
	{"Sid":"Own","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
	{"Sid":"Partner","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*"],"Resource":"*"}]}`

func TestKeyOfAnotherAccount(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Policy = crossAccount })
	f.Alias(t, k, "alias/shared")
	who := kmstest.Foreigner(t)
	for _, name := range []string{k.ARN(), "arn:aws:kms:eu-central-1:111122223333:alias/shared"} {
		out, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: name, Plaintext: text("a secret")})
		if err != nil {
			t.Fatal(err)
		}
		// The ciphertext names the account, so no KeyId or a bare one will do.
		for _, by := range []string{name, "", k.ID} {
			p, err := f.Decrypt(t.Context(), who, &kms.DecryptInput{KeyID: by, CiphertextBlob: out.CiphertextBlob})
			if err != nil || string(p.Plaintext.Expose()) != "a secret" || p.KeyID != k.ARN() {
				t.Errorf("decrypt by %q: %v, or another plaintext", by, err)
			}
			if e := f.Last(t); e.Call.Account != kmstest.Account || e.Call.Caller != kmstest.Other {
				t.Errorf("accounts in the entry: %s, %s", e.Call.Account, e.Call.Caller)
			}
		}
	}
	for _, name := range []string{k.ID, "alias/shared"} {
		_, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: name, Plaintext: text("x")})
		if e := f.Last(t); err == nil || e.Result != "not_found" {
			t.Errorf("%s without an account: %v, %s", name, err, e.Result)
		}
	}
	// Without an identity policy of its own account the key policy is not enough.
	guest := kmstest.As(kmstest.Subject(t, kmstest.Other, "guest", ""))
	_, err := f.Encrypt(t.Context(), guest, &kms.EncryptInput{KeyID: k.ARN(), Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::444455556666:user/guest is not authorized to perform: kms:Encrypt on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:Encrypt action")
}

func TestCiphertextOfAMultiRegionKeyOpensInEveryRegion(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	primary := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		id := "mrk-" + strings.ReplaceAll(uuid.NewString(), "-", "")
		k.ID, k.Regions = id, &kms.Regions{Type: kms.Primary, Primary: kmstest.Region, Replicas: []string{kmstest.OtherRegion}}
		k.Materials = []kms.Material{f.Material(t, k)}
	})
	replica := primary.Clone()
	replica.Version, replica.Region, replica.Regions.Type = 0, kmstest.OtherRegion, kms.Replica
	f.Put(t, replica)
	pairs := map[string]string{"a": "b"}
	blob := encrypt(t, f, primary.ID, "a secret", pairs)
	for _, by := range []string{"", primary.ID, replica.ARN()} {
		out, err := f.Decrypt(t.Context(), kmstest.In(kmstest.Admin(t), kmstest.OtherRegion), &kms.DecryptInput{KeyID: by, CiphertextBlob: blob, EncryptionContext: pairs})
		if err != nil || string(out.Plaintext.Expose()) != "a secret" || out.KeyID != replica.ARN() {
			t.Errorf("decrypt by %q: %v", by, err)
		}
	}
	_, err := f.Decrypt(t.Context(), kmstest.In(kmstest.Admin(t), kmstest.OtherRegion), &kms.DecryptInput{KeyID: primary.ARN(), CiphertextBlob: blob, EncryptionContext: pairs})
	kmstest.Refused(t, err, kms.CodeNotFound, "Invalid arn eu-central-1")
}

func TestOldMaterialStillDecrypts(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	before := encrypt(t, f, k.ID, "before", nil)
	k = f.Rotate(t, k)
	after := encrypt(t, f, k.ID, "after", nil)
	for i, blob := range [][]byte{before, after} {
		out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob})
		if err != nil || string(out.Plaintext.Expose()) != []string{"before", "after"}[i] || out.KeyMaterialID != k.Materials[i].ID {
			t.Errorf("material %d: %v, or another plaintext", i, err)
		}
	}
}

// TestStatesOfKeysInUse goes through every state with every operation of this kind.
func TestStatesOfKeysInUse(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	blobs := map[string][]byte{}
	key := func(spec keyspec.Spec) *kms.Key { return f.Key(t, spec) }
	symmetric, hmac, p256 := key(keyspec.SymmetricDefault), key(keyspec.HMAC256), key(keyspec.ECCNISTP256)
	agree := f.Key(t, keyspec.ECCNISTP256, func(k *kms.Key) { k.Usage = keyspec.KeyAgreement })
	ready := key(keyspec.SymmetricDefault)
	blobs["ready"] = encrypt(t, f, ready.ID, "x", nil)
	blobs["symmetric"] = encrypt(t, f, symmetric.ID, "x", nil)
	who, ctx := kmstest.Admin(t), t.Context()
	mac, err := f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: hmac.ID, Message: []byte("m"), MACAlgorithm: keyspec.MACHMACSHA256})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := f.Sign(ctx, who, &kms.SignInput{KeyID: p256.ID, Message: []byte("m"), SigningAlgorithm: keyspec.SignECDSASHA256})
	if err != nil {
		t.Fatal(err)
	}
	size := int32(16)
	type run = func() error
	operations := map[string]struct {
		key *kms.Key
		run run
	}{
		"Encrypt": {symmetric, func() error {
			_, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: symmetric.ID, Plaintext: text("x")})
			return err
		}},
		"Decrypt": {symmetric, func() error {
			_, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: blobs["symmetric"]})
			return err
		}},
		"Decrypt by KeyId": {symmetric, func() error {
			_, err := f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: symmetric.ID, CiphertextBlob: blobs["symmetric"]})
			return err
		}},
		"ReEncrypt from": {symmetric, func() error {
			_, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: blobs["symmetric"], DestinationKeyID: ready.ID})
			return err
		}},
		"ReEncrypt to": {symmetric, func() error {
			_, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{CiphertextBlob: blobs["ready"], DestinationKeyID: symmetric.ID})
			return err
		}},
		"GenerateDataKey": {symmetric, func() error {
			_, err := f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: symmetric.ID, KeySpec: kms.DataKeyAES256})
			return err
		}},
		"GenerateDataKeyWithoutPlaintext": {symmetric, func() error {
			_, err := f.GenerateDataKeyWithoutPlaintext(ctx, who, &kms.GenerateDataKeyWithoutPlaintextInput{KeyID: symmetric.ID, NumberOfBytes: &size})
			return err
		}},
		"GenerateDataKeyPair": {symmetric, func() error {
			_, err := f.GenerateDataKeyPair(ctx, who, &kms.GenerateDataKeyPairInput{KeyID: symmetric.ID, KeyPairSpec: keyspec.ECCNISTP256})
			return err
		}},
		"GenerateDataKeyPairWithoutPlaintext": {symmetric, func() error {
			_, err := f.GenerateDataKeyPairWithoutPlaintext(ctx, who, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyID: symmetric.ID, KeyPairSpec: keyspec.ECCNISTP256})
			return err
		}},
		"Sign": {p256, func() error {
			_, err := f.Sign(ctx, who, &kms.SignInput{KeyID: p256.ID, Message: []byte("m"), SigningAlgorithm: keyspec.SignECDSASHA256})
			return err
		}},
		"Verify": {p256, func() error {
			_, err := f.Verify(ctx, who, &kms.VerifyInput{KeyID: p256.ID, Message: []byte("m"), Signature: signed.Signature, SigningAlgorithm: keyspec.SignECDSASHA256})
			return err
		}},
		"GetPublicKey": {p256, func() error {
			_, err := f.GetPublicKey(ctx, who, &kms.GetPublicKeyInput{KeyID: p256.ID})
			return err
		}},
		"GenerateMac": {hmac, func() error {
			_, err := f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: hmac.ID, Message: []byte("m"), MACAlgorithm: keyspec.MACHMACSHA256})
			return err
		}},
		"VerifyMac": {hmac, func() error {
			_, err := f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: hmac.ID, Message: []byte("m"), MAC: mac.MAC, MACAlgorithm: keyspec.MACHMACSHA256})
			return err
		}},
		"DeriveSharedSecret": {agree, func() error {
			_, err := f.DeriveSharedSecret(ctx, who, &kms.DeriveSharedSecretInput{KeyID: agree.ID, KeyAgreementAlgorithm: keyspec.AgreeECDH, PublicKey: p256.Materials[0].Public})
			return err
		}},
	}
	for _, state := range []struct {
		state kms.KeyState
		code  kms.Code
		text  string
	}{
		{kms.StateEnabled, "", ""},
		{kms.StateUpdating, "", ""},
		{kms.StateDisabled, kms.CodeDisabled, " is disabled."},
		{kms.StatePendingImport, kms.CodeInvalidState, " is pending import."},
		{kms.StatePendingDeletion, kms.CodeInvalidState, " is pending deletion."},
		{kms.StatePendingReplicaDeletion, kms.CodeInvalidState, " is pending replica deletion."},
		{kms.StateUnavailable, kms.CodeInvalidState, " is unavailable."},
		{kms.StateCreating, kms.CodeInvalidState, " is creating."},
	} {
		for _, k := range []*kms.Key{symmetric, hmac, p256, agree} {
			f.Change(t, k.KeyRef, func(k *kms.Key) { k.State = state.state })
		}
		for name, op := range operations {
			n := len(f.Entries(t))
			err := op.run()
			if state.code != "" {
				kmstest.Refused(t, err, state.code, op.key.ARN()+state.text)
			} else if err != nil {
				t.Errorf("%s of a key that is %s: %v", name, state.state, err)
			}
			es := f.Entries(t)
			if len(es) != n+1 || (es[n].Outcome == audit.Allowed) != (state.code == "") || es[n].Call.Error != string(state.code) {
				t.Errorf("%s of a key that is %s: %d entries", name, state.state, len(es)-n)
			}
		}
	}
}

func TestEncryptionWithRSA(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.RSA2048)
	who, ctx := kmstest.Admin(t), t.Context()
	spki, err := x509.ParsePKIXPublicKey(k.Materials[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	for a, h := range map[keyspec.EncryptionAlgorithm]func() hash.Hash{keyspec.EncryptOAEPSHA1: sha1.New, keyspec.EncryptOAEPSHA256: sha256.New} {
		sealed, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("a secret"), EncryptionAlgorithm: a})
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed.CiphertextBlob) != 256 || sealed.EncryptionAlgorithm != a || sealed.KeyID != k.ARN() {
			t.Errorf("%s: %d bytes, %s, %s", a, len(sealed.CiphertextBlob), sealed.EncryptionAlgorithm, sealed.KeyID)
		}
		if e := f.Last(t); len(e.Call.Response) != 0 {
			t.Errorf("%s: an asymmetric key's material is named: %v", a, e.Call.Response)
		}
		offline, err := rsa.EncryptOAEP(h(), rand.Reader, spki.(*rsa.PublicKey), []byte("a secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range [][]byte{sealed.CiphertextBlob, offline} {
			out, err := f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: blob, EncryptionAlgorithm: a})
			if err != nil || string(out.Plaintext.Expose()) != "a secret" || out.KeyMaterialID != "" || out.EncryptionAlgorithm != a {
				t.Errorf("%s: %v, material %q", a, err, out.KeyMaterialID)
			}
			blob[7] ^= 1
			_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: blob, EncryptionAlgorithm: a})
			kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
			_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: blob[:100], EncryptionAlgorithm: a})
			kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
		}
	}
	const oaep = keyspec.EncryptOAEPSHA256
	long := secret.New(bytes.Repeat([]byte{1}, 191))
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: long, EncryptionAlgorithm: oaep})
	kmstest.Refused(t, err, kms.CodeValidation, "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), EncryptionAlgorithm: "SM2PKE"})
	kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, "Algorithm SM2PKE is incompatible with key spec RSA_2048.")
	const noContext = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs."
	pairs := map[string]string{"a": "b"}
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), EncryptionAlgorithm: oaep, EncryptionContext: pairs})
	kmstest.Refused(t, err, kms.CodeValidation, noContext)
	_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: make([]byte, 256), EncryptionAlgorithm: oaep, EncryptionContext: pairs})
	kmstest.Refused(t, err, kms.CodeValidation, noContext)
	symmetric := f.Key(t, keyspec.SymmetricDefault)
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: symmetric.ID, Plaintext: text("x"), EncryptionAlgorithm: oaep})
	kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.")
	_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: symmetric.ID, CiphertextBlob: make([]byte, 256), EncryptionAlgorithm: oaep})
	kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.")
}

func TestEncryptWithKeysForOtherThings(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	for _, k := range []*kms.Key{
		f.Key(t, keyspec.HMAC256), f.Key(t, keyspec.ECCNISTP256),
		f.Key(t, keyspec.ECCNISTP256, func(k *kms.Key) { k.Usage = keyspec.KeyAgreement }),
	} {
		_, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
		kmstest.Refused(t, err, kms.CodeInvalidKeyUsage, k.ARN()+" key usage is "+string(k.Usage)+" which is not valid for Encrypt.")
	}
}

func TestDryRunOfEncryptAndDecrypt(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	ignore := []kms.DryRunModifier{kms.IgnoreCiphertext}
	who, ctx := kmstest.Admin(t), t.Context()
	const would = "The request would have succeeded, but the DryRun option is set."

	_, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), DryRun: true})
	kmstest.Refused(t, err, kms.CodeDryRun, would)
	if e := f.Last(t); e.Call.Param("dryRun") != "true" || e.Result != "dry_run_operation" {
		t.Errorf("entry %s, dryRun %q", e.Result, e.Call.Param("dryRun"))
	}
	for _, in := range []*kms.DecryptInput{
		{CiphertextBlob: blob, DryRun: true},
		{KeyID: k.ID, CiphertextBlob: blob, DryRun: true},
		{KeyID: k.ID, DryRun: true, DryRunModifiers: ignore},
		{KeyID: k.ID, CiphertextBlob: []byte("no ciphertext"), DryRun: true, DryRunModifiers: ignore},
	} {
		out, err := f.Decrypt(ctx, who, in)
		kmstest.Refused(t, err, kms.CodeDryRun, would)
		if out != nil {
			t.Error("a dry run has an output")
		}
	}
	_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: []byte("no ciphertext"), DryRun: true})
	kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
	_, err = f.Decrypt(ctx, kmstest.User(t), &kms.DecryptInput{KeyID: k.ID, DryRun: true, DryRunModifiers: ignore})
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/user is not authorized to perform: kms:Decrypt on resource: "+
		k.ARN()+" because no identity-based policy allows the kms:Decrypt action")
	f.Change(t, k.KeyRef, func(k *kms.Key) { k.State = kms.StateDisabled })
	_, err = f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, DryRun: true, DryRunModifiers: ignore})
	kmstest.Refused(t, err, kms.CodeDisabled, k.ARN()+" is disabled.")
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), DryRun: true})
	kmstest.Refused(t, err, kms.CodeDisabled, k.ARN()+" is disabled.")
}

const noRecipient = "The Recipient parameter is not supported: this key service does not verify attestation documents of AWS Nitro Enclaves or NitroTPM."

func TestRecipientsAreRefused(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	r, size := &kms.RecipientInfo{}, int32(16)
	who, ctx := kmstest.Admin(t), t.Context()
	_, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: blob, Recipient: r})
	kmstest.Refused(t, err, kms.CodeUnsupported, noRecipient)
	_, err = f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256, Recipient: r})
	kmstest.Refused(t, err, kms.CodeUnsupported, noRecipient)
	_, err = f.GenerateDataKeyPair(ctx, who, &kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.ECCNISTP256, Recipient: r})
	kmstest.Refused(t, err, kms.CodeUnsupported, noRecipient)
	_, err = f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: &size, Recipient: r})
	kmstest.Refused(t, err, kms.CodeUnsupported, noRecipient)
	_, err = f.DeriveSharedSecret(ctx, who, &kms.DeriveSharedSecretInput{KeyID: k.ID, KeyAgreementAlgorithm: keyspec.AgreeECDH, PublicKey: []byte("x"), Recipient: r})
	kmstest.Refused(t, err, kms.CodeUnsupported, noRecipient)
}
