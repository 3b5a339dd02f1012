package kms

import (
	"context"
	"errors"
	"strings"
)

func (in *RetireGrantInput) check(v *violations) {
	if in.KeyID != "" {
		v.keyID("keyId", in.KeyID)
	}
	v.text("grantId", in.GrantID, 128)
	v.text("grantToken", in.GrantToken, maxToken)
}

func (in *RevokeGrantInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("grantId", in.GrantID != "") {
		v.text("grantId", in.GrantID, 128)
	}
}

// RetireGrant ends a grant. Its retiring principal may, its grantee if RetireGrant
// is among its operations, and whom a policy gives kms:RetireGrant.
func (s *Service) RetireGrant(ctx context.Context, who Caller, in *RetireGrantInput) error {
	return s.do(ctx, who, OpRetireGrant, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.param("grantId", in.GrantID)
		c.dryParam(in.DryRun)
		k, id, t, err := c.grantToRetire(ctx, in)
		if err != nil {
			return err
		}
		g, err := c.findGrantByID(ctx, k, id)
		if err != nil {
			return err
		}
		if t != nil && (g == nil || !t.madeBy(g)) {
			return errGrantToken()
		}
		a := ask{grant: g}
		if g != nil {
			a.context = g.Constraints.pairs()
		}
		if err := c.permit(ctx, k, a); err != nil {
			return err
		}
		return c.endGrant(ctx, k, g, id, in.DryRun)
	})
}

// grantToRetire is what the request names, by key and id or by token.
func (c *call) grantToRetire(ctx context.Context, in *RetireGrantInput) (*live, string, *grantToken, error) {
	byID := in.KeyID != "" || in.GrantID != ""
	if byID == (in.GrantToken != "") || byID && (in.KeyID == "" || in.GrantID == "") {
		return nil, "", nil, refuse(CodeValidation, "You must specify either GrantToken, or both KeyId and GrantId.")
	}
	if byID {
		if err := vetGrantID(in.GrantID); err != nil {
			return nil, "", nil, err
		}
		k, err := c.find(ctx, c.op, in.KeyID)
		return k, in.GrantID, nil, err
	}
	t, err := parseGrantToken(in.GrantToken)
	if err != nil {
		return nil, "", nil, err
	}
	if t.key.Region != c.who.Region {
		return nil, "", nil, errGrantToken()
	}
	k, err := c.s.cache.key(ctx, t.key)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, "", nil, errGrantToken()
	case err != nil:
		return nil, "", nil, broken(CodeInternal, "The key could not be read.", err)
	}
	return k, t.grant, t, nil
}

// RevokeGrant ends a grant, for those who may without being named in it.
func (s *Service) RevokeGrant(ctx context.Context, who Caller, in *RevokeGrantInput) error {
	return s.do(ctx, who, OpRevokeGrant, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.param("grantId", in.GrantID)
		c.dryParam(in.DryRun)
		if err := vetGrantID(in.GrantID); err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{add: notForResource})
		if err != nil {
			return err
		}
		g, err := c.findGrantByID(ctx, k, in.GrantID)
		if err != nil {
			return err
		}
		return c.endGrant(ctx, k, g, in.GrantID, in.DryRun)
	})
}

// endGrant deletes a grant; g is nil if there is none with the id.
func (c *call) endGrant(ctx context.Context, k *live, g *Grant, id string, dry bool) error {
	if g == nil {
		return refuse(CodeNotFound, "Grant ID "+id+" not found")
	}
	if err := dryRun(dry); err != nil {
		return err
	}
	c.result("grantId", id)
	c.result("keyId", k.arn)
	return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		changed := []Change{{KeyRef: k.KeyRef}}
		if err := unchanged(ctx, tx, k); err != nil {
			return changed, err
		}
		return changed, tx.DeleteGrant(ctx, k.KeyRef, id)
	})
}

// findGrantByID reads a grant of the key, nil if there is none with the id.
func (c *call) findGrantByID(ctx context.Context, k *live, id string) (*Grant, error) {
	g, err := c.s.store.Grant(ctx, k.KeyRef, id)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, nil // none is an answer
	case err != nil:
		return nil, broken(CodeInternal, "The key's grants could not be read.", err)
	}
	return g, nil
}

// vetGrantID refuses what cannot be the id of a grant: ids are 64 hexadecimal digits.
func vetGrantID(id string) error {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return refuse(CodeInvalidGrantID, "Grant ID "+cut(id)+" is invalid.")
	}
	return nil
}
