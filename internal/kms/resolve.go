package kms

import (
	"context"
	"errors"
	"strings"

	"cardea/internal/iam"
)

// find resolves a key's name as a client gives it, id, ARN, alias or alias ARN,
// in the Region of the caller's endpoint. It tells a missing key as AWS does.
func (c *call) find(ctx context.Context, op *Operation, name string) (*live, error) {
	account, resource := c.who.account(), name
	c.alias = ""
	if strings.HasPrefix(name, "arn:") {
		a, err := iam.ParseARN(name)
		if err != nil || a.Partition != "aws" || a.Service != "kms" || a.Account == "" {
			return nil, refuse(CodeInvalidARN, "Invalid arn "+cut(name))
		}
		if a.Region != c.who.Region {
			return nil, refuse(CodeNotFound, "Invalid arn "+cut(a.Region))
		}
		account, resource = a.Account, a.Resource
		if strings.HasPrefix(resource, "key/") {
			resource = resource[len("key/"):]
		} else if !strings.HasPrefix(resource, "alias/") {
			return nil, refuse(CodeInvalidARN, "Invalid arn "+cut(name))
		}
	}
	if account != c.who.account() && !op.CrossAccount {
		return nil, c.denied(iam.Verdict{Reason: iam.DeniedCrossAccount}, op, c.keyARN(account, resource))
	}
	if alias := resource; strings.HasPrefix(alias, "alias/") {
		if !op.TakesAlias {
			return nil, refuse(CodeNotFound, "Invalid keyId '"+cut(name)+"'")
		}
		a, err := c.s.cache.alias(ctx, account, c.who.Region, alias)
		switch {
		case errors.Is(err, ErrNoRow):
			return nil, refuse(CodeNotFound, "Alias "+c.aliasARN(account, cut(alias))+" is not found.")
		case err != nil:
			return nil, broken(CodeInternal, "The key could not be read.", err)
		}
		c.alias = alias
		resource = a.KeyID
	}
	if !validKeyID(resource) {
		return nil, refuse(CodeNotFound, "Invalid keyId '"+cut(name)+"'")
	}
	return c.load(ctx, KeyRef{account, c.who.Region, resource})
}

// load reads a key by its id.
func (c *call) load(ctx context.Context, ref KeyRef) (*live, error) {
	k, err := c.s.cache.key(ctx, ref)
	switch {
	case errors.Is(err, ErrNoRow):
		c.resource("key", ref.ARN(), ref.Account)
		return nil, refuse(CodeNotFound, "Key '"+ref.ARN()+"' does not exist")
	case err != nil:
		return nil, broken(CodeInternal, "The key could not be read.", err)
	}
	return k, nil
}

func (c *call) keyARN(account, id string) string {
	return KeyRef{account, c.who.Region, cut(id)}.ARN()
}

func (c *call) aliasARN(account, name string) string {
	return (&Alias{Account: account, Region: c.who.Region, Name: name}).ARN()
}

// validKeyID reports whether s is a lower-case UUID or mrk- and 32 hex digits.
func validKeyID(s string) bool {
	hex := func(s string) bool {
		for i := range len(s) {
			if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
		return true
	}
	if rest, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(rest) == 32 && hex(rest)
	}
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		hex(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])
}
