package kms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

const (
	noGrant  = noIdentityPolicy // what a caller without policies is told if no grant helps
	appRole  = "arn:aws:iam::111122223333:role/path/app"
	appAnna  = "arn:aws:sts::111122223333:assumed-role/app/anna"
	rootUser = "arn:aws:iam::111122223333:root"
)

var app = userARN(kmstest.Account, "user") // kmstest.User

func grantOps(names ...kms.GrantOperation) []kms.GrantOperation { return names }

func createGrant(t testing.TB, f *kmstest.Fixture, in kms.CreateGrantInput) *kms.CreateGrantOutput {
	t.Helper()
	out, err := f.CreateGrant(t.Context(), kmstest.Admin(t), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mayEncrypt encrypts with the key.
func mayEncrypt(t testing.TB, f *kmstest.Fixture, who kms.Caller, k *kms.Key, pairs map[string]string, tokens ...string) error {
	t.Helper()
	_, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: k.ARN(), Plaintext: text("x"), EncryptionContext: pairs, GrantTokens: tokens})
	return err
}

func appSession(t testing.TB, policy string) kms.Caller {
	t.Helper()
	s := kmstest.Subject(t, kmstest.Account, "x", policy)
	s.Caller = iam.Caller{Type: iam.CallerRole, ARN: appRole, Session: appAnna, Account: kmstest.Account, ID: "AROAAPP:anna"}
	return kmstest.As(s)
}

func TestAGrantLetsItsGranteeDoItsOperationsUntilItEnds(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	user := kmstest.User(t)
	denied(t, f, mayEncrypt(t, f, user, k, nil), "kms:Encrypt", noGrant)
	g := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt", "DescribeKey", "Encrypt")})
	e := f.Last(t)
	wantParams(t, &e, map[string]string{"keyId": k.ID, "granteePrincipal": app, "operations": "Encrypt,DescribeKey,Encrypt"})
	if got := paramsOf(e.Call.Response); len(got) != 2 || got["grantId"] != g.GrantID || got["keyId"] != k.ARN() {
		t.Errorf("entry's response %v", got)
	}
	if strings.Contains(strings.Join(f.Store.Entries(), ""), g.GrantToken) {
		t.Error("the grant token is in the log")
	}
	if err := mayEncrypt(t, f, user, k, map[string]string{"any": "context"}); err != nil {
		t.Error(err)
	}
	if last := f.Last(t); last.Detail != "allowed by grant/"+g.GrantID || last.Outcome != audit.Allowed {
		t.Errorf("entry says %q", last.Detail)
	}
	if _, err := f.DescribeKey(t.Context(), user, &kms.DescribeKeyInput{KeyID: k.ID}); err != nil {
		t.Error(err)
	}
	calls := backendCalls(f)
	_, err := f.GenerateDataKey(t.Context(), user, &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES256})
	denied(t, f, err, "kms:GenerateDataKey", noGrant)
	denied(t, f, mayEncrypt(t, f, kmstest.As(kmstest.Subject(t, kmstest.Account, "other", "")), k, nil), "kms:Encrypt", noGrant)
	if got := calls(); len(got) > 0 {
		t.Errorf("denied requests called the backend: %v", got)
	}
	if err := f.RevokeGrant(t.Context(), kmstest.Admin(t), &kms.RevokeGrantInput{KeyID: k.ID, GrantID: g.GrantID}); err != nil {
		t.Fatal(err)
	}
	denied(t, f, mayEncrypt(t, f, user, k, nil), "kms:Encrypt", noGrant)
}

