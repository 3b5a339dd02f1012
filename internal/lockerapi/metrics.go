package lockerapi

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what only this package sees. Every label has a fixed set of values.
type metrics struct {
	openSeconds, sealSeconds prometheus.Observer

	limits, replays, failures *prometheus.CounterVec

	counted prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	jwe := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cardea_locker_jwe_seconds", Help: "Time to open a request's envelope, or to seal a response's.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 14),
	}, []string{"operation"})
	m := &metrics{
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_locker_rate_limited_total", Help: "Requests refused because there were too many.",
		}, []string{"route"}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_locker_replay_refused_total", Help: "Signed requests refused by replay protection.",
		}, []string{"reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_locker_auth_failures_total", Help: "Requests refused because their sender could not be identified.",
		}, []string{"method"}),
		counted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cardea_locker_refusals_counted_total", Help: "Refused requests of strangers that are in the audit log by their number only.",
		}),
	}
	var errs []error
	if reg != nil {
		for _, c := range []prometheus.Collector{jwe, m.limits, m.replays, m.failures, m.counted} {
			errs = append(errs, reg.Register(c))
		}
	}
	m.openSeconds, m.sealSeconds = jwe.WithLabelValues("open"), jwe.WithLabelValues("seal")
	return m, errors.Join(errs...)
}

// limited counts by the path of a route, or /custodian for all of its routes.
func (m *metrics) limited(route string) prometheus.Counter { return m.limits.WithLabelValues(route) }

func (m *metrics) replayed(r replayReason) prometheus.Counter {
	return m.replays.WithLabelValues(string(r))
}

// authFailed counts by plain, jwe, bearer, or clear for a custodian in clear.
func (m *metrics) authFailed(method string) prometheus.Counter {
	return m.failures.WithLabelValues(method)
}
