package audit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"
)

// entryReader checks the entries of one node.
type entryReader struct {
	node    string
	scanner *scanner
	buf     []byte // of decode
}

func newEntryReader(node string) *entryReader {
	return &entryReader{node: node, scanner: newScanner(node)}
}

// read gives when an entry was written, if it is one of the node's. What it says is
// decoded only of entries that verification looks into, and of unusual ones;
// otherwise it is nil.
func (r *entryReader) read(line []byte) (time.Time, *Entry, error) {
	if at, ok := r.scanner.scan(line); ok {
		return at, nil, nil
	}
	var e Entry
	var err error
	e, r.buf, err = decode(line, r.buf)
	if err == nil && e.Node != r.node {
		err = fmt.Errorf("%w: it is of node %s", ErrMalformedEntry, e.Node)
	}
	if err != nil {
		return time.Time{}, nil, err
	}
	return e.Time, &e, nil
}

// scanner recognises entries of one node as verification needs it: that a line is
// the one encoding of an entry, and when that was written. It takes no memory and
// reads each byte about once, several times as fast as decode, because it makes
// nothing of what it reads and encodes nothing again.
//
// It knows only what most entries look like, without characters that are escaped or
// not ASCII, without digits that might be a card number, and not of a pruning. That it
// does not recognise a line says nothing: decode decides. What it does recognise decode
// takes too, with the same time; TestScannerAgreesWithDecode and FuzzScanner hold it to
// that.
type scanner struct {
	node string // with its quotation mark
	b    []byte
	at   int // of the next byte
	bad  bool

	written, issued minute

	// Who did it, and with which call, as in entries before: most are of few clients.
	actor, caller []byte
	skipped       bool // one of them was passed over in this line
}

// minute is that of the last time read, for most entries have that of the one before.
type minute struct {
	text [minuteLen]byte
	base time.Time
}

// minuteLen is the length of a time up to its seconds.
const minuteLen = len("2006-01-02T15:04:")

func newScanner(node string) *scanner { return &scanner{node: node + `"`} }

// scan reports whether the scanner recognises a line, and its time.
func (s *scanner) scan(line []byte) (time.Time, bool) {
	if len(line) > MaxLine {
		return time.Time{}, false
	}
	at, ok := s.entry(line)
	if !ok && s.skipped { // what was passed over may have gone on with more members
		s.actor, s.caller = s.actor[:0], s.caller[:0]
		at, ok = s.entry(line)
	}
	return at, ok
}

func (s *scanner) entry(line []byte) (time.Time, bool) {
	s.b, s.at, s.bad, s.skipped = line, 0, false, false
	s.literal(`{"v":1,"id":"`)
	s.uuid()
	s.literal(`,"time":"`)
	t := s.time(&s.written)
	s.literal(`,"node":"`)
	s.literal(s.node)
	s.optionalFree(`,"request":"`, maxShort)
	s.again(&s.actor, (*scanner).who)
	if s.optional(OpLogPrune + `"`) { // verification looks into these
		return time.Time{}, false
	}
	s.code()
	if s.optional(`,"pci":"10.2.1.`) {
		if s.bad = s.bad || s.at == len(s.b) || s.b[s.at] < '1' || s.b[s.at] > '7'; !s.bad {
			s.at++
		}
		s.literal(`"`)
	}
	if s.optional(`,"res":{"kind":"`) {
		s.resource()
	}
	s.literal(`,"outcome":"`)
	if !s.optional(string(Allowed)+`"`) && !s.optional(string(Denied)+`"`) {
		s.literal(string(Failed) + `"`)
	}
	s.literal(`,"result":"`)
	s.code()
	s.optionalFree(`,"detail":"`, maxDetail)
	if s.optional(`,"call":{"event":"`) {
		s.call()
	}
	s.literal(`}`)
	return t, !s.bad && s.at == len(s.b)
}

// again passes over a part of the line: at once if it is the same as the last.
func (s *scanner) again(last *[]byte, part func(*scanner)) {
	if n := len(*last); n > 0 && n <= len(s.b)-s.at && bytes.Equal(s.b[s.at:s.at+n], *last) {
		s.at += n
		s.skipped = true
		return
	}
	from := s.at
	if part(s); !s.bad {
		*last = append((*last)[:0], s.b[from:s.at]...)
	}
}

