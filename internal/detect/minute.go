package detect

import (
	"cardea/internal/cloudtrail"
)

// A minute that is open gathers what its events say, in forms to which their
// order does not matter. What is concluded is concluded when it closes.

// trace is one event, as evidence.
type trace struct {
	At                 int64 // Unix nanoseconds
	ID, Name, Code, IP string
}

func (t *trace) before(o *trace) bool { return t.At < o.At || t.At == o.At && t.ID < o.ID }

const traces = 3 // kept of each tally: the first

// tally counts events and keeps the first few.
type tally struct {
	N           uint32
	First, Last int64 // Unix nanoseconds
	Kept        uint8
	Traces      [traces]trace
}

func (t *tally) add(e *cloudtrail.Event, at int64) {
	if t.N == 0 || at < t.First {
		t.First = at
	}
	if t.N == 0 || at > t.Last {
		t.Last = at
	}
	t.N++
	if t.Kept == traces {
		if last := &t.Traces[traces-1]; at > last.At || at == last.At && e.ID >= last.ID {
			return
		}
	}
	t.keep(&trace{At: at, ID: e.ID, Name: e.Name, Code: e.ErrorCode, IP: e.IP})
}

func (t *tally) keep(x *trace) {
	i := int(t.Kept)
	if i == traces {
		if !x.before(&t.Traces[traces-1]) {
			return
		}
		i--
	} else {
		t.Kept++
	}
	for ; i > 0 && x.before(&t.Traces[i-1]); i-- {
		t.Traces[i] = t.Traces[i-1]
	}
	t.Traces[i] = *x
}

func (t *tally) merge(o *tally) {
	if o.N == 0 {
		return
	}
	if t.N == 0 || o.First < t.First {
		t.First = o.First
	}
	if t.N == 0 || o.Last > t.Last {
		t.Last = o.Last
	}
	t.N += o.N
	for i := range o.Kept {
		t.keep(&o.Traces[i])
	}
}

type opTally struct {
	Op operation
	OK uint32 // that succeeded
	tally
}

func (o *opTally) count(e *cloudtrail.Event, at int64) {
	if e.ErrorCode == "" {
		o.OK++
	}
	o.add(e, at)
}

type failTally struct {
	class failure
	tally
}

type seen struct {
	prop  property
	value *word
	first trace
}

// whoMinute is what a principal did in a minute.
type whoMinute struct {
	w         *who
	all       tally
	decrypts  tally
	contexts  distinct // of what was decrypted
	merchants distinct
	enum      tally
	enumKeys  distinct
	keys      distinct
	admin     bool // also uses and enumerations of a person
	watched   tally
	fails     []failTally
	seen      []seen
	noted     int64 // time of the event whose properties these are, noted in seen
	ip        string
	agent     string
	endpoint  string
	region    string
}

// pairMinute is what a principal did with a key in a minute.
type pairMinute struct {
	w   *who
	k   *keyRef
	ops []opTally
}

type pairRef struct {
	w *who
	k *keyRef
}

type hitRef struct {
	rule   uint8
	w      *who
	k      *keyRef
	detail string
}

// hit is what fulfilled a rule in a minute.
type hit struct {
	ref hitRef
	tally
	first cloudtrail.Event // the event of the earliest trace, for what the alert says of it
}

type minute struct {
	n     int64
	whos  map[*who]*whoMinute
	pairs map[pairRef]*pairMinute
	hits  map[hitRef]*hit
	logs  map[logRef]*tally
	put   []cloudtrail.Event // changes of key policies, which are compared in order
	last  *whoMinute         // of the latest event: most come in runs
	lastP *pairMinute
	lastL *tally
	lastR logRef
}

// pools gives the memory of closed minutes to new ones.
type pools struct {
	minutes []*minute
	whos    []*whoMinute
	pairs   []*pairMinute
}

func (p *pools) minute(n int64) *minute {
	if l := len(p.minutes); l > 0 {
		m := p.minutes[l-1]
		p.minutes = p.minutes[:l-1]
		m.n = n
		return m
	}
	return &minute{n: n, whos: map[*who]*whoMinute{}, pairs: map[pairRef]*pairMinute{}, hits: map[hitRef]*hit{}, logs: map[logRef]*tally{}}
}

