package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	who      Caller
	at       time.Time
	entry    audit.Entry
	more     audit.Call
	asked    bool    // whether the caller may: an operation that never asks fails
	recorded bool    // the entry is durable
	lent     bool    // the store may still use it, see update
	used     []*live // keys of which a success is a use
	alias    string  // by which the client named the key
	byGrant  string  // id of the grant that permission was given by last

	unapproved bool     // dual control asks for an approval, which is not found yet
	spend      spending // the approval that the change uses up
	query      iam.Context

	// Room for what most operations have, so that it costs no memory of its own.
	requestRoom  [6]audit.Param
	responseRoom [2]audit.Param
	contextRoom  [4]audit.Param
	resourceRoom [2]string
	usedRoom     [2]*live
}

// errAborted is what the log says of an operation that ended by a panic.
var errAborted = errors.New("operation was aborted")

// do runs an operation: it checks the request, lets act ask for permission and
// act, and sees to it that exactly one entry is durable before it returns. If the
// entry cannot be written the operation fails, whatever act did, and its caller
// must release nothing. An operation that met another's change begins anew, when it
// is its turn: act may run more than once.
func (s *Service) do(ctx context.Context, who Caller, op *Operation, in input, act func(*call) error) error {
	on, err := s.try(ctx, who, op, in, act, false)
	if !errors.Is(err, errStale) {
		return err
	}
	if !op.Uses { // those that use keys do not make each other begin anew
		defer s.anew.Take(on)()
	}
	for tries := 2; errors.Is(err, errStale); tries++ {
		_, err = s.try(ctx, who, op, in, act, tries == maxTries)
	}
	return err
}

// maxTries is how often an operation is begun because others change its key. Each
// try that fails is a change of another's that was made.
const maxTries = 20

// errStale says that what an operation was decided on has changed since. It is
// never recorded, but for the last try.
var errStale = errors.New("the key was changed at the same time")

// try is one try of do. on is the resource that it is about, as far as it got to it.
func (s *Service) try(ctx context.Context, who Caller, op *Operation, in input, act func(*call) error, last bool) (on string, err error) {
	c := s.begin(who, op)
	err = errAborted
	defer c.end()
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
		err = refuse(CodeConflict, "Other requests keep changing the resource at the same time. Try again.")
	}
	c.outcome(err)
	if aerr := c.append(ctx); aerr != nil {
		return on, aerr
	}
	if err == nil && op.Uses {
		s.usage.add(c)
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
		return err
	}
	if !c.asked {
		return refuse(CodeInternal, "operation "+c.op.Name+" did not ask for permission")
	}
	return nil
}

// perform runs an operation with an output, which is released only if err is nil.
// An output with secrets has a method destroy, which wipes them otherwise, also if
// act panics.
func perform[O any](ctx context.Context, s *Service, who Caller, op *Operation, in input, act func(*call, *O) error) (*O, error) {
	out, released := new(O), false
	defer func() {
		if d, secret := any(out).(interface{ destroy() }); secret && !released {
			d.destroy()
		}
	}()
	if err := s.do(ctx, who, op, in, func(c *call) error { return act(c, out) }); err != nil {
		return nil, err
	}
	released = true
	return out, nil
}

func (s *Service) begin(who Caller, op *Operation) *call {
	c, _ := s.calls.Get().(*call)
	if c == nil {
		c = &call{}
	}
	c.s, c.op, c.who, c.at = s, op, who, s.now()
	id := eventID(c.at)
	if who.RequestID == "" {
		who.RequestID, c.who.RequestID = id, id
	}
	c.used = c.usedRoom[:0]
	sub := who.subject()
	c.more = audit.Call{
		Event: op.Name, Source: "kms.amazonaws.com", Region: who.Region, Account: who.account(), ReadOnly: op.ReadOnly,
		Type: sub.Caller.Type.CloudTrail(), ID: sub.Caller.ID, ARN: sub.Caller.Name(), Caller: who.account(), Key: sub.AccessKeyID,
		MFA: !sub.Caller.MFA.IsZero(), Issued: sub.Caller.Issued, Agent: who.UserAgent, TLS: who.TLS,
		Request: c.requestRoom[:0], Response: c.responseRoom[:0], Context: c.contextRoom[:0], Resources: c.resourceRoom[:0],
	}
	if sub.Caller.Type == iam.CallerRole {
		c.more.Issuer = sub.Caller.ARN
	}
	c.entry = audit.Entry{
		Version: audit.EntryVersion, ID: id, Time: c.at, Node: s.node, RequestID: who.RequestID,
		Who: actorOf(&who), Op: op.Code, PCI: op.PCI, Outcome: audit.Allowed, Result: "done",
		Resource: audit.Resource{Kind: "key"}, Call: &c.more,
	}
	return c
}

// end gives the call back, for its memory. Nothing of it may be used afterwards.
func (c *call) end() {
	if c.lent {
		return
	}
	s, q := c.s, c.query
	q.Reset()
	*c = call{query: q}
	s.calls.Put(c)
}