func TestAnExplicitDenyBeatsAGrant(t *testing.T) {
	t.Parallel()
	const deny = `{"Version":"2012-10-17","Statement":[{"Sid":"Never","Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}]}`
	f := kmstest.New(t)
	open := f.Key(t, keyspec.SymmetricDefault)
	closed := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		k.Policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},` +
			`{"Sid":"NotThisUser","Effect":"Deny","Principal":{"AWS":"` + app + `"},"Action":"kms:Encrypt","Resource":"*"}]}`
	})
	var tokens []string
	for _, k := range []*kms.Key{open, closed} {
		tokens = append(tokens, createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")}).GrantToken)
	}
	calls := backendCalls(f)
	denied(t, f, mayEncrypt(t, f, kmstest.User(t), closed, nil, tokens...), "kms:Encrypt", `denied by resource policy /Statement/1 "NotThisUser"`)
	denied(t, f, mayEncrypt(t, f, kmstest.As(kmstest.Subject(t, kmstest.Account, "user", deny)), open, nil, tokens...), "kms:Encrypt",
		`denied by identity policy inline /Statement/0 "Never"`)
	for role, set := range map[string]func(*iam.Subject){
		"permissions boundary":   func(s *iam.Subject) { s.Boundary, s.Identity = s.Identity[0].Policy, nil },
		"session policy inline ": func(s *iam.Subject) { s.Session, s.Identity = s.Identity, nil },
	} {
		s := kmstest.Subject(t, kmstest.Account, "user", deny)
		set(s)
		denied(t, f, mayEncrypt(t, f, kmstest.As(s), open, nil, tokens...), "kms:Encrypt", "denied by "+strings.TrimSpace(role)+` /Statement/0 "Never"`)
	}
	if got := calls(); len(got) > 0 {
		t.Errorf("denied requests called the backend: %v", got)
	}
}

func TestGrantConstraints(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	pair := func(s ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(s); i += 2 {
			m[s[i]] = s[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		constraints kms.GrantConstraints
		context     map[string]string
		ok          bool
	}{
		"equal":          {kms.GrantConstraints{EncryptionContextEquals: pair("a", "1", "b", "2")}, pair("b", "2", "a", "1"), true},
		"one more":       {kms.GrantConstraints{EncryptionContextEquals: pair("a", "1")}, pair("a", "1", "b", "2"), false},
		"one less":       {kms.GrantConstraints{EncryptionContextEquals: pair("a", "1", "b", "2")}, pair("a", "1"), false},
		"no context":     {kms.GrantConstraints{EncryptionContextEquals: pair("a", "1")}, nil, false},
		"other case":     {kms.GrantConstraints{EncryptionContextEquals: pair("a", "x")}, pair("a", "X"), false},
		"subset":         {kms.GrantConstraints{EncryptionContextSubset: pair("a", "1")}, pair("a", "1", "b", "2"), true},
		"subset, equal":  {kms.GrantConstraints{EncryptionContextSubset: pair("a", "1")}, pair("a", "1"), true},
		"subset missing": {kms.GrantConstraints{EncryptionContextSubset: pair("a", "1", "b", "2")}, pair("a", "1", "c", "2"), false},
		"subset, value":  {kms.GrantConstraints{EncryptionContextSubset: pair("a", "1")}, pair("a", "2"), false},
		"subset, empty":  {kms.GrantConstraints{EncryptionContextSubset: pair("a", "")}, pair("b", "1"), false},
		"source":         {kms.GrantConstraints{SourceARN: "arn:aws:s3:::bucket"}, nil, false},
		"none":           {kms.GrantConstraints{}, nil, true},
	} {
		k := f.Key(t, keyspec.SymmetricDefault)
		createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt", "DescribeKey"), Constraints: &c.constraints})
		err := mayEncrypt(t, f, kmstest.User(t), k, c.context)
		if c.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !c.ok {
			denied(t, f, err, "kms:Encrypt", noGrant)
		}
		if c.constraints.SourceARN == "" { // encryption context constraints do not hold for DescribeKey
			if _, err := f.DescribeKey(t.Context(), kmstest.User(t), &kms.DescribeKeyInput{KeyID: k.ID}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Terraform sends the constraint that is not meant as an empty one.
func TestAnEmptyConstraintBesideAnotherIsNone(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	shop, none := map[string]string{"tenant": "shop"}, map[string]string{}
	for name, c := range map[string]kms.GrantConstraints{
		"equals": {EncryptionContextEquals: shop, EncryptionContextSubset: none},
		"subset": {EncryptionContextEquals: none, EncryptionContextSubset: shop},
	} {
		in := kms.CreateGrantInput{KeyID: k.ID, Name: name, GranteePrincipal: app, Operations: grantOps("Encrypt"), Constraints: &c}
		g := createGrant(t, f, in)
		if again := createGrant(t, f, in); again.GrantID != g.GrantID {
			t.Errorf("%s: the same request made grants %s and %s", name, g.GrantID, again.GrantID)
		}
		if c.EncryptionContextEquals == nil || c.EncryptionContextSubset == nil {
			t.Errorf("%s: the request was changed", name)
		}
	}
	out, err := f.ListGrants(t.Context(), kmstest.Admin(t), &kms.ListGrantsInput{KeyID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range out.Grants {
		equals, subset := g.Constraints.EncryptionContextEquals, g.Constraints.EncryptionContextSubset
		if (g.Name == "equals") != (equals["tenant"] == "shop" && subset == nil) || (g.Name == "subset") != (subset["tenant"] == "shop" && equals == nil) {
			t.Errorf("grant %q has constraints %v and %v", g.Name, equals, subset)
		}
	}
	if len(out.Grants) != 2 {
		t.Errorf("got %d grants, want 2", len(out.Grants))
	}
	user := kmstest.User(t)
	if err := mayEncrypt(t, f, user, k, map[string]string{"tenant": "shop", "more": "x"}); err != nil {
		t.Error(err)
	}
	denied(t, f, mayEncrypt(t, f, user, k, nil), "kms:Encrypt", noGrant)
}

func TestGranteesOfEveryKind(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	const nothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	limited := func(who kms.Caller, s *iam.Subject) kms.Caller {
		limits := *who.Subject
		limits.Boundary = s.Identity[0].Policy
		who.Subject = &limits
		return who
	}
	service := kmstest.As(&iam.Subject{Caller: iam.Caller{Type: iam.CallerService, Services: []string{"s3.amazonaws.com"}}})
	foreign := userARN(kmstest.Other, "foreigner")
	for name, c := range map[string]struct {
		grantee string
		who     kms.Caller
		detail  string // of a denial
	}{
		"user":                       {app, kmstest.User(t), ""},
		"user of another account":    {foreign, kmstest.As(kmstest.Subject(t, kmstest.Other, "foreigner", "")), ""},
		"role":                       {appRole, appSession(t, ""), ""},
		"session":                    {appAnna, appSession(t, ""), ""},
		"other session":              {"arn:aws:sts::111122223333:assumed-role/app/otto", appSession(t, ""), noGrant},
		"role under a boundary":      {appRole, limited(appSession(t, ""), kmstest.Subject(t, kmstest.Account, "x", nothing)), "denied: the permissions boundary does not allow it"},
		"session under a boundary":   {appAnna, limited(appSession(t, ""), kmstest.Subject(t, kmstest.Account, "x", nothing)), ""},
		"account, its root":          {rootUser, kmstest.Root(), ""},
		"account, user":              {rootUser, kmstest.User(t), noGrant},
		"account, user with policy":  {rootUser, kmstest.Admin(t), ""},
		"other account, user":        {"arn:aws:iam::444455556666:root", kmstest.As(kmstest.Subject(t, kmstest.Other, "user", "")), noGrant},
		"other account, with policy": {"arn:aws:iam::444455556666:root", kmstest.Foreigner(t), ""},
		"service":                    {app, service, "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"},
		"anonymous":                  {app, kms.Caller{Region: kmstest.Region}, "denied: the caller is not authenticated"},
	} {
		k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { // nothing is left to identity policies but grants
			k.Policy = `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN(kmstest.Account, "admin") + `"},"Action":["kms:PutKeyPolicy","kms:CreateGrant"],"Resource":"*"}]}`
		})
		createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: c.grantee, Operations: grantOps("Encrypt")})
		err := mayEncrypt(t, f, c.who, k, nil)
		switch {
		case c.detail == "" && err != nil:
			t.Errorf("%s: %v, %s", name, err, f.Last(t).Detail)
		case c.detail == noGrant && strings.Contains(name, "account, "):
			denied(t, f, err, "kms:Encrypt", noIdentityPolicy)
		case c.detail == noGrant:
			denied(t, f, err, "kms:Encrypt", "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies")
		case c.detail != "":
			denied(t, f, err, "kms:Encrypt", c.detail)
		}
	}
}

