package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cardea/internal/bubble"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/secret"
)

const notRecorded = "The request could not be recorded in the audit log and was refused."

// TestNothingIsToldUnrecorded: if the entry cannot be written, the operation fails
// and gives nothing away.
func TestNothingIsToldUnrecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	who := f.signed(f.key("bob").ID)
	rows, mark := len(f.store.Rows()), f.mark()
	down := errors.New("disk full")
	f.store.Fail(func(call string) error {
		return map[string]error{"Append": down, "Update": down, "Commit": down}[call]
	})
	if _, err := f.GetCallerIdentity(f.ctx, who); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	_, err := f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"})
	refused(t, err, identity.CodeServiceFailure, notRecorded)
	_, err = f.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{})
	refused(t, err, identity.CodeServiceFailure, notRecorded)
	if k, err := f.CreateAccessKey(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}); k != nil || err == nil {
		t.Errorf("got %v, %v", k, err)
	}
	if c, err := f.GetSessionToken(f.ctx, who, &identity.GetSessionTokenInput{}); c != nil || err == nil {
		t.Errorf("got %v, %v", c, err)
	}
	f.store.Fail(nil)
	if len(f.store.Rows()) != rows || f.mark() != mark {
		t.Error("something was written")
	}
}

// TestFailedWriteIsRecorded: the change could not be made, and the log says so.
func TestFailedWriteIsRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	down := errors.New("disk full")
	f.store.Fail(func(call string) error { return map[string]error{"Commit": down}[call] })
	mark := f.mark()
	_, err := f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "bob"})
	refused(t, err, identity.CodeServiceFailure, "The change could not be written.")
	if e := f.last(mark, 1); e.Outcome != "failed" || e.Result != "service_failure" || e.Detail != "CreateUser: disk full" {
		t.Errorf("got entry %+v", e)
	}
	f.store.Fail(func(call string) error { return map[string]error{"Get": down}[call] })
	mark = f.mark()
	_, err = f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"})
	refused(t, err, identity.CodeServiceFailure, "The request failed inside the identity service. Nothing was changed.")
	if e := f.last(mark, 1); e.Detail != "disk full" {
		t.Errorf("got entry %+v", e)
	}
}

// TestRequestThatHangsUpIsRecorded: the client's context is gone, the entry is not.
func TestRequestThatHangsUpIsRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	mark := f.mark()
	must(f.CreateUser(ctx, f.op, &identity.CreateUserInput{Account: acct, Name: "bob"}))(t)
	f.last(mark, 1)
}

// TestPanicIsRecorded lets the secrets panic in the middle of an operation.
func TestPanicIsRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	s := must(identity.New(f.ctx, identity.Options{Node: "n9", Store: f.store, Secrets: panicking{}, Now: f.clock.now}))(t)
	mark := f.mark()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		s.CreateAccessKey(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"})
	}()
	if e := f.last(mark, 1); e.Outcome != "failed" || e.Detail != "operation was aborted" {
		t.Errorf("got entry %+v", e)
	}
}

type panicking struct{}

func (panicking) SealSecret(context.Context, string, secret.Bytes) ([]byte, error) { panic("bug") }
func (panicking) OpenSecret(context.Context, string, []byte) (secret.Bytes, error) { panic("bug") }

func TestEntryNamesOperatorAndAddress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mark := f.mark()
	who := identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "alice", Auth: "loopback", IP: attacker, Actions: []string{"iam:*User"}})
	who.RequestID = "r-1"
	must(f.CreateUser(f.ctx, who, &identity.CreateUserInput{Account: acct, Name: "bob"}))(t)
	e := f.last(mark, 1)
	if e.Op != "identity.create_user" || e.PCI != "10.2.1.5" || e.Outcome != "allowed" || e.Result != "done" || e.Detail != "allowed as operator" ||
		e.Who.Type != "operator" || e.Who.Name != "alice" || e.Who.Auth != "loopback" || e.Res.Kind != "user" || e.Res.Key != userARN("bob") {
		t.Errorf("got entry %+v", e)
	}
	line := f.store.Entries()[mark]
	if !strings.Contains(line, attacker.String()) || !strings.Contains(line, `"request":"r-1"`) {
		t.Errorf("got %s", line)
	}
}

func TestRefusedRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, op := range map[string]string{"AssumeRole": "sts.assume_role", "": "sts.unknown", "FlyToMoon": "sts.unknown"} {
		mark := f.mark()
		f.ok(f.Refuse(f.ctx, identity.Caller{IP: attacker}, name, &identity.Error{Code: identity.CodeInvalidClientTokenID, Message: "no"}, ""))
		e := f.last(mark, 1)
		if e.Op != op || e.Outcome != "denied" || e.PCI != "10.2.1.4" || e.Result != "invalid_client_token_id" || e.Detail != "no" || e.Who.Type != "anonymous" {
			t.Errorf("%s: got entry %+v", name, e)
		}
	}
}

// TestConcurrentChangesAllSucceed lets many change one user at once, on two nodes:
// each begins anew no more often than there are others.
func TestConcurrentChangesAllSucceed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	mark := f.mark()
	nodes := []*identity.Service{f.Service, f.node("n2")}
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := nodes[i%2].TagUser(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "bob", Tags: []identity.Tag{{Key: fmt.Sprint("t", i)}}})
			if err != nil {
				t.Errorf("tag %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	u := must(f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
	if len(u.Tags) != n {
		t.Errorf("%d tags for %d requests: %v", len(u.Tags), n, u.Tags)
	}
	f.last(mark, n+1)
}

const busy = "The request was rejected because multiple requests to change this object were submitted simultaneously. Wait a few minutes and submit your request again."

// TestChangedMeanwhileBeginsAnew changes the row between reading and writing, each
// time and for some times.
func TestChangedMeanwhileBeginsAnew(t *testing.T) {
	t.Parallel()
	for times, wantErr := range map[int]bool{1: false, 19: false, 20: true} {
		f := newFixture(t)
		f.user("bob")
		meddler := &meddling{Store: f.store, left: times}
		s := must(identity.New(f.ctx, identity.Options{Node: "n9", Store: meddler, Secrets: f.secrets, Now: f.clock.now}))(t)
		meddler.meddle = func() { f.allow("bob", fmt.Sprint("m", meddler.left), "kms:*") }
		mark := f.mark()
		err := s.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "bob", Name: "p", Document: allowing("kms:*")})
		if wantErr {
			refused(t, err, identity.CodeConcurrentModification, busy)
		} else {
			f.ok(err)
		}
		if e := f.last(mark, times+1); (e.Outcome == "failed") != wantErr {
			t.Errorf("got entry %+v", e)
		}
		u := must(f.DescribeUser(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
		if got := slices.Contains(u.Policies, "p"); got == wantErr || len(u.Policies) < times {
			t.Errorf("got %v", u.Policies)
		}
	}
}

// meddling does something before transactions.
type meddling struct {
	*identitytest.Store
	left   int
	meddle func()
}

func (m *meddling) Update(ctx context.Context, fn func(identity.Tx) error) error {
	if m.left > 0 {
		m.meddle()
		m.left--
	}
	return m.Store.Update(ctx, fn)
}

// TestCacheNeverKeepsWhatWasForgotten changes an identity while it is being read:
// what was read before the change must not be found after it.
func TestCacheNeverKeepsWhatWasForgotten(t *testing.T) {
	t.Parallel()
	for _, kind := range []identity.Kind{"access_key", "user", "group"} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.user("bob")
			id := f.key("bob").ID
			must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "g"}))(t)
			f.ok(f.AddUserToGroup(f.ctx, f.op, &identity.MemberInput{Account: acct, Group: "g", User: "bob"}))
			late := &lateReader{Store: f.store, kind: kind}
			s := must(identity.New(f.ctx, identity.Options{Node: "n9", Store: late, Secrets: f.secrets, Now: f.clock.now}))(t)
			late.then = func() {
				var err error
				switch kind {
				case "access_key":
					err = s.UpdateAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id})
				case "user":
					err = s.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "bob", Name: "new", Document: allowing("kms:*")})
				default:
					err = s.PutGroupPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: "g", Name: "new", Document: allowing("kms:*")})
				}
				f.ok(err)
			}
			subject(t, s, id) // may be of before the change, which was at the same time
			if kind == "access_key" {
				unknown(t, s, id)
			} else if got := names(subject(t, s, id).Identity); !strings.HasSuffix(got, "new") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// lateReader lets something happen after the first read of a kind, before its
// answer arrives.
type lateReader struct {
	*identitytest.Store
	kind identity.Kind
	then func()
}

