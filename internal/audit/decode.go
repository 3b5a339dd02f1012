package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrMalformedEntry says that a line is not the one encoding of an entry.
var ErrMalformedEntry = errors.New("malformed audit entry")

// Decode reads a line as Seal makes it, without its newline. It refuses, with an
// ErrMalformedEntry that says where, whatever is not the one encoding of its
// values: unknown, repeated or misplaced members, white space, other escapes,
// values that Seal would have changed. So Seal of the result gives the same line.
// The entry does not share memory with line.
func Decode(line []byte) (Entry, error) {
	e, _, err := decode(line, nil)
	return e, err
}

// decode is Decode with a buffer for the encoding that it compares with; it
// returns the buffer, perhaps grown, for the next call.
func decode(line, buf []byte) (Entry, []byte, error) {
	if len(line) > MaxLine {
		return Entry{}, buf, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformedEntry, len(line), MaxLine)
	}
	d := decoder{rest: string(line)}
	e := d.entry()
	if d.err == nil && d.rest != "" {
		d.fail("nothing more")
	}
	if d.err != nil {
		return Entry{}, buf, fmt.Errorf("%w: at byte %d: %w", ErrMalformedEntry, len(line)-len(d.rest), d.err)
	}
	if err := e.validate(); err != nil {
		return Entry{}, buf, fmt.Errorf("%w: %w", ErrMalformedEntry, err)
	}
	buf = e.append(buf[:0])
	if !bytes.Equal(line, buf) {
		at := 0
		for at < min(len(line), len(buf)) && line[at] == buf[at] {
			at++
		}
		return Entry{}, buf, fmt.Errorf("%w: at byte %d: not the canonical encoding", ErrMalformedEntry, at)
	}
	return e, buf, nil
}

// decoder reads members in their order. It need not be strict about values: what
// it lets through that is not canonical differs when encoded again. After an
// error it does nothing more, and rest is where the error is.
type decoder struct {
	rest string
	err  error
}

func (d *decoder) fail(want string) {
	if d.err == nil {
		d.err = fmt.Errorf("want %s", want)
	}
}

// literal takes s, which must come next.
func (d *decoder) literal(s string) {
	if !d.optional(s) {
		d.fail(s)
	}
}

// optional takes s if it comes next.
func (d *decoder) optional(s string) bool {
	if d.err != nil || !strings.HasPrefix(d.rest, s) {
		return false
	}
	d.rest = d.rest[len(s):]
	return true
}

// text takes the rest of a string up to and with its closing quotation mark.
func (d *decoder) text() string {
	if d.err != nil {
		return ""
	}
	end := strings.IndexByte(d.rest, '"')
	if end < 0 {
		d.fail("the end of a string")
		return ""
	}
	s := d.rest[:end]
	if strings.IndexByte(s, '\\') < 0 {
		d.rest = d.rest[end+1:]
		return s
	}
	return d.escaped()
}

// escaped is text for a string with escapes.
func (d *decoder) escaped() string {
	var b strings.Builder
	for i := 0; i < len(d.rest); i++ {
		switch c := d.rest[i]; c {
		case '"':
			d.rest = d.rest[i+1:]
			return b.String()
		case '\\':
			n, r := unescape(d.rest[i+1:])
			if n == 0 {
				d.rest = d.rest[i:]
				d.fail(`one of the escapes \" \\ \u`)
				return ""
			}
			b.WriteRune(r)
			i += n
		default:
			b.WriteByte(c)
		}
	}
	d.fail("the end of a string")
	return ""
}

// unescape reads what follows a backslash: its length, or 0, and what it means.
func unescape(s string) (int, rune) {
	switch {
	case s != "" && (s[0] == '"' || s[0] == '\\'):
		return 1, rune(s[0])
	case len(s) >= 5 && s[0] == 'u':
		if v, err := strconv.ParseUint(s[1:5], 16, 16); err == nil && utf8.ValidRune(rune(v)) {
			return 5, rune(v)
		}
	}
	return 0, 0
}

