package keymanager

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/hsm/soft"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/kmsapi"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// realNode is a vault's keys before the embedded key service, with a proxy between
// that has faults on request.
type realNode struct {
	*Router
	proxy   *faultproxy.Proxy
	inv     *inventory
	modes   *vault.Tenants
	tenants *KMSTenants
	ahead   atomic.Int64 // of the vault's clock, in ns
	revoke  func()
	allow   func()
}

func newRealNode(t *testing.T, mode vault.Mode) *realNode {
	t.Helper()
	ctx := context.Background()
	operator := identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "alice", Auth: "internal", Actions: []string{"*"}})
	root := secret.Random(32)
	backend := soft.New(soft.Options{Root: func() (secret.Bytes, error) { return secret.Copy(root.Expose()), nil }})
	t.Cleanup(backend.Close)
	people, err := identity.New(ctx, identity.Options{Node: "node1", Store: identitytest.NewStore(), Secrets: identitytest.NewSecrets()})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kms.New(kms.Options{Node: "node1", Store: kmstest.NewStore(), Soft: backend, Secrets: backend, Accounts: people.HasAccount, Regions: []string{testRegion}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close(ctx) })
	api, err := kmsapi.New(kmsapi.Options{Service: keys, Identities: people, STS: people, Regions: []string{testRegion}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := httpd.New(httpd.Options{Name: "kms", Addr: "127.0.0.1:0", Handler: api.Handler()})
	if err == nil {
		err = srv.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(serving) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	n := &realNode{proxy: faultproxy.New(t, srv.URL()), inv: newInventory(), modes: vault.NewTenants(vault.Tenant{Name: "acme", Mode: mode})}

	const account = "111122223333"
	b, err := people.Bootstrap(ctx, operator, &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: account}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := people.CreateUser(ctx, operator, &identity.CreateUserInput{Account: account, Name: "vault"}); err != nil {
		t.Fatal(err)
	}
	n.allow = func() {
		if err := people.PutUserPolicy(ctx, operator, &identity.PolicyInput{
			Account: account, Entity: "vault", Name: "use",
			Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey","kms:ReEncrypt*","kms:GenerateMac"],"Resource":"*"}]}`,
		}); err != nil {
			t.Fatal(err)
		}
	}
	n.revoke = func() {
		if err := people.DeleteUserPolicy(ctx, operator, &identity.PolicyInput{Account: account, Entity: "vault", Name: "use"}); err != nil {
			t.Fatal(err)
		}
	}
	n.allow()
	user, err := people.CreateAccessKey(ctx, operator, &identity.EntityInput{Account: account, Name: "vault"})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	url := srv.URL()
	admin := awskms.New(awskms.Options{
		BaseEndpoint: &url, Region: testRegion, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(&http.Client{Transport: transport}),
		Credentials: credentials.NewStaticCredentialsProvider(b.Key.ID, string(b.Key.Secret.Expose()), ""),
	})
	key := func(in *awskms.CreateKeyInput) kmsclient.Key {
		out, err := admin.CreateKey(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return kmsclient.Key{ID: *out.KeyMetadata.Arn, Region: testRegion, Endpoint: n.proxy.URL}
	}
	n.use(t, kmsclient.Credentials{AccessKeyID: user.ID, SecretAccessKey: user.Secret}, KMSKeys{
		Key: key(&awskms.CreateKeyInput{}), MAC: key(&awskms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}),
	})
	return n
}

// use gives n key managers whose tenant has keys in a KMS.
func (n *realNode) use(t *testing.T, who kmsclient.Credentials, keys KMSKeys) {
	t.Helper()
	tenants := NewKMSTenants(map[string]KMSKeys{"acme": keys})
	now := func() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }
	client, err := kmsclient.New(kmsclient.Options{
		Credentials: map[string]kmsclient.Credentials{"": who}, Now: now,
		AttemptTimeout: 2 * time.Second, Deadline: 6 * time.Second, Attempts: 2, Breaker: kmsclient.Breaker{Failures: 1000},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	envelope, err := NewEnvelope(Options{
		Tenants: n.modes, Wrappers: append(KMSWrappers(client, tenants, now), LocalWrapper(newMasters(t, "acme"))), Inventory: n.inv, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(envelope.Close)
	n.Router = NewRouter(n.modes, envelope, NewDirect(DirectOptions{KMS: client, Tenants: tenants, Envelope: envelope}))
	n.tenants = tenants
}

// TestModesOnTheEmbeddedKeyService: what the fake of the other tests does, over the
// real protocol.
func TestModesOnTheEmbeddedKeyService(t *testing.T) {
	t.Parallel()
	for _, mode := range modesOfKMS {
		newRealNode(t, mode).works(t, mode)
	}
}

var modesOfKMS = []vault.Mode{vault.ModeKMSEnvelope, vault.ModeKMS}

// works seals, opens, replaces and moves.
func (n *realNode) works(t *testing.T, mode vault.Mode) {
	t.Helper()
	c := card("acme", "m")
	s := mustSeal(t, n, c)
	mustOpen(t, n, c, s)
	hash, err := n.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	other := card("acme", "other")
	if _, err := n.Open(t.Context(), other, s); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("%s: in another's place: %v", mode, err)
	}
	p, holder := vault.PurposeRecord, "m"
	if mode == vault.ModeKMS {
		p, holder = vault.PurposeDirect, ""
	}
	if _, err := n.Rotate(t.Context(), "acme", holder, p, "operator"); err != nil {
		t.Fatal(err)
	}
	decrypts := n.proxy.Asked("Decrypt")
	next, err := n.Reseal(t.Context(), c, s)
	if err != nil || next.KeyVersion != 2 {
		t.Fatalf("%s: %v, version %d", mode, err, next.KeyVersion)
	}
	if mode == vault.ModeKMS && (n.proxy.Asked("Decrypt") != decrypts || n.proxy.Asked("ReEncrypt") != 1) {
		t.Error("the plaintext left the key service")
	}
	mustOpen(t, n, c, s)
	mustOpen(t, n, c, next)
	n.Forget("acme")
	mustOpen(t, n, c, next)
	if again, err := n.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil || again != hash {
		t.Errorf("%s: another hash: %v", mode, err)
	}
	n.modes.Replace(vault.Tenant{Name: "acme", Mode: vault.ModeLocal})
	back, err := n.Reseal(t.Context(), c, next)
	if err != nil || back.Mode != vault.ModeLocal {
		t.Fatalf("%s: %v, mode %s", mode, err, back.Mode)
	}
	mustOpen(t, n, c, back)
}

// TestFaultsOfTheKeyService: nothing wrong is answered, and all is well again when the
// fault has gone, without a restart.
func TestFaultsOfTheKeyService(t *testing.T) {
	t.Parallel()
	for _, mode := range modesOfKMS {
		newRealNode(t, mode).recovers(t, mode)
	}
}

// recovers has every fault that comes and goes.
func (n *realNode) recovers(t *testing.T, mode vault.Mode) {
	t.Helper()
	c := card("acme", "m")
	s := mustSeal(t, n, c)
	for name, tc := range map[string]struct {
		fault faultproxy.Fault
		is    error
	}{
		"throttled": {faultproxy.Throttle(), vault.ErrKeyThrottled},
		"500":       {faultproxy.Status(500), vault.ErrKeyUnavailable},
		"blackhole": {faultproxy.Blackhole(), vault.ErrKeyUnavailable},
		"reset":     {faultproxy.Reset(), vault.ErrKeyUnavailable},
	} {
		n.Forget("acme") // what is in the cache needs no key service
		n.proxy.Set(tc.fault)
		if p, err := n.Open(t.Context(), c, s); !errors.Is(err, tc.is) || p.Present() {
			t.Errorf("%s, %s: got %v", mode, name, err)
		}
		n.proxy.Clear()
		mustOpen(t, n, c, s)
		mustOpen(t, n, c, mustSeal(t, n, c))
	}
}

// TestRevokedAccessEndsWithinTheTTL, and comes back with the right.
func TestRevokedAccessEndsWithinTheTTL(t *testing.T) {
	t.Parallel()
	n := newRealNode(t, vault.ModeKMSEnvelope)
	direct := newRealNode(t, vault.ModeKMS)
	c := card("acme", "m")
	s, d := mustSeal(t, n, c), mustSeal(t, direct, c)
	n.revoke()
	direct.revoke()
	if _, err := direct.Open(t.Context(), c, d); !errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("direct: got %v", err)
	}
	mustOpen(t, n, c, s) // from the cache
	// Its time is over. The clock is also wrong by then, which signing corrects.
	n.ahead.Store(int64(5*time.Minute + time.Second))
	for k := range n.keys.keys.Values() {
		n.keys.keys.SetExpiresAfter(k.versionName, time.Nanosecond)
	}
	_, err := n.Open(t.Context(), c, s)
	if k, ok := errors.AsType[*vault.KeyError](err); !ok || k.Result != "key_denied" {
		t.Errorf("got %v", err)
	}
	n.allow()
	n.ahead.Add(int64(2 * refusalTime))
	mustOpen(t, n, c, s)
	n.ahead.Store(int64(-time.Hour))
	n.Forget("acme")
	mustOpen(t, n, c, s)
}
