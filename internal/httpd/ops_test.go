package httpd_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/httpd"
)

func TestOps(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "cardea_test_total", Help: "x"}))
	working := httpd.Check{Name: "database", State: httpd.Working}
	for name, tc := range map[string]struct {
		method, path string
		checks       []httpd.Check
		status       int
		body         string
	}{
		"alive":          {"GET", "/healthz", []httpd.Check{{State: httpd.Failing}}, 200, `{"status":"alive"}`},
		"ready":          {"GET", "/readyz", []httpd.Check{working}, 200, `{"ready":true,"checks":[{"name":"database","state":"working"}]}`},
		"nothing to ask": {"GET", "/readyz", nil, 200, `{"ready":true,"checks":[]}`},
		"disabled part":  {"GET", "/readyz", []httpd.Check{working, {Name: "kms", State: httpd.Disabled}}, 200, `"state":"disabled"`},
		"failing part": {
			"GET", "/readyz",
			[]httpd.Check{working, {Name: "tenant acme", State: httpd.Failing, Detail: "locked, " + testPAN}},
			503,
			`{"ready":false,"checks":[{"name":"database","state":"working"},{"name":"tenant acme","state":"failing","detail":"locked, [card number]"}]}`,
		},
		"unknown state": {"GET", "/readyz", []httpd.Check{{Name: "x", State: "fine"}}, 503, `"ready":false`},
		"metrics":       {"GET", "/metrics", nil, 200, "cardea_test_total 0"},
		"unknown path":  {"GET", "/debug/pprof/", nil, 404, ""},
		"wrong method":  {"POST", "/readyz", nil, 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := httpd.OpsHandler(reg, func(ctx context.Context) []httpd.Check {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("readiness is asked without a deadline")
				}
				return tc.checks
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tc.status, tc.body)
			}
			if json := w.Header().Get("Content-Type") == "application/json"; json != (tc.path == "/healthz" || tc.path == "/readyz" && tc.method == http.MethodGet) {
				t.Errorf("content type %q", w.Header().Get("Content-Type"))
			}
		})
	}
}
