package detect

import (
	"cmp"
	"slices"
	"time"
)

// What is remembered between minutes. Members are exported for encoding only.

type pairName struct{ Who, Key string }

type coolName struct {
	Rule      uint8
	Who, What string
	Slot      int64 // of findings that count by the hour of their event
}

type cooling struct {
	Until int64
	Held  uint32 // findings not told meanwhile
}

type state struct {
	Began       int64
	Subjects    map[string]*subject
	Keys        map[string]*keyState
	Pairs       map[pairName]*pair
	Logs        map[string]*quiet
	Policies    map[string]policyFacts
	PolicyOrder []string
	Cool        map[coolName]cooling
}

func newState() state {
	return state{
		Subjects: map[string]*subject{}, Keys: map[string]*keyState{}, Pairs: map[pairName]*pair{}, Logs: map[string]*quiet{},
		Policies: map[string]policyFacts{}, Cool: map[coolName]cooling{},
	}
}

func (s *state) keepPolicy(key string, f policyFacts) {
	if _, there := s.Policies[key]; !there {
		if len(s.PolicyOrder) >= maxPolicies {
			delete(s.Policies, s.PolicyOrder[0])
			s.PolicyOrder = slices.Delete(s.PolicyOrder, 0, 1)
		}
		s.PolicyOrder = append(s.PolicyOrder, key)
	}
	s.Policies[key] = f
}

// window gathers what a meter counts until it is judged.
type window struct {
	T   tally
	Set distinct
}

// meter is a count with its baseline.
type meter struct {
	Rule     uint8
	Who, Key string
	Kind     uint8 // operation or class of failure, or which of several
	Sets     bool  // counts different values, not events
	Model    model
	Five     window
	Hour     window
	Sum5     float64 // of the hour's five-minute windows, and their squares; of minutes too
	Sq5      float64
	Sum1     float64
	Sq1      float64
	Top1     float64 // the largest of them
	Top5     float64
	Flagged  int64 // hour of the last finding: nothing is learned from it
	Drifted  int64 // hour at which the drift was last judged

	listed bool // among the active
}

func (m *meter) compare(o *meter) int {
	return cmp.Or(cmp.Compare(m.Rule, o.Rule), cmp.Compare(m.Who, o.Who), cmp.Compare(m.Key, o.Key), cmp.Compare(m.Kind, o.Kind))
}

func (m *meter) value(w *window) float64 {
	if m.Sets {
		return float64(w.Set.count())
	}
	return float64(w.T.N)
}

// Meters of a subject, besides those of its keys.
const (
	meterContexts uint8 = iota
	meterMerchants
	meterKeys
	meterEnum
	meterEnumKeys
	meterFail // plus the class
)

// value is a network, program, Region or endpoint that a principal used.
type value struct {
	First, Last int64 // minutes
	Flagged     int64 // not learned: told at this minute
}

type novelty struct {
	Prop   property
	Text   string
	Minute int64
	Score  float64
	First  trace
}

// subject is what is known of a principal.
type subject struct {
	Name        string
	Account     string
	Tenant      string
	First, Last int64 // minutes
	Hours       int   // with activity
	LastHour    int64
	Meters      map[uint8]*meter
	Values      [properties]map[string]value
	Novel       [properties]float32 // how many values were new once
	Recent      []novelty           // of the last day
	Active      [dayBins]float32    // days with activity in that hour: people only
	LastActive  int64               // hour
	Signals     []signal            // of the last hour, too weak to alert alone
	Strange     strangers
}

// pair is what is known of a principal's use of a key.
type pair struct {
	Who, Key    string
	First, Last int64 // minutes
	Used        int64 // minute of the first success; 0: none yet
	LastAdmin   int64 // minute of the last change of the key by the principal
	LastUse     int64
	AdminTrace  trace
	UseTrace    trace
	Ops         map[operation]*meter
	Ratio       ratio

	listed bool
}

// keyState is what is known of a key, whoever uses it.
type keyState struct {
	Name        string
	First, Last int64
	Hours       int // with use
	LastHour    int64
	Quiet       *quiet // of keys watched for silence
}

// signal is one behaviour out of the usual.
type signal struct {
	Rule     uint8
	Who      string
	Keys     []string
	Minute   int64
	Score    float64
	Alone    bool // enough by itself
	What     string
	Expected float64
	Observed float64
	Window   string
	Learned  string
	T        tally
	Detail   string // tells findings of one rule and principal apart
}

