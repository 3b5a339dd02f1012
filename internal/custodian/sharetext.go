package custodian

import (
	"bytes"
	"crypto/subtle"
	"strconv"

	"cardea/internal/secret"
)

// The text of a share: prefix, tenant tag, generation, index, then 12 groups of
// 5 symbols: threshold, shares, 52 of the value, 6 of the checksum.
const (
	sharePrefix  = "cardea-share-1-"
	alphabet     = "qpzry9x8gf2tvdw0s3jn54khce6mua7l" // BIP-173
	tagSymbols   = 8
	groupSize    = 5
	groups       = 12
	checkSymbols = 6
	dataSymbols  = groups * groupSize
	maxShareText = 128
)

// shareText writes a share as ParseShare reads it.
func (p Part) shareText() secret.Bytes {
	text := make([]byte, 0, maxShareText)
	text = append(text, sharePrefix...)
	for _, s := range regroup(p.tenant[:]) {
		text = append(text, symbol(s))
	}
	text = append(text, '-')
	text = strconv.AppendInt(text, int64(p.generation), 10)
	text = append(text, '-')
	text = strconv.AppendInt(text, int64(p.index), 10)

	data := make([]byte, 0, dataSymbols)
	defer func() { secret.Wipe(data) }()
	data = append(data, byte(p.threshold-1), byte(p.shares-1))
	value := regroup(p.value.Expose())
	defer secret.Wipe(value)
	data = append(data, value...)
	sum := checksum(text, data)
	data = append(data, sum[:]...)
	for i, s := range data {
		if i%groupSize == 0 {
			text = append(text, '-')
		}
		text = append(text, symbol(s))
	}
	return secret.New(text)
}

// ParseShare reads the text of a share. There is one valid spelling: lower case,
// no white space around it. Any single mistyped character and any two neighbours
// exchanged are noticed. The error is a [*PartError] with [ErrMalformed], which
// names the share and, where it can, the group with the mistake. The caller
// keeps text.
func ParseShare(text secret.Bytes) (Part, error) {
	p := Part{form: FormShares}
	if text.Len() > maxShareText {
		return Part{}, p.malformed("text has %d characters, at most %d", text.Len(), maxShareText)
	}
	body, ok := bytes.CutPrefix(text.Expose(), []byte(sharePrefix))
	if !ok {
		return Part{}, p.malformed("text does not begin with %q", sharePrefix)
	}
	fields := bytes.Split(body, []byte("-"))
	if len(fields) > 2 {
		// Read first, so that every later complaint names the share.
		p.index, _ = parseNumber(fields[2], maxShares)
	}
	if len(fields) != 3+groups {
		return Part{}, p.malformed("text has %d groups, want %d", max(0, len(fields)-3), groups)
	}
	tag, ok := symbols(fields[0])
	if !ok || len(tag) != tagSymbols {
		return Part{}, p.malformed("has a malformed tenant tag")
	}
	copy(p.tenant[:], ungroup(tag))
	if p.generation, ok = parseNumber(fields[1], maxGeneration); !ok {
		return Part{}, p.malformed("has a malformed generation")
	}
	if p.index == 0 {
		return Part{}, p.malformed("has a malformed number: want 1 to %d", maxShares)
	}
	data := make([]byte, 0, dataSymbols)
	defer func() { secret.Wipe(data) }()
	for i, g := range fields[3:] {
		if len(g) != groupSize {
			return Part{}, p.malformed("group %d has %d characters, want %d", i+1, len(g), groupSize)
		}
		s, ok := symbols(g)
		if !ok {
			return Part{}, p.malformed("group %d has a character that no share has", i+1)
		}
		data = append(data, s...)
		secret.Wipe(s)
	}
	header := text.Expose()[:text.Len()-groups*(1+groupSize)]
	if !checksumHolds(header, data) {
		if g := mistypedGroup(header, data); g > 0 {
			return Part{}, p.malformed("is mistyped in group %d: its checksum does not match", g)
		}
		return Part{}, p.malformed("is mistyped: its checksum does not match")
	}
	p.threshold, p.shares = int(data[0])+1, int(data[1])+1
	if checkTerms(FormShares, p.shares, p.threshold) != nil || p.index > p.shares {
		return Part{}, p.malformed("says it is number %d of %d, of which %d are needed", p.index, p.shares, p.threshold)
	}
	value := data[2 : dataSymbols-checkSymbols]
	// 52 symbols have 260 bits; the last four are not part of the value.
	if value[len(value)-1]&0x0f != 0 {
		return Part{}, p.malformed("has bits after its end")
	}
	p.value = secret.New(ungroup(value))
	return p, nil
}