func (l *lateReader) Get(ctx context.Context, kind identity.Kind, account, name string) (*identity.Row, error) {
	row, err := l.Store.Get(ctx, kind, account, name)
	if kind == l.kind && l.then != nil {
		then := l.then
		l.then = nil
		then()
	}
	return row, err
}

// TestConcurrentUse mixes lookups, changes and sessions on two nodes; the race
// detector watches.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	n2 := f.node("n2")
	var wg sync.WaitGroup
	for _, s := range []*identity.Service{f.Service, n2} {
		for i := range 4 {
			wg.Go(func() {
				for j := range 50 {
					c, err := s.Lookup(f.ctx, id)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := s.Secret(f.ctx, c); err != nil {
						t.Error(err)
					}
					s.Succeeded(id)
					switch (i + j) % 10 {
					case 0:
						who := identity.Caller{Subject: c.Principal.(*iam.Subject), Auth: "sigv4"}
						r, err := s.AssumeRole(f.ctx, who, &identity.AssumeRoleInput{RoleARN: roleARN("app"), SessionName: "s1"})
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := n2.Lookup(f.ctx, r.AccessKeyID); err != nil {
							t.Error(err)
						}
					case 1:
						s.TagRole(f.ctx, f.op, &identity.TagInput{Account: acct, Name: "app", Tags: []identity.Tag{{Key: "k", Value: fmt.Sprint(j)}}}) // may conflict
					case 2:
						s.Failed(f.ctx, id, attacker)
						s.Succeeded(id)
					case 3:
						if err := s.Refresh(f.ctx); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestJobsForgetAndExpire(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.clock = nil
		now := func(o identity.Options) *identity.Service {
			o.Store, o.Secrets, o.RefreshEvery = f.store, f.secrets, 2*time.Second
			return must(identity.New(t.Context(), o))(t)
		}
		a, b := now(identity.Options{Node: "a"}), now(identity.Options{Node: "b"})
		f.Service = a
		bob := f.user("bob")
		id := f.key("bob").ID
		f.role(acct, "app", trusting("", bob.ARN))
		s := f.assume(f.signed(id), identity.AssumeRoleInput{RoleARN: roleARN("app"), Duration: 900})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.RunJobs(ctx); close(done) }()
		subject(t, b, id)
		f.ok(a.UpdateAccessKey(t.Context(), f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id}))
		time.Sleep(3 * time.Second)
		unknown(t, b, id)

		down := errors.New("gone")
		f.store.Fail(func(call string) error { return map[string]error{"Changes": down, "DeleteExpired": down}[call] })
		f.ok(a.UpdateAccessKey(t.Context(), f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id, Active: true}))
		time.Sleep(5 * time.Minute)
		f.store.Fail(nil)
		time.Sleep(3 * time.Second)
		subject(t, b, id)

		sessions := func() (n int) {
			for _, r := range f.store.Rows() {
				if r.Kind == "session" {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Hour)
		if sessions() != 1 {
			t.Error("a session went before it could be told that it has expired")
		}
		time.Sleep(20 * time.Minute)
		if sessions() != 0 {
			t.Error("an expired session stays")
		}
		f.ok(b.Refresh(t.Context()))
		_, _ = b.Lookup(t.Context(), s.AccessKeyID)
		cancel()
		<-done
	})
}

// TestNodeThatWasCutOffForgetsEverything: changes are not known for ever.
func TestNodeThatWasCutOffForgetsEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	s := f.assume(f.signed(id), identity.AssumeRoleInput{RoleARN: roleARN("app")})
	n2 := f.node("n2")
	subject(t, n2, id)
	subject(t, n2, s.AccessKeyID)
	f.allow("bob", "new", "kms:*")
	f.failed(f.Service, s.AccessKeyID, 10)
	must(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{ID: "999999999999"}))(t)
	f.store.Forget()
	down := errors.New("gone")
	f.store.Fail(func(call string) error { return map[string]error{"List": down}[call] })
	if err := n2.Refresh(f.ctx); err == nil || err.Error() != "list accounts: gone" {
		t.Errorf("got %v", err)
	}
	f.store.Fail(nil)
	f.ok(n2.Refresh(f.ctx))
	if got := names(subject(t, n2, id).Identity); got != "new" {
		t.Errorf("got %q", got)
	}
	unknown(t, n2, s.AccessKeyID)
	if !n2.HasAccount(t.Context(), "999999999999") {
		t.Error("a new account is not known")
	}
	f.ok(f.UpdateAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id}))
	f.ok(n2.Refresh(f.ctx))
	unknown(t, n2, id)
}

