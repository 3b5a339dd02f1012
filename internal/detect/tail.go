package detect

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// tailScore is −log10 P(X ≥ x) of a count with mean mu and variance mu + phi·mu²
// (negative binomial; Poisson where phi is next to nothing), at most limit. A z
// score would say far too much of small counts.
func tailScore(x, mu, phi, limit float64) float64 {
	if x <= mu || x <= 0 {
		return 0
	}
	mu = max(mu, 1e-9)
	var p float64
	if phi < 1e-3 {
		p = mathext.GammaIncReg(x, mu)
	} else {
		r := 1 / phi
		p = mathext.RegIncBeta(x, r, mu/(mu+r))
	}
	if !(p > 0) { // so small that it is none, or not a number
		return limit
	}
	return min(-math.Log10(p), limit)
}

// zeroScore is −log10 P(X = 0) of the same count.
func zeroScore(mu, phi float64) float64 {
	if phi < 1e-3 {
		return mu / math.Ln10
	}
	return math.Log10(1+phi*mu) / phi
}

// normalScore is −log10 P(Z ≥ z).
func normalScore(z, limit float64) float64 {
	if z <= 0 {
		return 0
	}
	p := 0.5 * math.Erfc(z/math.Sqrt2)
	if !(p > 0) {
		return limit
	}
	return min(-math.Log10(p), limit)
}

// stable is the residual of a count on a scale on which its variance is about 1
// whatever its mean, so that a sum of residuals means the same for rare and for
// frequent events.
func stable(x, mu, phi float64) float64 {
	z := 2 * (math.Sqrt(x+0.375) - math.Sqrt(mu+0.375)) / math.Sqrt(1+phi*mu)
	return max(-3, min(3, z))
}
