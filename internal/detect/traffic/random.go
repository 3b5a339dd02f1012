package traffic

import "math"

// random is a small generator of its own (SplitMix64, Steele et al. 2014), so that
// a seed gives the same traffic in every release of Go.
type random struct{ s uint64 }

func newRandom(seed uint64, streams ...uint64) *random {
	r := &random{seed}
	for _, s := range streams {
		r.s = r.next() ^ s*0x9e3779b97f4a7c15
	}
	return r
}

func (r *random) next() uint64 {
	r.s += 0x9e3779b97f4a7c15
	z := r.s
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

func (r *random) intn(n int) int { return int(r.next() % uint64(n)) }

// between is uniform in [lo, hi).
func (r *random) between(lo, hi float64) float64 { return lo + (hi-lo)*r.float() }

func (r *random) normal() float64 {
	return math.Sqrt(-2*math.Log(1-r.float())) * math.Cos(2*math.Pi*r.float())
}

func (r *random) poisson(mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.normal())))
	}
	limit, p, n := math.Exp(-mean), 1.0, 0
	for {
		p *= r.float()
		if p <= limit {
			return n
		}
		n++
	}
}

// zipf picks one of n, the first most often.
func (r *random) zipf(n int) int {
	return min(n-1, int(math.Pow(float64(n+1), r.float()))-1)
}
