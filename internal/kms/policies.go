package kms

import (
	"context"
	"errors"
	"strconv"

	"cardea/internal/iam"
)

// defaultPolicyName is the name of the only policy that a key has.
const defaultPolicyName = "default"

// maxPolicyChars is the service model's limit; iam.MaxPolicyBytes is the real one.
const maxPolicyChars = 131072

func (in *GetKeyPolicyInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.policyName(in.PolicyName)
}

func (in *PutKeyPolicyInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.policyName(in.PolicyName)
	if v.required("policy", in.Policy != "") {
		v.policy(in.Policy)
	}
}

func (in *ListKeyPoliciesInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.page(in.Limit, in.Marker)
}

func (v *violations) policyName(name string) {
	if name == "" {
		return
	}
	v.chars("policyName", name, 1, 128)
	v.pattern("policyName", name, `[\w]+`, func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	})
}

// policy checks a policy that is there. Its text is not shown.
func (v *violations) policy(text string) {
	if len(text) > maxPolicyChars { // no fewer characters than a quarter
		v.length("policy", "", len([]rune(text)), 1, maxPolicyChars)
	}
	for _, r := range text {
		if r != '\t' && r != '\n' && r != '\r' && (r < ' ' || r > 0xff) {
			v.add("policy", "", `satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`)
			return
		}
	}
}

// GetKeyPolicy tells a key's policy, as it was put.
func (s *Service) GetKeyPolicy(ctx context.Context, who Caller, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
	return perform(ctx, s, who, OpGetKeyPolicy, in, func(c *call, out *GetKeyPolicyOutput) error {
		c.param("keyId", in.KeyID)
		c.param("policyName", in.PolicyName)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		if err := knownPolicy(in.PolicyName); err != nil {
			return err
		}
		out.Policy, out.PolicyName = k.Policy, defaultPolicyName
		return nil
	})
}

// ListKeyPolicies lists the names of a key's policies: there is one.
func (s *Service) ListKeyPolicies(ctx context.Context, who Caller, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
	return perform(ctx, s, who, OpListKeyPolicies, in, func(c *call, out *ListKeyPoliciesOutput) error {
		c.param("keyId", in.KeyID)
		if in.Marker != "" { // a list of one never goes on
			return refuse(CodeInvalidMarker, "The marker is not one of this list.")
		}
		if _, err := c.key(ctx, in.KeyID, ask{}); err != nil {
			return err
		}
		out.PolicyNames = []string{defaultPolicyName}
		return nil
	})
}

// PutKeyPolicy replaces a key's policy.
func (s *Service) PutKeyPolicy(ctx context.Context, who Caller, in *PutKeyPolicyInput) error {
	return s.do(ctx, who, OpPutKeyPolicy, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.param("policyName", in.PolicyName)
		c.param("bypassPolicyLockoutSafetyCheck", strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck))
		c.policyParams(in.Policy)
		policy, err := parseKeyPolicy(in.Policy)
		if err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) { addBypass(q, in.BypassPolicyLockoutSafetyCheck) }})
		if err != nil {
			return err
		}
		if err := knownPolicy(in.PolicyName); err != nil {
			return err
		}
		if err := c.vetPolicy(ctx, k.KeyRef, policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		if k.Policy == in.Policy {
			c.unchanged()
		}
		params := map[string]string{"policy-sha256": hashText(in.Policy)}
		if in.BypassPolicyLockoutSafetyCheck {
			params["bypass-lockout-check"] = "yes"
		}
		if err := c.approve(k, params); err != nil {
			return err
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.Policy = in.Policy
			return nil
		})
	})
}

func knownPolicy(name string) error {
	if name != "" && name != defaultPolicyName {
		return refuse(CodeNotFound, "No such policy exists")
	}
	return nil
}

// defaultPolicy is what AWS gives a key that is created without a policy: the
// account's identity policies decide.
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// parseKeyPolicy parses a policy that a request brings.
func parseKeyPolicy(text string) (*iam.Policy, error) {
	p, err := iam.ParsePolicy(iam.KeyPolicy, []byte(text))
	var malformed *iam.MalformedPolicyError
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, iam.ErrPolicyTooLarge):
		return nil, refuse(CodeLimitExceeded, "The key policy is longer than "+strconv.Itoa(iam.MaxPolicyBytes)+" bytes.")
	case errors.As(err, &malformed):
		return nil, refuse(CodeMalformedPolicy, malformed.Error())
	default:
		return nil, broken(CodeInternal, "The key policy could not be read.", err)
	}
}

// vetPolicy refuses a policy for the key that names principals who do not exist,
// or after which the caller could not put another, unless bypass says that this is
// meant. The request's conditions are those of the permission given last.
func (c *call) vetPolicy(ctx context.Context, key KeyRef, p *iam.Policy, bypass bool) error {
	for _, effect := range []iam.Effect{iam.Allow, iam.Deny} {
		for _, not := range []bool{false, true} {
			for _, who := range p.Principals(effect, not) {
				if !c.s.knows(ctx, who) {
					return &Error{
						Code: CodeMalformedPolicy, Message: "Policy contains a statement with one or more invalid principals.",
						Reason: "the policy names a principal that does not exist: " + who.Value,
					}
				}
			}
		}
	}
	if bypass || c.who.system != "" {
		return nil
	}
	if p.Uses("kms:ResourceAliases") {
		if err := c.addAliases(ctx, &live{Key: &Key{KeyRef: key}}, &iam.Policies{Resource: p}); err != nil {
			return err
		}
	}
	q := iam.Query{Caller: c.who.subject().Caller, Action: c.op.Action, Resource: key.ARN(), Time: c.at, Context: &c.query}
	if v := iam.KeepsControl(&q, p); !v.Allowed {
		return &Error{
			Code: CodeMalformedPolicy,
			Message: "The new key policy will not allow you to update the key policy in the future." +
				" Let it allow kms:PutKeyPolicy to you or your account, or set BypassPolicyLockoutSafetyCheck.",
			Reason: "lockout check: " + v.String(),
		}
	}
	return nil
}

// knows reports whether a principal that a policy names exists. Everyone, services
// and identity providers are not ours to know.
func (s *Service) knows(ctx context.Context, p iam.PolicyPrincipal) bool {
	switch p.Kind {
	case iam.PrincipalEveryone, iam.PrincipalService, iam.PrincipalProvider:
		return true
	case iam.PrincipalAccount:
		return s.accounts(ctx, p.Account())
	case iam.PrincipalUniqueID: // of one that was deleted: AWS takes it in no new policy
		return false
	case iam.PrincipalUser, iam.PrincipalRole, iam.PrincipalRoleSession, iam.PrincipalFederated:
		return s.accounts(ctx, p.Account()) && s.principal(ctx, p.Value)
	default:
		return false
	}
}

func addBypass(q *iam.Context, bypass bool) {
	q.Add("kms:BypassPolicyLockoutSafetyCheck", iam.Bool(bypass))
}

// policyParams puts a policy into the entry, by hash and length: its text may name
// people and is long.
func (c *call) policyParams(text string) {
	if text == "" {
		return
	}
	c.param("policySha256", hashText(text))
	c.param("policyLength", strconv.Itoa(len(text)))
}
