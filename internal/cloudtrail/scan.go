package cloudtrail

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may be in each other. CloudTrail's
// deepest, policies aside, which are texts, have about a dozen.
const maxDepth = 64

// fault is why a scan ended early.
type fault uint8

const (
	faultNone  fault = iota
	faultShort       // the value goes on after the end of the buffer
	faultBad         // not JSON (RFC 8259)
	faultDeep
	faultTwice // a member of a record is there twice: readers differ in which they take
)

// scanner reads JSON values in a buffer, strictly: what encoding/json refuses it
// refuses. After a fault it does nothing more. It makes no garbage: texts without
// escapes are parts of the buffer, others of scratch, until the next record.
type scanner struct {
	b       []byte
	i       int
	depth   int
	fault   fault
	scratch []byte
}

func (s *scanner) reset(b []byte) {
	s.b, s.i, s.depth, s.fault, s.scratch = b, 0, 0, faultNone, s.scratch[:0]
}

func (s *scanner) fail(f fault) {
	if s.fault == faultNone {
		s.fault = f
	}
}

// peek skips white space and gives the next byte, 0 after a fault.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c > ' ' || !space(c) {
			return c
		}
		s.i++
	}
	s.fail(faultShort)
	return 0
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// object enters an object, if one is next; array an array.
func (s *scanner) object() bool { return s.enter('{') }
func (s *scanner) array() bool  { return s.enter('[') }

func (s *scanner) enter(open byte) bool {
	if s.fault != faultNone || s.peek() != open {
		return false
	}
	if s.depth++; s.depth > maxDepth {
		s.fail(faultDeep)
		return false
	}
	s.i++
	return true
}

// member reads the name of the next member up to its value, or leaves the object
// and gives false.
func (s *scanner) member(first bool) ([]byte, bool) {
	if s.fault != faultNone {
		return nil, false
	}
	c := s.peek()
	switch {
	case c == '}':
		s.i++
		s.depth--
		return nil, false
	case first:
	case c == ',':
		s.i++
		c = s.peek()
	default:
		s.fail(faultBad)
	}
	if c != '"' {
		s.fail(faultBad)
	}
	if s.fault != faultNone {
		return nil, false
	}
	name := s.text()
	if c = s.peek(); c != ':' {
		s.fail(faultBad)
		return nil, false
	}
	s.i++
	s.peek()
	return name, s.fault == faultNone
}

// element goes to the next element, or leaves the array and gives false.
func (s *scanner) element(first bool) bool {
	if s.fault != faultNone {
		return false
	}
	c := s.peek()
	switch {
	case c == ']':
		s.i++
		s.depth--
		return false
	case first:
	case c == ',':
		s.i++
		if s.peek() == ']' {
			s.fail(faultBad)
		}
	default:
		s.fail(faultBad)
	}
	return s.fault == faultNone
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text reads a string, which must be next. What is no UTF-8 in it becomes U+FFFD.
func (s *scanner) text() []byte {
	raw, plain := s.quoted()
	if s.fault != faultNone || plain {
		return raw
	}
	from := len(s.scratch)
	var ok bool
	if s.scratch, ok = unquote(s.scratch, raw); !ok {
		s.fail(faultBad)
		return nil
	}
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}

// quoted finds the end of a string: what is between the quotation marks, and
// whether that is plain ASCII without escapes.
func (s *scanner) quoted() (raw []byte, plain bool) {
	b := s.b
	i := s.i + 1
	start, high := i, uint64(0)
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			q, e := x^(ones*'"'), x^(ones*'\\')
			// The lowest of these bits is right, which is all that is used of them.
			stop := ((q - ones) &^ q) | ((e - ones) &^ e) | ((x - ones*' ') &^ x)
			if stop &= highs; stop != 0 {
				n := bits.TrailingZeros64(stop) >> 3
				high |= x & (1<<(8*n) - 1)
				i += n
				break
			}
			high |= x
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
			high |= uint64(b[i])
			i++
		}
		switch {
		case i >= len(b):
			s.fail(faultShort)
			return nil, false
		case b[i] == '"':
			s.i = i + 1
			return b[start:i], high&highs == 0
		case b[i] < ' ':
			s.fail(faultBad)
			return nil, false
		}
		high |= highs // an escape
		if i += 2; i > len(b) {
			s.fail(faultShort)
			return nil, false
		}
	}
}

