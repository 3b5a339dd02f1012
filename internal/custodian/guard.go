package custodian

import (
	"container/list"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of PCI DSS 8.3.4: at most ten attempts, then at least half an hour.
const (
	mostFailures  = 10
	leastLockout  = 30 * time.Minute
	evictionTries = 16
)

// GuardOptions of a [Guard]. The zero value is ready to use.
type GuardOptions struct {
	Now         func() time.Time // default time.Now
	Rate        float64          // requests a second of one subject; default 1
	Burst       int              // how many it may make at once; default 10
	MaxFailures int              // consecutive failures until lockout; default 6, at most 10
	LockoutFor  time.Duration    // default and least 30 min
	Window      time.Duration    // longest time between two failures in a row; default without end
	Entries     int              // subjects remembered; default 10,000
}

// Guard slows down and locks out whoever guesses at a tenant's custodian
// endpoints (PCI DSS 8.3.4). It counts per tenant and subject: a client address
// before authentication, "custodian/" and the name after it. IPv6 addresses count
// by their /64, which is what one client has. Memory is bounded: the subject that
// was seen longest ago is forgotten first, but rather one that is not locked out.
//
// It is safe for concurrent use.
type Guard struct {
	o GuardOptions

	mu      sync.Mutex // guards all below
	entries map[subject]*list.Element
	recent  *list.List // of *entry; front = seen last
}

type subject struct{ tenant, name string }

type entry struct {
	subject  subject
	limiter  *rate.Limiter
	failures int
	failed   time.Time // the last time
	until    time.Time // of the lockout
}

// RateLimitedError refuses a request that comes too fast.
type RateLimitedError struct{ RetryAfter time.Duration }

func (e *RateLimitedError) Error() string {
	return fmt.Sprintf("too many requests: try again in %s", e.RetryAfter.Round(time.Millisecond))
}

// LockedOutError refuses every request until a time.
type LockedOutError struct{ Until time.Time }

func (e *LockedOutError) Error() string {
	return "locked out after repeated failures until " + e.Until.UTC().Format(time.RFC3339)
}

// NewGuard refuses options that PCI DSS 8.3.4 does not allow.
func NewGuard(o GuardOptions) (*Guard, error) {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if o.Rate == 0 {
		o.Rate = 1
	}
	if o.Burst == 0 {
		o.Burst = 10
	}
	if o.MaxFailures == 0 {
		o.MaxFailures = 6
	}
	if o.LockoutFor == 0 {
		o.LockoutFor = leastLockout
	}
	if o.Entries == 0 {
		o.Entries = 10_000
	}
	if o.Rate < 0 || o.Burst < 0 || o.Entries < 0 {
		return nil, fmt.Errorf("rate %v, burst %d and entries %d: none may be negative", o.Rate, o.Burst, o.Entries)
	}
	if o.Window < 0 {
		return nil, fmt.Errorf("window of %s: it may not be negative", o.Window)
	}
	if o.MaxFailures < 1 || o.MaxFailures > mostFailures {
		return nil, fmt.Errorf("lockout after %d failures: want 1 to %d (PCI DSS 8.3.4)", o.MaxFailures, mostFailures)
	}
	if o.LockoutFor < leastLockout {
		return nil, fmt.Errorf("lockout for %s: want at least %s (PCI DSS 8.3.4)", o.LockoutFor, leastLockout)
	}
	return &Guard{o: o, entries: map[subject]*list.Element{}, recent: list.New()}, nil
}

// Allow takes one request of the subject: nil, [*RateLimitedError] or
// [*LockedOutError]. A refused request does not count.
func (g *Guard) Allow(tenant, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	e := g.entry(tenant, name)
	if now.Before(e.until) {
		return &LockedOutError{Until: e.until}
	}
	r := e.limiter.ReserveN(now, 1)
	if d := r.DelayFrom(now); d > 0 {
		r.CancelAt(now)
		return &RateLimitedError{RetryAfter: d}
	}
	return nil
}

// Fail counts a failure and reports whether the subject is locked out by it. A
// lockout that has begun is not made longer.
func (g *Guard) Fail(tenant, name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	e := g.entry(tenant, name)
	if now.Before(e.until) {
		return false
	}
	if g.o.Window > 0 && now.Sub(e.failed) > g.o.Window {
		e.failures = 0
	}
	e.failures, e.failed = e.failures+1, now
	if e.failures < g.o.MaxFailures {
		return false
	}
	e.failures, e.until = 0, now.Add(g.o.LockoutFor)
	return true
}

// Success ends a row of failures. It does not end a lockout.
func (g *Guard) Success(tenant, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entry(tenant, name).failures = 0
}

// Forget ends the lockout and the row of failures of a subject, as when its
// identity has been confirmed (PCI DSS 8.3.4).
func (g *Guard) Forget(tenant, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := subject{clip(tenant), clip(network(name))}
	if el, ok := g.entries[s]; ok {
		delete(g.entries, s)
		g.recent.Remove(el)
	}
}

// Lockout is what a restart must not forget about a subject.
type Lockout struct {
	Tenant   string
	Name     string
	Failures int       // in a row
	Until    time.Time // of the lockout; zero or past = none
}

// Export lists the subjects with failures or a lockout, the one seen longest ago
// first.
func (g *Guard) Export() []Lockout {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	var all []Lockout
	for el := g.recent.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if e.failures > 0 || now.Before(e.until) {
			all = append(all, Lockout{e.subject.tenant, e.subject.name, e.failures, e.until})
		}
	}
	return all
}

// Import adds what Export returned. What this Guard's options would not have led
// to is cut down to them, so that a damaged list cannot lock anyone out for longer.
func (g *Guard) Import(all []Lockout) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	for _, l := range all {
		e := g.entry(l.Tenant, l.Name)
		e.failures, e.failed = max(e.failures, min(l.Failures, g.o.MaxFailures-1)), now
		until := l.Until
		if most := now.Add(g.o.LockoutFor); until.After(most) {
			until = most
		}
		if until.After(e.until) {
			e.until = until
		}
	}
}

// entry finds or makes the entry of a subject and marks it as seen. The caller
// holds g.mu.
func (g *Guard) entry(tenant, name string) *entry {
	s := subject{clip(tenant), clip(network(name))}
	if el, ok := g.entries[s]; ok {
		g.recent.MoveToFront(el)
		return el.Value.(*entry)
	}
	if len(g.entries) >= g.o.Entries {
		g.evict()
	}
	e := &entry{subject: s, limiter: rate.NewLimiter(rate.Limit(g.o.Rate), g.o.Burst)}
	g.entries[s] = g.recent.PushFront(e)
	return e
}

// clip bounds the memory of an entry, whose names come from requests.
func clip(s string) string { return strings.Clone(s[:min(len(s), maxTenant)]) }

// evict forgets one subject: of the last few the first that is not locked out,
// or else the last. The few bound the work when a flood has locked out many.
func (g *Guard) evict() {
	victim, now := g.recent.Back(), g.o.Now()
	for el, tries := victim, 0; el != nil && tries < evictionTries; el, tries = el.Prev(), tries+1 {
		if !now.Before(el.Value.(*entry).until) {
			victim = el
			break
		}
	}
	if victim != nil {
		delete(g.entries, victim.Value.(*entry).subject)
		g.recent.Remove(victim)
	}
}

// network is the /64 of an IPv6 address, in one spelling; other names are
// themselves.
func network(name string) string {
	a, err := netip.ParseAddr(name)
	if err != nil {
		return name
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return name
	}
	return p.String()
}