func TestAServiceUsesAGrantOnlyForItsResource(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	in := kms.CreateGrantInput{
		KeyID: k.ID, GranteeServicePrincipal: "s3.amazonaws.com", RetiringServicePrincipal: "s3.amazonaws.com", Operations: grantOps("Encrypt"),
		Constraints: &kms.GrantConstraints{SourceARN: "arn:aws:s3:::bucket"},
	}
	createGrant(t, f, in)
	out, err := f.ListGrants(t.Context(), kmstest.Admin(t), &kms.ListGrantsInput{KeyID: k.ID, GranteeServicePrincipal: "s3.amazonaws.com"})
	if err != nil || len(out.Grants) != 1 {
		t.Fatal(err, out)
	}
	if g := out.Grants[0]; g.GranteeServicePrincipal != "s3.amazonaws.com" || g.GranteePrincipal != "" || g.RetiringServicePrincipal != "s3.amazonaws.com" ||
		g.RetiringPrincipal != "" || g.Constraints.SourceARN != "arn:aws:s3:::bucket" {
		t.Errorf("got %+v", g)
	}
	service := kmstest.As(&iam.Subject{Caller: iam.Caller{Type: iam.CallerService, Services: []string{"s3.amazonaws.com"}}})
	denied(t, f, mayEncrypt(t, f, service, k, nil), "kms:Encrypt",
		"denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies")
}

