package kms_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// uses is every operation on key material, ready to be made with keys that let it
// succeed, and whether it gave anything out.
func uses(t *testing.T, f *kmstest.Fixture) map[string]func(who kms.Caller) (output bool, err error) {
	t.Helper()
	k, hmac, p256 := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.HMAC256), f.Key(t, keyspec.ECCNISTP256)
	agree, rsa := f.Key(t, keyspec.ECCNISTP256, agreement), f.Key(t, keyspec.RSA2048)
	admin, ctx, m, n := kmstest.Admin(t), t.Context(), []byte("a message"), int32(16)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	const oaep, a = keyspec.EncryptOAEPSHA256, keyspec.SignECDSASHA256
	sealed, err := f.Encrypt(ctx, admin, &kms.EncryptInput{KeyID: rsa.ID, Plaintext: text("a secret"), EncryptionAlgorithm: oaep})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := f.Sign(ctx, admin, &kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	mac, err := f.GenerateMAC(ctx, admin, &kms.GenerateMACInput{KeyID: hmac.ID, Message: m, MACAlgorithm: keyspec.MACHMACSHA256})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func(who kms.Caller) (bool, error){
		"Encrypt": func(who kms.Caller) (bool, error) {
			out, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
			return out != nil, err
		},
		"Encrypt with RSA": func(who kms.Caller) (bool, error) {
			out, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: rsa.ID, Plaintext: text("x"), EncryptionAlgorithm: oaep})
			return out != nil, err
		},
		"Decrypt": func(who kms.Caller) (bool, error) {
			out, err := f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: blob})
			return out != nil, err
		},
		"Decrypt with RSA": func(who kms.Caller) (bool, error) {
			out, err := f.Decrypt(ctx, who, &kms.DecryptInput{KeyID: rsa.ID, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: oaep})
			return out != nil, err
		},
		"ReEncrypt": func(who kms.Caller) (bool, error) {
			out, err := f.ReEncrypt(ctx, who, &kms.ReEncryptInput{SourceKeyID: k.ID, CiphertextBlob: blob, DestinationKeyID: k.ID})
			return out != nil, err
		},
		"GenerateDataKey": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256})
			return out != nil, err
		},
		"GenerateDataKeyWithoutPlaintext": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateDataKeyWithoutPlaintext(ctx, who, &kms.GenerateDataKeyWithoutPlaintextInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256})
			return out != nil, err
		},
		"GenerateDataKeyPair": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateDataKeyPair(ctx, who, &kms.GenerateDataKeyPairInput{KeyID: k.ID, KeyPairSpec: keyspec.ECCNISTP256})
			return out != nil, err
		},
		"GenerateDataKeyPairWithoutPlaintext": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateDataKeyPairWithoutPlaintext(ctx, who, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyID: k.ID, KeyPairSpec: keyspec.ECCNISTP256})
			return out != nil, err
		},
		"GenerateRandom": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: &n})
			return out != nil, err
		},
		"Sign": func(who kms.Caller) (bool, error) {
			out, err := f.Sign(ctx, who, &kms.SignInput{KeyID: p256.ID, Message: m, SigningAlgorithm: a})
			return out != nil, err
		},
		"Verify": func(who kms.Caller) (bool, error) {
			out, err := f.Verify(ctx, who, &kms.VerifyInput{KeyID: p256.ID, Message: m, Signature: signed.Signature, SigningAlgorithm: a})
			return out != nil, err
		},
		"GenerateMac": func(who kms.Caller) (bool, error) {
			out, err := f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: hmac.ID, Message: m, MACAlgorithm: keyspec.MACHMACSHA256})
			return out != nil, err
		},
		"VerifyMac": func(who kms.Caller) (bool, error) {
			out, err := f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: hmac.ID, Message: m, MAC: mac.MAC, MACAlgorithm: keyspec.MACHMACSHA256})
			return out != nil, err
		},
		"DeriveSharedSecret": func(who kms.Caller) (bool, error) {
			out, err := f.DeriveSharedSecret(ctx, who, &kms.DeriveSharedSecretInput{KeyID: agree.ID, KeyAgreementAlgorithm: keyspec.AgreeECDH, PublicKey: p256.Materials[0].Public})
			return out != nil, err
		},
		"GetPublicKey": func(who kms.Caller) (bool, error) {
			out, err := f.GetPublicKey(ctx, who, &kms.GetPublicKeyInput{KeyID: p256.ID})
			return out != nil, err
		},
		"GetKeyLastUsage": func(who kms.Caller) (bool, error) {
			out, err := f.GetKeyLastUsage(ctx, who, &kms.GetKeyLastUsageInput{KeyID: k.ID})
			return out != nil, err
		},
	}
}

