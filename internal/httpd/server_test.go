package httpd_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/httpd"
	"cardea/internal/testlog"
)

func TestListenRefusesPlainHTTPOffLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		s, err := httpd.New(httpd.Options{Name: "vault", Addr: addr, Handler: http.HandlerFunc(ok)})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, s.Listen(), "listener vault", addr, "plain HTTP", "[vault.tls] certificate_file and private_key_file",
			"127.0.0.1", "vault.insecure_plain_http_off_loopback = true")
	}
}

func TestListenObeysTheSettingThatNamesTheDanger(t *testing.T) {
	r := start(t, httpd.Options{Addr: "0.0.0.0:0", AllowPlaintext: true, Handler: http.HandlerFunc(ok)})
	if _, b := get(t, client(t, nil), r.URL()); b != "ok" {
		t.Errorf("got %q", b)
	}
}

func TestListenAllowsLoopbackByName(t *testing.T) {
	r := start(t, httpd.Options{Addr: "localhost:0", Handler: http.HandlerFunc(ok)})
	if !r.Addr().Addr().IsLoopback() || r.Addr().Port() == 0 {
		t.Errorf("bound to %s", r.Addr())
	}
}

func TestNewRefusesIncompleteOptions(t *testing.T) {
	_, err := httpd.New(httpd.Options{Name: "vault", Addr: "127.0.0.1:0"})
	wantError(t, err, "no handler")
	_, err = httpd.New(httpd.Options{Name: "vault", Addr: "8080", Handler: http.HandlerFunc(ok)})
	wantError(t, err, "listener vault", `"8080" is not host:port`)
}

func TestListenAndServeMisuseIsAnError(t *testing.T) {
	s, err := httpd.New(httpd.Options{Name: "vault", Addr: "127.0.0.1:0", Handler: http.HandlerFunc(ok)})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Serve(t.Context()), "Serve before Listen")
	if err := s.Close(); err != nil {
		t.Errorf("Close before Listen: %v", err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Listen(), "already listening")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantError(t, s.Serve(t.Context()), "listener vault", "closed")
}

func TestListenSaysWhenTheAddressIsTaken(t *testing.T) {
	r := start(t, httpd.Options{Handler: http.HandlerFunc(ok)})
	s, err := httpd.New(httpd.Options{Name: "ops", Addr: r.Addr().String(), Handler: http.HandlerFunc(ok)})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Listen(), "listener ops", "address already in use")
}

func TestShutdownFinishesWhatWasAccepted(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var contextErr error
	r := start(t, httpd.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(entered)
		<-release
		contextErr = req.Context().Err()
		_, _ = io.WriteString(w, "finished")
	})})
	answer := make(chan string, 1)
	c := client(t, nil)
	go func() {
		resp, err := c.Get(r.URL())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-entered
	r.stop()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; got != "finished" {
		t.Errorf("the accepted request got %q", got)
	}
	if err := <-r.result; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if contextErr != nil {
		t.Errorf("the request's context ended with the server's: %v", contextErr)
	}
}

func TestShutdownReportsWhatItCutOff(t *testing.T) {
	entered := make(chan struct{})
	r := start(t, httpd.Options{ShutdownGrace: 20 * time.Millisecond, Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		close(entered)
		<-req.Context().Done()
	})})
	c := client(t, nil)
	failed := make(chan error, 1)
	go func() {
		resp, err := c.Get(r.URL())
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	r.stop()
	err := <-r.result
	if cut := cutOff(err); cut == nil || cut.Requests != 1 || cut.StillRunning != 0 {
		t.Errorf("Serve: got %v, want one request cut off and none running", err)
	}
	wantError(t, err, "listener vault", "1 requests were cut off")
	if err := <-failed; err == nil {
		t.Error("the client of the cut off request saw no error")
	}
}

