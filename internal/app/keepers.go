package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"cardea/internal/config"
	"cardea/internal/hsm/pkcs11"
	"cardea/internal/keymanager"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// keepers are what keeps the tenants' keys of modes pkcs11 and external.
type keepers struct {
	hsm      map[string]keymanager.HSMKey
	external map[string]*keymanager.Service
}

// keepersOf are as configured; what is so already stays. It asks nobody yet.
func (n *Node) keepersOf(cfg config.Config) (keepers, error) {
	k := keepers{map[string]keymanager.HSMKey{}, map[string]*keymanager.Service{}}
	for name, t := range cfg.Tenants {
		if t.PKCS11.Enabled() {
			if !pkcs11.Built {
				return k, fmt.Errorf("tenants.%s.pkcs11: %w", name, pkcs11.ErrNotBuilt)
			}
			where := pkcs11.Token{Library: t.PKCS11.Module, Label: t.PKCS11.Token}
			k.hsm[name] = keymanager.HSMKey{
				HSM: n.tokenOf(where, t.PKCS11.PIN), Label: t.PKCS11.KeyLabel,
				URI: "pkcs11:token=" + url.PathEscape(t.PKCS11.Token) + ";object=" + url.PathEscape(t.PKCS11.KeyLabel),
			}
		}
		if t.External.Enabled() {
			s, err := externalService(name, t.External)
			if err != nil {
				return k, fmt.Errorf("tenants.%s.external: %w", name, err)
			}
			k.external[name] = s
		}
	}
	return k, nil
}

// applyKeepers makes k the ones that are used.
func (n *Node) applyKeepers(k keepers) {
	n.hsmTenants.Replace(k.hsm)
	for name, was := range n.externalTenants.Replace(k.external) {
		if k.external[name] == nil {
			n.keys.Forget(name)
		}
		was.Close()
	}
	n.tokensMu.Lock()
	defer n.tokensMu.Unlock()
	for i := len(n.tokens) - 1; i >= 0; i-- {
		used := false
		for _, h := range k.hsm {
			used = used || h.HSM == n.tokens[i]
		}
		if !used {
			n.tokens[i].close()
			n.tokens = append(n.tokens[:i], n.tokens[i+1:]...)
		}
	}
}

func externalService(tenant string, e config.TenantExternal) (*keymanager.Service, error) {
	o := keymanager.ServiceOptions{URL: e.URL, Timeout: e.Timeout.Duration}
	var err error
	if e.CAFile != "" {
		if o.RootCAs, err = os.ReadFile(e.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
	}
	if e.CertFile != "" {
		c, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		o.Certificate = &c
	}
	if e.Credentials.Present() {
		o.Credentials = secret.Copy(e.Credentials.Expose())
	}
	return keymanager.NewService(tenant, o)
}

// tokenOf is the one for a token and PIN, of which there is one each.
func (n *Node) tokenOf(where pkcs11.Token, pin secret.Bytes) *lazyToken {
	n.tokensMu.Lock()
	defer n.tokensMu.Unlock()
	for _, t := range n.tokens {
		if t.where == where && bytes.Equal(t.pin.Expose(), pin.Expose()) { // both are the operator's
			return t
		}
	}
	t := &lazyToken{where: where, pin: secret.Copy(pin.Expose()), o: pkcs11.Options{Now: n.now}, now: n.now}
	n.tokens = append(n.tokens, t)
	return t
}

// lazyToken is a token that is logged in to when it is first needed, and again if it
// could not be reached then.
type lazyToken struct {
	where pkcs11.Token
	pin   secret.Bytes
	o     pkcs11.Options
	now   func() time.Time

	mu     sync.Mutex // guards all below, held during a login
	b      *pkcs11.Backend
	failed error
	retry  time.Time // no login before; never again if failed and zero
}

// tokenRetry is how long a token that could not be reached is left alone.
const tokenRetry = time.Second

var errTokenClosed = errors.New("the token is no longer configured")

func (t *lazyToken) backend(ctx context.Context) (*pkcs11.Backend, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b != nil || t.failed != nil && (t.retry.IsZero() || t.now().Before(t.retry)) {
		return t.b, t.failed
	}
	login, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	b, err := pkcs11.Open(login, t.where, t.pin, t.o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		if err = fmt.Errorf("token %q: %w", t.where.Label, err); comesBack(err) {
			t.retry = t.now().Add(tokenRetry)
			err = fmt.Errorf("%w: %w", kms.ErrDeviceLost, err)
		} else {
			t.retry = time.Time{} // another try with a PIN that was refused would lock its user out
		}
		t.failed = err
		return nil, err
	}
	t.b, t.failed = b, nil
	return b, nil
}

// SealUnder implements keymanager.HSM.
func (t *lazyToken) SealUnder(ctx context.Context, label string, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	b, err := t.backend(ctx)
	if err != nil {
		return nil, err
	}
	return b.SealUnder(ctx, label, aad, plaintext)
}

// OpenUnder implements keymanager.HSM.
func (t *lazyToken) OpenUnder(ctx context.Context, label string, aad, sealed []byte) (secret.Bytes, error) {
	b, err := t.backend(ctx)
	if err != nil {
		return secret.Bytes{}, err
	}
	return b.OpenUnder(ctx, label, aad, sealed)
}

func (t *lazyToken) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b != nil {
		t.b.Close() //nolint:errcheck // of a token it has none
		t.b = nil
	}
	t.failed, t.retry = errTokenClosed, time.Time{}
	t.pin.Destroy()
}
