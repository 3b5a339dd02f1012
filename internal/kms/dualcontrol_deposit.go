package kms

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"cardea/internal/iam"
)

// Operations of dual control. They are Cardea's own, for operators, and not of the API.
var (
	OpDepositApproval  = op("DepositApproval", pciAdmin, classAny)
	OpListApprovals    = op("ListApprovals", pciAdmin, classAny, readOnly)
	OpWithdrawApproval = op("WithdrawApproval", pciAdmin, classAny)
)

const (
	maxDeposited = 8        // approvals a key that wait to be used
	maxNote      = 16 << 10 // bytes of one
)

// DepositApprovalInput is a request that people have approved: the signed note.
type DepositApprovalInput struct{ Note string }

// ListApprovalsInput asks for what was deposited for a key.
type ListApprovalsInput struct{ KeyARN string }

// ApprovalView is an approval that was deposited.
type ApprovalView struct {
	ID        string            `json:"id"`
	Operation string            `json:"operation,omitempty"`
	Target    string            `json:"target"`
	Params    map[string]string `json:"params,omitempty"`
	Requester string            `json:"requester,omitempty"`
	Approvers []string          `json:"approvers,omitempty"`
	Expires   time.Time         `json:"expires"`
	Spent     time.Time         `json:"spent,omitzero"`
	Withdrawn time.Time         `json:"withdrawn,omitzero"`
	// Problem is why it permits nothing now, "" if it permits what it says.
	Problem string `json:"problem,omitempty"`
}

// ListApprovalsOutput is what was deposited for a key and has not expired.
type ListApprovalsOutput struct {
	Approvals []ApprovalView `json:"approvals"`
}

func (in *DepositApprovalInput) check(v *violations) {
	if v.required("note", in.Note != "") {
		v.text("note", in.Note, maxNote)
	}
}

func (in *ListApprovalsInput) check(v *violations) { v.keyID("keyId", in.KeyARN) }

// DepositApproval keeps an approved request until the operation that it permits is
// asked for, or it expires. who must be an Operator, which adds no power: the request
// must have been approved.
func (s *Service) DepositApproval(ctx context.Context, who Caller, in *DepositApprovalInput) (*ApprovalView, error) {
	return perform(ctx, s, who, OpDepositApproval, in, func(c *call, out *ApprovalView) error {
		if err := c.operated(); err != nil {
			return err
		}
		a, err := s.dual.Judge.Read([]byte(in.Note), c.at)
		if err != nil {
			return refuse(CodeValidation, "The approval cannot be read: "+err.Error())
		}
		c.param("approval", "approval/"+a.ID)
		c.param("operation", a.Operation)
		for _, name := range slices.Sorted(maps.Keys(a.Params)) {
			c.param("param."+name, a.Params[name])
		}
		k, err := c.targeted(ctx, a.Target)
		if err != nil {
			return err
		}
		if !s.dual.asks(a.Operation) || !s.dual.covers(k.Key) {
			return refuse(CodeValidation, "The key service asks for no approval of "+a.Operation+" of "+k.arn+".")
		}
		a.Wanted.Approvals = s.dual.Approvals
		if a, err = s.dual.Judge.Check([]byte(in.Note), c.at, a.Wanted); err != nil {
			return refuse(CodeValidation, "The approval is not good: "+err.Error())
		}
		*out = a.view()
		c.entry.Detail = a.Words()
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error { return k.deposit(a, in.Note, c.at) })
	})
}