func TestCreateGrantWithANameIsIdempotent(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	in := kms.CreateGrantInput{
		KeyID: k.ID, Name: "app/1", GranteePrincipal: app, RetiringPrincipal: rootUser, Operations: grantOps("Encrypt", "Decrypt"),
		Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1"}},
	}
	first := createGrant(t, f, in)
	again := in
	again.KeyID, again.Operations = k.ARN(), grantOps("Decrypt", "Encrypt", "Encrypt")
	second := createGrant(t, f, again)
	if first.GrantID != second.GrantID || first.GrantToken == second.GrantToken {
		t.Errorf("the same request: %s then %s, tokens equal: %v", first.GrantID, second.GrantID, first.GrantToken == second.GrantToken)
	}
	seen := map[string]string{first.GrantID: "the first"}
	for name, change := range map[string]func(*kms.CreateGrantInput){
		"name":       func(in *kms.CreateGrantInput) { in.Name = "app/2" },
		"no name":    func(in *kms.CreateGrantInput) { in.Name = "" },
		"no name 2":  func(in *kms.CreateGrantInput) { in.Name = "" },
		"grantee":    func(in *kms.CreateGrantInput) { in.GranteePrincipal = appRole },
		"retiring":   func(in *kms.CreateGrantInput) { in.RetiringPrincipal = "" },
		"operations": func(in *kms.CreateGrantInput) { in.Operations = grantOps("Encrypt") },
		"constraint": func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "1"}}
		},
		"no constraint": func(in *kms.CreateGrantInput) { in.Constraints = nil },
	} {
		other := in
		change(&other)
		id := createGrant(t, f, other).GrantID
		if old, there := seen[id]; there {
			t.Errorf("a grant of another %s is %s's", name, old)
		}
		seen[id] = name
	}
	if err := f.RevokeGrant(t.Context(), kmstest.Admin(t), &kms.RevokeGrantInput{KeyID: k.ID, GrantID: first.GrantID}); err != nil {
		t.Fatal(err)
	}
	if g := createGrant(t, f, in); g.GrantID == first.GrantID {
		t.Error("a revoked grant came back")
	}
}

func TestConcurrentCreateGrantsOfOneNameMakeOneGrant(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	in := kms.CreateGrantInput{KeyID: k.ID, Name: "one", GranteePrincipal: app, Operations: grantOps("Encrypt")}
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			out, err := f.CreateGrant(t.Context(), kmstest.Admin(t), &in)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = out.GrantID
		})
	}
	wg.Wait()
	if got := slices.Compact(ids); len(got) != 1 {
		t.Errorf("%d grants: %v", len(got), got)
	}
	if got := len(f.Entries(t)); got != len(ids) {
		t.Errorf("%d entries for %d requests", got, len(ids))
	}
}

func TestConcurrentGrantsAndRevocationsTakeEffectAtOnce(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("user", i)
			who := kmstest.As(kmstest.Subject(t, kmstest.Account, name, ""))
			for range 10 {
				g := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: userARN(kmstest.Account, name), Operations: grantOps("Encrypt")})
				if err := mayEncrypt(t, f, who, k, nil); err != nil {
					t.Errorf("with a grant: %v", err)
				}
				if err := f.RevokeGrant(t.Context(), kmstest.Admin(t), &kms.RevokeGrantInput{KeyID: k.ID, GrantID: g.GrantID}); err != nil {
					t.Error(err)
				}
				if err := mayEncrypt(t, f, who, k, nil); err == nil {
					t.Error("a revoked grant still works")
				}
			}
		})
	}
	wg.Wait()
}

