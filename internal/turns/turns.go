// Package turns has requests that begin anew on one resource do so one after the other.
// It promises that two of them never try at once.
package turns

import (
	"hash/maphash"
	"sync"
)

// Turns are those of all resources of a node. Of many requests that change a resource
// at once each change makes the others begin anew: all together, the last would try as
// often as there are others. Requests of other nodes, and those that try for the first
// time, can still come in between. It is safe for concurrent use.
type Turns struct {
	seed  maphash.Seed
	locks [64]sync.Mutex // resources with the same hash share one
}

// New makes Turns of which none is taken.
func New() *Turns { return &Turns{seed: maphash.MakeSeed()} }

// Take waits for the resource's turn, which lasts until done is called. Whoever has a
// turn must not take another: resources may share one.
func (t *Turns) Take(resource string) (done func()) {
	l := &t.locks[maphash.String(t.seed, resource)%uint64(len(t.locks))]
	l.Lock()
	return l.Unlock
}
