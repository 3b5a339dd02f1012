package kmsclient_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

func TestEveryCallEndsByItsDeadline(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		options  kmsclient.Options
		callers  time.Duration
		took     time.Duration
		requests int
	}{
		{"one attempt after the other", kmsclient.Options{}, 0, 5 * time.Second, 3},
		{"one attempt is too long", kmsclient.Options{AttemptTimeout: time.Minute}, 0, 5 * time.Second, 1},
		{"attempts end first", kmsclient.Options{AttemptTimeout: time.Second}, 0, 3 * time.Second, 3},
		{"another deadline", kmsclient.Options{Deadline: time.Second}, 0, time.Second, 1},
		{"the caller's", kmsclient.Options{}, 300 * time.Millisecond, 300 * time.Millisecond, 1},
		{"not the caller's", kmsclient.Options{}, time.Hour, 5 * time.Second, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) {
				s := &stub{answer: func(_ int, r *http.Request) (*http.Response, error) { return blackhole(r) }}
				c := s.client(t, func(o *kmsclient.Options) {
					o.AttemptTimeout, o.Deadline = test.options.AttemptTimeout, test.options.Deadline
				})
				ctx := t.Context()
				if test.callers > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.callers)
					defer cancel()
				}
				start := time.Now()
				_, err := c.GenerateDataKey(ctx, stubKey, tenant)
				is(t, err, kmsclient.ErrUnreachable)
				took := time.Since(start)
				if took > test.took+time.Second/2 || took < test.took-time.Second/2 || took > 5*time.Second || s.asked() != test.requests {
					t.Errorf("took %s and %d requests, want %s and %d", took, s.asked(), test.took, test.requests)
				}
			})
		})
	}
}

// TestRetriesAreSpreadOut looks at the pauses before the second and third attempt
// of many calls.
func TestRetriesAreSpreadOut(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return refusal(400, "ThrottlingException", "") }}
		c := s.client(t)
		var longest [3]time.Duration
		different := map[time.Duration]bool{}
		for range 30 {
			n := s.asked()
			is(t, c.encrypt(t, stubKey), kmsclient.ErrThrottled)
			for i := 1; i < 3; i++ {
				pause := s.at[n+i].Sub(s.at[n+i-1])
				different[pause] = true
				longest[i] = max(longest[i], pause)
			}
		}
		if longest[1] > 50*time.Millisecond || longest[2] > 100*time.Millisecond || longest[2] <= 50*time.Millisecond || len(different) < 50 {
			t.Errorf("pauses up to %s, of %d lengths", longest, len(different))
		}
		if v := c.value(t, "retries_total", "operation", "Encrypt", "region", region); v != 60 {
			t.Errorf("counted %v retries, want 60", v)
		}
		if v := c.value(t, "throttled_total", "by", "kms", "region", region); v != 90 {
			t.Errorf("counted %v throttles, want 90", v)
		}
	})
}

// TestRetriesAreNotUnlimited has a KMS that throttles for long: what is asked in
// vain a second time must not add to its load for ever.
func TestRetriesAreNotUnlimited(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var fine atomic.Bool
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) {
			if fine.Load() {
				return encrypted()
			}
			return refusal(400, "ThrottlingException", "")
		}}
		c := s.client(t)
		for range 200 {
			is(t, c.encrypt(t, stubKey), kmsclient.ErrThrottled)
		}
		if n := s.asked(); n != 200+100 {
			t.Errorf("%d requests for 200 calls, want 100 retries", n)
		}
		fine.Store(true)
		for range 10 {
			ok(t, c.encrypt(t, stubKey))
		}
		fine.Store(false)
		n := s.asked()
		is(t, c.encrypt(t, stubKey), kmsclient.ErrThrottled)
		if n = s.asked() - n; n != 3 {
			t.Errorf("%d requests after successes, want 3", n)
		}
	})
}

func TestRetryAfterOfKMSIsKept(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]struct {
		told, took time.Duration
		requests   int
	}{
		"2": {2 * time.Second, 4 * time.Second, 3}, "30": {30 * time.Second, 0, 1}, "9999": {time.Minute, 0, 1}, "-1": {time.Second, 0, 3}, "soon": {time.Second, 0, 3},
	} {
		bubble.Test(t, func(t *testing.T) {
			s := &stub{answer: func(int, *http.Request) (*http.Response, error) {
				return reply(400, http.Header{"Retry-After": {header}}, `{"__type":"ThrottlingException"}`)
			}}
			start := time.Now()
			e := is(t, s.client(t).encrypt(t, stubKey), kmsclient.ErrThrottled)
			if took := time.Since(start).Round(time.Second); e.RetryAfter != want.told || took != want.took || s.asked() != want.requests {
				t.Errorf("%s: got %s after %s and %d requests", header, e.RetryAfter, took, s.asked())
			}
		})
	}
}

