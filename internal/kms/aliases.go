package kms

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

func (in *CreateAliasInput) check(v *violations) {
	v.aliasName(in.AliasName)
	v.keyID("targetKeyId", in.TargetKeyID)
}

func (in *UpdateAliasInput) check(v *violations) {
	v.aliasName(in.AliasName)
	v.keyID("targetKeyId", in.TargetKeyID)
}

func (in *DeleteAliasInput) check(v *violations) { v.aliasName(in.AliasName) }

func (in *ListAliasesInput) check(v *violations) {
	if in.KeyID != "" {
		v.keyID("keyId", in.KeyID)
	}
	v.page(in.Limit, in.Marker)
}

func (v *violations) aliasName(name string) {
	if v.required("aliasName", name != "") {
		v.chars("aliasName", name, 1, 256)
		v.pattern("aliasName", name, "^[a-zA-Z0-9:/_-]+$", nameChar)
	}
}

// nameChar reports whether names of aliases and grants may have the character.
func nameChar(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(":/_-", r)
}

// vetAliasName refuses names that no alias of a customer has.
func vetAliasName(name string) error {
	rest, ok := strings.CutPrefix(name, "alias/")
	switch {
	case !ok:
		return refuse(CodeInvalidAliasName, "Alias must start with the prefix \"alias/\".")
	case rest == "":
		return refuse(CodeInvalidAliasName, "Alias must have a name after the prefix \"alias/\".")
	case strings.HasPrefix(rest, "aws/"):
		return refuse(CodeInvalidAliasName, "Alias must not start with the prefix \"alias/aws/\", which is reserved for AWS managed keys.")
	}
	return nil
}

// CreateAlias gives a key another name.
func (s *Service) CreateAlias(ctx context.Context, who Caller, in *CreateAliasInput) error {
	return s.do(ctx, who, OpCreateAlias, in, func(c *call) error {
		c.param("aliasName", in.AliasName)
		c.param("targetKeyId", in.TargetKeyID)
		if err := vetAliasName(in.AliasName); err != nil {
			return err
		}
		if strings.Contains(in.AliasName, ":") {
			return refuse(CodeInvalidAliasName, cut(in.AliasName)+" contains invalid characters for an alias.")
		}
		k, err := c.find(ctx, c.op, in.TargetKeyID)
		if err != nil {
			return err
		}
		c.resource("key", k.arn, k.Account)
		a := &Alias{Account: k.Account, Region: k.Region, Name: in.AliasName, KeyID: k.ID, CreatedAt: c.at, UpdatedAt: c.at}
		if err := c.mayName(a); err != nil {
			return err
		}
		if err := c.permit(ctx, k, ask{}); err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			changed := []Change{{KeyRef: k.KeyRef, Alias: a.Name}}
			if err := unchanged(ctx, tx, k); err != nil {
				return changed, err
			}
			switch _, err := tx.Alias(ctx, a.Account, a.Region, a.Name); {
			case err == nil:
				return changed, refuse(CodeAlreadyExists, "An alias with the name "+a.ARN()+" already exists")
			case !errors.Is(err, ErrNoRow):
				return changed, err
			}
			if err := s.roomForAlias(ctx, tx, k); err != nil {
				return changed, err
			}
			return changed, tx.PutAlias(ctx, a, false)
		})
	})
}

// UpdateAlias gives an alias to another key, of the same kind and for the same use.
func (s *Service) UpdateAlias(ctx context.Context, who Caller, in *UpdateAliasInput) error {
	return s.do(ctx, who, OpUpdateAlias, in, func(c *call) error {
		c.param("aliasName", in.AliasName)
		c.param("targetKeyId", in.TargetKeyID)
		if err := vetAliasName(in.AliasName); err != nil {
			return err
		}
		next, err := c.find(ctx, c.op, in.TargetKeyID)
		if err != nil {
			return err
		}
		c.resource("key", next.arn, next.Account)
		a, old, err := c.aliasAndKey(ctx, in.AliasName)
		if err != nil {
			return err
		}
		if err := c.mayName(a); err != nil {
			return err
		}
		if err := c.may(ctx, old, ask{}); err != nil {
			return err
		}
		if err := c.permit(ctx, next, ask{}); err != nil {
			return err
		}
		if old.kind() != next.kind() || old.Usage != next.Usage {
			return refuse(CodeValidation, "Alias "+a.ARN()+" stands for a key of key spec "+string(old.Spec)+" and key usage "+string(old.Usage)+
				". It cannot be given to "+next.arn+", which is of another type or has another key usage.")
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			changed := []Change{{KeyRef: next.KeyRef, Alias: a.Name}, {KeyRef: old.KeyRef}}
			if err := touch(ctx, tx, old); err != nil {
				return changed, err
			}
			if err := unchanged(ctx, tx, next); old.KeyRef != next.KeyRef && err != nil {
				return changed, err
			}
			now, err := sameAlias(ctx, tx, a)
			if err != nil {
				return changed, err
			}
			if now.KeyID != next.ID {
				if err := s.roomForAlias(ctx, tx, next); err != nil {
					return changed, err
				}
			}
			now.KeyID, now.UpdatedAt = next.ID, c.at
			return changed, tx.PutAlias(ctx, now, true)
		})
	})
}

