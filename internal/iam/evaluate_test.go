package iam_test

import (
	"strings"
	"testing"

	json "github.com/go-json-experiment/json"

	"cardea/internal/iam"
)

func mustPolicy(t testing.TB, kind iam.PolicyKind, doc string) *iam.Policy {
	t.Helper()
	p, err := iam.ParsePolicy(kind, []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	allowAll = `{"Version":"2012-10-17","Statement":{"Sid":"All","Effect":"Allow","Action":"*","Resource":"*"}}`
	denyAll  = `{"Version":"2012-10-17","Statement":{"Sid":"None","Effect":"Deny","Action":"*","Resource":"*"}}`
)

// An identity policy speaks for its owner; taken for a key policy it would let
// everyone in.
func TestPolicyOfTheWrongKindAllowsNothing(t *testing.T) {
	t.Parallel()
	identity := mustPolicy(t, iam.IdentityPolicy, allowAll)
	key := mustPolicy(t, iam.KeyPolicy, stmt(""))
	q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey}
	for name, p := range map[string]iam.Policies{
		"identity policy as key policy": {Resource: identity},
		"key policy as identity policy": {Resource: key, Identity: []iam.NamedPolicy{{Policy: key}}},
		"key policy as boundary":        {Resource: key, Boundary: key},
		"key policy as session policy":  {Resource: key, Session: []iam.NamedPolicy{{Policy: key}}},
		"no identity policy":            {Resource: key, Identity: []iam.NamedPolicy{{Name: "x"}}},
		"zero key policy":               {Resource: key, Boundary: &iam.Policy{}},
	} {
		v := iam.Decide(&q, &p)
		if v.Allowed || v.Reason != iam.DeniedMisuse || v.String() != "denied: a policy of the wrong kind was asked" {
			t.Errorf("%s: %v", name, v)
		}
	}
	if v := iam.KeepsControl(&q, identity); v.Reason != iam.DeniedMisuse {
		t.Errorf("lockout check with an identity policy: %v", v)
	}
	if v := iam.KeepsControl(&q, nil); v.Reason != iam.DeniedMisuse {
		t.Errorf("lockout check without a policy: %v", v)
	}
}

// Without a key policy nothing is allowed by mistake: an action on no key says so.
func TestForgottenKeyPolicyAllowsNothing(t *testing.T) {
	t.Parallel()
	q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey}
	p := iam.Policies{Identity: []iam.NamedPolicy{{Policy: mustPolicy(t, iam.IdentityPolicy, allowAll)}}}
	if v := iam.Decide(&q, &p); v.Allowed || v.Reason != iam.DeniedByResource {
		t.Errorf("got %v", v)
	}
	p.IdentityOnly = true
	if v := iam.Decide(&q, &p); !v.Allowed {
		t.Errorf("got %v", v)
	}
	if v := iam.Decide(&iam.Query{Caller: user("alice")}, &iam.Policies{}); v.Allowed {
		t.Errorf("nothing at all: %v", v)
	}
}

func TestHalfKnownCallersAreAnonymous(t *testing.T) {
	t.Parallel()
	p := iam.Policies{Resource: mustPolicy(t, iam.KeyPolicy, stmt(""))}
	for _, c := range []iam.Caller{
		{},
		{Type: iam.CallerUser},
		{Type: iam.CallerUser, ARN: "arn:aws:iam::111122223333:user/a"},
		{Type: iam.CallerRole, ARN: "arn:aws:iam::111122223333:role/a", Account: testAccount},
		{Type: iam.CallerFederated, Session: "arn:aws:sts::111122223333:federated-user/a", Account: testAccount},
		{Type: iam.CallerRoot, Account: testAccount},
		{Type: iam.CallerService},
		{Type: iam.CallerProvider},
		{Type: "Martian", ARN: "arn:aws:iam::111122223333:user/a", Account: testAccount},
	} {
		v := iam.Decide(&iam.Query{Caller: c, Action: "kms:Encrypt", Resource: testKey}, &p)
		if v.Allowed || v.Reason != iam.DeniedAnonymous {
			t.Errorf("%+v: %v", c, v)
		}
	}
}

