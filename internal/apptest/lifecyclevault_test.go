package apptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/adminapi"
	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

// rotated is a vault whose tenant is under keys of a key service, and the command
// that rotates those, with proxies between it and both that kill it.
type rotated struct {
	app    *app.App
	cfg    config.Config
	config string // of the command
	dir    string
	url    string // of the key service
	kms    *awskms.Client
	d      *deadly
	o      operator
	f      *fleet
}

// vaultUnder starts a vault with cards of a tenant.
func vaultUnder(t *testing.T, tenantConfig func(url string, keys, macs [2]string) config.Tenant) *rotated {
	t.Helper()
	url, keys, macs := embeddedKMS(t)
	clock := &movable{}
	v := &rotated{url: url, d: newDeadly(t, url), dir: t.TempDir(), f: &fleet{cards: map[string]string{}}}
	v.kms = sdk(&node{url: url}, aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}, 4)
	v.cfg = inProcess(t, "a")
	v.cfg.Database.URL = databases["sqlite"](t, v.cfg.Node.DataDir)
	v.cfg.Keys.ReencryptRate = 1_000_000
	v.cfg.Tenants = map[string]config.Tenant{tenant: tenantConfig(url, keys, macs)}
	v.cfg.Derive("")
	v.app = serve(t, v.cfg, clock.now)
	v.f.urls = []string{v.app.Vault().URL()}
	v.o = operator{adminapi.NewClient(v.cfg.Vault.AdminSocket), v.f.steady(clock.pass)}
	client := &http.Client{Timeout: patience}
	for i := range 30 {
		v.f.store(t.Context(), client, fmt.Sprintf("seed-%d", i))
	}
	v.f.fingerprint(t.Context(), client, numbers[0])
	v.config = filepath.Join(v.dir, "cardea.toml")
	v.configure(t, v.cfg.Tenants[tenant])
	go v.passes(t.Context())
	return v
}

