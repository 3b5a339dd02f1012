package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/httpd"
	"cardea/internal/testlog"
)

// stack is the middleware around h, without a listener.
func stack(t testing.TB, o httpd.Options) http.Handler {
	t.Helper()
	o.Name, o.Addr = "vault", "127.0.0.1:0"
	s, err := httpd.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func request(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestRequestID(t *testing.T) {
	var seen string
	h := stack(t, httpd.Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = httpd.RequestID(r.Context()) })})
	long := strings.Repeat("a", 128)
	for name, tc := range map[string]struct {
		sent []string
		kept bool
	}{
		"none":               {nil, false},
		"empty":              {[]string{""}, false},
		"UUIDv7":             {[]string{"01934f0e-7d5c-7a3e-8c55-0f3b1b9d2e11"}, true},
		"any visible text":   {[]string{"req/1~2!"}, true},
		"longest":            {[]string{long}, true},
		"too long":           {[]string{long + "a"}, false},
		"space":              {[]string{"a b"}, false},
		"control":            {[]string{"a\x01"}, false},
		"not ASCII":          {[]string{"ä"}, false},
		"two":                {[]string{"a", "b"}, false},
		"a card number":      {[]string{testPAN}, false},
		"one in it":          {[]string{"card-" + testPAN}, false},
		"hex with long runs": {[]string{"a" + testPAN + "f"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(http.MethodGet, "/")
			r.Header["X-Request-Id"] = tc.sent
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			echoed := w.Header()["X-Request-Id"]
			if len(echoed) != 1 || echoed[0] != seen {
				t.Fatalf("echoed %q, the handler saw %q", echoed, seen)
			}
			if kept := len(tc.sent) > 0 && echoed[0] == tc.sent[0]; kept != tc.kept {
				t.Errorf("kept %v, want %v", kept, tc.kept)
			}
			if !tc.kept {
				if id, err := uuid.Parse(seen); err != nil || id.Version() != 7 {
					t.Errorf("made %q, want a UUIDv7", seen)
				}
			}
		})
	}
	if httpd.RequestID(context.Background()) != "" {
		t.Error("a context outside a request has an id")
	}
}

func TestRequestContextKeepsTheConnections(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "v"))
	h := stack(t, httpd.Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		child, stop := context.WithTimeout(r.Context(), time.Hour)
		defer stop()
		if child.Value(key{}) != "v" || httpd.RequestID(child) == "" {
			t.Error("values do not reach a derived context")
		}
		cancel()
		if r.Context().Err() == nil {
			t.Error("cancellation does not reach the handler")
		}
	})})
	h.ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/").WithContext(parent))
}

func TestPanicIsA500WithoutTheValueInTheLog(t *testing.T) {
	var nilMap map[string]int
	for name, tc := range map[string]struct {
		do       func(w http.ResponseWriter)
		wantType string
		logged   string
	}{
		"text":    {func(http.ResponseWriter) { panic("card " + testPAN) }, "string", ""},
		"error":   {func(http.ResponseWriter) { panic(errors.New("canary-value")) }, "*errors.errorString", ""},
		"runtime": {func(http.ResponseWriter) { nilMap["x"] = 1 }, "", "assignment to entry in nil map"},
		"headers set, nothing written": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "9999")
			panic("x")
		}, "string", ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg, logs := prometheus.NewRegistry(), &testlog.Buffer{}
			mux := http.NewServeMux()
			mux.HandleFunc("POST /data/add", func(w http.ResponseWriter, _ *http.Request) { tc.do(w) })
			r := start(t, httpd.Options{Handler: mux, Metrics: reg, Logger: debugLogger(t, logs), ResponseHeaders: map[string]string{"x-version": "v1"}})
			resp, err := client(t, nil).Post(r.URL()+"/data/add", "application/json", nil)
			if err != nil {
				t.Fatal(err)
			}
			if b := body(t, resp); resp.StatusCode != 500 || b != `{"code":"TE_00","message":"Something went wrong","data":null}` {
				t.Errorf("got %d %q", resp.StatusCode, b)
			}
			if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("X-Version") != "v1" {
				t.Errorf("headers: %v", resp.Header)
			}
			eventually(t, "the request is counted", func() bool {
				n, _ := sample(t, reg, "cardea_http_requests_total", "status=500", "route=/data/add")
				p, _ := sample(t, reg, "cardea_http_panics_total", "listener=vault")
				return n == 1 && p == 1
			})
			log := logs.String()
			if strings.Count(log, "panic in a request handler") != 1 || !strings.Contains(log, resp.Header.Get("X-Request-Id")) ||
				!strings.Contains(log, "middleware_test.go:") || !strings.Contains(log, tc.wantType) || !strings.Contains(log, tc.logged) {
				t.Errorf("log: %s", log)
			}
			if strings.Contains(log, testPAN) || strings.Contains(log, "canary-value") {
				t.Error("the panic's value is in the log")
			}
		})
	}
}