func (s *scanner) who() {
	s.optionalFree(`,"tenant":"`, maxShort)
	s.literal(`,"who":{"type":"`)
	s.code()
	s.optionalFree(`,"name":"`, maxName)
	s.literal(`,"auth":"`)
	s.code()
	s.optionalFree(`,"ip":"`, maxShort)
	s.literal(`},"op":"`)
}

func (s *scanner) resource() {
	s.code()
	s.optionalFree(`,"merchant":"`, maxName)
	s.optionalFree(`,"customer":"`, maxName)
	s.optionalFree(`,"reference":"`, maxName)
	if s.optional(`,"pan":"`) {
		from := s.at
		end := bytes.IndexByte(s.b[from:min(len(s.b), from+maxCardDigits+1)], '"')
		if s.bad = s.bad || end < 0 || !isMasked(s.b[from:from+end]); s.bad {
			return
		}
		s.at = from + end + 1
	}
	s.optionalFree(`,"key":"`, maxName)
	if s.optional(`,"key_version":`) {
		s.number()
	}
	s.literal(`}`)
}

func (s *scanner) call() {
	s.again(&s.caller, (*scanner).called)
	s.optionalFree(`,"error":"`, maxCallShort)
	s.params(`,"request":[`, requestBudget)
	s.params(`,"response":[`, responseBudget)
	s.params(`,"context":[`, contextBudget)
	if s.optional(`,"resources":["`) {
		s.free(maxName)
		n := 1
		for ; s.optional(`,"`); n++ {
			s.free(maxName)
		}
		s.bad = s.bad || n > maxResources
		s.literal(`]`)
	}
	s.literal(`}`)
}

// called is the part of a call that says who called what, and how.
func (s *scanner) called() {
	s.word()
	s.literal(`,"source":"`)
	s.code()
	s.optionalFree(`,"region":"`, maxCallShort)
	s.optionalFree(`,"account":"`, maxCallShort)
	s.optional(`,"read_only":true`)
	s.literal(`,"type":"`)
	s.word()
	s.optionalFree(`,"id":"`, maxPrincipalID)
	s.optionalFree(`,"arn":"`, maxPrincipalARN)
	s.optionalFree(`,"issuer":"`, maxPrincipalARN)
	s.optionalFree(`,"caller":"`, maxCallShort)
	s.optionalFree(`,"access_key":"`, maxPrincipalID)
	s.optional(`,"mfa":true`)
	if s.optional(`,"issued":"`) {
		s.time(&s.issued)
	}
	s.optionalFree(`,"agent":"`, maxName)
	s.optionalFree(`,"tls":"`, maxCallShort)
}

// params passes over parameters for which there was room. The one that stands for
// those that had none is not ASCII.
func (s *scanner) params(name string, budget int) {
	if !s.optional(name) {
		return
	}
	start := s.at
	for more := true; more; more = s.optional(`,`) {
		s.literal(`{"n":"`)
		s.free(maxParamName)
		s.literal(`,"v":"`)
		s.free(maxName)
		s.literal(`}`)
		s.bad = s.bad || s.at-start > budget-cutParamLen
	}
	s.literal(`]`)
}

// literal passes over what must come next.
func (s *scanner) literal(want string) {
	if !s.optional(want) {
		s.bad = true
	}
}

// optional passes over what may come next.
func (s *scanner) optional(want string) bool {
	if end := s.at + len(want); end <= len(s.b) && string(s.b[s.at:end]) == want {
		s.at = end
		return true
	}
	return false
}

// optionalFree passes over a member of free text if it comes next.
func (s *scanner) optionalFree(name string, maxLen int) {
	if s.optional(name) {
		from := s.at
		s.free(maxLen)
		s.bad = s.bad || s.at-from <= len(`"`) // an empty value is left out
	}
}

