// Package iam says who acts and what that principal may do. Everything is denied
// that is not allowed.
//
// It is a leaf of pure functions: it knows no transport, no store and no clock.
package iam

import (
	"net/netip"
	"strings"
)

// Type is the kind of a principal.
type Type string

// The kinds of principals. The audit log names them by these words.
const (
	TypeAnonymous Type = "anonymous" // not authenticated; may do nothing
	TypeTenant    Type = "tenant"    // a tenant's application, by JWS, client certificate or loopback
	TypeCustodian Type = "custodian" // a key custodian, by bearer token
	TypeOperator  Type = "operator"  // a person at the command line of the host
	TypeSystem    Type = "system"    // Cardea itself: sweeper, key creation
)

// Principal is an authenticated actor with what it is allowed. It is always an
// argument, never a context value. The zero value is anonymous and may do nothing.
type Principal struct {
	Type   Type
	Name   string     // unique within Type and Tenant
	Tenant string     // the tenant it belongs to; empty for operator and system
	Auth   string     // how it was authenticated: jws, mtls, loopback, bearer, internal, none
	IP     netip.Addr // where the request came from; invalid if it did not come over a network

	// Merchants and Actions limit a tenant's client: each is a list of names in
	// which * stands for any run of characters. Empty means none.
	Merchants []string
	Actions   []string
}

// Anonymous is the principal of a request that could not be authenticated.
func Anonymous(ip netip.Addr) Principal {
	return Principal{Type: TypeAnonymous, Name: "anonymous", Auth: "none", IP: ip}
}

// System is Cardea acting by itself, in the named job.
func System(job string) Principal {
	return Principal{Type: TypeSystem, Name: job, Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
}

// Request is what a principal asks for.
type Request struct {
	Action   string // for example "card:Store"
	Tenant   string
	Merchant string // merchant or entity; empty where the action names none
}

// Decision is the answer to a Request. Reason is fit for the audit log.
type Decision struct {
	Allowed bool
	Reason  string
}

func deny(reason string) Decision { return Decision{Reason: reason} }

// Evaluate decides r for p. System principals act for any tenant; all others
// only for their own.
func Evaluate(p Principal, r Request) Decision {
	switch p.Type {
	case TypeTenant, TypeCustodian, TypeOperator, TypeSystem:
	case TypeAnonymous:
		return deny("not authenticated")
	default:
		return deny("unknown principal type")
	}
	if p.Type != TypeSystem && p.Type != TypeOperator && (p.Tenant == "" || p.Tenant != r.Tenant) {
		return deny("principal belongs to another tenant")
	}
	if !matchAny(p.Actions, r.Action) {
		return deny("action is not among the principal's actions")
	}
	if r.Merchant != "" && !matchAny(p.Merchants, r.Merchant) {
		return deny("merchant is not among the principal's merchants")
	}
	return Decision{Allowed: true, Reason: "allowed"}
}

func matchAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if p == "*" || Match(p, s) {
			return true
		}
	}
	return false
}

// Match reports whether s matches pattern, in which * stands for any run of
// characters, also none. It takes time proportional to len(pattern)*len(s) at
// the most and is case-sensitive.
func Match(pattern, s string) bool {
	head, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
