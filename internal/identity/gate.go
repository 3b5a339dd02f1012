package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// writeTimeout is how long a change or an entry may take to become durable. The
// request's own time does not count: a client that hangs up must neither keep its
// request out of the log nor leave it unknown whether a change was made.
const writeTimeout = 20 * time.Second

// input is a request that can tell what of it is out of bounds.
type input interface{ check(v *violations) }

// call is one run of an operation through the gate.
type call struct {
	s        *Service
	op       *Operation
	who      *Caller
	at       time.Time
	entry    audit.Entry
	more     audit.Call
	asked    bool // whether the caller may: an operation that never asks fails
	recorded bool // the entry is durable
}

// Errors of the gate.
var (
	// errAborted is what the log says of an operation that ended by a panic.
	errAborted = errors.New("operation was aborted")
	// errStale says that what an operation was decided on has changed since. It is
	// never recorded, but for the last try.
	errStale = errors.New("the entity was changed at the same time")
)

// maxTries is how often an operation is begun because others change its rows. Each
// try that fails is a change of another's that was made.
const maxTries = 20

// do runs an operation: it checks the request, lets act ask for permission and
// act, and sees to it that exactly one entry is durable before it returns. If the
// entry cannot be written the operation fails, whatever act did, and its caller
// must release nothing. An operation that met another's change begins anew, when it
// is its turn: act may run more than once.
func (s *Service) do(ctx context.Context, who *Caller, op *Operation, in input, act func(*call) error) error {
	on, err := s.try(ctx, who, op, in, act, false)
	if !errors.Is(err, errStale) {
		return err
	}
	defer s.anew.Take(on)()
	for tries := 2; errors.Is(err, errStale); tries++ {
		_, err = s.try(ctx, who, op, in, act, tries == maxTries)
	}
	return err
}

// try is one try of do. on is the resource that it is about, as far as it got to it.
func (s *Service) try(ctx context.Context, who *Caller, op *Operation, in input, act func(*call) error, last bool) (on string, err error) {
	c := s.begin(who, op)
	err = errAborted
	defer func() {
		if errors.Is(err, errAborted) && !c.recorded { // act panics; whoever recovers it answers
			c.outcome(err)
			c.append(ctx) //nolint:errcheck // nothing is released, and append logs
		}
	}()
	err = c.run(in, act)
	on = c.entry.Resource.Key
	if c.recorded || errors.Is(err, errStale) && !last {
		return on, err
	}
	if errors.Is(err, errStale) {
		err = refuse(CodeConcurrentModification, "The request was rejected because multiple requests to change this object were submitted simultaneously. Wait a few minutes and submit your request again.")
	}
	c.outcome(err)
	if aerr := c.append(ctx); aerr != nil {
		return on, aerr
	}
	return on, err
}

func (c *call) run(in input, act func(*call) error) error {
	if in != nil {
		var v violations
		in.check(&v)
		if err := v.err(); err != nil {
			return err
		}
	}
	if err := act(c); err != nil {
		return own(err)
	}
	if !c.asked {
		return refuse(CodeServiceFailure, "operation "+c.op.Name+" did not ask for permission")
	}
	return nil
}

// own makes every error one that callers know, but for errStale.
func own(err error) error {
	if _, is := errors.AsType[*Error](err); is || err == nil || errors.Is(err, errStale) {
		return err
	}
	return broken(CodeServiceFailure, "The request failed inside the identity service. Nothing was changed.", err)
}

// perform runs an operation with an output, which is released only if err is nil.
// An output with secrets has a method Destroy, which wipes them otherwise.
func perform[O any](ctx context.Context, s *Service, who Caller, op *Operation, in input, act func(*call, *O) error) (*O, error) {
	var out *O
	destroy := func() {
		if d, is := any(out).(interface{ Destroy() }); is && out != nil {
			d.Destroy()
		}
	}
	err := s.do(ctx, &who, op, in, func(c *call) error {
		destroy() // of the try before
		out = new(O)
		return act(c, out)
	})
	if err != nil {
		destroy()
		return nil, err
	}
	return out, nil
}

func (s *Service) begin(who *Caller, op *Operation) *call {
	id := uuid.Must(uuid.NewV7()).String()
	c := &call{s: s, op: op, who: who, at: s.now()}
	sub := who.subject()
	c.more = audit.Call{
		Event: op.Name, Source: op.Source, Region: who.Region, Account: who.account(), ReadOnly: op.ReadOnly,
		Type: sub.Caller.Type.CloudTrail(), ID: sub.Caller.ID, ARN: sub.Caller.Name(), Caller: who.account(), Key: sub.AccessKeyID,
		MFA: !sub.Caller.MFA.IsZero(), Issued: sub.Caller.Issued, Agent: who.UserAgent, TLS: who.TLS,
	}
	if sub.Caller.Type == iam.CallerAnonymous {
		c.more.ARN = ""
	}
	if c.more.Region == "" {
		c.more.Region = s.region
	}
	if sub.Caller.Type == iam.CallerRole {
		c.more.Issuer = sub.Caller.ARN
	}
	c.entry = audit.Entry{
		Version: audit.EntryVersion, ID: id, Time: c.at, Node: s.node, RequestID: who.RequestID,
		Who: actorOf(who), Op: op.Code, PCI: op.PCI, Outcome: audit.Allowed, Result: "done", Call: &c.more,
	}
	if c.entry.RequestID == "" {
		c.entry.RequestID = id
	}
	return c
}

func actorOf(who *Caller) audit.Actor {
	a := audit.Actor{Type: "principal", Name: who.subject().Caller.Name(), Auth: who.Auth}
	switch {
	case who.administers():
		a.Type, a.Name, a.Auth = string(who.Operator.Type), who.Operator.Name, who.Operator.Auth
	case who.subject().Caller.Type == iam.CallerAnonymous, who.Subject == nil:
		a.Type = string(iam.TypeAnonymous)
	}
	if a.Auth == "" {
		a.Auth = "none"
	}
	if who.IP.IsValid() {
		a.IP = who.IP.String()
	}
	return a
}

// param adds a request parameter to the entry; an empty one is left out.
func (c *call) param(name, value string) {
	if value != "" {
		c.more.Request = append(c.more.Request, audit.Param{Name: name, Value: value})
	}
}

// result adds a response element to the entry.
func (c *call) result(name, value string) {
	if value != "" {
		c.more.Response = append(c.more.Response, audit.Param{Name: name, Value: value})
	}
}

// resource names what the operation is about in the entry.
func (c *call) resource(kind, arn, account string) {
	if !slices.Contains(c.more.Resources, arn) {
		c.more.Resources = append(c.more.Resources, arn)
	}
	if c.entry.Resource.Key == "" {
		c.entry.Resource = audit.Resource{Kind: kind, Key: arn}
		if account != "" {
			c.more.Account = account
		}
	}
}

// outcome sets what the log says about err.
func (c *call) outcome(err error) {
	if err == nil {
		return
	}
	c.entry.Outcome = audit.Failed
	e, is := errors.AsType[*Error](err)
	if !is {
		c.entry.Result, c.entry.Detail = "internal", err.Error()
		c.more.Error = string(CodeServiceFailure)
		return
	}
	if e.Code == CodeAccessDenied {
		c.entry.Outcome, c.entry.PCI = audit.Denied, pciDenied
	}
	c.more.Error = string(e.Code)
	c.entry.Result = snake(string(e.Code))
	c.entry.Detail = e.Message
	if e.Reason != "" {
		c.entry.Detail = e.Reason
	}
}

// lasting is ctx without its end, see writeTimeout.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
}

const notRecorded = "The request could not be recorded in the audit log and was refused."

// append writes the entry by itself.
func (c *call) append(ctx context.Context) error {
	e, err := c.entry.Seal()
	if err == nil {
		ctx, cancel := lasting(ctx)
		defer cancel()
		err = c.s.store.Append(ctx, e)
	}
	if err != nil {
		c.s.log.ErrorContext(ctx, "audit entry not written, operation refused",
			slog.String("op", c.op.Code), slog.String("request_id", c.entry.RequestID), slog.Any("error", err))
		return broken(CodeServiceFailure, notRecorded, err)
	}
	c.recorded = true
	return nil
}

// update makes changes durable in one transaction with the call's entry, which
// says that the operation succeeded. It is the last thing that an operation does.
// write must only use tx, may run more than once, and refuses by returning an
// *Error. Caches forget what it writes.
func (c *call) update(ctx context.Context, write func(ctx context.Context, tx Tx) error) error {
	return c.updateAs(ctx, nil, write)
}

