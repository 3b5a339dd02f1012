package keyspec

import (
	"crypto/sha3"
	"crypto/subtle"
	"slices"
)

// This file is ML-DSA.Verify_internal (FIPS 204, algorithm 8) for a given mu, which
// filippo.io/mldsa signs but does not verify. All it works on is public, so it
// is written to be read and not to run in constant time.

const (
	mldsaQ = 8380417 // 2^23 - 2^13 + 1
	mldsaN = 256
	mldsaD = 13
)

type (
	mldsaPoly [mldsaN]uint32 // coefficients below mldsaQ
	mldsaHint [mldsaN]bool
)

// mldsaSet is a parameter set (FIPS 204, table 1).
type mldsaSet struct {
	k, l             int
	tau, beta        int
	gamma1Bits       int // gamma1 is 1 << gamma1Bits
	gamma2           uint32
	omega, challenge int // challenge: bytes of c~
}

func mldsaSetOf(s Spec) mldsaSet {
	switch s {
	case MLDSA44:
		return mldsaSet{4, 4, 39, 78, 17, (mldsaQ - 1) / 88, 80, 32}
	case MLDSA65:
		return mldsaSet{6, 5, 49, 196, 19, (mldsaQ - 1) / 32, 55, 48}
	}
	return mldsaSet{8, 7, 60, 120, 19, (mldsaQ - 1) / 32, 75, 64}
}

// verifyMu reports whether sig is a signature of mu, of 64 bytes, under the key,
// which is valid.
func verifyMu(s Spec, key, mu, sig []byte) bool {
	p := mldsaSetOf(s)
	zSize := mldsaN * (p.gamma1Bits + 1) / 8
	if len(sig) != p.challenge+p.l*zSize+p.omega+p.k {
		return false
	}
	c, rest := sig[:p.challenge], sig[p.challenge:]
	z := make([]mldsaPoly, p.l)
	for i := range z {
		if !p.unpackZ(&z[i], rest[:zSize]) {
			return false
		}
		z[i].ntt()
		rest = rest[zSize:]
	}
	hints, ok := p.unpackHints(rest)
	if !ok {
		return false
	}
	rho, t1 := key[:32], key[32:]
	ball := p.sampleInBall(c)
	ball.ntt()
	h := sha3.NewSHAKE256()
	h.Write(mu)
	for r := range p.k {
		// w = A z - c t1 2^d, row by row
		var w, t mldsaPoly
		for col := range p.l {
			a := rejNTT(rho, byte(col), byte(r))
			w.addProduct(&a, &z[col])
		}
		t.unpackT1(t1[r*320:][:320])
		t.ntt()
		var ct mldsaPoly
		ct.addProduct(&ball, &t)
		w.sub(&ct)
		w.inverseNTT()
		h.Write(p.encodeW1(&w, &hints[r]))
	}
	again := make([]byte, p.challenge)
	h.Read(again)
	return subtle.ConstantTimeCompare(again, c) == 1
}

// bitReader reads little-endian bit fields (FIPS 204, algorithms 9 to 13).
type bitReader struct {
	b    []byte
	acc  uint64
	have int
}

func (r *bitReader) next(bits int) uint32 {
	for r.have < bits {
		r.acc |= uint64(r.b[0]) << r.have
		r.b = r.b[1:]
		r.have += 8
	}
	v := uint32(r.acc & (1<<bits - 1))
	r.acc >>= bits
	r.have -= bits
	return v
}

// unpackZ reads coefficients of the signature, which must be below gamma1 - beta
// in amount (algorithm 8, line 13).
func (p mldsaSet) unpackZ(z *mldsaPoly, b []byte) bool {
	r := bitReader{b: b}
	gamma1 := 1 << p.gamma1Bits
	for i := range z {
		v := gamma1 - int(r.next(p.gamma1Bits+1))
		if v >= gamma1-p.beta || -v >= gamma1-p.beta {
			return false
		}
		z[i] = uint32((v + mldsaQ) % mldsaQ)
	}
	return true
}

// unpackT1 reads t1 2^d of a public key.
func (t *mldsaPoly) unpackT1(b []byte) {
	r := bitReader{b: b}
	for i := range t {
		t[i] = r.next(10) << mldsaD
	}
}

// unpackHints is HintBitUnpack (algorithm 21), which has one encoding for each hint.
func (p mldsaSet) unpackHints(y []byte) ([]mldsaHint, bool) {
	hints := make([]mldsaHint, p.k)
	index := 0
	for i := range hints {
		end := int(y[p.omega+i])
		if end < index || end > p.omega {
			return nil, false
		}
		for first := index; index < end; index++ {
			if index > first && y[index-1] >= y[index] {
				return nil, false
			}
			hints[i][y[index]] = true
		}
	}
	for _, b := range y[index:p.omega] {
		if b != 0 {
			return nil, false
		}
	}
	return hints, true
}