func TestPanicAfterTheAnswerBeganBreaksTheConnection(t *testing.T) {
	for name, value := range map[string]any{"panic": "x", "abort": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			logs := &testlog.Buffer{}
			r := start(t, httpd.Options{Logger: debugLogger(t, logs), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "half an ans")
				_ = http.NewResponseController(w).Flush()
				panic(value)
			})})
			resp, err := client(t, nil).Get(r.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("a broken answer looks whole: %q", b)
			}
			if logged := strings.Contains(logs.String(), "panic in"); logged != (name == "panic") {
				t.Errorf("logged: %v", logged)
			}
		})
	}
}

func TestPanicBodyIsConfigurable(t *testing.T) {
	h := stack(t, httpd.Options{PanicBody: `{"m":1}`, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(1) })})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(http.MethodGet, "/"))
	if w.Code != 500 || w.Body.String() != `{"m":1}` {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestResponseHeadersCanBeReplacedByTheHandler(t *testing.T) {
	h := stack(t, httpd.Options{ResponseHeaders: map[string]string{"x-version": "v1", "cache-control": "no-store"}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=1")
	})})
	for range 2 { // a change by one request must not reach the next
		w := httptest.NewRecorder()
		w.Header().Set("X", "y")
		h.ServeHTTP(w, request(http.MethodGet, "/"))
		if w.Header().Get("X-Version") != "v1" || w.Header().Get("Cache-Control") != "max-age=1" {
			t.Errorf("headers: %v", w.Header())
		}
	}
}

func TestAccessLogHasNothingThatTheClientTyped(t *testing.T) {
	logs := &testlog.Buffer{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /data/{id}", ok)
	h := stack(t, httpd.Options{Handler: mux, Logger: debugLogger(t, logs)})
	for _, r := range []*http.Request{
		request(http.MethodPost, "/data/canary-path?q=canary-query", "X-Canary", "canary-header"),
		request("CANARYMETHOD", "/canary-unmatched"),
	} {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
	if len(lines) != 2 || strings.Contains(strings.ToLower(logs.String()), "canary") {
		t.Fatalf("log: %s", logs)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"level": "DEBUG", "msg": "http request", "listener": "vault", "method": "POST", "route": "/data/{id}", "status": 200.0} {
		if first[k] != want {
			t.Errorf("%s: got %v, want %v", k, first[k], want)
		}
	}
	if first["request_id"] == "" || first["duration"] == nil {
		t.Errorf("log: %v", first)
	}
	if !strings.Contains(lines[1], `"method":"other"`) || !strings.Contains(lines[1], `"route":"unmatched"`) {
		t.Errorf("log: %s", lines[1])
	}
}

func TestAccessLogIsDebugOnly(t *testing.T) {
	logs := &testlog.Buffer{}
	l, err := httpd.NewLogger(logs, "text", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	stack(t, httpd.Options{Handler: http.HandlerFunc(ok), Logger: l}).ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/"))
	if logs.String() != "" {
		t.Errorf("log: %s", logs)
	}
}

func TestMetricsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /data/{id}", func(w http.ResponseWriter, _ *http.Request) {
		if n, _ := sample(t, reg, "cardea_http_requests_in_flight", "listener=vault"); n != 1 {
			t.Errorf("in flight: %v, want 1", n)
		}
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("/copied", func(_ http.ResponseWriter, r *http.Request) { httpd.SetRoute(r.Clone(r.Context()), "/inner") })
	h := stack(t, httpd.Options{Handler: mux, Metrics: reg})
	for _, r := range []*http.Request{
		request(http.MethodPost, "/data/1"), request(http.MethodPost, "/data/2"),
		request(http.MethodGet, "/nope"), request(http.MethodGet, "/nope2"), request("BREW", "/nope3"), request(http.MethodGet, "/copied"),
	} {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, tc := range []struct {
		want   float64
		labels []string
	}{
		{2, []string{"listener=vault", "route=/data/{id}", "method=POST", "status=201"}},
		{2, []string{"route=unmatched", "method=GET", "status=404"}},
		{1, []string{"route=unmatched", "method=other", "status=404"}},
		{1, []string{"route=/inner", "method=GET", "status=200"}},
	} {
		if n, _ := sample(t, reg, "cardea_http_requests_total", tc.labels...); n != tc.want {
			t.Errorf("%v: %v requests, want %v", tc.labels, n, tc.want)
		}
	}
	if n, _ := sample(t, reg, "cardea_http_request_duration_seconds", "listener=vault", "route=unmatched"); n != 3 {
		t.Errorf("histogram of unmatched: %v, want 3", n)
	}
	if n, _ := sample(t, reg, "cardea_http_requests_in_flight", "listener=vault"); n != 0 {
		t.Errorf("in flight at rest: %v", n)
	}
	if _, found := sample(t, reg, "cardea_tls_certificate_expiry_timestamp_seconds"); found {
		t.Error("a listener without TLS has an expiry of 0, which reads as expired")
	}
}

func TestSeriesStopGrowing(t *testing.T) {
	reg := prometheus.NewRegistry()
	status := 200
	h := stack(t, httpd.Options{Metrics: reg, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })})
	for i := range 5 {
		for status = 200; status < 800; status++ {
			method := []string{"GET", "HEAD", "POST", "PUT", "PATCH"}[i]
			h.ServeHTTP(httptest.NewRecorder(), request(method, "/"))
		}
	}
	if n, found := sample(t, reg, "cardea_http_requests_total", "route=other"); !found || n == 0 {
		t.Error("series above the bound are not gathered under one route")
	}
}

func TestTwoListenersShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, name := range []string{"vault", "ops"} {
		s, err := httpd.New(httpd.Options{Name: name, Addr: "127.0.0.1:0", Handler: http.HandlerFunc(ok), Metrics: reg})
		if err != nil {
			t.Fatal(err)
		}
		s.Handler().ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/"))
	}
	for _, name := range []string{"vault", "ops"} {
		if n, _ := sample(t, reg, "cardea_http_requests_total", "listener="+name); n != 1 {
			t.Errorf("%s: %v requests", name, n)
		}
	}
}

