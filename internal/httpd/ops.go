package httpd

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// State is how one part of the process is.
type State string

const (
	Working  State = "working"
	Failing  State = "failing"
	Disabled State = "disabled" // not configured; no reason to be unready
)

// Check is one part's answer to a readiness question. Detail is shown to whoever
// can reach the ops listener: it must not hold a secret. Card numbers in it are masked.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// readinessTimeout bounds one /readyz; orchestrators ask again.
const readinessTimeout = 5 * time.Second

// OpsHandler serves GET /metrics (Prometheus text), /healthz (200 as long as the
// process answers) and /readyz (200, or 503 if any check is not working or
// disabled). readiness is called for each /readyz, possibly many at a time.
func OpsHandler(registry prometheus.Gatherer, readiness func(ctx context.Context) []Check) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readinessTimeout)
		defer cancel()
		answer := struct {
			Ready  bool    `json:"ready"`
			Checks []Check `json:"checks"`
		}{Ready: true, Checks: []Check{}}
		for _, c := range readiness(ctx) {
			c.Detail = maskPANs(c.Detail)
			answer.Ready = answer.Ready && (c.State == Working || c.State == Disabled)
			answer.Checks = append(answer.Checks, c)
		}
		status := http.StatusOK
		if !answer.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, answer)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // plain structs always encode; a client that left needs no answer
}
