package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/adminapi"
	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/keymanager"
	"cardea/internal/lockerapi"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// Node is a database with its audit log, the custodians of what it protects, and
// the listener in front: the vault, or that part of the key service which is the
// same for both.
type Node struct {
	name string // vault or keys: in the operator's log and in metrics
	log  *slog.Logger
	now  func() time.Time

	metrics prometheus.Registerer // of this node

	signer      *audit.Signer
	closeSigner func() // of a signer in a KMS
	highWater   *highWater
	rolledBack  string // in words; "" if the log goes on as it was

	store      *store.Store
	gate       *vault.Gate
	ceremonies *vault.Ceremonies
	keeper     *custodian.Keeper
	keys       *keymanager.Router
	kms        *kmsHealth // nil in the key service
	kmsTenants *keymanager.KMSTenants

	hsmTenants      *keymanager.HSMTenants
	externalTenants *keymanager.ExternalTenants
	tokensMu        sync.Mutex   // guards tokens
	tokens          []*lazyToken // that hsmTenants use

	service  *vault.Service
	keyAdmin *vault.KeyAdmin  // nil in the key service
	admin    *adminapi.Server // likewise
	api      *lockerapi.API
	server   *httpd.Server
	forget   func() // wipes what else a tenant's master key has opened

	flushes []func(ctx context.Context, all bool) error // write how many strangers were refused

	makesCustodians bool // as Options.MakesCustodians
	token           *rootToken

	sealing sync.Mutex    // held while seals are taken up; before mu
	mu      sync.Mutex    // guards config, held while it is replaced
	config  config.Config // in force
}

// newNode opens the store and builds what stands on it. The caller closes the node
// also if there is an error.
func newNode(ctx context.Context, name string, cfg config.Config, o Options, metrics prometheus.Registerer) (*Node, error) {
	n := &Node{name: name, log: o.Logger, now: o.Now, config: cfg, forget: func() {}, makesCustodians: o.MakesCustodians, token: newRootToken(cfg, o)}
	metrics = prometheus.WrapRegistererWith(prometheus.Labels{"part": name}, metrics)
	n.metrics, n.highWater = metrics, newHighWater(cfg, o.Logger, o.Now)
	var err error
	hasServed := isFile(cfg.Audit.SigningKeyFile) || isFile(cfg.Audit.Signer.PublicKeyFile) // or tried to
	if err = n.openSigner(ctx, cfg, o); err != nil {
		return n, err
	}
	if n.store, err = OpenStore(ctx, cfg, StoreOptions{Logger: n.log, Now: n.now, Metrics: metrics, Signer: n.signer, Signed: n.highWater.signed}); err != nil {
		return n, err
	}
	if err = n.lookBack(ctx); err != nil {
		return n, err
	}
	if hasServed {
		n.warnOfLostLog(ctx)
	}
	n.gate = &vault.Gate{Node: cfg.Node.Name, Log: n.store, Tenants: vault.NewTenants(), Now: n.now, Logger: n.log}
	n.ceremonies = vault.NewCeremonies(n.gate, n.store)
	n.keeper = custodian.NewKeeper(custodian.Options{Now: n.now})
	n.kmsTenants = keymanager.NewKMSTenants(nil)
	n.hsmTenants, n.externalTenants = keymanager.NewHSMTenants(nil), keymanager.NewExternalTenants(nil)
	if err = n.buildKeys(cfg, o.KMSCredentialsFile, metrics); err != nil {
		return n, err
	}
	if n.service, err = vault.NewService(vault.Options{
		Gate: n.gate, Store: n.store, Keys: n.keys, Custodians: vaultCustodians{lockingKeeper{n.keeper, n}},
	}); err != nil {
		return n, err
	}
	if err = n.buildAPI(cfg, metrics); err != nil {
		return n, err
	}
	return n, n.applyTenants(ctx, cfg)
}

