package siem

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cardea/internal/audit"
	"cardea/internal/detect"
)

// Kind is what an event is.
type Kind string

// Kinds of events.
const (
	KindEntry      Kind = "entry"      // of an audit log
	KindAlert      Kind = "alert"      // of detection
	KindCheckpoint Kind = "checkpoint" // signed head of an audit log
	KindFinding    Kind = "finding"    // of delivery and verification themselves
)

// Event is one thing to deliver. Make it with one of the functions below; it is
// read-only afterwards.
type Event struct {
	Kind     Kind            `json:"kind"`
	ID       string          `json:"id"` // the same whenever the same event is sent
	Time     time.Time       `json:"time"`
	Severity detect.Severity `json:"severity"`

	Origin string `json:"origin,omitempty"` // of entries and checkpoints
	Seq    int64  `json:"seq,omitempty"`    // number of the entry in its log, from 0; of a checkpoint its size

	Entry *audit.Entry `json:"-"`
	Line  []byte       `json:"-"` // the entry exactly as it is logged and hashed

	Alert      *detect.Alert `json:"alert,omitempty"`
	Checkpoint *Checkpoint   `json:"checkpoint,omitempty"`
	Finding    *Finding      `json:"finding,omitempty"`
}

// Checkpoint is a signed head, for those who keep a copy.
type Checkpoint struct {
	Root   string `json:"root"`   // base64
	Signed string `json:"signed"` // the whole note (docs/spec/checkpoint.md)
}

// Finding is the outcome of a check that Cardea makes of its own logging.
type Finding struct {
	Check   string    `json:"check"`   // CheckDelivery and the like
	Subject string    `json:"subject"` // name of the delivery, or origin of the log
	Failing bool      `json:"failing"` // false: it works again
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
	Next    string    `json:"next,omitempty"` // what to do now
}

// Checks that findings are of.
const (
	CheckDelivery    = "delivery"    // entries reach the receiver in time
	CheckRejected    = "rejected"    // the receiver takes what it is sent
	CheckSource      = "source"      // the log can be read
	CheckIntegrity   = "integrity"   // what is read is what was logged
	CheckPublication = "publication" // checkpoints are published in time
	CheckSpool       = "spool"       // alerts find room until they are delivered
	CheckDetection   = "detection"   // what is watched can be read, and what is learned kept
	maxID            = 255           // bytes of an event's id
	maxText          = 1024          // bytes of a free text of an alert or finding
	maxListed        = 16            // keys of an alert
	maxEvidence      = 10            // as detect.Alert says
	cutMark          = "…[cut]"      // ends a text that was cut
)

// requirements of PCI DSS v4.0.1 that a check is made for.
func requirements(check string) []string {
	switch check {
	case CheckIntegrity, CheckPublication:
		return []string{"10.3.4", "10.7.2"} // change detection on logs; failures of controls
	case CheckDetection:
		return []string{"10.4.1.1", "10.7.2", "10.7.3"} // automated review; failures are found and answered
	default:
		return []string{"10.3.3", "10.7.2", "10.7.3"} // copies elsewhere; failures are found and answered
	}
}

// EntryEvent is the event of the entry number seq of a log, whose line it keeps.
// The error is audit.ErrMalformedEntry.
func EntryEvent(origin string, seq int64, line []byte) (Event, error) {
	e, err := audit.Decode(line)
	if err != nil {
		return Event{}, err
	}
	return Event{
		Kind: KindEntry, ID: entryID(origin, seq), Time: e.Time, Severity: entrySeverity(&e),
		Origin: origin, Seq: seq, Entry: &e, Line: line,
	}, nil
}

func entryID(origin string, seq int64) string { return origin + "#" + strconv.FormatInt(seq, 10) }

// AlertEvent is the event of an alert. What is over the limits of a message is cut.
func AlertEvent(a detect.Alert) Event {
	for _, s := range []*string{&a.Title, &a.Principal, &a.Tenant, &a.Merchant, &a.IP, &a.Region, &a.Account, &a.SuppressedBy, &a.Rules} {
		*s = cut(*s, maxID)
	}
	a.ID, a.Rule = cut(a.ID, maxID), cut(a.Rule, 32)
	a.Reason, a.Next = cut(a.Reason, maxText), cut(a.Next, maxText)
	a.Keys = cutList(a.Keys)
	a.PCI = cutList(a.PCI)
	a.Evidence = slices.Clone(a.Evidence[:min(len(a.Evidence), maxEvidence)])
	for i := range a.Evidence {
		v := &a.Evidence[i]
		v.EventID, v.Name, v.Detail = cut(v.EventID, maxID), cut(v.Name, maxID), cut(v.Detail, maxID)
	}
	if a.Baseline != nil {
		b := *a.Baseline
		b.Window, b.Learned = cut(b.Window, maxID), cut(b.Learned, maxID)
		a.Baseline = &b
	}
	if a.Severity < detect.Info || a.Severity > detect.Critical {
		a.Severity = detect.Medium // an alert without a severity is still one
	}
	ev := Event{Kind: KindAlert, ID: "alert/" + a.ID, Time: a.Time, Severity: a.Severity, Alert: &a}
	if a.SuppressedBy != "" {
		ev.Severity = detect.Info // an approved change explains it: to know, not to act on
	}
	return ev
}