// updateAs is update for an operation that ends by outcome, which it returns.
func (c *call) updateAs(ctx context.Context, outcome error, write func(ctx context.Context, tx Tx) error) error {
	if !c.asked && outcome == nil {
		return refuse(CodeServiceFailure, "operation "+c.op.Name+" changes without permission")
	}
	c.outcome(outcome)
	e, err := c.entry.Seal()
	if err != nil {
		return broken(CodeServiceFailure, notRecorded, err)
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	var changed []Name
	err = c.s.store.Update(ctx, func(tx Tx) error {
		r := recorder{Tx: tx}
		werr := write(ctx, &r)
		changed = append(changed, r.names...)
		if werr == nil {
			tx.Append(e)
		}
		return werr
	})
	c.s.forget(changed) // also if the outcome is unknown
	_, known := errors.AsType[*Error](err)
	switch {
	case err == nil:
		c.recorded = true
		return outcome
	case known:
		return err
	case errors.Is(err, ErrChanged), errors.Is(err, ErrNoRow), errors.Is(err, errStale):
		return errStale
	default:
		c.s.log.ErrorContext(ctx, "change not written", slog.String("op", c.op.Code),
			slog.String("request_id", c.entry.RequestID), slog.Any("error", err))
		return broken(CodeServiceFailure, "The change could not be written.", fmt.Errorf("%s: %w", c.op.Name, err))
	}
}

// recorder notes what is written. New sessions are left out: nobody can have
// cached what was not there, and there are many of them.
type recorder struct {
	Tx
	names []Name
}

func (r *recorder) Put(ctx context.Context, row *Row) error {
	if row.Kind != kindSession || row.Version != 0 {
		r.names = append(r.names, Name{row.Kind, row.Account, row.Name})
	}
	return r.Tx.Put(ctx, row)
}

func (r *recorder) Delete(ctx context.Context, kind Kind, account, name string) error {
	r.names = append(r.names, Name{kind, account, name})
	return r.Tx.Delete(ctx, kind, account, name)
}

// allow asks whether the caller may do the operation on the resource. Operators of
// the host may if their actions say so; for others their account's identity
// policies decide.
func (c *call) allow(arn string) error {
	if c.who.administers() {
		d := iam.Evaluate(c.who.Operator, iam.Request{Action: c.op.Action})
		if !d.Allowed {
			return &Error{
				Code: CodeAccessDenied, Message: "Operator: " + c.who.Operator.Name + " is not authorized to perform: " + c.op.Action,
				Reason: d.Reason,
			}
		}
		c.asked = true
		c.entry.Detail = "allowed as " + string(c.who.Operator.Type)
		return nil
	}
	var keys iam.Context
	c.common(&keys)
	sub := c.who.subject()
	q := iam.Query{Caller: sub.Caller, Action: c.op.Action, Resource: arn, Time: c.at, Context: &keys}
	p := sub.Policies()
	p.IdentityOnly = true
	v := iam.Decide(&q, &p)
	if !v.Allowed {
		return &Error{Code: CodeAccessDenied, Message: v.AccessDeniedMessage(&q), Reason: v.String()}
	}
	c.asked = true
	c.entry.Detail = v.String()
	return nil
}

// common puts what every request has into the condition keys.
func (c *call) common(keys *iam.Context) {
	keys.Add("aws:RequestedRegion", iam.String(c.more.Region))
	keys.Add("aws:SecureTransport", iam.Bool(c.who.TLS != ""))
	keys.Add("aws:ViaAWSService", iam.Bool(false))
	if c.who.IP.IsValid() {
		keys.Add("aws:SourceIp", iam.IP(c.who.IP))
	}
	if c.who.UserAgent != "" {
		keys.Add("aws:UserAgent", iam.String(c.who.UserAgent))
	}
}

// Refuse records a request that the transport refused before it became an
// operation: a bad signature, an unknown action. name is the operation as far as it
// is known, and may be empty. counted is empty, or tells of many more such requests,
// of which this was the first; then the entry is of them all, with the result
// "repeated". The error is that of the log.
func (s *Service) Refuse(ctx context.Context, who Caller, name string, err *Error, counted string) error {
	op := OpUnknown
	for _, o := range Operations() {
		if o.Name == name {
			op = o
		}
	}
	c := s.begin(&who, op)
	c.outcome(err)
	c.entry.Outcome, c.entry.PCI = audit.Denied, pciDenied
	if counted != "" {
		c.entry.Result, c.entry.Detail = "repeated", counted
	}
	return c.append(ctx)
}
