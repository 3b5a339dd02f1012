package detect

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// addMinute adds a minute's events to a meter and judges the minute itself.
func (d *Detector) addMinute(m *meter, n int64, t *tally) {
	d.wake(m, n)
	m.Five.T.merge(t)
	x := float64(t.N)
	m.Sum1 += x
	m.Sq1 += x * x
	m.Top1 = max(m.Top1, x)
	if m.Rule == b1 {
		d.judge(m, n, oneMinute, x, t)
	}
}

// addSet adds a minute's different values, which the events of t named.
func (d *Detector) addSet(m *meter, n int64, set *distinct, t *tally) {
	d.wake(m, n)
	m.Five.T.merge(t)
	m.Five.Set.merge(set)
}

// wake lists a meter among the active, and learns the hours that it slept.
func (d *Detector) wake(m *meter, n int64) {
	if m.listed {
		return
	}
	m.listed = true
	d.active = append(d.active, m)
	if hour := n / 60; m.Model.Next < hour {
		var none hourStats
		m.Model.learn(hour-1, &none)
	}
}

// endFive judges the windows of five minutes that end with minute n.
func (d *Detector) endFive(n int64) {
	slices.SortFunc(d.active, (*meter).compare)
	for _, m := range d.active {
		if m.Five.T.N == 0 {
			continue
		}
		x := m.value(&m.Five)
		m.Sum5 += x
		m.Sq5 += x * x
		m.Top5 = max(m.Top5, x)
		d.judge(m, n, fiveMinutes, x, &m.Five.T)
		m.Hour.T.merge(&m.Five.T)
		if m.Sets {
			m.Hour.Set.merge(&m.Five.Set)
		}
		m.Five.T = tally{}
		m.Five.Set.reset()
	}
	d.judgeStrangers(n, false)
	d.silence(n)
	d.conclude(n)
}

