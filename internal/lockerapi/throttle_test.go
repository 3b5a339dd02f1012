package lockerapi_test

import (
	"fmt"
	"testing"
	"time"

	"cardea/internal/vault"
)

// TestWhyAKeyCannotBeHadIsTold: a client learns whether to come back, the audit
// log what was wrong.
func TestWhyAKeyCannotBeHadIsTold(t *testing.T) {
	t.Parallel()
	const (
		busy = `{"code":"TE_00","message":"Key service is busy, try again later","data":null}`
		key  = `{"code":"TE_00","message":"Error while encrypting with merchant key","data":null}`
	)
	for name, tc := range map[string]struct {
		err                error
		status             int
		body, retry, audit string
	}{
		"throttled":            {vault.ErrKeyThrottled, 503, busy, "1", "key_throttled"},
		"throttled for a time": {&vault.KeyError{Result: "key_throttled", RetryAfter: 1500 * time.Millisecond, Err: vault.ErrKeyThrottled}, 503, busy, "2", "key_throttled"},
		"denied":               {&vault.KeyError{Result: "key_denied", Err: fmt.Errorf("no: %w", vault.ErrKeyUnavailable)}, 500, key, "", "key_denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, serverOptions{})
			s.Keys.FailWith(tc.err)
			got := s.do(t, post("/data/fingerprint", `{"data":"d","key":"k"}`))
			if got.status != tc.status || got.body != tc.body || got.header.Get("Retry-After") != tc.retry {
				t.Errorf("%d %s, Retry-After %q", got.status, got.body, got.header.Get("Retry-After"))
			}
			entries, err := s.Store.Entries(0)
			if err != nil || len(entries) == 0 || entries[len(entries)-1].Result != tc.audit {
				t.Errorf("audit log: %v, %+v", err, entries)
			}
		})
	}
}
