package vault

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// jobMetrics are named cardea_keys_job*. Of the jobs that are not finished each node
// tells all, as it last read them; of the work done each tells its own. It is safe
// for concurrent use.
type jobMetrics struct {
	rows, ended, failures *prometheus.CounterVec

	unfinished, remaining, begun *prometheus.Desc

	mu   sync.Mutex // guards jobs
	jobs []Job      // those unfinished
}

// newJobMetrics registers them with r, unless it is nil.
func newJobMetrics(r prometheus.Registerer) *jobMetrics {
	of := []string{"tenant", "kind"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(of[:2:2], more...))
	}
	m := &jobMetrics{
		rows:       counter("cardea_keys_job_rows_total", "Rows that jobs on keys have worked on, on this node: moved (or removed), verified, skipped or bad.", "result"),
		ended:      counter("cardea_keys_jobs_ended_total", "Jobs on keys that ended on this node, by state.", "state"),
		failures:   counter("cardea_keys_job_failures_total", "How often a job on keys could not go on, on this node, and was left to be tried again."),
		unfinished: prometheus.NewDesc("cardea_keys_jobs", "Jobs on keys that are not finished, by state.", append(of[:2:2], "state"), nil),
		remaining:  prometheus.NewDesc("cardea_keys_job_rows_remaining", "Rows that unfinished jobs have yet to move, remove or open, as counted when they began.", of, nil),
		begun:      prometheus.NewDesc("cardea_keys_job_begun_timestamp_seconds", "When the oldest job on keys was begun that is not finished.", of, nil),
	}
	if r != nil {
		r.MustRegister(m, m.rows, m.ended, m.failures)
	}
	return m
}

// read takes over what the store has.
func (m *jobMetrics) read(all []Job) {
	var jobs []Job
	for _, j := range all {
		if !j.ended() {
			jobs = append(jobs, j)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = jobs
}

// done counts what a job has done since was.
func (m *jobMetrics) done(was, now *Job) {
	for result, n := range map[string]int64{
		"moved": now.Moved - was.Moved, "verified": now.Verified - was.Verified, "skipped": now.Skipped - was.Skipped, "bad": now.Bad - was.Bad,
	} {
		if n > 0 { // a step that begins anew counts from 0
			m.rows.WithLabelValues(now.Tenant, string(now.Kind), result).Add(float64(n))
		}
	}
}

// Describe implements prometheus.Collector.
func (m *jobMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.unfinished
	ch <- m.remaining
	ch <- m.begun
}

// Collect implements prometheus.Collector.
func (m *jobMetrics) Collect(ch chan<- prometheus.Metric) {
	type of struct{ tenant, kind string }
	type inState struct {
		of
		state JobState
	}
	states, rows, oldest := map[inState]float64{}, map[of]float64{}, map[of]Micros{}
	m.mu.Lock()
	for i := range m.jobs {
		j := &m.jobs[i]
		k := of{j.Tenant, string(j.Kind)}
		states[inState{k, j.State}]++
		rows[k] += float64(j.remaining())
		if at, ok := oldest[k]; !ok || j.CreatedAt < at {
			oldest[k] = j.CreatedAt
		}
	}
	m.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for k, n := range states {
		gauge(m.unfinished, n, k.tenant, k.kind, string(k.state))
	}
	for k, n := range rows {
		gauge(m.remaining, n, k.tenant, k.kind)
		gauge(m.begun, float64(oldest[k])/1e6, k.tenant, k.kind)
	}
}

// remaining is how many rows the job has yet to work on, as far as it has counted
// them.
func (j *Job) remaining() int64 {
	n := int64(0)
	switch {
	case j.Kind == JobVerify:
		n = j.Total - j.Verified - j.Bad
	case j.Kind == JobReencrypt && (j.Step == stepKeys || j.Step == stepRecords), j.Kind == JobShred && j.Step == stepRemove:
		n = j.Total - j.Moved - j.Bad
	}
	return max(0, n)
}
