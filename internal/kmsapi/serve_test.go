package kmsapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"cardea/internal/audit"
	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/kmsapi"
)

func TestTheSDKDescribesAKey(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ref := s.putKey(t, nil)
	out, err := s.sdk().DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(ref.ARN())})
	if err != nil {
		t.Fatal(err)
	}
	m := out.KeyMetadata
	if aws.ToString(m.Arn) != ref.ARN() || m.KeyState != types.KeyStateEnabled || !m.Enabled || m.KeyManager != types.KeyManagerTypeCustomer {
		t.Errorf("got %+v", m)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC); !m.CreationDate.Equal(want) {
		t.Errorf("got creation date %v, want %v", m.CreationDate, want)
	}
	if m.DeletionDate != nil || m.ValidTo != nil || m.SigningAlgorithms != nil {
		t.Errorf("members that are not there came: %+v", m)
	}
}

func TestAnOperationWithoutResponseAnswersNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	r := s.send(t, "DisableKey", request{body: `{"KeyId":"` + keyID + `"}`})
	if r.status != http.StatusOK || r.body != "" || r.header.Get("Content-Length") != "0" || r.header.Get("Content-Type") != "application/x-amz-json-1.1" {
		t.Errorf("got %+v", r)
	}
	_, err := s.sdk().DisableKey(context.Background(), &awskms.DisableKeyInput{KeyId: aws.String(keyID)})
	if err != nil {
		t.Error(err)
	}
}

func TestErrorsOfTheServiceAreTyped(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ref := kms.KeyRef{Account: account, Region: region, ID: keyID}
	_, err := s.sdk().DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)})
	var missing *types.NotFoundException
	if !errors.As(err, &missing) || missing.ErrorMessage() != "Key '"+ref.ARN()+"' does not exist" {
		t.Errorf("got %v", err)
	}
	s.putKey(t, nil)
	_, err = s.sdk(as(userID, userSecret, "")).DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)})
	var denied smithy.APIError
	if !errors.As(err, &denied) || denied.ErrorCode() != "AccessDeniedException" || !strings.Contains(denied.ErrorMessage(), "is not authorized to perform: kms:DescribeKey") {
		t.Errorf("got %v", err)
	}
	r := s.send(t, "DescribeKey", request{body: `{}`})
	r.is(t, http.StatusBadRequest, "ValidationException",
		"1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
}

// TestRefusedBeforeAnyOperation has the requests that this package refuses itself:
// each is in the audit log once.
func TestRefusedBeforeAnyOperation(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	const describe = `{"KeyId":"` + keyID + `"}`
	for _, c := range []struct {
		name          string
		op            string
		q             request
		status        int
		code, message string
		entry         []string // in the log
	}{
		{
			"nothing is signed", "DescribeKey",
			request{body: describe, unsigned: true},
			400, "MissingAuthenticationTokenException", "Missing Authentication Token",
			[]string{`"op":"kms.unknown"`, `"auth":"none"`, `"outcome":"denied"`, `"ip":"127.0.0.1"`},
		},
		{
			"unknown access key", "DescribeKey",
			request{body: describe, id: "AKIANOBODY"},
			400, "UnrecognizedClientException", "The security token included in the request is invalid.",
			[]string{`"access_key":"AKIANOBODY"`, `"result":"unrecognized_client"`},
		},
		{
			"signed for another service", "DescribeKey",
			request{body: describe, service: "s3"},
			400, "InvalidSignatureException", "Credential should be scoped to correct service: 'kms'.",
			[]string{`"result":"invalid_signature"`},
		},
		{
			"signed for a Region not served", "DescribeKey",
			request{body: describe, region: "us-east-1"},
			400, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-east-1'.", nil,
		},
		{
			"an operation of a later version", "Encapsulate",
			request{body: describe},
			400, "UnknownOperationException", "The requested operation is not one of this service.",
			[]string{`"result":"unknown_operation"`, `"auth":"sigv4"`, `:root`},
		},
		{
			"no target", "",
			request{body: describe},
			400, "UnknownOperationException", "The requested operation is not one of this service.", nil,
		},
		{
			"a target of another service", "",
			request{body: describe, header: map[string]string{"X-Amz-Target": "secretsmanager.DescribeKey"}},
			400, "UnknownOperationException", "The requested operation is not one of this service.", nil,
		},
		{
			"no JSON by its type", "DescribeKey",
			request{body: describe, header: map[string]string{"Content-Type": "application/json"}},
			400, "UnknownOperationException", "The requested operation is not one of this service.", nil,
		},
		{
			"no JSON", "DescribeKey",
			request{body: `{"KeyId":`},
			400, "SerializationException", "The request body is not valid JSON at byte 9.",
			[]string{`"op":"kms.describe_key"`, `"result":"serialization"`},
		},
		{
			"no body", "DescribeKey",
			request{},
			400, "SerializationException", "The request body is empty: it must be a JSON object.", nil,
		},
		{
			"too long", "DescribeKey",
			request{body: `{"KeyId":"` + strings.Repeat("a", 1<<20) + `"}`},
			413, "RequestEntityTooLargeException", "The request body is longer than 1048576 bytes.",
			[]string{`"result":"request_entity_too_large"`},
		},
		{
			"presigned", "DescribeKey",
			request{body: describe, unsigned: true, path: "/?X-Amz-Algorithm=AWS4-HMAC-SHA256"},
			400, "AccessDeniedException", "Presigned requests are not accepted here: sign in the Authorization header.", nil,
		},
	} {
		_, before := s.lastEntry(t)
		r := s.send(t, c.op, c.q)
		t.Run(c.name, func(t *testing.T) {
			r.is(t, c.status, c.code, c.message)
			line, n := s.lastEntry(t)
			if n != before+1 {
				t.Errorf("%d entries in the audit log, want 1", n-before)
			}
			for _, want := range append(c.entry, `"error":"`+c.code+`"`, r.header.Get("x-amzn-RequestId")) {
				if !strings.Contains(line, want) {
					t.Errorf("the entry lacks %s: %s", want, line)
				}
			}
		})
	}
}

func TestAWrongSecretIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	_, err := s.sdk(as(rootID, userSecret, "")).DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "InvalidSignatureException" || !strings.HasPrefix(e.ErrorMessage(), "The request signature we calculated does not match") {
		t.Errorf("got %v", err)
	}
	if s.who.failed[rootID] != 1 || s.who.succeeded[rootID] != 0 {
		t.Errorf("got %d failures and %d successes", s.who.failed[rootID], s.who.succeeded[rootID])
	}
	line, _ := s.lastEntry(t)
	if !strings.Contains(line, `"access_key":"`+rootID+`"`) || strings.Contains(line, ":root") {
		t.Errorf("the entry should have the access key that was claimed and nobody's name: %s", line)
	}
	if _, err = s.sdk().DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)}); err != nil {
		t.Error(err)
	}
	if s.who.succeeded[rootID] != 1 {
		t.Errorf("got %d successes", s.who.succeeded[rootID])
	}
	if got := s.count(t, "cardea_kms_auth_failures_total", "reason", "InvalidSignature"); got != 1 {
		t.Errorf("counted %v", got)
	}
}

// TestWhatIsNoGuessDoesNotCount: an access key is not locked out by a client with a
// wrong Region, clock or service.
func TestWhatIsNoGuessDoesNotCount(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, q := range []request{
		{region: "us-east-1"}, {service: "s3"}, {at: time.Now().Add(-time.Hour)}, {unsigned: true}, {id: "AKIANOBODY"},
	} {
		if r := s.send(t, "DescribeKey", q); r.status != 400 {
			t.Errorf("%+v: got %d", q, r.status)
		}
	}
	if len(s.who.failed) != 0 {
		t.Errorf("got %v", s.who.failed)
	}
}

func TestAFailureThatCannotBeCountedIsRefusedStill(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.who.failErr = kms.ErrUnavailable
	if r := s.send(t, "DescribeKey", request{secret: userSecret}); r.status != 400 || r.member(t, "__type") != "InvalidSignatureException" {
		t.Errorf("got %+v", r)
	}
}

func TestASessionNeedsItsToken(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	in := &awskms.DescribeKeyInput{KeyId: aws.String(keyID)}
	if _, err := s.sdk(as(sessID, sessSecret, sessToken)).DescribeKey(context.Background(), in); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"", "another"} {
		_, err := s.sdk(as(sessID, sessSecret, token)).DescribeKey(context.Background(), in)
		var e smithy.APIError
		if !errors.As(err, &e) || e.ErrorCode() != "UnrecognizedClientException" {
			t.Errorf("token %q: got %v", token, err)
		}
	}
	s.who.known[sessID].expires = time.Now().Add(-time.Second)
	_, err := s.sdk(as(sessID, sessSecret, sessToken)).DescribeKey(context.Background(), in)
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "ExpiredTokenException" {
		t.Errorf("got %v", err)
	}
}

