package cli

import (
	"sync"
	"time"

	"cardea/internal/audit"
)

// notCounted is what the help of commands says that have ownCalls.
const notCounted = "Who used a key, and for what, is told without what this run itself has asked the key service, which is the installation's own; runs before it count."

// ownCalls are the requests that this run has sent to a key service, by the ids that the
// key service gave them in its answers: what is not use of a key, but the question who
// used it. It is safe for concurrent use; one that is nil knows of none.
type ownCalls struct {
	since time.Time

	mu  sync.Mutex
	ids map[string]bool
}

// newOwnCalls begins a run at a time.
func newOwnCalls(since time.Time) *ownCalls { return &ownCalls{since: since, ids: map[string]bool{}} }

// answered notes a request that was answered.
func (o *ownCalls) answered(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids[id] = true
}

// take reports whether an entry is that of a request of this run, once for each: a
// client may choose the id of its request, and could take one that was used before.
func (o *ownCalls) take(e *audit.Entry) bool {
	if o == nil || e.Call == nil || e.Time.Before(o.since.Add(-clocksDiffer)) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	is := o.ids[e.RequestID]
	delete(o.ids, e.RequestID)
	return is
}
