package kmsclient_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/kmsapi"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

// TestFaultsBetweenHereAndKMS has every fault for ever, which is told as what it is,
// and then for one request, which the caller does not notice; afterwards the same
// client works without more ado.
func TestFaultsBetweenHereAndKMS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault faultproxy.Fault
		kind  error
		once  bool // one such request is made up for
		text  string
	}{
		{"throttled", faultproxy.Throttle(), kmsclient.ErrThrottled, true, "ThrottlingException: You have exceeded the rate"},
		{"internal", faultproxy.Answer(500, "KMSInternalException", "again"), kmsclient.ErrUnreachable, true, "KMSInternalException: again"},
		{"unavailable", faultproxy.Answer(500, "KeyUnavailableException", ""), kmsclient.ErrUnreachable, true, "KeyUnavailableException"},
		{"dependency", faultproxy.Answer(503, "DependencyTimeoutException", ""), kmsclient.ErrUnreachable, true, "DependencyTimeoutException"},
		{"gateway", faultproxy.Status(502), kmsclient.ErrUnreachable, true, "HTTP status 502"},
		{"not KMS", faultproxy.Status(404), kmsclient.ErrUnreachable, false, "HTTP status 404"},
		{"reset", faultproxy.Reset(), kmsclient.ErrUnreachable, true, "connection reset by peer"},
		{"reset mid-body", faultproxy.ResetMidBody(), kmsclient.ErrUnreachable, true, "the answer ended early"},
		{"blackhole", faultproxy.Blackhole(), kmsclient.ErrUnreachable, true, "no answer in time"},
		{"too slow", faultproxy.Slow(time.Hour), kmsclient.ErrUnreachable, true, "no answer in time"},
		{"quota of things", faultproxy.Answer(400, "LimitExceededException", "no"), kmsclient.ErrInvalid, false, "LimitExceededException: no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startService(t)
			c := s.client(t, func(o *kmsclient.Options) {
				o.Deadline, o.Breaker.Failures = time.Minute, 20
				if o.AttemptTimeout = 30 * time.Second; test.text == "no answer in time" {
					o.AttemptTimeout = 300 * time.Millisecond // in which a busy machine answers, too
				}
			})
			k, mac := s.newKey(t), s.newKey(t, hmacKey)
			blob, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
			ok(t, err)
			calls := map[string]func() error{
				"Encrypt": func() error { return c.encrypt(t, k) },
				"Decrypt": func() error {
					p, err := c.Decrypt(t.Context(), k, blob, tenant)
					defer p.Destroy()
					if err == nil && string(p.Expose()) != "x" {
						return errors.New("wrong plaintext")
					}
					return err
				},
				"GenerateDataKey": func() error {
					d, err := c.GenerateDataKey(t.Context(), k, tenant)
					d.Plaintext.Destroy()
					return err
				},
				"GenerateMac": func() error { _, err := c.GenerateMAC(t.Context(), mac, []byte("x")); return err },
				"ReEncrypt":   func() error { _, _, err := c.ReEncrypt(t.Context(), k, blob, tenant, k, nil); return err },
				"DescribeKey": func() error { return c.Check(t.Context(), k) },
			}
			s.here.Set(test.fault)
			for op, call := range calls {
				// A request that ends while it is on its way is not seen by the proxy: then the
				// client's own count is what tells.
				requests := func() int { return s.here.Asked(op) }
				if test.text == "no answer in time" {
					requests = func() int {
						return int(c.value(t, "calls_total", "operation", op, "region", region, "result", "unreachable") + c.value(t, "retries_total", "operation", op, "region", region))
					}
				}
				asked := requests()
				e := is(t, call(), test.kind)
				if !strings.Contains(e.Error(), test.text) || e.Op != op {
					t.Errorf("%s: got %v, want %s", op, e, test.text)
				}
				want := 1
				if test.once {
					want = 3
				}
				if got := requests() - asked; got != want {
					t.Errorf("%s: asked %d times, want %d", op, got, want)
				}
			}
			for op, call := range calls {
				s.here.Next(1, test.fault)
				if err := call(); (err == nil) != test.once {
					t.Errorf("%s: one fault gives %v", op, err)
				}
			}
			s.here.Clear()
			for op, call := range calls {
				if err := call(); err != nil {
					t.Errorf("%s: not recovered: %v", op, err)
				}
			}
		})
	}
}

func TestSlowAnswersAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	s.here.Set(faultproxy.Slow(50 * time.Millisecond))
	c.works(t, k)
	if n := s.here.Asked(""); n != 2 {
		t.Errorf("asked %d times, want 2: a slow answer is not asked for again", n)
	}
}

// TestClockThatIsWrongIsCorrected has a key service an hour ahead of us. The first
// request is refused; its answer tells the time, and none is refused after it.
func TestClockThatIsWrongIsCorrected(t *testing.T) {
	t.Parallel()
	const ahead = time.Hour
	s := startService(t, func(o *kmsapi.Options) { o.Now = func() time.Time { return time.Now().Add(ahead) } })
	c := s.client(t)
	missing := kmsclient.Key{ID: "arn:aws:kms:" + region + ":" + account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab", Region: region, Endpoint: s.here.URL}
	asked := s.here.Asked("")
	is(t, c.encrypt(t, missing), kmsclient.ErrNotFound)
	if n := s.here.Asked("") - asked; n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	is(t, c.encrypt(t, missing), kmsclient.ErrNotFound)
	if n := s.here.Asked("") - asked; n != 3 {
		t.Errorf("asked %d times, want 3: the clock was known", n)
	}

	// An answer that does not tell the time is nothing to correct by.
	s.here.Set(faultproxy.Date(-ahead))
	is(t, s.client(t).encrypt(t, missing), kmsclient.ErrDenied)
}

func TestKeyServiceThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	k.Endpoint = "http://127.0.0.1:1"
	if e := is(t, c.encrypt(t, k), kmsclient.ErrUnreachable); !strings.Contains(e.Error(), "connect: connection refused") || e.RequestID != "" {
		t.Errorf("got %v", e)
	}
}

// TestConnectionsAreReused counts connections, not requests: 64 callers at a time
// need 64 of them, however often they call.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	const callers = 64
	var mu sync.Mutex
	conns := map[string]bool{}
	s.here.Set(func(w http.ResponseWriter, r *http.Request, pass http.HandlerFunc, _ <-chan struct{}) {
		mu.Lock()
		conns[r.RemoteAddr] = true
		mu.Unlock()
		pass(w, r)
	})
	done := make(chan error)
	for range callers {
		go func() {
			var err error
			for range 10 {
				_, _, e := c.Encrypt(context.Background(), k, secret.Copy([]byte("x")), tenant)
				err = errors.Join(err, e)
			}
			done <- err
		}()
	}
	for range callers {
		ok(t, <-done)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(conns) > callers+8 {
		t.Errorf("%d connections for %d callers", len(conns), callers)
	}
}

// TestRedirectsAreNotFollowed has a key service that redirects: what was to be encrypted
// must not go to where it says.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	s := startService(t)
	c, k := s.client(t), s.newKey(t)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		s.here.Set(func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc, _ <-chan struct{}) {
			http.Redirect(w, r, s.there.URL, status)
		})
		is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	}
	if n := s.there.Asked(""); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}
