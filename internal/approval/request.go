package approval

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Operation is what needs approval.
type Operation string

// The operations. Their names are in requests and policies.
const (
	KeyDeletion   Operation = "key.schedule-deletion"
	KeyPolicy     Operation = "key.put-policy"
	KeyImport     Operation = "key.import-material"
	KeyMaterial   Operation = "key.delete-material"
	KeyDisable    Operation = "key.disable"
	KeyReplicate  Operation = "key.replicate"
	KeyUncontrol  Operation = "key.end-dual-control"
	KeyRetire     Operation = "key.retire"
	KeyShred      Operation = "key.shred"
	KeyCompromise Operation = "key.compromise"
	KeyLeaver     Operation = "key.leaver"
	Unseal        Operation = "custodian.unlock"
	AuditDisable  Operation = "audit.disable"
)

// Operations lists them.
func Operations() []Operation {
	return []Operation{KeyDeletion, KeyPolicy, KeyImport, KeyMaterial, KeyDisable, KeyReplicate, KeyUncontrol, KeyRetire, KeyShred, KeyCompromise, KeyLeaver, Unseal, AuditDisable}
}

// Limits of a request.
const (
	maxValue     = 1024 // bytes of a value
	maxParams    = 32
	maxApprovals = 10
	// MaxLife is the longest time from a request to its end.
	MaxLife = 30 * 24 * time.Hour
	// DefaultLife is that of a request that names none.
	DefaultLife = 72 * time.Hour
)

// header is the first line of a request's text.
const header = "cardea approval request v1"

// Request is what somebody asks for.
type Request struct {
	ID        string // UUIDv7
	Operation Operation
	Target    string            // the key ARN, the tenant, the node …
	Params    map[string]string // what it is to be done with: "window": "30"
	Reason    string
	Requester string
	Created   time.Time // to the second
	Expires   time.Time
	Approvals int // people needed besides the requester, at least 1
}

// ErrMalformed says that a note is not a request as this package writes them.
var ErrMalformed = errors.New("not an approval request")

// text is what is signed (docs/spec/approval.md): one line a member, in a fixed
// order, so that there is one text for a request.
func (r *Request) text() string {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(name + ": " + value + "\n") }
	b.WriteString(header + "\n")
	line("id", r.ID)
	line("operation", string(r.Operation))
	line("target", r.Target)
	for _, k := range slices.Sorted(maps.Keys(r.Params)) {
		line("param "+k, r.Params[k])
	}
	line("reason", r.Reason)
	line("requester", r.Requester)
	line("created", r.Created.UTC().Format(time.RFC3339))
	line("expires", r.Expires.UTC().Format(time.RFC3339))
	line("approvals", strconv.Itoa(r.Approvals))
	return b.String()
}

// validate names the member that is wrong.
func (r *Request) validate() error {
	bad := func(member, why string) error { return fmt.Errorf("%s: %s", member, why) }
	if id, err := uuid.Parse(r.ID); err != nil || id.Version() != 7 || id.String() != r.ID {
		return bad("id", "must be a UUIDv7")
	}
	if !slices.Contains(Operations(), r.Operation) {
		return bad("operation", fmt.Sprintf("%q is none that needs approval; those are %s", r.Operation, names(Operations())))
	}
	for member, v := range map[string]string{"target": r.Target, "reason": r.Reason, "requester": r.Requester} {
		if err := checkValue(v); err != nil {
			return bad(member, err.Error())
		}
	}
	if len(r.Params) > maxParams {
		return bad("param", fmt.Sprintf("%d of them, at most %d", len(r.Params), maxParams))
	}
	for k, v := range r.Params {
		if !validName(k) {
			return bad("param "+strconv.Quote(k), "the name must be of a-z, 0-9, dot, underscore and hyphen")
		}
		if err := checkValue(v); err != nil {
			return bad("param "+k, err.Error())
		}
	}
	life := r.Expires.Sub(r.Created)
	switch {
	case r.Created.IsZero() || r.Created.Nanosecond() != 0 || r.Expires.Nanosecond() != 0:
		return bad("created", "must be a time to the second")
	case life <= 0 || life > MaxLife:
		return bad("expires", fmt.Sprintf("must be after created, by at most %s", days(MaxLife)))
	case r.Approvals < 1 || r.Approvals > maxApprovals:
		return bad("approvals", fmt.Sprintf("must be 1 to %d", maxApprovals))
	}
	return nil
}

func days(d time.Duration) string { return fmt.Sprintf("%d days", int(d.Hours()/24)) }

func names(ops []Operation) string {
	var all []string
	for _, o := range ops {
		all = append(all, string(o))
	}
	return strings.Join(all, ", ")
}

// checkValue allows one line of printable text.
func checkValue(v string) error {
	switch {
	case v == "" || strings.TrimSpace(v) != v:
		return errors.New("must not be empty, nor begin or end with white space")
	case len(v) > maxValue:
		return fmt.Errorf("longer than %d bytes", maxValue)
	case !utf8.ValidString(v):
		return errors.New("must be UTF-8")
	}
	for _, r := range v {
		if !unicode.IsPrint(r) { // no line breaks, nothing that hides what is signed
			return fmt.Errorf("must not contain the character %U", r)
		}
	}
	return nil
}

func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// parseRequest is the inverse of text; it accepts nothing else.
func parseRequest(text string) (*Request, error) {
	rest, ok := strings.CutPrefix(text, header+"\n")
	if !ok {
		return nil, fmt.Errorf("%w: its first line is not %q", ErrMalformed, header)
	}
	r := &Request{}
	for line := range strings.Lines(rest) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			return nil, fmt.Errorf("%w: a line without a name", ErrMalformed)
		}
		if err := r.set(name, value); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		}
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if r.text() != text {
		return nil, fmt.Errorf("%w: its lines are not in order, or one is there twice", ErrMalformed)
	}
	return r, nil
}

func (r *Request) set(name, value string) (err error) {
	if param, ok := strings.CutPrefix(name, "param "); ok {
		if r.Params == nil {
			r.Params = map[string]string{}
		}
		r.Params[param] = value
		return nil
	}
	switch name {
	case "id":
		r.ID = value
	case "operation":
		r.Operation = Operation(value)
	case "target":
		r.Target = value
	case "reason":
		r.Reason = value
	case "requester":
		r.Requester = value
	case "created":
		r.Created, err = time.Parse(time.RFC3339, value)
	case "expires":
		r.Expires, err = time.Parse(time.RFC3339, value)
	case "approvals":
		r.Approvals, err = strconv.Atoi(value)
	default:
		return errors.New("is no member of a request")
	}
	return err
}
