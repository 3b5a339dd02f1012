package lockerapi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// CustodianAuth tells custodians apart and keeps guessers out. It is safe for
// concurrent use.
type CustodianAuth interface {
	// Authenticate returns the name of the tenant's custodian whose token this is.
	// Errors: *custodian.RateLimitedError and *custodian.LockedOutError, which are
	// answered by 429, and custodian.ErrMalformedToken, ErrBadToken and ErrExpired,
	// which are answered by 401.
	Authenticate(ctx context.Context, tenant string, token secret.Bytes, ip netip.Addr) (name string, err error)
	// Submitted is told whether a part that the custodian gave was a right one.
	Submitted(tenant, name string, right bool)
}

// GuardedCustodians is CustodianAuth made of a guard and stored credentials.
type GuardedCustodians struct {
	Guard *custodian.Guard
	// Credentials are a tenant's, as vault.Custody returns them.
	Credentials func(ctx context.Context, tenant string) ([]custodian.Credential, error)
	Now         func() time.Time
}

// Authenticate implements CustodianAuth. An address is counted until the token
// is found right, the custodian from then on.
func (g *GuardedCustodians) Authenticate(ctx context.Context, tenant string, token secret.Bytes, ip netip.Addr) (string, error) {
	if err := g.Guard.Allow(tenant, ip.String()); err != nil {
		return "", err
	}
	credentials, err := g.Credentials(ctx, tenant)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return "", fmt.Errorf("custodian credentials: %w", err)
	}
	c, err := custodian.Authenticate(credentials, tenant, token, g.Now())
	if err != nil {
		g.Guard.Fail(tenant, ip.String())
		return "", err
	}
	g.Guard.Success(tenant, ip.String())
	if err := g.Guard.Allow(tenant, subjectOf(c.Name)); err != nil {
		return "", err
	}
	return c.Name, nil
}

// Submitted implements CustodianAuth.
func (g *GuardedCustodians) Submitted(tenant, name string, right bool) {
	if right {
		g.Guard.Success(tenant, subjectOf(name))
	} else {
		g.Guard.Fail(tenant, subjectOf(name))
	}
}

// subjectOf is how a custodian is counted, apart from all addresses.
func subjectOf(name string) string { return "custodian/" + name }

// noCustodians stands in where nobody may unlock over HTTP.
type noCustodians struct{}

func (noCustodians) Authenticate(context.Context, string, secret.Bytes, netip.Addr) (string, error) {
	return "", custodian.ErrBadToken
}

func (noCustodians) Submitted(string, string, bool) {}
