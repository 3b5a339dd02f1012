package iam

import (
	"strconv"
	"time"
)

// Context holds the values of the condition keys in a request. A key may have
// several values; a key without any is absent. Names are not case-sensitive
// (A-Z, a-z). The zero value is ready for use; Reset makes it fit for the next
// request without giving up its memory. It is not safe for concurrent use.
//
// Keys that follow from the caller, the resource and the time (ConditionKey.Derived)
// are never taken from here.
type Context struct {
	pairs      []contextPair
	encryption map[string]string
}

type contextPair struct {
	key   string
	value Value
}

// Add adds values to a key. Two values of a key that should have one, for
// example of two encryption context names that differ only in case, make every
// condition on it fail in an Allow and hold in a Deny.
func (c *Context) Add(key string, values ...Value) {
	for _, v := range values {
		c.pairs = append(c.pairs, contextPair{key, v})
	}
}

// Reset removes all values.
func (c *Context) Reset() {
	clear(c.pairs)
	c.pairs, c.encryption = c.pairs[:0], nil
}

// SetEncryptionContext makes the pairs of a request's encryption context the values
// of kms:EncryptionContext:… and kms:EncryptionContextKeys. The map is kept, and
// must not change until the decision is made.
func (c *Context) SetEncryptionContext(pairs map[string]string) { c.encryption = pairs }

// env is what conditions, variables and patterns are evaluated against.
type env struct {
	q       *Query
	arn     [6]string // of the resource
	isARN   bool
	account string // that owns the resource
	tr      *tracer
	buf     [4]Value
}

func (e *env) prepare(q *Query, tr *tracer) {
	e.q, e.tr = q, tr
	e.arn, e.isARN = splitARN(q.Resource)
	e.account = e.arn[4]
	if !e.isARN || e.account == "" {
		e.account = q.Caller.Account
	}
}

// values are the values of a key in the request. The slice is valid until the next call.
func (e *env) values(k *condKey) []Value {
	out := e.buf[:0]
	if k.derived != notDerived {
		return e.derive(k, out)
	}
	if e.q.Context == nil {
		return out
	}
	for i := range e.q.Context.pairs {
		if p := &e.q.Context.pairs[i]; len(p.key) == len(k.lower) && equal(p.key, k.lower, ignoreCase) {
			out = append(out, p.value)
		}
	}
	switch k.source {
	case fromPairs:
	case fromEncryptionContext:
		for name, v := range e.q.Context.encryption {
			if equal(name, k.suffix, ignoreCase) {
				out = append(out, String(v))
			}
		}
	case fromEncryptionContextKeys:
		for name := range e.q.Context.encryption {
			out = append(out, String(name))
		}
	}
	return out
}

// derive appends the values of a key that follows from caller, resource and time.
func (e *env) derive(k *condKey, out []Value) []Value {
	who := &e.q.Caller
	text := func(s string) []Value {
		if s == "" {
			return out
		}
		return append(out, String(s))
	}
	switch k.derived {
	case notDerived:
	case keyPrincipalArn:
		if who.Type == CallerFederated {
			return text(who.Session)
		}
		return text(who.ARN)
	case keyPrincipalAccount, keyCallerAccount:
		return text(who.Account)
	case keyPrincipalType:
		if who.Type == CallerService || who.Type == CallerProvider {
			return out
		}
		return text(string(who.Type))
	case keyPrincipalTag:
		for i := range who.Tags {
			if t := &who.Tags[i]; equal(t.Key, k.suffix, ignoreCase) {
				out = append(out, String(t.Value))
			}
		}
	case keyPrincipalIsAWSService:
		return append(out, Bool(who.Type == CallerService))
	case keyPrincipalServiceName:
		if len(who.Services) > 0 {
			return text(who.Services[0])
		}
	case keyPrincipalServiceNamesList:
		for _, s := range who.Services {
			out = append(out, String(s))
		}
	case keyUserID:
		return text(who.ID)
	case keyUserName:
		if name, ok := who.userName(); ok {
			return text(name)
		}
	case keySourceIdentity:
		return text(who.SourceIdentity)
	case keyTokenIssueTime:
		if !who.Issued.IsZero() {
			return append(out, Date(who.Issued))
		}
	case keyMFAPresent:
		if !who.Issued.IsZero() {
			return append(out, Bool(!who.MFA.IsZero()))
		}
	case keyMFAAge:
		if !who.Issued.IsZero() && !who.MFA.IsZero() && !e.q.Time.IsZero() {
			return append(out, Number(int64(e.q.Time.Sub(who.MFA)/time.Second)))
		}
	case keyCurrentTime, keyEpochTime:
		if !e.q.Time.IsZero() {
			return append(out, Date(e.q.Time))
		}
	case keyResourceAccount:
		return text(e.account)
	}
	return out
}

// variable is the value of a policy variable. A key without a value or with
// several has none.
func (e *env) variable(k *condKey) (string, bool) {
	// Not values(): a condition may be using its buffer at this moment.
	sub := env{q: e.q, arn: e.arn, isARN: e.isARN, account: e.account}
	vals := sub.values(k)
	if len(vals) != 1 {
		return "", false
	}
	if k.derived == keyEpochTime {
		return strconv.FormatInt(e.q.Time.Unix(), 10), true
	}
	return vals[0].text(), true
}
