package iam

import (
	"strings"
	"time"
)

// CallerType is the kind of an identity of the key service.
type CallerType string

// The kinds of callers. The words are those of aws:PrincipalType where it has one.
const (
	CallerAnonymous CallerType = "Anonymous"     // not authenticated; may do nothing
	CallerRoot      CallerType = "Account"       // an account's root user
	CallerUser      CallerType = "User"          // an IAM user, also with temporary credentials of its own (GetSessionToken)
	CallerRole      CallerType = "AssumedRole"   // a session of a role
	CallerFederated CallerType = "FederatedUser" // a session of GetFederationToken
	CallerService   CallerType = "AWSService"    // a service that acts for itself
	CallerProvider  CallerType = "Provider"      // someone an identity provider vouches for, about to assume a role
)

// CloudTrail is the type as CloudTrail's userIdentity has it, "Unknown" for who has
// none there.
func (t CallerType) CloudTrail() string {
	switch t {
	case CallerRoot:
		return "Root"
	case CallerUser:
		return "IAMUser"
	case CallerRole:
		return "AssumedRole"
	case CallerFederated:
		return "FederatedUser"
	case CallerService:
		return "AWSService"
	case CallerAnonymous, CallerProvider:
	}
	return "Unknown"
}

// Caller is who makes a request to the key service. The zero value is anonymous
// and may do nothing. (Principal is the vault's caller.)
type Caller struct {
	Type CallerType

	// ARN is the identity: arn:…:user/path/name, arn:…:role/path/name (never the
	// session's), arn:…:root. For a federated user it is the user who federated.
	// It is empty for a service and a provider's user.
	ARN string

	// Session is the session's own ARN, arn:…:assumed-role/role/session or
	// arn:…:federated-user/name; empty for all but CallerRole and CallerFederated.
	Session string

	Account string // 12 digits; empty for a service
	ID      string // aws:userid: AIDA…, AROA…:session, the account's number for root
	Tags    []Tag  // of the user or role, and of the session

	// Issued is when the temporary credentials were issued; zero for long-term ones.
	// aws:TokenIssueTime and aws:MultiFactorAuthPresent exist only if it is set.
	Issued time.Time
	// MFA is when the caller last gave a second factor for these credentials; zero if never.
	MFA time.Time

	SourceIdentity string
	Services       []string // names of a service, the best known first: s3.amazonaws.com
	Provider       string   // ARN or name of the identity provider that vouches
}

// Tag is a tag of a user, role or session.
type Tag struct{ Key, Value string }

// Name is how messages and logs call the caller: the ARN of the session or identity.
func (c *Caller) Name() string {
	switch {
	case c.Session != "":
		return c.Session
	case c.ARN != "":
		return c.ARN
	case len(c.Services) > 0:
		return c.Services[0]
	case c.Provider != "":
		return c.Provider
	default:
		return "anonymous"
	}
}

// authenticated reports whether the caller is one that policies can speak of.
func (c *Caller) authenticated() bool {
	switch c.Type {
	case CallerRoot, CallerUser:
		return c.ARN != "" && c.Account != ""
	case CallerRole, CallerFederated:
		return c.ARN != "" && c.Account != "" && c.Session != ""
	case CallerService:
		return len(c.Services) > 0
	case CallerProvider:
		return c.Provider != ""
	default:
		return false
	}
}

// hasIdentityPolicies reports whether identity policies speak for the caller.
func (c *Caller) hasIdentityPolicies() bool {
	return c.Type == CallerUser || c.Type == CallerRole || c.Type == CallerFederated
}

// userName is the name without path of an IAM user.
func (c *Caller) userName() (string, bool) {
	if c.Type != CallerUser {
		return "", false
	}
	return c.ARN[strings.LastIndexByte(c.ARN, '/')+1:], true
}