func TestNewReportsAMetricOfAnotherKind(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "cardea_http_requests_total", Help: "x"}))
	_, err := httpd.New(httpd.Options{Name: "vault", Addr: "127.0.0.1:0", Handler: http.HandlerFunc(ok), Metrics: reg})
	wantError(t, err, "listener vault: register metrics", "cardea_http_requests_total")
}

func TestPeerIP(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, tc := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                            {"192.0.2.1:5", nil, "192.0.2.1"},
		"stranger's header":                 {"192.0.2.1:5", []string{"198.51.100.9"}, "192.0.2.1"},
		"one proxy":                         {"10.0.0.1:5", []string{"198.51.100.9"}, "198.51.100.9"},
		"two proxies":                       {"10.0.0.1:5", []string{"198.51.100.9, 10.0.0.2"}, "198.51.100.9"},
		"forged left part":                  {"10.0.0.1:5", []string{"203.0.113.7, 198.51.100.9, 10.0.0.2"}, "198.51.100.9"},
		"two header lines":                  {"10.0.0.1:5", []string{"203.0.113.7", "198.51.100.9"}, "198.51.100.9"},
		"proxy without a header":            {"10.0.0.1:5", nil, "10.0.0.1"},
		"only proxies":                      {"10.0.0.1:5", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		"unreadable":                        {"10.0.0.1:5", []string{"198.51.100.9, unknown"}, "10.0.0.1"},
		"empty":                             {"10.0.0.1:5", []string{""}, "10.0.0.1"},
		"unreadable behind a proxy's entry": {"10.0.0.1:5", []string{"x, 10.0.0.2"}, "10.0.0.2"},
		"port":                              {"10.0.0.1:5", []string{"198.51.100.9:4711"}, "198.51.100.9"},
		"IPv6":                              {"[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6 with port":                    {"[fd00::1]:5", []string{"[2001:db8::1]:80"}, "2001:db8::1"},
		"IPv4 in IPv6":                      {"[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.9"}, "198.51.100.9"},
		"zone":                              {"[fe80::1%eth0]:5", nil, "fe80::1"},
		"no address":                        {"@", nil, "invalid IP"},
		"endless":                           {"10.0.0.1:5", []string{strings.Repeat("10.0.0.2,", 100) + "10.0.0.4"}, "10.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			var got netip.Addr
			h := stack(t, httpd.Options{TrustedProxies: trusted, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = httpd.PeerIP(r) })})
			r := request(http.MethodGet, "/")
			r.RemoteAddr = tc.remote
			r.Header["X-Forwarded-For"] = tc.forwarded
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got.String() != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	r := request(http.MethodGet, "/", "X-Forwarded-For", "198.51.100.9")
	if got := httpd.PeerIP(r); got.String() != "192.0.2.1" {
		t.Errorf("outside the stack: got %s", got)
	}
}

func FuzzPeerIP(f *testing.F) {
	f.Add("198.51.100.9, 10.0.0.2")
	f.Add("[::1]:80,,x")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	proxy := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, forwarded string) {
		got := httpd.ClientIP(proxy, []string{forwarded}, trusted)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q gives %s", forwarded, got)
		}
	})
}
