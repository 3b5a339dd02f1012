package iam

import "time"

// Query is a request to the key service as policies see it.
type Query struct {
	Caller   Caller
	Action   string    // "kms:Encrypt"; not case-sensitive
	Resource string    // ARN of the key or alias; "*" for an action on none in particular
	Time     time.Time // of the request: aws:CurrentTime
	Context  *Context  // may be nil
}

// Policies are the documents that a request is decided by.
type Policies struct {
	// Resource is the key's policy, or the role's trust policy. If it is nil nothing
	// but a grant can allow, unless IdentityOnly is set.
	Resource *Policy
	// IdentityOnly says that there is no resource policy to ask, as for kms:CreateKey
	// or an alias: the identity policies of the caller decide alone.
	IdentityOnly bool

	Identity []NamedPolicy // of the user or role and its groups
	Boundary *Policy       // permissions boundary of the user or role; nil if none
	Session  []NamedPolicy // session policies; empty if none

	// Grant is a grant that permits the action to the caller, found by who asks
	// (operation, grantee, constraints, state of the grant); nil if there is none.
	Grant *GrantMatch
}

// NamedPolicy is a policy with the name that decisions call it by.
type NamedPolicy struct {
	Name   string
	Policy *Policy
}

// GrantMatch says that a grant permits what is asked.
type GrantMatch struct {
	ID        string
	ToSession bool // the grantee is the session itself, not its role or user
	// ToAccount says that the grantee is the caller's account: as in a key policy it
	// is then left to the caller's identity policies.
	ToAccount bool
}

// Decide decides a request. It is a pure function: an explicit deny in any
// document wins; else the key's owner must allow, by the resource policy, by a
// grant or by letting identity policies decide, and for a caller of another
// account its own identity policies must allow too, but for a grant.
// docs/spec/policy.md has the rules in full.
func Decide(q *Query, p *Policies) Verdict { return decide(q, p, nil) }

// scan is what one document, or several of one role, say.
type scan struct {
	deny  StatementRef
	allow [numReach]StatementRef // the first that allows, by reach
}

func (s *scan) allowed() bool { return s.allow[reachSession].Document != "" }

func decide(q *Query, p *Policies, tr *tracer) Verdict {
	if !q.Caller.authenticated() {
		return Verdict{Reason: DeniedAnonymous}
	}
	if !p.kindsFit() {
		return Verdict{Reason: DeniedMisuse}
	}
	var e env
	e.prepare(q, tr)
	var j judge
	j.read(&e, p)
	for _, s := range [...]*scan{&j.resource, &j.identity, &j.boundary, &j.session} {
		if s.deny.Document != "" {
			return Verdict{Reason: DeniedExplicitly, By: s.deny}
		}
	}
	root := q.Caller.Type == CallerRoot
	j.identityOK = root || q.Caller.hasIdentityPolicies() && j.identity.allowed()
	j.boundaryOK = root || p.Boundary == nil || j.boundary.allowed()
	j.sessionOK = len(p.Session) == 0 || j.session.allowed()
	j.same = q.Caller.Account == e.account
	return j.verdict(&q.Caller, p)
}

// kindsFit guards against a policy that is asked as what it is not: an identity
// policy speaks for any caller, and must not be taken for a resource policy.
func (p *Policies) kindsFit() bool {
	if p.Resource != nil && p.Resource.kind == IdentityPolicy || p.Boundary != nil && p.Boundary.kind != IdentityPolicy {
		return false
	}
	for _, list := range [...][]NamedPolicy{p.Identity, p.Session} {
		for _, d := range list {
			if d.Policy == nil || d.Policy.kind != IdentityPolicy {
				return false
			}
		}
	}
	return true
}

