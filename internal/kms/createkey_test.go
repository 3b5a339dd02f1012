package kms_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

// backendCalls counts the calls of the fixture's backend from now on.
func backendCalls(f *kmstest.Fixture) func() []string {
	var mu sync.Mutex
	var calls []string
	f.FailBackend(func(call string) error {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, call)
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(calls)
	}
}

// principals makes only these users, roles and sessions of the accounts exist.
func principals(arns ...string) func(*kms.Options) {
	return func(o *kms.Options) {
		o.Principal = func(_ context.Context, arn string) bool { return slices.Contains(arns, arn) }
	}
}

// paramsOf are the parameters of an entry by name; those of one name are joined.
func paramsOf(ps []audit.Param) map[string]string {
	m := map[string]string{}
	for _, p := range ps {
		if old, there := m[p.Name]; there {
			p.Value = old + "|" + p.Value
		}
		m[p.Name] = p.Value
	}
	return m
}

// wantParams compares an entry's request parameters.
func wantParams(t testing.TB, e *audit.Entry, want map[string]string) {
	t.Helper()
	if got := paramsOf(e.Call.Request); !maps.Equal(got, want) {
		t.Errorf("entry of %s has request parameters\n%v, want\n%v", e.Call.Event, got, want)
	}
}

func createKey(t testing.TB, f *kmstest.Fixture, in kms.CreateKeyInput) *kms.KeyMetadata {
	t.Helper()
	out, err := f.CreateKey(t.Context(), kmstest.Admin(t), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata
}

func i32(n int32) *int32 { return &n }

func userARN(account, name string) string { return "arn:aws:iam::" + account + ":user/" + name }

func TestCreateKeyMakesASymmetricKeyThatWorksAtOnce(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	m := createKey(t, f, kms.CreateKeyInput{})
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(m.KeyID) {
		t.Errorf("key id %s is no lower-case UUID of version 4", m.KeyID)
	}
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(m.CurrentKeyMaterialID) {
		t.Errorf("material id %q is not 64 hexadecimal digits", m.CurrentKeyMaterialID)
	}
	if m.ARN != "arn:aws:kms:eu-central-1:111122223333:key/"+m.KeyID || m.AccountID != kmstest.Account || !m.Enabled || m.KeyState != kms.StateEnabled ||
		m.KeySpec != keyspec.SymmetricDefault || m.CustomerMasterKeySpec != keyspec.SymmetricDefault || m.KeyUsage != keyspec.EncryptDecrypt ||
		m.Origin != kms.OriginKMS || m.KeyManager != "CUSTOMER" || m.MultiRegion || !m.CreationDate.Equal(f.Clock.Now()) {
		t.Errorf("got %+v", m)
	}
	blob := encrypt(t, f, m.KeyID, "a secret", nil)
	f.Restart(t)
	out, err := f.Decrypt(t.Context(), kmstest.Admin(t), &kms.DecryptInput{CiphertextBlob: blob})
	if err != nil || string(out.Plaintext.Expose()) != "a secret" {
		t.Errorf("after a restart: %v, or another plaintext", err)
	}
	policy, err := f.GetKeyPolicy(t.Context(), kmstest.Admin(t), &kms.GetKeyPolicyInput{KeyID: m.KeyID})
	if err != nil || !strings.Contains(policy.Policy, `"arn:aws:iam::111122223333:root"`) || policy.PolicyName != "default" {
		t.Errorf("default policy: %v, %+v", err, policy)
	}
}

func TestCreateKeyOfEverySpecAndUsage(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	for _, spec := range []keyspec.Spec{
		keyspec.SymmetricDefault, keyspec.HMAC224, keyspec.HMAC512, keyspec.RSA2048, keyspec.ECCNISTP256, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519, keyspec.MLDSA44,
	} {
		for _, usage := range spec.Usages() {
			m := createKey(t, f, kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
			if m.KeySpec != spec || m.KeyUsage != usage || m.KeyState != kms.StateEnabled {
				t.Errorf("%s, %s: got %+v", spec, usage, m)
			}
			k, err := f.Store.Key(t.Context(), kms.KeyRef{Account: kmstest.Account, Region: kmstest.Region, ID: m.KeyID})
			if err != nil {
				t.Fatal(err)
			}
			if (len(k.Current().Public) > 0) != spec.Asymmetric() {
				t.Errorf("%s: the public key has %d bytes", spec, len(k.Current().Public))
			}
		}
	}
	if m := createKey(t, f, kms.CreateKeyInput{CustomerMasterKeySpec: keyspec.HMAC256, KeyUsage: keyspec.GenerateVerifyMAC}); m.KeySpec != keyspec.HMAC256 {
		t.Errorf("CustomerMasterKeySpec alone: got %s", m.KeySpec)
	}
	createKey(t, f, kms.CreateKeyInput{KeySpec: keyspec.SymmetricDefault, CustomerMasterKeySpec: keyspec.SymmetricDefault})
}

func TestCreateKeyForImportIsPendingAndHasNoMaterial(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	calls := backendCalls(f)
	m := createKey(t, f, kms.CreateKeyInput{Origin: kms.OriginExternal})
	if m.KeyState != kms.StatePendingImport || m.Enabled || m.CurrentKeyMaterialID != "" || len(calls()) > 0 {
		t.Errorf("got %+v after backend calls %v", m, calls())
	}
	_, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: m.KeyID, Plaintext: text("x")})
	kmstest.Refused(t, err, kms.CodeInvalidState, m.ARN+" is pending import.")
}

