package kmsapi

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/sigv4"
)

// durationBuckets are seconds: fine where a symmetric operation lives (100 µs to
// 10 ms), coarse to 10 s.
var durationBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// metrics count requests by operation. Every label has a fixed set of values.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
	counted  prometheus.Counter
	by       map[string]series // of operations, ready for the hot path
}

// series are one operation's.
type series struct {
	ok       prometheus.Counter
	duration prometheus.Observer
}

// unknownOperation labels requests of which the operation is not known.
const unknownOperation = "unknown"

func newMetrics(reg prometheus.Registerer, routes map[string]*route) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_kms_requests_total", Help: "Requests to the key service by operation and error code, OK without one.",
		}, []string{"operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cardea_kms_request_duration_seconds", Help: "Time from the headers read to the answer.", Buckets: durationBuckets,
		}, []string{"operation"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_kms_auth_failures_total", Help: "Requests refused because their signature was not verified.",
		}, []string{"reason"}),
		counted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cardea_kms_refusals_counted_total", Help: "Refused requests of strangers that are in the audit log by their number only.",
		}),
		by: map[string]series{},
	}
	var errs []error
	if reg != nil {
		for _, c := range []prometheus.Collector{m.requests, m.duration, m.failures, m.counted} {
			errs = append(errs, reg.Register(c))
		}
	}
	for name := range routes {
		m.by[name] = series{m.requests.WithLabelValues(name, "OK"), m.duration.WithLabelValues(name)}
	}
	for _, name := range stsActions() {
		m.by[name] = series{m.requests.WithLabelValues(name, "OK"), m.duration.WithLabelValues(name)}
	}
	m.by[""] = series{duration: m.duration.WithLabelValues(unknownOperation)}
	return m, errors.Join(errs...)
}

func (m *metrics) succeeded(op string, took time.Duration) {
	s := m.by[op]
	s.ok.Inc()
	s.duration.Observe(took.Seconds())
}

// failed counts by the operation, "" if it is not known, and a code of the tables.
func (m *metrics) failed(op, code string, took time.Duration) {
	m.by[op].duration.Observe(took.Seconds())
	if op == "" {
		op = unknownOperation
	}
	m.requests.WithLabelValues(op, code).Inc()
}

func (m *metrics) authFailed(c sigv4.Code) { m.failures.WithLabelValues(string(c)).Inc() }
