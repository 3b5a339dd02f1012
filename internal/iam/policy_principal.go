package iam

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// PrincipalKind is what a principal of a policy names.
type PrincipalKind string

// The kinds of principals of a policy.
const (
	PrincipalEveryone    PrincipalKind = "Everyone"      // "*"
	PrincipalAccount     PrincipalKind = "Account"       // an account: its identity policies may decide
	PrincipalUser        PrincipalKind = "User"          // an IAM user
	PrincipalRole        PrincipalKind = "Role"          // a role, and so all its sessions
	PrincipalRoleSession PrincipalKind = "RoleSession"   // one session of a role
	PrincipalFederated   PrincipalKind = "FederatedUser" // a session of GetFederationToken
	PrincipalService     PrincipalKind = "Service"       // a service
	PrincipalProvider    PrincipalKind = "Provider"      // those an identity provider vouches for
	PrincipalUniqueID    PrincipalKind = "UniqueID"      // a user or role by id, as AWS shows one that was deleted
)

// PolicyPrincipal is a principal of a policy in canonical form. An account is
// always written as the ARN of its root.
type PolicyPrincipal struct {
	Kind  PrincipalKind `json:"kind"`
	Value string        `json:"value"`
}

// Account is the id of the account that the principal belongs to, or empty.
func (p PolicyPrincipal) Account() string {
	if f, ok := splitARN(p.Value); ok {
		return f[4]
	}
	return ""
}

var errPrincipal = errors.New(`must be "*", an account id, or the ARN of an account's root, a user, a role or a session, in full`)

// ParseAWSPrincipal parses one principal of a policy's AWS member: "*", an account,
// a unique id, or an ARN in full. The error says what is wanted, and never repeats s.
//
// Source: IAM User Guide, AWS JSON policy elements: Principal.
func ParseAWSPrincipal(s string) (PolicyPrincipal, error) {
	switch {
	case s == "*":
		return PolicyPrincipal{PrincipalEveryone, s}, nil
	case isAccount(s):
		return PolicyPrincipal{PrincipalAccount, "arn:aws:iam::" + s + ":root"}, nil
	case isUniqueID(s):
		return PolicyPrincipal{PrincipalUniqueID, s}, nil
	}
	a, err := ParseARN(s)
	if err != nil || !strings.HasPrefix(a.Partition, "aws") || a.Region != "" || !isAccount(a.Account) || strings.ContainsAny(s, "*? ") {
		return PolicyPrincipal{}, errPrincipal
	}
	kind, name, _ := strings.Cut(a.Resource, "/")
	p := PolicyPrincipal{Value: s}
	switch {
	case a.Service == "iam" && a.Resource == "root":
		p.Kind = PrincipalAccount
	case name == "" || strings.HasSuffix(name, "/"):
		return PolicyPrincipal{}, errPrincipal
	case a.Service == "iam" && kind == "user":
		p.Kind = PrincipalUser
	case a.Service == "iam" && kind == "role":
		p.Kind = PrincipalRole
	case a.Service == "sts" && kind == "assumed-role" && strings.Count(name, "/") == 1:
		p.Kind = PrincipalRoleSession
	case a.Service == "sts" && kind == "federated-user":
		p.Kind = PrincipalFederated
	default:
		return PolicyPrincipal{}, errPrincipal
	}
	return p, nil
}

// isUniqueID reports whether s looks like the id of a user (AIDA…) or role (AROA…).
func isUniqueID(s string) bool {
	if len(s) < 16 || len(s) > 128 || !strings.HasPrefix(s, "AIDA") && !strings.HasPrefix(s, "AROA") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// parseService parses one principal of the Service type.
func parseService(s string) (PolicyPrincipal, error) {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return PolicyPrincipal{}, errors.New("must be the name of a service, as s3.amazonaws.com")
		}
	}
	if !strings.Contains(s, ".") {
		return PolicyPrincipal{}, errors.New("must be the name of a service, as s3.amazonaws.com")
	}
	return PolicyPrincipal{PrincipalService, s}, nil
}

