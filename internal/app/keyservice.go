package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/hsm/soft"
	"cardea/internal/httpd"
	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/kmsapi"
	"cardea/internal/secret"
	"cardea/internal/store"
)

// KeyService is the key service: a node whose one tenant's master key is the root
// key, which wraps all key material, and the API of AWS KMS in front of it.
type KeyService struct {
	*Node
	soft       *soft.Backend
	identities *identity.Service
	kms        *kms.Service
	admin      *adminapi.Server
}

// newKeyService builds the key service of cfg, which Config.ForKeyService made. The
// caller closes it also if there is an error.
func newKeyService(ctx context.Context, cfg config.Config, o Options, registry prometheus.Registerer) (*KeyService, error) {
	n, err := newNode(ctx, "keys", cfg, o, registry)
	k := &KeyService{Node: n}
	if err != nil {
		return k, err
	}
	const root = config.KeyServiceTenant
	k.soft = soft.New(soft.Options{
		Root:         func() (secret.Bytes, error) { return n.keeper.Master(root) },
		Unsealed:     func() bool { return n.keeper.Unlocked(root) },
		CacheEntries: cfg.KeyService.CacheEntries, CacheTTL: cfg.Keys.CacheTTL.Duration,
	})
	var api *kmsapi.API
	n.forget = func() {
		k.soft.Forget()
		if api != nil {
			api.Wipe() // signing keys come of secrets that the root key has opened
		}
	}
	if k.identities, err = identity.New(ctx, identity.Options{
		Node: cfg.Node.Name, Store: store.NewIdentities(n.store), Secrets: k.soft, Region: cfg.KeyService.Regions[0],
		MaxFailures: cfg.Limits.CustodianLockoutAfter, Now: o.Now, Logger: o.Logger,
	}); err != nil {
		return k, err
	}
	stores, err := keyStores(cfg, o)
	if err != nil {
		return k, err
	}
	dual, err := dualControl(cfg.KeyService.DualControl)
	if err != nil {
		return k, err
	}
	if k.kms, err = kms.New(kms.Options{
		DualControl: dual,
		Node:        cfg.Node.Name, Store: store.NewKeyService(n.store), Soft: k.soft, Secrets: k.soft, KeyStores: stores,
		Accounts: k.identities.HasAccount, Principal: k.identities.Exists, PrincipalID: k.identities.PrincipalID, Regions: cfg.KeyService.Regions, Now: o.Now, Logger: o.Logger,
	}); err != nil {
		return k, err
	}
	if api, err = kmsapi.New(kmsapi.Options{
		Service: k.kms, Identities: k.identities, STS: k.identities, Regions: cfg.KeyService.Regions, Now: o.Now, Logger: o.Logger, Metrics: registry,
	}); err != nil {
		return k, err
	}
	n.flushes = append(n.flushes, api.FlushRefusals)
	limits := httpd.Limits{BodyBytes: kmsapi.DefaultBodyLimit, MaxConnections: cfg.Vault.MaxConnections}
	if err := n.listen(cfg, front(n.api.Handler(), api.Handler()), limits, registry); err != nil {
		return k, err
	}
	k.admin, err = adminapi.Listen(adminapi.Options{
		Path: cfg.KeyService.AdminSocket, Identities: k.identities, Keys: k.kms, Status: k.status, Logger: o.Logger,
	})
	return k, err
}

// status is how the key service is, for its operators.
func (k *KeyService) status(ctx context.Context) *adminapi.Status {
	cfg := k.current()
	s := &adminapi.Status{
		Node: cfg.Node.Name, URL: k.URL(), Regions: cfg.KeyService.Regions, Accounts: k.identities.Accounts(), Database: "working",
		LogVerifier: k.Verifier(),
	}
	if p := k.store.Probe(ctx); errors.Join(p.Connect, p.Read, p.Write, p.Delete) != nil {
		s.Database = errors.Join(p.Connect, p.Read, p.Write, p.Delete).Error()
	}
	if c, err := k.keeper.Status(config.KeyServiceTenant); err == nil {
		s.Unsealed, s.Since, s.MemoryLocked = c.Unlocked, c.Since, c.MemoryLocked
		s.Form, s.Threshold, s.Shares, s.Submitted, s.Generation = c.Form, c.Threshold, c.Shares, c.Submitted, c.Generation
	}
	return s
}

// front gives the custodians' requests, and those that ask whether anybody is
// there, to the part that a vault has too, and all else to the API of KMS.
func front(custody, keys http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/custodian/") || r.URL.Path == "/health" {
			custody.ServeHTTP(w, r)
			return
		}
		keys.ServeHTTP(w, r)
	})
}

// Identities are who may call, for dev.
func (k *KeyService) Identities() *identity.Service { return k.identities }

// run serves and lets time pass for keys and sessions until ctx ends.
func (k *KeyService) run(ctx context.Context, g *errgroup.Group) {
	k.Node.run(ctx, g, func() {})
	g.Go(func() error { k.identities.RunJobs(ctx); return nil })
	g.Go(func() error { k.kms.RunJobs(ctx); return nil })
	g.Go(func() error { return k.admin.Serve(ctx) })
}

// Close wipes keys and closes the store.
func (k *KeyService) Close() error {
	var err error
	if k.server != nil {
		err = k.server.Close()
	}
	if k.admin != nil {
		err = errors.Join(err, k.admin.Close())
	}
	if k.kms != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if cerr := k.kms.Close(ctx); cerr != nil {
			err = errors.Join(err, fmt.Errorf("write the keys' last uses: %w", cerr))
		}
	}
	if k.soft != nil {
		k.soft.Close()
	}
	return errors.Join(err, k.Node.Close())
}
