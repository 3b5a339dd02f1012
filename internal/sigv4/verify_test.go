package sigv4

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestVerifyAcceptsWhatAnSDKSends(t *testing.T) {
	t.Parallel()
	r, body := signed(example())
	r, body2 := overTheWire(t, r)
	if !bytes.Equal(body, body2) {
		t.Fatal("the body changed on the way")
	}
	id, err := verifier(t).Verify(r, body)
	if err != nil {
		t.Fatal(err)
	}
	if id.AccessKeyID != exampleID || id.Principal != "user/example" || id.Region != "us-east-1" || id.Service != "kms" ||
		!id.Date.Equal(exampleTime) || id.Temporary || id.Presigned ||
		id.SignedHeaders != "amz-sdk-invocation-id;amz-sdk-request;content-type;host;x-amz-date;x-amz-target" {
		t.Errorf("got %+v", id)
	}
}

// TestVerifyOnRealConnections signs for a server that listens, so that net/http's
// own treatment of host, port and headers is in it.
func TestVerifyOnRealConnections(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, func(o *Options) { o.Now = time.Now })
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				id, err := v.Verify(r, body)
				if err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				io.WriteString(w, r.Proto+" "+id.AccessKeyID)
			}))
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
			server.StartTLS()
			t.Cleanup(server.Close)
			for _, path := range []string{"/", "/a%20b/c~d/%E1%88%B4?x=%2F&y"} {
				r, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(kmsBody))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/x-amz-json-1.1")
				s := example()
				query := r.URL.RawQuery
				r.URL.RawQuery = strings.ReplaceAll(query, "y", "y=")
				s.sign(r, []byte(kmsBody), time.Now())
				r.URL.RawQuery = query
				resp, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(answer) != proto+" "+exampleID {
					t.Errorf("%s: got %q, %v", path, answer, err)
				}
			}
		})
	}
}

func TestVerifyRefusesUnsignedRequest(t *testing.T) {
	t.Parallel()
	r, body := kmsRequest()
	_, err := verifier(t).Verify(r, body)
	refused(t, err, MissingToken, "Missing Authentication Token")
}

