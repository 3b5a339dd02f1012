package lockerapi_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/lockerapi"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// ceremony is a locked tenant with real custodians.
type ceremony struct {
	*server
	keeper *custodian.Keeper
	parts  []string // as each custodian keeps it
	tokens []string
	creds  []custodian.Credential
}

var custodianNames = []string{"alice", "bob", "carol"}

// lockedTenant divides acme's master key among k of n custodians.
func lockedTenant(t *testing.T, form custodian.Form, n, k int) *ceremony {
	t.Helper()
	c := &ceremony{}
	seal, master, parts, err := custodian.NewSeal("acme", form, n, k)
	if err != nil {
		t.Fatal(err)
	}
	master.Destroy()
	clk := newClock()
	c.keeper = custodian.NewKeeper(custodian.Options{Now: clk.Now})
	t.Cleanup(c.keeper.Close)
	if err := c.keeper.SetTenant("acme", seal); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		token, hash := custodian.NewToken()
		c.parts = append(c.parts, string(p.Text().Expose()))
		c.tokens = append(c.tokens, string(token.Expose()))
		c.creds = append(c.creds, custodian.Credential{Tenant: "acme", Name: custodianNames[i], TokenHash: hash, CreatedAt: clk.Now()})
	}
	guard, err := custodian.NewGuard(custodian.GuardOptions{Now: clk.Now, Rate: 100, Burst: 100})
	if err != nil {
		t.Fatal(err)
	}
	auth := &lockerapi.GuardedCustodians{
		Guard: guard, Now: clk.Now,
		Credentials: func(_ context.Context, tenant string) ([]custodian.Credential, error) {
			if tenant != "acme" {
				return nil, vault.ErrNotFound
			}
			return c.creds, nil
		},
	}
	c.server = serve(t, serverOptions{custodians: c.keeper, change: func(o *lockerapi.Options) { o.Custodians = auth; o.Now = clk.Now }})
	c.clock = clk
	return c
}

// as is a request of a custodian; -1 is nobody.
func (c *ceremony) as(who int, method, path, body string) request {
	r := post(path, body)
	r.method = method
	if who >= 0 {
		r.header.Set("Authorization", "Bearer "+c.tokens[who])
	}
	return r
}

func (c *ceremony) give(t *testing.T, who int, path, part string) reply {
	t.Helper()
	name := "key"
	if path == "/custodian/share" {
		name = "share"
	}
	return c.do(t, c.as(who, http.MethodPost, path, fmt.Sprintf(`{%q:%q}`, name, part)))
}

const (
	received1    = `{"message":"Received Key1"}`
	received2    = `{"message":"Received Key2"}`
	receivedPart = `{"message":"Received Share"}`
	decrypted    = `{"message":"Decryption of Custodian key is successful"}`
)

var (
	notAuthenticated = failure("TE_00", "Custodian is not authenticated")
	halvesMissing    = failure("TE_00", "Failed while decrypting two custodian keys: Both the custodain keys are not present to decrypt")
	halvesWrong      = failure("TE_00", "Failed while decrypting two custodian keys: AES decryption failed")
	unlockedAlready  = failure("TE_03", "Custodian is already unlocked")
)

func (c *ceremony) decrypt(t *testing.T, who int) reply {
	t.Helper()
	return c.do(t, c.as(who, http.MethodPost, "/custodian/decrypt", ""))
}

