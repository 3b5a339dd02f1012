package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"cardea/internal/adminapi"
	"cardea/internal/kms"
)

type approvalDepositCommand struct {
	Request string `arg:"" type:"path" placeholder:"FILE" help:"The request, as others have approved it."`
	keyServiceFlags
	output
}

// Help implements kong.HelpProvider.
func (approvalDepositCommand) Help() string {
	return "Examples:\n  cardea approval deposit deletion.request --config keys.toml\n\n" +
		"A key service with [key_service.dual_control] lets an operation on a key through only if an approval of exactly that was deposited, whoever asks and by whatever client. " +
		"It is used up by the operation, or expires. Asked on the key service's host, as the user that it runs as."
}

func (c approvalDepositCommand) Run(ctx context.Context, p *Process) error {
	note, err := readSmall(c.Request)
	if err != nil {
		return err
	}
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	var v kms.ApprovalView
	if err := k.call(ctx, "kms/DepositApproval", &adminapi.Deposit{Note: string(note)}, &v); err != nil {
		return err
	}
	return c.print(p.Stdout, v, func(w io.Writer) error {
		return fields(w, []string{"deposited", v.ID}, []string{"permits, once", permitted(&v)}, []string{"of", v.Target},
			[]string{"approved by", strings.Join(v.Approvers, ", ")}, []string{"until", day(v.Expires)})
	})
}

// permitted is what an approval permits, in words.
func permitted(v *kms.ApprovalView) string {
	text := v.Operation
	for _, name := range slices.Sorted(maps.Keys(v.Params)) {
		text += fmt.Sprintf(", %s %s", name, v.Params[name])
	}
	return text
}

type approvalDepositsCommand struct {
	keyServiceFlags
	output
	KeyID string `required:"" name:"key-id" placeholder:"ARN" help:"ARN of the key."`
}

// Help implements kong.HelpProvider.
func (approvalDepositsCommand) Help() string {
	return "Examples:\n  cardea approval deposits --key-id arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --config keys.toml\n\n" +
		"What has expired is not listed."
}

func (c approvalDepositsCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	var list kms.ListApprovalsOutput
	if err := k.call(ctx, "kms/ListApprovals", &adminapi.Deposited{Key: c.KeyID}, &list); err != nil {
		return err
	}
	return c.print(p.Stdout, list, func(w io.Writer) error {
		var rows [][]string
		for i := range list.Approvals {
			v := &list.Approvals[i]
			rows = append(rows, []string{v.ID, permitted(v), strings.Join(v.Approvers, ", "), day(v.Expires), day(v.Spent), v.Problem})
		}
		return table(w, "no approval is deposited for this key", []string{"ID", "PERMITS", "APPROVED BY", "UNTIL", "USED", "PROBLEM"}, rows)
	})
}

type approvalWithdrawCommand struct {
	ID string `arg:"" placeholder:"ID" help:"The request's id, as 'cardea approval deposits' lists it."`
	keyServiceFlags
	output
	KeyID string `required:"" name:"key-id" placeholder:"ARN" help:"ARN of the key that it was deposited for."`
}

// Help implements kong.HelpProvider.
func (approvalWithdrawCommand) Help() string {
	return "Examples:\n  cardea approval withdraw 01934f0e-7d5c-7a3e-8c55-0f3b1b9d2e11 --key-id arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --config keys.toml\n\n" +
		"From then on it permits nothing, and it cannot be deposited again: who wants the operation after all asks anew. One that was used cannot be withdrawn. " +
		"Whoever asked for it or approved it, and has thought better of it, has it withdrawn by an operator of the key service's host: as with deposits, the user that the service runs as, or root. " +
		"The key service's audit log tells who did (kms.withdraw_approval)."
}

func (c approvalWithdrawCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	var v kms.ApprovalView
	if err := k.call(ctx, "kms/WithdrawApproval", &adminapi.Withdrawal{Key: c.KeyID, ID: c.ID}, &v); err != nil {
		return err
	}
	return c.print(p.Stdout, v, func(w io.Writer) error {
		return fields(w, []string{"withdrawn", v.ID}, []string{"permitted", permitted(&v)}, []string{"of", v.Target}, []string{"approved by", strings.Join(v.Approvers, ", ")})
	})
}