func TestShutdownDoesNotCountConnectionsWithoutARequest(t *testing.T) {
	r := start(t, httpd.Options{ShutdownGrace: 20 * time.Millisecond, Handler: http.HandlerFunc(ok)})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HT"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := <-r.result; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// closedByServer reads until the server ends the connection.
func closedByServer(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatal("the server keeps the connection")
	}
	return string(b)
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	r := start(t, httpd.Options{Limits: httpd.Limits{HeaderTimeout: 50 * time.Millisecond}, Handler: http.HandlerFunc(ok)})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /data/add HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if got := closedByServer(t, conn); strings.Contains(got, "200") {
		t.Errorf("an unfinished request was answered: %q", got)
	}
}

func TestSlowBodyFailsTheRead(t *testing.T) {
	read := make(chan error, 1)
	r := start(t, httpd.Options{Limits: httpd.Limits{ReadTimeout: 50 * time.Millisecond}, Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, err := io.ReadAll(req.Body)
		read <- err
	})})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123"); err != nil {
		t.Fatal(err)
	}
	err = <-read
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("reading a stalled body: got %v, want a timeout", err)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	r := start(t, httpd.Options{Limits: httpd.Limits{IdleTimeout: 30 * time.Millisecond}, Handler: http.HandlerFunc(ok)})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := closedByServer(t, conn); !strings.Contains(got, "200 OK") {
		t.Errorf("got %q", got)
	}
}

func TestStalledReaderIsCutOff(t *testing.T) {
	written := make(chan error, 1)
	r := start(t, httpd.Options{Limits: httpd.Limits{WriteTimeout: 50 * time.Millisecond}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		var err error
		for range 256 {
			if _, err = w.Write(chunk); err != nil {
				break
			}
		}
		written <- err
	})})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err == nil {
		t.Error("256 MiB went to a client that does not read")
	}
}

func TestConnectionsAboveTheLimitAreClosedAtOnce(t *testing.T) {
	reg, logs := prometheus.NewRegistry(), &testlog.Buffer{}
	r := start(t, httpd.Options{Limits: httpd.Limits{MaxConnections: 1}, Metrics: reg, Logger: debugLogger(t, logs), Handler: http.HandlerFunc(ok)})
	first, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("first connection: %q, %v", line, err)
	}
	for range 2 {
		second, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := closedByServer(t, second); got != "" {
			t.Errorf("a connection above the limit got %q", got)
		}
		second.Close()
	}
	if n, _ := sample(t, reg, "cardea_http_connections_refused_total", "listener=vault"); n != 2 {
		t.Errorf("refused connections counted: %v, want 2", n)
	}
	if n := strings.Count(logs.String(), "too many are open"); n != 1 {
		t.Errorf("refusals logged %d times, want once a minute", n)
	}
	first.Close()
	eventually(t, "the place is free again", func() bool {
		n, _ := sample(t, reg, "cardea_http_connections", "listener=vault")
		return n == 0
	})
	if _, b := get(t, client(t, nil), r.URL()); b != "ok" {
		t.Errorf("after the first connection left: %q", b)
	}
}

func TestHeadersAboveTheLimitAreRefused(t *testing.T) {
	r := start(t, httpd.Options{Limits: httpd.Limits{HeaderBytes: 1024}, Handler: http.HandlerFunc(ok)})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, r.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("a", 8<<10))
	resp, err := client(t, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // not read: the server resets a connection whose headers it gave up on
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want 431", resp.StatusCode)
	}
}

func TestBodyLimitIsTheContracts(t *testing.T) {
	const limit = 2_097_152
	h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok && tooLarge.Limit == limit {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if n != limit || err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r := start(t, httpd.Options{Handler: h})
	for size, want := range map[int]int{limit: http.StatusOK, limit + 1: http.StatusRequestEntityTooLarge} {
		resp, err := client(t, nil).Post(r.URL(), "application/json", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		if body(t, resp); resp.StatusCode != want {
			t.Errorf("%d bytes: got %d, want %d", size, resp.StatusCode, want)
		}
	}
}
