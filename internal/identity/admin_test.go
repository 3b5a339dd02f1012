package identity_test

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cardea/internal/iam"
	"cardea/internal/identity"
)

func TestBootstrapMakesTheFirstAdministrator(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	empty := newEmpty(t)
	got := must(empty.Bootstrap(empty.ctx, empty.op, &identity.BootstrapInput{Account: identity.CreateAccountInput{Alias: "pay-dev"}}))(t)
	if !regexp.MustCompile(`^[1-9][0-9]{11}$`).MatchString(got.Account.ID) || got.Account.Alias != "pay-dev" ||
		got.User.ARN != "arn:aws:iam::"+got.Account.ID+":user/admin" || got.Key.Secret.Len() != 40 || !slices.Equal(got.User.AccessKeys, []string{got.Key.ID}) {
		t.Errorf("got %+v %+v", got.Account, got.User)
	}
	if e := empty.last(0, 1); e.Op != "identity.bootstrap" || e.Outcome != "allowed" || e.Who.Type != "operator" || e.Who.Name != "alice" {
		t.Errorf("got entry %+v", e)
	}
	if !empty.HasAccount(t.Context(), got.Account.ID) {
		t.Error("the account does not exist")
	}
	sub := subject(t, empty.Service, got.Key.ID)
	p := sub.Policies()
	p.IdentityOnly = true
	if v := iam.Decide(&iam.Query{Caller: sub.Caller, Action: "kms:CreateKey", Resource: "*"}, &p); !v.Allowed {
		t.Errorf("the administrator may not create keys: %s", v)
	}
	_, err := empty.Bootstrap(empty.ctx, empty.op, &identity.BootstrapInput{})
	refused(t, err, identity.CodeEntityAlreadyExists, "There is an account already. Only the first one is bootstrapped.")
	_, err = f.Bootstrap(f.ctx, f.op, &identity.BootstrapInput{User: "a/b"})
	refused(t, err, identity.CodeValidation,
		`1 validation error detected: Value 'a/b' at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`)
}

// TestOnlyOperatorsAndPoliciesAdminister tries every operation but STS's as others.
func TestOnlyOperatorsAndPoliciesAdminister(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "app", trusting("", userARN("bob")))
	must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "g"}))(t)

	limited := identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "carol", Auth: "internal", Actions: []string{"custodian:*"}})
	tenant := identity.ByOperator(iam.Principal{Type: iam.TypeTenant, Name: "shop", Tenant: "t", Auth: "jws", Actions: []string{"*"}, Merchants: []string{"*"}})
	callers := map[string]struct {
		who  identity.Caller
		text string // before the action
	}{
		"user":             {f.signed(id), "User: " + userARN("bob") + " is not authorized to perform: "},
		"limited operator": {limited, "Operator: carol is not authorized to perform: "},
		"tenant":           {tenant, "User: anonymous is not authorized to perform: "},
		"nobody":           {identity.Caller{}, "User: anonymous is not authorized to perform: "},
	}
	for name, call := range administration(f, id) {
		for who, c := range callers {
			t.Run(name+" by "+who, func(t *testing.T) {
				mark := f.mark()
				err := call(c.who)
				e, is := errors.AsType[*identity.Error](err)
				if !is || e.Code != identity.CodeAccessDenied || !strings.HasPrefix(e.Message, c.text+"iam:"+name) {
					t.Errorf("got %v", err)
				}
				if got := f.last(mark, 1); got.Outcome != "denied" || got.PCI != "10.2.1.4" || got.Result != "access_denied" {
					t.Errorf("got entry %+v", got)
				}
			})
		}
	}
}

// administration calls every operation that administers, by its name in policies.
// Called in any order by someone who may not, they change nothing.
func administration(f *fixture, key string) map[string]func(identity.Caller) error {
	bob := &identity.EntityInput{Account: acct, Name: "bob"}
	app := &identity.EntityInput{Account: acct, Name: "app"}
	g := &identity.EntityInput{Account: acct, Name: "g"}
	page := &identity.Page{Account: acct}
	tag := &identity.TagInput{Account: acct, Name: "bob", Tags: []identity.Tag{{Key: "k", Value: "v"}}}
	roleTag := &identity.TagInput{Account: acct, Name: "app", Tags: tag.Tags}
	policy := func(entity string) *identity.PolicyInput {
		return &identity.PolicyInput{Account: acct, Entity: entity, Name: "p", Document: allowing("kms:*")}
	}
	k := &identity.AccessKeyInput{Account: acct, User: "bob", ID: key}
	member := &identity.MemberInput{Account: acct, Group: "g", User: "bob"}
	mfa := &identity.MFAInput{Account: acct, User: "bob"}
	boundary := func(entity, doc string) *identity.BoundaryInput {
		return &identity.BoundaryInput{Account: acct, Entity: entity, Document: doc}
	}
	second := func(_ any, err error) error { return err }
	return map[string]func(identity.Caller) error{
		"Bootstrap": func(w identity.Caller) error {
			return second(f.Bootstrap(f.ctx, w, &identity.BootstrapInput{}))
		},
		"CreateAccount": func(w identity.Caller) error {
			return second(f.CreateAccount(f.ctx, w, &identity.CreateAccountInput{}))
		},
		"ListAccounts": func(w identity.Caller) error { return second(f.ListAccounts(f.ctx, w, &identity.Page{})) },
		"CreateUser": func(w identity.Caller) error {
			return second(f.CreateUser(f.ctx, w, &identity.CreateUserInput{Account: acct, Name: "new"}))
		},
		"GetUser":   func(w identity.Caller) error { return second(f.DescribeUser(f.ctx, w, bob)) },
		"ListUsers": func(w identity.Caller) error { return second(f.ListUsers(f.ctx, w, page)) },
		"DeleteUser": func(w identity.Caller) error {
			return f.DeleteUser(f.ctx, w, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true})
		},
		"TagUser":   func(w identity.Caller) error { return f.TagUser(f.ctx, w, tag) },
		"UntagUser": func(w identity.Caller) error { return f.UntagUser(f.ctx, w, tag) },
		"CreateGroup": func(w identity.Caller) error {
			return second(f.CreateGroup(f.ctx, w, &identity.CreateGroupInput{Account: acct, Name: "new"}))
		},
		"GetGroup":            func(w identity.Caller) error { return second(f.DescribeGroup(f.ctx, w, g)) },
		"ListGroups":          func(w identity.Caller) error { return second(f.ListGroups(f.ctx, w, page)) },
		"DeleteGroup":         func(w identity.Caller) error { return f.DeleteGroup(f.ctx, w, g) },
		"AddUserToGroup":      func(w identity.Caller) error { return f.AddUserToGroup(f.ctx, w, member) },
		"RemoveUserFromGroup": func(w identity.Caller) error { return f.RemoveUserFromGroup(f.ctx, w, member) },
		"CreateRole": func(w identity.Caller) error {
			return second(f.CreateRole(f.ctx, w, &identity.CreateRoleInput{Account: acct, Name: "new", TrustPolicy: trusting("", acct)}))
		},
		"GetRole":   func(w identity.Caller) error { return second(f.DescribeRole(f.ctx, w, app)) },
		"ListRoles": func(w identity.Caller) error { return second(f.ListRoles(f.ctx, w, page)) },
		"UpdateRole": func(w identity.Caller) error {
			return f.UpdateRole(f.ctx, w, &identity.UpdateRoleInput{Account: acct, Name: "app"})
		},
		"UpdateAssumeRolePolicy": func(w identity.Caller) error {
			return f.UpdateTrustPolicy(f.ctx, w, &identity.TrustInput{Account: acct, Role: "app", Document: trusting("", acct)})
		},
		"DeleteRole":                    func(w identity.Caller) error { return f.DeleteRole(f.ctx, w, app) },
		"TagRole":                       func(w identity.Caller) error { return f.TagRole(f.ctx, w, roleTag) },
		"UntagRole":                     func(w identity.Caller) error { return f.UntagRole(f.ctx, w, roleTag) },
		"PutUserPolicy":                 func(w identity.Caller) error { return f.PutUserPolicy(f.ctx, w, policy("bob")) },
		"GetUserPolicy":                 func(w identity.Caller) error { return second(f.GetUserPolicy(f.ctx, w, policy("bob"))) },
		"DeleteUserPolicy":              func(w identity.Caller) error { return f.DeleteUserPolicy(f.ctx, w, policy("bob")) },
		"PutRolePolicy":                 func(w identity.Caller) error { return f.PutRolePolicy(f.ctx, w, policy("app")) },
		"GetRolePolicy":                 func(w identity.Caller) error { return second(f.GetRolePolicy(f.ctx, w, policy("app"))) },
		"DeleteRolePolicy":              func(w identity.Caller) error { return f.DeleteRolePolicy(f.ctx, w, policy("app")) },
		"PutGroupPolicy":                func(w identity.Caller) error { return f.PutGroupPolicy(f.ctx, w, policy("g")) },
		"GetGroupPolicy":                func(w identity.Caller) error { return second(f.GetGroupPolicy(f.ctx, w, policy("g"))) },
		"DeleteGroupPolicy":             func(w identity.Caller) error { return f.DeleteGroupPolicy(f.ctx, w, policy("g")) },
		"PutUserPermissionsBoundary":    func(w identity.Caller) error { return f.SetUserBoundary(f.ctx, w, boundary("bob", allowing("kms:*"))) },
		"DeleteUserPermissionsBoundary": func(w identity.Caller) error { return f.SetUserBoundary(f.ctx, w, boundary("bob", "")) },
		"PutRolePermissionsBoundary":    func(w identity.Caller) error { return f.SetRoleBoundary(f.ctx, w, boundary("app", allowing("kms:*"))) },
		"DeleteRolePermissionsBoundary": func(w identity.Caller) error { return f.SetRoleBoundary(f.ctx, w, boundary("app", "")) },
		"CreateAccessKey":               func(w identity.Caller) error { return second(f.CreateAccessKey(f.ctx, w, bob)) },
		"ListAccessKeys":                func(w identity.Caller) error { return second(f.ListAccessKeys(f.ctx, w, bob)) },
		"UpdateAccessKey":               func(w identity.Caller) error { return f.UpdateAccessKey(f.ctx, w, k) },
		"DeleteAccessKey":               func(w identity.Caller) error { return f.DeleteAccessKey(f.ctx, w, k) },
		"UnlockAccessKey":               func(w identity.Caller) error { return f.UnlockAccessKey(f.ctx, w, k) },
		"RevokeSessions": func(w identity.Caller) error {
			return f.RevokeSessions(f.ctx, w, &identity.RevokeInput{Account: acct, User: "bob"})
		},
		"EnableMFADevice":     func(w identity.Caller) error { return second(f.EnableMFA(f.ctx, w, mfa)) },
		"ListMFADevices":      func(w identity.Caller) error { return second(f.ListMFADevices(f.ctx, w, bob)) },
		"DeactivateMFADevice": func(w identity.Caller) error { return f.DisableMFA(f.ctx, w, mfa) },
	}
}