// parseProvider parses one principal of the Federated type.
func parseProvider(s string) (PolicyPrincipal, error) {
	if s == "" || len(s) > maxARN || strings.ContainsAny(s, "*? ") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return PolicyPrincipal{}, errors.New("must be the name or ARN of an identity provider, in full")
	}
	return PolicyPrincipal{PrincipalProvider, s}, nil
}

// Principals are the distinct principals that the policy's statements with this
// effect name, sorted: those of Principal or, if not is true, of NotPrincipal.
func (p *Policy) Principals(effect Effect, not bool) []PolicyPrincipal {
	var out []PolicyPrincipal
	for i := range p.doc.Statements {
		s := &p.doc.Statements[i]
		if s.Effect != effect {
			continue
		}
		if not {
			out = append(out, s.NotPrincipals...)
		} else {
			out = append(out, s.Principals...)
		}
	}
	slices.SortFunc(out, func(a, b PolicyPrincipal) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return slices.Compact(out)
}

// reach is how a statement's principals reach a caller. A higher reach is less
// limited by the caller's own policies.
type reach uint8

const (
	reachNone     reach = iota
	reachAccount        // the caller's account is named: its identity policies decide
	reachIdentity       // the user or role is named
	reachSession        // the session itself is named, or everyone
	numReach
)

// principalSet is a compiled list of principals. The lists are sorted.
type principalSet struct {
	everyone  bool
	arns      []string // users, roles, sessions
	accounts  []string // by their 12 digits: partitions do not matter
	ids       []string
	services  []string
	providers []string
}

func compilePrincipals(list []PolicyPrincipal) principalSet {
	var s principalSet
	for _, p := range list {
		switch p.Kind {
		case PrincipalEveryone:
			s.everyone = true
		case PrincipalAccount:
			s.accounts = append(s.accounts, p.Account())
		case PrincipalService:
			s.services = append(s.services, p.Value)
		case PrincipalProvider:
			s.providers = append(s.providers, p.Value)
		case PrincipalUniqueID:
			s.ids = append(s.ids, p.Value)
		default:
			s.arns = append(s.arns, p.Value)
		}
	}
	for _, l := range [][]string{s.arns, s.accounts, s.ids, s.services, s.providers} {
		slices.Sort(l)
	}
	return s
}

func has(sorted []string, s string) bool {
	_, found := slices.BinarySearch(sorted, s)
	return s != "" && found
}

// named are the ways in which a set names a caller.
func (s *principalSet) named(c *Caller) (account, identity, session bool) {
	switch c.Type {
	case CallerService:
		for _, name := range c.Services {
			session = session || has(s.services, name)
		}
	case CallerProvider:
		session = has(s.providers, c.Provider)
	default:
		account = has(s.accounts, c.Account)
		id, _, _ := strings.Cut(c.ID, ":")
		identity = has(s.arns, c.ARN) || has(s.ids, id)
		session = has(s.arns, c.Session)
	}
	return account, identity, session
}

// reach is how a Principal element with this set reaches the caller.
func (s *principalSet) reach(c *Caller) reach {
	if s.everyone {
		return reachSession
	}
	account, identity, session := s.named(c)
	switch {
	case session:
		return reachSession
	case identity, account && c.Type == CallerRoot:
		return reachIdentity
	case account:
		return reachAccount
	default:
		return reachNone
	}
}

// reachNot is how a NotPrincipal element with this set reaches the caller. In a
// Deny only a caller is spared whose account, identity and session are all named,
// as AWS's guide demands; in an Allow one of them named is enough to leave it out.
func (s *principalSet) reachNot(c *Caller, effect Effect) reach {
	account, identity, session := s.named(c)
	spared := account || identity || session
	if effect == Deny {
		switch c.Type {
		case CallerService, CallerProvider:
			spared = session
		case CallerRoot:
			spared = account
		case CallerUser:
			spared = account && identity
		default:
			spared = account && identity && session
		}
	}
	if spared || s.everyone {
		return reachNone
	}
	return reachIdentity
}
