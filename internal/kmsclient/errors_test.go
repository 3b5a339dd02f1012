package kmsclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

// codes say of each error code what it means, and whether to ask again.
var codes = []struct {
	status int
	kind   error
	again  bool
	codes  string
}{
	{400, kmsclient.ErrThrottled, true, "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException RequestLimitExceeded TooManyRequestsException SlowDown"},
	{400, kmsclient.ErrDenied, false, "AccessDenied AccessDeniedException AuthFailure ExpiredToken ExpiredTokenException IncompleteSignature IncompleteSignatureException " +
		"InvalidClientTokenId InvalidGrantTokenException InvalidSignatureException MissingAuthenticationToken MissingAuthenticationTokenException NotAuthorized " +
		"OptInRequired RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch UnrecognizedClientException"},
	{400, kmsclient.ErrDisabled, false, "DisabledException KMSInvalidStateException"},
	{400, kmsclient.ErrNotFound, false, "NotFoundException"},
	{400, kmsclient.ErrWrongContext, false, "IncorrectKeyException InvalidCiphertextException"},
	{400, kmsclient.ErrInvalid, false, "DryRunOperationException InvalidAliasNameException InvalidArnException InvalidKeyUsageException LimitExceededException " +
		"RequestEntityTooLargeException SerializationException UnknownOperationException UnsupportedOperationException ValidationError ValidationException " +
		"KMSInvalidMacException KMSInvalidSignatureException InvalidParameterValue InvalidParameterValueException MissingParameter MalformedPolicyDocumentException"},
	{500, kmsclient.ErrUnreachable, true, "DependencyTimeoutException InternalFailure InternalServerError InternalServerException KMSInternalException " +
		"KeyUnavailableException RequestTimeout RequestTimeoutException ServiceUnavailable ServiceUnavailableException"},
	// Not in the table: the status tells.
	{400, kmsclient.ErrInvalid, false, "SomethingNewException"},
	{404, kmsclient.ErrInvalid, false, "SomethingNewException"},
	{403, kmsclient.ErrDenied, false, "SomethingNewException"},
	{401, kmsclient.ErrDenied, false, "SomethingNewException"},
	{429, kmsclient.ErrThrottled, true, "SomethingNewException"},
	{500, kmsclient.ErrUnreachable, true, "SomethingNewException"},
	{503, kmsclient.ErrUnreachable, true, "SomethingNewException"},
	// The status that the API's model has, which AWS does not send.
	{404, kmsclient.ErrNotFound, false, "NotFoundException"},
	{409, kmsclient.ErrDisabled, false, "DisabledException KMSInvalidStateException"},
	// A client fault with the status of a server's.
	{500, kmsclient.ErrDenied, false, "AccessDeniedException"},
}

func TestCodesOfErrors(t *testing.T) {
	t.Parallel()
	var tested []string
	for _, row := range codes {
		for code := range strings.FieldsSeq(row.codes) {
			tested = append(tested, code)
			t.Run(fmt.Sprintf("%s_%d", code, row.status), func(t *testing.T) {
				t.Parallel()
				bubble.Test(t, func(t *testing.T) {
					s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return refusal(row.status, code, "told") }}
					c := s.client(t)
					e := is(t, c.encrypt(t, stubKey), row.kind)
					want := 1
					if row.again {
						want = 3
					}
					if s.asked() != want {
						t.Errorf("asked %d times, want %d", s.asked(), want)
					}
					if e.Op != "Encrypt" || e.Key != stubKey.ID || e.RequestID != "request-1" || !strings.HasSuffix(e.Error(), ": "+code+": told") {
						t.Errorf("got %+v: %v", e, e)
					}
					for _, k := range []error{kmsclient.ErrThrottled, kmsclient.ErrDenied, kmsclient.ErrDisabled, kmsclient.ErrNotFound, kmsclient.ErrWrongContext, kmsclient.ErrInvalid, kmsclient.ErrUnreachable} {
						if errors.Is(e, k) != errors.Is(k, row.kind) {
							t.Errorf("is also %v", k)
						}
					}
					later := errors.Is(row.kind, kmsclient.ErrThrottled) || errors.Is(row.kind, kmsclient.ErrUnreachable)
					if (e.RetryAfter > 0) != later {
						t.Errorf("got Retry-After %s", e.RetryAfter)
					}
				})
			})
		}
	}
	for _, code := range kmsclient.KnownCodes() {
		if !slices.Contains(tested, code) {
			t.Errorf("%s has no test", code)
		}
	}
}

