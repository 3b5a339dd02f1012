package detect

import (
	"errors"
	"slices"
	"sort"
	"time"

	"cardea/internal/cloudtrail"
)

// Options of a detector.
type Options struct {
	Rules   *Rules   // required
	Changes *Changes // approved changes; nil is none
	// Now, if set, is the clock: an event of later than five minutes from it does not
	// move the detector's time, or one wrong clock would close every window.
	Now func() time.Time
}

// Detector finds. It is for one goroutine; events of different accounts can go to
// different detectors, since nothing that it keeps spans accounts but a principal
// of one that works in another.
type Detector struct {
	rules   *Rules
	changes *Changes
	now     func() time.Time
	set     [ruleCount]setting
	names   *names

	open   []*minute // by number
	pools  pools
	cur    *minute
	newest int64 // latest time seen, Unix minutes
	closed int64 // the last minute that was closed
	begun  bool
	over   bool   // a limit was met in an open minute
	caller []byte // see SetNote

	state state
	out   []Alert
	sigs  []signal
	stats Stats

	active      []*meter // with something in the open hour
	activePairs []*pair
	meeting     []*subject // that served merchants in the open hour
	sortPairs   []*pairMinute
	sortWhos    []*whoMinute
}

// Stats are counts since the detector was made or restored.
type Stats struct {
	Events     uint64 `json:"events"`
	Late       uint64 `json:"late"`   // later than allowed: rules saw them, behaviours did not
	Future     uint64 `json:"future"` // from a clock that is ahead
	Beyond     uint64 `json:"beyond"` // of principals, keys or pairs beyond the limits
	Alerts     uint64 `json:"alerts"`
	Suppressed uint64 `json:"suppressed"`
	Evicted    uint64 `json:"evicted"` // baselines forgotten to stay within the limits
}

// setting is what the rules say of one, with the defaults filled in.
type setting struct {
	Settings
	rule     Rule
	severity Severity
	cooldown int64 // minutes
}

// New makes a detector without history.
func New(o Options) (*Detector, error) {
	if o.Rules == nil {
		return nil, errors.New("detector: no rules")
	}
	d := &Detector{rules: o.Rules, changes: o.Changes, now: o.Now, names: newNames(o.Rules), state: newState()}
	for i, r := range Catalogue() {
		s := setting{Settings: o.Rules.Settings[r.ID], rule: r, severity: r.Severity}
		if s.Settings.severity != 0 {
			s.severity = s.Settings.severity
		}
		s.cooldown = int64(time.Duration(s.Cooldown) / time.Minute)
		if s.Cooldown == 0 {
			s.cooldown = int64(time.Duration(o.Rules.Engine.Cooldown) / time.Minute)
		}
		d.set[i] = s
	}
	return d, nil
}

// Stats tells how much was seen.
func (d *Detector) Stats() Stats { return d.stats }

// SetNote gives the detector something of its caller's to keep with its memory:
// what must be written in the same step, such as what of a source it has seen.
func (d *Detector) SetNote(note []byte) { d.caller = note }

// Note is what SetNote was given, also by the process that saved the memory.
func (d *Detector) Note() []byte { return d.caller }

// SetChanges replaces the approved changes.
func (d *Detector) SetChanges(c *Changes) { d.changes = c }

// Rules are the rules in force.
func (d *Detector) Rules() *Rules { return d.rules }

// Observe takes an event and returns what it, or the passing of time that it
// shows, gives rise to. Each event is to be given once (sources deduplicate by
// ID); the slice is good until the next call.
func (d *Detector) Observe(e *cloudtrail.Event) []Alert {
	d.out = d.out[:0]
	d.stats.Events++
	if e.Source == cloudtrail.SourceDigests { // about the log, nobody's behaviour
		d.digest(e)
		return d.out
	}
	at := e.Time.UnixNano()
	n := floorDiv(at, int64(time.Minute))
	if !d.begun {
		d.begin(n)
	}
	w, over := d.names.principal(e, d.rules.Engine.MaxPrincipals)
	op := operationOf(e)
	m := d.minuteAt(n, e)
	if m == nil { // behaviour has gone on; rules have not
		if len(d.open) == 0 {
			d.openMinute(d.closed + 1)
		}
		m = d.open[0]
		d.match(m, e, at, w, op, over)
	} else {
		d.fold(m, e, at, w, op, over)
	}
	if op == opAdmin || e.Source != cloudtrail.SourceKMS {
		d.change(m, e, w)
	}
	if n > d.newest && d.credible(e) {
		d.newest = n
		d.closeThrough(n - d.lateness() - 1)
	}
	return d.out
}

// Advance tells the detector that it is now, and that nothing older than the
// lateness allowed will come any more.
func (d *Detector) Advance(now time.Time) []Alert {
	d.out = d.out[:0]
	n := floorDiv(now.UnixNano(), int64(time.Minute))
	if !d.begun {
		return nil
	}
	if n > d.newest {
		d.newest = n
	}
	d.closeThrough(n - d.lateness() - 1)
	return d.out
}

// Finish closes every minute there is and judges the windows that are not full,
// as at the end of a batch. Nothing is learned from those.
func (d *Detector) Finish() []Alert {
	d.out = d.out[:0]
	if !d.begun {
		return nil
	}
	d.closeThrough(d.newest)
	slices.SortFunc(d.active, (*meter).compare)
	for _, m := range d.active {
		if m.Five.T.N > 0 {
			d.judge(m, d.newest, fiveMinutes, m.value(&m.Five), &m.Five.T)
		}
		hour := m.Hour
		hour.T.merge(&m.Five.T)
		if m.Sets {
			hour.Set = distinct{}
			hour.Set.merge(&m.Hour.Set)
			hour.Set.merge(&m.Five.Set)
		}
		if hour.T.N > 0 {
			d.judge(m, d.newest, oneHour, m.value(&hour), &hour.T)
		}
	}
	d.conclude(d.newest)
	return d.out
}

