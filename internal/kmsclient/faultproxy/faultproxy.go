// Package faultproxy puts a proxy before a key service, for tests of what becomes of
// callers when the key service or the network misbehaves.
//
// It promises that requests reach the key service as they were signed, that a fault
// is in force from the moment Set returns, and that nothing of it is left when the
// test ends.
package faultproxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what becomes of a request. pass asks the key service; a fault that does
// not call it keeps the request from it. ended is closed when another fault is set
// or the test ends.
type Fault func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, ended <-chan struct{})

// Proxy is the proxy. It is safe for concurrent use.
type Proxy struct {
	URL  string
	pass http.HandlerFunc

	mu    sync.Mutex // guards the rest
	fault Fault      // nil is none
	times int        // how many requests have it yet; below 0 all
	ended chan struct{}
	asked map[string]int // requests by operation
}

// New starts a proxy before the key service at upstream, until the test ends.
func New(t testing.TB, upstream string) *Proxy {
	t.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: transport,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // as a broken connection
		},
	}
	p := &Proxy{pass: forward.ServeHTTP, ended: make(chan struct{}), asked: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(p.serve))
	p.URL = s.URL
	t.Cleanup(func() {
		p.Clear()
		s.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Set puts a fault in force for all requests from now on.
func (p *Proxy) Set(f Fault) { p.set(-1, f) }

// Next puts a fault in force for the next n requests.
func (p *Proxy) Next(n int, f Fault) { p.set(n, f) }

// Clear ends the fault that is in force.
func (p *Proxy) Clear() { p.set(0, nil) }

func (p *Proxy) set(times int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ended)
	p.ended, p.times, p.fault = make(chan struct{}), times, f
}

// Asked counts the requests for an operation, Decrypt for instance; with "" all.
func (p *Proxy) Asked(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if op != "" {
		return p.asked[op]
	}
	n := 0
	for _, c := range p.asked {
		n += c
	}
	return n
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	// The server notices that a client has gone only if the body was read.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	p.asked[op]++
	f, ended := p.fault, p.ended
	if p.times == 0 {
		f = nil
	} else if p.times > 0 {
		p.times--
	}
	p.mu.Unlock()
	if f == nil {
		p.pass(w, r)
		return
	}
	f(w, r, p.pass, ended)
}

// Answer answers with an error of KMS, as AWS writes it.
func Answer(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc, _ <-chan struct{}) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("x-amzn-RequestId", "11111111-2222-3333-4444-555555555555")
		w.WriteHeader(status)
		b, _ := json.Marshal(map[string]string{"__type": code, "message": message})
		w.Write(b) //nolint:errcheck // a client that left needs no answer
	}
}

// Throttle answers as KMS does beyond its quota.
func Throttle() Fault {
	return Answer(http.StatusBadRequest, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// Status answers with a status and a body that is none of KMS's, as a proxy on the
// way would.
func Status(status int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc, _ <-chan struct{}) {
		http.Error(w, "<html>upstream</html>", status)
	}
}

// Slow lets the request pass after d.
func Slow(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, ended <-chan struct{}) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ended:
		case <-r.Context().Done():
			return
		}
		pass(w, r)
	}
}

// Hold lets requests pass once release is closed.
func Hold(release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, ended <-chan struct{}) {
		select {
		case <-release:
		case <-ended:
		case <-r.Context().Done():
			return
		}
		pass(w, r)
	}
}

// Blackhole takes requests and never answers.
func Blackhole() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc, ended <-chan struct{}) {
		select {
		case <-ended:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
}

// Reset breaks the connection with TCP's RST before the answer.
func Reset() Fault { return reset(0) }

// ResetMidBody does so after half of the answer's body: the key service has done
// its work.
func ResetMidBody() Fault { return reset(0.5) }

func reset(part float64) Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, _ <-chan struct{}) {
		var answer []byte
		if part > 0 {
			rec := httptest.NewRecorder()
			pass(rec, r)
			var b bytes.Buffer
			res := rec.Result()
			res.ContentLength = int64(rec.Body.Len())
			res.Write(&b) //nolint:errcheck // a buffer takes everything
			body := rec.Body.Len()
			answer = b.Bytes()[:b.Len()-int(float64(body)*part)]
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		conn.Write(answer) //nolint:errcheck // the next line breaks it anyhow
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) //nolint:errcheck // then it is closed in the other way
		}
		conn.Close() //nolint:errcheck // it is broken
	}
}

// WrongKey lets requests pass and changes the key ARN of the answers.
func WrongKey(arn string) Fault {
	return Change(func(answer map[string]any) {
		for _, name := range []string{"KeyId", "SourceKeyId"} {
			if _, ok := answer[name]; ok {
				answer[name] = arn
			}
		}
		if m, ok := answer["KeyMetadata"].(map[string]any); ok {
			m["Arn"] = arn
		}
	})
}

// Change lets requests pass and changes the members of the answers.
func Change(f func(answer map[string]any)) Fault {
	return rewritten(func(h http.Header, body []byte) []byte {
		answer := map[string]any{}
		if json.Unmarshal(body, &answer) != nil {
			return body
		}
		f(answer)
		b, _ := json.Marshal(answer)
		return b
	})
}

// Date lets requests pass and moves the time of the answers, as a key service does
// whose clock is ahead by d.
func Date(d time.Duration) Fault {
	return rewritten(func(h http.Header, body []byte) []byte {
		if at, err := http.ParseTime(h.Get("Date")); err == nil {
			h.Set("Date", at.Add(d).UTC().Format(http.TimeFormat))
		}
		return body
	})
}

func rewritten(f func(h http.Header, body []byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, _ <-chan struct{}) {
		rec := httptest.NewRecorder()
		pass(rec, r)
		h := rec.Header().Clone()
		body := f(h, rec.Body.Bytes())
		h.Del("Content-Length")
		for name, v := range h {
			w.Header()[name] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(body) //nolint:errcheck // a client that left needs no answer
	}
}
