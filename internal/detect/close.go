package detect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cardea/internal/cloudtrail"
)

// longestGap is for how many minutes without events every minute is walked.
const longestGap = 14 * 24 * 60

// closeThrough closes minutes in their order, and with them the windows that end.
func (d *Detector) closeThrough(target int64) {
	for d.closed < target {
		n := d.closed + 1
		if len(d.open) == 0 && target-n > longestGap {
			d.closed = target - longestGap/2
			continue
		}
		if len(d.open) > 0 && d.open[0].n == n {
			d.closeMinute(d.open[0])
			d.pools.free(d.open[0])
			d.open = append(d.open[:0], d.open[1:]...)
			d.cur = nil
		}
		d.closed = n
		if (n+1)%5 == 0 {
			d.endFive(n)
		}
		if (n+1)%60 == 0 {
			d.endHour(n)
		}
	}
}

// closeMinute takes what a minute says into memory.
func (d *Detector) closeMinute(m *minute) {
	slices.SortStableFunc(m.put, func(a, b cloudtrail.Event) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID)) })
	for i := range m.put {
		d.policyChange(&m.put[i])
	}
	d.tellHits(m)
	for ref, t := range m.logs {
		d.log(ref, m.n).count(t)
	}
	pairs := d.sortPairs[:0]
	for _, p := range m.pairs {
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b *pairMinute) int {
		return cmp.Or(strings.Compare(a.w.name, b.w.name), strings.Compare(a.k.name, b.k.name))
	})
	for _, p := range pairs {
		d.closePair(m.n, p)
	}
	d.sortPairs = pairs
	whos := d.sortWhos[:0]
	for _, w := range m.whos {
		whos = append(whos, w)
	}
	slices.SortFunc(whos, func(a, b *whoMinute) int { return strings.Compare(a.w.name, b.w.name) })
	for _, w := range whos {
		d.closeWho(m.n, w)
	}
	d.sortWhos = whos
	d.conclude(m.n)
	if d.over {
		d.over = false
		d.tellBehaviour(m.n, nil, []signal{{Rule: d1, Detail: "limits", What: fmt.Sprintf(
			"the limits of %d principals, %d keys and %d pairs were met: what is beyond is not told apart",
			d.rules.Engine.MaxPrincipals, d.rules.Engine.MaxKeys, d.rules.Engine.MaxPairs), T: tally{N: 1, First: m.n * 6e10, Last: m.n * 6e10}}}, "")
	}
}

func (d *Detector) tellHits(m *minute) {
	hits := make([]*hit, 0, len(m.hits))
	for _, h := range m.hits {
		hits = append(hits, h)
	}
	slices.SortFunc(hits, func(a, b *hit) int {
		return cmp.Or(cmp.Compare(a.ref.rule, b.ref.rule), strings.Compare(a.ref.w.name, b.ref.w.name), strings.Compare(nameOf(a.ref.k), nameOf(b.ref.k)),
			strings.Compare(a.ref.detail, b.ref.detail))
	})
	for _, h := range hits {
		d.tellHit(m.n, h)
	}
}

func nameOf(k *keyRef) string {
	if k == nil {
		return ""
	}
	return k.name
}

func (d *Detector) signal(s signal) { d.sigs = append(d.sigs, s) }

// conclude tells of the signals gathered, principal by principal.
func (d *Detector) conclude(n int64) {
	if len(d.sigs) == 0 {
		return
	}
	slices.SortStableFunc(d.sigs, func(a, b signal) int { return strings.Compare(a.Who, b.Who) })
	for sigs := d.sigs; len(sigs) > 0; {
		same := 1
		for same < len(sigs) && sigs[same].Who == sigs[0].Who {
			same++
		}
		if x := d.state.Subjects[sigs[0].Who]; x != nil {
			d.tellSignals(n, x, sigs[:same])
		}
		sigs = sigs[same:]
	}
	clear(d.sigs)
	d.sigs = d.sigs[:0]
}