func TestAnswersThatAreNoneOfKMS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer func() (*http.Response, error)
		kind   error
		asked  int
		text   string
	}{
		{"no code", func() (*http.Response, error) { return reply(400, nil, `{}`) }, kmsclient.ErrUnreachable, 1, "HTTP status 400 without an error of KMS"},
		{"HTML 404", func() (*http.Response, error) { return reply(404, nil, "<html>x") }, kmsclient.ErrUnreachable, 1, "HTTP status 404 without an error of KMS"},
		{"HTML 403", func() (*http.Response, error) { return reply(403, nil, "<html>x") }, kmsclient.ErrDenied, 1, "HTTP status 403 without an error of KMS"},
		{"HTML 502", func() (*http.Response, error) { return reply(502, nil, "<html>x") }, kmsclient.ErrUnreachable, 3, "HTTP status 502 without an error of KMS"},
		{"429", func() (*http.Response, error) { return reply(429, nil, "") }, kmsclient.ErrThrottled, 3, "HTTP status 429 without an error of KMS"},
		{"redirect", func() (*http.Response, error) {
			return reply(307, http.Header{"Location": {"https://elsewhere.example/"}}, "")
		}, kmsclient.ErrUnreachable, 1, "HTTP status 307 without an error of KMS"},
		{"200 HTML", func() (*http.Response, error) { return reply(200, nil, "<html>x") }, kmsclient.ErrUnreachable, 1, "the answer is none of KMS's"},
		{"200 cut", func() (*http.Response, error) { return reply(200, nil, `{"KeyId":"ar`) }, kmsclient.ErrUnreachable, 1, "the answer is none of KMS's"},
		{"200 broken off", func() (*http.Response, error) {
			res, err := reply(200, nil, "")
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"KeyId":"ar`), iotest.ErrReader(io.ErrUnexpectedEOF)))
			return res, err
		}, kmsclient.ErrUnreachable, 3, "the answer ended early"},
		{"no blob", func() (*http.Response, error) { return reply(200, nil, `{"KeyId":"`+stubKey.ID+`"}`) }, kmsclient.ErrUnreachable, 1, "the answer is none of KMS's"},
		{"endless", func() (*http.Response, error) {
			return reply(200, nil, `{"KeyId":"`+strings.Repeat("x", 2<<20)+`"}`)
		}, kmsclient.ErrUnreachable, 1, "the answer is none of KMS's"},
		{"reset", func() (*http.Response, error) {
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
		}, kmsclient.ErrUnreachable, 3, "read tcp: read: connection reset by peer"},
		{"refused", func() (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}, kmsclient.ErrUnreachable, 3, "dial tcp: connect: connection refused"},
		{"no such host", func() (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "kms.example", IsNotFound: true}
		}, kmsclient.ErrUnreachable, 1, "lookup kms.example: no such host"},
		{"hung up", func() (*http.Response, error) { return nil, io.EOF }, kmsclient.ErrUnreachable, 3, "the answer ended early"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) {
				s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return test.answer() }}
				c := s.client(t)
				e := is(t, c.encrypt(t, stubKey), test.kind)
				if s.asked() != test.asked {
					t.Errorf("asked %d times, want %d", s.asked(), test.asked)
				}
				if !strings.HasSuffix(e.Error(), ": "+test.text) {
					t.Errorf("got %v, want %s", e, test.text)
				}
			})
		})
	}
}

