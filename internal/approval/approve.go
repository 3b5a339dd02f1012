package approval

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/notekey"
)

// maxNote bounds a request with its signatures, in bytes.
const maxNote = 256 << 10

// Errors that a caller branches on.
var (
	ErrRefused = errors.New("not approved")              // the quorum is not there, or somebody in it may not approve
	ErrExpired = errors.New("the request has expired")   // ask anew
	ErrOther   = errors.New("the request is of another") // operation, target or parameter
)

// Ask signs a request as its requester. ID, Requester, Created are filled in, and
// Expires if it is zero.
func Ask(r Request, reg *Register, s *notekey.Signer, now time.Time) (*Request, []byte, error) {
	r.ID, r.Requester, r.Created = uuid.Must(uuid.NewV7()).String(), s.Name(), now.UTC().Truncate(time.Second)
	if r.Expires.IsZero() {
		r.Expires = r.Created.Add(DefaultLife)
	}
	r.Expires = r.Expires.UTC().Truncate(time.Second)
	if err := r.validate(); err != nil {
		return nil, nil, err
	}
	if err := reg.signs(s, RoleRequester, now); err != nil {
		return nil, nil, err
	}
	if n := reg.approvers(r.Requester, now); n < r.Approvals {
		return nil, nil, fmt.Errorf("approvals: %d are asked for, and the register has %d other people who may approve", r.Approvals, n)
	}
	signed, err := note.Sign(&note.Note{Text: r.text()}, s)
	return &r, signed, err
}

// signs checks that a signer is who the register says.
func (r *Register) signs(s *notekey.Signer, role Role, now time.Time) error {
	if err := r.May(s.Name(), role, now); err != nil {
		return err
	}
	p, err := r.Person(s.Name())
	if err != nil {
		return err
	}
	if p.Key != s.Verifier() {
		return fmt.Errorf("the key is not the one that the register has of %q", s.Name())
	}
	return nil
}

// approvers counts who may approve besides one.
func (r *Register) approvers(besides string, now time.Time) int {
	n := 0
	for _, p := range r.People {
		if p.Name != besides && r.May(p.Name, RoleApprover, now) == nil {
			n++
		}
	}
	return n
}

// State is how far a request is.
type State struct {
	Request   *Request
	Approvers []string // who count, in the order of signing
	Others    []string // who signed and do not count, with the reason
}

// Approved reports whether the quorum is there.
func (s *State) Approved() bool { return len(s.Approvers) >= s.Request.Approvals }

// Open verifies a request and its signatures at a time. Errors: ErrMalformed, and
// ErrRefused if it is not signed by a requester. An expired or unapproved request is
// no error.
func Open(signed []byte, reg *Register, now time.Time) (*State, error) {
	if len(signed) > maxNote {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, maxNote)
	}
	n, err := notekey.Open(signed, reg.verifiers())
	if err != nil {
		if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
			return nil, fmt.Errorf("%w: nobody in the register has signed it", ErrRefused)
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r, err := parseRequest(n.Text)
	if err != nil {
		return nil, err
	}
	s := &State{Request: r}
	asked := false
	for _, sig := range n.Sigs {
		if sig.Name == r.Requester {
			asked = true
			continue // never an approver
		}
		if err := reg.May(sig.Name, RoleApprover, now); err != nil {
			s.Others = append(s.Others, err.Error())
			continue
		}
		s.Approvers = append(s.Approvers, sig.Name)
	}
	for _, sig := range n.UnverifiedSigs {
		s.Others = append(s.Others, fmt.Sprintf("%q is not in the register, or signed with another key", sig.Name))
	}
	if !asked {
		return nil, fmt.Errorf("%w: its requester %q has not signed it", ErrRefused, r.Requester)
	}
	if err := reg.May(r.Requester, RoleRequester, now); err != nil {
		return nil, fmt.Errorf("%w: requester: %w", ErrRefused, err)
	}
	return s, nil
}

// Approve adds a signature to a request.
func Approve(signed []byte, reg *Register, s *notekey.Signer, now time.Time) (*State, []byte, error) {
	st, err := Open(signed, reg, now)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case s.Name() == st.Request.Requester:
		return nil, nil, fmt.Errorf("%w: %q asked for it: somebody else must approve", ErrRefused, s.Name())
	case !now.Before(st.Request.Expires):
		return nil, nil, fmt.Errorf("%w on %s", ErrExpired, st.Request.Expires.Format(time.RFC3339))
	case slices.Contains(st.Approvers, s.Name()):
		return nil, nil, fmt.Errorf("%w: %q has approved it already", ErrRefused, s.Name())
	}
	if err := reg.signs(s, RoleApprover, now); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	n, err := notekey.Open(signed, reg.verifiers())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	out, err := note.Sign(n, s)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	st, err = Open(out, reg, now)
	return st, out, err
}

// Want is what is about to be done.
type Want struct {
	Operation Operation
	Target    string
	Params    map[string]string
	Approvals int // at least, whatever the request says
}

// Check returns the state of a request that permits exactly what is wanted, now.
// Errors: those of Open, ErrExpired, ErrOther, ErrRefused.
func Check(signed []byte, reg *Register, now time.Time, w Want) (*State, error) {
	st, err := Open(signed, reg, now)
	if err != nil {
		return nil, err
	}
	r := st.Request
	need := max(r.Approvals, w.Approvals)
	switch {
	case r.Operation != w.Operation:
		return nil, fmt.Errorf("%w operation: %s, not %s", ErrOther, r.Operation, w.Operation)
	case r.Target != w.Target:
		return nil, fmt.Errorf("%w target: %s, not %s", ErrOther, r.Target, w.Target)
	case !maps.Equal(r.Params, w.Params):
		return nil, fmt.Errorf("%w parameter: it is for {%s}, not {%s}", ErrOther, list(r.Params), list(w.Params))
	case now.Before(r.Created.Add(-5 * time.Minute)):
		return nil, fmt.Errorf("%w: it was made in the future, at %s: check the clocks", ErrRefused, r.Created.Format(time.RFC3339))
	case !now.Before(r.Expires):
		return nil, fmt.Errorf("%w on %s: ask again", ErrExpired, r.Expires.Format(time.RFC3339))
	case len(st.Approvers) < need:
		who := "nobody"
		if len(st.Approvers) > 0 {
			who = strings.Join(st.Approvers, ", ")
		}
		return nil, fmt.Errorf("%w: needs %d approvals, has %d (%s): have others run 'cardea approval approve'", ErrRefused, need, len(st.Approvers), who)
	}
	return st, nil
}

func list(params map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(params)) {
		all = append(all, k+": "+params[k])
	}
	return strings.Join(all, ", ")
}