// TestVerifyRefusesWhatWasChanged changes one thing that is signed at a time.
func TestVerifyRefusesWhatWasChanged(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	inAuth := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*http.Request)
		code    Code
		message string
	}{
		{"nothing", func(*http.Request) {}, "", ""},
		{"method", func(r *http.Request) { r.Method = "PUT" }, InvalidSignature, "does not match"},
		{"path", func(r *http.Request) { r.URL.Path = "/x" }, InvalidSignature, "does not match"},
		{"query", func(r *http.Request) { r.URL.RawQuery = "a=b" }, InvalidSignature, "does not match"},
		{"host", func(r *http.Request) { r.Host = "localhost:4600" }, InvalidSignature, `Verified for host "localhost:4600"`},
		{"no host", func(r *http.Request) { r.Host = "" }, InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader'"},
		{"target", set("X-Amz-Target", "TrentService.Decrypt"), InvalidSignature, "does not match"},
		{"target in other case", set("X-Amz-Target", "trentservice.encrypt"), InvalidSignature, "does not match"},
		{"content type", set("Content-Type", "application/json"), InvalidSignature, "does not match"},
		{"other signed header", set("Amz-Sdk-Request", "attempt=2; max=3"), InvalidSignature, "does not match"},
		{"date a second later", set("X-Amz-Date", "20150830T123601Z"), InvalidSignature, "does not match"},
		{"region", inAuth("us-east-1", "eu-central-1"), InvalidSignature, "does not match"},
		{"access key", inAuth(exampleID, sessionID), InvalidSignature, "does not match"},
		{"unknown access key", inAuth(exampleID, "AKIDNOBODY"), UnrecognizedClient, "The security token included in the request is invalid."},
		{"signed header taken out of the list", inAuth("amz-sdk-request;", ""), InvalidSignature, "does not match"},
		{"signed header put into the list", inAuth("host;", "host;user-agent;"), InvalidSignature, "'user-agent' is not in the request"},
		{"signed header removed", func(r *http.Request) { r.Header.Del("Amz-Sdk-Request") }, InvalidSignature, "'amz-sdk-request' is not in the request; a proxy may have removed it."},
		{"signed header doubled", func(r *http.Request) { r.Header.Add("Amz-Sdk-Request", "x") }, InvalidSignature, "does not match"},
		{"target doubled", func(r *http.Request) { r.Header.Add("X-Amz-Target", "TrentService.Decrypt") }, InvalidSignature, "more than one 'X-Amz-Target' header"},
		{"content type doubled", func(r *http.Request) { r.Header.Add("Content-Type", "text/html") }, InvalidSignature, "more than one 'Content-Type' header"},
		{"date doubled", func(r *http.Request) { r.Header.Add("X-Amz-Date", "20150830T123600Z") }, IncompleteSignature, "more than one 'X-Amz-Date' header"},
		{"authorization doubled", func(r *http.Request) { r.Header.Add("Authorization", "x") }, IncompleteSignature, "more than one Authorization header"},
		{"unsigned x-amz header added", set("X-Amz-Meta-Note", "x"), InvalidSignature, "'X-Amz-Meta-Note' must be a 'SignedHeader' in the AWS Authorization."},
		{"token added", set("X-Amz-Security-Token", "x"), InvalidSignature, "'X-Amz-Security-Token' must be a 'SignedHeader'"},
		{"unsigned header added", set("Accept", "*/*"), "", ""},
		{"header in a second spelling", func(r *http.Request) { r.Header["amz-sdk-request"] = []string{"x"} }, InvalidSignature, "two spellings"},
		{"line feed in a header", set("Amz-Sdk-Request", "attempt=1; max=3\nx:y"), InvalidSignature, "'amz-sdk-request' has a control character"},
		{"delete in a header", set("Amz-Sdk-Request", "attempt=1; max=3\x7f"), InvalidSignature, "'amz-sdk-request' has a control character"},
		{"spaces in a header", set("Amz-Sdk-Request", "  attempt=1;   max=3\t"), "", ""}, // the same to AWS
		{"opaque target", func(r *http.Request) { r.URL.Opaque = "//x/" }, InvalidSignature, "The request target is not a path."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, body := signed(example())
			c.change(r)
			_, err := verifier(t).Verify(r, body)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, c.code, c.message)
		})
	}
}

func TestVerifyRefusesAnyFlippedBit(t *testing.T) {
	t.Parallel()
	v := verifier(t)
	r, body := signed(example())
	if _, err := v.Verify(r, body); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		for bit := range 8 {
			body[i] ^= 1 << bit
			_, err := v.Verify(r, body)
			refused(t, err, InvalidSignature, "does not match")
			body[i] ^= 1 << bit
		}
	}
	if _, err := v.Verify(r, body[:len(body)-1]); err == nil {
		t.Error("accepted a shorter body")
	}
	if _, err := v.Verify(r, append(body, ' ')); err == nil {
		t.Error("accepted a longer body")
	}
	// Every bit of the Authorization line: the request is refused for one reason or
	// another, and never makes the verifier fail.
	line := r.Header.Get("Authorization")
	for i := range len(line) {
		for bit := range 8 {
			changed := []byte(line)
			changed[i] ^= 1 << bit
			r.Header.Set("Authorization", string(changed))
			_, err := v.Verify(r, body)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("bit %d of byte %d of the Authorization header: got %v, want a refusal", bit, i, err)
			}
		}
	}
}

func TestSigningWithAnotherSecretIsRefused(t *testing.T) {
	t.Parallel()
	s := example()
	s.secret = strings.ToLower(s.secret)
	r, body := signed(s)
	_, err := verifier(t).Verify(r, body)
	refused(t, err, InvalidSignature, textMismatch)
}

func TestVerifyChecksTheScope(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(*signer)
		message string
	}{
		{"service", func(s *signer) { s.service = "sts" }, "Credential should be scoped to correct service: 'kms'."},
		{"region", func(s *signer) { s.region = "us-west-2" }, "Credential should be scoped to a valid region, not 'us-west-2'."},
		{"date", func(s *signer) { s.date = "20150829" }, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := example()
			c.change(&s)
			r, body := signed(s)
			_, err := verifier(t).Verify(r, body)
			refused(t, err, InvalidSignature, c.message)
		})
	}
}

func TestVerifyAllowsSkewAndNoMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		skew, off time.Duration
		message   string // empty: accepted
	}{
		{0, 5 * time.Minute, ""},
		{0, 5*time.Minute + 999*time.Millisecond, ""}, // dates have no fraction
		{0, 5*time.Minute + time.Second, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{0, -5 * time.Minute, ""},
		{0, -5*time.Minute - time.Second, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
		{15 * time.Minute, 15 * time.Minute, ""},
		{15 * time.Minute, -16 * time.Minute, "(20150830T122000Z + 15 min.)"},
		{90 * time.Second, 2 * time.Minute, "(20150830T123800Z - 1m30s.)"},
	} {
		now := exampleTime.Add(c.off)
		v := verifier(t, func(o *Options) { o.MaxSkew, o.Now = c.skew, func() time.Time { return now } })
		r, body := signed(example())
		_, err := v.Verify(r, body)
		if c.message == "" {
			if err != nil {
				t.Errorf("skew %s, clock off by %s: %v", c.skew, c.off, err)
			}
			continue
		}
		refused(t, err, RequestExpired, c.message)
	}
}

func TestVerifyAcrossMidnight(t *testing.T) {
	t.Parallel()
	signedAt := time.Date(2015, 8, 30, 23, 59, 59, 0, time.UTC)
	v := verifier(t, func(o *Options) {
		o.Now = func() time.Time { return signedAt.Add(time.Minute).In(time.FixedZone("", -7200)) }
	})
	r, body := kmsRequest()
	s := example()
	s.sign(r, body, signedAt)
	if _, err := v.Verify(r, body); err != nil {
		t.Error(err)
	}
}

func TestVerifyTakesTheDateHeader(t *testing.T) {
	t.Parallel()
	const (
		expired = "Signature expired"
		form    = "Date must be in ISO-8601 'basic format' or as HTTP writes it"
	)
	for _, c := range []struct {
		name, date, message string
		code                Code
		only                []string
	}{
		{"as HTTP writes it", "Sun, 30 Aug 2015 12:36:00 GMT", "", "", nil},
		{"basic format", "20150830T123600Z", "", "", nil},
		{"another zone", "Sun, 30 Aug 2015 12:36:00 PST", form, IncompleteSignature, nil},
		{"RFC 850", "Sunday, 30-Aug-15 12:36:00 GMT", form, IncompleteSignature, nil},
		{"old", "Sun, 30 Aug 2015 11:36:00 GMT", expired, RequestExpired, nil},
		{"unsigned", "Sun, 30 Aug 2015 12:36:00 GMT", "'Date' must be a 'SignedHeader'", InvalidSignature, []string{"host", "content-type", "x-amz-target"}},
		{"absent", "", "requires existence of either a 'X-Amz-Date' or a 'Date' header", IncompleteSignature, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, body := kmsRequest()
			if c.date != "" {
				r.Header.Set("Date", c.date)
			}
			s := example()
			s.noDate, s.only = true, c.only
			s.sign(r, body, exampleTime)
			_, err := verifier(t).Verify(r, body)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, c.code, c.message)
		})
	}
	t.Run("x-amz-date goes before", func(t *testing.T) {
		t.Parallel()
		r, body := kmsRequest()
		r.Header.Set("Date", "Sun, 30 Aug 1998 12:36:00 GMT")
		s := example()
		s.sign(r, body, exampleTime)
		if _, err := verifier(t).Verify(r, body); err != nil {
			t.Error(err)
		}
	})
	for _, date := range []string{"20150830T123600", "20150830T1236.0Z", "20150230T123600Z", "2015-08-30T12:36:00Z", "20150830t123600z", "20150830T246060Z"} {
		t.Run("x-amz-date "+date, func(t *testing.T) {
			t.Parallel()
			r, body := signed(example())
			r.Header.Set("X-Amz-Date", date)
			_, err := verifier(t).Verify(r, body)
			refused(t, err, IncompleteSignature, "Date must be in ISO-8601 'basic format'")
		})
	}
}