// closePair is the minute of a principal and a key: volume, novelty of the pair,
// separation of duties.
func (d *Detector) closePair(n int64, pm *pairMinute) {
	name := pairName{pm.w.name, pm.k.name}
	p := d.state.Pairs[name]
	k := d.key(pm.k, n)
	if p == nil {
		p = &pair{Who: name.Who, Key: name.Key, First: n, Ops: map[operation]*meter{}}
		d.state.Pairs[name] = p
	}
	p.Last = n
	slices.SortFunc(pm.ops, func(a, b opTally) int { return cmp.Compare(a.Op, b.Op) })
	used := false
	for i := range pm.ops {
		o := &pm.ops[i]
		if o.Op.crypto() {
			used = used || o.OK > 0
			k.use(n, &o.tally)
			if _, there := p.Ops[o.Op]; !there && o.OK > 0 {
				d.newUse(n, p, k, pm, o)
			}
			mt := p.meter(o.Op)
			d.addMinute(mt, n, &o.tally)
			p.Ratio.count(o)
			if !p.listed {
				p.listed = true
				d.activePairs = append(d.activePairs, p)
			}
			if o.OK > 0 {
				p.LastUse, p.UseTrace = n, o.Traces[0]
			}
		}
		if o.Op == opAdmin && o.OK > 0 {
			p.LastAdmin, p.AdminTrace = n, o.Traces[0]
		}
	}
	if used {
		if p.Used == 0 {
			p.Used = n
		}
		k.hour(n)
	}
	d.bothDuties(n, p, pm)
}

// bothDuties is R16.
func (d *Detector) bothDuties(n int64, p *pair, pm *pairMinute) {
	if pm.k.reg == nil || p.LastAdmin == 0 || p.LastUse == 0 || d.set[r16].Disabled {
		return
	}
	if p.LastAdmin != n && p.LastUse != n || max(p.LastAdmin-p.LastUse, p.LastUse-p.LastAdmin) > int64(d.set[r16].Days)*24*60 {
		return
	}
	if c := d.state.Cool[coolName{Rule: r16, Who: p.Who, What: p.Key}]; n < c.Until {
		return
	}
	var t tally
	for _, x := range []*trace{&p.AdminTrace, &p.UseTrace} {
		one := tally{N: 1, First: x.At, Last: x.At, Kept: 1}
		one.Traces[0] = *x
		t.merge(&one)
	}
	d.tellBehaviour(n, d.state.Subjects[p.Who], []signal{{
		Rule: r16, Who: p.Who, Keys: []string{p.Key}, Minute: n, T: t, Detail: p.Key,
		What: fmt.Sprintf("%s called %s and %s on %s within %d days", p.Who, p.AdminTrace.Name, p.UseTrace.Name, p.Key, d.set[r16].Days),
	}}, "")
}

func (d *Detector) key(r *keyRef, n int64) *keyState {
	k := d.state.Keys[r.name]
	if k == nil {
		k = &keyState{Name: r.name, First: n, LastHour: -1}
		if r.reg != nil || len(d.rules.Keys) == 0 {
			k.Quiet = &quiet{Name: r.name}
		}
		d.state.Keys[r.name] = k
	}
	k.Last = n
	return k
}

func (k *keyState) use(n int64, t *tally) {
	if k.Quiet != nil {
		k.Quiet.Last = n
		k.Quiet.count(t)
	}
}

func (k *keyState) hour(n int64) {
	if h := n / 60; h != k.LastHour {
		k.Hours++
		k.LastHour = h
	}
}

// closeWho is the minute of a principal.
func (d *Detector) closeWho(n int64, wm *whoMinute) {
	x := d.state.subject(wm.w, n)
	h := n / 60
	if wm.watched.N > 0 && h != x.LastHour {
		x.Hours++
		x.LastHour = h
	}
	if wm.decrypts.N > 0 {
		if wm.contexts.count() > 0 {
			d.addSet(x.meter(meterContexts, b6, true), n, &wm.contexts, &wm.decrypts)
		}
		if wm.merchants.count() > 0 {
			d.addSet(x.meter(meterMerchants, b6, true), n, &wm.merchants, &wm.decrypts)
			d.meet(n, x, wm)
		}
	}
	if wm.keys.count() > 0 {
		d.addSet(x.meter(meterKeys, b7, true), n, &wm.keys, &wm.watched)
	}
	if wm.enum.N > 0 {
		mt := x.meter(meterEnum, b10, false)
		d.addMinute(mt, n, &wm.enum)
		d.addSet(x.meter(meterEnumKeys, b10, true), n, &wm.enumKeys, &wm.enum)
	}
	slices.SortFunc(wm.fails, func(a, b failTally) int { return cmp.Compare(a.class, b.class) })
	for i := range wm.fails {
		d.addMinute(x.meter(meterFail+uint8(wm.fails[i].class), b2, false), n, &wm.fails[i].tally)
	}
	if wm.watched.N > 0 {
		d.newProperties(n, x, wm)
		if wm.w.person {
			d.oddHour(n, x, wm)
		}
	}
}