func TestAccessDeniedMessageIsAWSs(t *testing.T) {
	t.Parallel()
	all, none := mustPolicy(t, iam.IdentityPolicy, allowAll), mustPolicy(t, iam.IdentityPolicy, denyAll)
	some := mustPolicy(t, iam.IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"kms:List*","Resource":"*"}}`)
	key := mustPolicy(t, iam.KeyPolicy, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*"}}`)
	denies := mustPolicy(t, iam.KeyPolicy, `{"Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}`)
	list := func(p ...*iam.Policy) (out []iam.NamedPolicy) {
		for _, p := range p {
			out = append(out, iam.NamedPolicy{Policy: p})
		}
		return out
	}
	const start = "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:Encrypt"
	const on = start + " on resource: " + testKey
	for _, c := range []struct {
		p        iam.Policies
		resource string
		want     string
	}{
		{iam.Policies{}, testKey, on + " because no resource-based policy allows the kms:Encrypt action"},
		{iam.Policies{Resource: key}, testKey, on + " because no identity-based policy allows the kms:Encrypt action"},
		{iam.Policies{IdentityOnly: true}, "*", start + " because no identity-based policy allows the kms:Encrypt action"},
		{iam.Policies{Resource: key, Identity: list(all), Boundary: some}, testKey, on + " because no permissions boundary allows the kms:Encrypt action"},
		{iam.Policies{Resource: key, Identity: list(all), Session: list(some)}, testKey, on + " because no session policy allows the kms:Encrypt action"},
		{iam.Policies{Resource: denies}, testKey, on + " with an explicit deny in a resource-based policy"},
		{iam.Policies{Resource: key, Identity: list(all, none)}, testKey, on + " with an explicit deny in an identity-based policy"},
		{iam.Policies{Resource: key, Identity: list(all), Boundary: none}, testKey, on + " with an explicit deny in a permissions boundary"},
		{iam.Policies{Resource: key, Identity: list(all), Session: list(none)}, testKey, on + " with an explicit deny in a session policy"},
		{iam.Policies{IdentityOnly: true}, "arn:aws:kms:us-west-2:444455556666:alias/a", start + " on resource: arn:aws:kms:us-west-2:444455556666:alias/a"},
	} {
		q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: c.resource}
		v := iam.Decide(&q, &c.p)
		if got := v.AccessDeniedMessage(&q); v.Allowed || got != c.want {
			t.Errorf("%v:\n got  %s\n want %s", v, got, c.want)
		}
	}
	anonymous := iam.Query{Action: "kms:ListKeys", Resource: "*"}
	if got := iam.Decide(&anonymous, &iam.Policies{}).AccessDeniedMessage(&anonymous); got != "User: anonymous is not authorized to perform: kms:ListKeys" {
		t.Error(got)
	}
}

