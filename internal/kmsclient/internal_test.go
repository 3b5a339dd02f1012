package kmsclient

import (
	"testing"
	"time"
)

// TestCallsOfEarlierStatesHaveNoSay has requests that were sent before the breaker
// opened and come back after it.
func TestCallsOfEarlierStatesHaveNoSay(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := &breaker{failures: 1, openFor: time.Second, now: func() time.Time { return now }, changed: func(breakerState, breakerState) {}}
	ask := func() func(health) {
		t.Helper()
		done, wait := b.ask()
		if wait > 0 {
			t.Fatalf("refused for %s", wait)
		}
		return done
	}
	early, late, fail := ask(), ask(), ask()
	fail(failing)
	early(answering)
	if b.state != open || b.refuses() != time.Second {
		t.Errorf("an answer to an earlier request changes %s", b.state)
	}
	now = now.Add(time.Second)
	probe := ask()
	late(failing)
	if b.state != halfOpen {
		t.Errorf("a failure of an earlier request changes it to %s", b.state)
	}
	if _, wait := b.ask(); wait != time.Second {
		t.Errorf("a second one waits %s", wait)
	}
	probe(answering)
	if b.state != closed {
		t.Errorf("got %s", b.state)
	}
}

func TestWhoServesAKey(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	hold := start.Add(30 * time.Second)
	r := &route{sites: make([]*site, 3)}
	order := func(now time.Time, first int, probe bool) {
		t.Helper()
		o, p := r.order(now)
		if o[0] != first || p != probe || len(o) != 3 || o[0] == o[1] || o[1] == o[2] || o[0] == o[2] {
			t.Errorf("got %v %v, want %d first, %v", o, p, first, probe)
		}
	}
	settle := func(first, by int, probe bool, until time.Time, moved bool) {
		t.Helper()
		if r.settle(first, by, probe, until) != moved {
			t.Errorf("moved is not %v", moved)
		}
	}
	order(start, 0, false)
	settle(0, 0, false, hold, false)
	settle(0, -1, false, hold, false)
	order(start, 0, false)
	settle(0, 1, false, hold, true)
	order(start, 1, false)
	settle(0, 0, false, hold, false) // one that began before
	order(start, 1, false)
	settle(1, 2, false, hold, true) // the first replica has failed too
	order(start, 2, false)
	settle(2, 0, false, hold, true)
	order(start, 0, false)

	settle(0, 1, false, hold, true)
	order(hold, 0, true)
	order(hold, 1, false) // while the other one finds out
	later := hold.Add(30 * time.Second)
	settle(0, 1, true, later, false)
	order(hold, 1, false)
	order(later, 0, true)
	settle(0, -1, true, later.Add(time.Second), false) // given up
	order(later, 1, false)
	order(later.Add(time.Second), 0, true)
	settle(0, 0, true, later, true)
	order(later, 0, false)
}
