package app

import (
	"context"
	"errors"
	"log/slog"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// buildKeyAdmin makes what operators do to the vault's keys, and its socket.
func (n *Node) buildKeyAdmin(ctx context.Context, cfg config.Config) (err error) {
	n.keyAdmin = vault.NewKeyAdmin(vault.KeyAdminOptions{
		Gate: n.gate, Service: n.service, Store: n.store, Keys: n.keys, Custodians: vaultCustodians{lockingKeeper{n.keeper, n}},
		Policy: n.keyPolicy, Suspended: n.suspended, Resumed: n.resumed, Metrics: n.metrics,
	})
	if err := n.keyAdmin.Open(ctx); err != nil {
		return err
	}
	n.admin, err = adminapi.Listen(adminapi.Options{
		Path: cfg.Vault.AdminSocket, Vault: n.service, VaultKeys: n.keyAdmin, VaultStatus: n.vaultStatus, Logger: n.log,
	})
	return err
}

var _ vault.KeyWork = (*store.Store)(nil)

// KeyAdmin is what operators do to the vault's keys.
func (n *Node) KeyAdmin() *vault.KeyAdmin { return n.keyAdmin }

// keyPolicy is what is configured of a tenant's keys.
func (n *Node) keyPolicy(tenant string) vault.KeyPolicy {
	cfg := n.current()
	t := cfg.Tenants[tenant] // the zero one replaces nothing by itself
	return vault.KeyPolicy{Cryptoperiod: t.Cryptoperiod.Duration, MessageLimit: uint64(max(0, t.MessageLimit)), Rate: cfg.Keys.ReencryptRate}
}

// suspended wipes a tenant's master key, too. Who takes up a seal meanwhile has seen
// that the tenant is suspended, or is done.
func (n *Node) suspended(ctx context.Context, tenant string) {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	if err := n.keeper.Lock(tenant); err != nil && !errors.Is(err, custodian.ErrUnknownTenant) && !errors.Is(err, custodian.ErrLocked) {
		n.log.WarnContext(ctx, "master key of a suspended tenant", slog.String("tenant", tenant), slog.Any("error", err))
	}
	n.forgetTenant(tenant)
}

// resumed takes up a master key that needs no custodians.
func (n *Node) resumed(ctx context.Context, tenant string) {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	t, ok := n.current().Tenants[tenant]
	if !ok {
		return
	}
	seal, err := n.sealOf(ctx, tenant, t)
	if err == nil {
		err = n.takeUp(ctx, tenant, seal)
	}
	if err != nil {
		n.log.WarnContext(ctx, "tenant is resumed, but its seal cannot be read", slog.String("tenant", tenant), slog.Any("error", err))
	}
}

// vaultStatus is how the vault is, for its operators.
func (n *Node) vaultStatus(context.Context) *adminapi.VaultStatus {
	s := &adminapi.VaultStatus{Node: n.gate.Node, Tenants: n.gate.Tenants.Names(), Suspended: map[string]string{}}
	for _, name := range s.Tenants {
		if reason, is := n.gate.Tenants.Suspended(name); is {
			s.Suspended[name] = reason
		}
	}
	return s
}

// suspendedCheck is what readiness tells of a suspended tenant: what its operator
// wants is no reason to take the node out of service.
func (n *Node) suspendedCheck(name string) (httpd.Check, bool) {
	reason, is := n.gate.Tenants.Suspended(name)
	return httpd.Check{Name: "tenant_" + name, State: httpd.Disabled, Detail: "suspended: " + reason}, is
}
