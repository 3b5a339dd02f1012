package lockerapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"cardea/internal/httpd"
	"cardea/internal/vault"
)

// DefaultBodyLimit is the peer's limit of a request body in bytes.
const DefaultBodyLimit = 2 << 20

// Options are what an API is made of. Service is required, Custodians too unless
// no tenant is ever unlocked over HTTP.
type Options struct {
	Service    *vault.Service
	Tenants    map[string]TenantConfig // what SetTenants starts with
	LockerKeys ServerKeys              // required for JWE tenants
	Custodians CustodianAuth

	// AllowPlainOffLoopback lets everyone who can reach the listener act for every
	// plain tenant, and lets custodians send their parts in clear.
	AllowPlainOffLoopback bool

	BodyLimit int64  // bytes; default DefaultBodyLimit
	Version   string // in the header x-version; none if empty

	// Refusals bound what strangers write into the audit log.
	Refusals httpd.RefusalLimits

	Now     func() time.Time      // default time.Now
	Logger  *slog.Logger          // default discards
	Metrics prometheus.Registerer // default keeps the metrics to itself
}

// API is the locker API as an http.Handler. It is safe for concurrent use.
type API struct {
	service    *vault.Service
	keys       ServerKeys
	custodians CustodianAuth
	plainAny   bool
	bodyLimit  int64
	version    []string
	now        func() time.Time
	log        *slog.Logger
	metrics    *metrics
	routes     map[string]*route
	probes     *rate.Limiter   // diagnostics, which anyone may ask for
	refusals   *httpd.Refusals // of strangers

	tenants atomic.Pointer[map[string]*tenant]
}

// probeRate bounds how often a second the diagnostics probe the database.
const probeRate = 5

// New checks the options and builds the API.
func New(o Options) (*API, error) {
	if o.Service == nil {
		return nil, errors.New("locker API: no service")
	}
	a := &API{
		service: o.Service, keys: o.LockerKeys, custodians: o.Custodians, plainAny: o.AllowPlainOffLoopback,
		bodyLimit: o.BodyLimit, now: o.Now, log: o.Logger, probes: rate.NewLimiter(probeRate, probeRate),
	}
	if a.bodyLimit <= 0 {
		a.bodyLimit = DefaultBodyLimit
	}
	if a.now == nil {
		a.now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.refusals = httpd.NewRefusals(o.Refusals, a.now)
	if a.custodians == nil {
		a.custodians = noCustodians{}
	}
	if o.Version != "" {
		a.version = []string{o.Version}
	}
	var err error
	if a.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("locker API: %w", err)
	}
	a.routes = routeTable()
	a.tenants.Store(&map[string]*tenant{})
	return a, a.SetTenants(o.Tenants)
}

// SetTenants makes configs the whole set of tenants, at once and for requests
// that begin from now on; on an error the old set stays. Delete limits that did
// not change keep their state, and replay caches always do. A tenant answers
// only if the vault knows it too.
func (a *API) SetTenants(configs map[string]TenantConfig) error {
	serve, err := a.ReadyTenants(configs)
	if err == nil {
		serve()
	}
	return err
}

// ReadyTenants is SetTenants in two steps: what can fail is done when it returns, and
// serve is the change. One at a time: a set made ready before another one was served
// does not know its limits and replay caches.
func (a *API) ReadyTenants(configs map[string]TenantConfig) (serve func(), err error) {
	old := *a.tenants.Load()
	next := make(map[string]*tenant, len(configs))
	for name, c := range configs {
		t, err := newTenant(name, c, a.keys, old[name])
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", name, err)
		}
		next[name] = t
	}
	return func() { a.tenants.Store(&next) }, nil
}

// FlushRefusals writes into the audit log how many requests of strangers were refused
// without an entry of their own, as httpd.Refusals.Flush does.
func (a *API) FlushRefusals(ctx context.Context, all bool) error {
	return a.refusals.Flush(ctx, all)
}

// Handler is the API.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }
