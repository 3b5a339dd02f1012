package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"strings"

	"cardea/internal/iam"
)

// maxPrincipal is the length of a grant's principal, in characters.
const maxPrincipal = 256

func (in *CreateGrantInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("operations", in.Operations != nil) {
		v.length("operations", "", len(in.Operations), 1, len(GrantOperations))
		for _, op := range in.Operations {
			v.enumRequired("operations", op)
		}
	}
	v.principal("granteePrincipal", in.GranteePrincipal)
	v.service("granteeServicePrincipal", in.GranteeServicePrincipal)
	v.principal("retiringPrincipal", in.RetiringPrincipal)
	v.service("retiringServicePrincipal", in.RetiringServicePrincipal)
	if in.Name != "" {
		v.chars("name", in.Name, 1, 256)
		v.pattern("name", in.Name, "^[a-zA-Z0-9:/_-]+$", nameChar)
	}
	v.constraints(in.Constraints)
	v.grantTokens(in.GrantTokens)
}

func (v *violations) enumRequired(member string, op GrantOperation) {
	if v.required(member, op != "") {
		enum(v, member, op, GrantOperations...)
	}
}

// principal checks a principal that may be absent.
func (v *violations) principal(member, s string) {
	if s == "" {
		return
	}
	v.chars(member, s, 1, maxPrincipal)
	v.pattern(member, s, `^[\w+=,.@:/-]+$`, func(r rune) bool { return nameChar(r) || strings.ContainsRune("+=,.@", r) })
}

// service checks the name of a service that may be absent.
func (v *violations) service(member, s string) {
	if s == "" {
		return
	}
	v.chars(member, s, 1, maxPrincipal)
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || !strings.Contains(s, ".") {
		v.add(member, s, "be the name of a service, as s3.amazonaws.com")
	}
}

// CreateGrant lets a principal use a key. With a Name, a request with the same
// parameters as that of a grant there is gets that grant's id, and a token anew.
func (s *Service) CreateGrant(ctx context.Context, who Caller, in *CreateGrantInput) (*CreateGrantOutput, error) {
	if in.Constraints != nil {
		in = new(*in)
		in.Constraints = in.Constraints.withoutEmpty()
	}
	return perform(ctx, s, who, OpCreateGrant, in, func(c *call, out *CreateGrantOutput) error {
		c.grantParams(in)
		g, err := c.planGrant(in)
		if err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{
			tokens: in.GrantTokens, grant: g, context: g.Constraints.pairs(), add: func(q *iam.Context) { addGrant(q, in) },
		})
		if err != nil {
			return err
		}
		g.Key = k.KeyRef
		if err := k.vetGrant(g); err != nil {
			return err
		}
		if g.GranteeID, err = s.grantPrincipal(ctx, in.GranteePrincipal); err != nil {
			return err
		}
		if g.RetiringID, err = s.grantPrincipal(ctx, in.RetiringPrincipal); err != nil {
			return err
		}
		same, err := sameGrant(ctx, s.store, g)
		if err != nil {
			return broken(CodeInternal, "The key's grants could not be read.", err)
		}
		if same != nil {
			g = same
		}
		if err := dryRun(in.DryRun); err != nil {
			return err
		}
		out.GrantID, out.GrantToken = g.ID, newGrantToken(g)
		c.result("grantId", g.ID)
		c.result("keyId", k.arn)
		if same != nil {
			return nil
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			return []Change{{KeyRef: k.KeyRef}}, c.insertGrant(ctx, tx, k, g)
		})
	})
}

// planGrant is the grant that the request asks for, but for its key.
func (c *call) planGrant(in *CreateGrantInput) (*Grant, error) {
	switch {
	case (in.GranteePrincipal == "") == (in.GranteeServicePrincipal == ""):
		return nil, refuse(CodeValidation, "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both.")
	case in.RetiringPrincipal != "" && in.RetiringServicePrincipal != "":
		return nil, refuse(CodeValidation, "You cannot specify both RetiringPrincipal and RetiringServicePrincipal.")
	case in.GranteeServicePrincipal != "" && (in.Constraints == nil || in.Constraints.SourceARN == ""):
		return nil, refuse(CodeValidation, "A grant with a GranteeServicePrincipal must have a SourceArn constraint.")
	case in.GranteeServicePrincipal != "" && in.RetiringPrincipal+in.RetiringServicePrincipal == "":
		return nil, refuse(CodeValidation, "A grant with a GranteeServicePrincipal must have a RetiringPrincipal or a RetiringServicePrincipal.")
	}
	g := &Grant{
		ID: randomID(), Name: in.Name, Grantee: in.GranteePrincipal + in.GranteeServicePrincipal,
		Retiring: in.RetiringPrincipal + in.RetiringServicePrincipal, Issuer: rootARN(c.who.account()), CreatedAt: c.at, TokenKey: make([]byte, 32),
	}
	rand.Read(g.TokenKey)
	for _, op := range in.Operations {
		if !slices.Contains(g.Operations, op) {
			g.Operations = append(g.Operations, op)
		}
	}
	if in.Constraints != nil && (in.Constraints.SourceARN != "" || in.Constraints.pairs() != nil) {
		g.Constraints = in.Constraints
	}
	return g, nil
}

// sameGrant finds the grant of a name that was made with the same parameters, nil
// if there is none.
func sameGrant(ctx context.Context, r Reader, g *Grant) (*Grant, error) {
	if g.Name == "" {
		return nil, nil // none is an answer
	}
	for after := ""; ; {
		page, err := r.Grants(ctx, g.Key, GrantFilter{Name: g.Name, Grantee: g.Grantee}, after, grantsAtOnce)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].equal(g) {
				return &page[i], nil
			}
		}
		if len(page) < grantsAtOnce {
			return nil, nil // none is an answer
		}
		after = page[len(page)-1].ID
	}
}

// insertGrant stores a new grant, if the key and the grant by which the caller may
// make it are as they were, within the key's quota.
func (c *call) insertGrant(ctx context.Context, tx Tx, k *live, g *Grant) error {
	if err := c.stillGranted(ctx, tx, k); err != nil {
		return err
	}
	switch same, err := sameGrant(ctx, tx, g); {
	case err != nil:
		return err
	case same != nil: // made at the same time
		return errStale
	}
	n, err := tx.CountGrants(ctx, k.KeyRef)
	if err != nil {
		return err
	}
	if n >= c.s.limits.Grants {
		return refuse(CodeLimitExceeded, k.arn+" has "+strconv.Itoa(n)+" grants, which is the limit.")
	}
	return tx.PutGrant(ctx, g)
}

// stillGranted is errStale if the key, or the grant by which the caller was let in,
// has changed since.
func (c *call) stillGranted(ctx context.Context, tx Tx, k *live) error {
	if err := unchanged(ctx, tx, k); err != nil || c.byGrant == "" {
		return err
	}
	_, err := tx.Grant(ctx, k.KeyRef, c.byGrant)
	if errors.Is(err, ErrNoRow) {
		return errStale
	}
	return err
}

// addGrant puts what a grant would be into the condition keys.
func addGrant(q *iam.Context, in *CreateGrantInput) {
	for name, value := range map[string]string{
		"kms:GranteePrincipal": in.GranteePrincipal, "kms:GranteeServicePrincipal": in.GranteeServicePrincipal,
		"kms:RetiringPrincipal": in.RetiringPrincipal, "kms:RetiringServicePrincipal": in.RetiringServicePrincipal,
	} {
		if value != "" {
			q.Add(name, iam.String(value))
		}
	}
	for _, op := range in.Operations {
		q.Add("kms:GrantOperations", iam.String(string(op)))
	}
	if c := in.Constraints; c != nil {
		switch {
		case c.EncryptionContextEquals != nil:
			q.Add("kms:GrantConstraintType", iam.String("EncryptionContextEquals"))
		case c.EncryptionContextSubset != nil:
			q.Add("kms:GrantConstraintType", iam.String("EncryptionContextSubset"))
		}
		if c.SourceARN != "" {
			q.Add("kms:GrantConstraintSourceArn", iam.String(c.SourceARN))
		}
	}
	notForResource(q)
}

// notForResource says that the request does not come from a service on behalf of a
// resource of its customer: none does here.
func notForResource(q *iam.Context) { q.Add("kms:GrantIsForAWSResource", iam.Bool(false)) }

// grantParams puts the request into the entry.
func (c *call) grantParams(in *CreateGrantInput) {
	c.param("keyId", in.KeyID)
	c.param("granteePrincipal", in.GranteePrincipal)
	c.param("granteeServicePrincipal", in.GranteeServicePrincipal)
	c.param("retiringPrincipal", in.RetiringPrincipal)
	c.param("retiringServicePrincipal", in.RetiringServicePrincipal)
	ops := make([]string, len(in.Operations))
	for i, op := range in.Operations {
		ops[i] = string(op)
	}
	c.param("operations", strings.Join(ops, ","))
	c.param("name", in.Name)
	if cs := in.Constraints; cs != nil {
		c.param("constraints.sourceArn", cs.SourceARN)
		kind := "constraints.encryptionContextSubset."
		if cs.EncryptionContextEquals != nil {
			kind = "constraints.encryptionContextEquals."
		}
		pairs := cs.pairs()
		for _, name := range sortedNames(pairs) {
			c.more.Request = append(c.more.Request, paramOf(kind+name, pairs[name]))
		}
	}
	c.dryParam(in.DryRun)
}

func (c *call) dryParam(dry bool) {
	if dry {
		c.param("dryRun", "true")
	}
}
