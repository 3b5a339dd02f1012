package custodian

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// slowMul is multiplication as FIPS 197 section 4.2 defines it: of polynomials,
// then the remainder.
func slowMul(a, b byte) byte {
	var p uint16
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= uint16(a) << i
		}
	}
	for i := 15; i >= 8; i-- {
		if p>>i&1 == 1 {
			p ^= 0x11b << (i - 8)
		}
	}
	return byte(p)
}

func TestFieldMultiplication(t *testing.T) {
	t.Parallel()
	if mul(0x57, 0x83) != 0xc1 || mul(0x57, 0x13) != 0xfe {
		t.Error("the examples of FIPS 197 section 4.2 do not hold")
	}
	for a := range 256 {
		for b := range 256 {
			if got, want := mul(byte(a), byte(b)), slowMul(byte(a), byte(b)); got != want {
				t.Fatalf("%x·%x: got %x, want %x", a, b, got, want)
			}
		}
	}
}

func TestFieldInverse(t *testing.T) {
	t.Parallel()
	if inv(0) != 0 {
		t.Error("inv(0) is not 0")
	}
	for a := 1; a < 256; a++ {
		if got := mul(byte(a), inv(byte(a))); got != 1 {
			t.Errorf("%x·inv(%x): got %x, want 1", a, a, got)
		}
	}
}

func TestAnyThresholdOfSharesGivesTheKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, maxShares).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		key := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")
		order := rapid.Permutation(numbers(n)).Draw(t, "order")
		use := rapid.IntRange(k, n).Draw(t, "use") // more than needed is fine
		values := split(key, n, k)
		var xs []byte
		var ys [][]byte
		for _, x := range order[:use] {
			xs, ys = append(xs, x), append(ys, values[x-1])
		}
		if !bytes.Equal(combine(xs, ys), key) {
			t.Fatalf("shares %v of %d with threshold %d give another key", xs, n, k)
		}
	})
}

func numbers(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

// With k−1 shares every key stays possible: for each candidate there is a
// polynomial of the right degree through the shares and the candidate.
func TestTooFewSharesFitEveryKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, maxShares).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		values := split([]byte{rapid.Byte().Draw(t, "key")}, n, k)
		xs := rapid.Permutation(numbers(n)).Draw(t, "order")
		for candidate := range 256 {
			// The value that the k-th share would have if the key were candidate:
			// interpolation at xs[k-1] instead of 0.
			last := interpolateAt(xs[k-1], append([]byte{0}, xs[:k-1]...),
				append([]byte{byte(candidate)}, values1(values, xs[:k-1])...))
			ys := append(values1(values, xs[:k-1]), last)
			split := make([][]byte, k)
			for i := range ys {
				split[i] = []byte{ys[i]}
			}
			if got := combine(xs[:k], split)[0]; got != byte(candidate) {
				t.Fatalf("candidate %d is ruled out: the shares give %d", candidate, got)
			}
		}
	})
}

func values1(values [][]byte, xs []byte) []byte {
	var out []byte
	for _, x := range xs {
		out = append(out, values[x-1][0])
	}
	return out
}

func interpolateAt(x byte, xs, ys []byte) byte {
	var y byte
	for i, xi := range xs {
		w := ys[i]
		for j, xj := range xs {
			if j != i {
				w = slowMul(w, slowMul(x^xj, inv(xi^xj)))
			}
		}
		y ^= w
	}
	return y
}

// And no key is more probable than another: over all polynomials, each key gives
// each possible view of k−1 shares exactly once.
func TestTooFewSharesAreEquallyProbableForEveryKey(t *testing.T) {
	t.Parallel()
	for _, key := range []byte{0, 1, 0x53, 0xff} {
		seen := map[[2]byte]bool{}
		for c := range 1 << 16 {
			coefficients := [][]byte{{key}, {byte(c)}, {byte(c >> 8)}}
			seen[[2]byte{evaluate(coefficients, 1)[0], evaluate(coefficients, 3)[0]}] = true
		}
		if len(seen) != 1<<16 {
			t.Errorf("key %d: %d views of two of three shares, want %d", key, len(seen), 1<<16)
		}
	}
}

// The polynomials are new for each byte and each split, and every coefficient
// value occurs, zero included.
func TestPolynomialsAreUniform(t *testing.T) {
	t.Parallel()
	const splits = 1024
	key := make([]byte, keySize)
	var seen [256]int
	for range splits {
		for _, v := range split(key, 2, 2)[0] { // at x = 1 with key 0: the coefficient
			seen[v]++
		}
	}
	// Mean 128, standard deviation 11.3: nine deviations do not happen.
	for v, n := range seen {
		if n < 128-100 || n > 128+100 {
			t.Errorf("coefficient %d came %d times, want about 128", v, n)
		}
	}
}

func TestOneShareLessGivesAnotherKey(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0x5a}, keySize)
	values := split(key, 5, 3)
	if bytes.Equal(combine([]byte{1, 2}, values[:2]), key) {
		t.Error("two shares of threshold three gave the key")
	}
}
