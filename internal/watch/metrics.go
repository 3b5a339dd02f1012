package watch

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Describe implements prometheus.Collector.
func (w *Watcher) Describe(to chan<- *prometheus.Desc) {
	for _, d := range describe(w.o.Name) {
		to <- d
	}
}

type descriptions map[string]*prometheus.Desc

func describe(source string) descriptions {
	of := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, prometheus.Labels{"source": source})
	}
	return descriptions{
		"alerts":   of("cardea_detection_alerts_total", "Alerts handed over since the process began.", "rule", "suppressed"),
		"events":   of("cardea_detection_events_total", "Events judged, since the detection was first set up."),
		"late":     of("cardea_detection_late_events_total", "Events later than engine.lateness allows, which only rules saw."),
		"skipped":  of("cardea_detection_skipped_total", "Parts of the source that are no events, since the process began."),
		"lag":      of("cardea_detection_lag_seconds", "Age of the newest event of the source."),
		"backlog":  of("cardea_detection_backlog_files", "Files known and not yet read."),
		"troubles": of("cardea_detection_troubles", "Troubles that keep the detection from seeing (PCI DSS 10.7.2)."),
	}
}

// Collect implements prometheus.Collector.
func (w *Watcher) Collect(to chan<- prometheus.Metric) {
	d, st := describe(w.o.Name), w.Status()
	w.mu.Lock()
	defer w.mu.Unlock()
	counter := func(name string, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d[name], prometheus.CounterValue, v, labels...)
	}
	gauge := func(name string, v float64) { to <- prometheus.MustNewConstMetric(d[name], prometheus.GaugeValue, v) }
	for k, n := range w.told {
		counter("alerts", float64(n), k.rule, strconv.FormatBool(k.suppressed))
	}
	counter("events", float64(w.stats.Events))
	counter("late", float64(w.stats.Late))
	counter("skipped", float64(st.Skipped))
	gauge("lag", st.Lag.Seconds())
	gauge("backlog", float64(st.Backlog))
	gauge("troubles", float64(len(w.troubles)))
}

// CollectTroubles gives the metric of troubles of a source that cannot be watched.
func CollectTroubles(to chan<- prometheus.Metric, source string, n int) {
	to <- prometheus.MustNewConstMetric(describe(source)["troubles"], prometheus.GaugeValue, float64(n))
}