// usesNoBackend are those for which stored state is enough.
var usesNoBackend = []string{"Encrypt with RSA", "Verify", "GetPublicKey", "GetKeyLastUsage"}

func TestEachUseHasExactlyOneEntry(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	for name, use := range uses(t, f) {
		for who, allowed := range map[*kms.Caller]bool{new(kmstest.Admin(t)): true, new(kmstest.User(t)): false, new(kmstest.Foreigner(t)): name == "GenerateRandom", {}: false} {
			n := len(f.Entries(t))
			output, err := use(*who)
			es := f.Entries(t)[n:]
			if (err == nil) != allowed || output != allowed || len(es) != 1 || (es[0].Outcome == audit.Allowed) != allowed {
				t.Errorf("%s: %v, %d entries", name, err, len(es))
				continue
			}
			if !allowed && name != "GenerateRandom" && who.Subject != nil && who.Caller.Account == kmstest.Account && (es[0].Outcome != audit.Denied || es[0].Detail != "denied: no identity policy allows it") {
				t.Errorf("%s: %s %q", name, es[0].Outcome, es[0].Detail)
			}
		}
	}
}

// A denied request costs no use of the key material.
func TestADeniedRequestDoesNotReachTheBackend(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	all := uses(t, f)
	f.FailBackend(func(call string) error {
		t.Errorf("the backend was asked to %s", call)
		return nil
	})
	for name, use := range all {
		if _, err := use(kmstest.User(t)); err == nil {
			t.Errorf("%s is allowed", name)
		}
	}
}

// If the entry cannot be written nothing is given out.
func TestNothingIsReleasedWithoutAnEntry(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	all := uses(t, f)
	n := len(f.Entries(t))
	f.Store.Fail(func(call string) error {
		if call == "Append" {
			return errors.New("the disk is full")
		}
		return nil
	})
	for name, use := range all {
		output, err := use(kmstest.Admin(t))
		if output {
			t.Errorf("%s: got an output", name)
		}
		kmstest.Refused(t, err, kms.CodeInternal, "The request could not be recorded in the audit log and was refused.")
	}
	f.Store.Fail(nil)
	if es := f.Entries(t); len(es) != n {
		t.Errorf("%d entries", len(es)-n)
	}
	for name, use := range all {
		if _, err := use(kmstest.Admin(t)); err != nil {
			t.Errorf("%s after the fault: %v", name, err)
		}
	}
}

func TestAFailingBackendIsRecorded(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	all := uses(t, f)
	down := errors.New("the device is on fire")
	f.FailBackend(func(string) error { return down })
	for name, use := range all {
		if slices.Contains(usesNoBackend, name) || strings.HasPrefix(name, "GenerateDataKeyPair") {
			continue
		}
		n := len(f.Entries(t))
		output, err := use(kmstest.Admin(t))
		kmstest.Refused(t, err, kms.CodeInternal, "The request failed inside the key service. Nothing was changed.")
		es := f.Entries(t)[n:]
		if output || len(es) != 1 || es[0].Outcome != audit.Failed || es[0].Result != "kms_internal" || es[0].Detail != down.Error() {
			t.Errorf("%s: %d entries: %+v", name, len(es), es)
		}
	}
}

func TestASealedServiceUsesNoKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	all := uses(t, f)
	f.Soft.SealRoot(true)
	for name, use := range all {
		n := len(f.Entries(t))
		output, err := use(kmstest.Admin(t))
		if slices.Contains(usesNoBackend, name) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		kmstest.Refused(t, err, kms.CodeKeyUnavailable, "The key service is sealed: its root key has not been unsealed by the custodians.")
		if es := f.Entries(t)[n:]; output || len(es) != 1 || es[0].Result != "key_unavailable" {
			t.Errorf("%s: %d entries", name, len(es))
		}
	}
	f.Soft.SealRoot(false)
	for name, use := range all {
		if _, err := use(kmstest.Admin(t)); err != nil {
			t.Errorf("%s after unsealing: %v", name, err)
		}
	}
}