func TestTheSDKCorrectsItsClock(t *testing.T) {
	t.Parallel()
	ahead := func() time.Time { return time.Now().Add(time.Hour) }
	s := serve(t, func(o *kmsapi.Options) { o.Now = ahead })
	s.putKey(t, nil)
	in := &awskms.DescribeKeyInput{KeyId: aws.String(keyID)}
	_, err := s.sdk().DescribeKey(context.Background(), in)
	if err == nil || !strings.Contains(err.Error(), "InvalidSignatureException: Signature expired: ") {
		t.Fatalf("got %v", err)
	}
	if s.who.failed[rootID] != 0 {
		t.Error("a wrong clock was counted as a wrong secret")
	}
	c := s.sdk(retrying)
	for range 2 {
		if _, err := c.DescribeKey(context.Background(), in); err != nil {
			t.Error(err)
		}
	}
	if n := s.count(t, "cardea_kms_auth_failures_total", "reason", "RequestExpired"); n != 2 {
		t.Errorf("%v requests with a wrong clock, want 2: one of each client", n)
	}
}

func TestRequestsGoToTheRegionOfTheirSignature(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	_, err := s.sdk(func(o *awskms.Options) { o.Region = otherRegion }).DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String(keyID)})
	if err == nil || !strings.Contains(err.Error(), "Key 'arn:aws:kms:"+otherRegion+":") {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsAnsweredWithoutAnAuditEntry(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	s.store.Fail(func(call string) error {
		if call == "Append" {
			return kms.ErrUnavailable
		}
		return nil
	})
	r := s.send(t, "DescribeKey", request{body: `{"KeyId":"` + keyID + `"}`})
	r.is(t, 500, "KMSInternalException", "The request could not be recorded in the audit log and was refused.")
	r = s.send(t, "DescribeKey", request{unsigned: true})
	r.is(t, 500, "KMSInternalException", "The request could not be recorded in the audit log and was refused.")
}

func TestWhoCannotBeKnownIsNotRefusedAsForged(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.who.lookupErr = kms.ErrUnavailable
	s.send(t, "DescribeKey", request{}).is(t, 500, "KMSInternalException", "The request failed inside the key service.")
	s.who.lookupErr = fmt.Errorf("%w: sealed", identity.ErrSecretUnavailable)
	s.send(t, "DescribeKey", request{}).is(t, 500, "KeyUnavailableException",
		"The key service is sealed: its root key has not been unsealed by the custodians.")
}

func TestOtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 200, "Cardea key service."},
		{"GET", "/health", 404, "Not found."},
		{"POST", "/keys", 404, "Not found."},
		{"POST", "/%2f", 404, "Not found."},
		{"PUT", "/", 405, "Only POST."},
	} {
		r := s.send(t, "", request{method: c.method, path: c.path, unsigned: true})
		if r.status != c.status || !strings.HasPrefix(r.body, c.body) {
			t.Errorf("%s %s: got %d %q", c.method, c.path, r.status, r.body)
		}
	}
	if n := len(s.store.Entries()); n != 0 {
		t.Errorf("%d entries for what is no request to the API", n)
	}
}

func TestTheEntryTellsHowTheRequestCame(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	secure := httptest.NewTLSServer(s.api.Handler())
	defer secure.Close()
	s.url, s.client = secure.URL, secure.Client()
	for agent, want := range map[string]string{
		"aws-cli/2.31":                    `"agent":"aws-cli/2.31"`,
		strings.Repeat("é", 200):          `"agent":"` + strings.Repeat("é", 127) + `"`,
		"a\xff\xfeb":                      `"agent":"a?b"`,
		strings.Repeat("x", 1000) + "end": `"agent":"` + strings.Repeat("x", 255) + `"`,
	} {
		r := s.send(t, "DescribeKey", request{body: `{"KeyId":"` + keyID + `"}`, header: map[string]string{"User-Agent": agent}})
		if r.status != 200 {
			t.Fatalf("got %+v", r)
		}
		line, _ := s.lastEntry(t)
		for _, want := range []string{want, `"tls":"TLSv1.3 TLS_`, `"ip":"127.0.0.1"`, `"region":"` + region + `"`, `"auth":"sigv4"`, r.header.Get("x-amzn-RequestId")} {
			if !strings.Contains(line, want) {
				t.Errorf("the entry lacks %s: %s", want, line)
			}
		}
	}
}

