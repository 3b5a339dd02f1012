package custodian

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }
func newClock() *clock                   { return &clock{time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }
func fast(c *clock) GuardOptions         { return GuardOptions{Now: c.now, Rate: 1e6, Burst: 1e6} }

func newGuard(t *testing.T, o GuardOptions) *Guard {
	t.Helper()
	g, err := NewGuard(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mustAllow(t *testing.T, g *Guard, name string) {
	t.Helper()
	if err := g.Allow("acme", name); err != nil {
		t.Fatalf("allow %s: %v", name, err)
	}
}

func TestGuardCountsFailuresInARowOnly(t *testing.T) {
	t.Parallel()
	c := newClock()
	o := fast(c)
	o.MaxFailures, o.Window = 2, time.Minute
	g := newGuard(t, o)
	for range 3 { // each too long after the one before
		if g.Fail("acme", "a") {
			t.Fatal("locked out by failures that are far apart")
		}
		c.advance(time.Minute + 1)
	}
	g.Fail("acme", "a")
	c.advance(time.Minute)
	if !g.Fail("acme", "a") {
		t.Error("two failures a minute apart did not lock out")
	}
}

func TestGuardForgets(t *testing.T) {
	t.Parallel()
	c := newClock()
	o := fast(c)
	o.MaxFailures = 2
	g := newGuard(t, o)
	g.Fail("acme", "a")
	g.Fail("acme", "a")
	wantError(t, g.Allow("acme", "a"), nil, "locked out after repeated failures until 2026-11-01T12:30:00Z")
	g.Forget("acme", "a")
	g.Forget("acme", "nobody")
	mustAllow(t, g, "a")
	if g.Fail("acme", "a") {
		t.Error("failures from before were not forgotten")
	}
	if !g.Fail("acme", "a") {
		t.Error("not locked out again")
	}
}

func TestGuardLimitsTheRate(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := newGuard(t, GuardOptions{Now: c.now, Rate: 0.5, Burst: 3})
	for range 3 {
		mustAllow(t, g, "192.0.2.1")
	}
	for range 3 { // a refusal does not count
		err := g.Allow("acme", "192.0.2.1")
		wantError(t, err, nil, "too many requests: try again in 2s")
		var limited *RateLimitedError
		if !errors.As(err, &limited) || limited.RetryAfter != 2*time.Second {
			t.Errorf("got %#v", err)
		}
	}
	mustAllow(t, g, "192.0.2.2")
	if err := g.Allow("other", "192.0.2.1"); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	c.advance(2 * time.Second)
	mustAllow(t, g, "192.0.2.1")
	wantError(t, g.Allow("acme", "192.0.2.1"), nil, "too many requests: try again in 2s")
}

func TestGuardLocksOutAfterRepeatedFailures(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 6, 10} {
		c := newClock()
		o := fast(c)
		o.MaxFailures = most
		g := newGuard(t, o)
		for i := 1; i <= most; i++ {
			mustAllow(t, g, "custodian/alice")
			if locked := g.Fail("acme", "custodian/alice"); locked != (i == most) {
				t.Fatalf("failure %d of %d: locked out %v", i, most, locked)
			}
		}
		err := g.Allow("acme", "custodian/alice")
		wantError(t, err, nil, "locked out after repeated failures until 2026-11-01T12:30:00Z")
		var out *LockedOutError
		if !errors.As(err, &out) || !out.Until.Equal(c.t.Add(30*time.Minute)) {
			t.Errorf("got %#v", err)
		}
		mustAllow(t, g, "custodian/bob")
		if err := g.Allow("other", "custodian/alice"); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		// Neither further failures nor a success move the end.
		if g.Fail("acme", "custodian/alice") {
			t.Error("locked out while locked out")
		}
		g.Success("acme", "custodian/alice")
		c.advance(30*time.Minute - time.Nanosecond)
		if err := g.Allow("acme", "custodian/alice"); !errors.As(err, &out) {
			t.Errorf("just before the end: got %v", err)
		}
		c.advance(time.Nanosecond)
		mustAllow(t, g, "custodian/alice")
		// And the next row of failures counts from the start.
		for i := 1; i <= most; i++ {
			if locked := g.Fail("acme", "custodian/alice"); locked != (i == most) {
				t.Fatalf("again, failure %d of %d: locked out %v", i, most, locked)
			}
		}
	}
}

func TestSuccessEndsARowOfFailures(t *testing.T) {
	t.Parallel()
	g := newGuard(t, fast(newClock()))
	for range 10 {
		for range 5 {
			if g.Fail("acme", "192.0.2.1") {
				t.Fatal("locked out")
			}
		}
		g.Success("acme", "192.0.2.1")
	}
	mustAllow(t, g, "192.0.2.1")
}

func TestGuardCountsAnIPv6NetworkAsOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:0db8:0000:0000:0000:0000:0000:0002", true},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"custodian/alice", "custodian/bob", false},
	} {
		o := fast(newClock())
		o.MaxFailures = 1
		g := newGuard(t, o)
		g.Fail("acme", c.a)
		if locked := g.Allow("acme", c.b) != nil; locked != c.same {
			t.Errorf("%s and %s: counted as one: %v", c.a, c.b, locked)
		}
	}
}

