// Package app builds the whole of Cardea from its configuration, in one place
// that can be read from top to bottom, and runs it until it is told to stop.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/keymanager"
	"cardea/internal/lockerapi"
	"cardea/internal/secret"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// Options are what New needs besides the configuration.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time
}

// App is a node of Cardea: the vault and its operations listener.
type App struct {
	log      *slog.Logger
	now      func() time.Time
	registry *prometheus.Registry

	signer     *audit.Signer
	store      *store.Store
	gate       *vault.Gate
	ceremonies *vault.Ceremonies
	keeper     *custodian.Keeper
	local      *keymanager.Local
	service    *vault.Service
	api        *lockerapi.API
	vault      *httpd.Server
	ops        *httpd.Server

	mu     sync.Mutex    // guards config, held while it is replaced
	config config.Config // in force
}

// New opens the store, builds every part and binds the listeners. Nothing is
// answered before Run. The caller closes the App.
func New(ctx context.Context, cfg config.Config, o Options) (a *App, err error) {
	a = &App{log: o.Logger, now: o.Now, config: cfg, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
			a = nil
		}
	}()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, w := range cfg.Warnings {
		a.log.WarnContext(ctx, "configuration", slog.String("warning", w))
	}

	if a.signer, err = LoadOrMakeSigningKey(cfg, a.log); err != nil {
		return a, err
	}
	if a.store, err = OpenStore(ctx, cfg, StoreOptions{Logger: a.log, Now: a.now, Metrics: a.registry, Signer: a.signer}); err != nil {
		return a, err
	}
	a.gate = &vault.Gate{Node: cfg.Node.Name, Log: a.store, Tenants: vault.NewTenants(), Now: a.now, Logger: a.log}
	a.ceremonies = vault.NewCeremonies(a.gate, a.store)
	a.keeper = custodian.NewKeeper(custodian.Options{Now: a.now})
	if a.local, err = keymanager.NewLocal(keymanager.LocalOptions{
		Masters: a.keeper, Inventory: vault.NewKeyring(a.gate, a.store), Now: a.now,
		TTL: cfg.Keys.CacheTTL.Duration, Entries: cfg.Keys.CacheEntries, Metrics: a.registry,
	}); err != nil {
		return a, err
	}
	if a.service, err = vault.NewService(vault.Options{
		Gate: a.gate, Store: a.store, Keys: a.local, Custodians: lockingKeeper{a.keeper, a.local},
	}); err != nil {
		return a, err
	}
	if err = a.buildAPI(cfg); err != nil {
		return a, err
	}
	if err = a.applyTenants(ctx, cfg); err != nil {
		return a, err
	}
	return a, a.listen(cfg)
}

func (a *App) buildAPI(cfg config.Config) error {
	keys, err := lockerKeys(cfg)
	if err != nil {
		return err
	}
	guard, err := custodian.NewGuard(custodian.GuardOptions{
		Now: a.now, Rate: float64(cfg.Limits.CustodianAttemptsPerMinute) / 60, Burst: cfg.Limits.CustodianAttemptsPerMinute,
		MaxFailures: cfg.Limits.CustodianLockoutAfter, LockoutFor: cfg.Limits.CustodianLockout.Duration,
	})
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	a.api, err = lockerapi.New(lockerapi.Options{
		Service: a.service, LockerKeys: keys,
		Custodians:            &lockerapi.GuardedCustodians{Guard: guard, Credentials: a.store.Credentials, Now: a.now},
		AllowPlainOffLoopback: cfg.Vault.InsecurePlainAPIWithoutClientCertificates,
		BodyLimit:             cfg.Vault.BodyLimitBytes, Version: cfg.Locker.VersionHeader,
		Now: a.now, Logger: a.log, Metrics: a.registry,
	})
	return err
}

