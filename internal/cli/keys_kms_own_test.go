package cli

import (
	"testing"
	"time"

	"cardea/internal/audit"
)

func TestOnlyRequestsOfThisRunAreItsOwn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	o := newOwnCalls(now)
	o.answered("ours")
	entry := func(id string, at time.Time) *audit.Entry {
		return &audit.Entry{RequestID: id, Time: at, Call: &audit.Call{}}
	}
	if o.take(entry("another's", now)) || o.take(entry("ours", now.Add(-time.Hour))) || o.take(&audit.Entry{RequestID: "ours", Time: now}) {
		t.Error("what another asked, what was asked before this run, or what is no call is taken for our own")
	}
	if !o.take(entry("ours", now.Add(-time.Second))) {
		t.Error("our own is not known, by a clock that is a second behind")
	}
	if o.take(entry("ours", now)) {
		t.Error("a second request under the id of ours is taken for our own")
	}
	if (*ownCalls)(nil).take(entry("ours", now)) {
		t.Error("no run has requests")
	}
}
