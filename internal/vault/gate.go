package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
)

// auditGrace is how long an entry may still be written after its request's own
// time is over: a client that hangs up must not keep its access out of the log.
const auditGrace = 5 * time.Second

// Log is where entries of operations become durable.
type Log interface {
	Append(ctx context.Context, entries ...audit.Sealed) error
}

// Gate is the one way to perform an operation: authorize, act, audit.
type Gate struct {
	Node    string
	Log     Log
	Tenants *Tenants
	Now     func() time.Time
	Logger  *slog.Logger
}

// Target is what an operation is about, as far as it is known when it starts.
type Target struct {
	Tenant    string
	Holder    string // merchant or entity
	Customer  string
	Reference string
	RequestID string
}

// call is one run of an operation through the gate.
type call struct {
	gate     *Gate
	op       *Operation
	entry    audit.Entry
	recorded bool // the entry is durable, or in the hands of a unit that was applied
}

// do authorizes who for op on t, runs act, and sees to it that exactly one entry
// is durable before it returns. act may write the entry together with a change by
// call.with and must then call call.done if the change was applied; in every
// other case do writes it, with the outcome that act's error tells. If the entry
// cannot be written the operation fails, whatever act did, and act's caller must
// not release plaintext.
func (g *Gate) do(ctx context.Context, who iam.Principal, op *Operation, t Target, act func(*call) error) error {
	c := g.begin(who, op, t)
	err := g.authorize(who, op, t)
	if err == nil {
		err = act(c)
	}
	if c.recorded {
		return err
	}
	c.outcome(err)
	if aerr := c.append(ctx); aerr != nil {
		return errors.Join(aerr, err)
	}
	return err
}

func (g *Gate) begin(who iam.Principal, op *Operation, t Target) *call {
	e := audit.Entry{
		Version:   audit.EntryVersion,
		ID:        uuid.Must(uuid.NewV7()).String(),
		Time:      g.Now(),
		Node:      g.Node,
		RequestID: t.RequestID,
		Tenant:    t.Tenant,
		Who:       audit.Actor{Type: string(who.Type), Name: who.Name, Auth: who.Auth},
		Op:        op.Name,
		PCI:       op.PCI,
		Outcome:   audit.Allowed,
		Resource:  audit.Resource{Kind: op.Kind, Merchant: t.Holder, Customer: t.Customer, Reference: t.Reference},
	}
	if who.IP.IsValid() {
		e.Who.IP = who.IP.String()
	}
	return &call{gate: g, op: op, entry: e}
}

func (g *Gate) authorize(who iam.Principal, op *Operation, t Target) error {
	d := iam.Evaluate(who, iam.Request{Action: op.Action, Tenant: t.Tenant, Merchant: t.Holder})
	if !d.Allowed {
		return fmt.Errorf("%w: %s", ErrDenied, d.Reason)
	}
	if t.Tenant == "" || who.Type == iam.TypeSystem {
		return nil // of the whole node, or of Cardea itself for a tenant that may be configured no more
	}
	_, err := g.Tenants.Tenant(t.Tenant)
	return err
}

// with is the entry of a change that succeeds with result, to be written in one
// transaction with it.
func (c *call) with(result string) (audit.Sealed, error) {
	c.entry.Result = result
	s, err := c.entry.Seal()
	if err != nil {
		return audit.Sealed{}, fmt.Errorf("encode audit entry: %w", err)
	}
	return s, nil
}

// done says that the change of the last with was applied, and its entry with it.
func (c *call) done() { c.recorded = true }

// outcome sets what the log says about err.
func (c *call) outcome(err error) {
	if err == nil {
		return
	}
	c.entry.Outcome = audit.Failed
	c.entry.Result = resultOf(err)
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrUnknownTenant) {
		c.entry.Outcome = audit.Denied
	}
	c.entry.Detail = err.Error()
}

// append writes the entry by itself.
func (c *call) append(ctx context.Context) error {
	s, err := c.entry.Seal()
	if err != nil {
		return fmt.Errorf("encode audit entry: %w", err)
	}
	if ctx.Err() != nil {
		// The client is gone, but what was tried must still be written.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), auditGrace)
		defer cancel()
	}
	if err := c.gate.Log.Append(ctx, s); err != nil {
		c.gate.Logger.ErrorContext(ctx, "audit entry not written, operation refused",
			slog.String("op", c.op.Name), slog.String("request_id", c.entry.RequestID), slog.Any("error", err))
		return fmt.Errorf("%w: audit entry not written: %w", ErrUnavailable, err)
	}
	c.recorded = true
	return nil
}

// resultOf is the short code of an error in the audit log. A transport's own
// refusals may bring theirs.
func resultOf(err error) string {
	var v *ValidationError
	var own interface{ AuditResult() string }
	if errors.As(err, &own) && own.AuditResult() != "" {
		return own.AuditResult()
	}
	switch {
	case errors.As(err, &v):
		return "invalid"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrLocked):
		return "locked"
	case errors.Is(err, ErrUnknownTenant):
		return "unknown_tenant"
	case errors.Is(err, ErrDenied):
		return "denied"
	case errors.Is(err, ErrCorrupt):
		return "corrupt"
	case errors.Is(err, ErrKeyUnavailable):
		return "key_unavailable"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, custodian.ErrNotEnough):
		return "quorum_missing"
	case errors.Is(err, custodian.ErrUnlocked):
		return "already_unlocked"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	}
	return "error"
}
