// The AWS SDK's own signer as oracle. The requests in testdata are
// made by
//
//	go test -run TestWriteSDKRequests ./internal/sigv4 -args -update

package sigv4

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write "+sdkFile)

// genSDKRequest draws a request, signs it as the SDK does and puts it on the wire.
func genSDKRequest() *rapid.Generator[sdkRequest] {
	words := rapid.StringOfN(rapid.SampledFrom([]rune("abzAZ019-._~ %+&=;:/?#@!$'()*,[]|^`\"<>\\äሴ\U0001F511")), 0, 12, -1)
	names := rapid.StringMatching(`[A-Za-z][A-Za-z0-9-]{0,12}`)
	values := rapid.StringMatching(`[!-~]{0,6}( {0,3}[!-~ä]{1,5}){0,3}`)
	return rapid.Custom(func(t *rapid.T) sdkRequest {
		q := sdkRequest{
			Time:    time.Unix(rapid.Int64Range(1e9, 4e9).Draw(t, "time"), 0).UTC(),
			Service: rapid.SampledFrom([]string{"kms", "sts", "execute-api"}).Draw(t, "service"),
			Region:  rapid.StringMatching(`[a-z]{2}-[a-z]{4,9}-[1-9]`).Draw(t, "region"),
		}
		u := url.URL{Scheme: "http", Path: "/", Host: rapid.SampledFrom([]string{
			"localhost:4599", "127.0.0.1:4599", "[::1]:4599", "kms.us-east-1.amazonaws.com", "KMS.example:80", "kms.example:443",
		}).Draw(t, "host")}
		for _, segment := range rapid.SliceOfN(words, 0, 3).Draw(t, "path") {
			if segment = strings.Trim(segment, "./"); segment != "" && !strings.Contains(segment, "//") && !strings.Contains(segment, "/.") {
				u.Path += segment + "/"
			}
		}
		query := url.Values{}
		for _, name := range rapid.SliceOfN(words, 0, 4).Draw(t, "names") {
			query[name] = rapid.SliceOfN(words, 1, 3).Draw(t, "values")
		}
		u.RawQuery = query.Encode()
		method := rapid.SampledFrom([]string{"POST", "POST", "GET", "PUT", "DELETE"}).Draw(t, "method")
		var body []byte
		if method != "GET" {
			body = rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "body")
		}
		r, err := http.NewRequest(method, u.String(), bytes.NewReader(body))
		if err != nil {
			t.Skip("not a URL")
		}
		for range rapid.IntRange(0, 4).Draw(t, "headers") {
			name := names.Draw(t, "header")
			if notForTests[strings.ToLower(name)] {
				continue
			}
			r.Header.Add(name, values.Draw(t, "value"))
			if rapid.Bool().Draw(t, "repeat") && !strings.HasPrefix(strings.ToLower(name), "x-amz-") {
				r.Header.Add(name, values.Draw(t, "value"))
			}
		}
		r.Header.Set("User-Agent", "aws-sdk-go-v2/1.47.7") // never signed
		if rapid.Bool().Draw(t, "kms") {
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
		}
		if rapid.Bool().Draw(t, "hash") {
			r.Header.Set("X-Amz-Content-Sha256", hexHash(body))
		}
		c := aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret}
		if rapid.Bool().Draw(t, "session") {
			s := session()
			c = aws.Credentials{AccessKeyID: s.id, SecretAccessKey: s.secret, SessionToken: sessionToken}
		}
		signer := v4.NewSigner()
		if rapid.IntRange(0, 3).Draw(t, "presign") == 0 {
			r.Header.Del("X-Amz-Target") // would be hoisted into the query, where KMS does not look
			r.URL.RawQuery += "&X-Amz-Expires=900"
			uri, headers, err := signer.PresignHTTP(t.Context(), c, r, hexHash(body), q.Service, q.Region, q.Time)
			if err != nil {
				t.Fatal(err)
			}
			if r, err = http.NewRequest(method, uri, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			r.Host = headers.Get("Host")
			headers.Del("Host")
			r.Header = headers
		} else if err = signer.SignHTTP(t.Context(), c, r, hexHash(body), q.Service, q.Region, q.Time); err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if err := r.Write(&wire); err != nil {
			t.Skip("not a request")
		}
		q.Wire = wire.Bytes()
		return q
	})
}

// notForTests are headers that net/http handles itself.
var notForTests = map[string]bool{
	"host": true, "content-length": true, "content-type": true, "transfer-encoding": true, "trailer": true, "te": true,
	"connection": true, "date": true, "user-agent": true, "expect": true, "authorization": true,
}

func TestVerifyAgreesWithTheSDK(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := genSDKRequest().Draw(t, "request")
		o := Options{Keys: exampleKeys()}
		q.options(&o)
		v, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		r, body, err := q.receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = v.Verify(r, body); err != nil {
			t.Fatalf("%v\n%s", err, q.Wire)
		}
		body, what := mutate(t, r, body)
		_, err = v.Verify(r, body)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Fatalf("%s changed: got %v, want a refusal\n%s", what, err, q.Wire)
		}
	})
}

func TestWriteSDKRequests(t *testing.T) {
	if !*update {
		t.Skip("without -update")
	}
	g := genSDKRequest()
	var all []sdkRequest
	for seed := range 120 {
		all = append(all, g.Example(seed))
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(sdkFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
