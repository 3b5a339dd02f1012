package audit

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// EntryVersion is the version of the entry format.
const EntryVersion = 1

// MaxLine is the longest line of an entry, in bytes. Seal makes one of at most
// 8000; the rest is room for later versions.
const MaxLine = 8192

// Limits of an entry's strings, in bytes as encoded (docs/spec/audit-entry.md).
const (
	maxShort  = 64  // codes, tenant, request id, address
	maxName   = 255 // names and references
	maxDetail = 512
)

// ErrInvalidEntry says that an entry cannot be encoded, which is a mistake of the
// code that made it: what clients supply is made to fit, never refused.
var ErrInvalidEntry = errors.New("invalid audit entry")

// Entry is one recorded operation (PCI DSS 10.2.2). The strings marked free are
// made to fit by Seal: invalid UTF-8 is replaced, card numbers are masked, and
// what is over its limit is cut.
type Entry struct {
	Version   int       `json:"v"`    // EntryVersion; 0 is taken as it
	ID        string    `json:"id"`   // UUIDv7
	Time      time.Time `json:"time"` // encoded in UTC to the microsecond
	Node      string    `json:"node"` // see ValidNode
	RequestID string    `json:"request,omitempty"`
	Tenant    string    `json:"tenant,omitempty"`
	Who       Actor     `json:"who"`
	Op        string    `json:"op"`            // code: "card.store"
	PCI       string    `json:"pci,omitempty"` // PCI DSS v4.0.1 requirement, "10.2.1.1" to "10.2.1.7", or empty
	Resource  Resource  `json:"res,omitzero"`
	Outcome   Outcome   `json:"outcome"`
	Result    string    `json:"result"`           // code: "stored", "not_found"
	Detail    string    `json:"detail,omitempty"` // free
	Call      *Call     `json:"call,omitempty"`   // of the key service only
}

// Actor is who did it.
type Actor struct {
	Type string `json:"type"`           // code: tenant, custodian, operator, system, anonymous
	Name string `json:"name,omitempty"` // free
	Auth string `json:"auth"`           // code: jws, mtls, loopback, bearer, internal, none
	IP   string `json:"ip,omitempty"`   // free
}

// Resource is what it was done to. The zero value is nothing in particular.
type Resource struct {
	Kind       string `json:"kind"`                // code: card, data, key, custodian, log, tenant
	Merchant   string `json:"merchant,omitempty"`  // free
	Customer   string `json:"customer,omitempty"`  // free
	Reference  string `json:"reference,omitempty"` // free
	MaskedPAN  string `json:"pan,omitempty"`       // as pan.PAN.Masked gives it; anything else is written "********"
	Key        string `json:"key,omitempty"`       // free
	KeyVersion int    `json:"key_version,omitempty"`
}

// Outcome says whether the operation was done.
type Outcome string

// Outcomes.
const (
	Allowed Outcome = "allowed"
	Denied  Outcome = "denied" // refused for who asked
	Failed  Outcome = "failed" // tried without success
)

// Sealed is an encoded entry, as it is stored and hashed.
type Sealed struct {
	Line []byte // one line of JSON without its newline
	Hash tlog.Hash
}

// LeafHash is the RFC 6962 leaf hash of an entry's line.
func LeafHash(line []byte) tlog.Hash { return tlog.RecordHash(line) }

// Seal encodes the entry. The error, an ErrInvalidEntry, names the member that
// the code got wrong; nothing that a client supplies causes one.
func (e Entry) Seal() (Sealed, error) {
	if err := e.validate(); err != nil {
		return Sealed{}, err
	}
	line := e.append(make([]byte, 0, e.sizeHint()))
	return Sealed{Line: line, Hash: LeafHash(line)}, nil
}

// sizeHint is enough for an entry of which no string is escaped.
func (e *Entry) sizeHint() int {
	const members = 384 // names, punctuation and the values of fixed width
	return members + len(e.Node) + len(e.RequestID) + len(e.Tenant) + len(e.Who.Name) + len(e.Who.IP) + len(e.Op) +
		len(e.Resource.Merchant) + len(e.Resource.Customer) + len(e.Resource.Reference) + len(e.Resource.Key) +
		len(e.Result) + min(len(e.Detail), maxDetail) + e.Call.sizeHint()
}

func (e *Entry) validate() error {
	bad := func(member string) error { return fmt.Errorf("%w: member %s", ErrInvalidEntry, member) }
	switch {
	case e.Version != 0 && e.Version != EntryVersion:
		return bad("v")
	case !isUUIDv7(e.ID):
		return bad("id")
	case !ValidNode(e.Node):
		return bad("node")
	case !isCode(e.Who.Type):
		return bad("who.type")
	case !isCode(e.Who.Auth):
		return bad("who.auth")
	case !isCode(e.Op):
		return bad("op")
	case e.PCI != "" && (len(e.PCI) != 8 || e.PCI[:7] != "10.2.1." || e.PCI[7] < '1' || e.PCI[7] > '7'):
		return bad("pci")
	case e.Outcome != Allowed && e.Outcome != Denied && e.Outcome != Failed:
		return bad("outcome")
	case !isCode(e.Result):
		return bad("result")
	}
	if e.Resource != (Resource{}) && !isCode(e.Resource.Kind) {
		return bad("res.kind")
	}
	if v := e.Resource.KeyVersion; v < 0 || v > 1<<31-1 {
		return bad("res.key_version")
	}
	if e.Call != nil {
		if member := e.Call.invalid(); member != "" {
			return bad("call." + member)
		}
	}
	if y := e.Time.UTC().Year(); y < 1970 || y > 9999 {
		return bad("time")
	}
	return nil
}

// ValidNode reports whether a node may have this name: 1 to 64 of a-z, 0-9, dot
// and hyphen, the first and the last a letter or digit.
func ValidNode(name string) bool {
	if len(name) == 0 || len(name) > maxShort {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '.' && c != '-' || i == 0 || i == len(name)-1) {
			return false
		}
	}
	return true
}

// isCode reports whether s is a letter a-z, then up to 63 of a-z, 0-9, dot,
// underscore and hyphen.
func isCode(s string) bool {
	if len(s) == 0 || len(s) > maxShort || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// uuidLen is the length of a UUID as text.
const uuidLen = 36

// isUUID reports whether s is a UUID in its lower-case form with hyphens.
func isUUID[T string | []byte](s T) bool {
	if len(s) != uuidLen || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	digits := 0
	for i := range uuidLen {
		digits += int(hexDigits[s[i]])
	}
	return digits == uuidLen-4 // all but the four hyphens
}

// hexDigits has 1 for each hexadecimal digit in lower case.
var hexDigits = func() (t [256]uint8) {
	for _, c := range []byte("0123456789abcdef") {
		t[c] = 1
	}
	return t
}()

// isUUIDv7 is isUUID with the version and variant of RFC 9562 section 5.7.
func isUUIDv7[T string | []byte](s T) bool {
	return isUUID(s) && s[14] == '7' && (s[19] == '8' || s[19] == '9' || s[19] == 'a' || s[19] == 'b')
}
