package detect

import (
	"fmt"
	"math"
	"slices"
)

// scale is a length of window.
type scale uint8

const (
	oneMinute scale = iota
	fiveMinutes
	oneHour
	scales // how many there are
)

func (s scale) String() string { return [scales]string{"1m", "5m", "1h"}[s] }

// moments are decayed sums over hours: how many (N), and of each scale the mean
// count in a window and the mean of its square.
type moments struct {
	N    float32
	Mean [scales]float32
	Sq   [scales]float32
}

func (m *moments) add(decay float32, h *hourStats) {
	m.N = decay*m.N + 1
	for s := range m.Mean {
		m.Mean[s] = decay*m.Mean[s] + h.mean[s]
		m.Sq[s] = decay*m.Sq[s] + h.sq[s]
	}
}

// at is the mean and the spread (phi: variance = mean + phi·mean²) of a window of
// that scale. The spread is negative where counts vary less than by chance.
func (m *moments) at(s scale) (mu, phi float64) {
	if m.N == 0 {
		return 0, 0
	}
	mu = float64(m.Mean[s] / m.N)
	if mu < 1e-9 {
		return mu, 0
	}
	return mu, (float64(m.Sq[s]/m.N) - mu - mu*mu) / (mu * mu)
}

// hourStats is what an hour says to the model.
type hourStats struct {
	mean, sq [scales]float32
	top      [scales]float32 // the largest window
}

const (
	dayBins  = 48  // hour of day, for working days and for the weekend
	weekBins = 168 // hour of week
	// A bin is met once a day: with this decay about 12 of its days count.
	binDecay    = 0.92
	weekDecay   = 0.85
	allDecay    = 0.995
	monthHours  = 28 * 24 // from here on the hours of the week are told apart
	maxCatchUp  = 14 * 24 // hours without events that are learned as zeros
	recentHours = 16
)

// model is the baseline of a count: how many there are in windows of an hour of
// the week, pooled to hour of day (working day or weekend) until four weeks have
// been seen, and to all hours until the hour of day has.
type model struct {
	Start, Next int64 // hours since 1970: the first, and the next to learn
	Hours       int   // learned
	All         moments
	Day         []moments // dayBins, once there is something to tell apart
	Week        []moments // weekBins, after four weeks
	Busy        moments   // of the hours with any: their largest windows
	Max         [scales]float32
	Recent      []float32 // counts of the last hours with any, for the median while it is young
	Cusum       float64
	CusumStart  int64 // minute at which the sum left zero
	CusumCount  uint32
}

// binsOf are the bins of an hour since 1970 (which began on a Thursday).
func binsOf(hour int64) (day, week int) {
	h := int(((hour % 24) + 24) % 24)
	weekday := int((((hour - int64(h)) / 24 % 7) + 7) % 7) // 0 is Thursday
	day, week = h, weekday*24+h
	if weekday == 2 || weekday == 3 { // Saturday, Sunday
		day += 24
	}
	return day, week
}

// learn adds an hour. Hours between are learned as empty.
func (m *model) learn(hour int64, h *hourStats) {
	if m.Next == 0 {
		m.Start, m.Next = hour, hour
	}
	var none hourStats
	for from := max(m.Next, hour-maxCatchUp); from < hour; from++ {
		m.one(from, &none)
	}
	if hour >= m.Next {
		m.one(hour, h)
		m.Next = hour + 1
	}
}

// skip passes over an hour from which nothing may be learned.
func (m *model) skip(hour int64) {
	if m.Next != 0 && hour >= m.Next {
		var none hourStats
		for from := max(m.Next, hour-maxCatchUp); from < hour; from++ {
			m.one(from, &none)
		}
		m.Next = hour + 1
	}
}

func (m *model) one(hour int64, h *hourStats) {
	h = m.tamed(hour, h)
	day, week := binsOf(hour)
	m.Hours++
	m.All.add(allDecay, h)
	if h.mean[oneHour] > 0 {
		busy := hourStats{mean: h.top}
		for s, x := range h.top {
			busy.sq[s] = x * x
		}
		m.Busy.add(0.98, &busy)
		for s := range m.Max {
			m.Max[s] = max(m.Max[s], h.top[s])
		}
		if len(m.Recent) == recentHours {
			m.Recent = append(m.Recent[:0], m.Recent[1:]...)
		}
		m.Recent = append(m.Recent, h.mean[oneHour])
		if m.Day == nil && len(m.Recent) >= 4 { // most made-up names never come so far
			m.Day = make([]moments, dayBins)
		}
	}
	if m.Day != nil {
		m.Day[day].add(binDecay, h)
	}
	if m.Hours >= monthHours && m.Day != nil {
		if m.Week == nil {
			m.Week = make([]moments, weekBins)
		}
		m.Week[week].add(weekDecay, h)
	}
}

