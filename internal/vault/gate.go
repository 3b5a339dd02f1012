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

// writeTimeout is how long a change or an entry may take to become durable. The
// request's own time does not count: a client that hangs up must neither keep its
// access out of the log nor leave it unknown whether a change was made.
const writeTimeout = 20 * time.Second

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
	recorded bool // the entry is durable
}

// errAborted is what the log says of an operation that ended by a panic.
var errAborted = errors.New("operation was aborted")

// do authorizes who for op on t, runs act, and sees to it that exactly one entry
// is durable before it returns. act may write the entry together with a change by
// call.commit; if there was no change, do writes it, with the outcome that act's
// error tells. If the entry cannot be written the operation fails, whatever act
// did, and act's caller must not release plaintext.
func (g *Gate) do(ctx context.Context, who iam.Principal, op *Operation, t Target, act func(*call) error) error {
	c := g.begin(who, op, t)
	err := errAborted
	defer func() {
		if errors.Is(err, errAborted) && !c.recorded { // act panics; whoever recovers it answers
			c.outcome(err)
			c.append(ctx) //nolint:errcheck // nothing is released, and append logs
		}
	}()
	err = c.run(who, t, act)
	if c.recorded {
		return err
	}
	c.outcome(err)
	if aerr := c.append(ctx); aerr != nil {
		return errors.Join(aerr, err)
	}
	return err
}

func (c *call) run(who iam.Principal, t Target, act func(*call) error) error {
	if err := c.gate.authorize(who, c.op, t); err != nil {
		return err
	}
	return act(c)
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
	if who.Type == "" { // the zero principal
		e.Who.Type = string(iam.TypeAnonymous)
	}
	if who.Auth == "" {
		e.Who.Auth = "none"
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
	if _, err := g.Tenants.Tenant(t.Tenant); err != nil || op.Suspended {
		return err
	}
	return g.Tenants.usable(t.Tenant)
}

// commit makes a change durable in one transaction with the call's entry, which
// says that the change succeeded with result. write reports whether the change
// was applied; if not, the entry was not written either.
func (c *call) commit(ctx context.Context, result string, write func(context.Context, audit.Sealed) (applied bool, err error)) (bool, error) {
	c.entry.Result = result
	e, err := c.seal()
	if err != nil {
		return false, err
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	applied, err := write(ctx, e)
	if err != nil {
		return false, err
	}
	c.recorded = applied
	return applied, nil
}

func (c *call) seal() (audit.Sealed, error) {
	e, err := c.entry.Seal()
	if err != nil {
		return audit.Sealed{}, fmt.Errorf("%w: encode audit entry: %w", ErrUnavailable, err)
	}
	return e, nil
}

// lasting is ctx without its end, see writeTimeout.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
}

// outcome sets what the log says about err.
func (c *call) outcome(err error) {
	if err == nil {
		return
	}
	c.entry.Outcome = audit.Failed
	c.entry.Result = resultOf(err)
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrUnknownTenant) || errors.Is(err, ErrSuspended) {
		c.entry.Outcome = audit.Denied
	}
	c.entry.Detail = err.Error()
}

// append writes the entry by itself.
func (c *call) append(ctx context.Context) error {
	ctx, cancel := lasting(ctx)
	defer cancel()
	e, err := c.seal()
	if err == nil {
		err = c.gate.Log.Append(ctx, e)
	}
	if err != nil {
		c.gate.Logger.ErrorContext(ctx, "audit entry not written, operation refused",
			slog.String("op", c.op.Name), slog.String("request_id", c.entry.RequestID), slog.Any("error", err))
		return fmt.Errorf("%w: audit entry not written: %w", ErrUnavailable, err)
	}
	c.recorded = true
	return nil
}

// results are the codes of errors in the audit log, in the order in which they
// are asked for.
var results = []struct {
	err  error
	code string
}{
	{context.Canceled, "cancelled"}, // by the client, whatever that made fail
	{ErrNotFound, "not_found"},
	{ErrConflict, "conflict"},
	{ErrLocked, "locked"},
	{ErrUnknownTenant, "unknown_tenant"},
	{ErrSuspended, "suspended"},
	{ErrShredded, "shredded"},
	{ErrDenied, "denied"},
	{ErrCorrupt, "corrupt"},
	{ErrKeyUnavailable, "key_unavailable"},
	{ErrKeyThrottled, "key_throttled"},
	{ErrUnavailable, "unavailable"},
	{ErrSealed, "already_sealed"},
	{custodian.ErrMalformed, "invalid"},
	{custodian.ErrWrongPart, "wrong_part"},
	{custodian.ErrSameCustodian, "same_custodian"},
	{custodian.ErrPartTaken, "part_taken"},
	{custodian.ErrNotEnough, "quorum_missing"},
	{custodian.ErrDoesNotOpen, "does_not_open"},
	{custodian.ErrUnlocked, "already_unlocked"},
	{custodian.ErrLocked, "locked"},
	{custodian.ErrUnknownTenant, "unknown_tenant"},
	{custodian.ErrCorruptSeal, "corrupt"},
	{custodian.ErrTokenSeal, "token_sealed"},
	{custodian.ErrCustodianSeal, "custodian_sealed"},
	{context.DeadlineExceeded, "timeout"},
}

// resultOf is the short code of an error in the audit log. A transport's own
// refusals may bring theirs.
func resultOf(err error) string {
	var own interface{ AuditResult() string }
	if errors.As(err, &own) && own.AuditResult() != "" {
		return own.AuditResult()
	}
	var v *ValidationError
	if errors.As(err, &v) {
		return "invalid"
	}
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.code
		}
	}
	return "error"
}
