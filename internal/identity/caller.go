package identity

import (
	"net/netip"

	"cardea/internal/iam"
)

// Caller is who makes a request and how. A request that was signed has the Subject
// that the transport's authentication found; an operator at the command line, or
// Cardea itself, has none and is the Operator. With neither it is anonymous, and
// may do nothing.
type Caller struct {
	*iam.Subject
	Operator  iam.Principal // of type operator or system; looked at only if Subject is nil
	Auth      string        // how a Subject was authenticated: sigv4, none
	Region    string        // whose endpoint was asked; empty means Options.Region
	RequestID string
	IP        netip.Addr
	UserAgent string
	TLS       string // version and cipher suite, empty without TLS
}

// ByOperator is the caller for a person at the command line of the host.
func ByOperator(p iam.Principal) Caller { return Caller{Operator: p, Auth: p.Auth, IP: p.IP} }

var anonymous = &iam.Subject{Caller: iam.Caller{Type: iam.CallerAnonymous}}

func (c *Caller) subject() *iam.Subject {
	if c.Subject == nil {
		return anonymous
	}
	return c.Subject
}

// account is the caller's account; empty for an operator.
func (c *Caller) account() string { return c.subject().Caller.Account }

// administers reports whether the caller is one of the host's: no policy speaks of it.
func (c *Caller) administers() bool {
	return c.Subject == nil && (c.Operator.Type == iam.TypeOperator || c.Operator.Type == iam.TypeSystem)
}
