package kmsclient

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Causes of errors of calls that were not made.
var (
	errRate     = errors.New("the rate that is set for the key here is used up")
	errBusy     = errors.New("too many requests for the key are under way")
	errLeftIt   = errors.New("it did not answer lately and is left alone for a while")
	errOtherKey = errors.New("the answer is of another key")
)

// operation is one of the API's, as this package asks for it.
type operation struct {
	name string
	// elsewhere: replicas are asked if home does not answer.
	elsewhere bool
	// always: also a Region that is being left alone is asked, and the answer changes
	// nothing about that.
	always bool
}

var (
	opGenerateDataKey = operation{name: "GenerateDataKey", elsewhere: true}
	opEncrypt         = operation{name: "Encrypt", elsewhere: true}
	opDecrypt         = operation{name: "Decrypt", elsewhere: true}
	opGenerateMAC     = operation{name: "GenerateMac", elsewhere: true}
	opReEncrypt       = operation{name: "ReEncrypt"}
	opDescribeKey     = operation{name: "DescribeKey", elsewhere: true, always: true}
)

// ask sends one request for the key as the site knows it. An answer that is wrong
// is an *Error; other errors are those of wire.ask.
type ask func(ctx context.Context, w *wire, s *site) error

// call asks where the key is served, until it is answered or time is up.
func (c *Client) call(parent context.Context, op operation, k Key, f ask) error {
	r, err := c.route(k)
	if err != nil {
		return &Error{Op: op.name, Key: printable(k.ID, 256), kind: ErrInvalid, cause: err}
	}
	if parent.Err() != nil {
		return ended(parent, op, k)
	}
	start := c.o.Now()
	defer func() { c.metrics.took(op, c.o.Now().Sub(start)) }()
	ctx, cancel := context.WithTimeout(parent, c.o.Deadline)
	defer cancel()
	e := c.everywhere(ctx, parent, op, r, f)
	switch {
	case e == nil:
		return nil
	case context.Cause(parent) != nil && !errors.Is(parent.Err(), context.DeadlineExceeded) && e.health != answering:
		return ended(parent, op, k)
	}
	e.Op, e.Key = op.name, k.ID
	if e.is(ErrUnreachable) && e.RetryAfter == 0 {
		e.RetryAfter = defaultRetryAfter
	}
	return e
}

// ended is the error of a call that the caller gave up.
func ended(ctx context.Context, op operation, k Key) error {
	return fmt.Errorf("kms %s with %s: %w", op.name, k.ID, context.Cause(ctx))
}

// everywhere asks Region after Region while they are unreachable. Each has an equal
// share of the time that is left.
func (c *Client) everywhere(ctx, parent context.Context, op operation, r *route, f ask) *Error {
	if !op.elsewhere || len(r.sites) == 1 {
		return c.inRegion(ctx, parent, op, r.sites[0], f)
	}
	order, probe := r.order(c.o.Now())
	by := -1
	defer func() {
		if r.settle(order[0], by, probe, c.o.Now().Add(c.o.FailoverHold)) {
			c.metrics.failovers.Inc()
			c.o.Logger.WarnContext(ctx, "another Region serves the key now", slog.String("key", r.key.ID), slog.String("region", r.sites[by].region))
		}
	}()
	var errs []*Error
	for n, i := range order {
		s := r.sites[i]
		part, cancel := share(ctx, len(order)-n)
		e := c.inRegion(part, parent, op, s, f)
		cancel()
		switch {
		case e == nil:
			by = i
			return nil
		case e.is(ErrUnreachable):
		case i != 0 && len(errs) > 0 && own(e):
			// A replica has a policy and a state of its own, which say nothing about the key
			// at home.
		default:
			if e.health == answering {
				by = i
			}
			return e
		}
		if errs = append(errs, e); ctx.Err() != nil {
			break
		}
	}
	return together(r, order, errs)
}

// own reports errors that the key may have in one Region and not in another.
func own(e *Error) bool { return e.is(ErrDenied) || e.is(ErrDisabled) || e.is(ErrNotFound) }

