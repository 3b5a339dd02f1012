package iam

import (
	"errors"
	"strings"
)

// statement is a compiled statement.
type statement struct {
	sid    string
	effect Effect
	inert  bool // no Action or no Resource: no effect

	anyCaller    bool // an identity policy's: it is the caller's own
	principals   principalSet
	notPrincipal bool

	actions   []pattern
	notAction bool

	resources   []arnPattern // empty in a trust policy: the role itself
	notResource bool

	conditions []condition

	src *Statement // for explanations
}

// compileAction compiles an element of Action or NotAction.
func compileAction(s string) (pattern, error) {
	bad := errors.New(`must be "*" or have the form service:Name, where the name may hold wildcards`)
	if s != "*" && s != "*:*" {
		service, name, ok := strings.Cut(s, ":")
		if !ok || service == "" || name == "" || len(s) > 128 {
			return pattern{}, bad
		}
		for i := range len(service) {
			if c := lower(service[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return pattern{}, bad
			}
		}
		for i := range len(name) {
			if c := lower(name[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '*' && c != '?' && c != '-' && c != '_' {
				return pattern{}, bad
			}
		}
	}
	return compilePattern(s, true, false)
}

// match reports how the statement reaches the request; reachNone if it does not
// apply to it. The cheap tests come first.
func (s *statement) match(e *env) reach {
	if s.inert {
		e.tr.miss("Inert", "", "", s.lacking, nil)
		return reachNone
	}
	r := reachSession
	if !s.anyCaller {
		if s.notPrincipal {
			r = s.principals.reachNot(&e.q.Caller, s.effect)
		} else {
			r = s.principals.reach(&e.q.Caller)
		}
		if r == reachNone {
			e.tr.miss(s.element("Principal", s.notPrincipal), "", "", s.principalTexts, e.callerTexts)
			return reachNone
		}
	}
	if s.matchAction(e) == s.notAction {
		e.tr.miss(s.element("Action", s.notAction), "", "", s.actionTexts, func() []string { return []string{e.q.Action} })
		return reachNone
	}
	if !s.matchResource(e) {
		e.tr.miss(s.element("Resource", s.notResource), "", "", s.resourceTexts, func() []string { return []string{e.q.Resource} })
		return reachNone
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(e, s.effect) {
			e.tr.miss("Condition", c.name, c.key.name, func() []string { return c.texts }, func() []string { return e.texts(&c.key) })
			return reachNone
		}
	}
	return r
}

func (s *statement) matchAction(e *env) bool {
	for i := range s.actions {
		if ok, _ := s.actions[i].match(e, e.q.Action, ignoreCase); ok {
			return true
		}
	}
	return false
}

// matchResource reports whether the statement is about the resource. A variable
// without a value matches nothing; an Allow with NotResource that would need it
// does not apply at all, lest a missing tag widen what it allows.
func (s *statement) matchResource(e *env) bool {
	if len(s.resources) == 0 {
		return true // trust policy
	}
	unresolved := false
	for i := range s.resources {
		p := &s.resources[i]
		if !p.any && !e.isARN {
			continue // actions on no resource in particular have "*"
		}
		ok, resolved := p.match(e, &e.arn)
		if ok {
			return !s.notResource
		}
		unresolved = unresolved || !resolved
	}
	return s.notResource && (!unresolved || s.effect == Deny)
}

func (s *statement) element(name string, not bool) string {
	if not {
		return "Not" + name
	}
	return name
}

func (s *statement) lacking() []string {
	var out []string
	if len(s.src.Actions)+len(s.src.NotActions) == 0 {
		out = append(out, "Action")
	}
	if len(s.src.Resources)+len(s.src.NotResources) == 0 {
		out = append(out, "Resource")
	}
	return out
}

func (s *statement) principalTexts() []string {
	var out []string
	for _, p := range append(s.src.Principals[:len(s.src.Principals):len(s.src.Principals)], s.src.NotPrincipals...) {
		out = append(out, p.Value)
	}
	return out
}

func (s *statement) actionTexts() []string {
	if s.notAction {
		return s.src.NotActions
	}
	return s.src.Actions
}

func (s *statement) resourceTexts() []string {
	if s.notResource {
		return s.src.NotResources
	}
	return s.src.Resources
}
