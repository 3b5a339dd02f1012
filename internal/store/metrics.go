package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are named cardea_store_*.
type metrics struct {
	batch       prometheus.Histogram
	commit      prometheus.Histogram
	reads       [readKinds]prometheus.Observer
	coalesced   prometheus.Histogram
	checkpoints prometheus.Counter // that failed
	all         []prometheus.Collector
}

// readKind is a label of the reads that are timed.
type readKind int

const (
	readRecord readKind = iota
	readRecordAndHolder
	readFingerprint
	readHolder
	readKey
	readKeyService
	readIdentity
	readOther
	readKinds
)

func newMetrics() *metrics {
	m := &metrics{
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cardea_store_batch_size", Help: "Units in a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cardea_store_commit_seconds", Help: "Time of a commit, retries included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		coalesced: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cardea_store_reads_per_query", Help: "Point reads that one round trip to PostgreSQL answered.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		checkpoints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cardea_store_checkpoint_failures_total", Help: "Checkpoints of the audit log that could not be signed or stored.",
		}),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cardea_store_read_seconds", Help: "Time of a read, by what is read.",
		Buckets: prometheus.ExponentialBuckets(0.00001, 2, 18),
	}, []string{"of"})
	for k, name := range [readKinds]string{"record", "record_and_holder", "fingerprint", "holder", "key", "key_service", "identity", "other"} {
		m.reads[k] = seconds.WithLabelValues(name)
	}
	m.all = []prometheus.Collector{m.batch, m.commit, m.coalesced, m.checkpoints, seconds}
	return m
}

// gauge adds a gauge that is read when it is asked for.
func (m *metrics) gauge(name, help string, value func() float64) {
	m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cardea_store_" + name, Help: help}, value))
}

// register gives all of them to r, or none.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, c := range m.all[:i] {
				r.Unregister(c)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r != nil {
		for _, c := range m.all {
			r.Unregister(c)
		}
	}
}

func (m *metrics) committed(units int, took time.Duration) {
	m.batch.Observe(float64(units))
	m.commit.Observe(took.Seconds())
}
