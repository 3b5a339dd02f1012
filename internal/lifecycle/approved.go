package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"cardea/internal/approval"
)

// Approved is an approval that something was begun with. The request is kept with its
// signatures: whoever goes on with the work checks them again.
type Approved struct {
	ID        string    `json:"id,omitempty"`
	Requester string    `json:"requester,omitempty"`
	Approvers []string  `json:"approvers,omitempty"`
	At        time.Time `json:"at,omitzero"` // when it was checked first
	Request   string    `json:"request,omitempty"`
	Register  string    `json:"register_sha256,omitempty"` // the version of the register that it was checked with
}

// Given says whether there is one.
func (a *Approved) Given() bool { return a.Request != "" }

// Check checks a request that permits what is needed, or, if the work was begun with
// one before, that one as of then: it may have expired since.
func (a *Approved) Check(n *Needed, signed []byte, reg *approval.Register, now time.Time) (*approval.State, error) {
	at := now
	if a.Given() {
		signed, at = []byte(a.Request), a.At
	}
	if len(signed) == 0 {
		return nil, fmt.Errorf("needs approval: '%s --reason WHY --register FILE --key FILE --out FILE'", n.Command())
	}
	st, err := approval.Check(signed, reg, at, approval.Want{Operation: n.Operation, Target: n.Target, Params: n.Params, Approvals: n.Approvals})
	if err != nil {
		return nil, err
	}
	*a = Approved{ID: st.Request.ID, Requester: st.Request.Requester, Approvers: st.Approvers, At: at.UTC().Truncate(time.Second), Request: string(signed), Register: reg.Digest()}
	return st, nil
}

func (a *Approved) String() string {
	if !a.Given() {
		return "none"
	}
	return a.ID + " of " + a.Requester + ", approved by " + strings.Join(a.Approvers, ", ")
}

// Quorum is how many people besides the one who asks must approve an operation: what
// the policy file says; as many as least without a file, or where it says nothing.
func (p *Policy) Quorum(op approval.Operation, least int) int {
	if p == nil || p.Approvals[op] == 0 {
		return least
	}
	return p.Approvals[op]
}
