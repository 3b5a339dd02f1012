package cli

import (
	"fmt"

	"cardea/internal/approval"
	"cardea/internal/notekey"
	"cardea/internal/secret"
)

type approvalCommands struct {
	Keygen      approvalKeygenCommand      `cmd:"" help:"Make the key that a person signs with."`
	Register    approvalRegisterCommand    `cmd:"" help:"Check the register of people and list who may do what."`
	Acknowledge approvalAcknowledgeCommand `cmd:"" help:"Sign a key custodian's responsibilities (PCI DSS 3.7.8)."`
	Request     approvalRequestCommand     `cmd:"" help:"Ask for an operation that no one person may do alone."`
	Approve     approvalApproveCommand     `cmd:"" help:"Approve a request, after reading it."`
	Show        approvalShowCommand        `cmd:"" help:"Verify a request and tell how far it is."`
	Deposit     approvalDepositCommand     `cmd:"" help:"Give an approved request to a key service that lets operations on keys through only with one."`
	Deposits    approvalDepositsCommand    `cmd:"" help:"List the approvals that were deposited for a key."`
	Withdraw    approvalWithdrawCommand    `cmd:"" help:"Take back an approval that was deposited and that nobody has used."`
	History     approvalHistoryCommand     `cmd:"" help:"Verify the ledger of an installation and list which requests were executed."`
}

// personKey is the key file of a person.
type personKey struct {
	Key string `required:"" type:"path" placeholder:"FILE" help:"Your key, as 'cardea approval keygen' made it."`
}

func (k personKey) signer() (*notekey.Signer, error) {
	text, err := readSmall(k.Key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	key := secret.New(text)
	defer key.Destroy()
	s, err := notekey.Parse(key)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", k.Key, err)
	}
	return s, nil
}

// registerFile is the register of people.
type registerFile struct {
	Register string `required:"" type:"path" placeholder:"FILE" help:"Register of people: who may ask, approve, and hold parts of keys."`
}

func (r registerFile) read() (*approval.Register, error) {
	text, err := readSmall(r.Register)
	if err != nil {
		return nil, fmt.Errorf("--register: %w", err)
	}
	reg, err := approval.ParseRegister(text)
	if err != nil {
		return nil, fmt.Errorf("--register: %s: %w", r.Register, err)
	}
	return reg, nil
}
