package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/hsm/pkcs11"
	"cardea/internal/iam"
	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// tokenTimeout is how long a token may take to unseal a root key.
const tokenTimeout = 30 * time.Second

// rootToken is the PKCS #11 token that unseals the key service's root key: at the
// start, and if it was not there then, as soon as it is. It is used by one goroutine
// at a time.
type rootToken struct {
	where pkcs11.Token
	pin   secret.Bytes
	o     pkcs11.Options

	done   bool   // it has unsealed, or never will: nothing is tried again
	failed string // why it did not, as last logged
}

func newRootToken(cfg config.Config, o Options) *rootToken {
	t := cfg.KeyService.RootToken
	return &rootToken{where: pkcs11.Token{Library: t.Library, Label: t.Token}, pin: t.PIN, o: pkcs11.Options{Sessions: 1, Now: o.Now}}
}

// unsealed is a master key that a token has unsealed, until it is taken up.
type unsealed struct {
	custodian.Source
	seal   custodian.TokenSeal
	master secret.Bytes
}

// tokenSeal is the master key of a tenant that a token unseals, which is made if
// there is none. If the token cannot be reached now, the tenant stays locked; any
// other failure is an error.
func (n *Node) tokenSeal(ctx context.Context, tenant string) (custodian.Source, error) {
	seal, err := n.ceremonies.TokenSeal(ctx, tenant)
	if errors.Is(err, vault.ErrNotFound) {
		seal, err = n.makeTokenSeal(ctx, tenant)
	}
	if errors.Is(err, custodian.ErrCustodianSeal) {
		return nil, fmt.Errorf("key_service.unseal is %q, but %w", config.UnsealPKCS11, err)
	}
	if err != nil {
		return nil, err
	}
	master, err := n.token.unseal(ctx, seal)
	switch {
	case err == nil:
		return unsealed{seal.Source(master), seal, master}, nil
	case comesBack(err):
		n.token.tell(ctx, n.log, slog.LevelWarn, "root key stays sealed: its token cannot be reached, and is tried again", err)
		return seal.Source(secret.Bytes{}), nil
	}
	return nil, err
}

func (n *Node) makeTokenSeal(ctx context.Context, tenant string) (custodian.TokenSeal, error) {
	err := n.token.use(ctx, func(ctx context.Context, d custodian.Device) error {
		return n.ceremonies.InitToken(ctx, iam.System("node"), tenant, d)
	})
	if err != nil && !errors.Is(err, vault.ErrSealed) { // by another node, just now
		return custodian.TokenSeal{}, fmt.Errorf("key_service.root_token: make root key in token %q: %w", n.token.where.Label, err)
	}
	return n.ceremonies.TokenSeal(ctx, tenant)
}

// takeUpUnsealed opens the tenant with the master key, which is wiped.
func (n *Node) takeUpUnsealed(ctx context.Context, tenant string, u unsealed) error {
	defer u.master.Destroy()
	if err := n.keeper.SetTenant(tenant, u); err != nil {
		return err
	}
	err := n.keeper.Unlock(tenant)
	switch {
	case errors.Is(err, custodian.ErrUnlocked):
		err = nil
	case err == nil:
		detail := fmt.Sprintf("by PKCS #11 token %q", n.token.where.Label)
		if err = n.gate.Record(ctx, iam.System("node"), vault.OpCustodianUnlock, vault.Target{Tenant: tenant}, "unlocked", detail); err != nil {
			err = errors.Join(err, n.keeper.Lock(tenant))
		}
	}
	n.token.done = err == nil
	return errors.Join(err, n.keeper.SetTenant(tenant, u.seal.Source(secret.Bytes{})))
}

// refreshToken tries again to unseal what a token could not unseal at the start.
// What was locked since then stays locked.
func (n *Node) refreshToken(ctx context.Context, tenant string) {
	if n.token.done {
		return
	}
	seal, err := n.tokenSeal(ctx, tenant)
	if u, ok := seal.(unsealed); ok && err == nil {
		if err = n.takeUpUnsealed(ctx, tenant, u); err == nil {
			n.log.InfoContext(ctx, "root key is unsealed", slog.String("token", n.token.where.Label))
		}
	}
	if err != nil && ctx.Err() == nil {
		n.token.done = tokenRefused(err)
		n.token.tell(ctx, n.log, slog.LevelError, "root key is not unsealed by its token", err)
	}
}

// tell logs what has not been said the last time.
func (t *rootToken) tell(ctx context.Context, log *slog.Logger, level slog.Level, message string, err error) {
	if text := err.Error(); text != t.failed {
		t.failed = text
		log.Log(ctx, level, message, //nolint:sloglint // its two callers have a literal
			slog.String("token", t.where.Label), slog.Any("error", err))
	}
}

func (t *rootToken) unseal(ctx context.Context, seal custodian.TokenSeal) (master secret.Bytes, err error) {
	err = t.use(ctx, func(ctx context.Context, d custodian.Device) error {
		master, err = seal.Unseal(ctx, d)
		return err
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("key_service.root_token: token %q: %w", t.where.Label, err)
	}
	return master, nil
}

// use logs in to the token for f alone.
func (t *rootToken) use(ctx context.Context, f func(context.Context, custodian.Device) error) error {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	b, err := pkcs11.Open(ctx, t.where, t.pin, t.o)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // what was to be done is done
	return f(ctx, b)
}

// comesBack reports whether a failure of a token can pass by itself.
func comesBack(err error) bool {
	if e, ok := errors.AsType[*kms.ConnectError](err); ok {
		return e.Code == kms.ConnectNetworkErrors || e.Code == kms.ConnectInsufficientHSMs
	}
	return errors.Is(err, kms.ErrDeviceLost) || errors.Is(err, context.DeadlineExceeded)
}

// tokenRefused reports whether the token has refused the PIN: another try would lock
// its user out.
func tokenRefused(err error) bool {
	e, ok := errors.AsType[*kms.ConnectError](err)
	return ok && e.Code != kms.ConnectNetworkErrors && e.Code != kms.ConnectInsufficientHSMs
}

// byToken reports whether a token unseals the tenant's master key.
func (n *Node) byToken(tenant string) bool {
	s, err := n.keeper.Status(tenant)
	return err == nil && s.Form == custodian.FormToken
}
