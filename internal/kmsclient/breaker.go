package kmsclient

import (
	"sync"
	"time"
)

// health is what the outcome of a request says about a Region.
type health int

const (
	unknown   health = iota // nothing: the request was not sent, or given up early
	answering               // KMS answered, if only to refuse
	failing                 // it failed, did not answer in time, or somebody else answered
)

// breakerState is a label of the metrics.
type breakerState int

const (
	closed   breakerState = iota
	open                  // nobody may ask
	halfOpen              // one request finds out
	breakerStates
)

func (s breakerState) String() string { return [...]string{"closed", "open", "half_open"}[s] }

// breaker keeps requests from a Region that does not answer. It opens after so many
// failures in a row, and after a while lets a single request find out whether to
// close. It is safe for concurrent use.
//
// It is our own because those that there are take no clock and do not tell for how
// long they stay open.
type breaker struct {
	failures int
	openFor  time.Duration
	now      func() time.Time
	changed  func(from, to breakerState) // called with mu held

	mu    sync.Mutex // guards all below
	state breakerState
	run   int       // failures in a row
	until time.Time // when an open one may be asked again
	round uint64    // counts changes of state: requests of an earlier one have no say
}

// refuses is for how long nobody may ask; 0 if one may.
func (b *breaker) refuses() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusal()
}

// refusal is for callers that hold b.mu.
func (b *breaker) refusal() time.Duration {
	switch b.state {
	case open:
		return max(b.until.Sub(b.now()), 0)
	case halfOpen: // until the one who asks knows
		return min(b.openFor, defaultRetryAfter)
	default:
		return 0
	}
}

// ask asks for leave to send a request. If wait is 0, there is leave, and the
// caller calls done with what came of it, once.
func (b *breaker) ask() (done func(health), wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := b.refusal(); wait > 0 {
		return nil, wait
	}
	if b.state == open {
		b.to(halfOpen)
	}
	round := b.round
	return func(h health) { b.done(round, h) }, 0
}

func (b *breaker) done(round uint64, h health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if round != b.round {
		return
	}
	switch {
	case b.state == halfOpen && h == unknown: // the next one finds out
		b.until = b.now()
		b.to(open)
	case h == failing:
		if b.run++; b.state == halfOpen || b.run >= b.failures {
			b.until = b.now().Add(b.openFor)
			b.to(open)
		}
	case h == answering:
		b.run = 0
		if b.state == halfOpen {
			b.to(closed)
		}
	}
}

// to changes the state. The caller holds b.mu.
func (b *breaker) to(s breakerState) {
	from := b.state
	b.state = s
	b.round++
	b.changed(from, s)
}