func TestNewRefusesOptions(t *testing.T) {
	t.Parallel()
	store, secrets := identitytest.NewStore(), identitytest.NewSecrets()
	down := errors.New("gone")
	broken := identitytest.NewStore()
	broken.Fail(func(call string) error { return map[string]error{"List": down}[call] })
	unread := identitytest.NewStore()
	unread.Fail(func(call string) error { return map[string]error{"Changes": down}[call] })
	for _, c := range []struct {
		o    identity.Options
		want string
	}{
		{identity.Options{Store: store, Secrets: secrets}, "identity: Node, Store and Secrets are required"},
		{identity.Options{Node: "n", Secrets: secrets}, "identity: Node, Store and Secrets are required"},
		{identity.Options{Node: "n", Store: store}, "identity: Node, Store and Secrets are required"},
		{identity.Options{Node: "n", Store: store, Secrets: secrets, MaxFailures: 11}, "identity: lockout after 11 failures: want 1 to 10 (PCI DSS 8.3.4)"},
		{identity.Options{Node: "n", Store: store, Secrets: secrets, FailureWindow: -1}, "identity: window of -1ns: it may not be negative"},
		{identity.Options{Node: "n", Store: broken, Secrets: secrets}, "identity: list accounts: gone"},
		{identity.Options{Node: "n", Store: unread, Secrets: secrets}, "identity: read the number of the last change: gone"},
	} {
		if _, err := identity.New(t.Context(), c.o); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// TestAnyHistoryIsAuditedOnce runs random operations by random callers: each writes
// exactly one entry, whose outcome is the answer's, and changes something only if it
// was allowed; and at its end a node that knows the history by its caches says the
// same as one that has just started.
func TestAnyHistoryIsAuditedOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t)
		f.user("bob")
		k := f.key("bob").ID
		f.role(acct, "app", trusting("", acct))
		must(f.CreateGroup(f.ctx, f.op, &identity.CreateGroupInput{Account: acct, Name: "g"}))(t)
		if rapid.Bool().Draw(rt, "bob administers") {
			f.allow("bob", "admin", "*")
		}
		ops := administration(f, k)
		var names []string
		for n := range ops {
			names = append(names, n)
		}
		slices.Sort(names)
		n2 := f.node("n2")
		for range rapid.IntRange(1, 15).Draw(rt, "operations") {
			who := f.op
			if rapid.Bool().Draw(rt, "by bob") {
				c, err := f.Lookup(f.ctx, k)
				if err != nil {
					continue
				}
				who = identity.Caller{Subject: c.Principal.(*iam.Subject), Auth: "sigv4"}
			}
			name := rapid.SampledFrom(names).Draw(rt, "operation")
			mark, before := f.mark(), fmt.Sprint(f.store.Rows())
			err := ops[name](who)
			lines := f.store.Entries()[mark:]
			if len(lines) != 1 {
				rt.Fatalf("%s wrote %d entries", name, len(lines))
			}
			var e entry
			if jerr := json.Unmarshal([]byte(lines[0]), &e); jerr != nil {
				rt.Fatal(jerr)
			}
			denied := false
			if ie, is := errors.AsType[*identity.Error](err); is {
				denied = ie.Code == identity.CodeAccessDenied
			}
			want := map[bool]string{true: "denied", false: "failed"}[denied]
			if err == nil {
				want = "allowed"
			}
			if e.Outcome != want {
				rt.Errorf("%s: got outcome %s for %v", name, e.Outcome, err)
			}
			if err != nil && fmt.Sprint(f.store.Rows()) != before {
				rt.Errorf("%s changed something though it was refused: %v", name, err)
			}
			if rapid.Bool().Draw(rt, "refresh") {
				f.ok(n2.Refresh(f.ctx))
				n2.Lookup(f.ctx, k)
			}
		}
		f.ok(n2.Refresh(f.ctx))
		fresh := f.node("n3")
		for _, s := range []*identity.Service{f.Service, n2} {
			if got, want := describe(s, k), describe(fresh, k); got != want {
				rt.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// describe says whom a key authenticates.
func describe(s *identity.Service, id string) string {
	c, err := s.Lookup(context.Background(), id)
	if err != nil {
		return err.Error()
	}
	sub := c.Principal.(*iam.Subject)
	return fmt.Sprint(sub.Caller, names(sub.Identity), sub.Boundary != nil)
}