// deposit adds an approval, and forgets those that have expired.
func (k *Key) deposit(a *Approved, note string, now time.Time) error {
	k.Approvals = slices.DeleteFunc(k.Approvals, func(a Approval) bool { return !now.Before(a.Expires) })
	waiting := 0
	for _, old := range k.Approvals {
		switch {
		case old.ID == a.ID && !old.Spent.IsZero():
			return refuse(CodeAlreadyExists, "The approval was used on "+old.Spent.UTC().Format(time.RFC3339)+": ask for a new one.")
		case old.ID == a.ID && !old.Withdrawn.IsZero():
			return refuse(CodeAlreadyExists, "The approval was withdrawn on "+old.Withdrawn.UTC().Format(time.RFC3339)+": ask for a new one.")
		case old.ID == a.ID:
			return refuse(CodeAlreadyExists, "The approval has been deposited already.")
		case old.waits():
			waiting++
		}
	}
	if waiting >= maxDeposited {
		return refuse(CodeLimitExceeded, "The key has "+strconv.Itoa(waiting)+" approvals that nobody has used: withdraw some or let them expire first.")
	}
	k.Approvals = append(k.Approvals, Approval{ID: a.ID, Expires: a.Expires, Note: note})
	return nil
}

// ListApprovals tells what was deposited for a key. who must be an Operator.
func (s *Service) ListApprovals(ctx context.Context, who Caller, in *ListApprovalsInput) (*ListApprovalsOutput, error) {
	return perform(ctx, s, who, OpListApprovals, in, func(c *call, out *ListApprovalsOutput) error {
		c.param("keyId", in.KeyARN)
		if err := c.operated(); err != nil {
			return err
		}
		k, err := c.targeted(ctx, in.KeyARN)
		if err != nil {
			return err
		}
		out.Approvals = []ApprovalView{}
		for i := range k.Approvals {
			if a := &k.Approvals[i]; c.at.Before(a.Expires) {
				out.Approvals = append(out.Approvals, s.dual.judge(k, a, c.at))
			}
		}
		return nil
	})
}

// judge is how an approval of k is at a time.
func (d *DualControl) judge(k *live, a *Approval, at time.Time) ApprovalView {
	v := ApprovalView{ID: a.ID, Target: k.arn, Expires: a.Expires, Spent: a.Spent, Withdrawn: a.Withdrawn}
	switch {
	case !a.Spent.IsZero():
		v.Problem = "it was used"
		return v
	case !a.Withdrawn.IsZero():
		v.Problem = "it was withdrawn on " + a.Withdrawn.UTC().Format(time.RFC3339)
		return v
	}
	got, err := d.Judge.Read([]byte(a.Note), at)
	if err == nil {
		v = got.view()
		want := got.Wanted
		want.Approvals = d.Approvals
		_, err = d.Judge.Check([]byte(a.Note), at, want)
	}
	if err != nil {
		v.Problem = err.Error()
	}
	return v
}

func (a *Approved) view() ApprovalView {
	return ApprovalView{
		ID: a.ID, Operation: a.Operation, Target: a.Target, Params: a.Params, Requester: a.Requester, Approvers: a.Approvers, Expires: a.Expires,
	}
}

// operated lets operators in, if there is dual control.
func (c *call) operated() error {
	if c.who.operator == "" {
		return &Error{Code: CodeAccessDenied, Message: "Only operators of the host may see, deposit and withdraw approvals.", Reason: "not an operator"}
	}
	if c.s.dual.Judge == nil {
		return refuse(CodeUnsupported, "The key service asks for no approvals: set key_service.dual_control.register to have it do so.")
	}
	c.asked = true
	return nil
}

// targeted loads the key that an approval is about.
func (c *call) targeted(ctx context.Context, arn string) (*live, error) {
	a, err := iam.ParseARN(arn)
	if err != nil || a.Partition != "aws" || a.Service != "kms" || len(a.Resource) < 5 || a.Resource[:4] != "key/" || !validKeyID(a.Resource[4:]) {
		return nil, refuse(CodeInvalidARN, "Invalid arn "+cut(arn))
	}
	ref := KeyRef{Account: a.Account, Region: a.Region, ID: a.Resource[4:]}
	c.resource("key", arn, ref.Account)
	c.more.Region = ref.Region
	return c.load(ctx, ref)
}

// asks reports whether something of the kind can need approval here.
func (d *DualControl) asks(operation string) bool {
	if operation == approvalEndControl {
		return d.Tag != ""
	}
	return slices.ContainsFunc(Operations(), func(o *Operation) bool {
		return o.Approval == operation && operation != "" && slices.Contains(d.Operations, o.Name)
	})
}