func (a *App) listen(cfg config.Config) (err error) {
	limits := httpd.Limits{BodyBytes: cfg.Vault.BodyLimitBytes, MaxConnections: cfg.Vault.MaxConnections}
	a.vault, err = httpd.New(httpd.Options{
		Name: "vault", Addr: cfg.Vault.Listen, Handler: a.api.Handler(), TLS: tlsOptions(cfg.Vault.TLS),
		AllowPlaintext: cfg.Vault.InsecurePlainHTTPOffLoopback, Limits: limits, TrustedProxies: cfg.Vault.TrustedProxies,
		ShutdownGrace: cfg.Vault.ShutdownGrace.Duration, Logger: a.log, Metrics: a.registry, Now: a.now,
	})
	if err != nil {
		return err
	}
	a.ops, err = httpd.New(httpd.Options{
		Name: "ops", Addr: cfg.Ops.Listen, Handler: httpd.OpsHandler(a.registry, a.readiness), TLS: tlsOptions(cfg.Ops.TLS),
		AllowPlaintext: cfg.Ops.InsecurePlainHTTPOffLoopback, Logger: a.log, Metrics: a.registry, Now: a.now,
	})
	if err != nil {
		return err
	}
	return errors.Join(a.vault.Listen(), a.ops.Listen())
}

// VaultURL is where a client on this machine reaches the vault.
func (a *App) VaultURL() string { return a.vault.URL() }

// OpsURL is where metrics and health are.
func (a *App) OpsURL() string { return a.ops.URL() }

// Service is the vault, for dev and demo.
func (a *App) Service() *vault.Service { return a.service }

// Ceremonies make custodians, for dev and demo.
func (a *App) Ceremonies() *vault.Ceremonies { return a.ceremonies }

// Keeper holds the master keys, for dev and demo.
func (a *App) Keeper() *custodian.Keeper { return a.keeper }

// Verifier is the public key of this node's audit log.
func (a *App) Verifier() string { return a.signer.Verifier() }

// Run serves until ctx ends, then finishes what was accepted. It returns early if
// a part of the node that the others depend on fails.
func (a *App) Run(ctx context.Context) error {
	me := iam.System("node")
	if err := a.gate.Record(ctx, me, vault.OpLogOpen, vault.Target{}, "opened", "node started"); err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	a.log.InfoContext(ctx, "serving", slog.String("vault", a.VaultURL()), slog.String("ops", a.OpsURL()),
		slog.String("audit_log_verifier", a.Verifier()))

	// The sweeper outlives the listeners' contexts by nothing: it stops with ctx.
	g, gctx := errgroup.WithContext(ctx)
	cfg := a.current()
	g.Go(func() error { return a.vault.Serve(gctx) })
	g.Go(func() error { return a.ops.Serve(gctx) })
	g.Go(func() error {
		a.service.SweepEvery(gctx, cfg.Retention.SweepInterval.Duration, cfg.Retention.SweepBatch)
		return nil
	})
	g.Go(func() error { a.tidy(gctx); return nil })
	g.Go(func() error {
		select {
		case err := <-a.store.Fatal():
			return fmt.Errorf("store: %w", err)
		case <-gctx.Done():
			return nil
		}
	})
	err := g.Wait()

	// A detached context: the node's own last entry must be written though ctx is over.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if cerr := a.gate.Record(closing, me, vault.OpLogClose, vault.Target{}, "closed", "node stopped"); cerr != nil && err == nil {
		err = fmt.Errorf("close audit log: %w", cerr)
	}
	a.log.InfoContext(ctx, "stopped")
	return err
}

// tidyInterval is how late a key in clear may be wiped after its time.
const tidyInterval = 5 * time.Second

// tidy does what idle caches do not do by themselves, and takes up seals that
// ceremonies made while the node runs.
func (a *App) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.local.Sweep()
			a.refreshSeals(ctx)
		}
	}
}

