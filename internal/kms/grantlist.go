package kms

import (
	"context"
	"maps"
	"slices"
	"strings"

	"cardea/internal/iam"
)

func (in *ListGrantsInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.text("grantId", in.GrantID, 128)
	v.principal("granteePrincipal", in.GranteePrincipal)
	v.service("granteeServicePrincipal", in.GranteeServicePrincipal)
	v.page(in.Limit, in.Marker)
}

func (in *ListRetirableGrantsInput) check(v *violations) {
	v.principal("retiringPrincipal", in.RetiringPrincipal)
	v.service("retiringServicePrincipal", in.RetiringServicePrincipal)
	v.page(in.Limit, in.Marker)
}

// ListGrants lists the grants of a key in the order of their ids, or those of one
// grantee, or one.
func (s *Service) ListGrants(ctx context.Context, who Caller, in *ListGrantsInput) (*ListGrantsOutput, error) {
	return perform(ctx, s, who, OpListGrants, in, func(c *call, out *ListGrantsOutput) error {
		c.param("keyId", in.KeyID)
		c.param("grantId", in.GrantID)
		c.param("granteePrincipal", in.GranteePrincipal)
		c.param("granteeServicePrincipal", in.GranteeServicePrincipal)
		if in.GranteePrincipal != "" && in.GranteeServicePrincipal != "" {
			return refuse(CodeValidation, "You cannot specify both GranteePrincipal and GranteeServicePrincipal.")
		}
		if in.GrantID != "" {
			if err := vetGrantID(in.GrantID); err != nil {
				return err
			}
		}
		k, err := c.key(ctx, in.KeyID, ask{add: notForResource})
		if err != nil {
			return err
		}
		grantee := in.GranteePrincipal + in.GranteeServicePrincipal
		read := func(ctx context.Context, after string, limit int) ([]Grant, error) {
			return s.store.Grants(ctx, k.KeyRef, GrantFilter{Grantee: grantee}, after, limit)
		}
		if in.GrantID != "" {
			read = func(ctx context.Context, _ string, _ int) ([]Grant, error) {
				g, err := c.findGrantByID(ctx, k, in.GrantID)
				if err != nil || g == nil || grantee != "" && g.Grantee != grantee {
					return nil, err
				}
				return []Grant{*g}, nil
			}
		}
		gs, next, truncated, err := readPage(ctx, markGrant, in.Marker, pageSize(in.Limit, defaultList, mostInList), grantID, read)
		out.Grants, out.NextMarker, out.Truncated = grantEntries(gs), next, truncated
		return err
	})
}

// ListRetirableGrants lists the grants on the account's keys that a principal may
// retire because they name it as their retiring principal. A principal of another
// account is refused.
func (s *Service) ListRetirableGrants(ctx context.Context, who Caller, in *ListRetirableGrantsInput) (*ListRetirableGrantsOutput, error) {
	return perform(ctx, s, who, OpListRetirableGrants, in, func(c *call, out *ListRetirableGrantsOutput) error {
		c.param("retiringPrincipal", in.RetiringPrincipal)
		c.param("retiringServicePrincipal", in.RetiringServicePrincipal)
		if (in.RetiringPrincipal == "") == (in.RetiringServicePrincipal == "") {
			return refuse(CodeValidation, "You must specify either RetiringPrincipal or RetiringServicePrincipal, but not both.")
		}
		if in.RetiringPrincipal != "" {
			p, ok := parsePrincipal(in.RetiringPrincipal)
			if !ok {
				return refuse(CodeInvalidARN, "ARN does not refer to a valid principal: "+cut(in.RetiringPrincipal))
			}
			if p.Account != c.who.account() {
				return c.denied(iam.Verdict{Reason: iam.DeniedCrossAccount}, c.op, "*")
			}
		}
		if err := c.allow("*"); err != nil {
			return err
		}
		gs, next, truncated, err := readPage(ctx, markGrant, in.Marker, pageSize(in.Limit, defaultList, mostInList), grantID,
			func(ctx context.Context, after string, limit int) ([]Grant, error) {
				return s.store.Retirable(ctx, c.who.account(), c.who.Region, in.RetiringPrincipal+in.RetiringServicePrincipal, after, limit)
			})
		out.Grants, out.NextMarker, out.Truncated = grantEntries(gs), next, truncated
		return err
	})
}

func grantID(g Grant) string { return g.ID }

func grantEntries(gs []Grant) []GrantListEntry {
	out := make([]GrantListEntry, 0, len(gs))
	for _, g := range gs {
		e := GrantListEntry{
			Constraints: g.Constraints, CreationDate: g.CreatedAt, GrantID: g.ID, IssuingAccount: g.Issuer, KeyID: g.Key.ARN(),
			Name: g.Name, Operations: g.Operations,
		}
		e.GranteePrincipal, e.GranteeServicePrincipal = principalOrService(g.Grantee)
		e.RetiringPrincipal, e.RetiringServicePrincipal = principalOrService(g.Retiring)
		out = append(out, e)
	}
	return out
}

// principalOrService sorts a grant's principal into the member it came in.
func principalOrService(s string) (principal, service string) {
	if strings.HasPrefix(s, "arn:") {
		return s, ""
	}
	return "", s
}

func sortedNames(pairs map[string]string) []string { return slices.Sorted(maps.Keys(pairs)) }