// A panic goes on to whoever recovers it, with its entry written and secrets wiped.
func TestAPanicIsRecorded(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	all := uses(t, f)
	f.FailBackend(func(call string) error { panic("in " + call) })
	for name, use := range all {
		if slices.Contains(usesNoBackend, name) {
			continue
		}
		n := len(f.Entries(t))
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			use(kmstest.Admin(t))
		}()
		if es := f.Entries(t)[n:]; len(es) != 1 || es[0].Outcome != audit.Failed || es[0].Detail != "operation was aborted" {
			t.Errorf("%s: %d entries: %+v", name, len(es), es)
		}
	}
}

// What the service gives out is wiped if it must not be given out after all.
func TestPlaintextIsWipedIfItsEntryCannotBeWritten(t *testing.T) {
	t.Parallel()
	var opened []secret.Bytes
	f := kmstest.New(t, func(o *kms.Options) { o.Soft = spy{o.Soft, &opened} })
	k := f.Key(t, keyspec.SymmetricDefault)
	blob := encrypt(t, f, k.ID, "a secret", nil)
	f.Store.Fail(func(call string) error {
		if call == "Append" {
			return errors.New("the disk is full")
		}
		return nil
	})
	if _, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob}); err == nil {
		t.Error("decrypt succeeds")
	}
	if _, err := f.GenerateDataKey(t.Context(), kmstest.Admin(t), &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256}); err == nil {
		t.Error("generate data key succeeds")
	}
	f.Store.Fail(nil)
	if _, err := f.ReEncrypt(t.Context(), kmstest.Admin(t), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyID: k.ID}); err != nil {
		t.Error(err)
	}
	if len(opened) != 3 {
		t.Fatalf("%d plaintexts", len(opened))
	}
	for i, p := range opened {
		if p.Len() != 0 {
			t.Errorf("plaintext %d is still there", i)
		}
	}
}

// spy keeps every plaintext that the backend gives out.
type spy struct {
	kms.Backend
	out *[]secret.Bytes
}

func (s spy) Open(ctx context.Context, m kms.MaterialRef, aad, sealed []byte) (secret.Bytes, error) {
	p, err := s.Backend.Open(ctx, m, aad, sealed)
	*s.out = append(*s.out, p)
	return p, err
}

func (s spy) Random(ctx context.Context, n int) (secret.Bytes, error) {
	p, err := s.Backend.Random(ctx, n)
	*s.out = append(*s.out, p)
	return p, err
}

// Neither plaintext nor ciphertext nor message gets into the log.
func TestEntriesHoldNoSecrets(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k, hmac := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.HMAC256)
	const canary = "CANARYcanaryCANARY"
	ctx, who := t.Context(), kmstest.Admin(t)
	blob := encrypt(t, f, k.ID, canary, nil)
	for _, in := range []*kms.DecryptInput{{CiphertextBlob: blob}, {CiphertextBlob: []byte(canary)}, {KeyID: k.ID, CiphertextBlob: append(blob, canary...)}} {
		f.Decrypt(ctx, who, in)
	}
	f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: hmac.ID, Message: []byte(canary), MACAlgorithm: keyspec.MACHMACSHA256})
	f.VerifyMAC(ctx, who, &kms.VerifyMACInput{KeyID: hmac.ID, Message: []byte(canary), MAC: []byte(canary), MACAlgorithm: keyspec.MACHMACSHA256})
	f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text(canary), GrantTokens: []string{canary}})
	f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text(strings.Repeat(canary, 300))})
	f.Sign(ctx, who, &kms.SignInput{KeyID: k.ID, Message: []byte(strings.Repeat(canary, 300)), SigningAlgorithm: "x"})
	log := strings.Join(f.Store.Entries(), "\n")
	if n := len(f.Entries(t)); n != 9 {
		t.Errorf("%d entries", n)
	}
	for _, s := range []string{canary, hexOf([]byte(canary)), "Q0FOQVJZ", hexOf(blob[60:80])} {
		if strings.Contains(log, s) {
			t.Errorf("the log holds %s", s)
		}
	}
}

// onlyTenant lets a request in by its encryption context.
const onlyTenant = `{"Version":"2012-10-17","Statement":[
	{"Sid":"Admin","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/admin"},"Action":"kms:*","Resource":"*"},
	{"Sid":"Tenant","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/user"},"Action":["kms:Decrypt","kms:Encrypt","kms:GenerateDataKey","kms:ReEncrypt*"],"Resource":"*",
	 "Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"acme"},"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["tenant","purpose"]}}},
	{"Sid":"NoTests","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:purpose":"test"}}},
	{"Sid":"NoSHA1","Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionAlgorithm":"RSAES_OAEP_SHA_1"}}}]}`

