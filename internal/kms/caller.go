package kms

import (
	"net/netip"

	"cardea/internal/iam"
)

// Caller is who makes a request and how. The Subject comes from the transport's
// authentication; nil is an anonymous caller, who may do nothing.
type Caller struct {
	*iam.Subject
	Auth      string // how it was authenticated: sigv4, operator, internal, none
	Region    string // whose endpoint was asked: the Region of the signature's scope
	RequestID string
	IP        netip.Addr
	UserAgent string
	TLS       string // version and cipher suite, empty without TLS

	system   string // name of the job, for the service itself
	operator string // name of a person at the host's command line
}

var anonymous = &iam.Subject{Caller: iam.Caller{Type: iam.CallerAnonymous}}

func (c *Caller) subject() *iam.Subject {
	if c.Subject == nil {
		return anonymous
	}
	return c.Subject
}

// account is the caller's account.
func (c *Caller) account() string { return c.subject().Caller.Account }

// Operator is a person at the command line of the host, in an account and Region.
// No policy speaks of it; it can do nothing but what Service offers to operators.
func Operator(name, region, account string) Caller {
	return Caller{Subject: &iam.Subject{Caller: iam.Caller{Type: iam.CallerAnonymous, Account: account}}, Auth: "operator", Region: region, operator: name}
}

// system is the service acting by itself, which needs no policy.
func system(job, region, account string) Caller {
	return Caller{
		Subject: &iam.Subject{Caller: iam.Caller{Type: iam.CallerService, Account: account, Services: []string{"kms.amazonaws.com"}}},
		Auth:    "internal", Region: region, system: job,
	}
}
