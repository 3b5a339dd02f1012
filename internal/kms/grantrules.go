package kms

import (
	"context"
	"maps"
	"slices"
	"strings"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

// Grant operations with rules of their own.
const (
	grantCreateGrant GrantOperation = "CreateGrant"
	grantRetireGrant GrantOperation = "RetireGrant"
	grantDescribeKey GrantOperation = "DescribeKey"
)

// Limits of grant constraints. Lengths are in characters.
const (
	maxConstraintPairs = 8
	maxConstraintValue = 384
)

// constraints checks the constraints of a request.
func (v *violations) constraints(c *GrantConstraints) {
	if c == nil {
		return
	}
	for member, pairs := range map[string]map[string]string{
		"constraints.encryptionContextEquals": c.EncryptionContextEquals, "constraints.encryptionContextSubset": c.EncryptionContextSubset,
	} {
		if pairs == nil {
			continue
		}
		v.length(member, "", len(pairs), 1, maxConstraintPairs)
		for name, value := range pairs {
			if name == "" {
				v.add(member, "", "not have an empty key")
			}
			v.chars(member+"."+cut(name)+".member", value, 0, maxConstraintValue)
		}
		v.context(member, pairs)
	}
	if c.EncryptionContextEquals != nil && c.EncryptionContextSubset != nil {
		v.add("constraints", "", "have either encryptionContextEquals or encryptionContextSubset")
	}
	if c.SourceARN != "" {
		if _, err := iam.ParseARN(c.SourceARN); err != nil {
			v.add("constraints.sourceArn", c.SourceARN, "be an ARN")
		}
	}
}

// withoutEmpty leaves out a constraint on the encryption context that is empty where
// there is the other one: Terraform sends both. An empty one alone stays, and is
// refused, since it may be meant as "no encryption context".
func (c *GrantConstraints) withoutEmpty() *GrantConstraints {
	if c == nil || (len(c.EncryptionContextEquals) > 0) == (len(c.EncryptionContextSubset) > 0) {
		return c
	}
	one := *c
	if len(c.EncryptionContextEquals) > 0 {
		one.EncryptionContextSubset = nil
	} else {
		one.EncryptionContextEquals = nil
	}
	return &one
}

// pairs are what the constraint says of the encryption context, nil if nothing.
func (c *GrantConstraints) pairs() map[string]string {
	switch {
	case c == nil:
		return nil
	case c.EncryptionContextEquals != nil:
		return c.EncryptionContextEquals
	default:
		return c.EncryptionContextSubset
	}
}

// hold reports whether an encryption context satisfies the constraints.
func (c *GrantConstraints) hold(context map[string]string) bool {
	return (c.EncryptionContextEquals == nil || maps.Equal(c.EncryptionContextEquals, context)) &&
		holdsAll(context, c.EncryptionContextSubset)
}

// holdsAll reports whether all pairs of few are in many.
func holdsAll(many, few map[string]string) bool {
	for name, value := range few {
		if got, found := many[name]; !found || got != value {
			return false
		}
	}
	return true
}

// within reports whether the grant gives no more than its parent, by which its
// issuer is allowed to make it: no other operations, and constraints as strict.
func (g *Grant) within(parent *Grant) bool {
	for _, op := range g.Operations {
		if !slices.Contains(parent.Operations, op) {
			return false
		}
	}
	var own, limit GrantConstraints
	if g.Constraints != nil {
		own = *g.Constraints
	}
	if parent.Constraints != nil {
		limit = *parent.Constraints
	}
	switch {
	case limit.SourceARN != "" && own.SourceARN != limit.SourceARN:
		return false
	case limit.EncryptionContextEquals != nil:
		return own.EncryptionContextEquals != nil && maps.Equal(own.EncryptionContextEquals, limit.EncryptionContextEquals)
	default:
		return holdsAll(own.pairs(), limit.EncryptionContextSubset)
	}
}

// equal reports whether the other grant was made with the same parameters.
func (g *Grant) equal(o *Grant) bool {
	sorted := func(ops []GrantOperation) []GrantOperation { return slices.Sorted(slices.Values(ops)) }
	constraints := func(c *GrantConstraints) GrantConstraints {
		if c == nil {
			return GrantConstraints{}
		}
		return *c
	}
	a, b := constraints(g.Constraints), constraints(o.Constraints)
	return g.Key == o.Key && g.Name == o.Name && g.Grantee == o.Grantee && g.Retiring == o.Retiring && g.Issuer == o.Issuer &&
		g.GranteeID == o.GranteeID && g.RetiringID == o.RetiringID &&
		slices.Equal(sorted(g.Operations), sorted(o.Operations)) && a.SourceARN == b.SourceARN &&
		maps.Equal(a.EncryptionContextEquals, b.EncryptionContextEquals) && maps.Equal(a.EncryptionContextSubset, b.EncryptionContextSubset)
}

// grantable are the operations that a grant on the key may have.
func (k *Key) grantable() []GrantOperation {
	ops := []GrantOperation{grantCreateGrant, grantRetireGrant, grantDescribeKey}
	if k.Spec.Asymmetric() {
		ops = append(ops, "GetPublicKey")
	}
	switch k.Usage {
	case keyspec.EncryptDecrypt:
		ops = append(ops, "Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo")
		if k.Spec == keyspec.SymmetricDefault {
			ops = append(ops, "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
		}
	case keyspec.SignVerify:
		ops = append(ops, "Sign", "Verify")
	case keyspec.GenerateVerifyMAC:
		ops = append(ops, "GenerateMac", "VerifyMac")
	case keyspec.KeyAgreement:
		ops = append(ops, "DeriveSharedSecret")
	}
	return ops
}

// vetGrant refuses operations and constraints that do not fit the key.
func (k *Key) vetGrant(g *Grant) error {
	able := k.grantable()
	for _, op := range g.Operations {
		if !slices.Contains(able, op) {
			return refuse(CodeValidation, "Grant operation "+string(op)+" is not valid for "+k.ARN()+", whose key spec is "+string(k.Spec)+
				" and key usage "+string(k.Usage)+".")
		}
	}
	if g.Constraints.pairs() != nil && k.Spec != keyspec.SymmetricDefault {
		return refuse(CodeValidation, "Encryption context constraints are valid only in grants on symmetric encryption keys.")
	}
	return nil
}

// grantPrincipal checks that an ARN, if there is one, is that of a principal that
// exists, to whom a grant can be given, and returns its unique id.
func (s *Service) grantPrincipal(ctx context.Context, arn string) (id string, err error) {
	if arn == "" {
		return "", nil
	}
	p, ok := parsePrincipal(arn)
	none := refuse(CodeInvalidARN, "ARN does not refer to a valid principal: "+cut(arn))
	if !ok || !s.accounts(ctx, p.Account) || p.Resource != "root" && !s.principal(ctx, arn) {
		return "", none
	}
	if p.Resource == "root" || s.uniqueID == nil {
		return "", nil
	}
	switch id, err = s.uniqueID(ctx, arn); {
	case err != nil:
		return "", broken(CodeInternal, "The principal could not be read.", err)
	case id == "": // deleted on another node a moment ago: a grant without an id would be for the next of its name
		return "", none
	}
	return id, nil
}

// parsePrincipal parses the ARN of an account, user, role or session.
func parsePrincipal(arn string) (iam.ARN, bool) {
	a, err := iam.ParseARN(arn)
	if err != nil || a.Region != "" || a.Account == "" || strings.ContainsAny(arn, "*? ") {
		return a, false
	}
	kind, name, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Service == "iam" && a.Resource == "root":
		return a, true
	case name == "":
		return a, false
	case a.Service == "iam":
		return a, kind == "user" || kind == "role"
	case a.Service == "sts":
		return a, kind == "assumed-role" || kind == "federated-user"
	}
	return a, false
}
