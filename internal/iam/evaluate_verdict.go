package iam

import "strconv"

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
	var room [128]byte
	return string(r.append(room[:0]))
}

func (r StatementRef) append(b []byte) []byte {
	if r.Document == "" {
		return b
	}
	b = append(b, r.Document...)
	if r.Name != "" {
		b = append(append(b, ' '), r.Name...)
	}
	b = strconv.AppendInt(append(b, " /Statement/"...), int64(r.Index), 10)
	if r.Sid != "" {
		b = strconv.AppendQuote(append(b, ' '), r.Sid)
	}
	return b
}

// String is the verdict in one line, for logs and people.
func (v Verdict) String() string {
	switch v.Reason {
	case AllowedByResource:
		return "allowed by " + v.By.String()
	case AllowedByIdentity:
		var room [256]byte
		b := v.By.append(append(room[:0], "allowed by "...))
		if v.Via.Document != "" {
			b = append(v.Via.append(append(b, ", to which "...)), " leaves it"...)
		}
		return string(b)
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
