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

// keyOperator is the operator to the key service, in no account: what the key's ARN says.
func (x *exchange) keyOperator() kms.Caller {
	who := kms.Operator(x.operator, "", "")
	who.RequestID = x.id
	return who
}
