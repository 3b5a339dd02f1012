package httpd

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBuckets are seconds: fine where a vault lives (50 µs to 10 ms), coarse to 10 s.
var durationBuckets = []float64{
	.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

// maxSeries bounds the (route, method, status) combinations of one listener.
const maxSeries = 2048

// metrics are one listener's. Label values are resolved once a combination: on
// the hot path there is one map lookup and no allocation.
type metrics struct {
	listener string
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	reloads  *prometheus.CounterVec

	inFlight           prometheus.Gauge
	connections        prometheus.Gauge
	connectionsRefused prometheus.Counter
	panics             prometheus.Counter
	handshakeErrors    prometheus.Counter
	certificateExpiry  *prometheus.GaugeVec // without a value until a certificate is loaded: 0 would read as expired

	mu     sync.Mutex // held to replace series; readers take no lock
	series atomic.Pointer[map[seriesKey]*series]
}

type seriesKey struct {
	pattern string
	method  string
	status  int
}

type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(listener string, reg prometheus.Registerer) (*metrics, error) {
	r := registrar{reg: reg}
	m := &metrics{
		listener: listener,
		requests: register(&r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_http_requests_total", Help: "Requests answered, by mux pattern.",
		},
			[]string{"listener", "route", "method", "status"})),
		duration: register(&r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cardea_http_request_duration_seconds", Help: "Time from the headers read to the handler's return.", Buckets: durationBuckets,
		},
			[]string{"listener", "route"})),
		reloads: register(&r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cardea_tls_reloads_total", Help: "Loads of the TLS files; failed means that the ones before stay in use.",
		},
			[]string{"listener", "outcome"})),
		inFlight:           r.gauge("cardea_http_requests_in_flight", "Requests being handled.", listener),
		connections:        r.gauge("cardea_http_connections", "Open connections.", listener),
		connectionsRefused: r.counter("cardea_http_connections_refused_total", "Connections closed at once because too many were open.", listener),
		panics:             r.counter("cardea_http_panics_total", "Requests whose handler panicked.", listener),
		handshakeErrors:    r.counter("cardea_tls_handshake_errors_total", "TLS handshakes that failed.", listener),
		certificateExpiry: register(&r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cardea_tls_certificate_expiry_timestamp_seconds", Help: "End of validity of the certificate in use, Unix time.",
		},
			[]string{"listener"})),
	}
	m.series.Store(&map[seriesKey]*series{})
	return m, r.err
}

func (m *metrics) tlsReloads(outcome string) prometheus.Counter {
	return m.reloads.WithLabelValues(m.listener, outcome)
}

// route is the counter and histogram of a mux pattern, which may be "".
func (m *metrics) route(pattern, method string, status int) *series {
	if s, ok := (*m.series.Load())[seriesKey{pattern, method, status}]; ok {
		return s
	}
	return m.addSeries(pattern, method, status)
}

func (m *metrics) addSeries(pattern, method string, status int) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	label, route := methodLabel(method), routeLabel(pattern)
	old := *m.series.Load()
	if len(old) >= maxSeries {
		route = "other"
	}
	s := &series{
		requests: m.requests.WithLabelValues(m.listener, route, label, strconv.Itoa(status)),
		duration: m.duration.WithLabelValues(m.listener, route),
	}
	// A method that is not a standard one is the client's text: it is no key.
	if label != "other" && len(old) < maxSeries {
		grown := maps.Clone(old)
		grown[seriesKey{pattern, label, status}] = s
		m.series.Store(&grown)
	}
	return s
}

// methodLabel keeps the methods a bounded set: a client may send any token.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "other"
}

// routeLabel is the pattern without its method, which has a label of its own.
func routeLabel(pattern string) string {
	if pattern == "" {
		return "unmatched"
	}
	if i := strings.IndexByte(pattern, ' '); i >= 0 {
		return strings.TrimLeft(pattern[i:], " ")
	}
	return pattern
}

// registrar collects the first error. A collector that is registered already,
// by another listener, is shared.
type registrar struct {
	reg prometheus.Registerer
	err error
}

func register[C prometheus.Collector](r *registrar, c C) C {
	if r.reg == nil {
		return c
	}
	err := r.reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("register metrics: %w", err)
	}
	return c
}

func (r *registrar) gauge(name, help, listener string) prometheus.Gauge {
	return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"listener"})).WithLabelValues(listener)
}

func (r *registrar) counter(name, help, listener string) prometheus.Counter {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"listener"})).WithLabelValues(listener)
}
