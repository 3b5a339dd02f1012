package identity_test

import (
	"crypto/sha256"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/sigv4"
)

// trusting is a trust policy that lets the principals assume the role; condition
// is JSON, or empty.
func trusting(condition string, principals ...string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["` + strings.Join(principals, `","`) +
		`"]},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]` + condition + `}]}`
}

func userARN(name string) string { return "arn:aws:iam::" + acct + ":user/" + name }
func roleARN(name string) string { return "arn:aws:iam::" + acct + ":role/" + name }

func (f *fixture) role(account, name, trust string) *identity.Role {
	f.t.Helper()
	return must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{Account: account, Name: name, TrustPolicy: trust}))(f.t)
}

func (f *fixture) assume(who identity.Caller, in identity.AssumeRoleInput) *identity.AssumedRole {
	f.t.Helper()
	if in.SessionName == "" {
		in.SessionName = "s1"
	}
	return must(f.AssumeRole(f.ctx, who, &in))(f.t)
}

func TestAssumedRoleIsASession(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	r := must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{
		Account: acct, Name: "app", Path: "/svc/", TrustPolicy: trusting("", bob.ARN), Boundary: allowing("kms:*"),
		Tags: []identity.Tag{{Key: "env", Value: "prod"}, {Key: "team", Value: "a"}},
	}))(t)
	f.ok(f.PutRolePolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "app", Name: "use", Document: allowing("kms:Decrypt")}))
	mark := f.mark()
	got := f.assume(f.signed(id), identity.AssumeRoleInput{
		RoleARN: r.ARN, Policy: allowing("kms:*"), Tags: []identity.Tag{{Key: "Team", Value: "b"}}, SourceIdentity: "bob.b",
	})
	e := f.last(mark, 1)
	if e.Op != "sts.assume_role" || e.PCI != "10.2.1.5" || e.Outcome != "allowed" || e.Res.Key != r.ARN || e.Who.Name != bob.ARN ||
		!strings.HasPrefix(e.Detail, "allowed by resource policy /Statement/0") {
		t.Errorf("got entry %+v", e)
	}
	wantARN := "arn:aws:sts::" + acct + ":assumed-role/app/s1"
	if got.ARN != wantARN || got.ID != r.ID+":s1" || got.SourceIdentity != "bob.b" || got.PackedPolicySize != 5 ||
		!got.ExpiresAt.Equal(start.Add(time.Hour)) || !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(got.AccessKeyID) ||
		got.Secret.Len() != 40 || got.SessionToken.Len() != 64 {
		t.Errorf("got %+v", got)
	}
	c := must(f.Lookup(f.ctx, got.AccessKeyID))(t)
	if c.SessionTokenHash != sha256.Sum256(got.SessionToken.Expose()) || !c.ExpiresAt.Equal(got.ExpiresAt) {
		t.Error("the token or the end is another")
	}
	if s := must(f.Secret(f.ctx, c))(t); !s.Equal(got.Secret) {
		t.Error("another secret")
	}
	sub := c.Principal.(*iam.Subject)
	who := sub.Caller
	if who.Type != iam.CallerRole || who.ARN != r.ARN || who.Session != wantARN || who.ID != got.ID || !who.Issued.Equal(start) ||
		!who.MFA.IsZero() || who.SourceIdentity != "bob.b" ||
		!slices.Equal(who.Tags, []iam.Tag{{Key: "Team", Value: "b"}, {Key: "env", Value: "prod"}}) {
		t.Errorf("got caller %+v", who)
	}
	if names(sub.Identity) != "use" || names(sub.Session) != "session" || sub.Boundary == nil {
		t.Errorf("got policies %s, session %s", names(sub.Identity), names(sub.Session))
	}
	ci := must(f.GetCallerIdentity(f.ctx, f.signed(got.AccessKeyID)))(t)
	if *ci != (identity.CallerIdentity{Account: acct, ARN: wantARN, UserID: r.ID + ":s1"}) {
		t.Errorf("got %+v", ci)
	}
	for _, line := range f.store.Entries() {
		for _, secret := range []string{string(got.Secret.Expose()), string(got.SessionToken.Expose())} {
			if strings.Contains(line, secret) {
				t.Error("a secret stands in the audit log")
			}
		}
	}
}

