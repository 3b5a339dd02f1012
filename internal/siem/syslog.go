package siem

import (
	"strconv"

	"cardea/internal/detect"
)

const (
	// facilityAudit is "log audit" (RFC 5424, table 1).
	facilityAudit = 13
	// documentationPEN is the private enterprise number kept for documentation (RFC
	// 5612). Who has a number of his own sets it; receivers that know us by this one
	// need no change.
	documentationPEN = 32473
	// utf8BOM begins a message that is UTF-8 text (RFC 5424 section 6.4).
	utf8BOM = "\xef\xbb\xbf"
)

// syslogSeverity is of RFC 5424, table 2.
func syslogSeverity(s detect.Severity) int {
	switch s {
	case detect.Info:
		return 6 // informational
	case detect.Low:
		return 5 // notice
	case detect.Medium:
		return 4 // warning
	case detect.High:
		return 3 // error
	}
	return 2 // critical
}

// Syslog appends the event as a syslog message of RFC 5424 whose text is the event
// in the encoder's format. Structured data identifies the event whatever the
// format is. The error is ErrTooLarge.
func (e *Encoder) Syslog(b []byte, ev *Event) ([]byte, error) {
	if e.Format == FormatRFC5424 {
		return e.Append(b, ev)
	}
	text, err := e.Append(nil, ev)
	if err != nil {
		return b, err
	}
	b = e.appendHeader(b, ev)
	b = e.appendStructured(b, []field{{"id", ev.ID}, {"kind", string(ev.Kind)}})
	// No byte order mark: what reads CEF, LEEF or JSON takes it for a part of them,
	// and RFC 5424 lets a message be bytes of which syslog knows nothing (MSG-ANY).
	return append(append(b, ' '), text...), nil
}

// appendSyslog appends the message with all fields as structured data.
func (e *Encoder) appendSyslog(b []byte, ev *Event, text []byte) []byte {
	b = e.appendHeader(b, ev)
	b = e.appendStructured(b, ev.fields())
	b = append(append(b, ' '), utf8BOM...)
	return append(b, oneLine(string(text))...)
}

func (e *Encoder) appendHeader(b []byte, ev *Event) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facilityAudit*8+syslogSeverity(ev.Severity)), 10)
	b = append(b, ">1 "...)
	if ev.Time.IsZero() {
		b = append(b, '-')
	} else {
		b = ev.Time.UTC().AppendFormat(b, timeForm)
	}
	b = append(b, ' ')
	b = appendPrintable(b, e.Host, 255)
	b = append(b, " cardea - "...)
	b = appendPrintable(b, string(ev.Kind), 32)
	return append(b, ' ')
}

// appendPrintable appends a header field: printable ASCII without spaces, or "-".
func appendPrintable(b []byte, s string, limit int) []byte {
	start := len(b)
	for i := 0; i < len(s) && len(b)-start < limit; i++ {
		if s[i] > ' ' && s[i] < 0x7f {
			b = append(b, s[i])
		}
	}
	if len(b) == start {
		b = append(b, '-')
	}
	return b
}

// appendStructured appends one element of structured data. In values the quote, the
// backslash and the closing bracket are escaped (RFC 5424 section 6.3.3).
func (e *Encoder) appendStructured(b []byte, fields []field) []byte {
	number := e.Enterprise
	if number == 0 {
		number = documentationPEN
	}
	b = append(b, "[cardea@"...)
	b = strconv.AppendInt(b, int64(number), 10)
	for _, f := range fields {
		b = append(append(append(b, ' '), f.name...), `="`...)
		for i := range len(f.value) {
			switch f.value[i] {
			case '"', '\\', ']':
				b = append(b, '\\')
			}
			b = append(b, f.value[i])
		}
		b = append(b, '"')
	}
	return append(b, ']')
}