func cutList(list []string) []string {
	list = slices.Clone(list[:min(len(list), maxListed)])
	for i := range list {
		list[i] = cut(list[i], maxID)
	}
	return list
}

// CheckpointEvent is the event of a signed checkpoint.
func CheckpointEvent(c audit.Checkpoint, signed []byte) Event {
	return Event{
		Kind: KindCheckpoint, ID: fmt.Sprintf("checkpoint/%s@%d", c.Origin, c.Size), Time: c.Time, Severity: detect.Info,
		Origin: c.Origin, Seq: c.Size, Checkpoint: &Checkpoint{Root: c.Root.String(), Signed: string(signed)},
	}
}

// FindingEvent is the event of a finding made at a time.
func FindingEvent(f Finding, at time.Time) Event {
	f.Subject, f.Message, f.Next = cut(f.Subject, maxID), cut(f.Message, maxText), cut(f.Next, maxText)
	severity, state := detect.High, "failing"
	if !f.Failing {
		severity, state = detect.Info, "working"
	}
	return Event{
		Kind: KindFinding, ID: fmt.Sprintf("finding/%s/%s/%s/%d", f.Check, f.Subject, state, at.UnixMilli()),
		Time: at, Severity: severity, Finding: &f,
	}
}

// PCI are the requirements of PCI DSS v4.0.1 that the event is about.
func (ev *Event) PCI() []string {
	switch ev.Kind {
	case KindEntry:
		if ev.Entry.PCI == "" {
			return nil
		}
		list := []string{ev.Entry.PCI}
		if ev.Entry.Outcome == audit.Denied && ev.Entry.PCI != "10.2.1.4" {
			list = append(list, "10.2.1.4") // invalid logical access attempts
		}
		return list
	case KindAlert:
		return ev.Alert.PCI
	case KindFinding:
		return requirements(ev.Finding.Check)
	}
	return []string{"10.3.4"}
}

// hash is the leaf hash of an entry, base64.
func (ev *Event) hash() string {
	h := audit.LeafHash(ev.Line)
	return h.String()
}

// signature names what kind of event it is, for products that group by it: an
// operation, a rule, a check. It is of a-z, A-Z, 0-9, dot, underscore and hyphen.
func (ev *Event) signature() string {
	switch ev.Kind {
	case KindEntry:
		return ev.Entry.Op
	case KindAlert:
		return code("alert." + ev.Alert.Rule)
	case KindFinding:
		return code("finding." + ev.Finding.Check)
	}
	return "log.checkpoint"
}

// message is a sentence for people.
func (ev *Event) message() string {
	switch ev.Kind {
	case KindEntry:
		e := ev.Entry
		s := e.Op + " " + string(e.Outcome) + ": " + e.Result
		if e.Who.Name != "" {
			s += ", by " + e.Who.Type + " " + e.Who.Name
		}
		if e.Detail != "" {
			s += ", " + e.Detail
		}
		return s
	case KindAlert:
		return ev.Alert.Title + ": " + ev.Alert.Reason
	case KindFinding:
		return ev.Finding.Message
	}
	return fmt.Sprintf("the first %d entries of %s have the root %s", ev.Seq, ev.Origin, ev.Checkpoint.Root)
}

// ip is the address that an event came from, the zero Addr if it says none.
func (ev *Event) ip() netip.Addr {
	var text string
	switch ev.Kind {
	case KindEntry:
		text = ev.Entry.Who.IP
	case KindAlert:
		text = ev.Alert.IP
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// code makes s fit where products expect a plain name.
func code(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return '_'
	}, s)
}

// cut bounds a text and makes it valid UTF-8. What steers terminals or ends lines
// is replaced: nobody chose it for a good reason.
func cut(s string, limit int) string {
	s = oneLine(s)
	if len(s) <= limit {
		return s
	}
	s = s[:limit-len(cutMark)]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + cutMark
}

// oneLine replaces everything that is not text: what steers reports, and invalid
// UTF-8.
func oneLine(s string) string {
	bad := func(r rune) bool { return r == utf8.RuneError || steers(r) }
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// steers reports whether a character does something to what shows it: control
// characters, line and paragraph separators, byte order marks, marks that turn the
// direction of text.
func steers(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r == '\u2028' || r == '\u2029' || r == '\ufeff' ||
		r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