// TestWhoMayAssume walks trust policies and the caller's own policies, within and
// across accounts.
func TestWhoMayAssume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	f.user("eve")
	eve := f.key("eve").ID
	f.allow("eve", "assume", "sts:AssumeRole")
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"sts:AssumeRole","Resource":"*"}]}`
	f.user("sam")
	sam := f.key("sam").ID
	f.ok(f.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "sam", Name: "no", Document: deny}))

	f.role(acct, "named", trusting("", userARN("bob"), userARN("sam")))
	f.role(acct, "account", trusting("", acct))
	f.role(other, "far", trusting("", userARN("bob"), userARN("eve")))
	f.role(other, "faraccount", trusting("", acct))
	f.role(acct, "nobody", trusting("", other))
	far := "arn:aws:iam::" + other + ":role/"
	for _, c := range []struct {
		key, role string
		reason    string // of the denial; empty if allowed
	}{
		{id, roleARN("named"), ""},
		{eve, roleARN("named"), "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"},
		{sam, roleARN("named"), "denied by identity policy no /Statement/1"},
		{id, roleARN("account"), "denied: no identity policy allows it"},
		{eve, roleARN("account"), ""},
		{id, far + "far", "denied: no identity policy allows it"},
		{eve, far + "far", ""},
		{eve, far + "faraccount", ""},
		{eve, roleARN("nobody"), "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"},
		{eve, roleARN("absent"), "denied: there is no such role"},
		{eve, roleARN("path/named"), "denied: there is no such role"},
		{eve, "arn:aws:iam::999999999999:role/x", "denied: there is no such role"},
	} {
		mark := f.mark()
		_, err := f.AssumeRole(f.ctx, f.signed(c.key), &identity.AssumeRoleInput{RoleARN: c.role, SessionName: "s1"})
		e := f.last(mark, 1)
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", c.role, err)
			}
			continue
		}
		who := subject(t, f.Service, c.key).Caller.ARN
		refused(t, err, identity.CodeAccessDenied, "User: "+who+" is not authorized to perform: sts:AssumeRole on resource: "+c.role)
		if e.Detail != c.reason || e.Outcome != "denied" || e.PCI != "10.2.1.4" || e.Result != "access_denied" {
			t.Errorf("%s: got entry %+v, want %s", c.role, e, c.reason)
		}
	}
}

func TestAssumeRoleConditions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "ext", trusting(`{"StringEquals":{"sts:ExternalId":"x-1"}}`, bob.ARN))
	f.role(acct, "named", trusting(`{"StringLike":{"sts:RoleSessionName":"${aws:username}"}}`, bob.ARN))
	f.role(acct, "tagged", trusting(`{"StringEquals":{"aws:RequestTag/team":"a"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`, bob.ARN))
	f.role(acct, "source", trusting(`{"StringEquals":{"sts:SourceIdentity":"bob"}}`, bob.ARN))
	f.role(acct, "region", trusting(`{"StringEquals":{"aws:RequestedRegion":"eu-central-1"},"Bool":{"aws:SecureTransport":"true"}}`, bob.ARN))
	f.role(acct, "nopass", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+bob.ARN+`"},"Action":"sts:AssumeRole"}]}`)
	for name, c := range map[string]struct {
		in     identity.AssumeRoleInput
		action string // that is denied
	}{
		"external id":       {identity.AssumeRoleInput{RoleARN: roleARN("ext"), ExternalID: "x-1"}, ""},
		"wrong external id": {identity.AssumeRoleInput{RoleARN: roleARN("ext"), ExternalID: "x-2"}, "AssumeRole"},
		"no external id":    {identity.AssumeRoleInput{RoleARN: roleARN("ext")}, "AssumeRole"},
		"session name":      {identity.AssumeRoleInput{RoleARN: roleARN("named"), SessionName: "bob"}, ""},
		"other session":     {identity.AssumeRoleInput{RoleARN: roleARN("named"), SessionName: "eve"}, "AssumeRole"},
		"tags":              {identity.AssumeRoleInput{RoleARN: roleARN("tagged"), Tags: []identity.Tag{{Key: "team", Value: "a"}}}, ""},
		"other tags":        {identity.AssumeRoleInput{RoleARN: roleARN("tagged"), Tags: []identity.Tag{{Key: "team", Value: "a"}, {Key: "x", Value: ""}}}, "AssumeRole"},
		"source":            {identity.AssumeRoleInput{RoleARN: roleARN("source"), SourceIdentity: "bob"}, ""},
		"other source":      {identity.AssumeRoleInput{RoleARN: roleARN("source"), SourceIdentity: "eve"}, "AssumeRole"},
		"region":            {identity.AssumeRoleInput{RoleARN: roleARN("region")}, ""},
		"tags not allowed":  {identity.AssumeRoleInput{RoleARN: roleARN("nopass"), Tags: []identity.Tag{{Key: "team", Value: "a"}}}, "TagSession"},
		"source not allowed": {
			identity.AssumeRoleInput{RoleARN: roleARN("nopass"), SourceIdentity: "bob"}, "SetSourceIdentity",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.in.SessionName == "" {
				c.in.SessionName = "s1"
			}
			_, err := f.AssumeRole(f.ctx, f.signed(id), &c.in)
			if c.action != "" {
				refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:"+c.action+" on resource: "+c.in.RoleARN)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAssumeRoleRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	const v = "1 validation error detected: "
	long := strings.Repeat("x", 65)
	for name, c := range map[string]struct {
		change  func(in *identity.AssumeRoleInput)
		code    identity.Code
		message string
	}{
		"no role": {func(in *identity.AssumeRoleInput) { in.RoleARN = "" }, identity.CodeValidation, v + "Value at 'roleArn' failed to satisfy constraint: Member must not be null"},
		"short role": {
			func(in *identity.AssumeRoleInput) { in.RoleARN = "arn:aws:iam::1:x" },
			identity.CodeValidation, v + "Value at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20",
		},
		"not a role":      {func(in *identity.AssumeRoleInput) { in.RoleARN = bob.ARN }, identity.CodeValidation, bob.ARN + " is invalid"},
		"not an arn":      {func(in *identity.AssumeRoleInput) { in.RoleARN = "role/app-of-some-account" }, identity.CodeValidation, "role/app-of-some-account is invalid"},
		"no session name": {func(in *identity.AssumeRoleInput) { in.SessionName = "" }, identity.CodeValidation, v + "Value at 'roleSessionName' failed to satisfy constraint: Member must not be null"},
		"short session name": {
			func(in *identity.AssumeRoleInput) { in.SessionName = "x" },
			identity.CodeValidation, v + "Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2",
		},
		"long session name": {
			func(in *identity.AssumeRoleInput) { in.SessionName = long },
			identity.CodeValidation, v + "Value '" + long + "' at 'roleSessionName' failed to satisfy constraint: Member must have length less than or equal to 64",
		},
		"session name": {
			func(in *identity.AssumeRoleInput) { in.SessionName = "a/b" },
			identity.CodeValidation, v + `Value 'a/b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`,
		},
		"too short": {
			func(in *identity.AssumeRoleInput) { in.Duration = 899 },
			identity.CodeValidation, v + "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
		},
		"too long": {
			func(in *identity.AssumeRoleInput) { in.Duration = 43201 },
			identity.CodeValidation, v + "Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
		},
		"too long for the role": {
			func(in *identity.AssumeRoleInput) { in.Duration = 3601 },
			identity.CodeValidation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
		},
		"policy": {
			func(in *identity.AssumeRoleInput) { in.Policy = `{"Statement":[]}` },
			identity.CodeMalformedPolicy, "Malformed policy document at /Statement: the list is empty.",
		},
		"long policy": {
			func(in *identity.AssumeRoleInput) { in.Policy = allowing(strings.Repeat("*", 2048)) },
			identity.CodePackedPolicyTooLarge, "Packed size of session tags consumes 105% of allotted space.",
		},
		"managed policy": {
			func(in *identity.AssumeRoleInput) { in.PolicyARNs = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"} },
			identity.CodeValidation, "There are no managed policies: give the session policy as Policy.",
		},
		"external id": {
			func(in *identity.AssumeRoleInput) { in.ExternalID = "a b" },
			identity.CodeValidation, v + `Value at 'externalId' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@:\/-]*`,
		},
		"transitive": {
			func(in *identity.AssumeRoleInput) { in.TransitiveTagKeys = []string{"k"} },
			identity.CodeValidation, v + "Value 'k' at 'transitiveTagKeys' failed to satisfy constraint: Member must be a key of tags",
		},
		"source identity": {
			func(in *identity.AssumeRoleInput) { in.SourceIdentity = "a:b" },
			identity.CodeValidation, v + `Value 'a:b' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`,
		},
		"token code": {
			func(in *identity.AssumeRoleInput) { in.SerialNumber, in.TokenCode = "arn:aws:iam::1:mfa/b", "12345x" },
			identity.CodeValidation, v + `Value at 'tokenCode' failed to satisfy constraint: Member must satisfy regular expression pattern: [\d]*`,
		},
		"serial number": {
			func(in *identity.AssumeRoleInput) { in.SerialNumber, in.TokenCode = "short", "123456" },
			identity.CodeValidation, v + "Value at 'serialNumber' failed to satisfy constraint: Member must have length greater than or equal to 9",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := &identity.AssumeRoleInput{RoleARN: roleARN("app"), SessionName: "s1"}
			c.change(in)
			mark := f.mark()
			_, err := f.AssumeRole(f.ctx, f.signed(id), in)
			refused(t, err, c.code, c.message)
			if e := f.last(mark, 1); e.Outcome != "failed" || e.Op != "sts.assume_role" {
				t.Errorf("got entry %+v", e)
			}
		})
	}
}

func TestAnonymousAndOperatorsHaveNoSTS(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, who := range []identity.Caller{{}, f.op} {
		const text = "The request must be signed by a user or role of an account."
		_, err := f.GetCallerIdentity(f.ctx, who)
		refused(t, err, identity.CodeAccessDenied, text)
		_, err = f.GetSessionToken(f.ctx, who, &identity.GetSessionTokenInput{})
		refused(t, err, identity.CodeAccessDenied, text)
		_, err = f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: roleARN("app"), SessionName: "s1"})
		refused(t, err, identity.CodeAccessDenied, "User: anonymous is not authorized to perform: sts:AssumeRole on resource: "+roleARN("app"))
	}
	root := identity.Caller{Subject: &iam.Subject{Caller: iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + acct + ":root", Account: acct, ID: acct}}}
	f.role(acct, "app", trusting("", acct))
	_, err := f.AssumeRole(f.ctx, root, &identity.AssumeRoleInput{RoleARN: roleARN("app"), SessionName: "s1"})
	refused(t, err, identity.CodeAccessDenied, "User: arn:aws:iam::"+acct+":root is not authorized to perform: sts:AssumeRole on resource: "+roleARN("app"))
}

func TestRoleChaining(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "a", trusting("", bob.ARN))
	b := must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{
		Account: acct, Name: "b", TrustPolicy: trusting("", roleARN("a")), MaxSession: 7200,
	}))(t)
	first := f.assume(f.signed(id), identity.AssumeRoleInput{
		RoleARN: roleARN("a"), SourceIdentity: "bob", Tags: []identity.Tag{{Key: "t", Value: "1"}, {Key: "u", Value: "2"}}, TransitiveTagKeys: []string{"T"},
	})
	who := f.signed(first.AccessKeyID)
	_, err := f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: b.ARN, SessionName: "s2", Duration: 3601})
	refused(t, err, identity.CodeValidation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	_, err = f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: b.ARN, SessionName: "s2", SourceIdentity: "eve"})
	refused(t, err, identity.CodeAccessDenied, "The source identity of a session cannot be changed.")
	_, err = f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: b.ARN, SessionName: "s2", Tags: []identity.Tag{{Key: "t", Value: "3"}}})
	refused(t, err, identity.CodeValidation, "The tag key T is transitive in the calling session and cannot be set again.")
	second := f.assume(who, identity.AssumeRoleInput{RoleARN: b.ARN, SessionName: "s2", Tags: []identity.Tag{{Key: "w", Value: "4"}}})
	sub := subject(t, f.Service, second.AccessKeyID).Caller
	if sub.SourceIdentity != "bob" || !slices.Equal(sub.Tags, []iam.Tag{{Key: "w", Value: "4"}, {Key: "t", Value: "1"}}) {
		t.Errorf("got %+v", sub)
	}
	third := f.role(acct, "c", trusting("", roleARN("b")))
	last := f.assume(f.signed(second.AccessKeyID), identity.AssumeRoleInput{RoleARN: third.ARN})
	if got := subject(t, f.Service, last.AccessKeyID).Caller.Tags; !slices.Equal(got, []iam.Tag{{Key: "t", Value: "1"}}) {
		t.Errorf("got tags %v", got)
	}
	// The session goes while it asks for another.
	f.ok(f.RevokeSessions(f.ctx, f.op, &identity.RevokeInput{Account: acct, Role: "a"}))
	_, err = f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: b.ARN, SessionName: "s2"})
	refused(t, err, identity.CodeInvalidClientTokenID, "The security token included in the request is invalid.")
}

