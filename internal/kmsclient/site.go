package kmsclient

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"golang.org/x/time/rate"
)

// Retries cost tokens, which successes earn: a Region in trouble gets little more
// than one request a call.
const (
	retryTokens = 500
	retryCost   = 5
)

// site is a key in a Region.
type site struct {
	id, region string
	home       string // Region
	name       apiName
	api        *api
	breaker    *breaker
	rate       *rate.Limiter
	slots      chan struct{} // one in it is one request under way
	retries    *ratelimit.TokenBucket
}

// newSite is called with c.mu held.
func (c *Client) newSite(k Key, id, region, endpoint string) *site {
	n := apiName{profile: k.Profile, region: region, endpoint: endpoint, fips: k.FIPS}
	limit := rate.Limit(c.o.Rate)
	if c.o.Rate < 0 {
		limit = rate.Inf
	}
	s := &site{
		id: id, region: region, home: k.Region, name: n, api: c.api(n),
		rate:    rate.NewLimiter(limit, max(1, int(c.o.Rate/10))),
		slots:   make(chan struct{}, c.o.MaxConcurrent),
		retries: ratelimit.NewTokenBucket(retryTokens),
	}
	s.breaker = &breaker{failures: c.o.Breaker.Failures, openFor: c.o.Breaker.OpenFor, now: c.o.Now, changed: func(from, to breakerState) {
		c.metrics.breaker(region, from, to)
		switch to {
		case open:
			if from == closed {
				c.o.Logger.Warn("key service does not answer, it is left alone for a while",
					slog.String("key", id), slog.String("region", region), slog.Duration("for", c.o.Breaker.OpenFor))
			}
		case closed:
			c.o.Logger.Info("key service answers again", slog.String("key", id), slog.String("region", region))
		}
	}}
	c.metrics.newBreaker(region)
	return s
}

// turn waits until the site may be sent a request, by rate and by number. The
// caller calls done after it.
func (s *site) turn(ctx context.Context, now func() time.Time) (done func(), e *Error) {
	if s.rate.Limit() != rate.Inf {
		at := now()
		r := s.rate.ReserveN(at, 1)
		if wait := r.DelayFrom(at); wait > 0 {
			if until, ok := ctx.Deadline(); ok && time.Until(until) <= wait {
				r.CancelAt(at)
				return nil, &Error{kind: ErrThrottled, cause: errRate, RetryAfter: max(wait, defaultRetryAfter)}
			}
			if sleep(ctx, wait) != nil || ctx.Err() != nil {
				r.CancelAt(at)
				return nil, &Error{kind: ErrThrottled, cause: errRate, RetryAfter: defaultRetryAfter}
			}
		}
	}
	select {
	case s.slots <- struct{}{}:
		if ctx.Err() == nil {
			return func() { <-s.slots }, nil
		}
		<-s.slots // too late for a request
	case <-ctx.Done():
	}
	return nil, &Error{kind: ErrThrottled, cause: errBusy, RetryAfter: defaultRetryAfter}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// route is a key with the Regions that it can be asked for in, home first.
type route struct {
	key   Key
	sites []*site

	mu      sync.Mutex // guards the rest
	serving int        // the site that calls ask first
	until   time.Time  // when home is asked again, if another is serving
	probing bool       // a call is finding out whether home answers
}

// newRoute is called with c.mu held.
func (c *Client) newRoute(k Key) *route {
	r := &route{key: k, sites: []*site{c.newSite(k, k.ID, k.Region, k.Endpoint)}}
	for _, p := range k.Replicas {
		r.sites = append(r.sites, c.newSite(k, p.ID, p.Region, p.Endpoint))
	}
	return r
}

// order is in which order sites are asked, and whether the call finds out about
// home. A call that does so ends with settle.
func (r *route) order(now time.Time) (order []int, probe bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.serving
	if first != 0 && !r.probing && !now.Before(r.until) {
		first, probe = 0, true
		r.probing = true
	}
	order = append(make([]int, 0, len(r.sites)), first)
	for i := range r.sites {
		if i != first {
			order = append(order, i)
		}
	}
	return order, probe
}

// settle takes note of who answered a call that asked first before all others; by
// is -1 if nobody did. It reports whether the site that serves has changed.
func (r *route) settle(first, by int, probe bool, until time.Time) (moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.serving
	if probe {
		r.probing = false
		r.until = until
	}
	switch {
	case by == 0 && (probe || first != 0):
		r.serving = 0
	case by > 0 && by != first:
		r.serving, r.until = by, until
	}
	return r.serving != was
}
