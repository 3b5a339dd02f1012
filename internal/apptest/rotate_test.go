package apptest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/adminapi"
	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/identity"
	"cardea/internal/secret"
	"cardea/internal/testlog"
	"cardea/internal/vault"
)

// movable is the clock of nodes in this process: it can be put ahead, past what
// nodes wait for.
type movable struct {
	mu    sync.Mutex // guards ahead
	ahead time.Duration
}

func (m *movable) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.ahead)
}

func (m *movable) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead += d
}

// serve runs an app in this process until the test ends.
func serve(t *testing.T, cfg config.Config, now func() time.Time) *app.App {
	t.Helper()
	cfg.Derive("")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	said := &testlog.Buffer{}
	logger := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(t.Context(), cfg, app.Options{Logger: logger.With("node", cfg.Node.Name), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the node warned of:\n%s", said)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// inProcess is the configuration of a node of this process.
func inProcess(t *testing.T, name string) config.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "cardea") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = name, dir, "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// embeddedKMS is a key service over its real protocol, whose administrator's
// credentials are the environment's, with two keys and two MAC keys.
func embeddedKMS(t *testing.T) (url string, keys, macs [2]string) {
	t.Helper()
	cfg := inProcess(t, "keys")
	cfg.Vault.Listen = ""
	cfg.KeyService.Listen, cfg.KeyService.Regions, cfg.KeyService.AdminSocket = "127.0.0.1:0", []string{keyRegion}, filepath.Join(cfg.Node.DataDir, "s")
	cfg.KeyService.RootKeyFile, cfg.KeyService.RootKey, cfg.KeyService.InsecureRootKeyWithoutCustodians = "not read again", secret.Random(32), true
	a := serve(t, cfg, time.Now)
	var b identity.Bootstrapped
	err := eventually(t, func() error {
		in := &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: keyAccount}}
		return adminapi.NewClient(cfg.KeyService.AdminSocket).Call(t.Context(), "identity/Bootstrap", in, &b)
	})
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: b.Key.ID, SecretAccessKey: string(b.Key.Secret.Expose())}
	t.Setenv("AWS_ACCESS_KEY_ID", creds.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", creds.SecretAccessKey)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	admin := sdk(&node{url: a.Keys().URL()}, creds, 4)
	for i := range keys {
		keys[i] = makeKMSKey(t, admin, &awskms.CreateKeyInput{})
		macs[i] = makeKMSKey(t, admin, &awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	}
	return a.Keys().URL(), keys, macs
}

func makeKMSKey(t *testing.T, admin *awskms.Client, in *awskms.CreateKeyInput) string {
	t.Helper()
	out, err := admin.CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// eventually calls f until it succeeds, for as long as patience lasts.
func eventually(t *testing.T, f func() error) error {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-t.Context().Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// operator is the admin socket of a vault.
type operator struct {
	*adminapi.Client
	passes func(time.Duration)
}

// finish waits until a job has ended, and lets the time pass that it waits for.
func (o operator) finish(t *testing.T, id string) adminapi.Job {
	t.Helper()
	var j adminapi.Job
	err := eventually(t, func() error {
		if err := o.Call(t.Context(), "vault/Job", &adminapi.JobID{ID: id}, &j); err != nil {
			return err
		}
		if j.State == vault.JobWaiting {
			o.passes(2 * time.Second) // not more than a request may take
		}
		if !j.Ended() {
			return fmt.Errorf("job is %+v", j)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// count is how many records are under keys by mode, and whether all is as configured.
func (o operator) count(t *testing.T) (byMode map[string]int64, current bool) {
	t.Helper()
	var keys adminapi.List[vault.KeyInfo]
	if err := o.Call(t.Context(), "vault/Keys", &vault.KeyQuery{Tenant: tenant, Count: true}, &keys); err != nil {
		t.Fatal(err)
	}
	byMode, current = map[string]int64{}, true
	for _, k := range keys.Items {
		if (k.Purpose == vault.PurposeRecord || k.Purpose == vault.PurposeDirect) && k.Records > 0 {
			byMode[k.Mode] += k.Records
			current = current && k.Current && k.State == vault.KeyActive
		}
	}
	return byMode, current
}

// TestMigrationWhileServed takes a tenant through every mode, with -crash.rounds above
// 2 in every direction, and to another KMS key, on two nodes with one database where
// there can be two, while clients store and read.
func TestMigrationWhileServed(t *testing.T) {
	url, keys, macs := embeddedKMS(t)
	local := config.DefaultTenant()
	local.MasterKey, local.InsecureMasterKeyWithoutCustodians = secret.Random(32), true
	in := func(mode string, i int) config.Tenant {
		c := local
		c.Mode = mode
		c.KMS = config.TenantKMS{KeyID: keys[i], Endpoint: url, Oversize: config.OversizeRefuse, PreviousKeyIDs: []string{keys[1-i], macs[1-i], macs[i]}}
		if mode == config.ModeKMS {
			c.KMS.MACKeyID = macs[i]
		}
		return c
	}
	back := in(config.ModeLocal, 0)
	tour := []config.Tenant{in(config.ModeKMSEnvelope, 0), in(config.ModeKMS, 1), back}
	if *rounds > 2 { // the other directions, too
		tour = append(tour, in(config.ModeKMS, 1), in(config.ModeKMSEnvelope, 1), in(config.ModeKMSEnvelope, 0), back)
	}
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			clock := &movable{}
			cfg := inProcess(t, "a")
			cfg.Database.URL = databases[name](t, cfg.Node.DataDir)
			cfg.Keys.ReencryptRate = 1_000_000
			cfg.Tenants = map[string]config.Tenant{tenant: local}
			nodes := []*app.App{serve(t, cfg, clock.now)}
			if name == "postgres" {
				other := inProcess(t, "b")
				other.Database.URL, other.Keys, other.Tenants = cfg.Database.URL, cfg.Keys, cfg.Tenants
				nodes = append(nodes, serve(t, other, clock.now))
			}
			f := &fleet{cards: map[string]string{}}
			for _, a := range nodes {
				f.urls = append(f.urls, a.Vault().URL())
			}
			cfg.Derive("")
			o := operator{adminapi.NewClient(cfg.Vault.AdminSocket), f.steady(clock.pass)}
			client := &http.Client{Timeout: patience}
			for i := range 60 {
				f.store(t.Context(), client, fmt.Sprintf("seed-%d", i))
			}
			first := f.fingerprint(t.Context(), client, numbers[0])
			f.check(t, "before")
			for i, to := range tour {
				step := fmt.Sprintf("%d to %s", i, to.Mode)
				stop := f.traffic(t, fmt.Sprintf("r%d", i))
				next := cfg
				next.Tenants = map[string]config.Tenant{tenant: to}
				next.Derive("")
				for _, a := range nodes {
					if err := a.Reload(t.Context(), next); err != nil {
						t.Fatal(err)
					}
				}
				var plan adminapi.List[vault.KeyMove]
				if err := o.Call(t.Context(), "vault/Plan", &adminapi.TenantReason{Tenant: tenant}, &plan); err != nil || len(plan.Items) == 0 {
					t.Errorf("%s: plan of %d keys, %v", step, len(plan.Items), err)
				}
				var j adminapi.Job
				if err := o.Call(t.Context(), "vault/Migrate", &vault.JobRequest{Tenant: tenant, Verify: true}, &j); err != nil {
					t.Fatalf("%s: %v", step, err)
				}
				j = o.finish(t, j.ID)
				stop()
				if j.State != vault.JobDone || j.Bad != 0 {
					t.Fatalf("%s: %+v", step, j)
				}
				f.check(t, step)
				if got := f.fingerprint(t.Context(), client, numbers[0]); got != first {
					t.Errorf("%s: fingerprint %s was %s", step, got, first)
				}
				byMode, current := o.count(t)
				if len(byMode) != 1 || byMode[to.Mode] != int64(len(f.cards)) || !current {
					t.Errorf("%s: of %d records are %v, all as configured: %v", step, len(f.cards), byMode, current)
				}
				t.Logf("%s: %d moved, %d skipped, %d verified", step, j.Moved, j.Skipped, j.Verified)
			}
		})
	}
}
