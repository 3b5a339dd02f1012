package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/sigv4"
)

const (
	acct  = "111122223333"
	other = "444455556666"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// clock is time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// fixture is a service with an account, over a store in memory.
type fixture struct {
	*identity.Service
	t       testing.TB
	ctx     context.Context
	store   *identitytest.Store
	secrets *identitytest.Secrets
	clock   *clock
	op      identity.Caller
}

func operator() identity.Caller {
	c := identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "alice", Auth: "internal", Actions: []string{"*"}})
	c.UserAgent = "cardea"
	return c
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := newEmpty(t)
	for _, a := range []string{acct, other} {
		must(f.CreateAccount(f.ctx, f.op, &identity.CreateAccountInput{ID: a}))(t)
	}
	return f
}

// node is another service over the same store.
func (f *fixture) node(name string) *identity.Service {
	f.t.Helper()
	return must(identity.New(f.ctx, identity.Options{Node: name, Store: f.store, Secrets: f.secrets, Now: f.clock.now}))(f.t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// refused checks that err is the refusal with the code and message.
func refused(t testing.TB, err error, code identity.Code, message string) {
	t.Helper()
	e, is := errors.AsType[*identity.Error](err)
	if !is || e.Code != code || e.Message != message {
		t.Errorf("got  %v\nwant %s: %s", err, code, message)
	}
}

func (f *fixture) user(name string) *identity.User {
	f.t.Helper()
	return must(f.CreateUser(f.ctx, f.op, &identity.CreateUserInput{Account: acct, Name: name}))(f.t)
}

func (f *fixture) key(user string) *identity.NewAccessKey {
	f.t.Helper()
	return must(f.CreateAccessKey(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: user}))(f.t)
}

// allow gives a user an inline policy that allows the action on everything.
func (f *fixture) allow(user, policy, action string) {
	f.t.Helper()
	f.ok(f.PutUserPolicy(f.ctx, f.op, &identity.PolicyInput{Account: acct, Entity: user, Name: policy, Document: allowing(action)}))
}

func allowing(action string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*"}]}`
}

// subject is who the access key authenticates on the service.
func subject(t testing.TB, s *identity.Service, id string) *iam.Subject {
	t.Helper()
	c, err := s.Lookup(t.Context(), id)
	if err != nil {
		t.Fatalf("look up: %v", err)
	}
	return c.Principal.(*iam.Subject)
}

// unknown checks that the access key authenticates nobody.
func unknown(t testing.TB, s *identity.Service, id string) {
	t.Helper()
	if _, err := s.Lookup(t.Context(), id); !errors.Is(err, sigv4.ErrUnknownKey) {
		t.Errorf("look up: got %v, want %v", err, sigv4.ErrUnknownKey)
	}
}

// signed is the caller that a transport makes of who signed with the key.
func (f *fixture) signed(id string) identity.Caller {
	f.t.Helper()
	return identity.Caller{Subject: subject(f.t, f.Service, id), Auth: "sigv4", Region: "eu-central-1", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256"}
}

// entry is what tests look at of an audit entry.
type entry struct {
	Op, PCI, Outcome, Result, Detail string
	Who                              struct{ Type, Name, Auth string }
	Res                              struct{ Kind, Key string }
}

// last is the newest audit entry, after n have been written since the mark.
func (f *fixture) last(mark, n int) entry {
	f.t.Helper()
	lines := f.store.Entries()
	if len(lines) != mark+n {
		f.t.Fatalf("got %d new entries, want %d:\n%s", len(lines)-mark, n, strings.Join(lines[mark:], "\n"))
	}
	var e entry
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		f.t.Fatal(err)
	}
	return e
}

func (f *fixture) mark() int { return len(f.store.Entries()) }

// newEmpty is a fixture without accounts.
func newEmpty(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		t: t, ctx: t.Context(), store: identitytest.NewStore(), secrets: identitytest.NewSecrets(), clock: &clock{t: start}, op: operator(),
	}
	f.Service = f.node("n1")
	return f
}
