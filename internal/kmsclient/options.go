package kmsclient

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/secret"
)

// Options are what a Client is made of. The zero value is AWS, with credentials
// from the standard chain.
type Options struct {
	// RootCAFile holds PEM certificates of authorities that are trusted besides the
	// system's: the one of a key service of one's own.
	RootCAFile string
	// AllowPlainHTTP allows endpoints with http:// on other machines: every secret
	// crosses the network in clear. To loopback it is always allowed.
	AllowPlainHTTP bool
	// Credentials are by Key.Profile and go before the shared files and the standard
	// chain; those named "" are of keys without a profile.
	Credentials map[string]Credentials
	// CredentialsFile is read in place of the shared credentials file, by the profiles
	// of keys, when the first of them is used; "" is the standard place.
	CredentialsFile string

	ConnectTimeout time.Duration // of TCP, and again of TLS; default 2 s
	AttemptTimeout time.Duration // of one request; default 2 s
	// Deadline is the longest that a call takes, all waits, attempts and Regions
	// together; default 5 s. The caller's context may end it sooner.
	Deadline time.Duration
	Attempts int // in a Region, at most; default 3
	// MaxConcurrent is how many requests a key and Region may have under way; others
	// wait for one of them. Default 128.
	MaxConcurrent int
	// Rate is requests a second of a key and Region, a tenth of it at once; others
	// wait. Default 5,000, half of the lowest quota of an AWS account; below 0 there
	// is no limit.
	Rate    float64
	Breaker Breaker
	// FailoverHold is how long a key stays with a replica that has answered in place
	// of its home Region, before a call asks at home again. Default 30 s.
	FailoverHold time.Duration

	Now     func() time.Time      // default time.Now
	Logger  *slog.Logger          // default discards
	Metrics prometheus.Registerer // default keeps the metrics to itself

	transport http.RoundTripper // tests'
}

// Breaker says when a key and Region are left alone.
type Breaker struct {
	Failures int           // in a row; default 5
	OpenFor  time.Duration // default 5 s
}

// Credentials are an access key. The SDK needs its secrets as strings, which live
// in memory as long as a request.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.Bytes
	SessionToken    secret.Bytes // of temporary credentials; else not present
}

// Client is a KMS. Settings, credentials, endpoints and signatures are those of the AWS
// SDK, requests its own (wire). It is safe for concurrent use.
type Client struct {
	o       Options
	tls     tlsSettings
	metrics *metrics

	mu     sync.RWMutex // guards the maps
	routes map[keyName]*route
	apis   map[apiName]*api
}

var _ KMS = (*Client)(nil)

// New makes a client. It calls nobody. Call Close at the end.
func New(o Options) (*Client, error) {
	durations := []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"connect timeout", &o.ConnectTimeout, 2 * time.Second},
		{"attempt timeout", &o.AttemptTimeout, 2 * time.Second},
		{"deadline", &o.Deadline, 5 * time.Second},
		{"breaker open time", &o.Breaker.OpenFor, 5 * time.Second},
		{"failover hold", &o.FailoverHold, 30 * time.Second},
	}
	for _, d := range durations {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < time.Millisecond || *d.v > time.Hour {
			return nil, fmt.Errorf("kms client: %s %s: must be from 1ms to 1h", d.name, *d.v)
		}
	}
	counts := []struct {
		name     string
		v        *int
		def, max int
	}{
		{"attempts", &o.Attempts, 3, 10},
		{"concurrent requests", &o.MaxConcurrent, 128, 10_000},
		{"breaker failures", &o.Breaker.Failures, 5, 1000},
	}
	for _, c := range counts {
		if *c.v == 0 {
			*c.v = c.def
		}
		if *c.v < 1 || *c.v > c.max {
			return nil, fmt.Errorf("kms client: %d %s: must be from 1 to %d", *c.v, c.name, c.max)
		}
	}
	if o.Rate == 0 {
		o.Rate = 5000
	}
	for profile, c := range o.Credentials {
		if c.AccessKeyID == "" || c.SecretAccessKey.Len() == 0 {
			return nil, fmt.Errorf("kms client: credentials %q: access key id and secret access key are required", profile)
		}
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, routes: map[keyName]*route{}, apis: map[apiName]*api{}}
	var err error
	if c.tls, err = newTLSSettings(o.RootCAFile); err != nil {
		return nil, fmt.Errorf("kms client: %w", err)
	}
	if c.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("kms client: %w", err)
	}
	return c, nil
}

// Close ends idle connections and takes the metrics back. Calls that are under way
// end as if it had not been called.
func (c *Client) Close() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, a := range c.apis {
		a.close()
	}
	c.metrics.unregister(c.o.Metrics)
}

// route finds out how to ask for the key.
func (c *Client) route(k Key) (*route, error) {
	name := k.name()
	c.mu.RLock()
	r := c.routes[name]
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	full, err := k.normalise()
	if err == nil && !c.o.AllowPlainHTTP {
		err = full.checkPlain()
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r = c.routes[name]; r != nil {
		return r, nil
	}
	// A key that was written out in full shares what the same key in short has.
	if r = c.routes[full.name()]; r == nil {
		r = c.newRoute(full)
		c.routes[full.name()] = r
	}
	c.routes[name] = r
	return r, nil
}

// api is the SDK's client of a Region. The caller holds c.mu.
func (c *Client) api(n apiName) *api {
	a := c.apis[n]
	if a == nil {
		a = &api{}
		c.apis[n] = a
	}
	return a
}
