package kms

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cardea/internal/iam"
)

// OpExplain is the question why a request is allowed or denied. It is Cardea's own,
// for operators, and not an operation of the API.
var OpExplain = op("Explain", pciAdmin, classAny, readOnly)

// ExplainInput is a request that somebody might make.
type ExplainInput struct {
	Subject           *iam.Subject      // who would make it
	Action            string            // "kms:Decrypt", or just "Decrypt"
	KeyID             string            // id, ARN, alias or alias ARN; empty for an action on no key
	EncryptionContext map[string]string // may be nil
	GrantTokens       []string
	IP                netip.Addr // of the client; not valid is none
	UserAgent         string
	TLS               bool
	MFA               bool                // whether a second factor was given, just now
	At                time.Time           // zero is now
	Values            map[string][]string // of condition keys besides, as texts
}

func (in *ExplainInput) check(v *violations) {
	v.required("principal", in.Subject != nil)
	if v.required("action", in.Action != "") && operationOfAction(in.Action) == nil {
		v.add("action", in.Action, "be an action of KMS, such as kms:Decrypt")
	}
	v.text("keyId", in.KeyID, maxKeyID)
	v.context("encryptionContext", in.EncryptionContext)
	v.grantTokens(in.GrantTokens)
}

// operationOfAction finds an operation by its action, case and prefix aside.
func operationOfAction(action string) *Operation {
	action = strings.ToLower(action)
	all := slices.Concat(Operations(), []*Operation{OpReEncryptFrom, OpReEncryptTo})
	i := slices.IndexFunc(all, func(o *Operation) bool {
		return strings.ToLower(o.Action) == action || strings.ToLower(o.Name) == action
	})
	if i < 0 {
		return nil
	}
	return all[i]
}

// Explain tells why a request would be allowed or denied: how each statement of
// each policy, and the grants, stand to it. It looks at permissions only, not at
// the key's state. who must be an Operator: what it tells, no client may see.
func (s *Service) Explain(ctx context.Context, who Caller, in *ExplainInput) (*iam.Explanation, error) {
	return perform(ctx, s, who, OpExplain, in, func(c *call, out *iam.Explanation) error {
		if who.operator == "" {
			return &Error{Code: CodeAccessDenied, Message: "Only operators of the host may ask why a request is allowed.", Reason: "not an operator"}
		}
		c.asked = true
		c.param("principal", in.Subject.Caller.Name())
		c.param("action", in.Action)
		c.param("keyId", in.KeyID)
		x, err := c.explain(ctx, in)
		if err == nil {
			*out = x
			c.entry.Detail = x.Summary
		}
		return err
	})
}

func (c *call) explain(ctx context.Context, in *ExplainInput) (iam.Explanation, error) {
	op := operationOfAction(in.Action)
	sub := *in.Subject
	at := c.at
	if !in.At.IsZero() {
		at = in.At
	}
	if in.MFA {
		sub.Caller.MFA, sub.Caller.Issued = at, at
	}
	// The request is put together by a call that is never recorded.
	probe := &call{s: c.s, op: op, at: at, who: Caller{Subject: &sub, Region: c.who.Region, IP: in.IP, UserAgent: in.UserAgent}}
	if in.TLS {
		probe.who.TLS = "TLSv1.3"
	}
	q := iam.Query{Caller: sub.Caller, Action: op.Action, Resource: "*", Time: at, Context: &probe.query}
	p := sub.Policies()
	if in.KeyID == "" {
		probe.common()
		p.IdentityOnly = true
	} else {
		k, err := probe.find(ctx, op, in.KeyID)
		if err != nil {
			return iam.Explanation{}, err
		}
		c.resource("key", k.arn, k.Account)
		probe.describe(k)
		if probe.alias != "" {
			probe.query.Add("kms:RequestAlias", iam.String(probe.alias))
		}
		q.Resource, p.Resource = k.arn, k.policy
		if err := probe.addAliases(ctx, k, &p); err != nil {
			return iam.Explanation{}, err
		}
		if op.Grant != "" {
			if p.Grant, err = c.s.findGrant(ctx, k, &sub, op.Grant, ask{context: in.EncryptionContext, tokens: in.GrantTokens}); err != nil {
				return iam.Explanation{}, err
			}
		}
	}
	if in.EncryptionContext != nil {
		probe.query.SetEncryptionContext(in.EncryptionContext)
	}
	for name, values := range in.Values {
		for _, v := range values {
			probe.query.Add(name, iam.String(v))
		}
	}
	return iam.Explain(&q, &p), nil
}
