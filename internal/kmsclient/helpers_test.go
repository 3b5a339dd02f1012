package kmsclient_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

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
)

// TestMain keeps the machine's own AWS settings out of the tests.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	goleak.VerifyTestMain(m)
}

const (
	account = "111122223333"
	region  = "eu-central-1"
	second  = "eu-west-1"
)

// clock is time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// service is a key service with two Regions, and a proxy before each.
type service struct {
	url         string
	here, there *faultproxy.Proxy
	admin       *awskms.Client
	people      *identity.Service
	operator    identity.Caller
	vault       kmsclient.Credentials // of a user whose policy lets it use every key
}

func startService(t testing.TB, change ...func(*kmsapi.Options)) *service {
	t.Helper()
	ctx := context.Background()
	s := &service{operator: identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "alice", Auth: "internal", Actions: []string{"*"}})}
	root := secret.Random(32)
	backend := soft.New(soft.Options{Root: func() (secret.Bytes, error) { return secret.Copy(root.Expose()), nil }})
	t.Cleanup(backend.Close)
	var err error
	if s.people, err = identity.New(ctx, identity.Options{Node: "node1", Store: identitytest.NewStore(), Secrets: identitytest.NewSecrets()}); err != nil {
		t.Fatal(err)
	}
	keys, err := kms.New(kms.Options{
		Node: "node1", Store: kmstest.NewStore(), Soft: backend, Secrets: backend, Accounts: s.people.HasAccount, Regions: []string{region, second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close(ctx) })
	o := kmsapi.Options{Service: keys, Identities: s.people, STS: s.people, Regions: []string{region, second}}
	for _, f := range change {
		f(&o)
	}
	api, err := kmsapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := httpd.New(httpd.Options{Name: "kms", Addr: "127.0.0.1:0", Handler: api.Handler()})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
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
	s.url = srv.URL()
	s.here, s.there = faultproxy.New(t, s.url), faultproxy.New(t, s.url)

	b, err := s.people.Bootstrap(ctx, s.operator, &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: account}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.people.CreateUser(ctx, s.operator, &identity.CreateUserInput{Account: account, Name: "vault"}); err != nil {
		t.Fatal(err)
	}
	s.allow(t)
	k, err := s.people.CreateAccessKey(ctx, s.operator, &identity.EntityInput{Account: account, Name: "vault"})
	if err != nil {
		t.Fatal(err)
	}
	s.vault = kmsclient.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}
	client := httpClient(t)
	s.admin = awskms.New(awskms.Options{
		BaseEndpoint: &s.url, Region: region, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.New(client),
		Credentials: credentials.NewStaticCredentialsProvider(b.Key.ID, string(b.Key.Secret.Expose()), ""),
	})
	return s
}

// allow gives the vault the use of all keys, and revoke takes it.
func (s *service) allow(t testing.TB) {
	t.Helper()
	err := s.people.PutUserPolicy(context.Background(), s.operator, &identity.PolicyInput{
		Account: account, Entity: "vault", Name: "use",
		Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey","kms:ReEncrypt*","kms:GenerateMac","kms:DescribeKey"],"Resource":"*"}]}`,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *service) revoke(t testing.TB) {
	t.Helper()
	if err := s.people.DeleteUserPolicy(context.Background(), s.operator, &identity.PolicyInput{Account: account, Entity: "vault", Name: "use"}); err != nil {
		t.Fatal(err)
	}
}

// newKey makes a key and returns it as the vault asks for it, through the proxy.
func (s *service) newKey(t testing.TB, change ...func(*awskms.CreateKeyInput)) kmsclient.Key {
	t.Helper()
	in := &awskms.CreateKeyInput{}
	for _, f := range change {
		f(in)
	}
	out, err := s.admin.CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return kmsclient.Key{ID: *out.KeyMetadata.Arn, Region: region, Endpoint: s.here.URL}
}

func hmacKey(in *awskms.CreateKeyInput) {
	in.KeySpec, in.KeyUsage = types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac
}

func multiRegion(in *awskms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) }

// replicated makes a multi-Region key with a replica.
func (s *service) replicated(t testing.TB, change ...func(*awskms.CreateKeyInput)) kmsclient.Key {
	t.Helper()
	k := s.newKey(t, append(change, multiRegion)...)
	_, id, _ := strings.Cut(k.ID, "key/")
	if _, err := s.admin.ReplicateKey(t.Context(), &awskms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String(second)}); err != nil {
		t.Fatal(err)
	}
	k.Replicas = []kmsclient.Replica{{Region: second, Endpoint: s.there.URL}}
	return k
}

// client is a client of the service with its clock and metrics.
type client struct {
	*kmsclient.Client
	clock   *clock
	metrics *prometheus.Registry
}

func (s *service) client(t testing.TB, change ...func(*kmsclient.Options)) *client {
	t.Helper()
	c := &client{clock: newClock(), metrics: prometheus.NewRegistry()}
	o := kmsclient.Options{
		Now: c.clock.now, Metrics: c.metrics, Credentials: map[string]kmsclient.Credentials{"": s.vault},
		AttemptTimeout: time.Minute, Deadline: 2 * time.Minute, // a machine may be busy
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if c.Client, err = kmsclient.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// value is that of a counter or gauge, by its labels in the order of their names.
func (c *client) value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "cardea_kmsclient_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetName(), l.GetValue())
			}
			if slices.Equal(has, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// is fails unless err is a *kmsclient.Error of the kind, and returns it.
func is(t testing.TB, err, kind error) *kmsclient.Error {
	t.Helper()
	e, ok := errors.AsType[*kmsclient.Error](err)
	if !ok || !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	return e
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var tenant = map[string]string{"tenant": "t1", "purpose": "record"}

// works seals and opens under the key.
func (c *client) works(t testing.TB, k kmsclient.Key) {
	t.Helper()
	blob, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("works")), tenant)
	ok(t, err)
	p, err := c.Decrypt(t.Context(), k, blob, tenant)
	ok(t, err)
	defer p.Destroy()
	if string(p.Expose()) != "works" {
		t.Error("opens to something else than was sealed")
	}
}