// eventID is a UUIDv7 (RFC 9562, section 5.7) of the time.
func eventID(at time.Time) string {
	var id uuid.UUID
	rand.Read(id[6:])
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String()
}

func actorOf(who *Caller) audit.Actor {
	sub := who.subject()
	a := audit.Actor{Type: "principal", Name: sub.Caller.Name(), Auth: who.Auth}
	switch {
	case who.system != "":
		a.Type, a.Name = string(iam.TypeSystem), who.system
	case who.operator != "":
		a.Type, a.Name = string(iam.TypeOperator), who.operator
	case sub.Caller.Type == iam.CallerAnonymous:
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

// encryptionContext puts the pairs into the entry, in the order of their names.
func (c *call) encryptionContext(pairs map[string]string) {
	n := len(c.more.Context)
	for k, v := range pairs {
		c.more.Context = append(c.more.Context, audit.Param{Name: k, Value: v})
	}
	slices.SortFunc(c.more.Context[n:], func(a, b audit.Param) int { return strings.Compare(a.Name, b.Name) })
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
	var e *Error
	if !errors.As(err, &e) {
		c.entry.Result, c.entry.Detail = "internal", err.Error()
		c.more.Error = string(CodeInternal)
		return
	}
	if e.Code == CodeAccessDenied {
		c.entry.Outcome = audit.Denied
	}
	c.more.Error = string(e.Code)
	c.entry.Result = resultOf(e.Code)
	c.entry.Detail = e.Message
	if e.Reason != "" {
		c.entry.Detail = e.Reason
	}
}

// resultOf is the code of an error in the audit log: NotFoundException as not_found.
func resultOf(code Code) string {
	return snake(trimException(string(code)))
}

func trimException(s string) string {
	const suffix = "Exception"
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)]
	}
	return s
}

// lasting is ctx without its end, see writeTimeout.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
}

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
		return broken(CodeInternal, "The request could not be recorded in the audit log and was refused.", err)
	}
	c.recorded = true
	return nil
}

// update makes changes durable in one transaction with the call's entry, which
// says that the operation succeeded. It is the last thing that an operation does.
// write must only use tx, may run more than once, and refuses by returning an
// *Error. What it changes it also names, so that caches forget it.
func (c *call) update(ctx context.Context, write func(ctx context.Context, tx Tx) ([]Change, error)) error {
	if !c.asked {
		return refuse(CodeInternal, "operation "+c.op.Name+" changes without permission")
	}
	e, err := c.entry.Seal()
	if err != nil {
		return broken(CodeInternal, "The request could not be recorded in the audit log and was refused.", err)
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	c.lent = true // a store that is slow may run write after ctx has ended
	var changed []Change
	err = c.s.store.Update(ctx, func(tx Tx) error {
		var werr error
		if changed, werr = c.controlled(ctx, tx, write); werr == nil {
			tx.Append(e)
		}
		return werr
	})
	c.s.cache.forget(changed) // also if the outcome is unknown
	var own *Error
	switch {
	case err == nil:
		c.recorded = true
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(err, ErrChanged), errors.Is(err, errStale):
		return errStale
	default:
		return broken(CodeInternal, "The change could not be written.", fmt.Errorf("%s: %w", c.op.Name, err))
	}
}

// updateKey is update for one key. change gets a copy of the key as it is now and
// may write more by tx; the key is written after it. If the key's state, policy or
// tags have changed since the permission was given, the operation begins anew.
func (c *call) updateKey(ctx context.Context, k *live, change func(ctx context.Context, tx Tx, k *Key) error) error {
	return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		changed := []Change{{KeyRef: k.KeyRef}}
		now, err := tx.Key(ctx, k.KeyRef)
		if errors.Is(err, ErrNoRow) || err == nil && now.Version != k.Version {
			return changed, errStale
		}
		if err != nil {
			return changed, err
		}
		next := now.Clone()
		if err := change(ctx, tx, next); err != nil {
			return changed, err
		}
		return changed, tx.PutKey(ctx, next)
	})
}

// Refuse records a request that the transport refused before it became an
// operation: a bad signature, an unknown target. name is the operation as far as
// it is known, and may be empty. counted is empty, or tells of many more such
// requests, of which this was the first; then the entry is of them all, with the
// result "repeated". The error is that of the log.
func (s *Service) Refuse(ctx context.Context, who Caller, name string, err *Error, counted string) error {
	op := operationByName[name]
	if op == nil {
		op = OpUnknown
	}
	c := s.begin(who, op)
	c.outcome(err)
	c.entry.Outcome = audit.Denied
	if counted != "" {
		c.entry.Result, c.entry.Detail = "repeated", counted
	}
	return c.append(ctx)
}

// OpUnknown stands for a request whose operation could not be read.
var OpUnknown = op("Unknown", pciAdmin, classAny)

var operationByName = func() map[string]*Operation {
	m := map[string]*Operation{}
	for _, o := range Operations() {
		m[o.Name] = o
	}
	return m
}()
