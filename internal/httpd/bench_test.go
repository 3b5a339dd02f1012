package httpd_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/httpd"
)

// discard is the cheapest response writer, so that a benchmark shows the stack.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

func benchHandler() http.Handler {
	mux := http.NewServeMux()
	answer := []byte(`{"status":"Ok"}`)
	mux.HandleFunc("POST /data/add", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	})
	return mux
}

// BenchmarkStack against BenchmarkBare is the cost of the whole middleware.
func BenchmarkStack(b *testing.B) {
	benchmark(b, stack(b, httpd.Options{Handler: benchHandler(), Metrics: prometheus.NewRegistry(), ResponseHeaders: map[string]string{"x-version": "v1"}}))
}

func BenchmarkBare(b *testing.B) { benchmark(b, benchHandler()) }

func benchmark(b *testing.B, h http.Handler) {
	text := strings.Repeat("x", 200)
	body := strings.NewReader(text)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/data/add", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:4711"
	r.Body = io.NopCloser(body)
	w := &discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(text)
		h.ServeHTTP(w, r)
	}
}

func TestMetricsAllocateNothingPerRequest(t *testing.T) {
	s, err := httpd.New(httpd.Options{Name: "vault", Addr: "127.0.0.1:0", Handler: http.HandlerFunc(ok), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { s.ResolveSeries("POST /data/add", 200) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