func (d *Detector) lateness() int64 {
	return int64(time.Duration(d.rules.Engine.Lateness) / time.Minute)
}

func (d *Detector) begin(n int64) {
	d.begun, d.newest = true, n
	d.closed = n - d.lateness() - 1
	d.state.Began = n
}

func (d *Detector) credible(e *cloudtrail.Event) bool {
	if d.now == nil || !e.Time.After(d.now().Add(5*time.Minute)) {
		return true
	}
	d.stats.Future++
	return false
}

// minuteAt is the open minute of that number, nil if it is closed.
func (d *Detector) minuteAt(n int64, e *cloudtrail.Event) *minute {
	if d.cur != nil && d.cur.n == n {
		return d.cur
	}
	if n <= d.closed {
		d.stats.Late++
		return nil
	}
	if n > d.newest && d.now != nil && e.Time.After(d.now().Add(5*time.Minute)) {
		return nil // not kept: minutes of the future would pile up
	}
	d.cur = d.openMinute(n)
	return d.cur
}

func (d *Detector) openMinute(n int64) *minute {
	i := sort.Search(len(d.open), func(i int) bool { return d.open[i].n >= n })
	if i < len(d.open) && d.open[i].n == n {
		return d.open[i]
	}
	m := d.pools.minute(n)
	d.open = slices.Insert(d.open, i, m)
	return m
}

// fold adds an event to its minute.
func (d *Detector) fold(m *minute, e *cloudtrail.Event, at int64, w *who, op operation, over bool) {
	m.log(e).add(e, at)
	wm := m.who(&d.pools, w)
	wm.all.add(e, at)
	if e.ServiceEvent {
		return
	}
	if op != opOther {
		wm.watched.add(e, at)
		wm.admin = wm.admin || op == opAdmin
	}
	if e.ErrorCode != "" {
		if f := failureOf(e.ErrorCode); f != failThrottled {
			wm.fail(f).add(e, at)
		}
	}
	switch {
	case op.reads():
		wm.decrypts.add(e, at)
		if h, ok := contextHash(e); ok {
			wm.contexts.add(h)
		}
		if e.Merchant != "" || e.Tenant != "" {
			wm.merchants.add(mix(hashString(e.Merchant) + 3*hashString(e.Tenant)))
		}
	case op == opEnumerate:
		wm.enum.add(e, at)
		for _, k := range e.Keys {
			wm.enumKeys.add(mix(hashString(k)))
		}
	}
	d.noteProperties(wm, e, at)
	d.match(m, e, at, w, op, over)
}

// match adds an event to the counts of its keys, and looks at it with the rules
// that look at ordinary use.
func (d *Detector) match(m *minute, e *cloudtrail.Event, at int64, w *who, op operation, over bool) {
	late := e.Time.Unix()/60 <= d.closed
	if len(e.Keys) == 0 && e.Source == cloudtrail.SourceVault && (op.crypto() || op == opAdmin) {
		k, o := d.names.key(vaultKeyName(e.Tenant), d.rules.Engine.MaxKeys)
		over = over || o
		if !late {
			m.pair(&d.pools, w, k).op(op).count(e, at)
		}
	}
	for _, name := range e.Keys {
		k, o := d.names.key(name, d.rules.Engine.MaxKeys)
		over = over || o
		if !late {
			if op.crypto() || op == opEnumerate {
				m.who(&d.pools, w).keys.add(mix(hashString(k.name)))
			}
			if len(m.pairs) > d.rules.Engine.MaxPairs/4 && m.pairs[pairRef{w, k}] == nil {
				over = true
			} else {
				m.pair(&d.pools, w, k).op(op).count(e, at)
			}
		}
		if op.crypto() && k.reg != nil {
			d.useOfVaultKey(m, e, at, w, k, op)
		}
	}
	d.anyUse(m, e, at, w, op)
	if over {
		d.over = true
		d.stats.Beyond++
	}
}

// vaultKeyName stands for the keys of a vault in its own log, which names none.
func vaultKeyName(tenant string) string {
	if tenant == "" {
		return "vault"
	}
	return tenant
}

func (d *Detector) noteProperties(wm *whoMinute, e *cloudtrail.Event, at int64) {
	if wm.noted != 0 && at > wm.noted && e.IP == wm.ip && e.UserAgent == wm.agent && e.VPCEndpoint == wm.endpoint && e.Region == wm.region {
		return
	}
	if e.InvokedBy != "" { // the address and program are an AWS service's
		return
	}
	wm.noted, wm.ip, wm.agent, wm.endpoint, wm.region = at, e.IP, e.UserAgent, e.VPCEndpoint, e.Region
	if e.IP != "" {
		network, place := d.names.address(e.IP)
		wm.note(propNetwork, network, e, at)
		wm.note(propPlace, place, e, at)
		// No endpoint is a value too: a workload that leaves its endpoint shows by it.
		wm.note(propEndpoint, d.names.word(propEndpoint, e.VPCEndpoint), e, at)
	}
	if e.UserAgent != "" {
		wm.note(propAgent, d.names.program(e.UserAgent), e, at)
	}
	if e.Region != "" {
		wm.note(propRegion, d.names.word(propRegion, e.Region), e, at)
	}
}

// contextHash is of all that an encryption context says, whatever its order.
func contextHash(e *cloudtrail.Event) (uint64, bool) {
	if len(e.Context) == 0 {
		return 0, false
	}
	var sum uint64
	for k, v := range e.Context {
		sum += mix(hashString(k)*31 + hashString(v))
	}
	return mix(sum), true
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