func TestHalvesUnlockATenant(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	c.do(t, post("/cards/retrieve", retrieveBody)).want(t, 401, failure("TE_00", "Custodian is locked"))
	c.decrypt(t, 0).want(t, 401, halvesMissing)
	c.give(t, 0, "/custodian/key1", c.parts[0]).want(t, 200, received1)
	c.decrypt(t, 0).want(t, 401, halvesMissing)
	c.give(t, 0, "/custodian/key1", strings.ToUpper(c.parts[0])).want(t, 200, received1) // he may correct himself
	c.give(t, 0, "/custodian/key2", c.parts[1]).want(t, 409, failure("TE_03", "A custodian may give only one part"))
	c.give(t, 1, "/custodian/key1", c.parts[0]).want(t, 409, failure("TE_03", "Another custodian has given this part"))
	c.give(t, 1, "/custodian/key2", c.parts[1]).want(t, 200, received2)
	c.decrypt(t, 1).want(t, 200, decrypted)
	c.do(t, post("/cards/retrieve", retrieveBody)).want(t, 404, notFound)
	for _, path := range []string{"/custodian/key1", "/custodian/key2", "/custodian/share", "/custodian/decrypt"} {
		c.do(t, c.as(0, http.MethodPost, path, "nonsense")).want(t, 400, unlockedAlready)
	}
	want := []string{
		"card.retrieve failed locked by anonymous/anonymous/none acme",
		"custodian.unlock failed quorum_missing by custodian/alice/bearer acme alice",
		"custodian.part allowed accepted by custodian/alice/bearer acme alice",
		"custodian.unlock failed quorum_missing by custodian/alice/bearer acme alice",
		"custodian.part allowed accepted by custodian/alice/bearer acme alice",
		"custodian.part failed same_custodian by custodian/alice/bearer acme alice",
		"custodian.part failed part_taken by custodian/bob/bearer acme bob",
		"custodian.part allowed accepted by custodian/bob/bearer acme bob",
		"custodian.unlock allowed unlocked by custodian/bob/bearer acme bob",
		"card.retrieve failed not_found by tenant/loopback/loopback acme m c r",
		"custodian.part failed already_unlocked by anonymous/anonymous/none acme",
		"custodian.part failed already_unlocked by anonymous/anonymous/none acme",
		"custodian.part failed already_unlocked by anonymous/anonymous/none acme",
		"custodian.unlock failed already_unlocked by anonymous/anonymous/none acme",
	}
	got := c.auditLines(t, 0)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], " (")
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSharesUnlockATenant(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormShares, 3, 2)
	c.give(t, 2, "/custodian/share", c.parts[2]).want(t, 200, receivedPart)
	c.give(t, 0, "/custodian/key1", strings.Repeat("0", 32)).want(t, 400, failure("TE_03", "Failed while validation: half 1 is not of this seal, which has shares"))
	c.give(t, 0, "/custodian/share", c.parts[0]).want(t, 200, receivedPart)
	c.decrypt(t, 1).want(t, 200, decrypted)
	c.do(t, post("/cards/retrieve", retrieveBody)).want(t, 404, notFound)
}

// TestMistypedPartsAreRefusedByName and none of their text comes back.
func TestMistypedPartsAreRefusedByName(t *testing.T) {
	t.Parallel()
	halves, shares := lockedTenant(t, custodian.FormHalves, 2, 2), lockedTenant(t, custodian.FormShares, 3, 2)
	const prefix = "Failed to deserialize the JSON body into the target type: "
	mistyped := []byte(shares.parts[0])
	if mistyped[len(mistyped)-1] == 'q' {
		mistyped[len(mistyped)-1] = 'p'
	} else {
		mistyped[len(mistyped)-1] = 'q'
	}
	for _, x := range []struct {
		c          *ceremony
		path, body string
		status     int
		message    string
	}{
		{halves, "/custodian/key1", `{"key":"` + halves.parts[0][1:] + `"}`, 422, prefix + "half 1 has 31 characters, want 32"},
		{halves, "/custodian/key2", `{"key":"` + halves.parts[1][1:] + `g"}`, 422, prefix + "half 2 has a character that is not a hexadecimal digit"},
		{halves, "/custodian/key1", `{"key":1}`, 422, prefix + "key: invalid type, expected a string"},
		{halves, "/custodian/key1", `{}`, 422, prefix + "missing field `key`"},
		{halves, "/custodian/key1", `key`, 400, "Failed to parse the request body as JSON: syntax error at byte 0"},
		{halves, "/custodian/key1", `{"key":"` + halves.parts[1] + `"}`, 400, "Failed while validation: half 1 is not the one that was handed out"},
		{halves, "/custodian/share", `{"key":"x"}`, 422, prefix + "missing field `share`"},
		{shares, "/custodian/share", `{"share":"` + string(mistyped) + `"}`, 422, prefix + "share 1 is mistyped in group 12: its checksum does not match"},
		{shares, "/custodian/share", `{"share":"cardea"}`, 422, prefix + `share text does not begin with "cardea-share-1-"`},
		{halves, "/custodian/share", `{"share":"` + shares.parts[0] + `"}`, 400, "Failed while validation: share 1 is not of this seal, which has halves"},
	} {
		got := x.c.do(t, x.c.as(0, http.MethodPost, x.path, x.body))
		if got.status != x.status || got.body != failure("TE_03", x.message) {
			t.Errorf("%s: got %d %s\nwant %d %s", x.path, got.status, got.body, x.status, x.message)
		}
	}
}