// sampleInBall makes the challenge polynomial (algorithm 29).
func (p mldsaSet) sampleInBall(seed []byte) (c mldsaPoly) {
	h := sha3.NewSHAKE256()
	h.Write(seed)
	var signs [8]byte
	h.Read(signs[:])
	var j [1]byte
	for i := mldsaN - p.tau; i < mldsaN; i++ {
		for h.Read(j[:]); int(j[0]) > i; h.Read(j[:]) {
		}
		c[i] = c[j[0]]
		bit := i + p.tau - mldsaN
		c[j[0]] = 1
		if signs[bit/8]>>(bit%8)&1 == 1 {
			c[j[0]] = mldsaQ - 1
		}
	}
	return c
}

// rejNTT makes an element of the matrix A (algorithms 30 and 32).
func rejNTT(rho []byte, column, row byte) (a mldsaPoly) {
	h := sha3.NewSHAKE128()
	h.Write(rho)
	h.Write([]byte{column, row})
	var b [168]byte // the rate, a multiple of 3
	for i := 0; i < mldsaN; {
		h.Read(b[:])
		for three := range slices.Chunk(b[:], 3) {
			if i == mldsaN {
				break
			}
			v := uint32(three[0]) | uint32(three[1])<<8 | uint32(three[2]&0x7f)<<16
			if v < mldsaQ {
				a[i] = v
				i++
			}
		}
	}
	return a
}

// encodeW1 is UseHint (algorithm 40) and w1Encode (algorithm 28).
func (p mldsaSet) encodeW1(w *mldsaPoly, hint *mldsaHint) []byte {
	m := (mldsaQ - 1) / (2 * p.gamma2) // 44 or 16
	bits := 4
	if m == 44 {
		bits = 6
	}
	out := make([]byte, 0, mldsaN*bits/8)
	acc, have := uint32(0), 0
	for i := range w {
		r1, r0 := p.decompose(w[i])
		if hint[i] && r0 > 0 {
			r1 = (r1 + 1) % m
		} else if hint[i] {
			r1 = (r1 + m - 1) % m
		}
		acc |= r1 << have
		for have += bits; have >= 8; have -= 8 {
			out = append(out, byte(acc))
			acc >>= 8
		}
	}
	return out
}

// decompose splits r into high and low bits (algorithm 36).
func (p mldsaSet) decompose(r uint32) (r1 uint32, r0 int) {
	r0 = int(r % (2 * p.gamma2))
	if r0 > int(p.gamma2) {
		r0 -= int(2 * p.gamma2)
	}
	if int(r)-r0 == mldsaQ-1 {
		return 0, r0 - 1
	}
	return uint32(int(r)-r0) / (2 * p.gamma2), r0
}

func mulQ(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % mldsaQ) }

func (w *mldsaPoly) addProduct(a, b *mldsaPoly) {
	for i := range w {
		w[i] = uint32((uint64(w[i]) + uint64(a[i])*uint64(b[i])) % mldsaQ)
	}
}

func (w *mldsaPoly) sub(a *mldsaPoly) {
	for i := range w {
		w[i] = (w[i] + mldsaQ - a[i]) % mldsaQ
	}
}

// mldsaZetas are 1753^BitRev8(i) mod q (FIPS 204, appendix B).
var mldsaZetas = func() (z [mldsaN]uint32) {
	power := uint32(1)
	for i := range mldsaN {
		rev := 0
		for bit := range 8 {
			rev |= i >> bit & 1 << (7 - bit)
		}
		z[rev] = power
		power = mulQ(power, 1753)
	}
	return z
}()

// ntt is algorithm 41.
func (w *mldsaPoly) ntt() {
	m := 0
	for size := 128; size >= 1; size /= 2 {
		for start := 0; start < mldsaN; start += 2 * size {
			m++
			for j := start; j < start+size; j++ {
				t := mulQ(mldsaZetas[m], w[j+size])
				w[j+size] = (w[j] + mldsaQ - t) % mldsaQ
				w[j] = (w[j] + t) % mldsaQ
			}
		}
	}
}

// inverseNTT is algorithm 42.
func (w *mldsaPoly) inverseNTT() {
	m := mldsaN
	for size := 1; size < mldsaN; size *= 2 {
		for start := 0; start < mldsaN; start += 2 * size {
			m--
			for j := start; j < start+size; j++ {
				t := w[j]
				w[j] = (t + w[j+size]) % mldsaQ
				w[j+size] = mulQ(mldsaQ-mldsaZetas[m], (t+mldsaQ-w[j+size])%mldsaQ)
			}
		}
	}
	for i := range w {
		w[i] = mulQ(w[i], 8347681) // 256^-1 mod q
	}
}