func TestCreateGrantRefuses(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, principals(app))
	k := f.Key(t, keyspec.SymmetricDefault)
	rsa := f.Key(t, keyspec.RSA2048, func(k *kms.Key) { k.Usage = keyspec.SignVerify })
	mac := f.Key(t, keyspec.HMAC256)
	pairs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i)] = "v"
		}
		return m
	}
	const one = "1 validation error detected: "
	for name, c := range map[string]struct {
		change  func(*kms.CreateGrantInput)
		code    kms.Code
		message string
	}{
		"no key": {func(in *kms.CreateGrantInput) { in.KeyID = "" }, kms.CodeValidation, one + "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		"alias":  {func(in *kms.CreateGrantInput) { in.KeyID = "alias/x" }, kms.CodeNotFound, "Invalid keyId 'alias/x'"},
		"null operations": {
			func(in *kms.CreateGrantInput) { in.Operations = nil }, kms.CodeValidation,
			one + "Value null at 'operations' failed to satisfy constraint: Member must not be null",
		},
		"no operations": {
			func(in *kms.CreateGrantInput) { in.Operations = []kms.GrantOperation{} }, kms.CodeValidation,
			one + "Value at 'operations' failed to satisfy constraint: Member must have length greater than or equal to 1",
		},
		"unknown operation": {
			func(in *kms.CreateGrantInput) { in.Operations = grantOps("Fly") }, kms.CodeValidation,
			one + "Value 'Fly' at 'operations' failed to satisfy constraint: Member must satisfy enum value set: [Decrypt, Encrypt, GenerateDataKey, " +
				"GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, Sign, Verify, GetPublicKey, CreateGrant, RetireGrant, DescribeKey, GenerateDataKeyPair, " +
				"GenerateDataKeyPairWithoutPlaintext, GenerateMac, VerifyMac, DeriveSharedSecret]",
		},
		"operation of another usage": {
			func(in *kms.CreateGrantInput) { in.Operations = grantOps("Encrypt", "Sign") }, kms.CodeValidation,
			"Grant operation Sign is not valid for " + k.ARN() + ", whose key spec is SYMMETRIC_DEFAULT and key usage ENCRYPT_DECRYPT.",
		},
		"public key of a symmetric key": {
			func(in *kms.CreateGrantInput) { in.Operations = grantOps("GetPublicKey") }, kms.CodeValidation,
			"Grant operation GetPublicKey is not valid for " + k.ARN() + ", whose key spec is SYMMETRIC_DEFAULT and key usage ENCRYPT_DECRYPT.",
		},
		"data key of an RSA key": {
			func(in *kms.CreateGrantInput) { in.KeyID, in.Operations = rsa.ID, grantOps("GenerateDataKey") }, kms.CodeValidation,
			"Grant operation GenerateDataKey is not valid for " + rsa.ARN() + ", whose key spec is RSA_2048 and key usage SIGN_VERIFY.",
		},
		"constraint on an RSA key": {func(in *kms.CreateGrantInput) {
			in.KeyID, in.Operations, in.Constraints = rsa.ID, grantOps("Sign"), &kms.GrantConstraints{EncryptionContextEquals: pairs(1)}
		}, kms.CodeValidation, "Encryption context constraints are valid only in grants on symmetric encryption keys."},
		"constraint on an HMAC key": {func(in *kms.CreateGrantInput) {
			in.KeyID, in.Operations, in.Constraints = mac.ID, grantOps("GenerateMac"), &kms.GrantConstraints{EncryptionContextSubset: pairs(1)}
		}, kms.CodeValidation, "Encryption context constraints are valid only in grants on symmetric encryption keys."},
		"nine pairs": {
			func(in *kms.CreateGrantInput) {
				in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: pairs(9)}
			}, kms.CodeValidation,
			one + "Value at 'constraints.encryptionContextEquals' failed to satisfy constraint: Member must have length less than or equal to 8",
		},
		"empty constraint": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: pairs(0)}
		}, kms.CodeValidation, one + "Value at 'constraints.encryptionContextEquals' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long value": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"a": strings.Repeat("v", 385)}}
		}, kms.CodeValidation, one + "Value '" + strings.Repeat("v", 128) + "…' at 'constraints.encryptionContextSubset.a.member' failed to satisfy constraint: " +
			"Member must have length less than or equal to 384"},
		"two constraints": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: pairs(1), EncryptionContextSubset: pairs(1)}
		}, kms.CodeValidation, one + "Value at 'constraints' failed to satisfy constraint: Member must have either encryptionContextEquals or encryptionContextSubset"},
		"source no ARN": {
			func(in *kms.CreateGrantInput) { in.Constraints = &kms.GrantConstraints{SourceARN: "bucket"} }, kms.CodeValidation,
			one + "Value 'bucket' at 'constraints.sourceArn' failed to satisfy constraint: Member must be an ARN",
		},
		"name": {
			func(in *kms.CreateGrantInput) { in.Name = "a b" }, kms.CodeValidation,
			one + "Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
		},
		"no grantee": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = "" }, kms.CodeValidation,
			"You must specify either GranteePrincipal or GranteeServicePrincipal, but not both.",
		},
		"two grantees": {
			func(in *kms.CreateGrantInput) { in.GranteeServicePrincipal = "s3.amazonaws.com" }, kms.CodeValidation,
			"You must specify either GranteePrincipal or GranteeServicePrincipal, but not both.",
		},
		"two retiring": {
			func(in *kms.CreateGrantInput) {
				in.RetiringPrincipal, in.RetiringServicePrincipal = app, "s3.amazonaws.com"
			}, kms.CodeValidation,
			"You cannot specify both RetiringPrincipal and RetiringServicePrincipal.",
		},
		"service without source": {
			func(in *kms.CreateGrantInput) {
				in.GranteePrincipal, in.GranteeServicePrincipal = "", "s3.amazonaws.com"
			}, kms.CodeValidation,
			"A grant with a GranteeServicePrincipal must have a SourceArn constraint.",
		},
		"service without retiring": {func(in *kms.CreateGrantInput) {
			in.GranteePrincipal, in.GranteeServicePrincipal, in.Constraints = "", "s3.amazonaws.com", &kms.GrantConstraints{SourceARN: "arn:aws:s3:::bucket"}
		}, kms.CodeValidation, "A grant with a GranteeServicePrincipal must have a RetiringPrincipal or a RetiringServicePrincipal."},
		"service's name": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal, in.GranteeServicePrincipal = "", "S3" }, kms.CodeValidation,
			one + "Value 'S3' at 'granteeServicePrincipal' failed to satisfy constraint: Member must be the name of a service, as s3.amazonaws.com",
		},
		"principal's characters": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = app + "*" }, kms.CodeValidation,
			one + "Value '" + app + `*' at 'granteePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\w+=,.@:/-]+$`,
		},
		"unknown user": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = userARN(kmstest.Account, "nobody") }, kms.CodeInvalidARN,
			"ARN does not refer to a valid principal: arn:aws:iam::111122223333:user/nobody",
		},
		"unknown account": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = "arn:aws:iam::999999999999:root" }, kms.CodeInvalidARN,
			"ARN does not refer to a valid principal: arn:aws:iam::999999999999:root",
		},
		"unknown retiring": {
			func(in *kms.CreateGrantInput) { in.RetiringPrincipal = userARN(kmstest.Account, "nobody") }, kms.CodeInvalidARN,
			"ARN does not refer to a valid principal: arn:aws:iam::111122223333:user/nobody",
		},
		"account's number": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = kmstest.Account }, kms.CodeInvalidARN,
			"ARN does not refer to a valid principal: 111122223333",
		},
		"group": {
			func(in *kms.CreateGrantInput) { in.GranteePrincipal = "arn:aws:iam::111122223333:group/g" }, kms.CodeInvalidARN,
			"ARN does not refer to a valid principal: arn:aws:iam::111122223333:group/g",
		},
		"eleven tokens": {
			func(in *kms.CreateGrantInput) { in.GrantTokens = slices.Repeat([]string{"t"}, 11) }, kms.CodeValidation,
			one + "Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10",
		},
		"nonsense token": {func(in *kms.CreateGrantInput) { in.GrantTokens = []string{"t"} }, kms.CodeInvalidGrantToken, "Grant token is invalid."},
	} {
		t.Run(name, func(t *testing.T) {
			in := kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")}
			c.change(&in)
			_, err := f.CreateGrant(t.Context(), kmstest.Admin(t), &in)
			kmstest.Refused(t, err, c.code, c.message)
		})
	}
	if gs, err := f.Store.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 10); err != nil || len(gs) > 0 {
		t.Errorf("refused requests left %v, %v", gs, err)
	}
}