func TestAnswersOfTheWrongLength(t *testing.T) {
	t.Parallel()
	body := ""
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return reply(200, nil, body) }}
	c := s.client(t, func(o *kmsclient.Options) { o.Breaker.Failures = 100 })
	id := `"KeyId":"` + stubKey.ID + `"`
	for _, body = range []string{`{` + id + `}`, `{` + id + `,"CiphertextBlob":"AAAA","Plaintext":"AAAA"}`, `{` + id + `,"Plaintext":"` + strings.Repeat("AAAA", 10) + `AAA="}`} {
		_, err := c.GenerateDataKey(t.Context(), stubKey, tenant)
		is(t, err, kmsclient.ErrUnreachable)
	}
	body = `{` + id + `}`
	_, err := c.Decrypt(t.Context(), stubKey, []byte{1}, tenant)
	is(t, err, kmsclient.ErrUnreachable)
	_, _, err = c.ReEncrypt(t.Context(), stubKey, []byte{1}, tenant, stubKey, tenant)
	is(t, err, kmsclient.ErrWrongContext) // no SourceKeyId
	body = `{` + id + `,"SourceKeyId":"` + stubKey.ID + `"}`
	_, _, err = c.ReEncrypt(t.Context(), stubKey, []byte{1}, tenant, stubKey, tenant)
	is(t, err, kmsclient.ErrUnreachable)
	body = `{` + id + `,"Mac":"AAAA"}`
	_, err = c.GenerateMAC(t.Context(), stubKey, []byte{1})
	is(t, err, kmsclient.ErrUnreachable)
	body = `{}`
	is(t, c.Check(t.Context(), stubKey), kmsclient.ErrUnreachable)
}

// TestErrorsHoldNoSecret walks through the whole error of a data key that came in an
// answer that is broken.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZQ0E="
	for _, body := range []string{
		`{"Plaintext":"` + canary + `","KeyId":`, `{"Plaintext":"` + canary + `" "KeyId"`, `{"Plaintext":"` + canary + `","KeyId":7}`, `{"Plaintext":"!` + canary + `"}`,
		`{"Plaintext":"` + canary + `","KeyId":"arn:aws:kms:eu-central-1:111122223333:key/other","CiphertextBlob":"AAAA"}`,
	} {
		s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return reply(200, nil, body) }}
		_, err := s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 }).GenerateDataKey(t.Context(), stubKey, tenant)
		if err == nil {
			t.Fatal("no error")
		}
		var walk func(error)
		walk = func(err error) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				if text := fmt.Sprintf(verb, err); strings.Contains(text, "CANARY") || strings.Contains(text, canary[4:20]) || strings.Contains(text, "43414e") {
					t.Errorf("%s of %T shows the data key", verb, err)
				}
			}
			switch e := err.(type) { //nolint:errorlint // each link of the chain
			case interface{ Unwrap() error }:
				if next := e.Unwrap(); next != nil {
					walk(next)
				}
			case interface{ Unwrap() []error }:
				for _, next := range e.Unwrap() {
					walk(next)
				}
			}
		}
		walk(err)
	}
}

func TestRequestIDAndMessageAreBounded(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) {
		res, err := refusal(400, "ValidationException", "a\nb\x00"+strings.Repeat("é", 1000))
		res.Header.Set("X-Amzn-Requestid", strings.Repeat("r", 1000))
		return res, err
	}}
	e := is(t, s.client(t).encrypt(t, stubKey), kmsclient.ErrInvalid)
	if len(e.RequestID) > 140 || len(e.Error()) > 700 || strings.ContainsAny(e.Error(), "\n\x00") {
		t.Errorf("got %d and %d bytes: %q", len(e.RequestID), len(e.Error()), e.Error())
	}
}

func TestCallerWhoGivesUpGetsWhatEndedHisContext(t *testing.T) {
	t.Parallel()
	why := errors.New("client has gone")
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &stub{answer: func(_ int, r *http.Request) (*http.Response, error) {
			cancel(why)
			return blackhole(r)
		}}
		c := s.client(t)
		_, _, err := c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant)
		if e, ok := errors.AsType[*kmsclient.Error](err); ok || !errors.Is(err, why) {
			t.Errorf("got %v %v", e, err)
		}
		_, _, err = c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant)
		if !errors.Is(err, why) || s.asked() != 1 {
			t.Errorf("got %v after %d requests", err, s.asked())
		}
		if v := c.value(t, "calls_total", "operation", "Encrypt", "region", region, "result", "given_up"); v != 1 {
			t.Errorf("counted %v", v)
		}

		// A deadline of the caller's is an answer about KMS too.
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		s.answer = func(_ int, r *http.Request) (*http.Response, error) { return blackhole(r) }
		_, _, err = c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant)
		is(t, err, kmsclient.ErrUnreachable)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		_, _, err = c.Encrypt(ctx, stubKey, secret.Copy([]byte("x")), tenant)
		if !errors.Is(err, context.DeadlineExceeded) || s.asked() != 2 {
			t.Errorf("got %v after %d requests", err, s.asked())
		}
	})
}