// scan matches the statements of one document. It reports whether it found an
// explicit deny, at which it stops unless the request is being explained.
func (p *Policy) scan(e *env, role DocumentRole, name string, out *scan) bool {
	e.tr.document(role, name)
	for i := range p.statements {
		s := &p.statements[i]
		e.tr.statement(i, s)
		r := s.match(e)
		e.tr.done(r)
		if r == reachNone {
			continue
		}
		ref := StatementRef{Document: role, Name: name, Index: i, Sid: s.sid, Effect: s.effect}
		if s.effect == Deny {
			if out.deny.Document == "" {
				out.deny = ref
			}
			if e.tr == nil {
				return true
			}
		} else if out.allow[r].Document == "" {
			out.allow[r] = ref
		}
	}
	return false
}

// judge puts together what the documents say.
type judge struct {
	resource, identity, boundary, session scan

	identityOK, boundaryOK, sessionOK bool
	same                              bool // caller and resource belong to one account
}

// read scans all documents, up to the first explicit deny.
func (j *judge) read(e *env, p *Policies) {
	if p.Resource != nil && p.Resource.scan(e, RoleResource, "", &j.resource) {
		return
	}
	for _, d := range p.Identity {
		if d.Policy.scan(e, RoleIdentity, d.Name, &j.identity) {
			return
		}
	}
	if p.Boundary != nil && p.Boundary.scan(e, RoleBoundary, "", &j.boundary) {
		return
	}
	for _, d := range p.Session {
		if d.Policy.scan(e, RoleSession, d.Name, &j.session) {
			return
		}
	}
}

// limits are those of the caller's own policies that an allow does not overcome.
func (j *judge) limits(v Verdict, needIdentity bool) Verdict {
	switch {
	case needIdentity && !j.identityOK:
		return Verdict{Reason: DeniedByIdentity}
	case !j.boundaryOK:
		return Verdict{Reason: DeniedByBoundary}
	case !j.sessionOK:
		return Verdict{Reason: DeniedBySession}
	default:
		return v
	}
}

// verdict decides when no document denies explicitly.
func (j *judge) verdict(who *Caller, p *Policies) Verdict {
	direct := func(r reach) Verdict {
		return Verdict{Allowed: true, Reason: AllowedByResource, By: j.resource.allow[r]}
	}
	byIdentity := Verdict{Allowed: true, Reason: AllowedByIdentity, By: j.identity.allow[reachSession]}
	if who.Type == CallerRoot {
		byIdentity.Reason = AllowedByRoot
	}
	if p.Resource == nil && p.IdentityOnly {
		if !j.same {
			return Verdict{Reason: DeniedCrossAccount}
		}
		return j.limits(byIdentity, true)
	}

	found := func(r reach) bool { return j.resource.allow[r].Document != "" }
	best := Verdict{Reason: DeniedByResource}
	try := func(v Verdict) bool { // keeps the denial that came closest
		if v.Allowed || best.Reason == DeniedByResource || rank(v.Reason) > rank(best.Reason) {
			best = v
		}
		return v.Allowed
	}
	outside := !j.same && who.Account != "" // services and providers have no account of their own
	if found(reachSession) {
		// Granted to the session itself: only another account's own policies limit it.
		v := direct(reachSession)
		if outside {
			v = j.limits(v, true)
		}
		if try(v) {
			return best
		}
	}
	if found(reachIdentity) {
		v := direct(reachIdentity)
		switch {
		case outside:
			v = j.limits(v, true)
		case who.Type != CallerUser:
			v = j.limits(v, false)
		}
		if try(v) {
			return best
		}
	}
	if g := p.Grant; g != nil {
		v := Verdict{Allowed: true, Reason: AllowedByGrant, Grant: g.ID}
		switch {
		case g.ToAccount:
			v = j.limits(v, true)
		case !g.ToSession && who.Type != CallerUser:
			v = j.limits(v, false)
		}
		if try(v) {
			return best
		}
	}
	if found(reachAccount) {
		byIdentity.Via = j.resource.allow[reachAccount]
		try(j.limits(byIdentity, true))
	}
	return best
}

// rank orders denials by how much was allowed before they came.
func rank(r Reason) int {
	switch r {
	case DeniedByIdentity:
		return 1
	case DeniedByBoundary:
		return 2
	case DeniedBySession:
		return 3
	default:
		return 0
	}
}