func TestAKeyHasSoManyGrants(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t, func(o *kms.Options) { o.Limits.Grants = 3 })
	k := f.Key(t, keyspec.SymmetricDefault)
	in := kms.CreateGrantInput{KeyID: k.ID, Name: "n", GranteePrincipal: app, Operations: grantOps("Encrypt")}
	first := createGrant(t, f, in)
	for range 2 {
		in.Name = ""
		createGrant(t, f, in)
	}
	_, err := f.CreateGrant(t.Context(), kmstest.Admin(t), &in)
	kmstest.Refused(t, err, kms.CodeLimitExceeded, k.ARN()+" has 3 grants, which is the limit.")
	in.Name = "n"
	if again := createGrant(t, f, in); again.GrantID != first.GrantID {
		t.Error("a retry at the limit made another grant")
	}
}

func TestCreateGrantCanBeLimitedByConditions(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	try := func(condition string, in kms.CreateGrantInput) error {
		who := kmstest.As(kmstest.Subject(t, kmstest.Account, "ops", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:CreateGrant","Resource":"*","Condition":`+condition+`}]}`))
		in.KeyID = k.ID
		_, err := f.CreateGrant(t.Context(), who, &in)
		return err
	}
	equals := &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"tenant": "a"}}
	subset := &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "b"}}
	service := kms.CreateGrantInput{
		GranteeServicePrincipal: "s3.amazonaws.com", RetiringServicePrincipal: "s3.amazonaws.com", Operations: grantOps("Encrypt"),
		Constraints: &kms.GrantConstraints{SourceARN: "arn:aws:s3:::bucket"},
	}
	for condition, c := range map[string]struct{ good, bad kms.CreateGrantInput }{
		`{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}`: {
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")}, kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt", "CreateGrant")},
		},
		`{"StringEquals":{"kms:GranteePrincipal":"` + app + `"}}`: {
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")}, kms.CreateGrantInput{GranteePrincipal: appRole, Operations: grantOps("Decrypt")},
		},
		`{"StringEquals":{"kms:RetiringPrincipal":"` + app + `"}}`: {
			kms.CreateGrantInput{GranteePrincipal: app, RetiringPrincipal: app, Operations: grantOps("Decrypt")}, kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")},
		},
		`{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextEquals"}}`: {
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt"), Constraints: equals},
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt"), Constraints: subset},
		},
		`{"StringEquals":{"kms:EncryptionContext:tenant":"b"}}`: {
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt"), Constraints: subset},
			kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt"), Constraints: equals},
		},
		`{"StringEquals":{"kms:GranteeServicePrincipal":"s3.amazonaws.com","kms:RetiringServicePrincipal":"s3.amazonaws.com","kms:GrantConstraintSourceArn":"arn:aws:s3:::bucket"}}`: {
			service, kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")},
		},
		`{"Bool":{"kms:GrantIsForAWSResource":"false"}}`: {kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")}, kms.CreateGrantInput{}},
		`{"Bool":{"kms:GrantIsForAWSResource":"true"}}`:  {kms.CreateGrantInput{}, kms.CreateGrantInput{GranteePrincipal: app, Operations: grantOps("Decrypt")}},
	} {
		if c.good.Operations != nil {
			if err := try(condition, c.good); err != nil {
				t.Errorf("%s: %v", condition, err)
			}
		}
		if c.bad.Operations != nil {
			denied(t, f, try(condition, c.bad), "kms:CreateGrant", noIdentityPolicy)
		}
	}
}

