package kms

import (
	"context"

	"cardea/internal/iam"
)

// ask is what an operation wants to do with a key.
type ask struct {
	op      *Operation        // nil: the call's own
	context map[string]string // encryption context
	tokens  []string          // grant tokens
	grant   *Grant            // that is to be made or retired, if the operation is about one
	add     func(*iam.Context)
}

// key finds the key with a client's name for it, asks whether the caller may do
// the operation on it, and whether the key's state and usage let it. It is how an
// operation begins, in this order: parameters, key, permission, state, usage.
func (c *call) key(ctx context.Context, name string, a ask) (*live, error) {
	k, err := c.find(ctx, c.opOf(a), name)
	if err != nil {
		return nil, err
	}
	return c.ready(ctx, k, a)
}

// permit is key for a key that is loaded.
func (c *call) permit(ctx context.Context, k *live, a ask) error {
	_, err := c.ready(ctx, k, a)
	return err
}

// ready is permit, and returns the key in the state in which it can be used.
func (c *call) ready(ctx context.Context, k *live, a ask) (*live, error) {
	if err := c.may(ctx, k, a); err != nil {
		return nil, err
	}
	k, err := c.fit(ctx, k, c.opOf(a))
	if err == nil && a.op == nil {
		c.mustApprove(k.Key)
	}
	return k, err
}

// fit looks at the state and usage of a key for which permission was given: only
// then, as to look may take a login at the key's cluster.
func (c *call) fit(ctx context.Context, k *live, op *Operation) (*live, error) {
	k, err := c.s.available(ctx, k)
	if err != nil {
		return nil, broken(CodeInternal, "The custom key store could not be read.", err)
	}
	return k, k.checkFor(op)
}

// may is permit without a look at the key's state and usage.
func (c *call) may(ctx context.Context, k *live, a ask) error {
	op := c.opOf(a)
	c.resource("key", k.arn, k.Account)
	if k.Account != c.who.account() && !op.CrossAccount {
		return c.denied(iam.Verdict{Reason: iam.DeniedCrossAccount}, op, k.arn)
	}
	return c.authorize(ctx, k, op, a)
}

func (c *call) opOf(a ask) *Operation {
	if a.op != nil {
		return a.op
	}
	return c.op
}

// checkFor refuses what the key's state and usage do not let through.
func (k *Key) checkFor(op *Operation) error {
	if err := k.checkState(op.States); err != nil {
		return err
	}
	if op.Usage != "" && op.Usage != k.Usage {
		return refuse(CodeInvalidKeyUsage, k.ARN()+" key usage is "+string(k.Usage)+" which is not valid for "+op.Name+".")
	}
	return nil
}

// authorize decides by key policy, identity policies and grants.
func (c *call) authorize(ctx context.Context, k *live, op *Operation, a ask) error {
	if c.who.system != "" {
		c.asked = true
		return nil
	}
	if err := wellFormedTokens(a.tokens); err != nil {
		return err
	}
	c.query.Reset()
	c.describe(k)
	if c.alias != "" {
		c.query.Add("kms:RequestAlias", iam.String(c.alias))
	}
	if a.context != nil {
		c.query.SetEncryptionContext(a.context)
	}
	if a.add != nil {
		a.add(&c.query)
	}
	sub := c.who.subject()
	q := iam.Query{Caller: sub.Caller, Action: op.Action, Resource: k.arn, Time: c.at, Context: &c.query}
	p := sub.Policies()
	p.Resource = k.policy
	if err := c.addAliases(ctx, k, &p); err != nil {
		return err
	}
	v := iam.Decide(&q, &p)
	if !v.Allowed && v.Reason != iam.DeniedExplicitly && op.Grant != "" {
		g, err := c.s.findGrant(ctx, k, sub, op.Grant, a)
		if err != nil {
			return err
		}
		if g != nil {
			p.Grant = g
			v = iam.Decide(&q, &p)
		}
	}
	if !v.Allowed {
		return c.denied(v, op, k.arn)
	}
	c.allowed(v)
	return nil
}

