package identity_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cardea/internal/identity"
)

var attacker = netip.MustParseAddr("192.0.2.7")

func (f *fixture) failed(s *identity.Service, id string, times int) {
	f.t.Helper()
	for range times {
		f.ok(s.Failed(f.ctx, id, attacker))
	}
}

func TestRepeatedFailuresLockAnAccessKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id, second := f.key("bob").ID, f.key("bob").ID
	n2 := f.node("n2")
	mark := f.mark()
	f.failed(f.Service, id, 9)
	subject(t, f.Service, id)
	if f.mark() != mark {
		t.Error("a failure that locks nothing is recorded: that is the transport's")
	}
	f.failed(f.Service, id, 1)
	unknown(t, f.Service, id)
	subject(t, f.Service, second)
	e := f.last(mark, 1)
	if e.Op != "identity.lockout" || e.PCI != "10.2.1.4" || e.Res.Key != id || e.Who.Type != "system" ||
		e.Detail != "10 failures in a row: locked until 2026-11-22T08:30:00Z" || !strings.Contains(f.store.Entries()[mark], attacker.String()) {
		t.Errorf("got entry %+v", e)
	}
	f.failed(f.Service, id, 20) // of a locked key: nothing more to record
	f.last(mark, 1)

	// The lock holds on other nodes and after a restart.
	f.ok(n2.Refresh(f.ctx))
	unknown(t, n2, id)
	unknown(t, f.node("n3"), id)
	l := must(f.ListAccessKeys(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
	for _, k := range l.Items {
		if want := map[bool]time.Time{true: start.Add(30 * time.Minute)}[k.ID == id]; !k.LockedUntil.Equal(want) {
			t.Errorf("locked until %v, want %v", k.LockedUntil, want)
		}
	}
	f.clock.advance(30*time.Minute - time.Second)
	unknown(t, f.Service, id)
	f.clock.advance(time.Second)
	subject(t, f.Service, id)
	subject(t, n2, id)
	f.failed(f.Service, id, 9)
	subject(t, f.Service, id)
}

func TestSuccessEndsARowOfFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	for range 3 {
		f.failed(f.Service, id, 9)
		f.user(fmt.Sprint("u", f.mark())) // so that the key is put together anew
		subject(t, f.Service, id)
		f.Succeeded(id)
	}
	subject(t, f.Service, id)
	f.failed(f.Service, id, 9)
	f.clock.advance(16 * time.Minute) // beyond the window
	f.failed(f.Service, id, 9)
	subject(t, f.Service, id)
	f.failed(f.Service, id, 1)
	unknown(t, f.Service, id)
	f.Succeeded(id) // a request that was under way does not unlock
	unknown(t, f.Service, id)
}

func TestUnlockedKeyWorksAndIsCountedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	f.user("eve")
	id := f.key("bob").ID
	f.failed(f.Service, id, 10)
	unknown(t, f.Service, id)
	err := f.UnlockAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "eve", ID: id})
	refused(t, err, identity.CodeNoSuchEntity, "The Access Key with id "+id+" cannot be found.")
	unknown(t, f.Service, id)
	f.ok(f.UnlockAccessKey(f.ctx, f.op, &identity.AccessKeyInput{Account: acct, User: "bob", ID: id}))
	subject(t, f.Service, id)
	f.failed(f.Service, id, 10)
	unknown(t, f.Service, id)
}

func TestSessionsAreLockedToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	key := f.key("bob").ID
	f.role(acct, "app", trusting("", bob.ARN))
	s := f.assume(f.signed(key), identity.AssumeRoleInput{RoleARN: roleARN("app")})
	f.failed(f.Service, s.AccessKeyID, 10)
	unknown(t, f.Service, s.AccessKeyID)
	subject(t, f.Service, key)
	f.clock.advance(30 * time.Minute)
	subject(t, f.Service, s.AccessKeyID)
}

func TestFailuresOfUnknownKeysAreNotCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mark := f.mark()
	f.failed(f.Service, "AKIAABCDEFGHIJKLMNOP", 30)
	f.failed(f.Service, strings.Repeat("x", 128), 30)
	f.Succeeded("AKIAABCDEFGHIJKLMNOP")
	if f.mark() != mark {
		t.Error("a lockout of nothing was recorded")
	}
}

func TestLockoutThatCannotBeRecordedIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	f.failed(f.Service, id, 9)
	down := errors.New("database is gone")
	f.store.Fail(func(string) error { return down })
	for range 3 {
		if err := f.Failed(f.ctx, id, attacker); !errors.Is(err, down) {
			t.Errorf("got %v", err)
		}
	}
	f.store.Fail(nil)
	subject(t, f.Service, id)
	f.failed(f.Service, id, 1)
	unknown(t, f.Service, id)
}

func TestSucceededAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	subject(t, f.Service, id)
	if n := testing.AllocsPerRun(100, func() { f.Succeeded(id) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}
