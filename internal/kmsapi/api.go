package kmsapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/httpd"
	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/sigv4"
)

// DefaultBodyLimit is the longest request body in bytes. The longest that the API
// has a use for is a policy, of 128 KiB before it is written as JSON.
const DefaultBodyLimit = 1 << 20

// PanicBody answers a request whose handler panicked, for httpd.Options.
const PanicBody = `{"__type":"KMSInternalException","message":"` + textInternal + `"}`

// Identities know who calls. identity.Service is one. Principals of the credentials
// are *iam.Subject.
type Identities interface {
	sigv4.Keys

	// Failed is told of a signature with the access key that did not verify, after
	// that is in the audit log, and Succeeded of one that did, so that the key is
	// locked out after repeated failures.
	Failed(ctx context.Context, accessKeyID string, ip netip.Addr) error
	Succeeded(accessKeyID string)
}

// STS performs the operations of STS. identity.Service is one. Errors are
// *identity.Error, and every operation is in the audit log.
type STS interface {
	GetCallerIdentity(ctx context.Context, who identity.Caller) (*identity.CallerIdentity, error)
	AssumeRole(ctx context.Context, who identity.Caller, in *identity.AssumeRoleInput) (*identity.AssumedRole, error)
	GetSessionToken(ctx context.Context, who identity.Caller, in *identity.GetSessionTokenInput) (*identity.Credentials, error)
	// Refuse records a request that became no operation or, if counted is not empty,
	// many of them.
	Refuse(ctx context.Context, who identity.Caller, name string, err *identity.Error, counted string) error
}

// Options are what an API is made of. Service, Identities, STS and Regions are
// required.
type Options struct {
	Service    *kms.Service
	Identities Identities
	STS        STS
	// Regions are those that are served: each has its keys, and requests must be
	// signed for one of them. To STS one may also sign for its global endpoint.
	Regions []string

	MaxSkew   time.Duration // of clients' clocks; default 5 min, at most 15 min
	BodyLimit int64         // bytes; default DefaultBodyLimit

	// Refusals bound what strangers write into the audit log.
	Refusals httpd.RefusalLimits

	Now     func() time.Time      // default time.Now
	Logger  *slog.Logger          // default discards
	Metrics prometheus.Registerer // default keeps the metrics to itself
}

// API is the key service's API as an http.Handler. It is safe for concurrent use.
type API struct {
	service    *kms.Service
	identities Identities
	sts        STS
	regions    []string
	kmsKeys    *sigv4.Verifier // of requests to KMS
	stsKeys    *sigv4.Verifier // of requests to STS
	bodyLimit  int64
	now        func() time.Time
	log        *slog.Logger
	metrics    *metrics
	routes     map[string]*route // of KMS, by operation
	refusals   *httpd.Refusals   // of strangers
}

// New checks the options and builds the API.
func New(o Options) (*API, error) {
	if o.Service == nil || o.Identities == nil || o.STS == nil || len(o.Regions) == 0 {
		return nil, errors.New("key service API: Service, Identities, STS and Regions are required")
	}
	a := &API{
		service: o.Service, identities: o.Identities, sts: o.STS, regions: slices.Clone(o.Regions), bodyLimit: o.BodyLimit, now: o.Now, log: o.Logger,
		routes: routeTable(),
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
	var err error
	if a.kmsKeys, err = a.verifier("kms", o.MaxSkew, a.serves); err != nil {
		return nil, fmt.Errorf("key service API: %w", err)
	}
	if a.stsKeys, err = a.verifier("sts", o.MaxSkew, a.servesSTS); err != nil {
		return nil, fmt.Errorf("key service API: %w", err)
	}
	if a.metrics, err = newMetrics(o.Metrics, a.routes); err != nil {
		return nil, fmt.Errorf("key service API: %w", err)
	}
	return a, nil
}

// Handler is the API, for the path "/".
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// FlushRefusals writes into the audit log how many requests of strangers were refused
// without an entry of their own, as httpd.Refusals.Flush does.
func (a *API) FlushRefusals(ctx context.Context, all bool) error {
	return a.refusals.Flush(ctx, all)
}

// Wipe forgets all signing keys, as when the root key is sealed again.
func (a *API) Wipe() {
	a.kmsKeys.Wipe()
	a.stsKeys.Wipe()
}