// TestEveryOperationIsTried keeps the list above whole.
func TestEveryOperationIsTried(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tried := administration(f, "")
	for _, op := range identity.Operations() {
		_, found := tried[op.Name]
		if want := op.Source == "iam.amazonaws.com" && op != identity.OpLockout; found != want {
			t.Errorf("%s: tried %v, want %v", op.Name, found, want)
		}
		if !strings.HasSuffix(op.Action, ":"+op.Name) || !regexp.MustCompile(`^(identity|sts)\.[a-z_]+$`).MatchString(op.Code) {
			t.Errorf("%+v", op)
		}
		if op.Source == "iam.amazonaws.com" && (op.PCI == "10.2.1.5") == op.ReadOnly {
			t.Errorf("%s: PCI DSS %s, read only %v", op.Name, op.PCI, op.ReadOnly)
		}
	}
}

// TestUsersAdministerByPolicy: whom an identity policy lets, within the account.
func TestUsersAdministerByPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	f.ok(f.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "bob", Name: "self", Document: `{"Version":"2012-10-17",
		"Statement":[{"Effect":"Allow","Action":"iam:*AccessKey*","Resource":"arn:aws:iam::*:user/${aws:username}"}]}`}))
	who := f.signed(f.key("bob").ID)
	mark := f.mark()
	k := must(f.CreateAccessKey(f.ctx, who, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
	if e := f.last(mark, 1); e.Outcome != "allowed" || e.Who.Name != userARN("bob") || e.Detail != "allowed by identity policy self /Statement/0" {
		t.Errorf("got entry %+v", e)
	}
	subject(t, f.Service, k.ID)
	_, err := f.CreateAccessKey(f.ctx, who, &identity.EntityInput{Account: acct, Name: "eve"}) // whether there is one or not
	refused(t, err, identity.CodeAccessDenied, "User: "+userARN("bob")+" is not authorized to perform: iam:CreateAccessKey on resource: "+userARN("eve")+
		" because no identity-based policy allows the iam:CreateAccessKey action")
	_, err = f.CreateAccessKey(f.ctx, who, &identity.EntityInput{Account: other, Name: "bob"})
	refused(t, err, identity.CodeAccessDenied, "User: "+userARN("bob")+" is not authorized to perform: iam:CreateAccessKey on resource: arn:aws:iam::"+other+":user/bob")
}

func TestDescriptionsAreWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "Bob", Path: "/a/"}))(t)
	f.allow("Bob", "p", "kms:*")
	k := f.key("Bob")
	must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "ops", Path: "/g/"}))(t)
	f.ok(f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: "ops", User: "Bob"}))
	f.ok(f.SetUserBoundary(f.ctx, f.op, &identity.BoundaryInput{Account: acct, Entity: "Bob", Document: allowing("*")}))
	f.ok(f.TagUser(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "Bob", Tags: []identity.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}}))
	f.ok(f.TagUser(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "Bob", Tags: []identity.Tag{{Key: "A", Value: "3"}}}))
	f.ok(f.UntagUser(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "Bob", Keys: []string{"B", "none"}}))
	f.mfa("Bob")
	u := must(f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "Bob"}))(t)
	want := identity.User{
		Account: acct, Name: "Bob", Path: "/a/", ID: u.ID, ARN: "arn:aws:iam::" + acct + ":user/a/Bob", CreatedAt: start,
		Tags: []identity.Tag{{Key: "A", Value: "3"}}, Policies: []string{"p"}, Boundary: allowing("*"), Groups: []string{"ops"},
		AccessKeys: []string{k.ID}, MFADevices: []string{"arn:aws:iam::" + acct + ":mfa/Bob"},
	}
	if !reflect.DeepEqual(*u, want) {
		t.Errorf("got  %+v\nwant %+v", *u, want)
	}
	g := must(f.DescribeGroup(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "ops"}))(t)
	wantGroup := identity.Group{
		Account: acct, Name: "ops", Path: "/g/", ID: g.ID, ARN: "arn:aws:iam::" + acct + ":group/g/ops", CreatedAt: start, Members: []string{"Bob"},
	}
	if !reflect.DeepEqual(*g, wantGroup) {
		t.Errorf("got  %+v\nwant %+v", *g, wantGroup)
	}
	text := "on call"
	r := must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{Account: acct, Name: "r", TrustPolicy: trusting("", acct), Description: "x"}))(t)
	f.ok(f.UpdateRole(f.ctx, f.op, &identity.UpdateRoleInput{Account: acct, Name: "r", Description: &text, MaxSession: 43200}))
	f.ok(f.UpdateTrustPolicy(f.ctx, f.op, &identity.TrustInput{Account: acct, Role: "r", Document: trusting("", u.ARN)}))
	f.ok(f.TagRole(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "r", Tags: []identity.Tag{{Key: "a", Value: "1"}}}))
	f.ok(f.PutRolePolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "r", Name: "p", Document: allowing("kms:*")}))
	f.ok(f.SetRoleBoundary(f.ctx, f.op, &identity.BoundaryInput{Account: acct, Entity: "r", Document: allowing("*")}))
	got := must(f.DescribeRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "r"}))(t)
	wantRole := identity.Role{
		Account: acct, Name: "r", Path: "/", ID: r.ID, ARN: roleARN("r"), CreatedAt: start, Description: text, Tags: []identity.Tag{{Key: "a", Value: "1"}},
		TrustPolicy: trusting("", u.ARN), Policies: []string{"p"}, Boundary: allowing("*"), MaxSession: 43200,
	}
	if !reflect.DeepEqual(*got, wantRole) {
		t.Errorf("got  %+v\nwant %+v", *got, wantRole)
	}
	f.ok(f.SetRoleBoundary(f.ctx, f.op, &identity.BoundaryInput{Account: acct, Entity: "r"}))
	f.ok(f.UntagRole(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "r", Keys: []string{"a"}}))
	got = must(f.DescribeRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "r"}))(t)
	if got.Boundary != "" || got.Tags != nil {
		t.Errorf("got %+v", got)
	}
	p := must(f.GetRolePolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "r", Name: "p"}))(t)
	if *p != (identity.Policy{Name: "p", Document: allowing("kms:*")}) {
		t.Errorf("got %+v", p)
	}
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 7 {
		path := "/"
		if i%2 == 1 {
			path = "/odd/"
		}
		must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: fmt.Sprint("u", i), Path: path}))(t)
	}
	all := func(in identity.Page) (got string) {
		for pages := 0; pages < 9; pages++ {
			l := must(f.ListUsers(f.ctx, f.op, &in))(t)
			for _, u := range l.Items {
				got += u.Name + " "
			}
			got += "| "
			if in.After = l.Next; l.Next == "" {
				break
			}
		}
		return got
	}
	for _, c := range []struct {
		in   identity.Page
		want string
	}{
		{identity.Page{Account: acct}, "u0 u1 u2 u3 u4 u5 u6 | "},
		{identity.Page{Account: acct, Limit: 3}, "u0 u1 u2 | u3 u4 u5 | u6 | "},
		{identity.Page{Account: acct, Limit: 7}, "u0 u1 u2 u3 u4 u5 u6 | "},
		{identity.Page{Account: acct, Limit: 2, Prefix: "/odd"}, "u1 u3 | u5 | "},
		{identity.Page{Account: acct, Prefix: "/even/"}, "| "},
		{identity.Page{Account: other}, "| "},
	} {
		if got := all(c.in); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.in, got, c.want)
		}
	}
	l := must(f.ListAccounts(f.ctx, f.op, &identity.Page{Limit: 1}))(t)
	if len(l.Items) != 1 || l.Items[0].ID != acct || l.Next != acct {
		t.Errorf("got %+v", l)
	}
	if l := must(f.ListRoles(f.ctx, f.op, &identity.Page{Account: acct}))(t); l.Items != nil {
		t.Errorf("got %+v", l)
	}
	_, err := f.ListGroups(f.ctx, f.op, &identity.Page{Account: "999999999999"})
	refused(t, err, identity.CodeNoSuchEntity, "The account with id 999999999999 cannot be found.")
	_, err = f.ListUsers(f.ctx, f.op, &identity.Page{Account: acct, Limit: 1001})
	refused(t, err, identity.CodeValidation,
		"1 validation error detected: Value '1001' at 'maxItems' failed to satisfy constraint: Member must have value less than or equal to 1000")
	_, err = f.ListUsers(f.ctx, f.op, &identity.Page{})
	refused(t, err, identity.CodeValidation, "1 validation error detected: Value at 'accountId' failed to satisfy constraint: Member must not be null")
}

func TestGroupPoliciesSpeakForMembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	n2 := f.node("n2")
	seen := func(want string) {
		t.Helper()
		f.ok(n2.Refresh(f.ctx))
		for _, s := range []*identity.Service{f.Service, n2} {
			if got := names(subject(t, s, id).Identity); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	f.allow("bob", "own", "kms:Sign")
	g := &identity.EntityInput{Account: acct, Name: "Ops"}
	must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "Ops"}))(t)
	seen("own")
	m := &identity.MemberInput{Account: acct, Group: "Ops", User: "bob"}
	f.ok(f.AddUserToGroup(f.ctx, f.op, m))
	f.ok(f.AddUserToGroup(f.ctx, f.op, m)) // again
	seen("own")
	p := &identity.PolicyInput{Account: acct, Entity: "Ops", Name: "use", Document: allowing("kms:Decrypt")}
	f.ok(f.PutGroupPolicy(f.ctx, f.op, p))
	seen("own group/Ops/use")
	f.ok(f.DeleteGroupPolicy(f.ctx, f.op, p))
	seen("own")
	f.ok(f.PutGroupPolicy(f.ctx, f.op, p))
	f.ok(f.RemoveUserFromGroup(f.ctx, f.op, m))
	f.ok(f.RemoveUserFromGroup(f.ctx, f.op, m)) // again
	seen("own")
	refused(t, f.DeleteGroup(f.ctx, f.op, g), identity.CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
	f.ok(f.DeleteGroupPolicy(f.ctx, f.op, p))
	f.ok(f.AddUserToGroup(f.ctx, f.op, m))
	refused(t, f.DeleteGroup(f.ctx, f.op, g), identity.CodeDeleteConflict, "Cannot delete entity, must remove users from group first.")
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true}))
	f.ok(f.DeleteGroup(f.ctx, f.op, g))
	for _, r := range f.store.Rows() {
		if r.Kind != "account" {
			t.Errorf("left behind: %s %s", r.Kind, r.Name)
		}
	}
}

func TestMembersOfGroupsWithLikeNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("u")
	for _, g := range []string{"a", "a-b", "a.b", "aa", "A0"} {
		must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: g}))(t)
		f.user("of" + g)
		for _, u := range []string{"u", "of" + g} {
			f.ok(f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: g, User: u}))
		}
	}
	for _, g := range []string{"a", "a-b", "a.b", "aa", "A0"} {
		d := must(f.DescribeGroup(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: g}))(t)
		if !slices.Equal(d.Members, []string{"of" + g, "u"}) {
			t.Errorf("%s: got %v", g, d.Members)
		}
	}
}

func TestPrincipalIDIsNeverThatOfAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const iamA, stsA = "arn:aws:iam::" + acct + ":", "arn:aws:sts::" + acct + ":"
	id := func(arn string) string {
		t.Helper()
		id, err := f.PrincipalID(f.ctx, arn)
		f.ok(err)
		return id
	}
	create := func() {
		must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "Bob", Path: "/a/"}))(t)
		must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{Account: acct, Name: "app", TrustPolicy: trusting("", acct)}))(t)
	}
	create()
	bob, app := id(iamA+"user/a/Bob"), id(iamA+"role/app")
	sub, err := f.SubjectOf(f.ctx, iamA+"user/a/Bob")
	f.ok(err)
	if sub.Caller.ID != bob || bob == "" || app == "" || id(stsA+"assumed-role/app/s") != app {
		t.Errorf("ids %q, %q, caller %q", bob, app, sub.Caller.ID)
	}
	for _, none := range []string{"", iamA + "root", iamA + "user/Bob", iamA + "role/x", "arn:aws:iam::" + other + ":user/a/Bob"} {
		if got := id(none); got != "" {
			t.Errorf("%q has the id %q", none, got)
		}
	}
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "Bob"}))
	f.ok(f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}))
	create()
	if id(iamA+"user/a/Bob") == bob || id(iamA+"role/app") == app {
		t.Error("a namesake has the same id")
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "Bob", Path: "/a/"}))(t)
	must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{Account: acct, Name: "app", Path: "/b/", TrustPolicy: trusting("", acct)}))(t)
	const iamA, stsA = "arn:aws:iam::" + acct + ":", "arn:aws:sts::" + acct + ":"
	for arn, want := range map[string]bool{
		iamA + "root": true, "arn:aws:iam::999999999999:root": false, iamA + "user/a/Bob": true, iamA + "user/Bob": false, iamA + "user/a/bob": false,
		iamA + "user/": false, iamA + "role/b/app": true, iamA + "role/app": false, iamA + "user/b/app": false, iamA + "group/g": false,
		stsA + "assumed-role/app/s1": true, stsA + "assumed-role/app/": false, stsA + "assumed-role/app/a/b": false, stsA + "assumed-role/no/s1": false, stsA + "assumed-role/App/s1": false,
		stsA + "federated-user/Bob": false, "arn:aws-cn:iam::" + acct + ":user/a/Bob": false, "arn:aws:kms::" + acct + ":user/a/Bob": false,
		"arn:aws:iam::" + other + ":user/a/Bob": false, "": false, "Bob": false, "*": false,
	} {
		if got := f.Exists(f.ctx, arn); got != want {
			t.Errorf("%q: got %v, want %v", arn, got, want)
		}
	}
	f.ok(f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}))
	if f.Exists(f.ctx, iamA+"role/b/app") {
		t.Error("a deleted role exists")
	}
	if !f.HasAccount(t.Context(), acct) || f.HasAccount(t.Context(), "999999999999") || f.HasAccount(t.Context(), "") {
		t.Error("accounts")
	}
	n2 := f.node("n2")
	must(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{ID: "999999999999"}))(t)
	if !n2.HasAccount(t.Context(), "999999999999") {
		t.Error("a new account is not known before it was told")
	}
	f.ok(n2.Refresh(f.ctx))
	if !n2.HasAccount(t.Context(), "999999999999") || !f.HasAccount(t.Context(), "999999999999") {
		t.Error("a new account is not known")
	}
}

