package custodian

import (
	"crypto/rand"

	"cardea/internal/secret"
)

// split divides key into n values, any k of which give it back; value i is for
// x = i+1. The coefficients are uniform, zero included: a polynomial of forced
// degree would rule some keys out for k−1 holders.
func split(key []byte, n, k int) [][]byte {
	coefficients := make([][]byte, k)
	coefficients[0] = key
	for i := 1; i < k; i++ {
		coefficients[i] = make([]byte, len(key))
		rand.Read(coefficients[i])
		defer secret.Wipe(coefficients[i])
	}
	values := make([][]byte, n)
	for i := range values {
		values[i] = evaluate(coefficients, byte(i+1))
	}
	return values
}

// evaluate is the polynomial of each byte at x, by Horner's rule.
func evaluate(coefficients [][]byte, x byte) []byte {
	y := make([]byte, len(coefficients[0]))
	for i := len(coefficients) - 1; i >= 0; i-- {
		for j, c := range coefficients[i] {
			y[j] = mul(y[j], x) ^ c
		}
	}
	return y
}

// combine interpolates at 0 the polynomials that have the given values at xs,
// which are distinct, not zero and not secret.
func combine(xs []byte, values [][]byte) []byte {
	key := make([]byte, len(values[0]))
	for i, xi := range xs {
		weight := byte(1)
		for j, xj := range xs {
			if j != i {
				weight = mul(weight, mul(xj, inv(xi^xj)))
			}
		}
		for b, v := range values[i] {
			key[b] ^= mul(weight, v)
		}
	}
	return key
}
