// Package app builds the whole of Cardea from its configuration, in one place
// that can be read from top to bottom, and runs it until it is told to stop.
package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"cardea/internal/config"
	"cardea/internal/httpd"
)

// Options are what New needs besides the configuration.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time
	// Version of Cardea, told to SIEMs.
	Version string
	// MakesCustodians says that the caller makes custodians where there are none yet,
	// so that nobody needs to be told.
	MakesCustodians bool
	// KMSCredentialsFile holds the vault's access keys of the KMS by the profiles of its
	// tenants; "" for where AWS's tools look. It is read when the first is needed.
	KMSCredentialsFile string
}

// App is Cardea in one process: a vault, a key service, or both, and the
// operations listener.
type App struct {
	log       *slog.Logger
	registry  *prometheus.Registry
	vault     *Node       // nil if none is served
	keys      *KeyService // likewise
	delivery  *Delivery   // nil if nothing is delivered
	detection *Detection  // nil if nothing is watched
	ops       *httpd.Server

	mu     sync.Mutex    // guards config, held while it is replaced
	config config.Config // in force
}

// New opens the stores, builds every part and binds the listeners. Nothing is
// answered before Run. The caller closes the App.
func New(ctx context.Context, cfg config.Config, o Options) (a *App, err error) {
	a = &App{log: o.Logger, config: cfg, registry: prometheus.NewRegistry()}
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
	if cfg.Vault.Listen != "" {
		if a.vault, err = newNode(ctx, "vault", cfg, o, a.registry); err != nil {
			return a, err
		}
		limits := httpd.Limits{BodyBytes: cfg.Vault.BodyLimitBytes, MaxConnections: cfg.Vault.MaxConnections}
		if err = a.vault.buildKeyAdmin(ctx, cfg); err != nil {
			return a, err
		}
		if err = a.vault.listen(cfg, a.vault.api.Handler(), limits, a.registry); err != nil {
			return a, err
		}
	}
	if cfg.KeyService.Enabled() {
		if a.keys, err = newKeyService(ctx, cfg.ForKeyService(), o, a.registry); err != nil {
			return a, err
		}
	}
	if err = a.buildDelivery(ctx, cfg, o); err != nil {
		return a, err
	}
	if err = a.buildDetection(cfg, o); err != nil {
		return a, err
	}
	a.ops, err = httpd.New(httpd.Options{
		Name: "ops", Addr: cfg.Ops.Listen, Handler: httpd.OpsHandler(a.registry, a.readiness), TLS: tlsOptions(cfg.Ops.TLS),
		AllowPlaintext: cfg.Ops.InsecurePlainHTTPOffLoopback, Logger: a.log, Metrics: a.registry, Now: o.Now,
	})
	if err != nil {
		return a, err
	}
	return a, a.ops.Listen()
}

// Vault is the vault, nil if none is served.
func (a *App) Vault() *Node { return a.vault }

// Keys is the key service, nil if none is served.
func (a *App) Keys() *KeyService { return a.keys }

// OpsURL is where metrics and health are.
func (a *App) OpsURL() string { return a.ops.URL() }

// nodes are the parts that are served.
func (a *App) nodes() []*Node {
	var ns []*Node
	if a.vault != nil {
		ns = append(ns, a.vault)
	}
	if a.keys != nil {
		ns = append(ns, a.keys.Node)
	}
	return ns
}

// Run serves until ctx ends, then finishes what was accepted. It returns early if
// a part of the node that the others depend on fails.
func (a *App) Run(ctx context.Context) error {
	serving := []any{slog.String("ops", a.OpsURL())}
	for _, n := range a.nodes() {
		if err := n.opened(ctx); err != nil {
			return err
		}
		serving = append(serving, slog.String(n.name, n.URL()), slog.String(n.name+"_log_verifier", n.Verifier()))
	}
	a.log.InfoContext(ctx, "serving", serving...)

	g, gctx := errgroup.WithContext(ctx)
	if err := a.deliver(gctx, g); err != nil {
		return err
	}
	if err := a.detect(gctx, g); err != nil {
		return err
	}
	if err := a.retain(gctx, g); err != nil {
		return err
	}
	g.Go(func() error { a.watchSigning(gctx); return nil })
	g.Go(func() error { return a.ops.Serve(gctx) })
	// The vault may need keys of the key service for the last requests that it
	// accepted: the key service stops only when they are answered.
	behind, stopBehind := context.WithCancel(context.WithoutCancel(gctx))
	defer stopBehind()
	if a.vault == nil {
		defer context.AfterFunc(gctx, stopBehind)()
	} else {
		a.vault.run(gctx, g, stopBehind)
		g.Go(func() error { a.vault.sweep(gctx); return nil })
		g.Go(func() error { a.vault.keyAdmin.Run(gctx); return nil })
		g.Go(func() error { return a.vault.admin.Serve(gctx) })
	}
	if a.keys != nil {
		a.keys.run(behind, g)
	}
	err := g.Wait()
	for _, n := range a.nodes() {
		if cerr := n.closed(ctx); err == nil {
			err = cerr
		}
	}
	a.log.InfoContext(ctx, "stopped")
	return err
}

// Reload takes up new tenants and certificates. What else changed in cfg takes a
// restart. If anything is wrong, the configuration in force stays.
func (a *App) Reload(ctx context.Context, cfg config.Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.vault != nil {
		if err := a.vault.reload(ctx, cfg); err != nil {
			return err
		}
	}
	for _, key := range config.Changed(a.config, cfg) {
		if !strings.HasPrefix(key, "tenants") {
			a.log.WarnContext(ctx, "setting changed, it takes a restart", slog.String("key", key))
		}
	}
	a.config.Tenants = cfg.Tenants
	err := a.ops.ReloadTLS()
	for _, n := range a.nodes() {
		err = errors.Join(err, n.server.ReloadTLS())
	}
	a.log.InfoContext(ctx, "configuration reloaded", slog.Int("tenants", len(cfg.Tenants)))
	return err
}

// current is the configuration in force. A reload may come as soon as Run has begun.
func (a *App) current() config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config
}

// Close wipes keys and closes the stores.
func (a *App) Close() error {
	var errs []error
	if a.ops != nil {
		errs = append(errs, a.ops.Close())
	}
	errs = append(errs, a.closeDelivery())
	if a.vault != nil {
		errs = append(errs, a.vault.Close())
	}
	if a.keys != nil {
		errs = append(errs, a.keys.Close())
	}
	return errors.Join(errs...)
}

// readiness tells what a load balancer and an operator must know.
func (a *App) readiness(ctx context.Context) []httpd.Check {
	var checks []httpd.Check
	if a.vault != nil {
		checks = a.vault.readiness(ctx, "")
	}
	if a.keys != nil {
		checks = append(checks, a.keys.readiness(ctx, "keys_")...)
	}
	return append(append(checks, a.deliveryReadiness()...), a.detectionReadiness()...)
}
