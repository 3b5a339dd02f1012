package lockerapi

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"sync"
	"time"

	"cardea/internal/vault"
)

// ReplayPolicy says whether a tenant's signed requests may be used again. The
// locker's envelope binds a signature to nothing but its body: a captured
// retrieve works again, as a delete too. A client that can protects itself by
// members of the JWS protected header, which leave the body as it is.
type ReplayPolicy struct {
	// Window above 0 asks every request for iat (seconds since the epoch, at most
	// Window away from now) and jti (8 to 128 visible ASCII characters, not seen
	// before). 0 asks for nothing. At most 24 h; a request is remembered for twice
	// the window.
	Window time.Duration
	// Bind asks for htm (the method), htu (the path, nothing else) and aud (the
	// tenant). They are checked wherever they are present; Bind makes them
	// mandatory.
	Bind bool
}

const maxReplayWindow = 24 * time.Hour

// replayClaims are the members of a JWS header that protect it.
type replayClaims struct {
	iat                *uint64
	jti, htm, htu, aud string
	bound              [3]bool // htm, htu, aud are there
}

func (c *replayClaims) member(d *decoder, name string) *fault {
	switch name {
	case "iat":
		v, f := d.value()
		if f != nil {
			return f
		}
		n, err := strconv.ParseUint(string(v), 10, 53)
		if err != nil {
			return typeFault(name, "whole seconds since the epoch")
		}
		c.iat = &n
		return nil
	case "jti":
		return d.id(name, &c.jti)
	case "htm":
		c.bound[0] = true
		return d.id(name, &c.htm)
	case "htu":
		c.bound[1] = true
		return d.id(name, &c.htu)
	}
	c.bound[2] = true
	return d.id(name, &c.aud)
}

// binding is what a request is, for claims to be compared with.
type binding struct{ method, path, tenant string }

// replayReason is the bounded label under which a refused replay is counted.
type replayReason string

const (
	replayMissing replayReason = "missing"
	replayStale   replayReason = "stale"
	replaySeen    replayReason = "seen"
	replayBound   replayReason = "binding"
	replayFull    replayReason = "full"
)

// replayError is a verified request that is refused because it was or may have
// been answered before.
type replayError struct {
	reason replayReason
	detail string
}

func (e *replayError) Error() string { return "replay protection: " + e.detail }
func (e *replayError) Unwrap() error { return vault.ErrDenied }

// maxSeen bounds the memory of one tenant's replay cache, about 40 bytes an
// entry in each of two generations. Only verified requests take a place.
const maxSeen = 1 << 20

// replayCache remembers which requests of one tenant were seen. It is of one
// node: a request can be replayed once on each other node within the window.
type replayCache struct {
	mu sync.Mutex // guards what follows
	// Two generations, each as long as a request can stay fresh (the window on
	// both sides of now): what was seen is in one of them as long as it matters.
	now, before map[[16]byte]struct{}
	started     time.Time
	limit       int
}

func newReplayCache() *replayCache {
	return &replayCache{now: map[[16]byte]struct{}{}, limit: maxSeen}
}

// check accepts a verified request at most once.
func (r *replayCache) check(p ReplayPolicy, c replayClaims, b binding, now time.Time) *replayError {
	for i, claim := range [...]struct{ name, got, want string }{
		{"htm", c.htm, b.method}, {"htu", c.htu, b.path}, {"aud", c.aud, b.tenant},
	} {
		switch {
		case c.bound[i] && claim.got != claim.want:
			return &replayError{replayBound, claim.name + " is of another request"}
		case !c.bound[i] && p.Bind:
			return &replayError{replayMissing, claim.name + " is missing"}
		}
	}
	if p.Window <= 0 {
		return nil
	}
	if c.iat == nil || !validJTI(c.jti) {
		return &replayError{replayMissing, "iat is missing, or jti is not 8 to 128 visible ASCII characters"}
	}
	issued := time.Unix(int64(*c.iat), 0)
	if off := now.Sub(issued); off > p.Window || off < -p.Window {
		return &replayError{replayStale, fmt.Sprintf("iat is more than %s away from now", p.Window)}
	}
	sum := sha256.Sum256([]byte(c.jti))
	return r.see([16]byte(sum[:16]), p.Window, now)
}

func (r *replayCache) see(key [16]byte, window time.Duration, now time.Time) *replayError {
	r.mu.Lock()
	defer r.mu.Unlock()
	// One second more: iat is whole seconds.
	generation := 2*window + time.Second
	switch age := now.Sub(r.started); {
	case age >= 2*generation:
		r.now, r.before, r.started = map[[16]byte]struct{}{}, nil, now
	case age >= generation:
		r.now, r.before, r.started = map[[16]byte]struct{}{}, r.now, now
	}
	if _, ok := r.now[key]; ok {
		return &replayError{replaySeen, "jti was used before"}
	}
	if _, ok := r.before[key]; ok {
		return &replayError{replaySeen, "jti was used before"}
	}
	if len(r.now) >= r.limit {
		return &replayError{replayFull, "too many requests within the window"}
	}
	r.now[key] = struct{}{}
	return nil
}

func validJTI(s string) bool {
	if len(s) < 8 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
