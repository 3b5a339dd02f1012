package retention

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// MaxNames is how many different names of a kind are counted exactly. Of more than
// that the most frequent are kept by the space-saving algorithm (Metwally, Agrawal,
// El Abbadi, ICDT 2005): every name that has more than 1/MaxNames of all calls is
// among them, and Over says by how much its count may be too high.
const MaxNames = 10_000

// Count is what a name did.
type Count struct {
	Name    string    `json:"name"`
	Calls   int64     `json:"calls"`
	Failed  int64     `json:"failed"`         // of them, refused or without success
	Records int64     `json:"records"`        // cardholder records that they gave out in clear
	Over    int64     `json:"over,omitempty"` // at most so many of the calls are others'
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`

	place int
}

// top counts by name in bounded memory.
type top struct {
	limit  int
	names  map[string]*Count
	least  leastFirst
	merged int64 // names that gave way to another
}

func newTop(limit int) *top { return &top{limit: limit, names: map[string]*Count{}} }

func (t *top) add(name string, at time.Time, failed bool, records int64) {
	c := t.names[name]
	switch {
	case c != nil:
	case len(t.names) < t.limit:
		c = &Count{Name: name, First: at}
		t.names[name] = c
		heap.Push(&t.least, c)
	default:
		// The least frequent gives its place and, as nobody knows how often the new one
		// came before, its count. What else is known of it is not the new one's.
		c = t.least[0]
		delete(t.names, c.Name)
		*c = Count{Name: name, Calls: c.Calls, Over: c.Calls, First: at, place: c.place}
		t.names[name] = c
		t.merged++
	}
	c.Calls++
	c.Records += records
	if failed {
		c.Failed++
	}
	if at.Before(c.First) {
		c.First = at
	}
	if at.After(c.Last) {
		c.Last = at
	}
	heap.Fix(&t.least, c.place)
}

// list gives the n with the most calls.
func (t *top) list(n int) []Count {
	all := make([]Count, 0, len(t.names))
	for _, c := range t.names {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Name, b.Name)) })
	return all[:min(n, len(all))]
}

// leastFirst is a heap of counts with the fewest calls on top.
type leastFirst []*Count

func (h leastFirst) Len() int           { return len(h) }
func (h leastFirst) Less(i, j int) bool { return h[i].Calls < h[j].Calls }
func (h leastFirst) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *leastFirst) Push(x any) {
	c := x.(*Count)
	c.place = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *leastFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