func TestWhatMustBeSigned(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only    []string
		message string
	}{
		{[]string{"host", "content-type", "x-amz-date", "x-amz-target"}, ""},
		{[]string{"content-type", "x-amz-date", "x-amz-target"}, "'Host' or ':authority' must be a 'SignedHeader'"},
		{[]string{"host", "x-amz-date", "x-amz-target"}, "'Content-Type' must be a 'SignedHeader'"},
		{[]string{"host", "content-type", "x-amz-target"}, "'X-Amz-Date' must be a 'SignedHeader'"},
		{[]string{"host", "content-type", "x-amz-date"}, "'X-Amz-Target' must be a 'SignedHeader'"},
	} {
		s := example()
		s.only = c.only
		r, body := signed(s)
		_, err := verifier(t).Verify(r, body)
		if c.message == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		refused(t, err, InvalidSignature, c.message)
	}
}

func TestUnsignedContentTypeIfAllowed(t *testing.T) {
	t.Parallel()
	s := example()
	s.only = []string{"host", "x-amz-date", "x-amz-target"}
	r, body := signed(s)
	allow := func(o *Options) { o.AllowUnsignedContentType = true }
	if _, err := verifier(t, allow).Verify(r, body); err != nil {
		t.Error(err)
	}
	s.only = []string{"host", "x-amz-date"}
	r, body = signed(s)
	_, err := verifier(t, allow).Verify(r, body)
	refused(t, err, InvalidSignature, "'X-Amz-Target' must be a 'SignedHeader'")
}

func TestPayloadHash(t *testing.T) {
	t.Parallel()
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, c := range []struct{ name, said, message string }{
		{"right", "ee8387eb47b2c52bf24f4fb3c5e9c3dd0a59a0ea3ca6f92ed34a9b0c26be1cd0", ""},
		{"of nothing", empty, "does not match what was computed"},
		{"in capitals", strings.ToUpper(empty), "does not match what was computed"},
		{"too short", empty[2:], "does not match what was computed"},
		{"unsigned", "UNSIGNED-PAYLOAD", "The payload must be signed"},
		{"streaming", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "The payload must be signed"},
		{"streaming unsigned", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "The payload must be signed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, body := kmsRequest()
			if c.message == "" {
				c.said = hexHash(body)
			}
			r.Header.Set("X-Amz-Content-Sha256", c.said)
			s := example()
			s.sign(r, body, exampleTime)
			_, err := verifier(t).Verify(r, body)
			if c.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, InvalidSignature, c.message)
		})
	}
}

func TestEmptyPayload(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{nil, {}} {
		r, _ := http.NewRequest(http.MethodGet, "http://localhost:4599/", nil)
		s := example()
		s.sign(r, nil, exampleTime)
		if _, err := verifier(t).Verify(r, body); err != nil {
			t.Error(err)
		}
	}
}

func TestSignedContentLength(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"46", "45"} { // 46 is right
		r, body := kmsRequest()
		r.Header.Set("Content-Length", length)
		s := example()
		s.sign(r, body, exampleTime)
		r.Header.Del("Content-Length")
		r.ContentLength = int64(len(body)) // what the server found, and writes
		r, body = overTheWire(t, r)
		_, err := verifier(t).Verify(r, body)
		if length == "46" {
			if err != nil {
				t.Errorf("body of %d bytes: %v", len(body), err)
			}
			r.Header.Del("Content-Length") // as in a request made for a test
			if _, err = verifier(t).Verify(r, body); err != nil {
				t.Error(err)
			}
			continue
		}
		refused(t, err, InvalidSignature, "does not match")
	}
}

func session() signer {
	s := example()
	s.id, s.secret = sessionID, "session"+exampleSecret
	return s
}

func TestSessionTokenIsBoundToTheCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		signer  signer
		token   string
		expired bool
		code    Code
		message string
	}{
		{"right", session(), sessionToken, false, "", ""},
		{"absent", session(), "", false, UnrecognizedClient, textUnknown},
		{"another", session(), sessionToken + "x", false, UnrecognizedClient, textUnknown},
		{"with long-term credentials", example(), sessionToken, false, UnrecognizedClient, textUnknown},
		{"expired", session(), sessionToken, true, ExpiredToken, textExpired},
		{"expired and another", session(), "x", true, UnrecognizedClient, textUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := exampleKeys()
			if c.expired {
				credential := k.credentials[sessionID]
				credential.ExpiresAt = exampleTime
				k.credentials[sessionID] = credential
			}
			r, body := kmsRequest()
			if c.token != "" {
				r.Header.Set("X-Amz-Security-Token", c.token)
			}
			c.signer.sign(r, body, exampleTime)
			id, err := verifier(t, func(o *Options) { o.Keys = k }).Verify(r, body)
			if c.code == "" {
				if err != nil || !id.Temporary || id.Principal != "role/example" {
					t.Fatalf("got %+v, %v", id, err)
				}
				return
			}
			refused(t, err, c.code, c.message)
		})
	}
	t.Run("who cannot sign does not learn that the token is right or has expired", func(t *testing.T) {
		t.Parallel()
		k := exampleKeys()
		credential := k.credentials[sessionID]
		credential.ExpiresAt = exampleTime
		k.credentials[sessionID] = credential
		for _, token := range []string{sessionToken, "x", ""} {
			r, body := kmsRequest()
			if token != "" {
				r.Header.Set("X-Amz-Security-Token", token)
			}
			s := session()
			s.secret = "guessguessguess"
			s.sign(r, body, exampleTime)
			_, err := verifier(t, func(o *Options) { o.Keys = k }).Verify(r, body)
			refused(t, err, InvalidSignature, textMismatch)
		}
	})
	t.Run("still valid", func(t *testing.T) {
		t.Parallel()
		k := exampleKeys()
		credential := k.credentials[exampleID]
		credential.ExpiresAt = exampleTime.Add(time.Nanosecond)
		k.credentials[exampleID] = credential
		r, body := signed(example())
		if _, err := verifier(t, func(o *Options) { o.Keys = k }).Verify(r, body); err != nil {
			t.Error(err)
		}
	})
}

// TestErrorOfKeysIsNoRefusal keeps a store that is down from looking like a
// forged request.
func TestErrorOfKeysIsNoRefusal(t *testing.T) {
	t.Parallel()
	down := errors.New("store is down")
	for name, k := range map[string]*keys{
		"look up access key AKIDEXAMPLE: store is down":            {lookupErr: down},
		"read the secret of access key AKIDEXAMPLE: store is down": {credentials: exampleKeys().credentials, secretErr: down},
		"look up access key AKIDEXAMPLE: its secret has no id":     {credentials: map[string]Credential{exampleID: {}}},
		"read the secret of access key AKIDEXAMPLE: its length is not 16 to 128 bytes": {
			credentials: exampleKeys().credentials, secrets: map[string]string{"1": strings.Repeat("x", 129)},
		},
	} {
		r, body := signed(example())
		_, err := verifier(t, func(o *Options) { o.Keys = k }).Verify(r, body)
		if err == nil || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
		if _, ok := errors.AsType[*Error](err); ok {
			t.Errorf("%s: is a refusal", name)
		}
	}
	r, body := signed(example())
	short := &keys{credentials: exampleKeys().credentials, secrets: map[string]string{"1": strings.Repeat("x", 15)}}
	if _, err := verifier(t, func(o *Options) { o.Keys = short }).Verify(r, body); err == nil || !strings.Contains(err.Error(), "16 to 128 bytes") {
		t.Errorf("secret of 15 bytes: got %v", err)
	}
	gone := &keys{credentials: exampleKeys().credentials, secretErr: ErrUnknownKey}
	_, err := verifier(t, func(o *Options) { o.Keys = gone }).Verify(r, body)
	refused(t, err, UnrecognizedClient, textUnknown)
}

