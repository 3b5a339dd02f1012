package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

const kmsRegion = "eu-central-1"

// testClock is time that a test moves.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// start runs an App until the test ends or stop is called.
func start(t *testing.T, cfg config.Config, now func() time.Time) (a *App, stop func()) {
	t.Helper()
	cfg.Derive("")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}

// keyServiceConfig is that of a node with a key service whose root key is at hand, and
// with a vault on an address, or none.
func keyServiceConfig(t *testing.T, node, vault string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = node, t.TempDir(), vault, "127.0.0.1:0"
	cfg.KeyService.Listen, cfg.KeyService.Regions, cfg.KeyService.AdminSocket = "127.0.0.1:0", []string{kmsRegion}, filepath.Join(shortDir(t), "s")
	cfg.KeyService.RootKeyFile, cfg.KeyService.RootKey, cfg.KeyService.InsecureRootKeyWithoutCustodians = "not read again", secret.Random(32), true
	return cfg
}

// keyService is a key service over its real protocol, whose administrator's
// credentials are the environment's.
func keyService(t *testing.T) (url string, admin *awskms.Client) {
	t.Helper()
	cfg := keyServiceConfig(t, "keys", "")
	a, _ := start(t, cfg, time.Now)
	return a.Keys().URL(), bootstrap(t, a, cfg.KeyService.AdminSocket)
}

