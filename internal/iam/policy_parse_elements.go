package iam

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

func (r *policyReader) principals() []PolicyPrincipal {
	var out []PolicyPrincipal
	if r.dec.PeekKind() == '"' {
		if r.text() != "*" {
			r.fail(`must be "*" or an object`)
		}
		return []PolicyPrincipal{{PrincipalEveryone, "*"}}
	}
	n := r.object(func(name string) {
		var parse func(string) (PolicyPrincipal, error)
		switch name {
		case "AWS":
			parse = ParseAWSPrincipal
		case "Service":
			parse = parseService
		case "Federated":
			parse = parseProvider
		default:
			r.fail("must be AWS, Service or Federated")
			return
		}
		r.list(false, func(s string) {
			p, err := parse(s)
			if err != nil {
				r.fail(err.Error())
				return
			}
			out = append(out, p)
		})
	})
	if n == 0 {
		r.fail("names no principal")
	}
	return sortPrincipals(out)
}

// sortPrincipals puts principals into the order in which they are encoded: AWS,
// Service, Federated, each as the document has them.
func sortPrincipals(list []PolicyPrincipal) []PolicyPrincipal {
	slices.SortStableFunc(list, func(a, b PolicyPrincipal) int { return cmp.Compare(principalGroup(a), principalGroup(b)) })
	return list
}

func principalGroup(p PolicyPrincipal) int {
	switch p.Kind {
	case PrincipalService:
		return 1
	case PrincipalProvider:
		return 2
	default:
		return 0
	}
}

func (r *policyReader) actions(c *statement) (out []string) {
	r.list(false, func(s string) {
		p, err := compileAction(s)
		if err != nil {
			r.fail(err.Error())
			return
		}
		c.actions, out = append(c.actions, p), append(out, s)
	})
	return out
}

func (r *policyReader) resources(c *statement) (out []string) {
	r.list(false, func(s string) {
		p, err := compileARN(s, r.vars, true)
		if err == nil && len(s) > maxARN {
			err = errors.New("longer than 2048 bytes")
		}
		if err != nil {
			r.fail(err.Error())
			return
		}
		c.resources, out = append(c.resources, p), append(out, s)
	})
	return out
}

// conditions reads a Condition element, whose keys are compared without regard to case.
func (r *policyReader) conditions(s *Statement, c *statement) {
	r.object(func(operator string) {
		template, err := parseOperator(operator)
		if err != nil {
			r.fail(err.Error())
			return
		}
		var names []string
		n := r.object(func(name string) {
			one := template
			if one.key, err = compileKey(name); err != nil {
				r.fail(err.Error())
				return
			}
			if slices.Contains(names, one.key.lower) {
				r.fail("the key is there twice")
				return
			}
			if why := overlyPermissive(r.p.kind, &one); why != "" {
				r.fail(why)
				return
			}
			names = append(names, one.key.lower)
			r.list(true, func(v string) {
				if err := one.add(v, r.vars); err != nil {
					r.fail(err.Error())
				}
			})
			if len(c.conditions) == maxConditions {
				r.fail("the statement has more than 256 conditions")
				return
			}
			c.conditions = append(c.conditions, one)
			s.Conditions = append(s.Conditions, Condition{Operator: one.name, Key: one.key.name, Values: one.texts})
		})
		if n == 0 {
			r.fail("the operator has no condition key")
		}
	})
	slices.SortStableFunc(c.conditions, func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.key.lower, b.key.lower))
	})
	slices.SortStableFunc(s.Conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(lowered(a.Key), lowered(b.Key)))
	})
}

// overlyPermissive is AWS KMS's own refusal of ForAllValues with keys for which it
// would let through requests that lack the context or tag.
func overlyPermissive(kind PolicyKind, c *condition) string {
	if kind != KeyPolicy || c.set != setAll {
		return ""
	}
	what := ""
	switch {
	case strings.HasPrefix(c.key.lower, "kms:encryptioncontext:"):
		what = "encryption context"
	case strings.HasPrefix(c.key.lower, "aws:requesttag/"):
		what = "tag"
	default:
		return ""
	}
	return "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified " +
		what + " or with an unspecified " + what + ". To fix, remove ForAllValues."
}

// usedKeys are the lower-case names of the condition keys that statements refer to.
func usedKeys(list []statement) []string {
	var out []string
	pieces := func(p *pattern) {
		for i := range p.pieces {
			if v := &p.pieces[i]; v.op == opVariable {
				out = append(out, v.key.lower)
			}
		}
	}
	arns := func(list []arnPattern) {
		for i := range list {
			for j := range list[i].segs {
				pieces(&list[i].segs[j])
			}
		}
	}
	for i := range list {
		s := &list[i]
		arns(s.resources)
		for j := range s.conditions {
			c := &s.conditions[j]
			out = append(out, c.key.lower)
			arns(c.arns)
			for k := range c.patterns {
				pieces(&c.patterns[k])
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