// passes lets the time pass that jobs wait for.
func (v *rotated) passes(ctx context.Context) {
	for ctx.Err() == nil {
		var jobs adminapi.List[*adminapi.Job]
		if err := v.o.Call(ctx, "vault/Jobs", &adminapi.TenantReason{Tenant: tenant}, &jobs); err == nil && slices.ContainsFunc(jobs.Items, func(j *adminapi.Job) bool { return j.State == vault.JobWaiting }) {
			v.o.passes(2 * time.Second) // not more than a request may take
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// configure gives the vault and the command a tenant's configuration.
func (v *rotated) configure(t *testing.T, tc config.Tenant) {
	t.Helper()
	v.cfg.Tenants = map[string]config.Tenant{tenant: tc}
	v.cfg.Derive("")
	if err := v.app.Reload(t.Context(), v.cfg); err != nil {
		t.Fatal(err)
	}
	mac := ""
	if tc.KMS.MACKeyID != "" {
		mac = fmt.Sprintf("kms.mac_key_id = %q\n", tc.KMS.MACKeyID)
	}
	var previous []string
	for _, p := range tc.KMS.PreviousKeyIDs {
		previous = append(previous, fmt.Sprintf("%q", p))
	}
	write(t, v.config, fmt.Sprintf(`
[node]
name = "tool"
data_dir = %q
[vault]
listen = "127.0.0.1:0"
admin_socket = %q
[tenants.%s]
mode = %q
kms.key_id = %q
kms.endpoint = %q
kms.previous_key_ids = [%s]
%s`, v.dir, v.socket(t), tenant, tc.Mode, tc.KMS.KeyID, v.url, strings.Join(previous, ", "), mac))
}

// socket is that of a proxy before the vault's.
func (v *rotated) socket(t *testing.T) string {
	t.Helper()
	path := v.cfg.Vault.AdminSocket + "2"
	if _, err := os.Stat(path); err == nil {
		return path
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	real := v.cfg.Vault.AdminSocket
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "admin"})
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", real)
	}}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ConnContext: v.d.of, Handler: v.d.handler(proxy, func(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/vault/") })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return path
}

// under is what of the vault needs a key.
func (v *rotated) under(t *testing.T, arn string) (all []vault.KeyInfo) {
	t.Helper()
	var keys adminapi.List[vault.KeyInfo]
	if err := v.o.Call(t.Context(), "vault/Keys", &vault.KeyQuery{Tenant: tenant, Count: true}, &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys.Items {
		if k.KMSKey == arn && (k.State == vault.KeyActive || k.State == vault.KeyDecryptOnly || k.Records > 0) {
			all = append(all, k)
		}
	}
	return all
}

func (v *rotated) state(t *testing.T, arn string) (x lifecycle.Rotation) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(v.dir, "rotation-"+arn[strings.LastIndexByte(arn, '/')+1:]+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &x); err != nil {
		t.Fatal(err)
	}
	return x
}

// TestRotationMovesTheVaultsRecords replaces the key that a vault's records are under,
// to the end: new key, aliases, records, the old key disabled. The command is killed
// on the way, also while the vault's worker moves records.
func TestRotationMovesTheVaultsRecords(t *testing.T) {
	var old string
	v := vaultUnder(t, func(url string, keys, _ [2]string) config.Tenant {
		old = keys[0]
		c := config.DefaultTenant()
		c.Mode, c.KMS = config.ModeKMSEnvelope, config.TenantKMS{KeyID: old, Endpoint: url, Oversize: config.OversizeRefuse}
		return c
	})
	alias := "alias/vault"
	if _, err := v.kms.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: &old}); err != nil {
		t.Fatal(err)
	}
	env := []string{"AWS_REGION=" + keyRegion}
	args := []string{"keys", "rotate", "--key-id", alias, "--replace", "--verify", "--disable-old", "--endpoint-url", v.d.url, "--config", v.config}
	for _, at := range []string{"Encrypt", "CreateKey", "UpdateAlias", "TagResource"} {
		if out, err := v.d.runUntil(t, 0, at, env, args...); !errors.Is(err, errWasKilled) {
			t.Fatalf("at %s: %v\n%s", at, err, out)
		}
	}
	out, err := v.d.run(t, 0, env, args...)
	x := v.state(t, old)
	want := fmt.Sprintf(`the vault is not configured for the new key: set tenants.acme.kms.key_id = "%s" and kms.previous_key_ids = ["%s"] on every node`, x.NewKey, old)
	if err == nil || !strings.Contains(out, want) || !x.Finished.IsZero() {
		t.Fatalf("got %v, %s, want %s", err, out, want)
	}
	if k, err := lifecycle.Look(t.Context(), v.kms, old); err != nil || k.State != types.KeyStateEnabled {
		t.Errorf("the old key is %+v, %v", k, err)
	}
	c := v.cfg.Tenants[tenant]
	c.KMS.KeyID, c.KMS.PreviousKeyIDs = x.NewKey, []string{old}
	v.configure(t, c)
	for _, at := range []string{"Migrate", "DisableKey"} {
		if out, err := v.d.runUntil(t, 0, at, env, args...); !errors.Is(err, errWasKilled) {
			t.Fatalf("at %s: %v\n%s", at, err, out)
		}
	}
	// The alias names the new key by now, and still the rotation that was begun is meant.
	if out, err := v.d.run(t, 0, env, args...); err != nil || !strings.Contains(out, "have it destroyed by 'cardea keys retire --key-id ") {
		t.Fatalf("%v\n%s", err, out)
	}
	x = v.state(t, old)
	if left := v.under(t, old); len(left) > 0 || len(x.Left) > 0 || x.Finished.IsZero() || len(x.Data) == 0 || x.Data[len(x.Data)-1].Verified < int64(len(v.f.cards)) {
		t.Errorf("%+v is left, report %+v", left, x)
	}
	if len(v.under(t, x.NewKey)) == 0 {
		t.Error("nothing is under the new key")
	}
	k, err := lifecycle.Look(t.Context(), v.kms, alias)
	was, err2 := lifecycle.Look(t.Context(), v.kms, old)
	if err != nil || err2 != nil || k.ARN != x.NewKey || was.State != types.KeyStateDisabled || was.ReplacedBy != k.ID {
		t.Errorf("%+v, %+v, %v, %v", k, was, err, err2)
	}
	if n := withTag(t, v.kms, "cardea:replaces", was.ID); n != 1 {
		t.Errorf("%d keys replace the old one, want 1", n)
	}
	v.f.check(t, "after the old key was disabled")

	// The next rotation by the alias is of the new key.
	if out, err := v.d.run(t, 0, env, append(args, "--output", "json")...); err == nil || !strings.Contains(out, "is not configured for the new key") || !strings.Contains(out, x.NewKey) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRotationKeepsWhatFindsFingerprints: keyed hashes of fingerprints cannot be made
// again without their cards, so that their HMAC key stays, and the report says so.
func TestRotationKeepsWhatFindsFingerprints(t *testing.T) {
	var old string
	v := vaultUnder(t, func(url string, keys, macs [2]string) config.Tenant {
		old = macs[0]
		c := config.DefaultTenant()
		c.Mode, c.KMS = config.ModeKMS, config.TenantKMS{KeyID: keys[0], MACKeyID: old, Endpoint: url, Oversize: config.OversizeRefuse}
		return c
	})
	env := []string{"AWS_REGION=" + keyRegion}
	args := []string{"keys", "rotate", "--key-id", old, "--verify", "--endpoint-url", v.d.url, "--config", v.config}
	out, err := v.d.run(t, 0, env, args...)
	x := v.state(t, old)
	if err == nil || !strings.Contains(out, fmt.Sprintf("set tenants.acme.kms.mac_key_id = %q", x.NewKey)) {
		t.Fatalf("%v\n%s", err, out)
	}
	c := v.cfg.Tenants[tenant]
	c.KMS.MACKeyID, c.KMS.PreviousKeyIDs = x.NewKey, []string{old}
	v.configure(t, c)
	if out, err = v.d.run(t, 0, env, args...); err != nil || !strings.Contains(out, "the old key is still needed for what cannot be moved: fingerprint key ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if x = v.state(t, old); x.Finished.IsZero() || len(x.Left) != 1 || x.Left[0].Records != 1 {
		t.Errorf("%+v", x)
	}
	if out, err := v.d.run(t, 0, env, append(args, "--disable-old")...); err == nil || !strings.Contains(out, "disable-old: the key is in use: fingerprint key ") {
		t.Errorf("%v\n%s", err, out)
	}
	if k, err := lifecycle.Look(t.Context(), v.kms, old); err != nil || k.State != types.KeyStateEnabled {
		t.Errorf("%+v, %v", k, err)
	}
	v.f.check(t, "after the HMAC key was replaced")
}
