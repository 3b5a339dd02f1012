package app

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/keymanager"
	"cardea/internal/lockerapi"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// applyTenants makes the tenants of cfg the ones that are served: in the vault, in
// the API, and in the keeper of their master keys. What can be wrong is found
// before anything changes.
func (n *Node) applyTenants(ctx context.Context, cfg config.Config) error {
	api := map[string]lockerapi.TenantConfig{}
	seals := map[string]custodian.Source{}
	keys := map[string]keymanager.KMSKeys{}
	var domain []vault.Tenant
	for name, t := range cfg.Tenants {
		c, err := apiTenant(t, cfg.Limits)
		if err == nil {
			seals[name], err = n.sealOf(ctx, name, t)
		}
		if err == nil && t.KMS.Enabled() {
			keys[name], err = kmsKeys(t.KMS)
		}
		if err != nil {
			return fmt.Errorf("tenants.%s: %w", name, err)
		}
		api[name] = c
		mode, _ := vault.ParseMode(t.Mode) // a mode that is not known is not served
		domain = append(domain, vault.Tenant{Name: name, Mode: mode, LazyHolders: t.LazyHolders, HashesInKMS: t.KMS.MACKeyID != ""})
	}
	k, err := n.keepersOf(cfg)
	if err != nil {
		return err
	}
	serve, err := n.api.ReadyTenants(api)
	if err != nil {
		return fmt.Errorf("tenants: %w", err)
	}
	before := n.gate.Tenants.Names()
	n.applyKMS(keys)
	n.applyKeepers(k)
	modes := map[string]vault.Mode{}
	for _, name := range before {
		if t, err := n.gate.Tenants.Tenant(name); err == nil {
			modes[name] = t.Mode
		}
	}
	n.gate.Tenants.Replace(domain...)
	for _, t := range domain {
		if was, known := modes[t.Name]; known && was != t.Mode {
			n.keys.Forget(t.Name) // and make the next keys in the new mode at once
		}
	}
	for _, name := range before {
		if _, stays := cfg.Tenants[name]; !stays {
			n.keeper.Remove(name)
			n.forgetTenant(name)
		}
	}
	for name, seal := range seals {
		if err := n.takeUp(ctx, name, seal); err != nil {
			return fmt.Errorf("tenants.%s: %w", name, err)
		}
	}
	serve() // last, since a new tenant that is known but has no master key yet would answer that it is locked
	now := slices.Sorted(maps.Keys(cfg.Tenants))
	if slices.Equal(before, now) {
		return nil
	}
	return n.gate.Record(ctx, iam.System("node"), vault.OpTenantsLd, vault.Target{}, "loaded", fmt.Sprintf("tenants %v", now))
}

// sealOf is where a tenant's master key comes from. A tenant whose custodians have
// not been made yet stays locked; one in a KMS needs none.
func (n *Node) sealOf(ctx context.Context, name string, t config.Tenant) (custodian.Source, error) {
	switch {
	case t.MasterKey.Present():
		return plainMaster{t.MasterKey}, nil
	case t.SealedMasterKey.Present():
		return LockerSeal(t)
	case t.Unseal == config.UnsealPKCS11:
		return n.tokenSeal(ctx, name)
	}
	s, err := n.ceremonies.Seal(ctx, name)
	if errors.Is(err, vault.ErrNotFound) {
		switch mode, _ := vault.ParseMode(t.Mode); {
		case inKMS(mode):
			return nil, nil //nolint:nilnil // it needs none
		case n.makesCustodians:
		case name == config.KeyServiceTenant:
			n.log.WarnContext(ctx, "key service has no root key yet: make one with 'cardea custodian init --tenant key-service'")
		default:
			n.log.WarnContext(ctx, "tenant has no master key yet: make one with 'cardea custodian init'", slog.String("tenant", name))
		}
		return noSeal{name}, nil
	}
	if errors.Is(err, custodian.ErrTokenSeal) {
		err = fmt.Errorf("%w: key_service.unseal must be %q", err, config.UnsealPKCS11)
	}
	return s, err
}

// takeUp gives a tenant its seal. A master key that stands in a file needs no
// custodians.
func (n *Node) takeUp(ctx context.Context, name string, seal custodian.Source) error {
	if seal == nil {
		n.keeper.Remove(name)
		return nil
	}
	if u, ok := seal.(unsealed); ok {
		return n.takeUpUnsealed(ctx, name, u)
	}
	if err := n.keeper.SetTenant(name, seal); err != nil {
		return err
	}
	_, suspended := n.gate.Tenants.Suspended(name)
	if _, plain := seal.(plainMaster); plain && !suspended {
		if err := n.keeper.Unlock(name); err != nil && !errors.Is(err, custodian.ErrUnlocked) {
			return err
		}
	}
	if !n.keeper.Unlocked(name) { // perhaps since now: the seal may be of another master key
		n.keys.ForgetMode(name, vault.ModeLocal)
		n.forget()
	}
	return nil
}

// forgetTenant wipes the tenant's keys in clear, whatever has opened them.
func (n *Node) forgetTenant(name string) {
	n.keys.Forget(name)
	n.forget()
}

// LockerSeal is the master key that the Hyperswitch locker sealed, of a tenant that
// has one in its configuration.
func LockerSeal(t config.Tenant) (custodian.HyperswitchSeal, error) {
	text := secret.New(hex.AppendEncode(nil, t.SealedMasterKey.Expose()))
	defer text.Destroy()
	return custodian.NewHyperswitchSeal(text)
}

