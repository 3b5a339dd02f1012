package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/keymanager"
	"cardea/internal/kmsclient"
	"cardea/internal/vault"
)

// buildKeys makes the key managers of all modes that the node serves. The key
// service's own tenant is never in another KMS.
func (n *Node) buildKeys(cfg config.Config, credentialsFile string, metrics prometheus.Registerer) (err error) {
	o := keymanager.Options{
		Tenants: n.gate.Tenants, Wrappers: []keymanager.Wrapper{keymanager.LocalWrapper(n.keeper)},
		Inventory: vault.NewKeyring(n.gate, n.store), Now: n.now, TTL: cfg.Keys.CacheTTL.Duration, Grace: cfg.Keys.KMSGrace.Duration,
		Entries: cfg.Keys.CacheEntries, Metrics: metrics, Logger: n.log,
	}
	var client *kmsclient.Client
	if _, isKeyService := cfg.Tenants[config.KeyServiceTenant]; !isKeyService {
		if client, err = kmsclient.New(kmsclient.Options{
			RootCAFile: cfg.Keys.KMSCAFile, CredentialsFile: credentialsFile, Rate: float64(cfg.Keys.KMSRate), Now: n.now, Logger: n.log, Metrics: metrics,
		}); err != nil {
			return fmt.Errorf("keys.kms_ca_file: %w", err)
		}
		n.kms = &kmsHealth{client: client, now: n.now, last: map[string]kmsState{}}
		o.Wrappers = append(o.Wrappers, keymanager.KMSWrappers(client, n.kmsTenants, n.now)...)
		o.Wrappers = append(o.Wrappers, keymanager.HSMWrapper(n.hsmTenants), keymanager.ExternalWrapper(n.externalTenants))
	}
	envelope, err := keymanager.NewEnvelope(o)
	if err != nil {
		return err
	}
	var direct *keymanager.Direct
	if client != nil {
		direct = keymanager.NewDirect(keymanager.DirectOptions{KMS: client, Tenants: n.kmsTenants, Envelope: envelope})
	}
	n.keys = keymanager.NewRouter(n.gate.Tenants, envelope, direct)
	return nil
}

// kmsKeys are a tenant's keys as configured.
func kmsKeys(t config.TenantKMS) (keymanager.KMSKeys, error) {
	key := kmsclient.Key{ID: t.KeyID, Region: t.Region, Endpoint: t.Endpoint, FIPS: t.FIPS, Profile: t.Profile}
	mac := key
	for _, r := range t.Replicas {
		key.Replicas = append(key.Replicas, kmsclient.Replica{Region: r.Region, Endpoint: r.Endpoint})
	}
	k := keymanager.KMSKeys{Key: key, Previous: t.PreviousKeyIDs, OversizeEnvelope: t.Oversize == config.OversizeEnvelope}
	if err := key.Validate(); err != nil {
		return k, fmt.Errorf("kms.key_id: %w", err)
	}
	if t.MACKeyID == "" {
		return k, nil
	}
	mac.ID = t.MACKeyID
	k.MAC = mac
	if err := mac.Validate(); err != nil {
		return k, fmt.Errorf("kms.mac_key_id: %w", err)
	}
	return k, nil
}

// applyKMS makes all the keys that are used. What was opened under others is
// wiped: they may have been taken away because they are no longer to be used.
func (n *Node) applyKMS(all map[string]keymanager.KMSKeys) {
	before := n.kmsTenants.All()
	n.kmsTenants.Replace(all)
	for name, was := range before {
		if now, ok := all[name]; !ok || !reflect.DeepEqual(was, now) {
			n.keys.Forget(name)
		}
	}
}

// inKMS says whether a tenant's keys are in a KMS, an HSM or an encryption service, so
// that no custodian is needed.
func (n *Node) inKMS(tenant string) bool {
	t, err := n.gate.Tenants.Tenant(tenant)
	return err == nil && inKMS(t.Mode)
}

func inKMS(m vault.Mode) bool {
	return m == vault.ModeKMSEnvelope || m == vault.ModeKMS || m == vault.ModePKCS11 || m == vault.ModeExternal
}

