package identity_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/sigv4"
)

func TestAccessKeyAuthenticatesItsUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{
		Account: acct, Name: "Bob", Path: "/team/a/", Tags: []identity.Tag{{Key: "dept", Value: "pay"}}, Boundary: allowing("kms:*"),
	}))(t)
	f.allow("Bob", "sign", "kms:Sign")
	f.allow("Bob", "encrypt", "kms:Encrypt")
	k := f.key("Bob")
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(k.ID) || k.Secret.Len() != 40 || !regexp.MustCompile(`^AIDA[A-Z2-7]{17}$`).MatchString(u.ID) {
		t.Errorf("got key %s with a secret of %d bytes and user %s", k.ID, k.Secret.Len(), u.ID)
	}

	c := must(f.Lookup(f.ctx, k.ID))(t)
	if c.SecretID == "" || c.SessionTokenHash != [32]byte{} || !c.ExpiresAt.IsZero() {
		t.Errorf("got %+v", c)
	}
	sub := c.Principal.(*iam.Subject)
	who := sub.Caller
	if who.Type != iam.CallerUser || who.ARN != "arn:aws:iam::"+acct+":user/team/a/Bob" || who.Session != "" || who.Account != acct ||
		who.ID != u.ID || !slices.Equal(who.Tags, []iam.Tag{{Key: "dept", Value: "pay"}}) || !who.Issued.IsZero() || !who.MFA.IsZero() {
		t.Errorf("got caller %+v", who)
	}
	if sub.AccessKeyID != k.ID || sub.Boundary == nil || sub.Session != nil || names(sub.Identity) != "encrypt sign" {
		t.Errorf("got key %s, policies %s", sub.AccessKeyID, names(sub.Identity))
	}
	s := must(f.Secret(f.ctx, c))(t)
	if !s.Equal(k.Secret) {
		t.Error("another secret")
	}
	s.Destroy()
	if again := must(f.Secret(f.ctx, c))(t); !again.Equal(k.Secret) {
		t.Error("the secret is gone after its copy was destroyed")
	}
}

func names(ps []iam.NamedPolicy) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestUnknownAccessKeysAreNotLookedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	reads := f.store.Reads()
	for _, id := range []string{"", "A", "AKIA", "akiaabcdefghijklmnop", "AKIAABCDEFGHIJKLMN1P", "AROAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOPQ"} {
		unknown(t, f.Service, id)
	}
	if n := f.store.Reads(); n != reads {
		t.Errorf("the store was read %d times", n-reads)
	}
	unknown(t, f.Service, "AKIAABCDEFGHIJKLMNOP")
	unknown(t, f.Service, "ASIAABCDEFGHIJKLMNOP")
}

// TestKeyEndsAtOnce walks the changes after which a key authenticates nobody, on
// this node at once and on another after it has refreshed.
func TestKeyEndsAtOnce(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *fixture, id string) error{
		"inactive": func(f *fixture, id string) error {
			return f.UpdateAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id})
		},
		"deleted": func(f *fixture, id string) error {
			return f.DeleteAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id})
		},
		"user deleted": func(f *fixture, _ string) error {
			return f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.user("bob")
			k := f.key("bob")
			n2 := f.node("n2")
			c := must(n2.Lookup(f.ctx, k.ID))(t)
			subject(t, f.Service, k.ID)
			f.ok(change(f, k.ID))
			unknown(t, f.Service, k.ID)
			subject(t, n2, k.ID)
			f.ok(n2.Refresh(f.ctx))
			unknown(t, n2, k.ID)
			if _, err := n2.Secret(f.ctx, c); !errors.Is(err, sigv4.ErrUnknownKey) {
				t.Errorf("secret: got %v", err)
			}
		})
	}
}

func TestInactiveKeyComesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	k := f.key("bob")
	in := &identity.AccessKeyInput{Account: acct, User: "bob", ID: k.ID}
	f.ok(f.UpdateAccessKey(f.ctx, f.op, in))
	unknown(t, f.Service, k.ID)
	in.Active = true
	f.ok(f.UpdateAccessKey(f.ctx, f.op, in))
	subject(t, f.Service, k.ID)
	l := must(f.ListAccessKeys(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
	want := identity.AccessKey{ID: k.ID, Account: acct, User: "bob", Active: true, CreatedAt: start}
	if len(l.Items) != 1 || l.Items[0] != want {
		t.Errorf("got %+v, want %+v", l.Items, want)
	}
}

func TestChangedPolicyIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	k := f.key("bob")
	n2 := f.node("n2")
	for _, s := range []*identity.Service{f.Service, n2} {
		if got := names(subject(t, s, k.ID).Identity); got != "" {
			t.Errorf("got %s", got)
		}
	}
	f.allow("bob", "p", "kms:Sign")
	if got := names(subject(t, f.Service, k.ID).Identity); got != "p" {
		t.Errorf("this node: got %q", got)
	}
	f.ok(n2.Refresh(f.ctx))
	if got := names(subject(t, n2, k.ID).Identity); got != "p" {
		t.Errorf("another node: got %q", got)
	}
}

func TestKeyOfANamesakeAuthenticatesNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	k := f.key("bob")
	var old identity.Row
	for _, r := range f.store.Rows() {
		if r.Name == k.ID {
			old = r
		}
	}
	f.ok(f.DeleteUser(f.ctx, f.op, &identity.DeleteUserInput{Account: acct, Name: "bob", Force: true}))
	f.user("bob")
	k2 := f.key("bob")
	// As if a backup had brought the row of the key back.
	f.store.SetBody(identity.Name{Kind: "access_key", Name: k2.ID}, old.Body)
	f.ok(f.Refresh(f.ctx))
	unknown(t, f.Service, k2.ID)
}

func TestSharedPolicyIsParsedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var first *iam.Policy
	for i := range 3 {
		name := fmt.Sprintf("u%d", i)
		f.user(name)
		f.allow(name, "p"+name, "kms:Sign")
		p := subject(t, f.Service, f.key(name).ID).Identity[0].Policy
		if first == nil {
			first = p
		} else if p != first {
			t.Error("equal policies are kept twice")
		}
	}
}

func TestLookupTellsWhenNobodyCanTell(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	k := f.key("bob")
	down := errors.New("database is gone")
	f.store.Fail(func(call string) error { return map[string]error{"Get": down}[call] })
	if _, err := f.Lookup(f.ctx, k.ID); !errors.Is(err, down) || errors.Is(err, sigv4.ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
	f.store.Fail(nil)
	c := must(f.Lookup(f.ctx, k.ID))(t)

	f.secrets.Lock(true)
	_, err := f.Secret(f.ctx, c)
	if !errors.Is(err, identity.ErrSecretUnavailable) || !errors.Is(err, identitytest.ErrSealed) ||
		err.Error() != "the secret of the access key cannot be opened: root key is sealed" {
		t.Errorf("got %v", err)
	}
	_, err = f.CreateAccessKey(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"})
	refused(t, err, identity.CodeServiceUnavailable, "The secret cannot be stored now: the root key of the key service is not available.")
	f.secrets.Lock(false)

	f.store.SetBody(identity.Name{Kind: "user", Account: acct, Name: "bob"}, []byte(`{"v":2}`))
	f.ok(f.Refresh(f.ctx))
	if _, err := f.Lookup(f.ctx, k.ID); err == nil || err.Error() != "access key "+k.ID+": row user "+acct+"/bob: version 2 is unknown" {
		t.Errorf("damaged row: got %v", err)
	}
}

// TestSecretsAreStoredSealed looks for the secret in everything that is stored.
func TestSecretsAreStoredSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	a, b := f.key("bob"), f.key("bob")
	rows := f.store.Rows()
	for _, r := range rows {
		if strings.Contains(string(r.Body), string(a.Secret.Expose())) {
			t.Errorf("the secret stands in row %s %s", r.Kind, r.Name)
		}
	}
	for _, l := range f.store.Entries() {
		if strings.Contains(l, string(a.Secret.Expose())) {
			t.Error("the secret stands in the audit log")
		}
	}
	// A row's sealed secret opens for its own access key only.
	for _, r := range rows {
		if r.Name == a.ID {
			f.store.SetBody(identity.Name{Kind: "access_key", Name: b.ID}, r.Body)
		}
	}
	f.ok(f.Refresh(f.ctx))
	c := must(f.Lookup(f.ctx, b.ID))(t)
	if _, err := f.Secret(f.ctx, c); !errors.Is(err, identity.ErrSecretUnavailable) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLookup(b *testing.B) {
	f := newFixture(b)
	f.user("bob")
	f.allow("bob", "p", "kms:*")
	id := f.key("bob").ID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Lookup(f.ctx, id); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	subject(t, f.Service, id)
	if n := testing.AllocsPerRun(100, func() { f.Lookup(f.ctx, id) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}