// unquote appends what a string with escapes means.
func unquote(dst, raw []byte) ([]byte, bool) {
	for i := 0; i < len(raw); {
		c := raw[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(raw[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case c != '\\':
			dst = append(dst, c)
			i++
			continue
		case i+1 >= len(raw):
			return dst, false
		}
		switch c = raw[i+1]; c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n := escaped(raw[i:])
			if n == 0 {
				return dst, false
			}
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		default:
			return dst, false
		}
		i += 2
	}
	return dst, true
}

// escaped reads one \uxxxx, or two that are a surrogate pair.
func escaped(raw []byte) (rune, int) {
	r := hex4(raw)
	if r < 0 {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if low := hex4(raw[6:]); low >= 0 {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

func hex4(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	v, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(v)
}

// skip reads a value, whatever it is, and gives its bytes.
func (s *scanner) skip() []byte {
	if s.fault != faultNone {
		return nil
	}
	c := s.peek()
	from := s.i
	switch c {
	case '"':
		raw, plain := s.quoted()
		if s.fault == faultNone && !plain && !escapesOf(raw) {
			s.fail(faultBad)
		}
	case '{':
		if s.object() {
			for first := true; ; first = false {
				if !s.skipMember(first) {
					break
				}
				s.skip()
			}
		}
	case '[':
		if s.array() {
			for first := true; s.element(first); first = false {
				s.skip()
			}
		}
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.fault != faultNone {
		return nil
	}
	return s.b[from:s.i]
}

// skipMember is member for one whose name is not looked at.
func (s *scanner) skipMember(first bool) (more bool) {
	kept := len(s.scratch)
	_, more = s.member(first)
	s.scratch = s.scratch[:kept]
	return more
}

// escapesOf reports whether the escapes in a string are sound.
func escapesOf(raw []byte) bool {
	for {
		at := bytes.IndexByte(raw, '\\')
		if at < 0 {
			return true
		}
		if at+1 >= len(raw) {
			return false
		}
		switch raw[at+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			raw = raw[at+2:]
		case 'u':
			if hex4(raw[at:]) < 0 {
				return false
			}
			raw = raw[at+6:]
		default:
			return false
		}
	}
}

func (s *scanner) literal(word string) {
	have := s.b[s.i:min(s.i+len(word), len(s.b))]
	switch {
	case string(have) == word:
		s.i += len(word)
	case len(have) < len(word) && string(have) == word[:len(have)]:
		s.fail(faultShort)
	default:
		s.fail(faultBad)
	}
}

// number reads a number by the grammar of RFC 8259 section 6.
func (s *scanner) number() {
	if s.at('-') {
		s.i++
	}
	if s.at('0') {
		s.i++
	} else {
		s.digits()
	}
	if s.fault == faultNone && s.at('.') {
		s.i++
		s.digits()
	}
	if s.fault == faultNone && (s.at('e') || s.at('E')) {
		s.i++
		if s.at('+') || s.at('-') {
			s.i++
		}
		s.digits()
	}
	if s.fault == faultNone && s.i == len(s.b) {
		s.fail(faultShort) // more digits may follow; no number stands alone
	}
}

func (s *scanner) at(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

func (s *scanner) digits() {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	switch {
	case s.i > from:
	case s.i >= len(s.b):
		s.fail(faultShort)
	default:
		s.fail(faultBad)
	}
}

// word reads a text if one is next, or the word that a boolean is; anything else
// it skips, and gives nil.
func (s *scanner) word() []byte {
	if s.fault != faultNone {
		return nil
	}
	switch s.peek() {
	case '"':
		return s.text()
	case 't', 'f':
		return s.skip()
	}
	s.skip()
	return nil
}