// parseNumber reads 1 to limit in the one way that strconv writes it.
func parseNumber(b []byte, limit int) (int, bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 || n > limit || strconv.Itoa(n) != string(b) {
		return 0, false
	}
	return n, true
}

// symbol is alphabet[v] and symbolValue its inverse, without a look-up at a secret
// place.
func symbol(v byte) byte {
	var c byte
	for i := range byte(len(alphabet)) {
		c |= alphabet[i] & -byte(subtle.ConstantTimeByteEq(i, v))
	}
	return c
}

func symbolValue(c byte) (byte, bool) {
	var v byte
	found := 0
	for i := range byte(len(alphabet)) {
		eq := subtle.ConstantTimeByteEq(alphabet[i], c)
		v |= i & -byte(eq)
		found |= eq
	}
	return v, found == 1
}

func symbols(text []byte) ([]byte, bool) {
	s := make([]byte, len(text))
	all := true
	for i, c := range text {
		v, ok := symbolValue(c)
		s[i], all = v, all && ok
	}
	return s, all
}

// regroup cuts bytes into symbols of five bits, first bit first, the last one
// filled with zeros. ungroup is its inverse; it drops the fill.
func regroup(b []byte) []byte {
	out := make([]byte, 0, (len(b)*8+4)/5)
	acc, bits := uint32(0), 0
	for _, v := range b {
		acc, bits = acc<<8|uint32(v), bits+8
		for ; bits >= 5; bits -= 5 {
			out = append(out, byte(acc>>(bits-5)&31))
		}
	}
	if bits > 0 {
		out = append(out, byte(acc<<(5-bits)&31))
	}
	return out
}

func ungroup(s []byte) []byte {
	out := make([]byte, 0, len(s)*5/8)
	acc, bits := uint32(0), 0
	for _, v := range s {
		acc, bits = acc<<5|uint32(v), bits+5
		if bits >= 8 {
			out = append(out, byte(acc>>(bits-8)))
			bits -= 8
		}
	}
	return out
}

// polymod and the functions below are the checksum of bech32m (BIP-350) with
// the text before the groups as human-readable part. Up to 1023 symbols it finds
// any error in three of them.
func polymod(sum uint32, symbols ...byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	for _, v := range symbols {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range generator {
			sum ^= g & -(top >> i & 1)
		}
	}
	return sum
}

const bech32m = 0x2bc830a3

func headerSum(header []byte) uint32 {
	sum := uint32(1)
	for _, c := range header {
		sum = polymod(sum, c>>5)
	}
	sum = polymod(sum, 0)
	for _, c := range header {
		sum = polymod(sum, c&31)
	}
	return sum
}

func checksum(header, data []byte) [checkSymbols]byte {
	sum := polymod(headerSum(header), data...)
	sum = polymod(sum, make([]byte, checkSymbols)...) ^ bech32m
	var s [checkSymbols]byte
	for i := range s {
		s[i] = byte(sum >> (5 * (checkSymbols - 1 - i)) & 31)
	}
	return s
}

func checksumHolds(header, data []byte) bool {
	return polymod(headerSum(header), data...) == bech32m
}

// mistypedGroup is the group of the one symbol whose change would make the
// checksum hold, or 0 if there is none. It says where and never what: a text
// that is corrected by guessing can be another share.
func mistypedGroup(header, data []byte) int {
	start := headerSum(header)
	for i := range data {
		was := data[i]
		for change := byte(1); change < 32; change++ {
			data[i] = was ^ change
			if polymod(start, data...) == bech32m {
				data[i] = was
				return i/groupSize + 1
			}
		}
		data[i] = was
	}
	return 0
}
