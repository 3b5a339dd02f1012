package kmsclient_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

// stub is a network with a KMS at its end that a test writes. It needs no sockets,
// so that time in its tests can be that of package synctest.
type stub struct {
	mu     sync.Mutex
	answer func(n int, r *http.Request) (*http.Response, error) // n counts from 1
	hosts  []string
	at     []time.Time
}

func (s *stub) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.hosts, s.at = append(s.hosts, r.URL.Host), append(s.at, time.Now())
	n, answer := len(s.hosts), s.answer
	s.mu.Unlock()
	io.Copy(io.Discard, r.Body)
	return answer(n, r)
}

func (s *stub) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hosts)
}

// reply makes an answer.
func reply(status int, header http.Header, body string) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Requestid": {"request-1"}}
	for name, v := range header {
		h[name] = v
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
}

func refusal(status int, code, message string) (*http.Response, error) {
	b, err := json.Marshal(map[string]string{"__type": code, "message": message})
	if err != nil {
		return nil, err
	}
	return reply(status, nil, string(b))
}

// encrypted is the answer of an Encrypt that is done.
func encrypted() (*http.Response, error) {
	return reply(http.StatusOK, nil, `{"CiphertextBlob":"AAAA","KeyId":"`+stubKey.ID+`"}`)
}

func blackhole(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

var stubKey = kmsclient.Key{ID: "arn:aws:kms:" + region + ":" + account + ":key/mrk-0123456789abcdef0123456789abcdef", Region: region}

func (s *stub) client(t testing.TB, change ...func(*kmsclient.Options)) *client {
	t.Helper()
	c := &client{metrics: prometheus.NewRegistry()}
	o := kmsclient.Options{Metrics: c.metrics, Credentials: map[string]kmsclient.Credentials{
		"": {AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret.Copy([]byte("secret"))},
	}}
	o.SetTransport(s)
	for _, f := range change {
		f(&o)
	}
	var err error
	if c.Client, err = kmsclient.New(o); err != nil {
		t.Fatal(err)
	}
	return c
}

// encrypt makes a call of which only the error matters.
func (c *client) encrypt(t testing.TB, k kmsclient.Key) error {
	t.Helper()
	_, _, err := c.Encrypt(t.Context(), k, secret.Copy([]byte("x")), tenant)
	return err
}
