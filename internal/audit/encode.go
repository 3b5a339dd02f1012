package audit

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// cutMark ends a value that was cut.
const cutMark = "…[cut]"

// cutSlack is how many bytes over its limit a value is looked at: enough for a
// card number that begins within the limit, and a bound on the work.
const cutSlack = 64

// append appends the one encoding of a valid entry.
func (e *Entry) append(b []byte) []byte {
	b = append(b, `{"v":1,"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, `","node":"`...)
	b = append(b, e.Node...)
	b = append(b, '"')
	b = appendFree(b, `,"request":"`, e.RequestID, maxShort)
	b = appendFree(b, `,"tenant":"`, e.Tenant, maxShort)
	b = append(b, `,"who":{"type":"`...)
	b = append(b, e.Who.Type...)
	b = append(b, '"')
	b = appendFree(b, `,"name":"`, e.Who.Name, maxName)
	b = append(b, `,"auth":"`...)
	b = append(b, e.Who.Auth...)
	b = append(b, '"')
	b = appendFree(b, `,"ip":"`, e.Who.IP, maxShort)
	b = append(b, `},"op":"`...)
	b = append(b, e.Op...)
	b = append(b, '"')
	if e.PCI != "" {
		b = append(b, `,"pci":"`...)
		b = append(b, e.PCI...)
		b = append(b, '"')
	}
	if e.Resource != (Resource{}) {
		b = e.Resource.append(b)
	}
	b = append(b, `,"outcome":"`...)
	b = append(b, e.Outcome...)
	b = append(b, `","result":"`...)
	b = append(b, e.Result...)
	b = append(b, '"')
	b = appendFree(b, `,"detail":"`, e.Detail, maxDetail)
	if e.Call != nil {
		b = e.Call.append(b)
	}
	return append(b, '}')
}

func (r *Resource) append(b []byte) []byte {
	b = append(b, `,"res":{"kind":"`...)
	b = append(b, r.Kind...)
	b = append(b, '"')
	b = appendFree(b, `,"merchant":"`, r.Merchant, maxName)
	b = appendFree(b, `,"customer":"`, r.Customer, maxName)
	b = appendFree(b, `,"reference":"`, r.Reference, maxName)
	if r.MaskedPAN != "" {
		b = append(b, `,"pan":"`...)
		b = append(b, cleanMasked(r.MaskedPAN)...)
		b = append(b, '"')
	}
	b = appendFree(b, `,"key":"`, r.Key, maxName)
	if r.KeyVersion != 0 {
		b = append(b, `,"key_version":`...)
		b = strconv.AppendInt(b, int64(r.KeyVersion), 10)
	}
	return append(b, '}')
}

// appendTime appends t as 2006-01-02T15:04:05.000000Z, 27 bytes.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	two := func(n int, after byte) { b = append(b, byte('0'+n/10), byte('0'+n%10), after) }
	b = append(b, byte('0'+year/1000), byte('0'+year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	us := t.Nanosecond() / 1000
	for div := 100_000; div > 0; div /= 10 {
		b = append(b, byte('0'+us/div%10))
	}
	return append(b, 'Z')
}

// Classes of bytes. A value without special bytes and with too few digits for a
// card number is copied as it is.
// Their sum counts each, as no free text has more than 2047 bytes.
const (
	digit   = 1
	quote   = 1 << 11 // to be escaped by a backslash
	special = 1 << 22 // to be escaped in another way, or part of a rune that may have to be
)

var classes = func() (t [256]uint32) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = digit
		case c == '"' || c == '\\':
			t[c] = quote
		case c < 0x20 || c >= 0x7f:
			t[c] = special
		}
	}
	return t
}()

// appendFree appends a member of free text with its name and opening quotation
// mark, made to fit max encoded bytes, or nothing if s is empty.
func appendFree(b []byte, name, s string, maxLen int) []byte {
	if s == "" {
		return b
	}
	b = append(b, name...)
	switch quotes, simple := look(s, maxLen); {
	case simple && quotes == 0:
		b = append(b, s...)
	case simple && len(s)+quotes <= maxLen:
		b = appendQuoted(b, s)
	default:
		b = appendEscaped(b, clean(s, maxLen))
	}
	return append(b, '"')
}

// isPlain reports whether s, of at most maxLen bytes, needs neither escapes nor a
// search for card numbers.
func isPlain(s string, maxLen int) bool {
	quotes, simple := look(s, maxLen)
	return simple && quotes == 0
}

// look reports whether s has at most maxLen bytes, no escapes but those of quotes, of
// which it tells the number, and no digits that may be a card number.
func look(s string, maxLen int) (quotes int, simple bool) {
	if len(s) > maxLen {
		return 0, false
	}
	var sum uint32
	for i := range len(s) {
		sum += classes[s[i]]
	}
	if sum < minCardDigits {
		return 0, true
	}
	return int(sum / quote), sum < special && (sum%quote < minCardDigits || !mayHoldCard(s[:idTail(s)]))
}

// appendQuoted is appendEscaped for a text that needs no other escapes than those of
// quotes.
func appendQuoted(b []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(append(b, s[from:i]...), '\\')
			from = i
		}
	}
	return append(b, s[from:]...)
}

// clean makes s fit a free text of maxLen encoded bytes (docs/spec/audit-entry.md,
// Strings). clean(clean(s, n), n) == clean(s, n).
func clean(s string, maxLen int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if most := maxLen + cutSlack; len(s) > most {
		for !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	s = maskCards(s)
	fits, size := 0, 0 // fits is where to cut so that the mark fits too
	for i, r := range s {
		if size <= maxLen-len(cutMark) {
			fits = i
		}
		if size += escapedLen(r); size > maxLen {
			return maskCards(s[:fits] + cutMark)
		}
	}
	return s
}

// escapedLen is the number of bytes that appendEscaped writes for r.
func escapedLen(r rune) int {
	switch {
	case r == '"' || r == '\\':
		return 2
	case isHidden(r):
		return 6
	}
	return utf8.RuneLen(r)
}

// isHidden reports whether r is a control character, or one that ends lines or
// turns the direction of text in some viewer, so that it could hide or imitate
// an entry.
func isHidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f,
		r == 0x061c, r == 0x200e, r == 0x200f,
		r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// appendEscaped appends valid UTF-8 as the inside of a JSON string.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case isHidden(r):
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
