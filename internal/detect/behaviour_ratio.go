package detect

import (
	"fmt"
	"math"
	"time"
)

// ratio is the usual share of decrypts among a principal's uses of a key, by hour
// of day, and how much it varies (B8).
type ratio struct {
	Reads, All [24]float32 // decayed sums of the hour of day
	R, N       float32     // of all hours
	Over       float32     // mean of the squared residual: 1 if it varies by chance only
	Hours      int
	Cusum      float64

	HourR, HourN uint32 // of the open hour
	T            tally
}

func (r *ratio) count(o *opTally) {
	switch {
	case o.Op.reads():
		r.HourR += o.N
		r.HourN += o.N
		r.T.merge(&o.tally)
	case o.Op.encrypts():
		r.HourN += o.N
	}
}

// expect is the share expected in an hour of the day.
func (r *ratio) expect(h int64) float64 {
	i := ((h % 24) + 24) % 24
	all := (float64(r.R) + 0.5) / (float64(r.N) + 1)
	n := float64(r.All[i])
	q := (float64(r.Reads[i]) + 20*all) / (n + 20)
	return min(max(q, 0.002), 0.998)
}

// proportion is B8 for an hour of a pair.
func (d *Detector) proportion(n, hour int64, p *pair) {
	r := &p.Ratio
	x, total := float64(r.HourR), float64(r.HourN)
	t := r.T
	r.HourR, r.HourN, r.T = 0, 0, tally{}
	if total == 0 {
		return
	}
	set := &d.set[b8]
	q := r.expect(hour)
	sd := math.Sqrt(total * q * (1 - q))
	z := (x - total*q) / sd
	over := max(1, float64(r.Over))
	flagged := false
	learning := int(time.Duration(d.rules.Engine.Learning) / time.Hour)
	if !set.Disabled && r.Hours >= learning/3 && total >= float64(set.Minimum) && (n-p.First)/60 >= int64(learning) {
		share := x / total
		zz := z / math.Sqrt(over*(1+total*0.002)) // and a share drifts by itself
		r.Cusum = min(40, max(0, r.Cusum+max(-3, min(3, zz))-0.75))
		score := normalScore(zz, d.rules.Engine.ScoreCap)
		window := "1h"
		if set.Drift > 0 && r.Cusum >= set.Drift && share > q+0.05 {
			score, window = max(score, set.Score), "hours"
			r.Cusum = set.Drift / 2
		}
		if share < q+0.05 || share < 1.1*q {
			score = 0
		}
		flagged = score >= set.Score
		if score >= 1.5 {
			d.signal(signal{
				Rule: b8, Who: p.Who, Keys: []string{p.Key}, Minute: n, Score: score, Alone: flagged, Expected: q, Observed: math.Round(share*1000) / 1000,
				Window: window, Learned: fmt.Sprintf("%d hours with calls, hour of day", r.Hours), T: t,
				What: fmt.Sprintf("%.0f %% of %s calls of %s on %s opened ciphertext, where %.0f %% is usual", share*100, amount(total), p.Who, p.Key, q*100),
			})
		}
	}
	if flagged && !d.changes.learns(set.rule.ID, p.Who, p.Key, n) {
		return
	}
	r.Hours++
	i := ((hour % 24) + 24) % 24
	r.Reads[i], r.All[i] = 0.9*r.Reads[i]+float32(x), 0.9*r.All[i]+float32(total)
	r.R, r.N = 0.99*r.R+float32(x), 0.99*r.N+float32(total)
	if r.Hours > 6 && total >= 10 {
		r.Over = 0.97*r.Over + 0.03*float32(min(z*z, 50))
	} else {
		r.Over = max(r.Over, 1)
	}
}