func (n *Node) modeOf(tenant string) vault.Mode {
	t, err := n.gate.Tenants.Tenant(tenant)
	if err != nil {
		return vault.ModeLocal
	}
	return t.Mode
}

// vaultCustodians are the custodians of the tenants that have some. A tenant in a
// KMS is never locked; if it has records from before, its custodians can still
// unlock those.
type vaultCustodians struct {
	lockingKeeper
}

// Unlocked implements vault.Custodians.
func (c vaultCustodians) Unlocked(tenant string) bool {
	return c.node.inKMS(tenant) || c.lockingKeeper.Unlocked(tenant)
}

// Status implements vault.Custodians.
func (c vaultCustodians) Status(tenant string) (custodian.Status, error) {
	s, err := c.lockingKeeper.Status(tenant)
	if errors.Is(err, custodian.ErrUnknownTenant) && c.node.inKMS(tenant) {
		return custodian.Status{Unlocked: true}, nil
	}
	return s, err
}

// Awaits is what vault.Service.AwaitsCustodians asks.
func (c vaultCustodians) Awaits(tenant string) bool {
	s, err := c.lockingKeeper.Status(tenant)
	return err == nil && !s.Unlocked && c.node.inKMS(tenant)
}

// Lock implements vault.Custodians.
func (c vaultCustodians) Lock(tenant string) error {
	err := c.lockingKeeper.Lock(tenant)
	if errors.Is(err, custodian.ErrUnknownTenant) && c.node.inKMS(tenant) {
		return &vault.ValidationError{Field: "tenant", Reason: "has its keys in a KMS, which is where they can be locked; its keys in memory are wiped"}
	}
	return err
}

// kmsHealthTTL is how long an answer about a key's health holds.
const kmsHealthTTL = 10 * time.Second

// kmsHealth asks KMS about keys, each at most once in kmsHealthTTL however often
// readiness is asked for.
type kmsHealth struct {
	client *kmsclient.Client
	now    func() time.Time

	mu   sync.Mutex // guards last, held while KMS is asked
	last map[string]kmsState
}

type kmsState struct {
	keys keymanager.KMSKeys
	at   time.Time
	err  error
}

func (h *kmsHealth) check(ctx context.Context, tenant string, keys keymanager.KMSKeys) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, known := h.last[tenant]
	if !known || !reflect.DeepEqual(s.keys, keys) || h.now().Sub(s.at) >= kmsHealthTTL {
		s = kmsState{keys: keys, at: h.now(), err: h.client.Check(ctx, keys.Key)}
		if s.err == nil && keys.MAC.ID != "" {
			s.err = h.client.Check(ctx, keys.MAC)
		}
		h.last[tenant] = s
	}
	return s.err
}

// tenantReadiness tells whether a tenant's keys can be had.
func (n *Node) tenantReadiness(ctx context.Context, name string) httpd.Check {
	c := httpd.Check{Name: "tenant_" + name, State: httpd.Working}
	switch {
	case n.modeOf(name) == vault.ModePKCS11:
		if err := n.hsmTenants.Check(ctx, name); err != nil {
			c.State, c.Detail = httpd.Failing, err.Error()
		}
	case n.modeOf(name) == vault.ModeExternal:
		if s, release, ok := n.externalTenants.Acquire(name); ok {
			defer release()
			if err := s.Check(ctx); err != nil {
				c.State, c.Detail = httpd.Failing, err.Error()
			}
		}
	case n.inKMS(name):
		if err := n.kms.check(ctx, name, n.kmsTenants.All()[name]); err != nil {
			c.State, c.Detail = httpd.Failing, err.Error()
		}
	case n.keeper.Unlocked(name):
	case n.byToken(name):
		c.State, c.Detail = httpd.Failing, "locked: its token has not unsealed it on this node"
	default:
		c.State, c.Detail = httpd.Failing, "locked: its custodians have not unlocked it on this node"
		if st, err := n.keeper.Status(name); err == nil && st.Shares == 0 {
			c.Detail = "has no master key yet: make one with 'cardea custodian init --tenant " + name + "'"
		}
	}
	return c
}