func TestAGrantMadeByAGrantIsAsStrict(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	pairs := func(s ...string) map[string]string {
		m := map[string]string{}
		for _, v := range s {
			m[v] = v
		}
		return m
	}
	equals := func(s ...string) *kms.GrantConstraints {
		return &kms.GrantConstraints{EncryptionContextEquals: pairs(s...)}
	}
	subset := func(s ...string) *kms.GrantConstraints {
		return &kms.GrantConstraints{EncryptionContextSubset: pairs(s...)}
	}
	source := func(s string) *kms.GrantConstraints { return &kms.GrantConstraints{SourceARN: s} }
	for name, c := range map[string]struct {
		parent, child *kms.GrantConstraints
		ops           []kms.GrantOperation // Encrypt if nil
		ok            bool
	}{
		"no constraints":           {nil, nil, nil, true},
		"more constraints":         {nil, equals("a"), nil, true},
		"all operations":           {nil, nil, grantOps("Encrypt", "CreateGrant"), true},
		"another operation":        {nil, nil, grantOps("Encrypt", "Decrypt"), false},
		"RetireGrant":              {nil, nil, grantOps("Encrypt", "RetireGrant"), false},
		"dropped":                  {equals("a"), nil, nil, false},
		"subset dropped":           {subset("a"), nil, nil, false},
		"equal":                    {equals("a"), equals("a"), nil, true},
		"another":                  {equals("a"), equals("b"), nil, false},
		"equals with more":         {equals("a"), equals("a", "b"), nil, false},
		"equals to subset":         {equals("a"), subset("a"), nil, false},
		"subset kept":              {subset("a"), subset("a"), nil, true},
		"subset of more":           {subset("a"), subset("a", "b"), nil, true},
		"subset of less":           {subset("a", "b"), subset("a"), nil, false},
		"subset to equals":         {subset("a"), equals("a", "b"), nil, true},
		"subset to another equals": {subset("a"), equals("b"), nil, false},
		"source":                   {source("arn:aws:s3:::a"), source("arn:aws:s3:::a"), nil, false}, // which no request here has
	} {
		k := f.Key(t, keyspec.SymmetricDefault)
		createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt", "CreateGrant"), Constraints: c.parent})
		in := kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: appRole, Operations: c.ops, Constraints: c.child}
		if in.Operations == nil {
			in.Operations = grantOps("Encrypt")
		}
		_, err := f.CreateGrant(t.Context(), kmstest.User(t), &in)
		if c.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !c.ok {
			denied(t, f, err, "kms:CreateGrant", noGrant)
		}
	}
}

