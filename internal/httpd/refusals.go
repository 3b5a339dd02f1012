package httpd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// RefusalLimits are how many refusals of strangers have an entry of their own in a
// minute. A zero field means the default.
type RefusalLimits struct {
	OfSource int // of one source and kind; default 20
	OfAll    int // of all together; default 300
}

// Limits of what is counted.
const (
	countedKinds = 256  // sources and kinds a minute that are counted apart; the rest are counted together
	keptCounts   = 4096 // while the log cannot be written; then further ones are added to the last
)

// Refusals keeps strangers from filling an audit log. A request that is refused
// before anybody is authenticated costs its sender nothing, so only the first
// refusals of a minute get an entry each; the others are counted, by source and
// kind, and each count becomes one entry (docs/spec/audit-entry.md, "Refusals of
// strangers"). A source is an IPv4 address or an IPv6 network of 64 bits, which is
// what one customer of a provider has.
//
// It is safe for concurrent use. What is counted is in memory until Flush writes
// it, so a crash loses at most the counts of the last minute, never an entry.
type Refusals struct {
	now    func() time.Time
	limits RefusalLimits

	mu     sync.Mutex // guards what follows; never held while an entry is written
	minute time.Time  // when the minute that is being counted began
	own    int        // entries of their own in this minute
	kinds  map[refusalKey]*refusals
	ended  []*refusals // of minutes that are over, not yet written
}

type refusalKey struct {
	source netip.Prefix // the zero Prefix: all that found no room
	kind   string
}

// others is the kind of refusals of any source, which are counted together.
const others = "other"

// refusals are those of one source and kind in a minute.
type refusals struct {
	key      refusalKey
	began    time.Time
	first    time.Time // of those counted
	last     time.Time
	own      int // that had an entry each
	counted  int
	byResult map[string]int
	write    func(ctx context.Context, counted string) error
}

// NewRefusals makes one for an audit log.
func NewRefusals(l RefusalLimits, now func() time.Time) *Refusals {
	l = RefusalLimits{OfSource: orDefault(l.OfSource, 20), OfAll: orDefault(l.OfAll, 300)}
	return &Refusals{now: now, limits: l, kinds: map[refusalKey]*refusals{}}
}

// Refuse sees to it that a refusal is in the log: by write, at once, or by counting
// it, for which counted is true. kind is what was asked for, and result the code of
// the refusal; both are from small closed sets.
//
// write writes the entry, of this refusal if counted is empty, else of many like it,
// of which counted tells; then its request is only the first of them. It is kept
// until that is written, so it must not hold on to the request. Its error is
// returned: the refusal is not in the log then.
func (r *Refusals) Refuse(ctx context.Context, ip netip.Addr, kind, result string, write func(ctx context.Context, counted string) error) (counted bool, err error) {
	if r.count(refusalKey{sourceOf(ip), kind}, result, write) {
		return true, nil
	}
	return false, write(ctx, "")
}

// count reports whether a refusal was counted, so that it needs no entry.
func (r *Refusals) count(key refusalKey, result string, write func(context.Context, string) error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.turn(now)
	k := r.kinds[key]
	if k == nil && len(r.kinds) >= countedKinds {
		key = refusalKey{kind: others}
		k = r.kinds[key]
	}
	if k == nil {
		k = &refusals{key: key, began: r.minute}
		r.kinds[key] = k
	}
	if k.own < r.limits.OfSource && r.own < r.limits.OfAll && key.source.IsValid() {
		k.own++
		r.own++
		return false
	}
	if k.counted == 0 {
		k.first, k.write, k.byResult = now, write, map[string]int{}
	}
	k.counted++
	k.byResult[result]++
	k.last = now
	return true
}

// turn begins a new minute if the one before is over, or if the clock went back
// before it.
func (r *Refusals) turn(now time.Time) {
	if d := now.Sub(r.minute); d >= 0 && d < time.Minute {
		return
	}
	for _, k := range r.kinds {
		switch {
		case k.counted == 0:
		case len(r.ended) >= keptCounts:
			r.ended[len(r.ended)-1].add(k)
		default:
			r.ended = append(r.ended, k)
		}
	}
	r.minute, r.own = now, 0
	clear(r.kinds)
}

// Flush writes what was counted in minutes that are over, and, if all is true, in
// the present one too, as before the log is closed. What could not be written
// stays, and is told by the error. A caller runs it every few seconds.
func (r *Refusals) Flush(ctx context.Context, all bool) error {
	r.mu.Lock()
	if all {
		r.minute = time.Time{} // so that it is over
	}
	r.turn(r.now())
	ended := r.ended
	r.ended = nil
	r.mu.Unlock()
	slices.SortFunc(ended, func(a, b *refusals) int {
		return cmp.Or(a.began.Compare(b.began), a.key.source.Addr().Compare(b.key.source.Addr()), cmp.Compare(a.key.kind, b.key.kind))
	})
	var errs []error
	for i, k := range ended {
		if err := k.write(ctx, k.String()); err != nil {
			errs = append(errs, fmt.Errorf("write count of refusals: %w", err))
			r.mu.Lock()
			r.ended = append(r.ended, ended[i:]...)
			r.mu.Unlock()
			break
		}
	}
	return errors.Join(errs...)
}

// add makes k the count of other's refusals too.
func (k *refusals) add(other *refusals) {
	k.key = refusalKey{kind: others}
	k.counted += other.counted
	for code, n := range other.byResult {
		k.byResult[code] += n
	}
	if other.last.After(k.last) {
		k.last = other.last
	}
}

// String is the detail of an entry for many.
func (k *refusals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d more refusals", k.counted)
	switch s := k.key.source; {
	case !s.IsValid():
		b.WriteString(" of further sources and requests")
	case !s.IsSingleIP():
		b.WriteString(" of " + s.String())
	}
	const form = "15:04:05Z"
	fmt.Fprintf(&b, ", %s to %s:", k.first.UTC().Format(form), k.last.UTC().Format(form))
	results := slices.Collect(maps.Keys(k.byResult))
	slices.SortFunc(results, func(x, y string) int {
		return cmp.Or(cmp.Compare(k.byResult[y], k.byResult[x]), cmp.Compare(x, y))
	})
	for _, res := range results {
		fmt.Fprintf(&b, " %s %d", res, k.byResult[res])
	}
	return b.String()
}

func sourceOf(ip netip.Addr) netip.Prefix {
	if !ip.IsValid() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 32) // a connection without an address, as of a test
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil { // only of an address without bits
		return netip.PrefixFrom(netip.IPv4Unspecified(), 32)
	}
	return p
}