func TestCreateMultiRegionKeyIsPrimary(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	m := createKey(t, f, kms.CreateKeyInput{MultiRegion: true})
	if !regexp.MustCompile(`^mrk-[0-9a-f]{32}$`).MatchString(m.KeyID) || !m.MultiRegion {
		t.Errorf("got %s, multi-Region %v", m.KeyID, m.MultiRegion)
	}
	c := m.MultiRegionConfiguration
	if c == nil || c.MultiRegionKeyType != kms.Primary || c.PrimaryKey.Region != kmstest.Region || c.PrimaryKey.ARN != m.ARN || len(c.ReplicaKeys) != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, principals(userARN(kmstest.Account, "admin")))
	calls := backendCalls(f)
	tags := make([]kms.Tag, 51)
	for i := range tags {
		tags[i].TagKey = strconv.Itoa(i)
	}
	allow := func(principal string) string {
		return `{"Statement":{"Effect":"Allow","Principal":` + principal + `,"Action":"kms:*","Resource":"*"}}`
	}
	for _, c := range []struct {
		name    string
		in      kms.CreateKeyInput
		code    kms.Code
		message string
	}{
		{
			"two specs",
			kms.CreateKeyInput{KeySpec: keyspec.RSA2048, CustomerMasterKeySpec: keyspec.RSA3072, KeyUsage: keyspec.SignVerify},
			kms.CodeValidation,
			"You cannot specify different values for KeySpec and CustomerMasterKeySpec. CustomerMasterKeySpec is deprecated.",
		},
		{
			"no usage",
			kms.CreateKeyInput{KeySpec: keyspec.HMAC256},
			kms.CodeValidation,
			"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
		},
		{
			"wrong usage",
			kms.CreateKeyInput{KeySpec: keyspec.HMAC224, KeyUsage: keyspec.EncryptDecrypt},
			kms.CodeValidation,
			"KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec HMAC_224",
		},
		{
			"unknown spec",
			kms.CreateKeyInput{KeySpec: "DES"},
			kms.CodeValidation,
			"1 validation error detected: Value 'DES' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, " +
				"ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, " +
				"ML_DSA_44, ML_DSA_65, ML_DSA_87, ECC_NIST_EDWARDS25519]",
		},
		{
			"unknown usage",
			kms.CreateKeyInput{KeyUsage: "WRAP"},
			kms.CodeValidation,
			"1 validation error detected: Value 'WRAP' at 'keyUsage' failed to satisfy constraint: Member must satisfy enum value set: " +
				"[SIGN_VERIFY, ENCRYPT_DECRYPT, GENERATE_VERIFY_MAC, KEY_AGREEMENT]",
		},
		{
			"SM2",
			kms.CreateKeyInput{KeySpec: keyspec.SM2, KeyUsage: keyspec.SignVerify},
			kms.CodeUnsupported,
			"The key spec SM2 is supported in the China Regions of AWS only.",
		},
		{
			"external key store",
			kms.CreateKeyInput{Origin: kms.OriginXKS, XksKeyID: "x", CustomKeyStoreID: "cks-1"},
			kms.CodeUnsupported,
			"Keys in external key stores are not supported.",
		},
		{"XksKeyId", kms.CreateKeyInput{XksKeyID: "x"}, kms.CodeValidation, "XksKeyId is valid only for keys with Origin EXTERNAL_KEY_STORE."},
		{"no key store", kms.CreateKeyInput{Origin: kms.OriginCloudHSM}, kms.CodeValidation, "Origin AWS_CLOUDHSM requires a CustomKeyStoreId."},
		{
			"key store, wrong origin",
			kms.CreateKeyInput{CustomKeyStoreID: "cks-1"},
			kms.CodeValidation,
			"CustomKeyStoreId is valid only for keys with Origin AWS_CLOUDHSM.",
		},
		{
			"key store, RSA",
			kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: "cks-1", KeySpec: keyspec.RSA2048, KeyUsage: keyspec.SignVerify},
			kms.CodeUnsupported, "Custom key stores hold symmetric encryption keys only, not RSA_2048.",
		},
		{
			"key store, multi-Region",
			kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: "cks-1", MultiRegion: true},
			kms.CodeUnsupported, "Keys in custom key stores cannot be multi-Region keys.",
		},
		{
			"no such key store",
			kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: "cks-1"},
			"CustomKeyStoreNotFoundException", "Custom key store cks-1 does not exist.",
		},
		{
			"long description",
			kms.CreateKeyInput{Description: strings.Repeat("é", 8193)},
			kms.CodeValidation,
			"1 validation error detected: Value '" + strings.Repeat("é", 64) + "…' at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192",
		},
		{"too many tags", kms.CreateKeyInput{Tags: tags}, kms.CodeTag, "Too many tags"},
		{"duplicate tags", kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "a"}, {TagKey: "a"}}}, kms.CodeTag, "Duplicate tag keys"},
		{"system tag", kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "AWS:x"}}}, kms.CodeTag, "aws: prefixed tag key names are not allowed for external use."},
		{"long policy", kms.CreateKeyInput{Policy: strings.Repeat(" ", 32769)}, kms.CodeLimitExceeded, "The key policy is longer than 32768 bytes."},
		{
			"longer policy",
			kms.CreateKeyInput{Policy: strings.Repeat(" ", 131073)},
			kms.CodeValidation,
			"1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 131072",
		},
		{
			"policy in another script",
			kms.CreateKeyInput{Policy: "π"},
			kms.CodeValidation,
			`1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`,
		},
		{
			"malformed policy",
			kms.CreateKeyInput{Policy: `{"Statement":[{"Effect":"Maybe","Principal":"*","Action":"kms:*","Resource":"*"}]}`},
			kms.CodeMalformedPolicy, "malformed policy document at /Statement/0/Effect: must be Allow or Deny",
		},
		{
			"unknown user",
			kms.CreateKeyInput{Policy: allow(`{"AWS":["` + userARN(kmstest.Account, "nobody") + `","` + userARN(kmstest.Account, "admin") + `"]}`)},
			kms.CodeMalformedPolicy, "Policy contains a statement with one or more invalid principals.",
		},
		{
			"unknown account",
			kms.CreateKeyInput{Policy: allow(`{"AWS":["999999999999","111122223333"]}`)},
			kms.CodeMalformedPolicy, "Policy contains a statement with one or more invalid principals.",
		},
		{
			"deleted user",
			kms.CreateKeyInput{Policy: allow(`{"AWS":["AIDAQ3EGRQZ5FIPTSXXXX","111122223333"]}`)},
			kms.CodeMalformedPolicy, "Policy contains a statement with one or more invalid principals.",
		},
		{
			"lockout",
			kms.CreateKeyInput{Policy: allow(`{"Service":"s3.amazonaws.com"}`)},
			kms.CodeMalformedPolicy,
			"The new key policy will not allow you to update the key policy in the future." +
				" Let it allow kms:PutKeyPolicy to you or your account, or set BypassPolicyLockoutSafetyCheck.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &c.in)
			kmstest.Refused(t, err, c.code, c.message)
			e := f.Last(t)
			if e.Op != "kms.create_key" || e.Outcome != audit.Failed || e.Call.Error != string(c.code) {
				t.Errorf("entry: %+v", e)
			}
		})
	}
	if got := calls(); len(got) > 0 {
		t.Errorf("refused requests called the backend: %v", got)
	}
	keys, err := f.Store.Keys(t.Context(), kmstest.Account, kmstest.Region, "", 10)
	if err != nil || len(keys) > 0 {
		t.Errorf("refused requests left %v, %v", keys, err)
	}
}