// TestSessionEndsAtOnce walks the changes after which temporary credentials
// authenticate nobody.
func TestSessionEndsAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		role, user bool // which of the sessions end
		change     func(f *fixture, key string) error
	}{
		"role deleted": {role: true, change: func(f *fixture, _ string) error {
			return f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"})
		}},
		"role recreated": {role: true, change: func(f *fixture, _ string) error {
			err := f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"})
			f.role(acct, "app", trusting("", userARN("bob")))
			return err
		}},
		"role revoked": {role: true, change: func(f *fixture, _ string) error {
			return f.RevokeSessions(f.ctx, f.op, &identity.RevokeInput{Account: acct, Role: "app"})
		}},
		"user revoked": {user: true, change: func(f *fixture, _ string) error {
			return f.RevokeSessions(f.ctx, f.op, &identity.RevokeInput{Account: acct, User: "bob"})
		}},
		"key inactive": {user: true, change: func(f *fixture, key string) error {
			return f.UpdateAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: key})
		}},
		"key deleted": {user: true, change: func(f *fixture, key string) error {
			return f.DeleteAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: key})
		}},
		"user deleted": {user: true, change: func(f *fixture, _ string) error {
			return f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.user("bob")
			key := f.key("bob").ID
			f.role(acct, "app", trusting("", userARN("bob")))
			role := f.assume(f.signed(key), identity.AssumeRoleInput{RoleARN: roleARN("app")}).AccessKeyID
			user := must(f.GetSessionToken(f.ctx, f.signed(key), &identity.GetSessionTokenInput{}))(t).AccessKeyID
			n2 := f.node("n2")
			for _, s := range []*identity.Service{f.Service, n2} {
				subject(t, s, role)
				subject(t, s, user)
			}
			f.ok(c.change(f, key))
			f.ok(n2.Refresh(f.ctx))
			for _, s := range []*identity.Service{f.Service, n2} {
				for id, ends := range map[string]bool{role: c.role, user: c.user} {
					_, err := s.Lookup(f.ctx, id)
					if got := errors.Is(err, sigv4.ErrUnknownKey); got != ends {
						t.Errorf("session of the %s: ended %v, want %v", map[string]string{role: "role", user: "user"}[id], got, ends)
					}
				}
			}
		})
	}
}

func TestRevokedRoleIsAssumedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	key := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	f.ok(f.RevokeSessions(f.ctx, f.op, &identity.RevokeInput{Account: acct, Role: "app"}))
	f.clock.advance(time.Second)
	subject(t, f.Service, f.assume(f.signed(key), identity.AssumeRoleInput{RoleARN: roleARN("app")}).AccessKeyID)
}

// TestNamesakeIsNotTrusted deletes the user that a trust policy names and creates
// another of the same name.
func TestNamesakeIsNotTrusted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	f.role(acct, "app", trusting("", bob.ARN))
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob"}))
	f.user("bob")
	id := f.key("bob").ID
	mark := f.mark()
	_, err := f.AssumeRole(f.ctx, f.signed(id), &identity.AssumeRoleInput{RoleARN: roleARN("app"), SessionName: "s1"})
	refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+roleARN("app"))
	if e := f.last(mark, 1); e.Detail != "denied: the trust policy was put for another principal of the same name, which has been deleted" {
		t.Errorf("got entry %+v", e)
	}
	f.ok(f.UpdateTrustPolicy(f.ctx, f.op, &identity.TrustInput{Account: acct, Role: "app", Document: trusting("", bob.ARN)}))
	f.assume(f.signed(id), identity.AssumeRoleInput{RoleARN: roleARN("app")})
}

func TestExpiredSessionsGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	key := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	s := f.assume(f.signed(key), identity.AssumeRoleInput{RoleARN: roleARN("app"), Duration: 900})
	f.clock.advance(15 * time.Minute)
	c := must(f.Lookup(f.ctx, s.AccessKeyID))(t) // the verifier tells that it has expired
	if f.clock.now().Before(c.ExpiresAt) {
		t.Errorf("ends %v", c.ExpiresAt)
	}
}