func TestTheRequestIDIsThatOfTheStackIfItIsAUUID(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const id = "01950000-0000-7000-8000-000000000001"
	r := s.send(t, "DescribeKey", request{header: map[string]string{"X-Request-Id": id}})
	if got := r.header.Get("x-amzn-RequestId"); got != id {
		t.Errorf("got %s", got)
	}
	r = s.send(t, "DescribeKey", request{header: map[string]string{"X-Request-Id": "mine"}})
	if got := r.header.Get("x-amzn-RequestId"); len(got) != 36 || got == id {
		t.Errorf("got %s", got)
	}
}

func TestThePanicBodyIsAnErrorOfTheAPI(t *testing.T) {
	t.Parallel()
	d := &doer{status: 500, answer: kmsapi.PanicBody}
	_, err := d.client().ListKeys(context.Background(), &awskms.ListKeysInput{})
	typed[*types.KMSInternalException](t, err)
}

func TestJSON10IsAnsweredInKind(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	r := s.send(t, "DescribeKey", request{body: `{"KeyId":"` + keyID + `"}`, header: map[string]string{"Content-Type": "application/x-amz-json-1.0; charset=utf-8"}})
	if r.status != 200 || r.header.Get("Content-Type") != "application/x-amz-json-1.0" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %+v", r)
	}
}

func TestRequestsAreCountedByOperationAndCode(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.putKey(t, nil)
	s.send(t, "DescribeKey", request{body: `{"KeyId":"` + keyID + `"}`})
	s.send(t, "DescribeKey", request{body: `{"KeyId":"` + strings.Replace(keyID, "1", "2", 1) + `"}`})
	s.send(t, "Shutdown", request{})
	for labels, want := range map[[2]string]float64{
		{"DescribeKey", "OK"}: 1, {"DescribeKey", "NotFoundException"}: 1, {"unknown", "UnknownOperationException"}: 1,
	} {
		if got := s.count(t, "cardea_kms_requests_total", "code", labels[1], "operation", labels[0]); got != want {
			t.Errorf("%v: got %v, want %v", labels, got, want)
		}
	}
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := kmsapi.New(kmsapi.Options{}); err == nil || err.Error() != "key service API: Service, Identities, STS and Regions are required" {
		t.Errorf("got %v", err)
	}
	s := serve(t)
	_, err := kmsapi.New(kmsapi.Options{Service: s.service, Identities: s.who, STS: s.people, Regions: []string{region}, MaxSkew: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "key service API: ") {
		t.Errorf("got %v", err)
	}
}

// TestStrangersCannotFillTheAuditLog: what nobody signed is counted after the first of a
// minute; a guess at the secret of a key that there is always has an entry, since
// the key is locked after few.
func TestStrangersCannotFillTheAuditLog(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := serve(t, func(o *kmsapi.Options) { o.Now = func() time.Time { return now } })
	sts := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for range 50 {
		s.send(t, "Decrypt", request{unsigned: true}).is(t, 400, "MissingAuthenticationTokenException", "Missing Authentication Token")
		s.send(t, "Decrypt", request{id: "AKIANOBODY", at: now})
		s.send(t, "", request{unsigned: true, header: sts})
	}
	if _, n := s.lastEntry(t); n != 20 {
		t.Errorf("%d entries of operations of KMS, want 20", n)
	}
	for range 30 {
		s.send(t, "Decrypt", request{secret: userSecret, at: now})
	}
	if _, n := s.lastEntry(t); n != 50 || s.who.failed[rootID] != 30 {
		t.Errorf("%d entries and %d guesses, want one each for 30 guesses", n, s.who.failed[rootID])
	}
	if err := s.api.FlushRefusals(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	line, n := s.lastEntry(t)
	e, err := audit.Decode([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if n != 51 || e.Op != "kms.unknown" || e.Outcome != audit.Denied || e.Result != "repeated" || e.Who.IP != "127.0.0.1" ||
		!strings.HasPrefix(e.Detail, "80 more refusals, ") || !strings.HasSuffix(e.Detail, "MissingAuthenticationTokenException 40 UnrecognizedClientException 40") {
		t.Errorf("%d entries, the last is %s", n, line)
	}
	if got := s.count(t, "cardea_kms_refusals_counted_total"); got != 110 {
		t.Errorf("counted %v, want 80 and 30 of STS", got)
	}
}
