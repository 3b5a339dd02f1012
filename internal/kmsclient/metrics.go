package kmsclient

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are named cardea_kmsclient_*. Their labels have a fixed set of values, but
// for Regions, which are those of the keys that are configured; keys have none.
type metrics struct {
	calls     *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	throttled *prometheus.CounterVec
	retries   *prometheus.CounterVec
	breakers  *prometheus.GaugeVec
	inflight  *prometheus.GaugeVec
	failovers prometheus.Counter
	all       []prometheus.Collector
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_kmsclient_calls_total", Help: "Calls to a Region, after their retries, by what came of them.",
		}, []string{"operation", "region", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cardea_kmsclient_duration_seconds", Help: "Time of a call, with all waits, retries and Regions.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_kmsclient_throttled_total", Help: "Requests that were throttled: by kms, or here before they were sent.",
		}, []string{"region", "by"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_kmsclient_retries_total", Help: "Requests that were sent again.",
		}, []string{"operation", "region"}),
		breakers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cardea_kmsclient_breaker_state", Help: "Keys in a Region by the state of their circuit breaker.",
		}, []string{"region", "state"}),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cardea_kmsclient_inflight", Help: "Requests under way.",
		}, []string{"region"}),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cardea_kmsclient_failovers_total", Help: "How often another Region took over a key, home included.",
		}),
	}
	m.all = []prometheus.Collector{m.calls, m.duration, m.throttled, m.retries, m.breakers, m.inflight, m.failovers}
	if r == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, c := range m.all[:i] {
				r.Unregister(c)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r != nil {
		for _, c := range m.all {
			r.Unregister(c)
		}
	}
}

// results are the label of each kind of error.
var results = map[error]string{
	ErrThrottled: "throttled", ErrDenied: "denied", ErrDisabled: "disabled", ErrNotFound: "not_found",
	ErrWrongContext: "wrong_context", ErrInvalid: "invalid", ErrUnreachable: "unreachable",
}

func (m *metrics) called(op operation, s *site, e *Error, parent context.Context) {
	result := "ok"
	if e != nil {
		result = results[e.kind]
		if parent.Err() != nil && e.health != answering {
			result = "given_up"
		}
	}
	m.calls.WithLabelValues(op.name, s.region, result).Inc()
}

func (m *metrics) took(op operation, d time.Duration) {
	m.duration.WithLabelValues(op.name).Observe(d.Seconds())
}

func (m *metrics) retry(op operation, s *site) { m.retries.WithLabelValues(op.name, s.region).Inc() }

func (m *metrics) throttledHere(s *site) { m.throttled.WithLabelValues(s.region, "client").Inc() }

func (m *metrics) throttledThere(s *site) { m.throttled.WithLabelValues(s.region, "kms").Inc() }

func (m *metrics) underWay(s *site, n float64) { m.inflight.WithLabelValues(s.region).Add(n) }

func (m *metrics) newBreaker(region string) {
	for st := range breakerStates {
		m.breakers.WithLabelValues(region, st.String()).Add(0)
	}
	m.breakers.WithLabelValues(region, closed.String()).Inc()
}

func (m *metrics) breaker(region string, from, to breakerState) {
	m.breakers.WithLabelValues(region, from.String()).Dec()
	m.breakers.WithLabelValues(region, to.String()).Inc()
}