// TestWrongHalvesOfThePeer: a seal of the peer has no check values, so that
// wrong halves show only when both are there.
func TestWrongHalvesOfThePeer(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	seal, err := custodian.NewHyperswitchSeal(secret.New([]byte(strings.Repeat("ab", 60))))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.keeper.SetTenant("acme", seal); err != nil {
		t.Fatal(err)
	}
	c.give(t, 0, "/custodian/key1", strings.Repeat("0", 32)).want(t, 200, received1)
	c.give(t, 1, "/custodian/key2", strings.Repeat("1", 32)).want(t, 200, received2)
	c.decrypt(t, 1).want(t, 401, halvesWrong)
	c.decrypt(t, 1).want(t, 401, halvesMissing)
}

func TestCustodianRoutesWantAToken(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	other, _ := custodian.NewToken()
	mistyped := c.tokens[0][:64] + "_"
	if mistyped == c.tokens[0] { // by chance
		mistyped = c.tokens[0][:64] + "-"
	}
	for _, r := range lockerapi.Routes() {
		path := strings.Replace(r.Path, "/status/", "/status/acme", 1)
		if !strings.HasPrefix(path, "/custodian/") {
			continue
		}
		for name, authorization := range map[string]string{
			"none": "", "basic": "Basic " + c.tokens[0], "empty": "Bearer ", "not a token": "Bearer x",
			"mistyped": "Bearer " + mistyped, "somebody else's": "Bearer " + string(other.Expose()),
		} {
			req := c.as(-1, r.Method, path, `{"key":"00"}`)
			if authorization != "" {
				req.header.Set("Authorization", authorization)
			}
			before := c.Store.Len()
			// Each from an address of its own: guessing is another test's matter.
			got := c.from("127.0.0."+fmt.Sprint(1+before%250)+":1", req)
			got.want(t, 401, notAuthenticated)
			if got.header.Get("Www-Authenticate") != `Bearer realm="custodian"` {
				t.Errorf("%s %s: no challenge", path, name)
			}
			lines := c.auditLines(t, before)
			if len(lines) != 1 || !strings.Contains(lines[0], " denied ") || !strings.Contains(lines[0], "by anonymous/anonymous/none acme (Custodian is not authenticated: ") {
				t.Errorf("%s %s: audit %q", path, name, lines)
			}
		}
	}
	// The scheme is no matter of case, RFC 9110 section 11.1.
	req := c.as(-1, http.MethodPost, "/custodian/decrypt", "")
	req.header.Set("Authorization", "bearer "+c.tokens[0])
	c.do(t, req).want(t, 401, halvesMissing)
}

func TestExpiredTokenIsRefused(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	c.creds[0].ExpiresAt = c.clock.Now().Add(time.Hour)
	c.decrypt(t, 0).want(t, 401, halvesMissing)
	c.clock.advance(time.Hour)
	c.decrypt(t, 0).want(t, 401, notAuthenticated)
}