// The command that people find on the web names a user for use, and nobody who
// could change the policy.
func TestCreateKeyWithAPolicyOfUseOnlyNeedsTheBypass(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	policy := `{"Statement": [{"Sid": "Allow KMS Key Usage", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/app"}, ` +
		`"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"], ` +
		`"Resource": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}]}`
	in := kms.CreateKeyInput{Description: "KEK for PCI DSS", Policy: policy}
	_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &in)
	kmstest.Refused(t, err, kms.CodeMalformedPolicy, "The new key policy will not allow you to update the key policy in the future."+
		" Let it allow kms:PutKeyPolicy to you or your account, or set BypassPolicyLockoutSafetyCheck.")
	in.BypassPolicyLockoutSafetyCheck = true
	m := createKey(t, f, in)
	k, err := f.Store.Key(t.Context(), kms.KeyRef{Account: kmstest.Account, Region: kmstest.Region, ID: m.KeyID})
	if err != nil || k.Policy != policy {
		t.Errorf("the policy is not stored as it was sent: %v", err)
	}
}

func TestCreateKeyAsksForPermission(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	statement := func(action, condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + action + `,"Resource":"*"` + condition + `}]}`
	}
	tagged := kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "team", TagValue: "pay"}}}
	for _, c := range []struct {
		name, policy string
		in           kms.CreateKeyInput
		allowed      bool
		denied       string // action
	}{
		{"without a policy", "", kms.CreateKeyInput{}, false, "kms:CreateKey"},
		{"allowed", statement(`"kms:CreateKey"`, ""), kms.CreateKeyInput{}, true, ""},
		{"tags", statement(`"kms:CreateKey"`, ""), tagged, false, "kms:TagResource"},
		{"tags allowed", statement(`["kms:CreateKey","kms:TagResource"]`, `,"Condition":{"StringEquals":{"aws:RequestTag/team":"pay"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`), tagged, true, ""},
		{"other tag", statement(`["kms:CreateKey","kms:TagResource"]`, `,"Condition":{"StringEquals":{"aws:RequestTag/team":"ops"}}`), tagged, false, "kms:CreateKey"},
		{"spec", statement(`"kms:CreateKey"`, `,"Condition":{"StringEquals":{"kms:KeySpec":"RSA_2048"}}`), kms.CreateKeyInput{}, false, "kms:CreateKey"},
		{"usage", statement(`"kms:CreateKey"`, `,"Condition":{"StringEquals":{"kms:KeyUsage":"ENCRYPT_DECRYPT"}}`), kms.CreateKeyInput{}, true, ""},
		{"origin", statement(`"kms:CreateKey"`, `,"Condition":{"StringEquals":{"kms:KeyOrigin":"AWS_KMS"}}`), kms.CreateKeyInput{Origin: kms.OriginExternal}, false, "kms:CreateKey"},
		{"multi-Region", statement(`"kms:CreateKey"`, `,"Condition":{"Bool":{"kms:MultiRegion":"false"}}`), kms.CreateKeyInput{MultiRegion: true}, false, "kms:CreateKey"},
		{
			"bypass", statement(`"kms:CreateKey"`, `,"Condition":{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}}`),
			kms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true},
			false, "kms:CreateKey",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := backendCalls(f)
			_, err := f.CreateKey(t.Context(), kmstest.As(kmstest.Subject(t, kmstest.Account, "dev", c.policy)), &c.in)
			if c.allowed {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, is := errors.AsType[*kms.Error](err)
			if !is || e.Code != kms.CodeAccessDenied || !strings.HasPrefix(e.Message, "User: "+userARN(kmstest.Account, "dev")+" is not authorized to perform: "+c.denied) ||
				!strings.HasSuffix(e.Message, "because no identity-based policy allows the "+c.denied+" action") {
				t.Errorf("got %v", err)
			}
			if last := f.Last(t); last.Outcome != audit.Denied || last.Detail != "denied: no identity policy allows it" {
				t.Errorf("entry: %s, %q", last.Outcome, last.Detail)
			}
			if got := calls(); len(got) > 0 {
				t.Errorf("a denied request called the backend: %v", got)
			}
		})
	}
}