func makeKey(t *testing.T, admin *awskms.Client, in *awskms.CreateKeyInput) string {
	t.Helper()
	out, err := admin.CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// call asks the vault as a tenant.
func call(t *testing.T, a *App, tenant, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.Vault().URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-tenant-id", tenant)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func mustCall(t *testing.T, a *App, tenant, path, body, want string) string {
	t.Helper()
	status, answer := call(t, a, tenant, path, body)
	if status != http.StatusOK || !strings.Contains(answer, want) {
		t.Fatalf("%s %s: %d %s", tenant, path, status, answer)
	}
	return answer
}

// ready is the state of a tenant in the answer to readiness.
func ready(t *testing.T, a *App, tenant string) httpd.Check {
	t.Helper()
	for _, c := range a.readiness(t.Context()) {
		if c.Name == "tenant_"+tenant {
			return c
		}
	}
	t.Fatal("tenant is not in readiness")
	return httpd.Check{}
}

// TestVaultOnAKeyService: both modes over the real protocol, without a custodian.
func TestVaultOnAKeyService(t *testing.T) {
	url, admin := keyService(t)
	key := makeKey(t, admin, &awskms.CreateKeyInput{})
	mac := makeKey(t, admin, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	tenant := func(mode, mac string) config.Tenant {
		x := config.DefaultTenant()
		x.Mode, x.KMS = mode, config.TenantKMS{KeyID: key, MACKeyID: mac, Endpoint: url, Oversize: config.OversizeRefuse}
		return x
	}
	direct := tenant(config.ModeKMS, mac)
	direct.KMS.Oversize = config.OversizeEnvelope
	cfg.Tenants = map[string]config.Tenant{"direct": direct, "envelope": tenant(config.ModeKMSEnvelope, ""), "local": config.DefaultTenant()}
	clock := &testClock{}
	a, stop := start(t, cfg, clock.now)

	const card = `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","card":{"card_number":"4111111111111111"}}`
	const which = `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`
	long := strings.Repeat("x", 5000)
	datum := fmt.Sprintf(`{"entity_id":"e","vault_id":"v","data":{"a":%q}}`, long)
	fingerprints := map[string]string{}
	for _, tenant := range []string{"direct", "envelope"} {
		mustCall(t, a, tenant, "/data/add", card, `"duplication_check":null`)
		mustCall(t, a, tenant, "/data/add", card, `"duplication_check":"duplicated"`)
		mustCall(t, a, tenant, "/api/v2/vault/add", datum, `"vault_id":"v"`)
		fingerprints[tenant] = mustCall(t, a, tenant, "/data/fingerprint", `{"data":"d","key":"k"}`, "fingerprint_id")
		if c := ready(t, a, tenant); c.State != httpd.Working {
			t.Errorf("%s: readiness %+v", tenant, c)
		}
	}
	if status, answer := call(t, a, "local", "/data/add", card); status != http.StatusUnauthorized {
		t.Errorf("tenant with custodians: %d %s", status, answer)
	}
	if status, answer := call(t, a, "direct", "/custodian/decrypt", ""); status == http.StatusOK {
		t.Errorf("a tenant without custodians was unlocked: %d %s", status, answer)
	}

	stop()
	a, _ = start(t, cfg, clock.now)
	for tenant, fingerprint := range fingerprints {
		mustCall(t, a, tenant, "/data/retrieve", which, `"card_number":"4111111111111111"`)
		mustCall(t, a, tenant, "/api/v2/vault/retrieve", `{"entity_id":"e","vault_id":"v"}`, long)
		if again := mustCall(t, a, tenant, "/data/fingerprint", `{"data":"d","key":"k"}`, ""); again != fingerprint {
			t.Errorf("%s: fingerprint %s was %s", tenant, again, fingerprint)
		}
	}

	// Access that is revoked ends at once in direct mode, in envelope mode with the cache.
	if _, err := admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	status, answer := call(t, a, "direct", "/data/retrieve", which)
	if status != http.StatusInternalServerError || !strings.Contains(answer, "Error while encrypting with merchant key") {
		t.Errorf("disabled: %d %s", status, answer)
	}
	mustCall(t, a, "envelope", "/data/retrieve", which, "4111")
	clock.advance(kmsHealthTTL)
	for _, tenant := range []string{"direct", "envelope"} {
		if c := ready(t, a, tenant); c.State != httpd.Failing || !strings.Contains(c.Detail, "key cannot be used in its state") {
			t.Errorf("%s: readiness %+v", tenant, c)
		}
	}
	a.Vault().forgetTenant("envelope")
	if status, answer := call(t, a, "envelope", "/data/retrieve", which); status != http.StatusInternalServerError {
		t.Errorf("disabled, not cached: %d %s", status, answer)
	}
	if _, err := admin.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	clock.advance(2 * time.Second)
	for tenant := range fingerprints {
		mustCall(t, a, tenant, "/data/retrieve", which, "4111")
	}
}

// TestTenantsMoveToAKMSWhileServed: reload takes up another mode. What is stored from
// then on is under a version of the key that is in it; what was is found and opens.
func TestTenantsMoveToAKMSWhileServed(t *testing.T) {
	url, admin := keyService(t)
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	local := config.DefaultTenant()
	local.MasterKey, local.InsecureMasterKeyWithoutCustodians = secret.Random(32), true
	cfg.Tenants = map[string]config.Tenant{"acme": local}
	a, _ := start(t, cfg, time.Now)
	const card = `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"%s","card":{"card_number":"%s"}}`
	mustCall(t, a, "acme", "/data/add", fmt.Sprintf(card, "r1", "4111111111111111"), "r1")

	moved := local
	moved.Mode, moved.KMS = config.ModeKMSEnvelope, config.TenantKMS{KeyID: makeKey(t, admin, &awskms.CreateKeyInput{}), Endpoint: url}
	next := cfg
	next.Tenants = map[string]config.Tenant{"acme": moved, "new": moved}
	next.Derive("")
	if err := a.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	mustCall(t, a, "acme", "/data/retrieve", `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r1"}`, "4111")
	mustCall(t, a, "new", "/data/add", fmt.Sprintf(card, "r2", "5555555555554444"), "r2")
	mustCall(t, a, "acme", "/data/add", fmt.Sprintf(card, "r2", "5555555555554444"), "r2")
	mustCall(t, a, "acme", "/data/add", fmt.Sprintf(card, "r3", "4111111111111111"), "r1") // the same card as before
	for ref, number := range map[string]string{"r1": "4111", "r2": "5555"} {
		mustCall(t, a, "acme", "/data/retrieve", fmt.Sprintf(`{"merchant_id":"m","merchant_customer_id":"c","card_reference":"%s"}`, ref), number)
	}
	w, err := a.Vault().store.ActiveKey(t.Context(), "acme", "m", vault.PurposeRecord)
	if err != nil || w.Mode != vault.ModeKMSEnvelope || w.Version != 2 {
		t.Errorf("%v: version %d in mode %s", err, w.Version, w.Mode)
	}
	if got := a.Vault().gate.Tenants.Names(); !slices.Equal(got, []string{"acme", "new"}) {
		t.Errorf("tenants %v", got)
	}
	if x, err := a.Vault().gate.Tenants.Tenant("acme"); err != nil || x.Mode != vault.ModeKMSEnvelope {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestRowsFromBeforeAreUnlockedByTheirCustodians: a tenant that has moved needs no
// custodians but for what it stored before.
func TestRowsFromBeforeAreUnlockedByTheirCustodians(t *testing.T) {
	url, admin := keyService(t)
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Tenants = map[string]config.Tenant{"acme": config.DefaultTenant()}
	a, stop := start(t, cfg, time.Now)
	handouts, err := a.Vault().Ceremonies().Init(t.Context(), iam.System("test"), "acme", vault.Terms{
		Form: custodian.FormShares, Threshold: 2, Custodians: []string{"alice", "bob"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Vault().TakeUpSeals(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock := func() {
		t.Helper()
		for _, h := range handouts {
			who := iam.Principal{Type: iam.TypeCustodian, Tenant: "acme", Name: h.Custodian, Auth: "bearer", Actions: []string{"*"}, Merchants: []string{"*"}}
			if err := a.Vault().Service().SubmitPart(t.Context(), who, "acme", h.Part); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Vault().Service().Unlock(t.Context(), iam.Principal{Type: iam.TypeCustodian, Tenant: "acme", Name: "alice", Auth: "bearer", Actions: []string{"*"}, Merchants: []string{"*"}}, "acme"); err != nil {
			t.Fatal(err)
		}
	}
	unlock()
	mustCall(t, a, "acme", "/data/add", `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","card":{"card_number":"4111111111111111"}}`, `"r"`)
	stop()

	moved := config.DefaultTenant()
	moved.Mode, moved.KMS = config.ModeKMSEnvelope, config.TenantKMS{KeyID: makeKey(t, admin, &awskms.CreateKeyInput{}), Endpoint: url}
	cfg.Tenants = map[string]config.Tenant{"acme": moved, "new": moved}
	a, _ = start(t, cfg, time.Now)
	const which = `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`
	if status, answer := call(t, a, "acme", "/data/retrieve", which); status != http.StatusUnauthorized || !strings.Contains(answer, "Custodian is locked") {
		t.Errorf("row of a locked master key: %d %s", status, answer)
	}
	if !a.Vault().Service().AwaitsCustodians("acme") || a.Vault().Service().AwaitsCustodians("new") {
		t.Error("custodians are awaited of the wrong tenant")
	}
	if status, answer := call(t, a, "acme", "/custodian/decrypt", ""); strings.Contains(answer, "already unlocked") || status == http.StatusOK {
		t.Errorf("custodians are turned away: %d %s", status, answer)
	}
	if status, answer := call(t, a, "new", "/custodian/decrypt", ""); !strings.Contains(answer, "already unlocked") {
		t.Errorf("custodians of a tenant without any: %d %s", status, answer)
	}
	unlock()
	mustCall(t, a, "acme", "/data/retrieve", which, "4111")
	if a.Vault().Service().AwaitsCustodians("acme") {
		t.Error("still awaited")
	}
	locks := vaultCustodians{lockingKeeper{a.Vault().keeper, a.Vault()}}
	if err := locks.Lock("acme"); err != nil {
		t.Error(err)
	}
	if err := locks.Lock("new"); err == nil || err.Error() != "tenant: has its keys in a KMS, which is where they can be locked; its keys in memory are wiped" {
		t.Errorf("got %v", err)
	}
	if s, err := locks.Status("new"); err != nil || !s.Unlocked {
		t.Errorf("status %+v, %v", s, err)
	}
}