// together is the error of a key that no Region could be asked for.
func together(r *route, order []int, errs []*Error) *Error {
	if len(errs) == 1 { // there was no time for others
		return errs[0]
	}
	e := *errs[0]
	var b strings.Builder
	for n, one := range errs {
		if n > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.sites[order[n]].region)
		b.WriteString(": ")
		if !one.is(ErrUnreachable) {
			b.WriteString(one.kind.Error())
			b.WriteString(": ")
		}
		if one.cause != nil {
			b.WriteString(one.cause.Error())
		}
		if one.is(ErrUnreachable) && one.RetryAfter > 0 && (e.RetryAfter == 0 || one.RetryAfter < e.RetryAfter) {
			e.RetryAfter = one.RetryAfter
		}
	}
	e.cause = errors.New(b.String())
	return &e
}

// share is ctx with its part of the time, if the rest is for n-1 others.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	until, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(until)/time.Duration(n))
}

// inRegion asks one Region, and again if that may help.
func (c *Client) inRegion(ctx, parent context.Context, op operation, s *site, f ask) *Error {
	e := c.once(ctx, parent, op, s, f)
	spent := uint(0)
	for n := 1; e != nil && e.again && n < c.o.Attempts; n++ {
		if wait := s.breaker.refuses(); wait > 0 && !op.always {
			e.RetryAfter = wait
			break
		}
		pause := max(backoff(n), e.pause)
		if until, ok := ctx.Deadline(); ok && time.Until(until) <= pause {
			break
		}
		if _, ok := s.retries.Retrieve(retryCost); !ok || sleep(ctx, pause) != nil {
			break
		}
		spent += retryCost
		c.metrics.retry(op, s)
		next := c.once(ctx, parent, op, s, f)
		if next != nil && next.health == unknown && next.is(ErrUnreachable) { // what came before says more
			e.RetryAfter = max(e.RetryAfter, next.RetryAfter)
			break
		}
		e = next
	}
	if e == nil {
		s.retries.Refund(1 + spent)
	}
	c.metrics.called(op, s, e, parent)
	return e
}

// once makes one request, if the site may be sent one now.
func (c *Client) once(ctx, parent context.Context, op operation, s *site, f ask) *Error {
	if !op.always {
		if wait := s.breaker.refuses(); wait > 0 {
			return &Error{kind: ErrUnreachable, cause: errLeftIt, RetryAfter: wait}
		}
	}
	done, e := s.turn(ctx, c.o.Now)
	if e != nil {
		if parent.Err() == nil {
			c.metrics.throttledHere(s)
		}
		return e
	}
	defer done()
	report := func(health) {}
	if !op.always {
		var wait time.Duration
		if report, wait = s.breaker.ask(); wait > 0 {
			return &Error{kind: ErrUnreachable, cause: errLeftIt, RetryAfter: wait}
		}
	}
	if e = c.request(ctx, parent, s, f); e == nil {
		report(answering)
		return nil
	}
	report(e.health)
	if e.is(ErrThrottled) {
		c.metrics.throttledThere(s)
	}
	return e
}

// request sends one request and says what came of it.
func (c *Client) request(ctx, parent context.Context, s *site, f ask) *Error {
	ctx, cancel := context.WithTimeout(ctx, c.o.AttemptTimeout)
	defer cancel()
	w, err := s.api.get(ctx, c, s.name)
	if err != nil {
		return fail(err)
	}
	c.metrics.underWay(s, 1)
	defer c.metrics.underWay(s, -1)
	until, _ := ctx.Deadline()
	had := time.Until(until)
	if err = f(ctx, w, s); err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := fail(err)
	if _, answered := errors.AsType[*refusal](err); answered || ctx.Err() == nil {
		return e
	}
	e.again, e.health = parent.Err() == nil, failing
	if _, ok := errors.AsType[*credentialsError](err); !ok {
		e.cause = fmt.Errorf("%w: %w", errNoTime, context.Cause(ctx))
	}
	// Who had little time says nothing about KMS.
	if had-time.Until(until) < min(c.o.AttemptTimeout, c.o.Deadline/4, time.Second) {
		e.health = unknown
	}
	return e
}

// backoff is how long to wait before the attempt after the n-th: a random time up
// to 50 ms, 100 ms, 200 ms and so on, at most 1 s, so that those who failed together
// do not come back together.
func backoff(n int) time.Duration {
	ceiling := min(25*time.Millisecond<<min(n, 10), time.Second)
	var b [8]byte
	rand.Read(b[:])
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(ceiling))
}