// Constants for eight bytes at a time.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// free passes over free text that was written as it is, and its closing quotation
// mark: isPlain, read from the line.
func (s *scanner) free(maxLen int) {
	b, i, digits := s.b, s.at, 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		// The high bit of each byte that ends the search: above 0x7e, below a space, a
		// quotation mark, a backslash. A byte above such a one may have it wrongly (a
		// carry), so only the lowest counts.
		stop := (w | (w + ones) | (w - 0x20*ones) | (w ^ '"'*ones - ones) | (w ^ '\\'*ones - ones)) & highs
		// The high bit of each digit, for bytes below 0x80, as all before stop are.
		number := (w + (0x80-'0')*ones) &^ (w + (0x80-'9'-1)*ones) & highs
		if stop != 0 {
			below := stop&-stop - 1
			digits += bits.OnesCount64(number & below)
			i += bits.TrailingZeros64(stop) / 8
			break
		}
		digits += bits.OnesCount64(number)
	}
	for ; i < len(b) && classes[b[i]] <= digit; i++ {
		digits += int(classes[b[i]])
	}
	from := s.at
	if i >= len(b) || b[i] != '"' || i-from > maxLen {
		s.bad = true
		return
	}
	if v := b[from:i]; digits >= minCardDigits && !isUUID(v) && mayHoldCard(v[:idTail(v)]) {
		s.bad = true
	}
	s.at = i + 1
}

// code passes over a code (isCode) and its closing quotation mark.
func (s *scanner) code() {
	b, i := s.b, s.at
	for i < len(b) && codeBytes[b[i]] {
		i++
	}
	if n := i - s.at; n == 0 || n > maxShort || i == len(b) || b[i] != '"' || b[s.at] < 'a' || b[s.at] > 'z' {
		s.bad = true
		return
	}
	s.at = i + 1
}

// codeBytes are those of a code.
var codeBytes = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	return t
}()

// word passes over a word (isWord) and its closing quotation mark.
func (s *scanner) word() {
	b, i := s.b, s.at
	for i < len(b) && b[i]|0x20 >= 'a' && b[i]|0x20 <= 'z' {
		i++
	}
	if n := i - s.at; n == 0 || n > maxShort || i == len(b) || b[i] != '"' {
		s.bad = true
		return
	}
	s.at = i + 1
}

// uuid passes over an entry's id and its closing quotation mark.
func (s *scanner) uuid() {
	end := s.at + uuidLen
	if s.bad = s.bad || end >= len(s.b) || !isUUIDv7(s.b[s.at:end]) || s.b[end] != '"'; !s.bad {
		s.at = end + 1
	}
}

// number passes over a number from 1 to 2^31 - 1 without leading zeros.
func (s *scanner) number() {
	v, n := 0, 0
	for ; n < 10 && s.at < len(s.b) && classes[s.b[s.at]] == digit; n++ {
		v = 10*v + int(s.b[s.at]-'0')
		if v == 0 {
			break
		}
		s.at++
	}
	s.bad = s.bad || v < 1 || v > 1<<31-1
}

// time passes over a time, at least of 1970, and its closing quotation mark.
func (s *scanner) time(m *minute) time.Time {
	end := s.at + timeLen
	if s.bad = s.bad || end >= len(s.b) || s.b[end] != '"'; s.bad {
		return time.Time{}
	}
	b := s.b[s.at:end]
	s.at = end + 1
	if [minuteLen]byte(b) != m.text {
		t, err := parseTime(string(b))
		if s.bad = err != nil || t.Year() < 1970; s.bad {
			return time.Time{}
		}
		m.text, m.base = [minuteLen]byte(b), t.Truncate(time.Minute)
		return t
	}
	const seconds, dot, micros = minuteLen, minuteLen + 2, minuteLen + 3
	v := 0
	for i := seconds; i < timeLen-1; i++ {
		if i == dot {
			continue
		}
		c := b[i] - '0'
		s.bad = s.bad || c > 9
		v = 10*v + int(c)
	}
	if s.bad = s.bad || b[seconds] > '5' || b[dot] != '.' || b[timeLen-1] != 'Z'; s.bad {
		return time.Time{}
	}
	return m.base.Add(time.Duration(v) * time.Microsecond)
}