func TestSubjectOfAnARN(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "Bob", Path: "/a/"}))(t)
	f.allow("Bob", "p", "kms:*")
	must(f.CreateRole(f.ctx, f.op, &identity.CreateRoleInput{Account: acct, Name: "app", TrustPolicy: trusting("", acct), Boundary: allowing("kms:*")}))(t)
	const iamA, stsA = "arn:aws:iam::" + acct + ":", "arn:aws:sts::" + acct + ":"
	for arn, want := range map[string]iam.Caller{
		iamA + "root":                {Type: iam.CallerRoot, ARN: iamA + "root"},
		iamA + "user/a/Bob":          {Type: iam.CallerUser, ARN: iamA + "user/a/Bob"},
		iamA + "role/app":            {Type: iam.CallerRole, ARN: iamA + "role/app", Session: stsA + "assumed-role/app/explain", Issued: start},
		stsA + "assumed-role/app/s1": {Type: iam.CallerRole, ARN: iamA + "role/app", Session: stsA + "assumed-role/app/s1", Issued: start},
	} {
		sub := must(f.SubjectOf(f.ctx, arn))(t)
		got := sub.Caller
		if got.Account != acct || got.ID == "" || sub.AccessKeyID != "" || (sub.Boundary != nil) != (want.Type == iam.CallerRole) ||
			(names(sub.Identity) == "p") != (want.Type == iam.CallerUser) {
			t.Errorf("%s: got %+v", arn, sub)
		}
		want.Account, want.ID, want.Tags = got.Account, got.ID, got.Tags
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", arn, got, want)
		}
	}
	for _, arn := range []string{iamA + "user/Bob", iamA + "role/no", iamA + "group/g", "arn:aws:iam::999999999999:root", "Bob"} {
		_, err := f.SubjectOf(f.ctx, arn)
		refused(t, err, identity.CodeNoSuchEntity, "There is no principal "+arn+": name a user, a role, a session of a role or an account's root by its ARN.")
	}
	if got := f.Accounts(); !slices.Equal(got, []string{acct, other}) {
		t.Errorf("got %v", got)
	}
}

