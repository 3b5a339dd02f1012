package kmsapi_test

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/identity/identitytest"
	"cardea/internal/kmsapi"
	"cardea/internal/sdkhttp"
	"cardea/internal/secret"
)

const (
	admins  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	trust   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}]}`
	roleARN = "arn:aws:iam::" + account + ":role/keys"
)

// people is a server whose callers are those of package identity: an administrator,
// and a role that may use keys.
type people struct {
	*server
	store   *identitytest.Store
	secrets *identitytest.Secrets
	op      identity.Caller
	id      string
	secret  secret.Bytes
}

func servePeople(t *testing.T, change ...func(*kmsapi.Options)) *people {
	t.Helper()
	ctx := t.Context()
	p := &people{store: identitytest.NewStore(), secrets: identitytest.NewSecrets()}
	svc, err := identity.New(ctx, identity.Options{Node: "node1", Store: p.store, Secrets: p.secrets, MaxFailures: 3})
	if err != nil {
		t.Fatal(err)
	}
	p.server = serve(t, append(change, func(o *kmsapi.Options) { o.Identities, o.STS = svc, svc })...)
	p.people = svc
	p.op = identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "alice", Auth: "internal", Actions: []string{"*"}})
	boot, err := svc.Bootstrap(ctx, p.op, &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: account}})
	if err != nil {
		t.Fatal(err)
	}
	p.id, p.secret = boot.Key.ID, boot.Key.Secret
	if _, err = svc.CreateRole(ctx, p.op, &identity.CreateRoleInput{Account: account, Name: "keys", TrustPolicy: trust}); err != nil {
		t.Fatal(err)
	}
	err = svc.PutRolePolicy(ctx, p.op, &identity.PolicyInput{Account: account, Entity: "keys", Name: "all", Document: admins})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *people) sts(change ...func(*sts.Options)) *sts.Client {
	return sts.New(sts.Options{
		BaseEndpoint: aws.String(p.url), Region: region, HTTPClient: sdkhttp.New(p.client), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(p.id, string(p.secret.Expose()), ""),
	}, change...)
}

func (p *people) kms(c *ststypes.Credentials) *awskms.Client {
	return p.sdk(as(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
}

func TestSTSTellsWhoCalls(t *testing.T) {
	t.Parallel()
	p := servePeople(t)
	for _, r := range []string{region, otherRegion, "us-east-1", "aws-global"} {
		out, err := p.sts(func(o *sts.Options) { o.Region = r }).GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Account != account || *out.Arn != "arn:aws:iam::"+account+":user/admin" || !strings.HasPrefix(*out.UserId, "AIDA") {
			t.Errorf("got %s %s %s", *out.Account, *out.Arn, *out.UserId)
		}
	}
	_, err := p.sts(func(o *sts.Options) { o.Region = "ap-south-1" }).GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	coded(t, err, "SignatureDoesNotMatch")
}

func TestSTSGivesSessionsThatWork(t *testing.T) {
	t.Parallel()
	p, ctx := servePeople(t), context.Background()
	out, err := p.sts().AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn: aws.String(roleARN), RoleSessionName: aws.String("a-session"), DurationSeconds: aws.Int32(900), SourceIdentity: aws.String("alice"),
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`),
		Tags:   []ststypes.Tag{{Key: aws.String("team"), Value: aws.String("vault")}, {Key: aws.String("cost"), Value: aws.String("")}}, TransitiveTagKeys: []string{"team"},
	})
	if err != nil {
		t.Fatal(err)
	}
	session := "arn:aws:sts::" + account + ":assumed-role/keys/a-session"
	if *out.AssumedRoleUser.Arn != session || aws.ToString(out.SourceIdentity) != "alice" || aws.ToInt32(out.PackedPolicySize) == 0 { //nolint:staticcheck // what the API has told for years
		t.Errorf("got %+v", out)
	}
	if d := time.Until(*out.Credentials.Expiration); d < 14*time.Minute || d > 15*time.Minute {
		t.Errorf("expires in %v", d)
	}
	c := p.kms(out.Credentials)
	key := createKey(t, c, awskms.CreateKeyInput{})
	must[awskms.DescribeKeyOutput](t)(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: key}))
	_, err = c.Encrypt(ctx, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	coded(t, err, "AccessDeniedException")
	line, _ := p.lastEntry(t)
	if !strings.Contains(line, session) {
		t.Errorf("the entry lacks the session: %s", line)
	}

	token, err := p.sts().GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(3600)})
	if err != nil {
		t.Fatal(err)
	}
	must[awskms.DescribeKeyOutput](t)(p.kms(token.Credentials).DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: key}))
	who, err := p.sts(func(o *sts.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(*token.Credentials.AccessKeyId, *token.Credentials.SecretAccessKey, *token.Credentials.SessionToken)
	}).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:iam::"+account+":user/admin" {
		t.Errorf("got %v, %v", who, err)
	}
}