func TestEncryptionContextInConditions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Policy = onlyTenant })
	user, admin := kmstest.User(t), kmstest.Admin(t)
	const (
		byTenant = `allowed by resource policy /Statement/1 "Tenant"`
		byTests  = `denied by resource policy /Statement/2 "NoTests"`
		none     = "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"
	)
	for name, c := range map[string]struct {
		who   kms.Caller
		pairs map[string]string
		want  string
	}{
		"tenant":                      {user, map[string]string{"tenant": "acme"}, byTenant},
		"tenant and purpose":          {user, map[string]string{"tenant": "acme", "purpose": "x"}, byTenant},
		"other tenant":                {user, map[string]string{"tenant": "other"}, none},
		"no context":                  {user, nil, none},
		"empty context":               {user, map[string]string{}, none},
		"more names":                  {user, map[string]string{"tenant": "acme", "more": "x"}, none},
		"denied purpose":              {user, map[string]string{"tenant": "acme", "purpose": "test"}, byTests},
		"denied purpose of the admin": {admin, map[string]string{"purpose": "test"}, byTests},
	} {
		out, err := f.Encrypt(t.Context(), c.who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), EncryptionContext: c.pairs})
		e := f.Last(t)
		if (err == nil) != strings.HasPrefix(c.want, "allowed") || (out == nil) != (err != nil) || e.Detail != c.want || (e.Outcome == audit.Denied) != (err != nil) {
			t.Errorf("%s: %v, entry %s %q, want %q", name, err, e.Outcome, e.Detail, c.want)
		}
	}
	// On Decrypt it is the request's context that counts, before the ciphertext's.
	blob := encrypt(t, f, k.ID, "a secret", map[string]string{"tenant": "other"})
	_, err := f.Decrypt(t.Context(), user, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"tenant": "acme"}})
	kmstest.Refused(t, err, kms.CodeInvalidCiphertext, "")
	_, err = f.Decrypt(t.Context(), user, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"tenant": "other"}})
	kmstest.Refused(t, err, kms.CodeAccessDenied, textForUnnamed)
	// ReEncrypt asks with each context for itself.
	mine := encrypt(t, f, k.ID, "a secret", map[string]string{"tenant": "acme"})
	move := func(to map[string]string) error {
		_, err := f.ReEncrypt(t.Context(), user, &kms.ReEncryptInput{
			CiphertextBlob: mine, SourceEncryptionContext: map[string]string{"tenant": "acme"}, DestinationKeyID: k.ID, DestinationEncryptionContext: to,
		})
		return err
	}
	if err := move(map[string]string{"tenant": "acme", "purpose": "x"}); err != nil {
		t.Error(err)
	}
	kmstest.Refused(t, move(map[string]string{"tenant": "other"}), kms.CodeAccessDenied,
		"User: arn:aws:iam::111122223333:user/user is not authorized to perform: kms:ReEncryptTo on resource: "+k.ARN()+" because no resource-based policy allows the kms:ReEncryptTo action")
}

