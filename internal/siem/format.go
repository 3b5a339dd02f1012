package siem

import (
	"errors"
	"fmt"
	"slices"
)

// MaxMessage is the longest message in any format, in bytes, framing not counted:
// what Wazuh's agents and most syslog servers take.
const MaxMessage = 64 << 10

// Format is how an event is written.
type Format string

// Formats.
const (
	FormatNDJSON  Format = "ndjson"  // our own shape
	FormatRFC5424 Format = "rfc5424" // text and structured data; over syslog only
	FormatCEF     Format = "cef"     // ArcSight Common Event Format 0
	FormatLEEF    Format = "leef"    // QRadar Log Event Extended Format 2.0
	FormatOCSF    Format = "ocsf"    // Open Cybersecurity Schema Framework
)

// Formats lists them.
func Formats() []Format {
	return []Format{FormatNDJSON, FormatRFC5424, FormatCEF, FormatLEEF, FormatOCSF}
}

// ErrTooLarge says that an event does not fit into MaxMessage in any shortened form.
var ErrTooLarge = errors.New("event is too large for a message")

// Encoder writes events in a format. The zero value of each field is its default.
// It is safe for concurrent use.
type Encoder struct {
	Format  Format
	Product string // version of Cardea
	Host    string // name of this node, for syslog headers
	// Enterprise is the IANA private enterprise number of the structured data's id;
	// default 32473, the number that RFC 5612 keeps for documentation.
	Enterprise int
	// RecordIntegrity adds OCSF's profile record_integrity, which no numbered
	// release has yet.
	RecordIntegrity bool
}

// Append appends the event without a line end. The error is ErrTooLarge, or that a
// value cannot be encoded.
func (e *Encoder) Append(b []byte, ev *Event) ([]byte, error) {
	for ; ; ev = shorter(ev) {
		if ev == nil {
			return b, ErrTooLarge
		}
		out, err := e.append(slices.Clip(b), ev)
		if err != nil {
			return b, err
		}
		if len(out)-len(b) <= MaxMessage {
			return out, nil
		}
	}
}

func (e *Encoder) append(b []byte, ev *Event) ([]byte, error) {
	switch e.Format {
	case FormatNDJSON, "":
		return appendNDJSON(b, ev)
	case FormatCEF:
		return e.appendCEF(b, ev), nil
	case FormatLEEF:
		return e.appendLEEF(b, ev), nil
	case FormatOCSF:
		return e.appendOCSF(b, ev)
	case FormatRFC5424:
		return e.appendSyslog(b, ev, []byte(ev.message())), nil
	}
	return b, fmt.Errorf("format %q is not known", e.Format)
}

// shorter is an alert without its evidence, or nil. Entries, checkpoints and
// findings have limits that keep them below MaxMessage in every format.
func shorter(ev *Event) *Event {
	if ev.Alert == nil || len(ev.Alert.Evidence) == 0 {
		return nil
	}
	a, short := *ev.Alert, *ev
	a.Evidence = nil
	short.Alert = &a
	return &short
}