func TestCreateKeyIsRecordedWithoutThePolicysText(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	policy := kmstest.DefaultPolicy(kmstest.Account)
	m := createKey(t, f, kms.CreateKeyInput{
		Description: "branch keys", Policy: policy, Tags: []kms.Tag{{TagKey: "team", TagValue: "pay"}, {TagKey: "empty"}},
	})
	e := f.Last(t)
	sum := sha256.Sum256([]byte(policy))
	wantParams(t, &e, map[string]string{
		"keySpec": "SYMMETRIC_DEFAULT", "keyUsage": "ENCRYPT_DECRYPT", "origin": "AWS_KMS", "multiRegion": "false", "bypassPolicyLockoutSafetyCheck": "false",
		"policySha256": hex.EncodeToString(sum[:]), "policyLength": strconv.Itoa(len(policy)), "description": "branch keys", "tags.team": "pay", "tags.empty": "",
	})
	got := paramsOf(e.Call.Response)
	if got["keyMetadata.keyId"] != m.KeyID || got["keyMetadata.arn"] != m.ARN || e.Resource.Key != m.ARN || e.Outcome != audit.Allowed || e.Call.ReadOnly {
		t.Errorf("entry: %+v, response %v", e, got)
	}
	if line := f.Store.Entries()[0]; strings.Contains(line, "Enable IAM User Permissions") {
		t.Errorf("the policy's text is in the log: %s", line)
	}
}