// refreshSeals takes up the seals that 'cardea custodian init' and 'rekey' made
// since the last time.
func (n *Node) refreshSeals(ctx context.Context) {
	for name := range n.current().Tenants {
		n.refreshSeal(ctx, name)
	}
}

// refreshSeal keeps a reload out from when it reads how the tenant is configured until
// the seal is taken up: that of a configuration before would lock the tenant.
func (n *Node) refreshSeal(ctx context.Context, name string) {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	t, served := n.current().Tenants[name]
	if !served || t.MasterKey.Present() || t.SealedMasterKey.Present() {
		return
	}
	if t.Unseal == config.UnsealPKCS11 {
		n.refreshToken(ctx, name)
		return
	}
	s, err := n.ceremonies.Seal(ctx, name)
	if err == nil {
		err = n.takeUp(ctx, name, s)
	}
	if err != nil && !errors.Is(err, vault.ErrNotFound) && ctx.Err() == nil {
		n.log.WarnContext(ctx, "seal not read, the one in memory stays", slog.String("tenant", name), slog.Any("error", err))
	}
}

// TakeUpSeals makes the keeper use the seals as they are in the store now.
func (n *Node) TakeUpSeals(ctx context.Context) error {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	for name, t := range n.current().Tenants {
		seal, err := n.sealOf(ctx, name, t)
		if err == nil {
			err = n.takeUp(ctx, name, seal)
		}
		if err != nil {
			return fmt.Errorf("tenants.%s: %w", name, err)
		}
	}
	return nil
}

// plainMaster is a master key that stands in a file, without custodians.
type plainMaster struct{ key secret.Bytes }

func (plainMaster) Info() custodian.Info       { return custodian.Info{} }
func (plainMaster) Check(custodian.Part) error { return errors.New("this tenant has no custodians") }

func (p plainMaster) Open([]custodian.Part) (secret.Bytes, error) {
	return secret.Copy(p.key.Expose()), nil
}

// noSeal is a tenant whose custodians have not been made.
type noSeal struct{ tenant string }

func (s noSeal) err() error {
	hint := "has no master key yet: make one with 'cardea custodian init'"
	if s.tenant == config.KeyServiceTenant {
		hint = "has no root key yet: make one with 'cardea custodian init --tenant key-service'"
	}
	return &vault.ValidationError{Field: "tenant", Reason: hint}
}

func (s noSeal) Info() custodian.Info {
	return custodian.Info{Tenant: s.tenant, Form: custodian.FormShares, Threshold: 1}
}
func (s noSeal) Check(custodian.Part) error { return s.err() }

func (s noSeal) Open([]custodian.Part) (secret.Bytes, error) { return secret.Bytes{}, s.err() }

// lockingKeeper wipes a tenant's keys in clear when it is locked.
type lockingKeeper struct {
	*custodian.Keeper
	node *Node
}

// Lock implements vault.Custodians.
func (k lockingKeeper) Lock(tenant string) error {
	err := k.Keeper.Lock(tenant)
	k.node.forgetTenant(tenant)
	return err
}

func apiTenant(t config.Tenant, l config.Limits) (lockerapi.TenantConfig, error) {
	c := lockerapi.TenantConfig{Envelope: lockerapi.Envelope(t.Envelope)}
	if l.DeletePerSecond > 0 {
		c.DeleteLimit = lockerapi.DeleteLimit{Requests: l.DeleteBurst, Per: time.Duration(float64(l.DeleteBurst) / l.DeletePerSecond * float64(time.Second))}
		c.DeleteLimit.Per = max(c.DeleteLimit.Per, 1)
	}
	for _, x := range t.Clients {
		c.Clients = append(c.Clients, lockerapi.Client{Name: x.Name, SHA256: x.FingerprintSHA256, CommonName: x.SubjectCN, Merchants: x.Merchants, Actions: x.Actions})
	}
	if c.Envelope != lockerapi.EnvelopeJWE {
		return c, nil
	}
	key, err := lockerapi.ParsePublicKey(t.PublicKeyPEM)
	if err != nil {
		return c, fmt.Errorf("public_key_file: %w", err)
	}
	c.ClientKey = key
	c.ResponseKeyAlgorithm, c.ResponseSignature = t.ResponseKeyAlgorithm, t.ResponseSignature
	c.Replay = lockerapi.ReplayPolicy{Window: t.ReplayWindow.Duration}
	return c, nil
}

func lockerKeys(cfg config.Config) (lockerapi.ServerKeys, error) {
	var keys []crypto.PrivateKey
	if cfg.Locker.PrivateKeyPEM.Present() {
		k, err := lockerapi.ParsePrivateKey(cfg.Locker.PrivateKeyPEM)
		if err != nil {
			return lockerapi.ServerKeys{}, fmt.Errorf("locker.private_key_file: %w", err)
		}
		keys = append(keys, k)
	}
	return lockerapi.NewServerKeys(keys...)
}

func tlsOptions(t config.TLS) *httpd.TLSOptions {
	if !t.Enabled() {
		return nil
	}
	o := &httpd.TLSOptions{CertificateFile: t.CertificateFile, PrivateKeyFile: t.PrivateKeyFile, ClientCAFile: t.ClientCAFile}
	switch t.ClientCertificates {
	case config.ClientCertificatesOptional:
		o.ClientCertificates = httpd.ClientCertificatesOptional
	case config.ClientCertificatesRequired:
		o.ClientCertificates = httpd.ClientCertificatesRequired
	}
	return o
}
