package kmsclient_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

// states are how many keys' breakers are in each state.
func (c *client) states(t testing.TB) [3]float64 {
	t.Helper()
	var n [3]float64
	for i, state := range []string{"closed", "open", "half_open"} {
		n[i] = c.value(t, "breaker_state", "region", region, "state", state)
	}
	return n
}

func TestBreakerOpensAndCloses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := startService(t)
	c := s.client(t, func(o *kmsclient.Options) { o.Attempts, o.Logger = 1, slog.New(slog.NewTextHandler(&log, nil)) })
	k, other := s.newKey(t), s.newKey(t)
	c.works(t, k)
	c.works(t, other)
	if got := c.states(t); got != [3]float64{2, 0, 0} {
		t.Errorf("got states %v", got)
	}

	s.here.Set(faultproxy.Reset())
	for range 5 {
		e := is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
		if e.RetryAfter != time.Second {
			t.Errorf("got %s", e.RetryAfter)
		}
	}
	asked := s.here.Asked("")
	c.clock.advance(2 * time.Second)
	e := is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	if e.RetryAfter != 3*time.Second || !strings.HasSuffix(e.Error(), "key service is unreachable: it did not answer lately and is left alone for a while") {
		t.Errorf("got %s: %v", e.RetryAfter, e)
	}
	if s.here.Asked("") != asked {
		t.Error("an open breaker lets a request through")
	}
	if got := c.states(t); got != [3]float64{1, 1, 0} {
		t.Errorf("got states %v", got)
	}

	// The first after a while finds out for all; it fails.
	c.clock.advance(3 * time.Second)
	is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	if n := s.here.Asked("") - asked; n != 1 {
		t.Errorf("%d requests after a while, want 1", n)
	}

	// A health check asks all the same, and changes nothing.
	is(t, c.Check(t.Context(), k), kmsclient.ErrUnreachable)
	s.here.Clear()
	ok(t, c.Check(t.Context(), k))
	is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	c.works(t, other) // each key has its own

	// The next one succeeds, and nothing is left of it.
	c.clock.advance(5 * time.Second)
	c.works(t, k)
	if got := c.states(t); got != [3]float64{2, 0, 0} {
		t.Errorf("got states %v", got)
	}
	s.here.Set(faultproxy.Reset())
	for range 4 {
		is(t, c.encrypt(t, k), kmsclient.ErrUnreachable)
	}
	s.here.Clear()
	c.works(t, k)
	if got := strings.Count(log.String(), "\n"); got != 2 || !strings.Contains(log.String(), `level=WARN msg="key service does not answer, it is left alone for a while" key=`+k.ID+` region=eu-central-1 for=5s`) ||
		!strings.Contains(log.String(), `level=INFO msg="key service answers again"`) {
		t.Errorf("got %d lines:\n%s", got, log.String())
	}
}

func TestBreakerIsForFailuresInARow(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(n int, _ *http.Request) (*http.Response, error) {
		switch n % 5 {
		case 0:
			return refusal(400, "AccessDeniedException", "") // KMS is there
		default:
			return refusal(500, "KMSInternalException", "")
		}
	}}
	c := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 })
	for range 50 {
		if c.encrypt(t, stubKey) == nil {
			t.Fatal("no error")
		}
	}
	if s.asked() != 50 {
		t.Errorf("asked %d times, want 50", s.asked())
	}
}

func TestFaultsOfTheClientOpenNoBreaker(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"ThrottlingException", "AccessDeniedException", "DisabledException", "NotFoundException", "InvalidCiphertextException", "ValidationException", "LimitExceededException"} {
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return refusal(400, code, "") }}
		c := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 })
		for range 30 {
			if c.encrypt(t, stubKey) == nil {
				t.Fatal("no error")
			}
		}
		if s.asked() != 30 {
			t.Errorf("%s: asked %d times, want 30", code, s.asked())
		}
	}
}

// TestOnlyOneFindsOut has many callers when an open breaker's time is over.
func TestOnlyOneFindsOut(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &stub{answer: func(n int, r *http.Request) (*http.Response, error) {
			if n <= 5 {
				return refusal(500, "KMSInternalException", "")
			}
			<-release
			return encrypted()
		}}
		c := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 })
		for range 5 {
			is(t, c.encrypt(t, stubKey), kmsclient.ErrUnreachable)
		}
		time.Sleep(5 * time.Second)
		done := make(chan error, 10)
		for range cap(done) {
			go func() {
				_, _, err := c.Encrypt(t.Context(), stubKey, secret.Copy([]byte("x")), tenant)
				done <- err
			}()
		}
		synctest.Wait()
		if s.asked() != 6 || len(done) != 9 {
			t.Errorf("%d requests and %d refusals, want 6 and 9", s.asked(), len(done))
		}
		close(release)
		failed := 0
		for range cap(done) {
			if err := <-done; err != nil {
				is(t, err, kmsclient.ErrUnreachable)
				failed++
			}
		}
		if failed != 9 {
			t.Errorf("%d of 10 failed, want 9", failed)
		}
		ok(t, c.encrypt(t, stubKey))
	})
}

// TestWhoGivesUpOpensNoBreaker has callers in a hurry, and callers who have waited.
func TestWhoGivesUpOpensNoBreaker(t *testing.T) {
	t.Parallel()
	for patience, open := range map[time.Duration]bool{100 * time.Millisecond: false, 1500 * time.Millisecond: true} {
		bubble.Test(t, func(t *testing.T) {
			s := &stub{answer: func(_ int, r *http.Request) (*http.Response, error) { return blackhole(r) }}
			c := s.client(t)
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, _, err := c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant)
				cancel()
				if err == nil {
					t.Fatal("no error")
				}
			}
			if opened := s.asked() < 20; opened != open {
				t.Errorf("patience of %s: asked %d times of 20", patience, s.asked())
			}
		})
	}
}

// TestProbeThatIsGivenUpIsMadeAgain has the one who finds out leave early.
func TestProbeThatIsGivenUpIsMadeAgain(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &stub{answer: func(n int, r *http.Request) (*http.Response, error) {
			switch {
			case n <= 5:
				return nil, errors.New("broken")
			case n == 6:
				cancel()
				return blackhole(r)
			}
			return encrypted()
		}}
		c := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 })
		for range 5 {
			is(t, c.encrypt(t, stubKey), kmsclient.ErrUnreachable)
		}
		time.Sleep(5 * time.Second)
		if _, _, err := c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		ok(t, c.encrypt(t, stubKey))
	})
}
