package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// presign puts a signature over host and body into the query. The parameters
// given are added before signing, those with an empty value left out.
func presign(r *http.Request, s signer, body []byte, at time.Time, params map[string]string) {
	stamp := at.UTC().Format("20060102T150405Z")
	scope := stamp[:8] + "/" + s.region + "/" + s.service + "/aws4_request"
	q := url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {s.id + "/" + scope}, "X-Amz-Date": {stamp},
		"X-Amz-SignedHeaders": {"host"}, "X-Amz-Expires": {"60"},
	}
	for name, value := range params {
		if q.Set(name, value); value == "" {
			q.Del(name)
		}
	}
	raw := strings.ReplaceAll(q.Encode(), "+", "%20")
	sum := sha256.Sum256(body)
	canonical := r.Method + "\n/\n" + raw + "\nhost:" + r.Host + "\n\nhost\n" + hex.EncodeToString(sum[:])
	sum = sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{stamp[:8], s.region, s.service, "aws4_request", "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	r.URL.RawQuery = raw + "&X-Amz-Signature=" + hex.EncodeToString(key)
}

func get(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://localhost:4599/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func anHour(o *Options) { o.MaxPresigned = time.Hour }

func TestPresignedIsRefusedUnlessEnabled(t *testing.T) {
	t.Parallel()
	r := get(t)
	presign(r, example(), nil, exampleTime, nil)
	_, err := verifier(t).Verify(r, nil)
	refused(t, err, AccessDenied, "Presigned requests are not accepted here: sign in the Authorization header.")
	id, err := verifier(t, anHour).Verify(r, nil)
	if err != nil || !id.Presigned || id.AccessKeyID != exampleID {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestPresignedIsValidUntilItExpires(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expires string
		off     time.Duration
		message string
	}{
		{"60", time.Minute, ""},
		{"60", time.Minute + time.Second, "Request has expired: it was valid until 20150830T123700Z and it is 20150830T123701Z."},
		{"3600", time.Hour, ""},
		{"60", -5 * time.Minute, ""},
		{"60", -5*time.Minute - time.Second, "Signature not yet current"},
		{"", 5 * time.Minute, ""},
		{"", 6 * time.Minute, "Request has expired"},
	} {
		r := get(t)
		presign(r, example(), nil, exampleTime, map[string]string{"X-Amz-Expires": c.expires})
		_, err := verifier(t, anHour, func(o *Options) { o.Now = func() time.Time { return exampleTime.Add(c.off) } }).Verify(r, nil)
		if c.message == "" {
			if err != nil {
				t.Errorf("valid for %s s, clock off by %s: %v", c.expires, c.off, err)
			}
			continue
		}
		refused(t, err, RequestExpired, c.message)
	}
}

func TestPresignedRefuses(t *testing.T) {
	t.Parallel()
	const expires = "X-Amz-Expires must be a number of seconds between 1 and 3600."
	for _, c := range []struct {
		name    string
		params  map[string]string
		change  func(*http.Request)
		code    Code
		message string
	}{
		{"no algorithm", map[string]string{"X-Amz-Algorithm": ""}, nil, IncompleteSignature, "AWS query-string parameters must include 'X-Amz-Algorithm'."},
		{"no credential", map[string]string{"X-Amz-Credential": ""}, nil, IncompleteSignature, "must include 'X-Amz-Credential'"},
		{"no date", map[string]string{"X-Amz-Date": ""}, nil, IncompleteSignature, "must include 'X-Amz-Date'"},
		{"no signed headers", map[string]string{"X-Amz-SignedHeaders": ""}, nil, IncompleteSignature, "must include 'X-Amz-SignedHeaders'"},
		{"no signature", nil, func(r *http.Request) { r.URL.RawQuery, _, _ = strings.Cut(r.URL.RawQuery, "&X-Amz-Signature") }, IncompleteSignature, "must include 'X-Amz-Signature'"},
		{"version 4A", map[string]string{"X-Amz-Algorithm": "AWS4-ECDSA-P256-SHA256"}, nil, IncompleteSignature, "Signature Version 4A"},
		{"long credential", map[string]string{"X-Amz-Credential": strings.Repeat("a", 5000)}, nil, IncompleteSignature, "too long"},
		{"bad credential", map[string]string{"X-Amz-Credential": "a/b"}, nil, IncompleteSignature, "exactly 5"},
		{"bad date", map[string]string{"X-Amz-Date": "yesterday"}, nil, IncompleteSignature, "X-Amz-Date must be in ISO-8601"},
		{"expires never", map[string]string{"X-Amz-Expires": "0"}, nil, IncompleteSignature, expires},
		{"expires late", map[string]string{"X-Amz-Expires": "3601"}, nil, IncompleteSignature, expires},
		{"expires in the past", map[string]string{"X-Amz-Expires": "-1"}, nil, IncompleteSignature, expires},
		{"expires in words", map[string]string{"X-Amz-Expires": "soon"}, nil, IncompleteSignature, expires},
		{"payload not signed", map[string]string{"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, nil, InvalidSignature, "The payload must be signed"},
		{"another payload", map[string]string{"X-Amz-Content-Sha256": hexHash([]byte("x"))}, nil, InvalidSignature, "does not match what was computed"},
		{"another method", nil, func(r *http.Request) { r.Method = "POST" }, InvalidSignature, textMismatch},
		{"parameter added", nil, func(r *http.Request) { r.URL.RawQuery += "&a=b" }, InvalidSignature, textMismatch},
		{"parameter changed", nil, func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=60", "Expires=61", 1) }, InvalidSignature, textMismatch},
		{"parameter twice", nil, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Expires=61" }, IncompleteSignature, "'X-Amz-Expires' twice"},
		{"signature twice", nil, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=0" }, IncompleteSignature, "'X-Amz-Signature' twice"},
		{"unsigned target", nil, func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Decrypt") }, InvalidSignature, "'X-Amz-Target' must be a 'SignedHeader'"},
		{"unsigned content type", nil, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }, InvalidSignature, "'Content-Type' must be a 'SignedHeader'"},
		{"token in a header", nil, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, IncompleteSignature, "session token in the query string, not in a header"},
		{"signed in both places", nil, func(r *http.Request) { r.Header.Set("Authorization", goodLine) }, IncompleteSignature, "both in its Authorization header and in its query string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := get(t)
			presign(r, example(), nil, exampleTime, c.params)
			if c.change != nil {
				c.change(r)
			}
			_, err := verifier(t, anHour).Verify(r, nil)
			refused(t, err, c.code, c.message)
		})
	}
	t.Run("a body that was not signed", func(t *testing.T) {
		t.Parallel()
		r := get(t)
		presign(r, example(), nil, exampleTime, nil)
		_, err := verifier(t, anHour).Verify(r, []byte("x"))
		refused(t, err, InvalidSignature, textMismatch)
	})
}

func TestPresignedWithSessionTokenAndPayload(t *testing.T) {
	t.Parallel()
	body := []byte("Action=GetCallerIdentity&Version=2011-06-15")
	for _, token := range []string{sessionToken, "x", ""} {
		r := get(t)
		r.Method = http.MethodPost
		presign(r, session(), body, exampleTime, map[string]string{"X-Amz-Security-Token": token, "X-Amz-Content-Sha256": hexHash(body)})
		id, err := verifier(t, anHour).Verify(r, body)
		if token == sessionToken {
			if err != nil || !id.Temporary {
				t.Errorf("got %+v, %v", id, err)
			}
			continue
		}
		refused(t, err, UnrecognizedClient, textUnknown)
	}
}