func TestRefusalNamesTheClaimedAccessKey(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Request){
		"signature": func(r *http.Request) { r.Method = "GET" },
		"scope":     func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150831T000000Z") },
		"header":    func(r *http.Request) { r.Header.Set("X-Amz-Other", "1") },
		"payload":   func(r *http.Request) { r.Header.Del("Amz-Sdk-Request") },
		"half parsed": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=X", 1))
		},
	} {
		r, body := signed(example())
		change(r)
		_, err := verifier(t).Verify(r, body)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.AccessKeyID != exampleID {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestRefusalsTellNoSecret looks for what a refusal must not repeat: it goes to
// logs.
func TestRefusalsTellNoSecret(t *testing.T) {
	t.Parallel()
	const stray = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	canaries := []string{stray, sessionToken, "0123456789abcdef0123456789abcdef", "TrentService", hexHash([]byte(kmsBody))}
	check := func(change func(*http.Request)) {
		r, body := kmsRequest()
		r.Header.Set("X-Amz-Security-Token", sessionToken)
		r.Header.Set("X-Amz-Content-Sha256", hexHash(body))
		s := session()
		s.sign(r, body, exampleTime)
		change(r)
		_, err := verifier(t).Verify(r, body)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("got %v, want a refusal", err)
			return
		}
		for _, canary := range canaries {
			if strings.Contains(err.Error(), canary) {
				t.Error("a refusal repeats a secret of the request")
			}
		}
	}
	authorization := func(line string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", line) }
	}
	check(func(r *http.Request) { r.Method = "GET" })
	check(func(r *http.Request) { r.Header.Set("X-Amz-Date", stray) })
	check(func(r *http.Request) { r.Header.Del("X-Amz-Target") })
	check(func(r *http.Request) { r.Header.Add("X-Amz-Security-Token", stray) })
	for _, line := range []string{
		stray, "AWS " + exampleID + ":" + stray, "Bearer " + stray,
		"AWS4-HMAC-SHA256 " + stray,
		"AWS4-HMAC-SHA256 Credential=" + stray,
		"AWS4-HMAC-SHA256 Secret=" + stray,
		"AWS4-HMAC-SHA256 Credential=" + stray + "/a/b/c/d, SignedHeaders=host, Signature=x",
		"AWS4-HMAC-SHA256 Credential=a/20150830/us-east-1/kms/aws4_request, SignedHeaders=" + stray + ", Signature=x",
		"AWS4-HMAC-SHA256 Credential=a/20150830/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0123456789abcdef0123456789abcdef",
		"AWS4-HMAC-SHA256 Credential=a/" + stray + "/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=x",
	} {
		check(authorization(line))
	}
}

func TestVerifyManyAtOnce(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(o *Options) { o.CachedKeys = 1 }) // keys are evicted as they are used
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				s := example()
				if (i+n)%2 == 0 {
					s.region = "eu-central-1"
				}
				r, body := signed(s)
				if n%5 == 4 {
					r.Method = "PUT"
				}
				if _, err := v.Verify(r, body); (err != nil) != (n%5 == 4) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNewRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for message, change := range map[string]func(*Options){
		"no access keys to look up":                      func(o *Options) { o.Keys = nil },
		`"" is no service name`:                          func(o *Options) { o.Service = "" },
		`"KMS" is no service name`:                       func(o *Options) { o.Service = "KMS" },
		"no regions":                                     func(o *Options) { o.Regions = nil },
		"clock skew of 16m0s is not between 0 and 15m0s": func(o *Options) { o.MaxSkew = 16 * time.Minute },
		"clock skew of -1s is not between 0 and 15m0s":   func(o *Options) { o.MaxSkew = -time.Second },
		"presigned requests of 168h0m1s are not between": func(o *Options) { o.MaxPresigned = 7*24*time.Hour + time.Second },
		"cannot cache -1 keys":                           func(o *Options) { o.CachedKeys = -1 },
	} {
		o := Options{Keys: exampleKeys(), Service: "kms", Regions: func(string) bool { return true }}
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("got %v, want %s", err, message)
		}
	}
}