const maxPooled = 4096

func (p *pools) free(m *minute) {
	for _, w := range m.whos {
		if len(p.whos) < maxPooled {
			w.contexts.reset()
			w.merchants.reset()
			w.enumKeys.reset()
			w.keys.reset()
			*w = whoMinute{contexts: w.contexts, merchants: w.merchants, enumKeys: w.enumKeys, keys: w.keys, fails: w.fails[:0], seen: w.seen[:0]}
			p.whos = append(p.whos, w)
		}
	}
	for _, x := range m.pairs {
		if len(p.pairs) < maxPooled {
			*x = pairMinute{ops: x.ops[:0]}
			p.pairs = append(p.pairs, x)
		}
	}
	big := len(m.whos) > maxPooled || len(m.pairs) > maxPooled || len(m.hits) > maxPooled
	if big || len(p.minutes) >= 64 { // a map keeps the size that it had once
		return
	}
	clear(m.whos)
	clear(m.pairs)
	clear(m.hits)
	clear(m.logs)
	clear(m.put)
	*m = minute{whos: m.whos, pairs: m.pairs, hits: m.hits, logs: m.logs, put: m.put[:0]}
	p.minutes = append(p.minutes, m)
}

func (m *minute) who(p *pools, w *who) *whoMinute {
	if m.last != nil && m.last.w == w {
		return m.last
	}
	wm := m.whos[w]
	if wm == nil {
		if l := len(p.whos); l > 0 {
			wm = p.whos[l-1]
			p.whos = p.whos[:l-1]
		} else {
			wm = &whoMinute{}
		}
		wm.w = w
		m.whos[w] = wm
	}
	m.last = wm
	return wm
}

func (m *minute) pair(p *pools, w *who, k *keyRef) *pairMinute {
	if m.lastP != nil && m.lastP.w == w && m.lastP.k == k {
		return m.lastP
	}
	pm := m.pairs[pairRef{w, k}]
	if pm == nil {
		if l := len(p.pairs); l > 0 {
			pm = p.pairs[l-1]
			p.pairs = p.pairs[:l-1]
		} else {
			pm = &pairMinute{}
		}
		pm.w, pm.k = w, k
		m.pairs[pairRef{w, k}] = pm
	}
	m.lastP = pm
	return pm
}

func (m *minute) log(e *cloudtrail.Event) *tally {
	r := logRef{e.Account, e.Region, e.Source}
	if m.lastL != nil && m.lastR == r {
		return m.lastL
	}
	t := m.logs[r]
	if t == nil {
		if t = (&tally{}); len(m.logs) < maxLogs { // what is beyond is counted nowhere
			m.logs[r] = t
		}
	}
	m.lastL, m.lastR = t, r
	return t
}

func (p *pairMinute) op(op operation) *opTally {
	for i := range p.ops {
		if p.ops[i].Op == op {
			return &p.ops[i]
		}
	}
	p.ops = append(p.ops, opTally{Op: op})
	return &p.ops[len(p.ops)-1]
}

func (w *whoMinute) fail(class failure) *tally {
	for i := range w.fails {
		if w.fails[i].class == class {
			return &w.fails[i].tally
		}
	}
	w.fails = append(w.fails, failTally{class: class})
	return &w.fails[len(w.fails)-1].tally
}

const maxSeen = 64 // values of a principal in a minute; more are as new as these

func (w *whoMinute) note(p property, v *word, e *cloudtrail.Event, at int64) {
	t := trace{At: at, ID: e.ID, Name: e.Name, Code: e.ErrorCode, IP: e.IP}
	for i := range w.seen {
		if s := &w.seen[i]; s.prop == p && s.value == v {
			if t.before(&s.first) {
				s.first = t
			}
			return
		}
	}
	if len(w.seen) < maxSeen {
		w.seen = append(w.seen, seen{prop: p, value: v, first: t})
	}
}
