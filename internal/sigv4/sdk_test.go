package sigv4

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sdkFile holds requests that the AWS SDK for Go signed, as they went over the
// wire. oracle_test.go makes it.
const sdkFile = "testdata/aws-sdk-go-v2_v1.47.7.json"

// sdkRequest is one of them. Requests with AccessKeyID "AKIDEXAMPLE" are signed
// with exampleSecret, the others with session().
type sdkRequest struct {
	Time    time.Time
	Service string
	Region  string
	Wire    []byte
}

func (q sdkRequest) receive() (*http.Request, []byte, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(q.Wire)))
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

func (q sdkRequest) options(o *Options) {
	o.Service, o.Now, o.MaxPresigned = q.Service, func() time.Time { return q.Time }, time.Hour
	o.Regions = func(region string) bool { return region == q.Region }
}

func sdkRequests(t *testing.T) []sdkRequest {
	t.Helper()
	text, err := os.ReadFile(sdkFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []sdkRequest
	if err = json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("%s has %d requests", sdkFile, len(all))
	}
	return all
}

func TestWhatTheSDKSignedIsAccepted(t *testing.T) {
	t.Parallel()
	for i, q := range sdkRequests(t) {
		r, body, err := q.receive()
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err = verifier(t, q.options).Verify(r, body); err != nil {
			t.Errorf("request %d: %v\n%s", i, err, q.Wire)
		}
	}
}

// TestWhatTheSDKSignedIsRefusedWhenChanged changes something that is signed in
// one of the requests, in a way that changes its meaning.
func TestWhatTheSDKSignedIsRefusedWhenChanged(t *testing.T) {
	t.Parallel()
	all := sdkRequests(t)
	rapid.Check(t, func(t *rapid.T) {
		q := rapid.SampledFrom(all).Draw(t, "request")
		r, body, err := q.receive()
		if err != nil {
			t.Fatal(err)
		}
		body, what := mutate(t, r, body)
		k := exampleKeys()
		v, err := New(Options{
			Keys: k, Service: q.Service, Now: func() time.Time { return q.Time }, MaxPresigned: time.Hour,
			Regions: func(region string) bool { return region == q.Region },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(r, body)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Fatalf("%s changed: got %v, want a refusal\n%s", what, err, q.Wire)
		}
	})
}

// mutate changes one thing and says which.
func mutate(t *rapid.T, r *http.Request, body []byte) ([]byte, string) {
	flip := func(s string) string {
		b := []byte(s)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		return string(b)
	}
	signed := []string{"Authorization"}
	_, list, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	for name := range strings.SplitSeq(list, ";") {
		if v := r.Header.Values(name); len(v) > 0 && strings.Trim(v[0], " ") != "" {
			signed = append(signed, name)
		}
	}
	switch what := rapid.SampledFrom([]string{"method", "path", "query", "host", "body", "header", "header", "header"}).Draw(t, "what"); what {
	case "method":
		r.Method += "X"
		return body, what
	case "path":
		r.URL.RawPath = ""
		r.URL.Path += "x"
		return body, what
	case "query":
		r.URL.RawQuery = rapid.SampledFrom([]string{"x&", "%2F=%20&", "a=b&"}).Draw(t, "added") + r.URL.RawQuery
		return body, what
	case "host":
		r.Host = flip(r.Host)
		return body, what
	case "body":
		if len(body) == 0 {
			return []byte("x"), what
		}
		return []byte(flip(string(body))), what
	}
	if r.Header.Get("Authorization") == "" { // presigned
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Date=20", "X-Amz-Date=19", 1)
		return body, "date"
	}
	name := rapid.SampledFrom(signed).Draw(t, "header")
	values := r.Header.Values(name)
	before := strings.Join(values, ",")
	values[0] = flip(values[0])
	if folded(before) == folded(strings.Join(values, ",")) { // a space more or less changes no meaning
		values[0] += "x"
	}
	return body, name
}

func folded(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c == ' ' }), " ")
}