func TestSTSErrorsAreTyped(t *testing.T) {
	t.Parallel()
	p, ctx := servePeople(t), context.Background()
	_, err := p.sts().AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + account + ":role/none"), RoleSessionName: aws.String("x1")})
	coded(t, err, "AccessDenied")
	_, err = p.sts().AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("x1"), Policy: aws.String("{")})
	typed[*ststypes.MalformedPolicyDocumentException](t, err)
	_, err = p.sts().AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("x1"), Policy: aws.String(admins + strings.Repeat(" ", 2048))})
	typed[*ststypes.PackedPolicyTooLargeException](t, err)
	_, err = p.sts().GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(1)})
	coded(t, err, "ValidationError")
	p.secrets.Lock(true)
	_, err = p.sts().GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	coded(t, err, "ServiceUnavailable")
}

func TestTheSDKOfSTSCorrectsItsClock(t *testing.T) {
	t.Parallel()
	p := servePeople(t, func(o *kmsapi.Options) { o.Now = func() time.Time { return time.Now().Add(-time.Hour) } })
	c := p.sts(func(o *sts.Options) { o.Retryer = retry.NewStandard() })
	if _, err := c.GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{}); err != nil {
		t.Error(err)
	}
}

// TestSTSRefusesBeforeAnyOperation has what this package refuses itself: each is in
// the audit log once.
func TestSTSRefusesBeforeAnyOperation(t *testing.T) {
	t.Parallel()
	p := servePeople(t)
	const whoami = "Action=GetCallerIdentity&Version=2011-06-15"
	const assume = "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x1&RoleArn=" + roleARN
	const noOperation = "Could not find operation for the Action and Version given. The operations of STS here are AssumeRole, GetCallerIdentity and GetSessionToken, of Version 2011-06-15."
	for _, c := range []struct {
		name          string
		q             request
		status        int
		code, message string
		entry         string
	}{
		{"nothing is signed", request{body: whoami, unsigned: true}, 403, "MissingAuthenticationToken", "Missing Authentication Token", `"result":"missing_authentication_token"`},
		{"unknown access key", request{body: whoami, id: "ASIANOBODY"}, 403, "InvalidClientTokenId", "The security token included in the request is invalid.", `"access_key":"ASIANOBODY"`},
		{"signed for KMS", request{body: whoami, service: "kms"}, 403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'.", ""},
		{"another action", request{body: "Action=GetFederationToken&Version=2011-06-15"}, 400, "InvalidAction", noOperation, `"op":"sts.unknown"`},
		{"another version", request{body: "Action=GetCallerIdentity&Version=2012-06-15"}, 400, "InvalidAction", noOperation, ""},
		{"no action", request{}, 400, "InvalidAction", noOperation, ""},
		{"no form", request{body: "a=%zz"}, 400, "MalformedQueryString", "The request body is not a well-formed list of parameters.", ""},
		{"a parameter twice", request{body: whoami + "&Action=GetCallerIdentity"}, 400, "MalformedQueryString", "A parameter comes more than once, or is not UTF-8.", ""},
		{"no UTF-8", request{body: whoami + "&a=%ff"}, 400, "MalformedQueryString", "A parameter comes more than once, or is not UTF-8.", ""},
		{"too many parameters", request{body: whoami + strings.Repeat("&", 1) + many(257)}, 400, "MalformedQueryString", "The request has more than 256 parameters.", ""},
		{"a parameter that is not known", request{body: assume + "&ProvidedContexts.member.1.ProviderArn=x"}, 400, "ValidationError", "The request has parameters that the operation does not know here.", `"op":"sts.assume_role"`},
		{"a gap in a list", request{body: assume + "&Tags.member.2.Key=x&Tags.member.2.Value=x"}, 400, "ValidationError", "The request has parameters that the operation does not know here.", ""},
		{"a tag without key", request{body: assume + "&Tags.member.1.Value=x"}, 400, "ValidationError", "Every tag must have a Key and a Value.", ""},
		{"no number", request{body: assume + "&DurationSeconds=1e3"}, 400, "ValidationError", "The value of DurationSeconds is not a positive number.", ""},
		{"zero", request{body: assume + "&DurationSeconds=0"}, 400, "ValidationError", "The value of DurationSeconds is not a positive number.", ""},
		{"too long", request{body: whoami + "&a=" + strings.Repeat("a", 1<<20)}, 413, "RequestEntityTooLarge", "The request body is longer than 1048576 bytes.", ""},
		{"presigned", request{method: "GET", path: "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256", unsigned: true}, 403, "AccessDenied", "Presigned requests are not accepted here: sign in the Authorization header.", ""},
		{"in the query string", request{method: "GET", path: "/?" + whoami}, 400, "InvalidAction", noOperation, ""},
	} {
		before := len(p.store.Entries())
		if c.q.id == "" {
			c.q.id, c.q.secret = p.id, string(p.secret.Expose())
		}
		if c.q.service == "" {
			c.q.service = "sts"
		}
		c.q.header = map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
		r := p.send(t, "", c.q)
		t.Run(c.name, func(t *testing.T) {
			var e struct {
				XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
				Type      string   `xml:"Error>Type"`
				Code      string   `xml:"Error>Code"`
				Message   string   `xml:"Error>Message"`
				RequestID string   `xml:"RequestId"`
			}
			if err := xml.Unmarshal([]byte(r.body), &e); err != nil {
				t.Fatal(err)
			}
			if r.status != c.status || e.Type != "Sender" || e.Code != c.code || e.Message != c.message {
				t.Errorf("got %d %+v, want %d %s %q", r.status, e, c.status, c.code, c.message)
			}
			if e.RequestID == "" || e.RequestID != r.header.Get("x-amzn-RequestId") || r.header.Get("Content-Type") != "text/xml" {
				t.Errorf("got %v", r.header)
			}
			entries := p.store.Entries()
			if len(entries) != before+1 || !strings.Contains(entries[before], c.entry) || !strings.Contains(entries[before], `"error":"`+c.code+`"`) {
				t.Errorf("got entries %q, want one with %s", entries[before:], c.entry)
			}
		})
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + strings.Repeat("x", i) + "=1")
	}
	return b.String()
}