// Reload takes up new tenants and certificates. What else changed in cfg takes a
// restart. If anything is wrong, the configuration in force stays.
func (a *App) Reload(ctx context.Context, cfg config.Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.applyTenants(ctx, cfg); err != nil {
		return err
	}
	for _, key := range config.Changed(a.config, cfg) {
		if !strings.HasPrefix(key, "tenants") {
			a.log.WarnContext(ctx, "setting changed, it takes a restart", slog.String("key", key))
		}
	}
	a.config.Tenants = cfg.Tenants
	err := errors.Join(a.vault.ReloadTLS(), a.ops.ReloadTLS())
	a.log.InfoContext(ctx, "configuration reloaded", slog.Int("tenants", len(cfg.Tenants)))
	return err
}

func (a *App) current() config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config
}

// Close wipes keys and closes the store, whose last act is a checkpoint.
func (a *App) Close() error {
	var errs []error
	for _, s := range []*httpd.Server{a.vault, a.ops} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if a.service != nil {
		a.service.Close()
	}
	if a.local != nil {
		a.local.Close()
	}
	if a.keeper != nil {
		a.keeper.Close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.signer != nil {
		a.signer.Destroy()
	}
	return errors.Join(errs...)
}

// readiness tells what a load balancer and an operator must know.
func (a *App) readiness(ctx context.Context) []httpd.Check {
	p := a.store.Probe(ctx)
	checks := []httpd.Check{
		check("database", p.Connect), check("database_read", p.Read),
		check("database_write", p.Write), check("database_delete", p.Delete),
	}
	for _, name := range a.gate.Tenants.Names() {
		c := httpd.Check{Name: "tenant_" + name, State: httpd.Working}
		if !a.keeper.Unlocked(name) {
			c.State, c.Detail = httpd.Failing, "locked: its custodians have not unlocked it on this node"
		}
		checks = append(checks, c)
	}
	return checks
}

func check(name string, err error) httpd.Check {
	if err != nil {
		return httpd.Check{Name: name, State: httpd.Failing, Detail: err.Error()}
	}
	return httpd.Check{Name: name, State: httpd.Working}
}

// LoadOrMakeSigningKey reads the key that signs checkpoints, or makes it at the
// first start.
func LoadOrMakeSigningKey(cfg config.Config, log *slog.Logger) (*audit.Signer, error) {
	path := cfg.Audit.SigningKeyFile
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeSigningKey(cfg.Node.Name, path, log)
	}
	if err != nil {
		return nil, fmt.Errorf("audit.signing_key_file: %w", err)
	}
	key := secret.New(raw)
	defer key.Destroy()
	s, err := audit.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("audit.signing_key_file: %s: %w", path, err)
	}
	if want, err := audit.Origin(cfg.Node.Name); err != nil {
		return nil, fmt.Errorf("node.name: %w", err)
	} else if s.Origin() != want {
		return nil, fmt.Errorf("audit.signing_key_file: %s signs for %s, but this node is %s: each node has a key of its own", path, s.Origin(), want)
	}
	return s, nil
}

func makeSigningKey(node, path string, log *slog.Logger) (*audit.Signer, error) {
	origin, err := audit.Origin(node)
	if err != nil {
		return nil, fmt.Errorf("node.name: %w", err)
	}
	key, verifier, err := audit.GenerateSigningKey(origin)
	if err != nil {
		return nil, fmt.Errorf("make audit signing key: %w", err)
	}
	defer key.Destroy()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make audit signing key: %w", err)
	}
	// O_EXCL: of two processes that start at once only one makes the key.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make audit signing key: %w", err)
	}
	_, err = f.Write(append(key.Expose(), '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make audit signing key: %w", err)
	}
	if err := os.WriteFile(path+".pub", []byte(verifier+"\n"), 0o644); err != nil { //nolint:gosec // it is public
		return nil, fmt.Errorf("make audit signing key: %w", err)
	}
	log.Info("audit signing key made: give the public one to whoever verifies the log",
		slog.String("file", path), slog.String("verifier", verifier))
	return audit.NewSigner(key)
}