// TestRefusals has what is refused to those who may ask.
func TestRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("Bob")
	f.user("eve")
	id := f.key("Bob").ID
	f.key("Bob")
	f.role(acct, "app", trusting("", acct))
	f.allow("Bob", "p", "kms:*")
	must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "g"}))(t)
	second := func(_ any, err error) error { return err }
	createUser := func(in identity.CreateUserInput) error {
		if in.Account == "" {
			in.Account = acct
		}
		return second(f.CreateUser(f.ctx, f.op, &in))
	}
	createRole := func(in identity.CreateRoleInput) error {
		in.Account = acct
		if in.Name == "" {
			in.Name = "new"
		}
		return second(f.CreateRole(f.ctx, f.op, &in))
	}
	policy := func(name, doc string) error {
		return f.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "Bob", Name: name, Document: doc})
	}
	tags := func(n int, key, value string) (ts []identity.Tag) {
		for i := range n {
			ts = append(ts, identity.Tag{Key: strings.ReplaceAll(key, "#", fmt.Sprint(i)), Value: value})
		}
		return ts
	}
	const v = "1 validation error detected: "
	x := strings.Repeat("x", 129)
	for name, c := range map[string]struct {
		err     error
		code    identity.Code
		message string
	}{
		"account exists":      {second(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{ID: acct})), identity.CodeEntityAlreadyExists, "Account with id " + acct + " already exists."},
		"account id":          {second(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{ID: "12"})), identity.CodeValidation, v + `Value '12' at 'accountId' failed to satisfy constraint: Member must satisfy regular expression pattern: \d{12}`},
		"alias":               {second(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{Alias: "a--b"})), identity.CodeValidation, v + `Value 'a--b' at 'accountAlias' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`},
		"short alias":         {second(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{Alias: "ab"})), identity.CodeValidation, v + `Value 'ab' at 'accountAlias' failed to satisfy constraint: Member must have length greater than or equal to 3`},
		"user of no account":  {createUser(identity.CreateUserInput{Account: "999999999999", Name: "x"}), identity.CodeNoSuchEntity, "The account with id 999999999999 cannot be found."},
		"user exists":         {createUser(identity.CreateUserInput{Name: "bOB"}), identity.CodeEntityAlreadyExists, "User with name bOB already exists."},
		"no user name":        {createUser(identity.CreateUserInput{}), identity.CodeValidation, v + "Value at 'userName' failed to satisfy constraint: Member must not be null"},
		"user name":           {createUser(identity.CreateUserInput{Name: "a b"}), identity.CodeValidation, v + `Value 'a b' at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`},
		"long user name":      {createUser(identity.CreateUserInput{Name: x[:65]}), identity.CodeValidation, v + "Value '" + x[:65] + "' at 'userName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		"path":                {createUser(identity.CreateUserInput{Name: "x", Path: "a/"}), identity.CodeValidation, v + `Value 'a/' at 'path' failed to satisfy constraint: Member must satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`},
		"path with wildcards": {createUser(identity.CreateUserInput{Name: "x", Path: "/*/"}), identity.CodeValidation, v + `Value '/*/' at 'path' failed to satisfy constraint: Member must satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`},
		"too many tags":       {createUser(identity.CreateUserInput{Name: "x", Tags: tags(51, "#", "")}), identity.CodeValidation, v + "Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50"},
		"tag twice":           {createUser(identity.CreateUserInput{Name: "x", Tags: []identity.Tag{{Key: "k"}, {Key: "K"}}}), identity.CodeValidation, v + "Value 'K' at 'tags.2.member.key' failed to satisfy constraint: Member must be unique: tag keys are not case-sensitive"},
		"reserved tag":        {createUser(identity.CreateUserInput{Name: "x", Tags: tags(1, "AWS:x", "")}), identity.CodeValidation, v + `Value 'AWS:x' at 'tags.1.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+ and not begin with aws:`},
		"long tag":            {createUser(identity.CreateUserInput{Name: "x", Tags: tags(1, "k", strings.Repeat("x", 257))}), identity.CodeValidation, v + "Value at 'tags.1.member.value' failed to satisfy constraint: Member must have length less than or equal to 256"},
		"tag value":           {createUser(identity.CreateUserInput{Name: "x", Tags: tags(1, "k", "a*")}), identity.CodeValidation, v + `Value at 'tags.1.member.value' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`},
		"boundary":            {createUser(identity.CreateUserInput{Name: "x", Boundary: "{}"}), identity.CodeMalformedPolicy, "Malformed policy document: Statement is missing."},
		"long boundary":       {createUser(identity.CreateUserInput{Name: "x", Boundary: allowing("kms:" + strings.Repeat("*", 6144))}), identity.CodeLimitExceeded, "Cannot exceed quota for PolicySize: 6144"},
		"no such user":        {second(f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"})), identity.CodeNoSuchEntity, "The user with name bob cannot be found."},
		"delete with keys":    {f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "Bob"}), identity.CodeDeleteConflict, "Cannot delete entity, must delete access keys first."},
		"third access key":    {second(f.CreateAccessKey(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "Bob"})), identity.CodeLimitExceeded, "Cannot exceed quota for AccessKeysPerUser: 2"},
		"another's key":       {f.DeleteAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "eve", ID: id}), identity.CodeNoSuchEntity, "The Access Key with id " + id + " cannot be found."},
		"access key id":       {f.DeleteAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "eve", ID: "short"}), identity.CodeValidation, v + "Value 'short' at 'accessKeyId' failed to satisfy constraint: Member must have length greater than or equal to 16"},
		"policy":              {policy("q", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`), identity.CodeMalformedPolicy, "Malformed policy document at /Statement/0/Principal: an identity policy names no principals: it belongs to one."},
		"no policy document":  {policy("q", ""), identity.CodeValidation, v + "Value at 'policyDocument' failed to satisfy constraint: Member must not be null"},
		"huge policy":         {policy("q", strings.Repeat(" ", 32769)), identity.CodeLimitExceeded, "Cannot exceed quota for PolicySize: 32768"},
		"too much policy":     {policy("q", strings.Replace(allowing("*"), `"*"`, `["kms:Sign"`+strings.Repeat(`,"kms:Sign"`, 180)+`]`, 1)), identity.CodeLimitExceeded, "Maximum policy size of 2048 bytes exceeded for user Bob"},
		"policy name":         {policy("a/b", allowing("*")), identity.CodeValidation, v + `Value 'a/b' at 'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`},
		"no such policy":      {second(f.GetUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "Bob", Name: "q"})), identity.CodeNoSuchEntity, "The user policy with name q cannot be found."},
		"delete no policy":    {f.DeleteRolePolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "app", Name: "q"}), identity.CodeNoSuchEntity, "The role policy with name q cannot be found."},
		"no boundary":         {f.SetUserBoundary(f.ctx, f.op, &identity.BoundaryInput{Account: acct, Entity: "Bob"}), identity.CodeNoSuchEntity, "The user Bob does not have a permissions boundary."},
		"group exists":        {second(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "G"})), identity.CodeEntityAlreadyExists, "Group with name G already exists."},
		"group name":          {second(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: x})), identity.CodeValidation, v + "Value '" + x[:128] + "…' at 'groupName' failed to satisfy constraint: Member must have length less than or equal to 128"},
		"no such group":       {f.DeleteGroup(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "h"}), identity.CodeNoSuchEntity, "The group with name h cannot be found."},
		"member of no group":  {f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: "h", User: "Bob"}), identity.CodeNoSuchEntity, "The group with name h cannot be found."},
		"no member":           {f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: "g", User: "bob"}), identity.CodeNoSuchEntity, "The user with name bob cannot be found."},
		"role exists":         {createRole(identity.CreateRoleInput{Name: "APP", TrustPolicy: trusting("", acct)}), identity.CodeEntityAlreadyExists, "Role with name APP already exists."},
		"no trust policy":     {createRole(identity.CreateRoleInput{}), identity.CodeValidation, v + "Value at 'assumeRolePolicyDocument' failed to satisfy constraint: Member must not be null"},
		"trust policy":        {createRole(identity.CreateRoleInput{TrustPolicy: allowing("*")}), identity.CodeMalformedPolicy, "Malformed policy document at /Statement/0: Principal is missing."},
		"long trust policy":   {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", strings.Repeat(acct+`","`, 273)+acct)}), identity.CodeLimitExceeded, "Cannot exceed quota for ACLSizePerRole: 4096"},
		"trusted user":        {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", userARN("no"))}), identity.CodeMalformedPolicy, `Invalid principal in policy: "AWS":"` + userARN("no") + `"`},
		"trusted path":        {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", userARN("a/Bob"))}), identity.CodeMalformedPolicy, `Invalid principal in policy: "AWS":"` + userARN("a/Bob") + `"`},
		"trusted account":     {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", "999999999999")}), identity.CodeMalformedPolicy, `Invalid principal in policy: "AWS":"arn:aws:iam::999999999999:root"`},
		"trusted federated":   {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", "arn:aws:sts::"+acct+":federated-user/Bob")}), identity.CodeMalformedPolicy, `Invalid principal in policy: "AWS":"arn:aws:sts::` + acct + `:federated-user/Bob"`},
		"trusted later":       {f.UpdateTrustPolicy(f.ctx, f.op, &identity.TrustInput{Account: acct, Role: "app", Document: trusting("", userARN("no"))}), identity.CodeMalformedPolicy, `Invalid principal in policy: "AWS":"` + userARN("no") + `"`},
		"short sessions":      {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", acct), MaxSession: 3599}), identity.CodeValidation, v + "Value '3599' at 'maxSessionDuration' failed to satisfy constraint: Member must have value greater than or equal to 3600"},
		"long sessions":       {f.UpdateRole(f.ctx, f.op, &identity.UpdateRoleInput{Account: acct, Name: "app", MaxSession: 43201}), identity.CodeValidation, v + "Value '43201' at 'maxSessionDuration' failed to satisfy constraint: Member must have value less than or equal to 43200"},
		"description":         {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", acct), Description: "a\x00"}), identity.CodeValidation, v + `Value at 'description' failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`},
		"long description":    {createRole(identity.CreateRoleInput{TrustPolicy: trusting("", acct), Description: strings.Repeat("é", 1001)}), identity.CodeValidation, v + "Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 1000"},
		"no such role":        {f.UpdateTrustPolicy(f.ctx, f.op, &identity.TrustInput{Account: acct, Role: "no", Document: trusting("", acct)}), identity.CodeNoSuchEntity, "The role with name no cannot be found."},
		"sessions of nobody":  {f.RevokeSessions(f.ctx, f.op, &identity.RevokeInput{Account: acct}), identity.CodeValidation, v + "Value at 'userName' failed to satisfy constraint: Member must be given, or else roleName, but not both"},
		"two violations":      {createUser(identity.CreateUserInput{Account: "x", Name: "a b"}), identity.CodeValidation, `2 validation errors detected: Value 'x' at 'accountId' failed to satisfy constraint: Member must satisfy regular expression pattern: \d{12}; Value 'a b' at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.err, c.code, c.message) })
	}
}

func TestLimitsOfUsers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	for i := range 11 {
		g := fmt.Sprint("g", i)
		must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: g}))(t)
		err := f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: g, User: "bob"})
		if i < 10 {
			f.ok(err)
		} else {
			refused(t, err, identity.CodeLimitExceeded, "Cannot exceed quota for GroupsPerUser: 10")
		}
	}
	many := func(from, n int) *identity.TagInput {
		in := &identity.TagInput{Account: acct, Name: "bob"}
		for i := range n {
			in.Tags = append(in.Tags, identity.Tag{Key: fmt.Sprint("k", from+i)})
		}
		return in
	}
	f.ok(f.TagUser(f.ctx, f.op, many(0, 50)))
	f.ok(f.TagUser(f.ctx, f.op, many(0, 50)))
	refused(t, f.TagUser(f.ctx, f.op, many(49, 2)), identity.CodeLimitExceeded, "Cannot exceed quota for TagsPerUser: 50")
	conflict := func(text string) {
		t.Helper()
		refused(t, f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob"}), identity.CodeDeleteConflict, text)
	}
	f.mfa("bob")
	f.allow("bob", "p", "*")
	conflict("Cannot delete entity, must delete policies first.")
	f.ok(f.DeleteUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "bob", Name: "p"}))
	conflict("Cannot delete entity, must remove users from group first.")
	for i := range 10 {
		f.ok(f.RemoveUserFromGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: fmt.Sprint("g", i), User: "bob"}))
	}
	conflict("Cannot delete entity, must delete MFA device first.")
	f.ok(f.DisableMFA(f.ctx, f.op, &identity.MFAInput{Account: acct, User: "bob"}))
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob"}))
}

func TestRoleWithPoliciesIsNotDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.role(acct, "app", trusting("", acct))
	p := &identity.PolicyInput{Account: acct, Entity: "app", Name: "p", Document: allowing("*")}
	f.ok(f.PutRolePolicy(f.ctx, f.op, p))
	refused(t, f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}), identity.CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
	f.ok(f.DeleteRolePolicy(f.ctx, f.op, p))
	f.ok(f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}))
}

func TestAliasIsOneAccountsOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{Alias: "shop"}))(t)
	_, err := f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{Alias: "shop"})
	refused(t, err, identity.CodeEntityAlreadyExists, "The account alias shop already exists.")
}
