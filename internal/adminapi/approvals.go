package adminapi

import (
	"context"
	"io"

	"cardea/internal/kms"
)

// Deposit is a request that people have approved, for the key service to keep until
// the operation that it permits is asked for.
type Deposit struct {
	Note string `json:"note"`
}

// Deposited asks for the approvals that were deposited for a key.
type Deposited struct {
	Key string `json:"key"` // ARN
}

// Withdrawal names an approval that was deposited for a key, and is taken back.
type Withdrawal struct {
	Key string `json:"key"` // ARN
	ID  string `json:"id"`
}

func depositApproval(ctx context.Context, x *exchange, body io.Reader) (any, error) {
	var in Deposit
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	return x.server.o.Keys.DepositApproval(ctx, x.keyOperator(), &kms.DepositApprovalInput{Note: in.Note})
}

func listApprovals(ctx context.Context, x *exchange, body io.Reader) (any, error) {
	var in Deposited
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	return x.server.o.Keys.ListApprovals(ctx, x.keyOperator(), &kms.ListApprovalsInput{KeyARN: in.Key})
}

func withdrawApproval(ctx context.Context, x *exchange, body io.Reader) (any, error) {
	var in Withdrawal
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	return x.server.o.Keys.WithdrawApproval(ctx, x.keyOperator(), &kms.WithdrawApprovalInput{KeyARN: in.Key, ID: in.ID})
}

// keyOperator is the operator to the key service, in no account: what the key's ARN says.
func (x *exchange) keyOperator() kms.Caller {
	who := kms.Operator(x.operator, "", "")
	who.RequestID = x.id
	return who
}
