package kms

import (
	"context"
	"slices"
	"time"
)

// WithdrawApprovalInput names an approval that was deposited for a key.
type WithdrawApprovalInput struct{ KeyARN, ID string }

func (in *WithdrawApprovalInput) check(v *violations) {
	v.keyID("keyId", in.KeyARN)
	if v.required("approvalId", in.ID != "") {
		v.text("approvalId", in.ID, maxApprovalID)
	}
}

const maxApprovalID = 64 // bytes; that of a UUID is 36

// WithdrawApproval makes an approval that nobody has used permit nothing any more, and
// returns what it permitted. It and the operation that the approval permits are never
// both done, whichever of them, or which node, comes first. who must be an Operator: it
// takes power away and gives none, so nobody need sign it.
func (s *Service) WithdrawApproval(ctx context.Context, who Caller, in *WithdrawApprovalInput) (*ApprovalView, error) {
	return perform(ctx, s, who, OpWithdrawApproval, in, func(c *call, out *ApprovalView) error {
		c.param("keyId", in.KeyARN)
		c.param("approval", "approval/"+in.ID)
		if err := c.operated(); err != nil {
			return err
		}
		k, err := c.targeted(ctx, in.KeyARN)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(k.Approvals, func(a Approval) bool { return a.ID == in.ID && c.at.Before(a.Expires) })
		if i < 0 {
			return refuse(CodeNotFound, "No approval with this id is deposited for the key: it never was, or has expired ('cardea approval deposits').")
		}
		a := &k.Approvals[i]
		switch {
		case !a.Spent.IsZero():
			return refuse(CodeInvalidState, "The approval was used on "+a.Spent.UTC().Format(time.RFC3339)+": it cannot be withdrawn any more.")
		case !a.Withdrawn.IsZero():
			return refuse(CodeInvalidState, "The approval was withdrawn on "+a.Withdrawn.UTC().Format(time.RFC3339)+" already.")
		}
		*out = s.dual.judge(k, a, c.at)
		out.Withdrawn, out.Problem = c.at, ""
		if got, err := s.dual.Judge.Read([]byte(a.Note), c.at); err == nil { // else its people have left
			c.entry.Detail = got.Words()
			c.param("operation", got.Operation)
		}
		// The key is written only if it is the one that was looked at.
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.Approvals[i].Withdrawn, k.Approvals[i].Note = c.at, ""
			return nil
		})
	})
}