func TestXMLIsEscaped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("<>&\"'\r\n\t\x00\x1f\ufffe\uffff")))).Draw(t, "text")
		var got struct {
			Message string `xml:"Error>Message"`
		}
		if err := xml.Unmarshal([]byte(kmsapi.EncodeQueryError(text)), &got); err != nil {
			t.Fatal(err)
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				return utf8.RuneError
			}
			return r
		}, text)
		if got.Message != want {
			t.Fatalf("got %q, want %q", got.Message, want)
		}
	})
}

func TestAnAccessKeyIsLockedOutAfterRepeatedFailures(t *testing.T) {
	t.Parallel()
	p, ctx := servePeople(t), context.Background()
	good := p.sdk(as(p.id, string(p.secret.Expose()), ""))
	bad := p.sdk(as(p.id, rootSecret, ""))
	list := func(c *awskms.Client) error {
		_, err := c.ListKeys(ctx, &awskms.ListKeysInput{})
		return err
	}
	for range 2 {
		coded(t, list(bad), "InvalidSignatureException")
	}
	if err := list(good); err != nil { // which ends the row of failures
		t.Fatal(err)
	}
	for range 3 {
		coded(t, list(bad), "InvalidSignatureException")
	}
	coded(t, list(good), "UnrecognizedClientException")
	entries := strings.Join(p.store.Entries(), "\n")
	if n := strings.Count(entries, `"op":"identity.lockout"`); n != 1 {
		t.Errorf("%d entries of a lockout, want 1", n)
	}
}

func TestSTSAnswersNothingWithoutAnAuditEntry(t *testing.T) {
	t.Parallel()
	p := servePeople(t)
	p.store.Fail(func(call string) error {
		if call == "Append" {
			return errors.New("disk full")
		}
		return nil
	})
	_, err := p.sts().GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorFault() == smithy.FaultClient || strings.Contains(err.Error(), "disk") {
		t.Errorf("got %v", err)
	}
	r := p.send(t, "", request{unsigned: true, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
	if r.status != http.StatusInternalServerError || !strings.Contains(r.body, "<Type>Receiver</Type>") {
		t.Errorf("got %+v", r)
	}
}

func TestARoleThatMayNot(t *testing.T) {
	t.Parallel()
	p, ctx := servePeople(t), context.Background()
	user, err := p.people.CreateUser(ctx, p.op, &identity.CreateUserInput{Account: account, Name: "poor"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := p.people.CreateAccessKey(ctx, p.op, &identity.EntityInput{Account: account, Name: "poor"})
	if err != nil {
		t.Fatal(err)
	}
	c := p.sdk(as(key.ID, string(key.Secret.Expose()), ""))
	_, err = c.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: types.KeySpecSymmetricDefault})
	var e smithy.APIError
	want := "User: " + user.ARN + " is not authorized to perform: kms:CreateKey"
	if !errors.As(err, &e) || e.ErrorCode() != "AccessDeniedException" || !strings.HasPrefix(e.ErrorMessage(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