func TestConcurrencyOfAKeyIsBounded(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var underWay, most atomic.Int64
		s := &stub{answer: func(_ int, r *http.Request) (*http.Response, error) {
			if n := underWay.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer underWay.Add(-1)
			select {
			case <-time.After(900 * time.Millisecond):
				return encrypted()
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}}
		c := s.client(t, func(o *kmsclient.Options) { o.MaxConcurrent = 8 })
		done := make(chan error, 100)
		start := time.Now()
		for range cap(done) {
			go func() {
				_, _, err := c.Encrypt(t.Context(), stubKey, secret.Copy([]byte("x")), tenant)
				done <- err
			}()
		}
		synctest.Wait()
		if v := c.value(t, "inflight", "region", region); v != 8 {
			t.Errorf("%v under way by the metrics, want 8", v)
		}
		served, late, busy := 0, 0, 0
		for range cap(done) {
			switch err := <-done; {
			case err == nil:
				served++
			case errors.Is(err, kmsclient.ErrUnreachable):
				late++
			default:
				e := is(t, err, kmsclient.ErrThrottled)
				if busy++; e.RetryAfter != time.Second || !strings.HasSuffix(e.Error(), "too many requests for the key are under way") {
					t.Errorf("got %v", e)
				}
			}
		}
		// Five rounds of eight end in five seconds; who began a sixth is cut short.
		if most.Load() != 8 || served != 40 || late < 8 || busy == 0 || served+late+busy != 100 || time.Since(start) > 5*time.Second {
			t.Errorf("%d at once, %d served, %d late, %d refused after %s", most.Load(), served, late, busy, time.Since(start))
		}
		if v := c.value(t, "inflight", "region", region); v != 0 {
			t.Errorf("%v under way by the metrics, want 0", v)
		}
	})
}

func TestRateOfAKeyIsBounded(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
		c := s.client(t, func(o *kmsclient.Options) { o.Rate = 10 })
		start := time.Now()
		for range 31 {
			ok(t, c.encrypt(t, stubKey))
		}
		if took := time.Since(start).Round(time.Second / 10); took != 3*time.Second {
			t.Errorf("31 calls took %s, want 3s", took)
		}
		// A crowd is told at once when it will not have its turn in time.
		done := make(chan error, 100)
		start = time.Now()
		for range cap(done) {
			go func() {
				_, _, err := c.Encrypt(t.Context(), stubKey, secret.Copy([]byte("x")), tenant)
				done <- err
			}()
		}
		synctest.Wait()
		if refused := len(done); refused < 45 || refused > 55 {
			t.Errorf("%d of 100 were refused at once, want about 50", refused)
		}
		for range cap(done) {
			if err := <-done; err != nil {
				e := is(t, err, kmsclient.ErrThrottled)
				if e.RetryAfter < time.Second || e.RetryAfter > 6*time.Second || !strings.HasSuffix(e.Error(), "the rate that is set for the key here is used up") {
					t.Fatalf("got %s: %v", e.RetryAfter, e)
				}
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		if v := c.value(t, "throttled_total", "by", "client", "region", region); v < 45 {
			t.Errorf("counted %v, want about 50", v)
		}
		other := stubKey
		other.Profile = "" // an equal key shares the rate, another does not
		other.ID = strings.Replace(other.ID, "mrk-0", "mrk-1", 1)
		s.answer = func(int, *http.Request) (*http.Response, error) {
			return reply(200, nil, `{"CiphertextBlob":"AAAA","KeyId":"`+other.ID+`"}`)
		}
		start = time.Now()
		ok(t, c.encrypt(t, other))
		if took := time.Since(start); took != 0 {
			t.Errorf("another key waits %s", took)
		}
	})
}

func TestRateCanBeOff(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
		c := s.client(t, func(o *kmsclient.Options) { o.Rate = -1 })
		start := time.Now()
		for range 600 { // more than the default lets through at once
			ok(t, c.encrypt(t, stubKey))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s", took)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]kmsclient.Options{
		"kms client: deadline -1s: must be from 1ms to 1h":                                          {Deadline: -time.Second},
		"kms client: attempt timeout 1ns: must be from 1ms to 1h":                                   {AttemptTimeout: 1},
		"kms client: connect timeout 2h0m0s: must be from 1ms to 1h":                                {ConnectTimeout: 2 * time.Hour},
		"kms client: 11 attempts: must be from 1 to 10":                                             {Attempts: 11},
		"kms client: -1 concurrent requests: must be from 1 to 10000":                               {MaxConcurrent: -1},
		"kms client: -1 breaker failures: must be from 1 to 1000":                                   {Breaker: kmsclient.Breaker{Failures: -1}},
		"kms client: breaker open time 1us: must be from 1ms to 1h":                                 {Breaker: kmsclient.Breaker{OpenFor: time.Microsecond}},
		"kms client: failover hold -1ns: must be from 1ms to 1h":                                    {FailoverHold: -1},
		`kms client: credentials "x": access key id and secret access key are required`:             {Credentials: map[string]kmsclient.Credentials{"x": {AccessKeyID: "AKIA"}}},
		"kms client: root CA file: open testdata/none.pem: no such file or directory":               {RootCAFile: "testdata/none.pem"},
		"kms client: root CA file limits_test.go: no certificate in it, or more than 1048576 bytes": {RootCAFile: "limits_test.go"},
	} {
		if _, err := kmsclient.New(o); err == nil || strings.ReplaceAll(err.Error(), "µ", "u") != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