// optionalText takes a member if it comes next; name is as in appendFree.
func (d *decoder) optionalText(name string) string {
	if !d.optional(name) {
		return ""
	}
	return d.text()
}

func (d *decoder) entry() (e Entry) {
	d.literal(`{"v":1,"id":"`)
	e.Version = EntryVersion
	e.ID = d.text()
	d.literal(`,"time":"`)
	e.Time = d.time()
	d.literal(`,"node":"`)
	e.Node = d.text()
	e.RequestID = d.optionalText(`,"request":"`)
	e.Tenant = d.optionalText(`,"tenant":"`)
	d.literal(`,"who":{"type":"`)
	e.Who.Type = d.text()
	e.Who.Name = d.optionalText(`,"name":"`)
	d.literal(`,"auth":"`)
	e.Who.Auth = d.text()
	e.Who.IP = d.optionalText(`,"ip":"`)
	d.literal(`},"op":"`)
	e.Op = d.text()
	e.PCI = d.optionalText(`,"pci":"`)
	if d.optional(`,"res":{"kind":"`) {
		e.Resource = d.resource()
	}
	d.literal(`,"outcome":"`)
	e.Outcome = Outcome(d.text())
	d.literal(`,"result":"`)
	e.Result = d.text()
	e.Detail = d.optionalText(`,"detail":"`)
	if d.optional(`,"call":{"event":"`) {
		e.Call = d.call()
	}
	d.literal(`}`)
	return e
}

func (d *decoder) resource() (r Resource) {
	r.Kind = d.text()
	r.Merchant = d.optionalText(`,"merchant":"`)
	r.Customer = d.optionalText(`,"customer":"`)
	r.Reference = d.optionalText(`,"reference":"`)
	r.MaskedPAN = d.optionalText(`,"pan":"`)
	r.Key = d.optionalText(`,"key":"`)
	if d.optional(`,"key_version":`) {
		r.KeyVersion = d.number(10)
	}
	d.literal(`}`)
	return r
}

// number takes up to most digits.
func (d *decoder) number(most int) int {
	n := 0
	for n < most && n < len(d.rest) && d.rest[n] >= '0' && d.rest[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(d.rest[:n])
	if d.err != nil || err != nil {
		d.fail("a number")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// time takes a time as appendTime writes it, and its closing quotation mark.
func (d *decoder) time() time.Time {
	t, err := parseTime(d.rest[:min(len(d.rest), timeLen)])
	if err != nil {
		d.fail("a time")
	}
	if d.err != nil {
		return time.Time{}
	}
	d.rest = d.rest[timeLen:]
	d.literal(`"`)
	return t
}

// timeLen is the length of a time as appendTime writes it.
const timeLen = len("2006-01-02T15:04:05.000000Z")

var errTime = errors.New("not a time with microseconds in UTC")

// parseTime reads what appendTime writes and nothing else. (time.Parse takes
// three times as long and more than one form.)
func parseTime(s string) (time.Time, error) {
	const form = "0000-00-00T00:00:00.000000Z"
	if len(s) != timeLen {
		return time.Time{}, errTime
	}
	for i := range timeLen {
		if form[i] == '0' && (s[i] < '0' || s[i] > '9') || form[i] != '0' && s[i] != form[i] {
			return time.Time{}, errTime
		}
	}
	number := func(from, to int) (n int) {
		for _, c := range []byte(s[from:to]) {
			n = n*10 + int(c-'0')
		}
		return n
	}
	t := time.Date(number(0, 4), time.Month(number(5, 7)), number(8, 10),
		number(11, 13), number(14, 16), number(17, 19), number(20, 26)*1000, time.UTC)
	var again [timeLen]byte
	if string(appendTime(again[:0], t)) != s {
		return time.Time{}, errTime // a 30th of February, a 61st second
	}
	return t, nil
}