func TestExplainSaysWhatDidNotMatch(t *testing.T) {
	t.Parallel()
	key := mustPolicy(t, iam.KeyPolicy, `{"Version":"2012-10-17","Statement":[
	  {"Sid":"Bob","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:user/bob","arn:aws:iam::111122223333:user/b2","arn:aws:iam::111122223333:user/b3","arn:aws:iam::111122223333:user/b4","arn:aws:iam::111122223333:user/b5","arn:aws:iam::111122223333:user/b6"]},"Action":"kms:*","Resource":"*"},
	  {"Effect":"Deny","NotPrincipal":{"AWS":["111122223333","arn:aws:iam::111122223333:user/alice"]},"Action":"kms:*","Resource":"*"},
	  {"Effect":"Allow","Principal":"*","Action":["kms:Decrypt","kms:ReEncrypt*"],"Resource":"*"},
	  {"Effect":"Allow","Principal":"*","NotAction":"kms:E*","Resource":"*"},
	  {"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:kms:us-east-1:*:key/*"},
	  {"Effect":"Allow","Principal":"*","Action":"*","NotResource":"arn:aws:kms"},
	  {"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"acme","kms:ViaService":["s3.us-west-2.amazonaws.com","x"]}}},
	  {"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"x"}}},
	  {"Effect":"Deny","Principal":"*","Resource":"*"},
	  {"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Encrypt","Resource":"*"}]}`)
	identity := mustPolicy(t, iam.IdentityPolicy, `{"Statement":[{"Sid":"Use","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`)
	q := iam.Query{Caller: user("alice"), Action: "kms:Encrypt", Resource: testKey, Context: &iam.Context{}}
	q.Context.SetEncryptionContext(map[string]string{"tenant": "acme", "purpose": "test"})
	x := iam.Explain(&q, &iam.Policies{Resource: key, Identity: []iam.NamedPolicy{{Name: "dev", Policy: identity}}})
	const want = `arn:aws:iam::111122223333:user/alice
  kms:Encrypt
  arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
allowed by identity policy dev /Statement/0 "Use", to which resource policy /Statement/9 leaves it

resource policy
  /Statement/0 Allow "Bob": Principal "arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/b2", "arn:aws:iam::111122223333:user/b3", "arn:aws:iam::111122223333:user/b4", "arn:aws:iam::111122223333:user/b5", and 1 more: the request has "arn:aws:iam::111122223333:user/alice", "111122223333"
  /Statement/1 Deny: NotPrincipal "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/alice": the request has "arn:aws:iam::111122223333:user/alice", "111122223333"
  /Statement/2 Allow: Action "kms:Decrypt", "kms:ReEncrypt*": the request has "kms:Encrypt"
  /Statement/3 Allow: NotAction "kms:E*": the request has "kms:Encrypt"
  /Statement/4 Allow: Resource "arn:aws:kms:us-east-1:*:key/*": the request has "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  /Statement/5 Allow: NotResource "arn:aws:kms": the request has "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  /Statement/6 Allow: Condition StringEquals kms:ViaService "s3.us-west-2.amazonaws.com", "x": the request does not have it
  /Statement/7 Allow: Condition ForAllValues:StringEquals kms:EncryptionContextKeys "x": the request has "purpose", "tenant"
  /Statement/8 Deny: no effect, for it lacks Action
  /Statement/9 Allow: applies, and leaves it to identity policies

identity policy dev
  /Statement/0 Allow "Use": applies
`
	if got := x.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	small := iam.Explain(&q, &iam.Policies{Resource: mustPolicy(t, iam.KeyPolicy, cond("StringEquals", "kms:ViaService", `"s3"`)), Grant: &iam.GrantMatch{ID: "g1"}})
	got, err := json.Marshal(small)
	if err != nil {
		t.Fatal(err)
	}
	const wantJSON = `{"allowed":true,"reason":"allowed_by_grant","summary":"allowed by grant g1","grant":"g1",` +
		`"caller":"arn:aws:iam::111122223333:user/alice","action":"kms:Encrypt","resource":"` + testKey + `",` +
		`"documents":[{"document":"resource policy","statements":[{"index":0,"effect":"Allow","applies":false,` +
		`"miss":{"element":"Condition","operator":"StringEquals","key":"kms:ViaService","policy":["s3"],"request":[]}}]}]}`
	if string(got) != wantJSON {
		t.Errorf("got  %s\nwant %s", got, wantJSON)
	}
	denied := iam.Explain(&q, &iam.Policies{Resource: mustPolicy(t, iam.KeyPolicy, strings.ReplaceAll(stmt(""), "Allow", "Deny"))})
	if denied.By == nil || *denied.By != (iam.StatementRef{Document: iam.RoleResource, Effect: iam.Deny}) || denied.Via != nil {
		t.Errorf("got %+v", denied.By)
	}
}

// A denial that came closest is told: what to mend.
func TestDenialNamesWhatIsMissingLast(t *testing.T) {
	t.Parallel()
	key := mustPolicy(t, iam.KeyPolicy, `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","arn:aws:iam::111122223333:role/app"]},"Action":"*","Resource":"*"}]}`)
	none := mustPolicy(t, iam.IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`)
	role := iam.Caller{Type: iam.CallerRole, ARN: "arn:aws:iam::111122223333:role/app", Session: "arn:aws:sts::111122223333:assumed-role/app/s", Account: testAccount}
	for _, c := range []struct {
		p    iam.Policies
		want iam.Reason
	}{
		{iam.Policies{Resource: key, Boundary: none}, iam.DeniedByBoundary},
		{iam.Policies{Resource: key, Session: []iam.NamedPolicy{{Policy: none}}}, iam.DeniedBySession},
		{iam.Policies{Resource: key, Boundary: none, Grant: &iam.GrantMatch{ID: "g"}}, iam.DeniedByBoundary},
		{iam.Policies{Resource: key}, iam.AllowedByResource},
	} {
		if v := iam.Decide(&iam.Query{Caller: role, Action: "kms:Encrypt", Resource: testKey}, &c.p); v.Reason != c.want {
			t.Errorf("got %v, want %s", v, c.want)
		}
	}
}

func TestCallersHaveCloudTrailsTypes(t *testing.T) {
	t.Parallel()
	for c, want := range map[iam.CallerType]string{
		iam.CallerRoot: "Root", iam.CallerUser: "IAMUser", iam.CallerRole: "AssumedRole", iam.CallerFederated: "FederatedUser",
		iam.CallerService: "AWSService", iam.CallerAnonymous: "Unknown", iam.CallerProvider: "Unknown", "": "Unknown",
	} {
		if got := c.CloudTrail(); got != want {
			t.Errorf("%q is %s, want %s", c, got, want)
		}
	}
}
