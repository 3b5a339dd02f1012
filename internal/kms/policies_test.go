package kms_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func putPolicy(t testing.TB, f *kmstest.Fixture, who kms.Caller, id, policy string) error {
	t.Helper()
	return f.PutKeyPolicy(t.Context(), who, &kms.PutKeyPolicyInput{KeyID: id, Policy: policy})
}

func getPolicy(t testing.TB, f *kmstest.Fixture, id string) string {
	t.Helper()
	out, err := f.GetKeyPolicy(t.Context(), kmstest.Admin(t), &kms.GetKeyPolicyInput{KeyID: id, PolicyName: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if out.PolicyName != "default" {
		t.Errorf("policy name %q", out.PolicyName)
	}
	return out.Policy
}

func TestAPolicyIsReturnedAsItWasPutAndDecidesAtOnce(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	encrypts := func() error {
		_, err := f.Encrypt(t.Context(), kmstest.User(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")})
		return err
	}
	denied(t, f, encrypts(), "kms:Encrypt", noIdentityPolicy)
	policy := "{\r\n\t\"Version\": \"2012-10-17\", \"Statement\": [\n" +
		`{"Sid":"Root","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["kms:*"],"Resource":"*"},` +
		`{"Sid":"Üse","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:user/user"]},"Action":"kms:Encrypt","Resource":"*"}]}`
	if err := putPolicy(t, f, kmstest.Admin(t), k.ID, policy); err != nil {
		t.Fatal(err)
	}
	e := f.Last(t)
	sum := sha256.Sum256([]byte(policy))
	wantParams(t, &e, map[string]string{
		"keyId": k.ID, "bypassPolicyLockoutSafetyCheck": "false", "policySha256": hex.EncodeToString(sum[:]), "policyLength": strconv.Itoa(len(policy)),
	})
	if strings.Contains(strings.Join(f.Store.Entries(), ""), "user/user\\\"") {
		t.Error("the policy's text is in the log")
	}
	if got := getPolicy(t, f, k.ID); got != policy {
		t.Errorf("got %q, want %q", got, policy)
	}
	if err := encrypts(); err != nil {
		t.Errorf("the policy allows it: %v", err)
	}
	if last := f.Last(t); last.Detail != `allowed by resource policy /Statement/1 "Üse"` {
		t.Errorf("entry says %q", last.Detail)
	}
	if err := putPolicy(t, f, kmstest.Admin(t), k.ID, kmstest.DefaultPolicy(kmstest.Account)); err != nil {
		t.Fatal(err)
	}
	denied(t, f, encrypts(), "kms:Encrypt", noIdentityPolicy)
}

func TestPutKeyPolicyRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, principals(userARN(kmstest.Account, "admin"), "arn:aws:iam::444455556666:role/app", "arn:aws:sts::111122223333:assumed-role/ops/anna"))
	k := f.Key(t, keyspec.SymmetricDefault)
	root := `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`
	with := func(statement string) string {
		return `{"Version":"2012-10-17","Statement":[` + root + `,` + statement + `]}`
	}
	principal := func(element string) string {
		return with(`{"Effect":"Deny",` + element + `,"Action":"kms:Decrypt","Resource":"*"}`)
	}
	const (
		invalid = "Policy contains a statement with one or more invalid principals."
		lockout = "The new key policy will not allow you to update the key policy in the future." +
			" Let it allow kms:PutKeyPolicy to you or your account, or set BypassPolicyLockoutSafetyCheck."
	)
	for _, c := range []struct {
		name, policy string
		code         kms.Code
		message      string
	}{
		{"none", "", kms.CodeValidation, "1 validation error detected: Value null at 'policy' failed to satisfy constraint: Member must not be null"},
		{"no JSON", "{", kms.CodeMalformedPolicy, "malformed policy document: the document ends too early"},
		{
			"identity policy", `{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`, kms.CodeMalformedPolicy,
			"malformed policy document at /Statement/0: Principal is missing",
		},
		{
			"too long", with(`{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Sid":"` + strings.Repeat("s", 33000) + `"}`),
			kms.CodeLimitExceeded, "The key policy is longer than 32768 bytes.",
		},
		{"user in Deny", principal(`"Principal":{"AWS":"arn:aws:iam::111122223333:user/nobody"}`), kms.CodeMalformedPolicy, invalid},
		{"role in NotPrincipal", principal(`"NotPrincipal":{"AWS":"arn:aws:iam::111122223333:role/nobody"}`), kms.CodeMalformedPolicy, invalid},
		{"session", principal(`"Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/ops/otto"}`), kms.CodeMalformedPolicy, invalid},
		{"unknown account's user", principal(`"Principal":{"AWS":"arn:aws:iam::999999999999:user/admin"}`), kms.CodeMalformedPolicy, invalid},
		{"nobody may", `{"Statement":[]}`, kms.CodeMalformedPolicy, "malformed policy document at /Statement: the list is empty"},
		{"denies it", with(`{"Effect":"Deny","Principal":"*","Action":"kms:Put*","Resource":"*"}`), kms.CodeMalformedPolicy, lockout},
		{
			"use only", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/admin"},"Action":"kms:Decrypt","Resource":"*"}]}`,
			kms.CodeMalformedPolicy, lockout,
		},
		{"another account", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"kms:*","Resource":"*"}]}`, kms.CodeMalformedPolicy, lockout},
		{
			"another key", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"arn:aws:kms:eu-central-1:111122223333:key/other"}]}`,
			kms.CodeMalformedPolicy, lockout,
		},
		{
			"another address", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}`,
			kms.CodeMalformedPolicy, lockout,
		},
		{
			"an alias it has not", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/x"}}}]}`,
			kms.CodeMalformedPolicy, lockout,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			kmstest.Refused(t, putPolicy(t, f, kmstest.Admin(t), k.ID, c.policy), c.code, c.message)
		})
	}
	if got := stored(t, f, k.KeyRef); got.Version != k.Version {
		t.Error("a refused request changed the key")
	}
	f.Alias(t, k, "alias/x")
	for name, policy := range map[string]string{
		"everyone, services, providers": with(`{"Effect":"Deny","Principal":{"AWS":"*","Service":"s3.amazonaws.com","Federated":"accounts.example.com"},"Action":"kms:Encrypt","Resource":"*"}`),
		"known principals":              principal(`"Principal":{"AWS":["arn:aws:iam::444455556666:role/app","444455556666","arn:aws:sts::111122223333:assumed-role/ops/anna"]}`),
		"an alias it has": `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*",` +
			`"Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/x"}}}]}`,
		"no action": with(`{"Effect":"Allow","Principal":"*","Resource":"*"}`),
	} {
		if err := putPolicy(t, f, kmstest.Admin(t), k.ID, policy); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBypassOfTheLockoutCheckCanBeForbidden(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	in := kms.PutKeyPolicyInput{
		KeyID: k.ID, BypassPolicyLockoutSafetyCheck: true,
		Policy: `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}]}`,
	}
	careful := kmstest.As(kmstest.Subject(t, kmstest.Account, "ops", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"},`+
		`{"Sid":"NoBypass","Effect":"Deny","Action":"kms:*","Resource":"*","Condition":{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"true"}}}]}`))
	err := f.PutKeyPolicy(t.Context(), careful, &in)
	denied(t, f, err, "kms:PutKeyPolicy", `denied by identity policy inline /Statement/1 "NoBypass"`)
	if err := f.PutKeyPolicy(t.Context(), kmstest.Admin(t), &in); err != nil {
		t.Fatal(err)
	}
	e := f.Last(t)
	if got := paramsOf(e.Call.Request)["bypassPolicyLockoutSafetyCheck"]; got != "true" {
		t.Errorf("entry: bypass %q", got)
	}
	// That was the last policy of this key.
	err = putPolicy(t, f, kmstest.Admin(t), k.ID, kmstest.DefaultPolicy(kmstest.Account))
	denied(t, f, err, "kms:PutKeyPolicy", "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies")
}

func TestPoliciesByName(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	_, err := f.GetKeyPolicy(t.Context(), kmstest.Admin(t), &kms.GetKeyPolicyInput{KeyID: k.ID, PolicyName: "other"})
	kmstest.Refused(t, err, kms.CodeNotFound, "No such policy exists")
	err = f.PutKeyPolicy(t.Context(), kmstest.Admin(t), &kms.PutKeyPolicyInput{KeyID: k.ID, PolicyName: "other", Policy: kmstest.DefaultPolicy(kmstest.Account)})
	kmstest.Refused(t, err, kms.CodeNotFound, "No such policy exists")
	_, err = f.GetKeyPolicy(t.Context(), kmstest.Admin(t), &kms.GetKeyPolicyInput{KeyID: k.ID, PolicyName: "de-fault"})
	kmstest.Refused(t, err, kms.CodeValidation,
		`1 validation error detected: Value 'de-fault' at 'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w]+`)
	out, err := f.ListKeyPolicies(t.Context(), kmstest.Admin(t), &kms.ListKeyPoliciesInput{KeyID: k.ARN()})
	if err != nil || !slices.Equal(out.PolicyNames, []string{"default"}) || out.Truncated {
		t.Errorf("got %+v, %v", out, err)
	}
	for action, run := range map[string]func(who kms.Caller) error{
		"kms:GetKeyPolicy": func(who kms.Caller) error {
			_, err := f.GetKeyPolicy(t.Context(), who, &kms.GetKeyPolicyInput{KeyID: k.ARN()})
			return err
		},
		"kms:ListKeyPolicies": func(who kms.Caller) error {
			_, err := f.ListKeyPolicies(t.Context(), who, &kms.ListKeyPoliciesInput{KeyID: k.ARN()})
			return err
		},
		"kms:PutKeyPolicy": func(who kms.Caller) error {
			return putPolicy(t, f, who, k.ARN(), kmstest.DefaultPolicy(kmstest.Account))
		},
	} {
		denied(t, f, run(kmstest.User(t)), action, noIdentityPolicy)
		denied(t, f, run(kmstest.Foreigner(t)), action, "denied: the action cannot be used from another account")
	}
}

// Even of a key whose policy allows everything to everyone.
func TestAnAnonymousCallerMayDoNothing(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.Policy = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
	})
	nobody := kms.Caller{Region: kmstest.Region, Subject: &iam.Subject{Caller: iam.Caller{Type: iam.CallerAnonymous}}}
	_, err := f.GetKeyPolicy(t.Context(), nobody, &kms.GetKeyPolicyInput{KeyID: k.ARN()})
	if err == nil || f.Last(t).Outcome != audit.Denied {
		t.Errorf("got %v, %s", err, f.Last(t).Outcome)
	}
}
