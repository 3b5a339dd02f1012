package lockerapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cardea/internal/lockerapi"
)

func replayTenants(p lockerapi.ReplayPolicy) map[string]lockerapi.TenantConfig {
	c := lockerapi.TenantConfig{Envelope: lockerapi.EnvelopeJWE, ClientKey: &clientEC().PublicKey, Replay: p}
	return map[string]lockerapi.TenantConfig{"acme": c, "beta": c}
}

// claims make a client whose requests carry them.
func claims(m map[jose.HeaderKey]any) *envelopeClient {
	c := ecClient()
	c.headers = m
	return c
}

func replayRefused(detail string) string {
	return failure("TE_03", "failed in request middleware: replay protection: "+detail)
}

func TestReplayProtectionIsOffByDefault(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{})})
	sent := post("/cards/retrieve", ecClient().seal(t, retrieveBody))
	for range 2 {
		if got := s.do(t, sent); got.status != http.StatusNotFound {
			t.Errorf("status %d", got.status)
		}
	}
}

// TestRetrieveDoesNotReplayAsDelete is the peer's defect: both bodies have the
// same shape.
func TestRetrieveDoesNotReplayAsDelete(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{Window: time.Minute})})
	captured := claims(map[jose.HeaderKey]any{"iat": s.clock.Now().Unix(), "jti": "0123-4567"}).seal(t, retrieveBody)
	if got := s.do(t, post("/cards/retrieve", captured)); got.status != http.StatusNotFound {
		t.Fatalf("status %d", got.status)
	}
	before := s.Store.Len()
	s.do(t, post("/cards/delete", captured)).want(t, 400, replayRefused("jti was used before"))
	s.do(t, post("/cards/retrieve", captured)).want(t, 400, replayRefused("jti was used before"))
	for _, line := range s.auditLines(t, before) {
		if !strings.Contains(line, "denied replay by tenant/jws:acme/jws acme") {
			t.Errorf("audit %q", line)
		}
	}
}

func TestReplayWindow(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{Window: time.Minute})})
	now := s.clock.Now().Unix()
	stale, missing := replayRefused("iat is more than 1m0s away from now"), replayRefused("iat is missing, or jti is not 8 to 128 visible ASCII characters")
	for i, c := range []struct {
		name   string
		claims map[jose.HeaderKey]any
		answer string // empty: accepted
	}{
		{"now", map[jose.HeaderKey]any{"iat": now}, ""},
		{"a minute ago", map[jose.HeaderKey]any{"iat": now - 59}, ""},
		{"in a minute", map[jose.HeaderKey]any{"iat": now + 60}, ""},
		{"longer ago", map[jose.HeaderKey]any{"iat": now - 61}, stale},
		{"later", map[jose.HeaderKey]any{"iat": now + 62}, stale},
		{"the beginning of time", map[jose.HeaderKey]any{"iat": 0}, stale},
		{"the end of time", map[jose.HeaderKey]any{"iat": int64(1)<<53 - 1}, stale},
		{"no iat", map[jose.HeaderKey]any{}, missing},
		{"no jti", map[jose.HeaderKey]any{"iat": now, "jti": ""}, missing},
		{"jti too short", map[jose.HeaderKey]any{"iat": now, "jti": "1234567"}, missing},
		{"jti too long", map[jose.HeaderKey]any{"iat": now, "jti": strings.Repeat("x", 129)}, missing},
		{"jti with a space", map[jose.HeaderKey]any{"iat": now, "jti": "1234 5678"}, missing},
		{"iat as text", map[jose.HeaderKey]any{"iat": "now"}, badEnvelope},
		{"iat with a fraction", map[jose.HeaderKey]any{"iat": 1.5}, badEnvelope},
		{"iat negative", map[jose.HeaderKey]any{"iat": -1}, badEnvelope},
	} {
		if _, ok := c.claims["jti"]; !ok {
			c.claims["jti"] = fmt.Sprintf("unique-%d", i)
		}
		got := s.do(t, post("/cards/retrieve", claims(c.claims).seal(t, retrieveBody)))
		switch {
		case c.answer != "":
			if got.status != 400 || got.body != c.answer {
				t.Errorf("%s: got %d %s, want %s", c.name, got.status, got.body, c.answer)
			}
		case got.status != http.StatusNotFound:
			t.Errorf("%s: got %d %s", c.name, got.status, got.body)
		}
	}
}

