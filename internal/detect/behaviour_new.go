package detect

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// rarity is −log10 of the chance that the next one is new, after n of which some
// were (p = (new + 1/2)/(n + 1)).
func rarity(n int, fresh float32) float64 {
	return max(0, -math.Log10((float64(fresh)+0.5)/(float64(n)+1)))
}

// newUse is B3: the first use of a key by a principal, or its first use of that
// kind.
func (d *Detector) newUse(n int64, p *pair, k *keyState, pm *pairMinute, o *opTally) {
	set := &d.set[b3]
	learning := int64(time.Duration(d.rules.Engine.Learning) / time.Minute)
	if set.Disabled || n-d.state.Began < learning || n-k.First < learning {
		return
	}
	reg := pm.k.reg
	if reg != nil && matchAny(reg.Principals, p.Who) {
		return
	}
	trials := k.Hours
	what := fmt.Sprintf("%s used %s for the first time, in %d days in which the key was in use in %d hours", p.Who, p.Key, (n-k.First)/(24*60), k.Hours)
	if p.Used != 0 {
		if !o.Op.reads() || n-p.Used < learning {
			return
		}
		what = fmt.Sprintf("%s made its first %s with %s, which it has used otherwise for %d days", p.Who, o.Op, p.Key, (n-p.Used)/(24*60))
	}
	score := rarity(trials, 0)
	vault := reg != nil || len(d.rules.Keys) == 0
	d.signal(signal{
		Rule: b3, Who: p.Who, Keys: []string{p.Key}, Minute: n, Score: score, Alone: vault && score >= set.Score, What: what, T: o.tally, Detail: p.Key,
		Observed: 1, Window: "1m", Learned: fmt.Sprintf("%d hours of use of the key", k.Hours),
	})
}

// newProperties is B4.
func (d *Detector) newProperties(n int64, x *subject, wm *whoMinute) {
	set := &d.set[b4]
	if set.Disabled {
		return
	}
	slices.SortFunc(wm.seen, func(a, b seen) int {
		if a.prop != b.prop {
			return int(a.prop) - int(b.prop)
		}
		return strings.Compare(a.value.text, b.value.text)
	})
	expiry := int64(set.Days) * 24 * 60
	young := n-d.state.Began < int64(time.Duration(d.rules.Engine.Learning)/time.Minute) || x.Hours < 20
	fresh := false
	for i := range wm.seen {
		s := &wm.seen[i]
		v, there := x.Values[s.prop][s.value.text]
		if there && v.Flagged == 0 && n-v.Last <= expiry {
			v.Last = n
			x.Values[s.prop][s.value.text] = v
			continue
		}
		if there && v.Flagged != 0 && n-v.Flagged < 7*24*60 {
			continue // told lately, and not learned
		}
		if x.Values[s.prop] == nil {
			x.Values[s.prop] = map[string]value{}
		}
		if len(x.Values[s.prop]) >= d.rules.Engine.MaxValues {
			dropOldest(x.Values[s.prop])
		}
		x.Values[s.prop][s.value.text] = value{First: n, Last: n}
		if young {
			continue
		}
		fresh = true
		score := rarity(x.Hours, x.Novel[s.prop])
		x.Novel[s.prop]++
		if len(x.Recent) < 64 {
			x.Recent = append(x.Recent, novelty{Prop: s.prop, Text: s.value.text, Minute: n, Score: score, First: s.first})
		}
	}
	if fresh {
		d.sumNovelties(n, x)
	}
}

func dropOldest(m map[string]value) {
	oldest, at := "", int64(math.MaxInt64)
	for k, v := range m {
		if v.Last < at || v.Last == at && k < oldest {
			oldest, at = k, v.Last
		}
	}
	delete(m, oldest)
}

// sumNovelties adds up what is new of a principal within a day: the rarest of
// each property.
func (d *Detector) sumNovelties(n int64, x *subject) {
	x.Recent = slices.DeleteFunc(x.Recent, func(v novelty) bool { return v.Minute <= n-24*60 })
	var best [properties]*novelty
	var t tally
	for i := range x.Recent {
		v := &x.Recent[i]
		if b := best[v.Prop]; b == nil || v.Score > b.Score {
			best[v.Prop] = v
		}
	}
	sum, parts := 0.0, []string{}
	for p, v := range best {
		if v == nil {
			continue
		}
		score := v.Score
		switch property(p) {
		case propRegion, propEndpoint: // of these there are few, and they are planned
			score += 1.5
		case propNetwork: // counted with its kind
			score *= 0.7
		}
		sum += score
		parts = append(parts, property(p).String()+" "+or(v.Text, "(none)"))
		one := tally{N: 1, First: v.First.At, Last: v.First.At, Kept: 1}
		one.Traces[0] = v.First
		t.merge(&one)
	}
	set := &d.set[b4]
	alone := sum >= set.Score
	if alone && !d.changes.learns(set.rule.ID, x.Name, "", n) {
		for _, v := range x.Recent { // what was flagged is not known now
			if m := x.Values[v.Prop]; m != nil {
				was := m[v.Text]
				was.Flagged = n
				m[v.Text] = was
			}
			x.Novel[v.Prop]--
		}
		x.Recent = nil
	}
	d.signal(signal{
		Rule: b4, Who: x.Name, Minute: n, Score: min(sum, d.rules.Engine.ScoreCap), Alone: alone, T: t, Observed: float64(len(parts)), Window: "24h",
		Learned: fmt.Sprintf("%d hours of activity", x.Hours), Detail: strings.Join(parts, ", "),
		What: fmt.Sprintf("%s was seen with %s, none of them in the last %d days", x.Name, strings.Join(parts, ", "), set.Days),
	})
}

// oddHour is B5, for people.
func (d *Detector) oddHour(n int64, x *subject, wm *whoMinute) {
	hour := n / 60
	if x.LastActive == hour {
		return
	}
	bin, _ := binsOf(hour)
	days := float64(n-x.First) / (24 * 60)
	kind := days * 5 / 7
	if bin >= 24 {
		kind = days * 2 / 7
	}
	near := x.Active[bin]
	for _, by := range []int{1, 23} { // an hour earlier and later count half
		near += x.Active[bin/24*24+(bin+by)%24] / 2
	}
	set := &d.set[b5]
	flagged := false
	if !set.Disabled && days >= 10 && !d.rules.Hours.working(minuteTime(n)) && (wm.admin || !wm.w.onCall) {
		score := max(0, -math.Log10((float64(near)+0.5)/(kind+1)))
		if wm.admin {
			score += 0.5
		}
		if score >= 0.5 {
			flagged = score >= set.Score
			d.signal(signal{
				Rule: b5, Who: x.Name, Minute: n, Score: score, Alone: flagged, T: wm.watched, Observed: 1, Expected: float64(near) / (kind + 1), Window: "1h",
				Learned: fmt.Sprintf("%.0f days", days),
				What: fmt.Sprintf("%s, a person, was at work at %s, outside the working hours, on %.0f of %.0f such days before", x.Name,
					minuteTime(n).In(d.rules.Hours.location).Format("15:04 on Monday"), near, kind),
			})
		}
	}
	if !flagged || d.changes.learns(set.rule.ID, x.Name, "", n) {
		x.LastActive = hour
		x.Active[bin]++
	}
}