// allow decides an operation that is on no key, by identity policies alone.
func (c *call) allow(resource string) error {
	return c.allowAs(c.op, resource, nil)
}

// allowAs is allow for another operation, which the call's own takes with it.
func (c *call) allowAs(op *Operation, resource string, add func(*iam.Context)) error {
	if c.who.system != "" {
		c.asked = true
		return nil
	}
	c.query.Reset()
	c.common()
	if add != nil {
		add(&c.query)
	}
	sub := c.who.subject()
	q := iam.Query{Caller: sub.Caller, Action: op.Action, Resource: resource, Time: c.at, Context: &c.query}
	p := sub.Policies()
	p.IdentityOnly = true
	v := iam.Decide(&q, &p)
	if !v.Allowed {
		return c.denied(v, op, resource)
	}
	c.allowed(v)
	return nil
}

// allowed notes what let the caller in.
func (c *call) allowed(v iam.Verdict) {
	c.asked, c.byGrant = true, v.Grant
	c.entry.Detail = v.String()
	if v.Grant != "" {
		c.entry.Detail = "allowed by grant/" + v.Grant // after a slash the log lets an id stand, whatever its digits look like
	}
}

// denied is the refusal of a verdict. The log gets the deciding statement, the
// caller AWS's words.
func (c *call) denied(v iam.Verdict, op *Operation, resource string) error {
	q := iam.Query{Caller: c.who.subject().Caller, Action: op.Action, Resource: resource}
	return &Error{Code: CodeAccessDenied, Message: v.AccessDeniedMessage(&q), Reason: v.String()}
}

// common puts what every request has into the condition keys.
func (c *call) common() {
	c.query.Add("aws:RequestedRegion", iam.String(c.who.Region))
	c.query.Add("aws:SecureTransport", iam.Bool(c.who.TLS != ""))
	c.query.Add("aws:ViaAWSService", iam.Bool(false))
	if c.who.IP.IsValid() {
		c.query.Add("aws:SourceIp", iam.IP(c.who.IP))
	}
	if c.who.UserAgent != "" {
		c.query.Add("aws:UserAgent", iam.String(c.who.UserAgent))
	}
}

// describe puts what is known of the key into the condition keys.
func (c *call) describe(k *live) {
	c.common()
	add := func(key, value string) { c.query.Add(key, iam.String(value)) }
	add("kms:KeySpec", string(k.Spec))
	add("kms:CustomerMasterKeySpec", string(k.Spec))
	add("kms:KeyUsage", string(k.Usage))
	add("kms:CustomerMasterKeyUsage", string(k.Usage))
	add("kms:KeyOrigin", string(k.Origin))
	c.query.Add("kms:MultiRegion", iam.Bool(k.Regions != nil))
	if k.Regions != nil {
		add("kms:MultiRegionKeyType", string(k.Regions.Type))
	}
	for _, t := range k.Tags {
		add("aws:ResourceTag/"+t.TagKey, t.TagValue)
	}
}

// addAliases adds kms:ResourceAliases if a policy asks for it: aliases are rows of
// their own.
func (c *call) addAliases(ctx context.Context, k *live, p *iam.Policies) error {
	const name = "kms:resourcealiases" // as policies keep it
	uses := p.Resource.Uses(name) || p.Boundary != nil && p.Boundary.Uses(name)
	for _, list := range [][]iam.NamedPolicy{p.Identity, p.Session} {
		for _, n := range list {
			uses = uses || n.Policy.Uses(name)
		}
	}
	if !uses {
		return nil
	}
	aliases, err := c.s.store.AliasesOf(ctx, k.KeyRef, "", maxLimit)
	if err != nil {
		return broken(CodeInternal, "The key's aliases could not be read.", err)
	}
	for _, a := range aliases {
		c.query.Add(name, iam.String(a.Name))
	}
	return nil
}

// dryRun ends a request that would have succeeded, if it only asked.
func dryRun(asked bool) error {
	if !asked {
		return nil
	}
	return refuse(CodeDryRun, "The request would have succeeded, but the DryRun option is set.")
}
