package detect

import (
	"math"
	"math/bits"
)

const (
	exactValues = 64 // counted exactly up to here
	registers   = 512
)

// distinct counts different values: exactly while there are few, then by
// HyperLogLog with 512 registers (standard error 4.6 %; Flajolet et al. 2007). Two
// can be merged, and the order of values does not matter.
type distinct struct {
	Few  []uint64
	Regs []uint8 // nil while few
}

func (d *distinct) add(h uint64) {
	if d.Regs == nil {
		for _, v := range d.Few {
			if v == h {
				return
			}
		}
		if len(d.Few) < exactValues {
			d.Few = append(d.Few, h)
			return
		}
		d.Regs = make([]uint8, registers)
		for _, v := range d.Few {
			d.register(v)
		}
		d.Few = d.Few[:0]
	}
	d.register(h)
}

func (d *distinct) register(h uint64) {
	i := h >> 55
	if rank := uint8(bits.LeadingZeros64(h<<9|1<<8) + 1); rank > d.Regs[i] {
		d.Regs[i] = rank
	}
}

func (d *distinct) merge(o *distinct) {
	for _, v := range o.Few {
		d.add(v)
	}
	if o.Regs == nil {
		return
	}
	if d.Regs == nil {
		few := d.Few
		d.Regs, d.Few = make([]uint8, registers), nil
		for _, v := range few {
			d.register(v)
		}
	}
	for i, r := range o.Regs {
		d.Regs[i] = max(d.Regs[i], r)
	}
}

func (d *distinct) count() int {
	if d.Regs == nil {
		return len(d.Few)
	}
	sum, empty := 0.0, 0
	for _, r := range d.Regs {
		sum += math.Ldexp(1, -int(r))
		if r == 0 {
			empty++
		}
	}
	const m = float64(registers)
	est := 0.7213 / (1 + 1.079/m) * m * m / sum
	if est <= 2.5*m && empty > 0 {
		est = m * math.Log(m/float64(empty))
	}
	return int(est + 0.5)
}

func (d *distinct) reset() { d.Few, d.Regs = d.Few[:0], nil }

// hashString is a hash that is the same in every process, since counts outlive
// one. It need not resist collisions: whoever can choose a value can as well
// choose a known one.
func hashString(s string) uint64 {
	h := uint64(len(s)) * 0x9e3779b97f4a7c15
	for len(s) >= 8 {
		v := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		h = fold(h^v, 0xa0761d6478bd642f)
		s = s[8:]
	}
	var v uint64
	for i := range len(s) {
		v |= uint64(s[i]) << (8 * i)
	}
	return fold(fold(h^v, 0xe7037ed1a0b428db), 0x8ebc6af09c88c6e3)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mix makes of a hash one whose every bit depends on every bit.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