// warnOfLostLog tells of a database that has no audit log of a node which has a key to
// sign it: a log that is begun anew is whole by itself.
func (n *Node) warnOfLostLog(ctx context.Context) {
	if h, err := n.store.Head(ctx, n.signer.Origin()); err == nil && h.Size == 0 {
		n.log.WarnContext(ctx, "the audit log is empty, but its signing key is not new: unless this node has never served, its database was lost or replaced",
			slog.String("log", n.signer.Origin()), slog.String("part", n.name))
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (n *Node) buildAPI(cfg config.Config, metrics prometheus.Registerer) error {
	keys, err := lockerKeys(cfg)
	if err != nil {
		return err
	}
	guard, err := custodian.NewGuard(custodian.GuardOptions{
		Now: n.now, Rate: float64(cfg.Limits.CustodianAttemptsPerMinute) / 60, Burst: cfg.Limits.CustodianAttemptsPerMinute,
		MaxFailures: cfg.Limits.CustodianLockoutAfter, LockoutFor: cfg.Limits.CustodianLockout.Duration,
	})
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	n.api, err = lockerapi.New(lockerapi.Options{
		Service: n.service, LockerKeys: keys,
		Custodians:            &lockerapi.GuardedCustodians{Guard: guard, Credentials: n.store.Credentials, Now: n.now},
		AllowPlainOffLoopback: cfg.Vault.InsecurePlainAPIWithoutClientCertificates,
		BodyLimit:             cfg.Vault.BodyLimitBytes, Version: cfg.Locker.VersionHeader,
		Now: n.now, Logger: n.log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	n.flushes = append(n.flushes, n.api.FlushRefusals)
	return nil
}

// listen binds the node's listener, which h answers.
func (n *Node) listen(cfg config.Config, h http.Handler, limits httpd.Limits, metrics prometheus.Registerer) (err error) {
	n.server, err = httpd.New(httpd.Options{
		Name: n.name, Addr: cfg.Vault.Listen, Handler: h, TLS: tlsOptions(cfg.Vault.TLS),
		AllowPlaintext: cfg.Vault.InsecurePlainHTTPOffLoopback, Limits: limits, TrustedProxies: cfg.Vault.TrustedProxies,
		ShutdownGrace: cfg.Vault.ShutdownGrace.Duration, Logger: n.log, Metrics: metrics, Now: n.now,
	})
	if err != nil {
		return err
	}
	return n.server.Listen()
}

// URL is where a client on this machine reaches the node.
func (n *Node) URL() string { return n.server.URL() }

// Service is the vault; of the key service only its custodians are of use.
func (n *Node) Service() *vault.Service { return n.service }

// Ceremonies make custodians.
func (n *Node) Ceremonies() *vault.Ceremonies { return n.ceremonies }

// Verifier is the public key of this node's audit log.
func (n *Node) Verifier() string { return n.signer.Verifier() }

// opened and closed are the first and the last entry of the node's audit log.
func (n *Node) opened(ctx context.Context) error {
	if err := n.gate.Record(ctx, iam.System("node"), vault.OpLogOpen, vault.Target{}, "opened", "node started"); err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	return n.recordRollback(ctx)
}

func (n *Node) closed(ctx context.Context) error {
	// A detached context: the node's own last entry must be written though ctx is over.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	n.flushRefusals(closing, true)
	if err := n.gate.Record(closing, iam.System("node"), vault.OpLogClose, vault.Target{}, "closed", "node stopped"); err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}

// run serves until ctx ends, in goroutines of g. It calls served when the last
// request was answered.
func (n *Node) run(ctx context.Context, g *errgroup.Group, served func()) {
	g.Go(func() error {
		defer served()
		return n.server.Serve(ctx)
	})
	g.Go(func() error { n.tidy(ctx); return nil })
	g.Go(func() error {
		select {
		case err := <-n.store.Fatal():
			return fmt.Errorf("store of %s: %w", n.name, err)
		case <-ctx.Done():
			return nil
		}
	})
}

// sweep removes expired records until ctx ends.
func (n *Node) sweep(ctx context.Context) {
	cfg := n.current()
	n.service.SweepEvery(ctx, cfg.Retention.SweepInterval.Duration, cfg.Retention.SweepBatch)
}

// tidyInterval is how late a key in clear may be wiped after its time.
const tidyInterval = 5 * time.Second

// tidy does what idle caches do not do by themselves, and takes up seals that
// ceremonies made while the node runs.
func (n *Node) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.keys.Sweep()
			n.refreshSeals(ctx)
			n.flushRefusals(ctx, false)
		}
	}
}

// flushRefusals writes into the audit log how many requests of strangers were refused
// in minutes that are over, or in the present one too.
func (n *Node) flushRefusals(ctx context.Context, all bool) {
	for _, flush := range n.flushes {
		if err := flush(ctx, all); err != nil { // stays counted
			n.log.ErrorContext(ctx, "refusals not written into the audit log", slog.String("part", n.name), slog.Any("error", err))
		}
	}
}

// reload takes up the tenants of cfg.
func (n *Node) reload(ctx context.Context, cfg config.Config) error {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.applyTenants(ctx, cfg); err != nil {
		return err
	}
	n.config.Tenants = cfg.Tenants
	return nil
}

func (n *Node) current() config.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config
}

// Close wipes keys and closes the store, whose last act is a checkpoint.
func (n *Node) Close() error {
	var errs []error
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.admin != nil {
		errs = append(errs, n.admin.Close())
	}
	if n.service != nil {
		n.service.Close()
	}
	if n.keys != nil {
		n.keys.Close()
	}
	if n.kms != nil {
		n.kms.client.Close()
	}
	if n.keys != nil {
		n.applyKeepers(keepers{})
	}
	if n.keeper != nil {
		n.keeper.Close()
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
		n.highWater.close()
	}
	if n.signer != nil {
		n.signer.Destroy()
	}
	if n.closeSigner != nil {
		n.closeSigner()
	}
	return errors.Join(errs...)
}