func TestCreateKeyOverTheQuotaLeavesNothing(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, func(o *kms.Options) { o.Limits.Keys = 2 })
	for range 2 {
		createKey(t, f, kms.CreateKeyInput{})
	}
	calls := backendCalls(f)
	_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{})
	kmstest.Refused(t, err, kms.CodeLimitExceeded, "The account has 2 keys in the Region, which is the limit.")
	if got := calls(); !slices.Equal(got, []string{"Generate", "Destroy"}) {
		t.Errorf("backend calls %v, want the material made and destroyed", got)
	}
	if _, err := f.CreateKey(t.Context(), kmstest.In(kmstest.Admin(t), kmstest.OtherRegion), &kms.CreateKeyInput{}); err != nil {
		t.Errorf("in another Region: %v", err)
	}
}

func TestCreateKeyKeepsMaterialWhenTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	calls := backendCalls(f)
	f.Store.Fail(func(call string) error {
		if call == "Update" {
			return errors.New("connection lost")
		}
		return nil
	})
	_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{})
	kmstest.Refused(t, err, kms.CodeInternal, "The change could not be written.")
	if got := calls(); !slices.Equal(got, []string{"Generate"}) {
		t.Errorf("backend calls %v: what may be stored was destroyed", got)
	}
}

func TestCreateKeyWithASealedBackend(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	f.FailBackend(func(string) error { return kms.ErrSealed })
	_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{})
	kmstest.Refused(t, err, kms.CodeKeyUnavailable, "The key service is sealed: its root key has not been unsealed by the custodians.")
	if e := f.Last(t); e.Outcome != audit.Failed || e.Call.Event != "CreateKey" {
		t.Errorf("entry: %+v", e)
	}
}

func TestCreateKeyInAKeyStoreThatIsNotConnected(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	f.Update(t, func(ctx context.Context, tx kms.Tx) error {
		return tx.PutKeyStore(ctx, &kms.KeyStore{
			Account: kmstest.Account, Region: kmstest.Region, ID: "cks-0123456789abcdef0", Name: "hsm", Type: kms.KeyStoreCloudHSM, State: kms.Disconnected,
		})
	})
	_, err := f.CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{Origin: kms.OriginCloudHSM, CustomKeyStoreID: "cks-0123456789abcdef0"})
	kmstest.Refused(t, err, "CustomKeyStoreInvalidStateException",
		"Custom key store cks-0123456789abcdef0 is DISCONNECTED; it must be CONNECTED.")
}