// endHour judges the hour that ends with minute n, and learns it.
func (d *Detector) endHour(n int64) {
	hour := n / 60
	for _, m := range d.active {
		x := m.value(&m.Hour)
		if m.Hour.T.N > 0 {
			d.judge(m, n, oneHour, x, &m.Hour.T)
			d.judgeDrift(m, n, hour, x)
		}
	}
	slices.SortFunc(d.activePairs, func(a, b *pair) int {
		if c := strings.Compare(a.Who, b.Who); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	for _, p := range d.activePairs {
		d.proportion(n, hour, p)
		p.listed = false
	}
	d.judgeStrangers(n, true)
	clear(d.activePairs)
	d.activePairs = d.activePairs[:0]
	d.conclude(n)
	for _, m := range d.active {
		d.learn(m, hour)
		m.listed = false
	}
	clear(d.active)
	d.active = d.active[:0]
	d.learnSilence(hour)
	d.forget()
}

// learn adds the hour to the baseline, unless something in it was flagged.
func (d *Detector) learn(m *meter, hour int64) {
	if m.Flagged == hour && hour != 0 {
		m.Model.skip(hour)
	} else {
		x := m.value(&m.Hour)
		h := hourStats{
			mean: [scales]float32{float32(m.Sum1 / 60), float32(m.Sum5 / 12), float32(x)}, sq: [scales]float32{float32(m.Sq1 / 60), float32(m.Sq5 / 12), float32(x * x)},
			top: [scales]float32{float32(m.Top1), float32(m.Top5), float32(x)},
		}
		m.Model.learn(hour, &h)
	}
	m.Sum1, m.Sq1, m.Sum5, m.Sq5, m.Top1, m.Top5 = 0, 0, 0, 0, 0, 0
	m.Hour.T = tally{}
	m.Hour.Set.reset()
}

// spread is the least that a count varies more than by chance.
func spread(rule uint8, s scale) float64 {
	switch rule {
	case b1, b6:
		return [scales]float64{0.12, 0.06, 0.03}[s]
	case b7:
		return 0.01
	}
	return 0.5
}

// judge compares a window with what is usual.
func (d *Detector) judge(m *meter, n int64, s scale, x float64, t *tally) {
	set := &d.set[m.Rule]
	if set.Disabled || x < float64(set.Minimum) {
		return
	}
	mu, phi := m.Model.near(n, s)
	raw := phi
	phi = max(0, phi) + spread(m.Rule, s)
	var score float64
	if m.Model.Hours < int(time.Duration(d.rules.Engine.Learning)/time.Hour) {
		if m.Rule != b1 || !m.Model.extreme(x, s) {
			return
		}
		score = set.Score
	} else {
		if x < set.Ratio*mu || x-mu < 3*math.Sqrt(mu) {
			return
		}
		score = tailScore(x, mu, phi, d.rules.Engine.ScoreCap)
		if m.Sets && raw < 0 && mu > 5 { // different values run out: they vary less than events
			sd := math.Sqrt(max(mu+raw*mu*mu, 0.3*mu) + 1)
			score = normalScore((x-0.5-mu)/sd, d.rules.Engine.ScoreCap)
		}
		if rare, ok := m.Model.episode(x, s, spread(m.Rule, s), d.rules.Engine.ScoreCap); ok {
			score = min(score, rare)
		}
	}
	if score < 1.5 {
		return
	}
	if m.Rule == b10 && !d.sweeping(m) {
		score = min(score, set.Score-0.01)
	}
	alone := score >= set.Score
	if alone && !d.changes.learns(set.rule.ID, m.Who, m.Key, n) {
		m.Flagged = n / 60
	}
	d.signal(signal{
		Rule: m.Rule, Who: m.Who, Keys: keysOf(m), Minute: n, Score: score, Alone: alone, Expected: mu, Observed: x, Window: s.String(),
		Learned: m.Model.learned(), T: *t, What: d.whatOf(m, s, x, mu),
	})
}

func keysOf(m *meter) []string {
	if m.Key == "" {
		return nil
	}
	return []string{m.Key}
}

// sweeping reports whether reads of keys go over many keys: one key that is
// looked at again and again is a health check.
func (d *Detector) sweeping(m *meter) bool {
	if m.Sets {
		return true
	}
	x := d.state.Subjects[m.Who]
	if x == nil {
		return false
	}
	e := x.Meters[meterEnumKeys]
	return e != nil && max(e.Five.Set.count(), e.Hour.Set.count()) >= 5
}

func (d *Detector) whatOf(m *meter, s scale, x, mu float64) string {
	usual := fmt.Sprintf("where %s is usual", amount(mu))
	in := map[scale]string{oneMinute: "a minute", fiveMinutes: "five minutes", oneHour: "an hour"}[s]
	switch m.Rule {
	case b1:
		return fmt.Sprintf("%s made %s %s on %s in %s, %s", m.Who, amount(x), operation(m.Kind), m.Key, in, usual)
	case b2:
		return fmt.Sprintf("%s had %s %s in %s, %s", m.Who, amount(x), failure(m.Kind-meterFail), in, usual)
	case b6:
		what := "different encryption contexts"
		if m.Kind == meterMerchants {
			what = "different merchants"
		}
		return fmt.Sprintf("%s decrypted for %s %s in %s, %s", m.Who, amount(x), what, in, usual)
	case b7:
		return fmt.Sprintf("%s used %s different keys in %s, %s", m.Who, amount(x), in, usual)
	}
	if m.Sets {
		return fmt.Sprintf("%s looked at %s different keys in %s, %s", m.Who, amount(x), in, usual)
	}
	return fmt.Sprintf("%s made %s reads of keys in %s, %s", m.Who, amount(x), in, usual)
}

func amount(x float64) string {
	if x >= 10 || x == math.Trunc(x) {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// judgeDrift looks for a little more hour after hour.
func (d *Detector) judgeDrift(m *meter, n, hour int64, x float64) {
	set := &d.set[m.Rule]
	if set.Disabled || set.Drift == 0 || m.Model.Hours < int(time.Duration(d.rules.Engine.Learning)/time.Hour) {
		return
	}
	if gap := hour - m.Drifted - 1; m.Drifted != 0 && gap > 0 {
		m.Model.Cusum = max(0, m.Model.Cusum-0.75*float64(gap))
	}
	m.Drifted = hour
	if m.Model.drift(hour, x, spread(m.Rule, oneHour)) < set.Drift || m.Model.CusumCount < uint32(set.Minimum) {
		return
	}
	mu, _ := m.Model.expect(hour, oneHour)
	if m.Rule == b10 && !d.sweeping(m) {
		return
	}
	if !d.changes.learns(set.rule.ID, m.Who, m.Key, n) {
		m.Flagged = hour
	}
	hours := hour - m.Model.CusumStart/60 + 1
	t := m.Hour.T
	t.First = min(t.First, m.Model.CusumStart*6e10)
	d.signal(signal{
		Rule: m.Rule, Who: m.Who, Keys: keysOf(m), Minute: n, Score: set.Score, Alone: true, Expected: mu, Observed: x, Window: fmt.Sprintf("%dh", hours),
		Learned: m.Model.learned(), T: t,
		What: fmt.Sprintf("%s, hour after hour for %d hours", d.whatOf(m, oneHour, x, mu), hours),
	})
	m.Model.Cusum = set.Drift / 2
}