// DeleteAlias takes a name from a key.
func (s *Service) DeleteAlias(ctx context.Context, who Caller, in *DeleteAliasInput) error {
	return s.do(ctx, who, OpDeleteAlias, in, func(c *call) error {
		c.param("aliasName", in.AliasName)
		if err := vetAliasName(in.AliasName); err != nil {
			return err
		}
		a, k, err := c.aliasAndKey(ctx, in.AliasName)
		if err != nil {
			return err
		}
		c.resource("key", k.arn, k.Account)
		if err := c.mayName(a); err != nil {
			return err
		}
		if err := c.permit(ctx, k, ask{}); err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			changed := []Change{{KeyRef: k.KeyRef, Alias: a.Name}}
			if err := touch(ctx, tx, k); err != nil {
				return changed, err
			}
			if _, err := sameAlias(ctx, tx, a); err != nil {
				return changed, err
			}
			return changed, tx.DeleteAlias(ctx, a.Account, a.Region, a.Name)
		})
	})
}

// ListAliases lists the aliases of the caller's account in the Region, or those of
// one of its keys, in the order of their names.
func (s *Service) ListAliases(ctx context.Context, who Caller, in *ListAliasesInput) (*ListAliasesOutput, error) {
	return perform(ctx, s, who, OpListAliases, in, func(c *call, out *ListAliasesOutput) error {
		c.param("keyId", in.KeyID)
		if err := c.allow("*"); err != nil {
			return err
		}
		read := func(ctx context.Context, after string, limit int) ([]Alias, error) {
			return s.store.Aliases(ctx, c.who.account(), c.who.Region, after, limit)
		}
		if in.KeyID != "" {
			k, err := c.find(ctx, c.op, in.KeyID)
			if err != nil {
				return err
			}
			c.resource("key", k.arn, k.Account)
			read = func(ctx context.Context, after string, limit int) ([]Alias, error) {
				return s.store.AliasesOf(ctx, k.KeyRef, after, limit)
			}
		}
		as, next, truncated, err := readPage(ctx, markAlias, in.Marker, pageSize(in.Limit, defaultList, mostInList),
			func(a Alias) string { return a.Name }, read)
		if err != nil {
			return err
		}
		out.Aliases = make([]AliasListEntry, 0, len(as))
		for _, a := range as {
			out.Aliases = append(out.Aliases, AliasListEntry{
				AliasARN: a.ARN(), AliasName: a.Name, CreationDate: a.CreatedAt, LastUpdatedDate: a.UpdatedAt, TargetKeyID: a.KeyID,
			})
		}
		out.NextMarker, out.Truncated = next, truncated
		return nil
	})
}

// mayName asks for the call's operation on the alias, of which identity policies
// decide. Permission on the key is asked for besides.
func (c *call) mayName(a *Alias) error {
	c.resource("alias", a.ARN(), a.Account)
	return c.allow(a.ARN())
}

// aliasAndKey finds an alias of the caller's account by name, and its key.
func (c *call) aliasAndKey(ctx context.Context, name string) (*Alias, *live, error) {
	a, err := c.s.store.Alias(ctx, c.who.account(), c.who.Region, name)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, nil, aliasNotFound(c.aliasARN(c.who.account(), name))
	case err != nil:
		return nil, nil, broken(CodeInternal, "The alias could not be read.", err)
	}
	k, err := c.load(ctx, KeyRef{a.Account, a.Region, a.KeyID})
	return a, k, err
}

func aliasNotFound(arn string) error { return refuse(CodeNotFound, "Alias "+arn+" is not found.") }

// sameAlias reads an alias again, for which permission was given as long as it
// stands for the same key.
func sameAlias(ctx context.Context, tx Tx, a *Alias) (*Alias, error) {
	now, err := tx.Alias(ctx, a.Account, a.Region, a.Name)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, aliasNotFound(a.ARN())
	case err != nil:
		return nil, err
	case now.KeyID != a.KeyID:
		return nil, errStale
	}
	return now, nil
}

// unchanged is errStale if a key has changed since permission on it was given.
func unchanged(ctx context.Context, tx Tx, ks ...*live) error {
	for _, k := range ks {
		now, err := tx.Key(ctx, k.KeyRef)
		if errors.Is(err, ErrNoRow) || err == nil && now.Version != k.Version {
			return errStale
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// touch is unchanged for a key from which an alias is taken. It gives the key's row
// another version, so that two nodes that take the same alias from it meet.
func touch(ctx context.Context, tx Tx, k *live) error {
	now, err := tx.Key(ctx, k.KeyRef)
	if errors.Is(err, ErrNoRow) || err == nil && now.Version != k.Version {
		return errStale
	}
	if err != nil {
		return err
	}
	return tx.PutKey(ctx, now)
}

// roomForAlias refuses one alias more than a key may have.
func (s *Service) roomForAlias(ctx context.Context, tx Tx, k *live) error {
	as, err := tx.AliasesOf(ctx, k.KeyRef, "", s.limits.Aliases)
	if err != nil {
		return err
	}
	if len(as) >= s.limits.Aliases {
		return refuse(CodeLimitExceeded, k.arn+" has "+strconv.Itoa(len(as))+" aliases, which is the limit.")
	}
	return nil
}

// kind is what of a key's spec an alias holds on to.
func (k *Key) kind() string {
	switch {
	case k.Spec.Asymmetric():
		return "asymmetric"
	case k.Usage == "GENERATE_VERIFY_MAC":
		return "HMAC"
	default:
		return "symmetric"
	}
}