// tamed cuts an hour that is high, but not so high that it was flagged, to four
// deviations over what was expected: one odd hour must not widen the baseline.
func (m *model) tamed(hour int64, h *hourStats) *hourStats {
	day, _ := binsOf(hour)
	if m.Hours < 72 || m.Day == nil || m.Day[day].N < 4 {
		return h
	}
	mu, phi := m.expect(hour, oneHour)
	width := 4.0
	if m.Cusum > 5 { // a drift may be under way
		width = 1
	}
	limit := float32(mu + width*math.Sqrt(mu+max(0, phi)*mu*mu) + 1)
	if x := h.mean[oneHour]; x > limit {
		f := limit / x
		t := *h
		for s := range t.mean {
			t.mean[s] *= f
			t.sq[s] *= f * f
			t.top[s] *= f
		}
		return &t
	}
	return h
}

// expect is mean and spread of a window in an hour. The less is known of the
// hour, the wider the spread.
func (m *model) expect(hour int64, s scale) (mu, phi float64) {
	mu, phi = m.All.at(s)
	_, phiAll := m.All.at(oneHour)
	known := 0.0
	if m.Day != nil {
		day, week := binsOf(hour)
		mu, phi = pool(&m.Day[day], s, mu, phi, 0.5)
		known = float64(m.Day[day].N)
		if m.Week != nil {
			mu, phi = pool(&m.Week[week], s, mu, phi, 3)
			known += float64(m.Week[week].N)
		}
	}
	floor := 0.3 / (float64(m.All.N) + 24) / [scales]float64{60, 12, 1}[s]
	return max(mu, floor), phi + max(0, min(phiAll, 4))/(known+0.5) + 0.5/(float64(m.Hours)+1)
}

// pool draws a bin of weight N toward what is known with weight prior.
func pool(b *moments, s scale, mu, phi, prior float64) (float64, float64) {
	n := float64(b.N)
	bm, bp := b.at(s)
	if n == 0 {
		return mu, phi
	}
	w := n / (n + prior)
	wp := n / (n + 2) // a variance takes longer to know
	if bm < 1e-9 {
		bp = phi
	}
	return w*bm + (1-w)*mu, wp*bp + (1-wp)*phi
}

// episode is the score of a window of something that happens now and then, such
// as deployments: how rare it is that it happens at all, and how large it is among
// those that did. It is false where there is no such history.
func (m *model) episode(x float64, s scale, spread, limit float64) (float64, bool) {
	// Decayed alike, an hour in three with any is no episode.
	if m.Busy.N < 0.9 || m.All.N < 24 || float64(m.Busy.N) > 0.33*float64(min(m.All.N, 200)) {
		return 0, false
	}
	mu, phi := m.Busy.at(s)
	n := float64(m.Busy.N)
	return min(limit, rarity(m.Hours, m.Busy.N)+tailScore(x, 1.15*mu, max(0, phi)+spread+0.5/n, limit)), true
}

// near is expect, but within ten minutes of the hour's edge the larger of both
// hours: batches do not start on the second.
func (m *model) near(minute int64, s scale) (mu, phi float64) {
	hour := minute / 60
	mu, phi = m.expect(hour, s)
	other := hour
	switch at := minute % 60; {
	case at < 10:
		other--
	case at >= 50:
		other++
	}
	if other != hour {
		if mu2, phi2 := m.expect(other, s); mu2 > mu {
			return mu2, max(phi, phi2)
		}
	}
	return mu, phi
}

// extreme is the test of a baseline that is young: far above the median of its
// hours, in units of the median deviation, and above all that was.
func (m *model) extreme(x float64, s scale) bool {
	if len(m.Recent) < 6 || x < 3*float64(m.Max[s]) {
		return false
	}
	v := slices.Clone(m.Recent)
	slices.Sort(v)
	med := float64(v[len(v)/2])
	for i := range v {
		v[i] = float32(math.Abs(float64(v[i]) - med))
	}
	slices.Sort(v)
	mad := 1.4826 * float64(v[len(v)/2])
	per := [scales]float64{60, 12, 1}[s]
	center, width := med/per, (mad+math.Sqrt(med)+1)/math.Sqrt(per)
	return x > 8*center+50 && (x-center)/width > 20
}

// drift adds an hour to the sum of small excesses and reports the sum.
func (m *model) drift(hour int64, x float64, minSpread float64) float64 {
	mu, phi := m.expect(hour, oneHour)
	m.Cusum = max(0, m.Cusum+stable(x, mu, max(phi, minSpread))-0.75)
	m.Cusum = min(m.Cusum, 40)
	if m.Cusum == 0 {
		m.CusumStart, m.CusumCount = 0, 0
	} else {
		if m.CusumStart == 0 {
			m.CusumStart = hour * 60
		}
		m.CusumCount += uint32(x)
	}
	return m.Cusum
}

// learned says from what the baseline was made.
func (m *model) learned() string {
	days := m.Hours / 24
	switch {
	case m.Week != nil:
		return fmt.Sprintf("%d days, hour of week", days)
	case m.Day != nil && m.Hours >= 72:
		return fmt.Sprintf("%d days, hour of day", days)
	}
	return fmt.Sprintf("%d hours, all alike", m.Hours)
}
