package kmsclient

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const sample = "to be encrypted"

// isWiped reports whether nothing of the text is left.
func (o *outgoing) isWiped() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Trim(string(o.text), "\x00") == ""
}

// becomesWiped waits until nothing of the text is left.
func becomesWiped(t *testing.T, o *outgoing) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !o.isWiped(); runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the text is not wiped")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTextIsWipedOnceNobodyWritesIt(t *testing.T) {
	t.Parallel()
	o := &outgoing{text: []byte(sample)}
	tr := httptrace.ContextClientTrace(o.watch(t.Context()))
	first, second := o.body(), o.body()
	read := func(r io.Reader) {
		t.Helper()
		if got, err := io.ReadAll(r); err != nil || string(got) != sample {
			t.Errorf("%q, %v", got, err)
		}
	}
	tr.GotConn(httptrace.GotConnInfo{})
	tr.WroteRequest(httptrace.WroteRequestInfo{Err: errors.New("the connection was dead")})
	read(first)
	tr.GotConn(httptrace.GotConnInfo{})
	o.end() // the answer came early
	read(second)
	if o.isWiped() {
		t.Error("wiped while it is written")
	}
	tr.WroteRequest(httptrace.WroteRequestInfo{})
	if !o.isWiped() {
		t.Error("not wiped though it is written")
	}
}

// TestTextThatIsNeverWrittenIsWiped has a connection that ended before it was written to.
func TestTextThatIsNeverWrittenIsWiped(t *testing.T) {
	t.Parallel()
	o := &outgoing{text: []byte(sample)}
	held := o.body()
	func() {
		again := o.body()
		httptrace.ContextClientTrace(o.watch(t.Context())).GotConn(httptrace.GotConnInfo{})
		o.end()
		runtime.KeepAlive(again)
	}()
	for range 3 {
		runtime.GC()
	}
	if got, err := io.ReadAll(held); err != nil || string(got) != sample {
		t.Errorf("%q, %v", got, err)
	}
	becomesWiped(t, o)
}

// counted counts the writes of connections, and refuses them while it is told to.
type counted struct {
	net.Conn
	writes *atomic.Int64
	refuse *atomic.Bool
}

func (c counted) Write(p []byte) (int, error) {
	if c.refuse.CompareAndSwap(true, false) {
		return 0, errors.New("the connection is dead")
	}
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// sent is requests over connections that are counted.
type sent struct {
	writes atomic.Int64
	refuse atomic.Bool
	http   http.Transport
	url    string
}

func newSent(t *testing.T, h http.HandlerFunc) *sent {
	t.Helper()
	server := httptest.NewServer(h)
	s := &sent{url: server.URL}
	s.http.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return counted{conn, &s.writes, &s.refuse}, err
	}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		server.Close()
	})
	return s
}

// ask sends text as wire.ask does.
func (s *sent) ask(ctx context.Context, o *outgoing) (int, error) {
	defer o.end()
	r, err := http.NewRequestWithContext(o.watch(ctx), http.MethodPost, s.url, o.body())
	if err != nil {
		return 0, err
	}
	r.ContentLength, r.GetBody = int64(len(o.text)), func() (io.ReadCloser, error) { return o.body(), nil }
	res, err := s.http.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

func whole(w http.ResponseWriter, r *http.Request) {
	if got, err := io.ReadAll(r.Body); err != nil || string(got) != sample {
		w.WriteHeader(http.StatusTeapot)
	}
}

// TestRequestIsOneWrite: with two, its headers would go out in a packet of their own.
func TestRequestIsOneWrite(t *testing.T) {
	t.Parallel()
	s := newSent(t, whole)
	for n := range int64(3) {
		o := &outgoing{text: []byte(sample)}
		if status, err := s.ask(t.Context(), o); err != nil || status != http.StatusOK || s.writes.Load() != n+1 {
			t.Errorf("%d, %v, after %d writes, want %d", status, err, s.writes.Load(), n+1)
		}
		becomesWiped(t, o)
	}
}

func TestTextIsWholeOnAnotherConnection(t *testing.T) {
	t.Parallel()
	s := newSent(t, whole)
	for n := range int64(10) {
		s.refuse.Store(n > 0) // that of the request before is dead
		o := &outgoing{text: []byte(sample)}
		if status, err := s.ask(t.Context(), o); err != nil || status != http.StatusOK || s.writes.Load() != n+1 {
			t.Errorf("%d, %v, after %d writes, want %d", status, err, s.writes.Load(), n+1)
		}
		becomesWiped(t, o)
	}
}

// TestTextIsWipedWhateverTheServerDoes is for the race detector: an answer comes before the
// text is read, or none before the caller has left.
func TestTextIsWipedWhateverTheServerDoes(t *testing.T) {
	t.Parallel()
	leave, left := make(chan context.CancelFunc, 1), make(chan struct{})
	s := newSent(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength%2 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		(<-leave)()
		<-left
	})
	for n := range 20 {
		o := &outgoing{text: []byte(strings.Repeat("x", 8<<20+n))}
		ctx, cancel := context.WithCancel(t.Context())
		if n%2 == 1 {
			leave <- cancel
		}
		_, err := s.ask(ctx, o)
		if n%2 == 1 {
			left <- struct{}{}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		cancel()
		becomesWiped(t, o)
	}
}
