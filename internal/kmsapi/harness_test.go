package kmsapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/hsm/soft"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/kmsapi"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
	"cardea/internal/sigv4"
)

// The tests' account, Regions and credentials. The secrets are AWS's examples.
const (
	account     = "111122223333"
	region      = "eu-central-1"
	otherRegion = "eu-west-1"

	rootID     = "AKIAROOTEXAMPLE"
	rootSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	userID     = "AKIAUSEREXAMPLE"
	userSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessID     = "ASIASESSIONEXAMPLE"
	sessSecret = "bJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessToken  = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI"
)

// identities are a fixed set of credentials.
type identities struct {
	mu                sync.Mutex
	known             map[string]*known
	lookupErr         error
	failErr           error
	failed, succeeded map[string]int
}

type known struct {
	secret  string
	token   string
	expires time.Time
	subject *iam.Subject
}

func newIdentities() *identities {
	root := &iam.Subject{Caller: iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + account + ":root", Account: account, ID: account}, AccessKeyID: rootID}
	user := &iam.Subject{
		Caller:      iam.Caller{Type: iam.CallerUser, ARN: "arn:aws:iam::" + account + ":user/nobody", Account: account, ID: "AIDAEXAMPLE"},
		AccessKeyID: userID,
	}
	session := *root
	session.AccessKeyID = sessID
	return &identities{
		known: map[string]*known{
			rootID: {secret: rootSecret, subject: root},
			userID: {secret: userSecret, subject: user},
			sessID: {secret: sessSecret, token: sessToken, expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), subject: &session},
		},
		failed: map[string]int{}, succeeded: map[string]int{},
	}
}

func (s *identities) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lookupErr != nil {
		return sigv4.Credential{}, s.lookupErr
	}
	k := s.known[id]
	if k == nil {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	c := sigv4.Credential{SecretID: id, Principal: k.subject, ExpiresAt: k.expires}
	if k.token != "" {
		c.SessionTokenHash = sha256.Sum256([]byte(k.token))
	}
	return c, nil
}

func (s *identities) Secret(_ context.Context, c sigv4.Credential) (secret.Bytes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret.New([]byte(s.known[c.SecretID].secret)), nil
}

func (s *identities) Failed(_ context.Context, id string, ip netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ip.IsLoopback() {
		s.failed[id]++
	}
	return s.failErr
}

func (s *identities) Succeeded(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.succeeded[id]++
}

// clusters has one cluster, which keeps its keys with the others.
type clusters struct{ backend kms.Backend }

const (
	cluster  = "cluster-1234567890a"
	password = "correct-password"
)

func (c clusters) Connect(_ context.Context, id string, p secret.Bytes) (kms.Backend, error) {
	if id != cluster || string(p.Expose()) != password {
		return nil, &kms.ConnectError{Code: kms.ConnectInvalidCredentials, Err: errors.New("no")}
	}
	return c.backend, nil
}

func (clusters) Clusters() map[string]string { return map[string]string{cluster: ""} }

// server is the API on a real listener, with a key service in memory behind it.
type server struct {
	api     *kmsapi.API
	service *kms.Service
	store   *kmstest.Store
	who     *identities
	people  *identity.Service // of STS
	url     string
	metrics *prometheus.Registry
	client  *http.Client
}

func serve(t testing.TB, change ...func(*kmsapi.Options)) *server {
	t.Helper()
	s := &server{store: kmstest.NewStore(), who: newIdentities(), metrics: prometheus.NewRegistry()}
	root := secret.Random(32)
	backend := soft.New(soft.Options{Root: func() (secret.Bytes, error) { return secret.Copy(root.Expose()), nil }})
	t.Cleanup(backend.Close)
	var err error
	s.service, err = kms.New(kms.Options{
		Node: "node1", Store: s.store, Soft: backend, Secrets: backend, Accounts: func(_ context.Context, a string) bool { return a == account },
		Regions: []string{region, otherRegion}, KeyStores: clusters{backend},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.service.Close(context.Background()) })
	s.people, err = identity.New(t.Context(), identity.Options{Node: "node1", Store: identitytest.NewStore(), Secrets: identitytest.NewSecrets()})
	if err != nil {
		t.Fatal(err)
	}
	o := kmsapi.Options{Service: s.service, Identities: s.who, STS: s.people, Regions: []string{region, otherRegion}, Metrics: s.metrics}
	for _, f := range change {
		f(&o)
	}
	if s.api, err = kmsapi.New(o); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	s.client = &http.Client{Transport: transport}
	s.url = listen(t, s.api.Handler(), transport.CloseIdleConnections)
	return s
}

