package iam

import (
	"strconv"
	"strings"
	"time"
)

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
}

// Reason says in a word why a request is allowed or denied. The words are stable:
// the audit log and metrics use them.
type Reason string

// The reasons.
const (
	AllowedByResource Reason = "allowed_by_resource_policy" // By
	AllowedByIdentity Reason = "allowed_by_identity_policy" // By; Via is the resource policy's statement that lets identity policies decide
	AllowedByRoot     Reason = "allowed_as_root"            // no resource policy to ask, and the caller is the account's root user
	AllowedByGrant    Reason = "allowed_by_grant"           // Grant

	DeniedExplicitly   Reason = "explicit_deny"          // By
	DeniedByResource   Reason = "no_resource_policy"     // neither the resource policy nor a grant allows it or lets identity policies decide
	DeniedByIdentity   Reason = "no_identity_policy"     // identity policies decide, and none allows it
	DeniedByBoundary   Reason = "no_permission_boundary" // all but the permissions boundary allows it
	DeniedBySession    Reason = "no_session_policy"      // all but the session policies allow it
	DeniedAnonymous    Reason = "not_authenticated"
	DeniedCrossAccount Reason = "other_account" // the action has no resource policy that could let another account in
	DeniedMisuse       Reason = "wrong_policy"  // a policy of the wrong kind was given: a mistake in the code that asked
)

// Verdict is a decision and what decided it. It is a value without pointers into
// the policies but their strings.
type Verdict struct {
	Allowed bool
	Reason  Reason
	By      StatementRef // the deciding statement; zero if no statement decided
	Via     StatementRef // see AllowedByIdentity
	Grant   string
}

// DocumentRole is what a policy was asked as.
type DocumentRole string

// The roles of documents.
const (
	RoleResource DocumentRole = "resource policy"
	RoleIdentity DocumentRole = "identity policy"
	RoleBoundary DocumentRole = "permissions boundary"
	RoleSession  DocumentRole = "session policy"
)

// StatementRef names a statement.
type StatementRef struct {
	Document DocumentRole `json:"document,omitempty"` // empty: no statement
	Name     string       `json:"name,omitempty"`     // of an identity or session policy
	Index    int          `json:"index"`              // /Statement/Index
	Sid      string       `json:"sid,omitempty"`
	Effect   Effect       `json:"effect,omitempty"`
}

// String is the reference for people: resource policy /Statement/0 "Sid".
func (r StatementRef) String() string {
	if r.Document == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(string(r.Document))
	if r.Name != "" {
		b.WriteString(" " + r.Name)
	}
	b.WriteString(" /Statement/" + strconv.Itoa(r.Index))
	if r.Sid != "" {
		b.WriteString(" " + strconv.Quote(r.Sid))
	}
	return b.String()
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
	e.init(q)
	e.tr = tr

	var resource, identity, boundary, session scan
	docs := func() bool { // reports whether an explicit deny ends it
		if p.Resource != nil && p.Resource.scan(&e, RoleResource, "", &resource) {
			return true
		}
		for _, d := range p.Identity {
			if d.Policy.scan(&e, RoleIdentity, d.Name, &identity) {
				return true
			}
		}
		if p.Boundary != nil && p.Boundary.scan(&e, RoleBoundary, "", &boundary) {
			return true
		}
		for _, d := range p.Session {
			if d.Policy.scan(&e, RoleSession, d.Name, &session) {
				return true
			}
		}
		return false
	}
	docs()
	for _, s := range [...]*scan{&resource, &identity, &boundary, &session} {
		if s.deny.Document != "" {
			return Verdict{Reason: DeniedExplicitly, By: s.deny}
		}
	}
	root := q.Caller.Type == CallerRoot
	j := judge{
		q: q, p: p, resource: &resource, identity: &identity,
		identityOK: root || q.Caller.hasIdentityPolicies() && identity.allowed(),
		boundaryOK: root || p.Boundary == nil || boundary.allowed(),
		sessionOK:  len(p.Session) == 0 || session.allowed(),
		same:       q.Caller.Account == e.account,
	}
	return j.verdict()
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

// judge puts together what the documents say when none denies explicitly.
type judge struct {
	q                                 *Query
	p                                 *Policies
	resource, identity                *scan
	identityOK, boundaryOK, sessionOK bool
	same                              bool // caller and resource belong to one account
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

func (j *judge) verdict() Verdict {
	who := &j.q.Caller
	direct := func(r reach) Verdict {
		return Verdict{Allowed: true, Reason: AllowedByResource, By: j.resource.allow[r]}
	}
	byIdentity := Verdict{Allowed: true, Reason: AllowedByIdentity, By: j.identity.allow[reachSession]}
	if who.Type == CallerRoot {
		byIdentity.Reason = AllowedByRoot
	}
	if j.p.Resource == nil && j.p.IdentityOnly {
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
	if g := j.p.Grant; g != nil {
		v := Verdict{Allowed: true, Reason: AllowedByGrant, Grant: g.ID}
		if !g.ToSession && who.Type != CallerUser {
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

// String is the verdict in one line, for logs and people.
func (v Verdict) String() string {
	switch v.Reason {
	case AllowedByResource:
		return "allowed by " + v.By.String()
	case AllowedByIdentity:
		s := "allowed by " + v.By.String()
		if v.Via.Document != "" {
			s += ", to which " + v.Via.String() + " leaves it"
		}
		return s
	case AllowedByRoot:
		return "allowed: the caller is the account's root user"
	case AllowedByGrant:
		return "allowed by grant " + v.Grant
	case DeniedExplicitly:
		return "denied by " + v.By.String()
	case DeniedByResource:
		return "denied: neither the resource policy nor a grant allows it, nor does the policy leave it to identity policies"
	case DeniedByIdentity:
		return "denied: no identity policy allows it"
	case DeniedByBoundary:
		return "denied: the permissions boundary does not allow it"
	case DeniedBySession:
		return "denied: no session policy allows it"
	case DeniedAnonymous:
		return "denied: the caller is not authenticated"
	case DeniedCrossAccount:
		return "denied: the action cannot be used from another account"
	case DeniedMisuse:
		return "denied: a policy of the wrong kind was asked"
	default:
		return "denied"
	}
}

// AccessDeniedMessage is the text of an AccessDeniedException in AWS's words.
// It names neither statement nor policy: those are for the owner's audit log.
func (v Verdict) AccessDeniedMessage(q *Query) string {
	s := "User: " + q.Caller.Name() + " is not authorized to perform: " + q.Action
	if q.Resource != "" && q.Resource != "*" {
		s += " on resource: " + q.Resource
	}
	because := func(kind string) string { return s + " because no " + kind + " allows the " + q.Action + " action" }
	switch v.Reason {
	case DeniedExplicitly:
		kind := "a resource-based policy"
		switch v.By.Document {
		case RoleIdentity:
			kind = "an identity-based policy"
		case RoleBoundary:
			kind = "a permissions boundary"
		case RoleSession:
			kind = "a session policy"
		case RoleResource:
		}
		return s + " with an explicit deny in " + kind
	case DeniedByResource:
		return because("resource-based policy")
	case DeniedByIdentity:
		return because("identity-based policy")
	case DeniedByBoundary:
		return because("permissions boundary")
	case DeniedBySession:
		return because("session policy")
	default:
		return s
	}
}
