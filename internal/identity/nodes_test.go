package identity_test

import (
	"testing"

	"cardea/internal/identity"
)

// Another node knows what was changed within its interval. What it does meanwhile by
// what it knew must not last.

func TestNamesakesMadeOnAnotherNode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	people := func() (user *identity.User, key string, role *identity.Role) {
		user, key = f.user("bob"), f.key("bob").ID
		f.allow("bob", "p", "sts:AssumeRole")
		return user, key, f.role(acct, "app", trusting("", user.ARN))
	}
	was, oldKey, _ := people()
	n2 := f.node("n2")
	oldBob := subject(t, n2, oldKey)
	if !n2.Exists(f.ctx, was.ARN) || !n2.Exists(f.ctx, roleARN("app")) { // both are cached
		t.Fatal("bob or his role does not exist")
	}
	f.ok(f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}))
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true}))
	user, key, role := people()

	for arn, want := range map[string]string{user.ARN: user.ID, role.ARN: role.ID} {
		if got := must(n2.PrincipalID(f.ctx, arn))(t); got != want {
			t.Errorf("%s has the id %s, want the new one, %s", arn, got, want)
		}
	}
	n2 = f.node("n3")
	subject(t, n2, key) // caches bob
	if !n2.Exists(f.ctx, role.ARN) {
		t.Fatal("the role does not exist")
	}
	f.ok(f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"}))
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true}))
	user, key, role = people()
	bob := subject(t, n2, key)
	if bob.Caller.ID != user.ID {
		t.Errorf("the new key is that of %s, want %s", bob.Caller.ID, user.ID)
	}
	s := must(n2.AssumeRole(f.ctx, identity.Caller{Subject: bob}, &identity.AssumeRoleInput{RoleARN: role.ARN, SessionName: "s1"}))(t)
	for range 2 { // the second time everything has been told
		if got := subject(t, n2, s.AccessKeyID).Caller.ID; got != role.ID+":s1" {
			t.Errorf("the session is that of %s, want %s", got, role.ID)
		}
		f.ok(n2.Refresh(f.ctx))
	}
	_, err := n2.AssumeRole(f.ctx, identity.Caller{Subject: oldBob}, &identity.AssumeRoleInput{RoleARN: role.ARN, SessionName: "s1"})
	refused(t, err, identity.CodeAccessDenied, "User: "+user.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+role.ARN)
}

func TestTrustTakenAwayOnAnotherNodeGivesNoSession(t *testing.T) {
	t.Parallel()
	for name, takeAway := range map[string]func(*fixture, string) error{
		"trust": func(f *fixture, alice string) error {
			return f.UpdateTrustPolicy(f.ctx, f.op, &identity.TrustInput{Account: acct, Role: "app", Document: trusting("", alice)})
		},
		"role": func(f *fixture, _ string) error {
			return f.DeleteRole(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "app"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			bob, alice := f.user("bob"), f.user("alice")
			key := f.key("bob").ID
			role := f.role(acct, "app", trusting("", bob.ARN))
			n2 := f.node("n2")
			who := identity.Caller{Subject: subject(t, n2, key)}
			in := &identity.AssumeRoleInput{RoleARN: role.ARN, SessionName: "s1"}
			must(n2.AssumeRole(f.ctx, who, in))(t) // caches the role
			f.ok(takeAway(f, alice.ARN))
			mark := f.mark()
			_, err := n2.AssumeRole(f.ctx, who, in)
			refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+role.ARN)
			if e := f.last(mark, 1); e.Op != "sts.assume_role" || e.Outcome != "denied" {
				t.Errorf("got entry %+v", e)
			}
		})
	}
}

func TestGroupDeletedOnAnotherNodeLocksNobodyOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob, key := f.user("bob"), f.key("bob").ID
	must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "g"}))(t)
	member := &identity.MemberInput{Account: acct, Group: "g", User: "bob"}
	f.ok(f.AddUserToGroup(f.ctx, f.op, member))
	n2 := f.node("n2")
	if !n2.Exists(f.ctx, bob.ARN) { // caches bob, as a member, without the group
		t.Fatal("bob does not exist")
	}
	f.ok(f.RemoveUserFromGroup(f.ctx, f.op, member))
	f.ok(f.DeleteGroup(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "g"}))
	if got := names(subject(t, n2, key).Identity); got != "" {
		t.Errorf("got policies %q", got)
	}
}