// listen serves h on loopback, behind the stack of package httpd, until the test ends.
func listen(t testing.TB, h http.Handler, hangUp func()) string {
	t.Helper()
	srv, err := httpd.New(httpd.Options{Name: "kms", Addr: "127.0.0.1:0", Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		hangUp()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv.URL()
}

const keyID = "1234abcd-12ab-34cd-56ef-1234567890ab"

const rootPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}]}`

// putKey stores an enabled symmetric key without material.
func (s *server) putKey(t testing.TB, change func(*kms.Key)) kms.KeyRef {
	t.Helper()
	k := &kms.Key{
		KeyRef: kms.KeyRef{Account: account, Region: region, ID: keyID}, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		Spec: keyspec.SymmetricDefault, Usage: keyspec.EncryptDecrypt, Origin: kms.OriginKMS, State: kms.StateEnabled, Policy: rootPolicy,
		Materials: []kms.Material{{ID: strings.Repeat("ab", 32), State: kms.MaterialCurrent}},
	}
	if change != nil {
		change(k)
	}
	entry, err := audit.Entry{
		ID: "01950000-0000-7000-8000-000000000000", Time: k.CreatedAt, Node: "node1", Who: audit.Actor{Type: "system", Auth: "internal"},
		Op: "test.put", Outcome: audit.Allowed, Result: "done",
	}.Seal()
	if err != nil {
		t.Fatal(err)
	}
	err = s.store.Update(context.Background(), func(tx kms.Tx) error {
		tx.Append(entry)
		return tx.PutKey(context.Background(), k)
	})
	if err != nil {
		t.Fatal(err)
	}
	return k.KeyRef
}

// sdk is a client of the AWS SDK that tries once.
func (s *server) sdk(change ...func(*awskms.Options)) *awskms.Client {
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(s.url), Region: region, HTTPClient: sdkhttp.New(s.client), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(rootID, rootSecret, ""),
	}, change...)
}

func as(id, secret, token string) func(*awskms.Options) {
	return func(o *awskms.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(id, secret, token) }
}

func retrying(o *awskms.Options) { o.Retryer = retry.NewStandard() }

// request is what a test sends by hand.
type request struct {
	method, path, body string
	header             map[string]string
	id, secret         string // default: the root's
	service, region    string // default: kms, eu-central-1
	at                 time.Time
	unsigned           bool
}

// reply is an answer as it came over the wire.
type reply struct {
	status int
	header http.Header
	body   string
}

// member is a member of a JSON answer.
func (r reply) member(t testing.TB, name string) any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("answer %q: %v", r.body, err)
	}
	return m[name]
}

func (r reply) is(t testing.TB, status int, code, message string) {
	t.Helper()
	if got := r.member(t, "__type"); r.status != status || got != code {
		t.Errorf("got %d %v, want %d %s", r.status, got, status, code)
	}
	if got, _ := r.member(t, "message").(string); got != message {
		t.Errorf("got message %q, want %q", got, message)
	}
	if id := r.header.Get("x-amzn-RequestId"); len(id) != 36 {
		t.Errorf("got request id %q", id)
	}
	if got := r.header.Get("x-amzn-ErrorType"); got != code {
		t.Errorf("got x-amzn-ErrorType %q, want %q", got, code)
	}
}

// send signs and sends a request. Op names the operation.
func (s *server) send(t testing.TB, op string, q request) reply {
	t.Helper()
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	def(&q.method, http.MethodPost)
	def(&q.path, "/")
	def(&q.id, rootID)
	def(&q.secret, rootSecret)
	def(&q.service, "kms")
	def(&q.region, region)
	if q.at.IsZero() {
		q.at = time.Now()
	}
	r, err := http.NewRequest(q.method, s.url+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if op != "" {
		r.Header.Set("X-Amz-Target", "TrentService."+op)
	}
	for k, v := range q.header {
		if r.Header.Del(k); v != "" {
			r.Header.Set(k, v)
		}
	}
	if !q.unsigned {
		sum := sha256.Sum256([]byte(q.body))
		err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: q.id, SecretAccessKey: q.secret}, r,
			hex.EncodeToString(sum[:]), q.service, q.region, q.at)
		if err != nil {
			t.Fatal(err)
		}
	}
	res, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(body)}
}

// lastEntry is the last line of the audit log, and how many there are.
func (s *server) lastEntry(t testing.TB) (line string, n int) {
	t.Helper()
	es := s.store.Entries()
	if len(es) == 0 {
		t.Fatal("the audit log is empty")
	}
	return es[len(es)-1], len(es)
}

// count is a counter's value, by its labels in the order of their names.
func (s *server) count(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetName(), l.GetValue())
			}
			if slices.Equal(has, labels) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal("no base64")
	}
	return b
}
