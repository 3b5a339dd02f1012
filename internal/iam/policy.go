package iam

import (
	"errors"
	"slices"
)

// Limits of a policy document. The first is AWS's; the others bound the work of
// deciding by one, and no document of that size comes near them in practice.
const (
	MaxPolicyBytes = 32768 // as sent, in bytes (KMS: "32 KB")
	maxStatements  = 500
	maxValues      = 4096 // in one list: principals, actions, resources, values of a condition
	maxConditions  = 256  // operators times keys in one statement
)

// ErrPolicyTooLarge says that a document is longer than MaxPolicyBytes. The KMS
// API answers it with LimitExceededException, not with a malformed document.
var ErrPolicyTooLarge = errors.New("policy document is longer than 32768 bytes")

// MalformedPolicyError says where a document is not a policy and why.
type MalformedPolicyError struct {
	Pointer string // RFC 6901: "/Statement/0/Effect"; empty for the document itself
	Problem string
}

func (e *MalformedPolicyError) Error() string {
	if e.Pointer == "" {
		return "malformed policy document: " + e.Problem
	}
	return "malformed policy document at " + e.Pointer + ": " + e.Problem
}

// PolicyKind is what a document is for; each kind has its own required and
// forbidden elements.
type PolicyKind uint8

const (
	// KeyPolicy is the policy of a key: it names principals. A statement without
	// Action or without Resource is accepted and has no effect, as in AWS KMS.
	KeyPolicy PolicyKind = iota + 1
	// IdentityPolicy is a policy of a user, group or role, a permissions boundary or
	// a session policy: it names no principals, and Sids are unique.
	IdentityPolicy
	// TrustPolicy is a role's policy of who may assume it: it names principals and
	// no resource.
	TrustPolicy
)

// Effect is what a statement does where it applies.
type Effect string

// The effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy as data, in the canonical form of its parts.
type Document struct {
	Version    string // "2012-10-17", "2008-10-17" or empty, which means the latter
	ID         string
	Statements []Statement
}

// Statement is one statement of a document. A list and its Not counterpart are
// never both set.
type Statement struct {
	Sid                       string
	Effect                    Effect
	Principals, NotPrincipals []PolicyPrincipal // both empty in an identity policy
	Actions, NotActions       []string
	Resources, NotResources   []string
	Conditions                []Condition // sorted by operator, then key
}

// Condition is one operator and key of a statement with the values it compares with.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// Policy is a parsed and compiled document. It does not change and is safe for
// concurrent use; parse once and keep it.
type Policy struct {
	kind       PolicyKind
	doc        Document
	statements []statement
	keys       []string // lower-case names of all condition keys, sorted
}

// Kind is the kind the document was parsed as.
func (p *Policy) Kind() PolicyKind { return p.kind }

// Document is the policy as data. It is shared: do not change it.
func (p *Policy) Document() *Document { return &p.doc }

// Uses reports whether a condition or variable of the policy refers to the key,
// named in any case of letters. So values that are costly to find need not be
// found when no policy asks for them.
func (p *Policy) Uses(key string) bool {
	_, found := slices.BinarySearch(p.keys, lowered(key))
	return found
}

// Inert reports whether the statement has no effect for lack of an Action or a
// Resource (key policies only).
func (s *Statement) Inert() bool {
	return len(s.Actions)+len(s.NotActions) == 0 || len(s.Resources)+len(s.NotResources) == 0
}
