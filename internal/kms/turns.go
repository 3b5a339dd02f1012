package kms

import (
	"hash/maphash"
	"sync"
)

// turns has requests that begin anew on one resource do so one after the other. Of
// many that change a key at once each change makes the others begin anew: all
// together, the last would try as often as there are others. It is the node's
// alone: requests of other nodes, and those that try for the first time, can still
// come in between.
type turns struct {
	seed  maphash.Seed
	locks [64]sync.Mutex // resources with the same hash share one
}

// take waits for the resource's turn, which lasts until done is called.
func (t *turns) take(resource string) (done func()) {
	l := &t.locks[maphash.String(t.seed, resource)%uint64(len(t.locks))]
	l.Lock()
	return l.Unlock
}