func TestGrantDryRuns(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	g := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")})
	const would = "The request would have succeeded, but the DryRun option is set."
	for action, run := range map[string]func(who kms.Caller) error{
		"kms:CreateGrant": func(who kms.Caller) error {
			_, err := f.CreateGrant(t.Context(), who, &kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt"), DryRun: true})
			return err
		},
		"kms:RetireGrant": func(who kms.Caller) error {
			return f.RetireGrant(t.Context(), who, &kms.RetireGrantInput{GrantToken: g.GrantToken, DryRun: true})
		},
		"kms:RevokeGrant": func(who kms.Caller) error {
			return f.RevokeGrant(t.Context(), who, &kms.RevokeGrantInput{KeyID: k.ID, GrantID: g.GrantID, DryRun: true})
		},
	} {
		kmstest.Refused(t, run(kmstest.Admin(t)), kms.CodeDryRun, would)
		e := f.Last(t)
		if paramsOf(e.Call.Request)["dryRun"] != "true" || e.Result != "dry_run_operation" || len(e.Call.Response) > 0 {
			t.Errorf("%s: entry %+v", action, e)
		}
		denied(t, f, run(kmstest.User(t)), action, noGrant)
	}
	if gs, err := f.Store.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 10); err != nil || len(gs) != 1 {
		t.Errorf("after dry runs there are %v, %v", gs, err)
	}
}

// TestAGrantIsNotForANamesake: who gets the name of a user or role that was deleted
// does not get its grants, by name, by token, or to retire.
func TestAGrantIsNotForANamesake(t *testing.T) {
	t.Parallel()
	ids := map[string]string{app: "AIDAuser", appRole: "AROAAPP", appAnna: "AROAAPP"}
	f := kmstest.New(t, func(o *kms.Options) {
		o.PrincipalID = func(_ context.Context, arn string) (string, error) { return ids[arn], nil }
	})
	k := f.Key(t, keyspec.SymmetricDefault)
	another := func(who kms.Caller, id string) kms.Caller {
		sub := *who.Subject
		sub.Caller.ID = id
		who.Subject = &sub
		return who
	}
	user, session := kmstest.User(t), appSession(t, "")
	for grantee, who := range map[string]kms.Caller{app: user, appRole: session, appAnna: session} {
		namesake := another(who, "AIDAANOTHER")
		if who.Subject.Caller.Type == iam.CallerRole {
			namesake = another(who, "AROAANOTHER:anna")
		}
		in := kms.CreateGrantInput{
			KeyID: k.ID, Name: "n", GranteePrincipal: grantee, RetiringPrincipal: grantee, Operations: grantOps("Encrypt", "RetireGrant", "CreateGrant"),
		}
		g := createGrant(t, f, in)
		if again := createGrant(t, f, in); again.GrantID != g.GrantID {
			t.Errorf("%s: the same request made another grant", grantee)
		}
		if err := mayEncrypt(t, f, who, k, nil); err != nil {
			t.Errorf("%s: %v", grantee, err)
		}
		denied(t, f, mayEncrypt(t, f, namesake, k, nil), "kms:Encrypt", noGrant)
		denied(t, f, mayEncrypt(t, f, namesake, k, nil, g.GrantToken), "kms:Encrypt", noGrant)
		_, err := f.CreateGrant(t.Context(), namesake, &kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: grantee, Operations: grantOps("Encrypt")})
		denied(t, f, err, "kms:CreateGrant", noGrant)
		denied(t, f, f.RetireGrant(t.Context(), namesake, &kms.RetireGrantInput{GrantToken: g.GrantToken}), "kms:RetireGrant", noGrant)
		ids[grantee] = "AIDAANOTHER"
		if again := createGrant(t, f, in); again.GrantID == g.GrantID {
			t.Errorf("%s: a grant for another is given out as the same", grantee)
		}
		if err := f.RetireGrant(t.Context(), who, &kms.RetireGrantInput{GrantToken: g.GrantToken}); err != nil {
			t.Errorf("%s: %v", grantee, err)
		}
	}
	delete(ids, app) // on another node, which Options.Principal does not know yet
	_, err := f.CreateGrant(t.Context(), kmstest.Admin(t), &kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")})
	kmstest.Refused(t, err, kms.CodeInvalidARN, "ARN does not refer to a valid principal: "+app)

	f2 := kmstest.New(t, func(o *kms.Options) {
		o.PrincipalID = func(context.Context, string) (string, error) { return "", errors.New("database is gone") }
	})
	k2 := f2.Key(t, keyspec.SymmetricDefault)
	_, err = f2.CreateGrant(t.Context(), kmstest.Admin(t), &kms.CreateGrantInput{KeyID: k2.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")})
	kmstest.Refused(t, err, kms.CodeInternal, "The principal could not be read.")
	createGrant(t, f2, kms.CreateGrantInput{KeyID: k2.ID, GranteePrincipal: rootUser, Operations: grantOps("Encrypt")})
}