func TestTokenOfAnotherTenantIsRefused(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	if err := c.keeper.SetTenant("beta", must(custodian.NewHyperswitchSeal(secret.New([]byte(strings.Repeat("ab", 60)))))); err != nil {
		t.Fatal(err)
	}
	r := c.as(0, http.MethodPost, "/custodian/decrypt", "")
	r.header.Set("X-Tenant-Id", "beta")
	c.do(t, r).want(t, 401, notAuthenticated)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestGuessingATokenLocksOut(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	tooMany := failure("TE_00", "Too many attempts")
	guess := c.as(-1, http.MethodPost, "/custodian/decrypt", "")
	guess.header.Set("Authorization", "Bearer guess")
	for range 6 {
		c.from("127.0.0.2:1", guess).want(t, 401, notAuthenticated)
	}
	before := c.Store.Len()
	// Now even the right token is not heard from there, for half an hour.
	got := c.from("127.0.0.2:1", c.as(0, http.MethodPost, "/custodian/decrypt", ""))
	got.want(t, 429, tooMany)
	if got.header.Get("Retry-After") != "1800" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	if lines := c.auditLines(t, before); len(lines) != 1 || !strings.HasPrefix(lines[0], "custodian.unlock denied locked_out by anonymous/anonymous/none acme (Too many attempts: locked out") {
		t.Errorf("audit %q", lines)
	}
	c.from("127.0.0.3:1", c.as(0, http.MethodPost, "/custodian/decrypt", "")).want(t, 401, halvesMissing)
	c.clock.advance(30 * time.Minute)
	c.from("127.0.0.2:1", c.as(0, http.MethodPost, "/custodian/decrypt", "")).want(t, 401, halvesMissing)
}

// TestGuessingAPartLocksOut: a stolen token is no licence to guess the part.
func TestGuessingAPartLocksOut(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	for i := range 6 {
		got := c.give(t, 0, "/custodian/key1", fmt.Sprintf("%032x", i))
		if got.status != http.StatusBadRequest {
			t.Fatalf("guess %d: %d %s", i, got.status, got.body)
		}
	}
	c.give(t, 0, "/custodian/key1", c.parts[0]).want(t, 429, failure("TE_00", "Too many attempts"))
	c.give(t, 1, "/custodian/key2", c.parts[1]).want(t, 200, received2)
}

func TestCustodianRequestsAreRateLimited(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	for i := range 100 {
		if got := c.decrypt(t, 0); got.status != http.StatusUnauthorized {
			t.Fatalf("request %d: %d", i, got.status)
		}
	}
	got := c.decrypt(t, 0)
	got.want(t, 429, failure("TE_00", "Too many attempts"))
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
}

// TestCustodiansAreNotHeardInClear: halves on a network are not split any more.
func TestCustodiansAreNotHeardInClear(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	r := c.as(0, http.MethodPost, "/custodian/decrypt", "")
	c.from("203.0.113.9:1", r).want(t, 403, failure("TE_00", "Access denied: custodians are heard on loopback or over TLS only"))
}

func TestCustodianTenantErrors(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	missing := c.as(0, http.MethodPost, "/custodian/key1", "{}")
	missing.header.Del("X-Tenant-Id")
	c.do(t, missing).want(t, 400, failure("TE_03", "Tenant error: x-tenant-id not found in header")) // singular
	unknown := c.as(0, http.MethodPost, "/custodian/key1", "{}")
	unknown.header.Set("X-Tenant-Id", "nobody")
	c.do(t, unknown).want(t, 400, failure("TE_03", "Tenant error: Invalid x-tenant-id"))
}

func TestCustodianStatus(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	one := c.as(0, http.MethodGet, "/custodian/status/acme", "")
	one.header.Del("X-Tenant-Id")
	all := c.as(0, http.MethodGet, "/custodian/status", "")
	status := func(unlocked bool, submitted int) string {
		return fmt.Sprintf(`{"tenant_id":"acme","unlocked":%v,"form":"halves","threshold":2,"shares":2,"submitted":%d,"generation":1}`, unlocked, submitted)
	}
	c.do(t, one).want(t, 423, status(false, 0))
	c.give(t, 0, "/custodian/key1", c.parts[0])
	c.do(t, all).want(t, 423, "["+status(false, 1)+"]")
	c.give(t, 1, "/custodian/key2", c.parts[1])
	c.decrypt(t, 1)
	before := c.Store.Len()
	c.do(t, one).want(t, 200, status(true, 0))
	c.do(t, all).want(t, 200, "["+status(true, 0)+"]")
	told := "custodian.status allowed told by custodian/alice/bearer acme alice"
	if got := c.auditLines(t, before); !slices.Equal(got, []string{told, told}) {
		t.Errorf("audit %q", got)
	}
	bad := c.as(0, http.MethodGet, "/custodian/status/nobody", "")
	c.do(t, bad).want(t, 400, failure("TE_03", "Tenant error: Invalid x-tenant-id"))
	without := c.as(0, http.MethodGet, "/custodian/status", "")
	without.header.Del("X-Tenant-Id")
	c.do(t, without).want(t, 400, failure("TE_03", "Tenant error: x-tenant-id not found in header"))
}

// TestNoCustodiansConfigured: without credentials nobody unlocks over HTTP.
func TestNoCustodiansConfigured(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	s := serve(t, serverOptions{custodians: c.keeper})
	s.do(t, c.as(0, http.MethodPost, "/custodian/decrypt", "")).want(t, 401, notAuthenticated)
}

// TestCredentialStoreFailureIsNotADenial: the custodian did nothing wrong.
func TestCredentialStoreFailureIsNotADenial(t *testing.T) {
	t.Parallel()
	c := lockedTenant(t, custodian.FormHalves, 2, 2)
	guard := must(custodian.NewGuard(custodian.GuardOptions{}))
	s := serve(t, serverOptions{custodians: c.keeper, change: func(o *lockerapi.Options) {
		o.Custodians = &lockerapi.GuardedCustodians{Guard: guard, Now: time.Now, Credentials: func(context.Context, string) ([]custodian.Credential, error) {
			return nil, fmt.Errorf("%w: no route", vault.ErrUnavailable)
		}}
	}})
	s.do(t, c.as(0, http.MethodPost, "/custodian/decrypt", "")).want(t, 500, failure("TE_01", "Failed while connecting to database"))
	want := []string{"custodian.unlock failed unavailable by anonymous/anonymous/none acme (Failed while connecting to database: custodian credentials: store is unavailable: no route)"}
	if got := s.auditLines(t, 0); !slices.Equal(got, want) {
		t.Errorf("audit %q", got)
	}
}