func TestAliasAndAlgorithmInConditions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.RSA2048, func(k *kms.Key) { k.Policy = onlyTenant })
	in := &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), EncryptionAlgorithm: keyspec.EncryptOAEPSHA1}
	_, err := f.Encrypt(t.Context(), kmstest.Admin(t), in)
	kmstest.Refused(t, err, kms.CodeAccessDenied, "User: arn:aws:iam::111122223333:user/admin is not authorized to perform: kms:Encrypt on resource: "+
		k.ARN()+" with an explicit deny in a resource-based policy")
	if e := f.Last(t); e.Detail != `denied by resource policy /Statement/3 "NoSHA1"` {
		t.Errorf("detail %q", e.Detail)
	}
	in.EncryptionAlgorithm = keyspec.EncryptOAEPSHA256
	if _, err := f.Encrypt(t.Context(), kmstest.Admin(t), in); err != nil {
		t.Error(err)
	}

	named := f.Key(t, keyspec.SymmetricDefault)
	f.Alias(t, named, "alias/cards")
	who := allowed(t, `"kms:Encrypt","kms:Decrypt"`, `{"StringEquals":{"kms:RequestAlias":"alias/cards"}}`)
	out, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: "alias/cards", Plaintext: text("x")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: named.ID, Plaintext: text("x")}); err == nil {
		t.Error("allowed by the key's id")
	}
	if _, err := f.Decrypt(t.Context(), who, &kms.DecryptInput{KeyID: "alias/cards", CiphertextBlob: out.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	if _, err := f.Decrypt(t.Context(), who, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob}); err == nil {
		t.Error("allowed without a name")
	}
	// ReEncrypt has a name for each key.
	mover := allowed(t, `"kms:ReEncrypt*"`, `{"StringEquals":{"kms:RequestAlias":"alias/cards"}}`)
	in2 := kms.ReEncryptInput{CiphertextBlob: out.CiphertextBlob, SourceKeyID: "alias/cards", DestinationKeyID: "alias/cards"}
	if _, err := f.ReEncrypt(t.Context(), mover, &in2); err != nil {
		t.Error(err)
	}
	for _, names := range [][2]string{{"alias/cards", named.ID}, {named.ID, "alias/cards"}, {"", "alias/cards"}} {
		in2.SourceKeyID, in2.DestinationKeyID = names[0], names[1]
		if _, err := f.ReEncrypt(t.Context(), mover, &in2); err == nil {
			t.Errorf("ReEncrypt is allowed by %q", names)
		}
	}
}

// A row that was damaged or exchanged in the database is a fault of the service and
// nothing that the client did, and no key opens what another's handle seals.
func TestDamagedKeyRows(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	ctx, who, m := t.Context(), kmstest.Admin(t), []byte("a message")
	const useless = "The key material could not be used."
	damage := func(spec keyspec.Spec, change func(m *kms.Material)) *kms.Key {
		k := f.Key(t, spec)
		return f.Change(t, k.KeyRef, func(k *kms.Key) { change(&k.Materials[0]) })
	}
	foreign := f.Key(t, keyspec.SymmetricDefault).Materials[0].Handle
	swapped := damage(keyspec.SymmetricDefault, func(m *kms.Material) { m.Handle = foreign })
	_, err := f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: swapped.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInternal, useless)
	_, err = f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: swapped.ID, KeySpec: kms.DataKeyAES256})
	kmstest.Refused(t, err, kms.CodeInternal, useless)
	_, err = f.GenerateDataKeyPair(ctx, who, &kms.GenerateDataKeyPairInput{KeyID: swapped.ID, KeyPairSpec: keyspec.ECCNISTP256})
	kmstest.Refused(t, err, kms.CodeInternal, useless)

	flip := func(m *kms.Material) {
		m.Handle = slices.Clone(m.Handle)
		m.Handle[len(m.Handle)-1] ^= 1
	}
	_, err = f.Sign(ctx, who, &kms.SignInput{KeyID: damage(keyspec.ECCNISTP256, flip).ID, Message: m, SigningAlgorithm: keyspec.SignECDSASHA256})
	kmstest.Refused(t, err, kms.CodeInternal, useless)
	_, err = f.GenerateMAC(ctx, who, &kms.GenerateMACInput{KeyID: damage(keyspec.HMAC256, flip).ID, Message: m, MACAlgorithm: keyspec.MACHMACSHA256})
	kmstest.Refused(t, err, kms.CodeInternal, useless)

	public := damage(keyspec.ECCNISTP256, func(m *kms.Material) { m.Public = m.Public[1:] })
	_, err = f.Verify(ctx, who, &kms.VerifyInput{KeyID: public.ID, Message: m, Signature: m, SigningAlgorithm: keyspec.SignECDSASHA256})
	kmstest.Refused(t, err, kms.CodeInternal, "The public key could not be used.")

	empty := damage(keyspec.SymmetricDefault, func(m *kms.Material) { m.Handle = nil })
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: empty.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInternal, "key "+empty.ARN()+" has no key material")
	unnamed := damage(keyspec.SymmetricDefault, func(m *kms.Material) { m.ID = "x" })
	_, err = f.Encrypt(ctx, who, &kms.EncryptInput{KeyID: unnamed.ID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInternal, "The key cannot be named in a ciphertext.")
	if e := f.Last(t); e.Result != "kms_internal" || !strings.Contains(e.Detail, "material id: not 64 lower-case hex digits") {
		t.Errorf("entry %s %q", e.Result, e.Detail)
	}
}