// subjectOf finds or makes a subject.
func (s *state) subject(w *who, n int64) *subject {
	x := s.Subjects[w.name]
	if x == nil {
		x = &subject{Name: w.name, Account: w.account, Tenant: w.tenant, First: n, Last: n, LastHour: -1, LastActive: -1, Meters: map[uint8]*meter{}}
		s.Subjects[w.name] = x
	}
	x.Last = max(x.Last, n)
	return x
}

func (x *subject) meter(id, rule uint8, sets bool) *meter {
	m := x.Meters[id]
	if m == nil {
		m = &meter{Rule: rule, Who: x.Name, Kind: id, Sets: sets}
		m.Model.Start, m.Model.Next = x.First/60, x.First/60
		x.Meters[id] = m
	}
	return m
}

func (p *pair) meter(op operation) *meter {
	m := p.Ops[op]
	if m == nil {
		m = &meter{Rule: b1, Who: p.Who, Key: p.Key, Kind: uint8(op)}
		m.Model.Start, m.Model.Next = p.First/60, p.First/60
		p.Ops[op] = m
	}
	return m
}

// forget drops what was not seen for longest, down to the limits.
func (d *Detector) forget() {
	e := d.rules.Engine
	d.stats.Evicted += evict(d.state.Subjects, e.MaxPrincipals, func(x *subject) int64 { return x.Last })
	d.stats.Evicted += evict(d.state.Keys, e.MaxKeys, func(x *keyState) int64 { return x.Last })
	d.stats.Evicted += evict(d.state.Pairs, e.MaxPairs, func(x *pair) int64 { return x.Last })
	d.stats.Evicted += evict(d.state.Logs, e.MaxKeys, func(x *quiet) int64 { return x.Last })
	for k, c := range d.state.Cool {
		if c.Until <= d.closed {
			delete(d.state.Cool, k)
		}
	}
	d.stats.Evicted += evict(d.state.Cool, 2*e.MaxPairs, func(c cooling) int64 { return c.Until })
	if len(d.names.who) > e.MaxPrincipals/2 || len(d.names.keys) > e.MaxKeys/2 || len(d.names.ips) > maxWords/2 || len(d.names.agent) > maxWords/2 || d.names.wordy() {
		d.names.reset()
		for _, m := range d.open {
			d.names.adopt(m)
		}
	}
}

func evict[K comparable, V any](m map[K]V, limit int, last func(V) int64) uint64 {
	if len(m) <= limit {
		return 0
	}
	ages := make([]int64, 0, len(m))
	for _, v := range m {
		ages = append(ages, last(v))
	}
	slices.Sort(ages)
	drop := len(m) - limit + limit/16 // some room, not to come back at once
	oldest := ages[min(drop, len(ages)-1)]
	var n uint64
	for k, v := range m {
		if last(v) < oldest || last(v) == oldest && len(m) > limit {
			delete(m, k)
			n++
		}
	}
	return n
}

func (n *names) wordy() bool {
	for _, w := range n.words {
		if len(w) > maxWords/2 {
			return true
		}
	}
	return false
}

// adopt keeps what an open minute refers to, so that one name stays one pointer.
func (n *names) adopt(m *minute) {
	for w, wm := range m.whos {
		n.who[w.name] = w
		for _, s := range wm.seen {
			n.words[s.prop][s.value.text] = s.value
		}
	}
	for r := range m.pairs {
		n.who[r.w.name], n.keys[r.k.name] = r.w, r.k
	}
	for r := range m.hits {
		n.who[r.w.name] = r.w
		if r.k != nil {
			n.keys[r.k.name] = r.k
		}
	}
}

func minuteTime(n int64) time.Time { return time.Unix(n*60, 0).UTC() }

// Sizes tells how many of what is remembered.
func (d *Detector) Sizes() map[string]int {
	open := 0
	for _, m := range d.open {
		open += len(m.pairs) + len(m.whos)
	}
	return map[string]int{
		"principals": len(d.state.Subjects), "keys": len(d.state.Keys), "pairs": len(d.state.Pairs), "logs": len(d.state.Logs), "cooling": len(d.state.Cool),
		"names": len(d.names.who) + len(d.names.keys), "open": open,
	}
}
