package kmsclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/go-json-experiment/json"
)

// question is what is asked of KMS, and answer what it says: AWS JSON 1.1, with the
// members that the operations of this package have (AWS KMS API Reference).
type (
	question struct {
		KeyID              string            `json:"KeyId,omitempty"`
		Plaintext          []byte            `json:"Plaintext,omitempty"`
		CiphertextBlob     []byte            `json:"CiphertextBlob,omitempty"`
		EncryptionContext  map[string]string `json:"EncryptionContext,omitempty"`
		KeySpec            string            `json:"KeySpec,omitempty"`
		Message            []byte            `json:"Message,omitempty"`
		MessageType        string            `json:"MessageType,omitempty"`
		MACAlgorithm       string            `json:"MacAlgorithm,omitempty"`
		SigningAlgorithm   string            `json:"SigningAlgorithm,omitempty"`
		SourceKeyID        string            `json:"SourceKeyId,omitempty"`
		SourceContext      map[string]string `json:"SourceEncryptionContext,omitempty"`
		DestinationKeyID   string            `json:"DestinationKeyId,omitempty"`
		DestinationContext map[string]string `json:"DestinationEncryptionContext,omitempty"`
	}
	answer struct {
		KeyID          string       `json:"KeyId"`
		Plaintext      []byte       `json:"Plaintext"`
		CiphertextBlob []byte       `json:"CiphertextBlob"`
		MAC            []byte       `json:"Mac"`
		Signature      []byte       `json:"Signature"`
		PublicKey      []byte       `json:"PublicKey"`
		KeySpec        string       `json:"KeySpec"`
		KeyUsage       string       `json:"KeyUsage"`
		SourceKeyID    string       `json:"SourceKeyId"`
		KeyMetadata    *keyMetadata `json:"KeyMetadata"`
	}
	keyMetadata struct {
		ARN      string `json:"Arn"`
		KeyState string `json:"KeyState"`
	}
)

// refusal is an answer of KMS, or of somebody in its place, with an error.
type refusal struct {
	status     int
	code       string // "" if the answer names none
	message    string
	requestID  string
	retryAfter time.Duration // 0 if it does not say
	skewed     bool          // our clock was wrong, and is corrected now
}

func (r *refusal) Error() string { return r.code }

// wire sends requests to the KMS of a Region. Credentials, endpoint and signature are
// the SDK's; what is between is not, because the SDK's client takes twice the processor
// time for a call, and one is in the way of every record in mode aws_kms
// (docs/benchmarks.md). It is safe for concurrent use.
type wire struct {
	url         url.URL
	headers     http.Header // of the endpoint
	region      string
	credentials aws.CredentialsProvider
	signer      *v4.Signer
	next        http.RoundTripper // follows no redirects
	ahead       atomic.Int64      // KMS's clock is of ours, ns
}

// newWire asks for what the SDK's client would.
func newWire(ctx context.Context, o awskms.Options, next http.RoundTripper) (*wire, error) {
	at, err := o.EndpointResolverV2.ResolveEndpoint(ctx, awskms.EndpointParameters{
		Region: &o.Region, Endpoint: o.BaseEndpoint,
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	w := &wire{url: at.URI, headers: at.Headers, region: o.Region, credentials: o.Credentials, signer: v4.NewSigner(), next: next}
	if w.url.Path == "" {
		w.url.Path = "/"
	}
	return w, nil
}

// ask makes one request. Errors are a *refusal, an *Error, or what went wrong on the
// way. What came and went is wiped; the caller owns what is in the answer.
func (w *wire) ask(ctx context.Context, op operation, q *question) (*answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, &Error{kind: ErrInvalid, health: unknown, cause: errors.New("the request cannot be written as JSON: text that is not UTF-8")}
	}
	out := &outgoing{text: body}
	defer out.end()
	creds, err := w.credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	at := w.url
	r := (&http.Request{
		Method: http.MethodPost, URL: &at, Host: at.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"TrentService." + op.name}, "User-Agent": {"cardea app/" + appID},
		},
		Body: out.body(), GetBody: func() (io.ReadCloser, error) { return out.body(), nil }, ContentLength: int64(len(body)),
	}).WithContext(out.watch(ctx))
	for name, values := range w.headers {
		r.Header[name] = values
	}
	sum := sha256.Sum256(body)
	now := time.Now() //nolint:forbidigo // what is compared with KMS's clock is the machine's, corrected by what KMS says
	if err := w.signer.SignHTTP(ctx, creds, r, hex.EncodeToString(sum[:]), "kms", w.region, now.Add(time.Duration(w.ahead.Load())).UTC()); err != nil {
		return nil, &credentialsError{err}
	}
	res, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := read(res)
	defer clear(text)
	if res.StatusCode != http.StatusOK {
		return nil, w.refused(res, text, now)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, &Error{kind: ErrUnreachable, health: failing, again: true, cause: errEndedEarly, RequestID: requestID(res)}
	}
	a := new(answer)
	if err := json.Unmarshal(text, a); err != nil { // its text has bytes of the answer
		clear(a.Plaintext)
		return nil, &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer, RequestID: requestID(res)}
	}
	return a, nil
}

// read reads an answer into one piece of memory, if its length is known.
func read(res *http.Response) ([]byte, error) {
	if n := res.ContentLength; n > 0 && n <= maxAnswer {
		text := make([]byte, n)
		_, err := io.ReadFull(res.Body, text)
		return text, err
	}
	return io.ReadAll(res.Body)
}

// refused reads an answer with an error. One that cannot be read is told by its status.
func (w *wire) refused(res *http.Response, text []byte, now time.Time) *refusal {
	var named struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Lower   string `json:"message"`
		Message string `json:"Message"`
	}
	if json.Unmarshal(text, &named) != nil {
		named.Type, named.Code = "", ""
	}
	e := &refusal{status: res.StatusCode, requestID: requestID(res), message: named.Message}
	if e.message == "" {
		e.message = named.Lower
	}
	for _, code := range []string{res.Header.Get("X-Amzn-Errortype"), named.Code, named.Type} {
		if e.code = bare(code); e.code != "" {
			break
		}
	}
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
		e.retryAfter = time.Duration(min(n, 60)) * time.Second
	}
	e.skewed = w.correct(e.code, res.Header.Get("Date"), now)
	return e
}

func requestID(res *http.Response) string {
	return printable(res.Header.Get("X-Amzn-Requestid"), 128)
}

// bare is an error's code without the namespace before it and the URI after it (Smithy,
// AWS JSON 1.1 protocol, operation error serialization).
func bare(code string) string {
	if _, after, ok := strings.Cut(code, "#"); ok {
		code = after
	}
	code, _, _ = strings.Cut(code, ":")
	return code
}

// timely reports the codes by which a request is refused whose time is wrong, among others.
func timely(code string) bool {
	switch code {
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure":
		return true
	}
	return false
}

// maxSkew is how wrong the clock may be before it is corrected: KMS allows 5 minutes.
const maxSkew = 4 * time.Minute

// correct takes KMS's time for ours, if a wrong clock may be why a request, signed
// at now of our clock, was refused. It reports whether it changed anything.
func (w *wire) correct(code, date string, now time.Time) bool {
	at, err := http.ParseTime(date)
	if err != nil || !timely(code) {
		return false
	}
	was := time.Duration(w.ahead.Load())
	is := at.Sub(now)
	if (is - was).Abs() < maxSkew {
		return false
	}
	w.ahead.Store(int64(is))
	return true
}