// TestReplayIsRememberedAsLongAsItIsFresh: an envelope from the future is the
// one that stays fresh longest.
func TestReplayIsRememberedAsLongAsItIsFresh(t *testing.T) {
	t.Parallel()
	const window = time.Minute
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{Window: window})})
	begin := s.clock.Now()
	captured := claims(map[jose.HeaderKey]any{"iat": begin.Add(window).Unix(), "jti": "from-the-future"}).seal(t, retrieveBody)
	if got := s.do(t, post("/cards/retrieve", captured)); got.status != http.StatusNotFound {
		t.Fatalf("status %d %s", got.status, got.body)
	}
	for step := 0; s.clock.Now().Before(begin.Add(3 * window)); step++ {
		s.clock.advance(7 * time.Second)
		other := claims(map[jose.HeaderKey]any{"iat": s.clock.Now().Unix(), "jti": fmt.Sprintf("another-%d", step)})
		if got := s.do(t, post("/cards/retrieve", other.seal(t, retrieveBody))); got.status != http.StatusNotFound {
			t.Fatalf("status %d %s", got.status, got.body)
		}
		got := s.do(t, post("/cards/retrieve", captured))
		if got.status != 400 || (got.body != replayRefused("jti was used before") && got.body != replayRefused("iat is more than 1m0s away from now")) {
			t.Fatalf("after %s: %d %s", s.clock.Now().Sub(begin), got.status, got.body)
		}
	}
}

// TestReplayCacheSurvivesReload: a reload must not forget what was seen.
func TestReplayCacheSurvivesReload(t *testing.T) {
	t.Parallel()
	tenants := replayTenants(lockerapi.ReplayPolicy{Window: time.Minute})
	s := serve(t, serverOptions{tenants: tenants})
	captured := claims(map[jose.HeaderKey]any{"iat": s.clock.Now().Unix(), "jti": "0123-4567"}).seal(t, retrieveBody)
	s.do(t, post("/cards/retrieve", captured))
	if err := s.api.SetTenants(tenants); err != nil {
		t.Fatal(err)
	}
	s.do(t, post("/cards/retrieve", captured)).want(t, 400, replayRefused("jti was used before"))
}

func TestReplayCacheIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{Window: time.Minute})})
	s.api.ReplayLimit("acme", 2)
	try := func(jti string) reply {
		return s.do(t, post("/cards/retrieve", claims(map[jose.HeaderKey]any{"iat": s.clock.Now().Unix(), "jti": jti}).seal(t, retrieveBody)))
	}
	try("first-one")
	try("second-one")
	try("third-one").want(t, 429, failure("TE_00", "Rate Limit Applied"))
	try("first-one").want(t, 400, replayRefused("jti was used before"))
	s.clock.advance(2*time.Minute + time.Second)
	if got := try("fourth-one"); got.status != http.StatusNotFound {
		t.Errorf("status %d", got.status)
	}
}

func TestBindingHoldsWhereItIsPresent(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{})})
	bound := map[jose.HeaderKey]any{"htm": "POST", "htu": "/cards/retrieve", "aud": "acme"}
	for _, c := range []struct{ path, tenant, answer string }{
		{"/cards/retrieve", "acme", ""},
		{"/cards/delete", "acme", replayRefused("htu is of another request")},
		{"/data/retrieve", "acme", replayRefused("htu is of another request")},
		{"/cards/retrieve", "beta", replayRefused("aud is of another request")},
	} {
		got := s.do(t, post(c.path, claims(bound).seal(t, retrieveBody), "x-tenant-id", c.tenant))
		if c.answer == "" && got.status != http.StatusNotFound || c.answer != "" && got.body != c.answer {
			t.Errorf("%s as %s: %d %s", c.path, c.tenant, got.status, got.body)
		}
	}
	s.do(t, post("/cards/retrieve", claims(map[jose.HeaderKey]any{"htm": ""}).seal(t, retrieveBody))).want(t, 400, replayRefused("htm is of another request"))
}

func TestBindingCanBeMandatory(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: replayTenants(lockerapi.ReplayPolicy{Bind: true})})
	all := map[jose.HeaderKey]any{"htm": "POST", "htu": "/cards/retrieve", "aud": "acme"}
	if got := s.do(t, post("/cards/retrieve", claims(all).seal(t, retrieveBody))); got.status != http.StatusNotFound {
		t.Errorf("status %d", got.status)
	}
	for _, missing := range []jose.HeaderKey{"htm", "htu", "aud"} {
		some := map[jose.HeaderKey]any{}
		for k, v := range all {
			if k != missing {
				some[k] = v
			}
		}
		s.do(t, post("/cards/retrieve", claims(some).seal(t, retrieveBody))).want(t, 400, replayRefused(string(missing)+" is missing"))
	}
}
