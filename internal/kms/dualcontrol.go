package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// DualControl is which changes of keys no one person may make alone (PCI DSS 3.7.6):
// docs/spec/approval.md, "Approvals that the key service enforces".
type DualControl struct {
	// Judge reads what people have signed. nil: no change needs approval.
	Judge Judge
	// Operations that need approval, by their names in the API: some of ControlledOperations.
	Operations []string
	// Tag is the key of the tag that puts a key under dual control; "" for all keys.
	Tag string
	// Approvals is how many people must approve besides the one who asks, at least.
	Approvals int
	// CheckValue is the check value of symmetric material, as people compare it.
	CheckValue func(keyspec.Spec, secret.Bytes) (string, error)
}

// Judge tells what people have approved. It is safe for concurrent use, and looks at
// who may sign anew with each call. Its errors are for who deposits, and for the log.
type Judge interface {
	// Read verifies a signed request, and who counts as its approvers at a time.
	Read(signed []byte, at time.Time) (*Approved, error)
	// Check is Read for a request that permits exactly what is wanted at a time.
	Check(signed []byte, at time.Time, w Wanted) (*Approved, error)
}

// Wanted is what is about to be done.
type Wanted struct {
	Operation string // of requests, such as key.disable
	Target    string // the key's ARN
	Params    map[string]string
	Approvals int
}

// Approved is a request that a Judge has read.
type Approved struct {
	Wanted
	ID        string
	Requester string
	Approvers []string
	Expires   time.Time
	Register  string // digest of the register that says who may sign
}

// Approval is a signed request that was deposited for a key.
type Approval struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Note    string    `json:"note,omitempty"` // as it was signed; not kept once it is spent or withdrawn
	Spent   time.Time `json:"spent,omitzero"`
	// Withdrawn is when somebody took it back before it was used.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
}

// waits reports whether nobody has used the approval or taken it back.
func (a *Approval) waits() bool { return a.Spent.IsZero() && a.Withdrawn.IsZero() }

// What people approve where it is not the name of one operation.
const approvalEndControl = "key.end-dual-control"

// ControlledOperations are the names of the operations that can need approval.
func ControlledOperations() []string {
	var names []string
	for _, o := range Operations() {
		if o.Approval != "" {
			names = append(names, o.Name)
		}
	}
	return names
}

// vet refuses options under which what should be controlled would not be.
func (d *DualControl) vet() error {
	if d.Judge == nil {
		return nil
	}
	if d.Approvals < 1 || d.CheckValue == nil || len(d.Operations) == 0 {
		return errors.New("kms: dual control needs Operations, Approvals and CheckValue")
	}
	for _, name := range d.Operations {
		if !slices.Contains(ControlledOperations(), name) {
			return fmt.Errorf("kms: dual control: no approval is known for operation %q", name)
		}
	}
	return nil
}

// covers reports whether a key is under dual control.
func (d *DualControl) covers(k *Key) bool {
	return d.Judge != nil && (d.Tag == "" || slices.ContainsFunc(k.Tags, func(t Tag) bool { return t.TagKey == d.Tag }))
}

// spending is an approval that an operation uses up.
type spending struct {
	key KeyRef
	id  string
}

// mustApprove notes that the operation on the key needs approval: update refuses it
// until approve has found one, or unchanged has said that there is nothing to approve.
func (c *call) mustApprove(k *Key) {
	d := &c.s.dual
	c.unapproved = c.op.Approval != "" && c.who.system == "" && d.covers(k) && slices.Contains(d.Operations, c.op.Name)
}

// unchanged says that the operation changes nothing that people would approve.
func (c *call) unchanged() { c.unapproved = false }

// approve finds the approval of what is about to be done to k, which update then uses
// up, if it needs one.
func (c *call) approve(k *live, params map[string]string) error {
	if !c.unapproved {
		return nil
	}
	return c.approveAs(k, c.op.Approval, params)
}

func (c *call) approveAs(k *live, operation string, params map[string]string) error {
	w := Wanted{Operation: operation, Target: k.arn, Params: params, Approvals: c.s.dual.Approvals}
	var why []string
	used, withdrawn := 0, 0
	for i := range k.Approvals {
		a := &k.Approvals[i]
		switch {
		case !a.Spent.IsZero():
			used++
			continue
		case !a.Withdrawn.IsZero():
			withdrawn++
			continue
		}
		got, err := c.s.dual.Judge.Check([]byte(a.Note), c.at, w)
		if err == nil && got.ID != a.ID {
			err = errors.New("it is stored under the id of another")
		}
		if err != nil {
			why = append(why, "approval/"+a.ID+": "+err.Error())
			continue
		}
		c.unapproved, c.spend = false, spending{k.KeyRef, a.ID}
		c.entry.Detail += "; " + got.Words()
		return nil
	}
	if used > 0 {
		why = append(why, fmt.Sprintf("%d were used already", used))
	}
	if withdrawn > 0 {
		why = append(why, fmt.Sprintf("%d were withdrawn", withdrawn))
	}
	if len(why) == 0 {
		why = append(why, "none was deposited")
	}
	return &Error{
		Code: CodeAccessDenied,
		Message: fmt.Sprintf("The key is under dual control: an approval by %d people of %s, which nobody has used, must be deposited with the key service before ('cardea approval deposit').",
			w.Approvals, w.words()),
		Reason: "dual control: no approval of " + w.words() + ": " + strings.Join(why, "; "),
	}
}

func (w *Wanted) words() string {
	var params []string
	for _, name := range slices.Sorted(maps.Keys(w.Params)) {
		params = append(params, name+": "+w.Params[name])
	}
	return w.Operation + " of " + w.Target + " with {" + strings.Join(params, ", ") + "}"
}

// Words tell who approved, for the log. After a slash the log lets an id stand, whatever its
// digits look like.
func (a *Approved) Words() string {
	return fmt.Sprintf("approval/%s, asked by %s, approved by %s, register %.16s", a.ID, a.Requester, strings.Join(a.Approvers, ", "), a.Register)
}

// spendingTx uses up the operation's approval as the key is written.
type spendingTx struct {
	Tx
	c     *call
	spent bool
}

// PutKey implements Tx.
func (t *spendingTx) PutKey(ctx context.Context, k *Key) error {
	if k.KeyRef == t.c.spend.key {
		k = k.Clone()
		for i := range k.Approvals {
			if a := &k.Approvals[i]; a.ID == t.c.spend.id && a.waits() {
				a.Spent, a.Note, t.spent = t.c.at, "", true
			}
		}
	}
	return t.Tx.PutKey(ctx, k)
}

// controlled is a transaction that fails unless what needs approval uses one up.
func (c *call) controlled(ctx context.Context, tx Tx, write func(context.Context, Tx) ([]Change, error)) ([]Change, error) {
	if c.unapproved {
		return nil, refuse(CodeInternal, "operation "+c.op.Name+" did not ask for approval")
	}
	if c.spend.id == "" {
		return write(ctx, tx)
	}
	t := &spendingTx{Tx: tx, c: c}
	changed, err := write(ctx, t)
	if err == nil && !t.spent { // another was faster, or the key is not written
		err = errStale
	}
	return changed, err
}

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