func TestGuardMemoryIsBounded(t *testing.T) {
	t.Parallel()
	o := fast(newClock())
	o.Entries = 100
	g := newGuard(t, o)
	for range 6 {
		g.Fail("acme", "192.0.2.1")
	}
	long := strings.Repeat("x", 1<<20)
	for i := range 1000 {
		_ = g.Allow("acme", fmt.Sprintf("10.0.%d.%d", i/256, i%256))
		_ = g.Allow(fmt.Sprintf("tenant-%d-%s", i, long), long)
	}
	// The flood did not wash out who is locked out.
	if g.Allow("acme", "192.0.2.1") == nil {
		t.Error("no longer locked out after 2000 others")
	}
	if len(g.entries) != 100 || g.recent.Len() != 100 {
		t.Errorf("%d entries, %d in the list; want 100", len(g.entries), g.recent.Len())
	}
	for s := range g.entries {
		if len(s.tenant) > maxTenant || len(s.name) > maxTenant {
			t.Errorf("names of %d and %d bytes are kept", len(s.tenant), len(s.name))
		}
	}
}

func TestGuardFullOfLockoutsStillCounts(t *testing.T) {
	t.Parallel()
	o := fast(newClock())
	o.Entries, o.MaxFailures = 50, 1
	g := newGuard(t, o)
	for i := range 200 {
		name := fmt.Sprintf("10.0.0.%d", i)
		if !g.Fail("acme", name) || g.Allow("acme", name) == nil {
			t.Fatalf("subject %d is not locked out", i)
		}
	}
	if len(g.entries) != 50 {
		t.Errorf("%d entries, want 50", len(g.entries))
	}
}

func TestLockoutsSurviveARestart(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := newGuard(t, fast(c))
	for range 6 {
		g.Fail("acme", "custodian/alice")
	}
	for range 5 {
		g.Fail("acme", "2001:db8::1")
	}
	mustAllow(t, g, "custodian/bob")
	all := g.Export()
	want := []Lockout{
		{"acme", "custodian/alice", 0, c.t.Add(30 * time.Minute)},
		{"acme", "2001:db8::/64", 5, time.Time{}},
	}
	if !reflect.DeepEqual(all, want) {
		t.Fatalf("export: got %+v, want %+v", all, want)
	}
	c.advance(10 * time.Minute)
	again := newGuard(t, fast(c))
	again.Import(all)
	wantError(t, again.Allow("acme", "custodian/alice"), nil, "locked out after repeated failures until 2026-11-01T12:30:00Z")
	mustAllow(t, again, "2001:db8::2")
	if !again.Fail("acme", "2001:db8::2") {
		t.Error("the failures before the restart do not count")
	}
	c.advance(time.Hour)
	if left := again.Export(); len(left) != 0 {
		t.Errorf("past lockouts are exported: %+v", left)
	}
}

func TestImportCutsWhatCannotBe(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := newGuard(t, fast(c))
	g.Import([]Lockout{
		{"acme", "a", 1 << 30, time.Time{}},
		{"acme", "b", -5, c.t.AddDate(100, 0, 0)},
		{"acme", "c", 0, c.t.Add(-time.Hour)},
	})
	mustAllow(t, g, "a")
	if !g.Fail("acme", "a") {
		t.Error("a: too many failures were forgotten instead of cut")
	}
	wantError(t, g.Allow("acme", "b"), nil, "locked out after repeated failures until 2026-11-01T12:30:00Z")
	mustAllow(t, g, "c")
}

func TestNewGuardRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    GuardOptions
		want string
	}{
		{GuardOptions{MaxFailures: 11}, "lockout after 11 failures: want 1 to 10 (PCI DSS 8.3.4)"},
		{GuardOptions{MaxFailures: -1}, "lockout after -1 failures: want 1 to 10 (PCI DSS 8.3.4)"},
		{GuardOptions{LockoutFor: time.Minute}, "lockout for 1m0s: want at least 30m0s (PCI DSS 8.3.4)"},
		{GuardOptions{Rate: -1}, "rate -1, burst 10 and entries 10000: none may be negative"},
		{GuardOptions{Burst: -1}, "rate 1, burst -1 and entries 10000: none may be negative"},
		{GuardOptions{Entries: -1}, "rate 1, burst 10 and entries -1: none may be negative"},
		{GuardOptions{Window: -time.Second}, "window of -1s: it may not be negative"},
	} {
		_, err := NewGuard(c.o)
		wantError(t, err, nil, c.want)
	}
}

// However requests, failures and successes come, nobody fails more often than
// allowed without half an hour between.
func TestNobodyTriesMoreOftenThanAllowed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		o := fast(c)
		o.MaxFailures = rapid.IntRange(1, 10).Draw(t, "max")
		g, err := NewGuard(o)
		if err != nil {
			t.Fatal(err)
		}
		row := 0
		var lastFailure time.Time
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			c.advance(time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
			if g.Allow("acme", "a") != nil {
				if row < o.MaxFailures {
					t.Fatalf("locked out after %d failures", row)
				}
				continue
			}
			if row >= o.MaxFailures {
				if c.t.Sub(lastFailure) < 30*time.Minute {
					t.Fatalf("allowed %s after the last of %d failures", c.t.Sub(lastFailure), row)
				}
				row = 0
			}
			if rapid.Float64Range(0, 1).Draw(t, "luck") < 0.1 {
				g.Success("acme", "a")
				row = 0
			} else {
				g.Fail("acme", "a")
				row, lastFailure = row+1, c.t
			}
		}
	})
}

func TestGuardUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	g := newGuard(t, GuardOptions{Entries: 10})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				name := fmt.Sprintf("10.0.0.%d", (i+w)%20)
				_ = g.Allow("acme", name)
				g.Fail("acme", name)
				g.Success("acme", name)
				if i%100 == 0 {
					g.Import(g.Export())
				}
			}
		})
	}
	wg.Wait()
	if len(g.entries) != 10 {
		t.Errorf("%d entries, want 10", len(g.entries))
	}
}
