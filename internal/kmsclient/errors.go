package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Error is an error of a call. It wraps the error that it is a kind of, and the
// context's error if time ran out. It holds nothing of what was to be encrypted or
// decrypted.
type Error struct {
	Op  string // Encrypt, Decrypt …
	Key string // Key.ID
	// RetryAfter is when to ask again at the earliest, for ErrThrottled and
	// ErrUnreachable; else 0.
	RetryAfter time.Duration
	RequestID  string // of KMS; empty if it did not answer
	kind       error
	cause      error // or nil

	again  bool          // the same call may succeed at once
	pause  time.Duration // that KMS asks for before
	health health        // what the error says about the Region
}

func (e *Error) is(kind error) bool { return errors.Is(e.kind, kind) }

func (e *Error) Error() string {
	s := "kms " + e.Op + " with " + e.Key + ": " + e.kind.Error()
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap is the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// fault is what an error code of KMS means here.
type fault struct {
	kind  error
	again bool // it may go away by itself, soon
}

// faults are the codes that the operations of this package can be answered with.
// What is not here goes by its HTTP status. The SDK takes LimitExceeded for
// throttling, but KMS means quotas of things by it, which no waiting changes.
var faults = map[string]fault{
	"Throttling":                {ErrThrottled, true},
	"ThrottlingException":       {ErrThrottled, true},
	"ThrottledException":        {ErrThrottled, true},
	"RequestThrottled":          {ErrThrottled, true},
	"RequestThrottledException": {ErrThrottled, true},
	"RequestLimitExceeded":      {ErrThrottled, true},
	"TooManyRequestsException":  {ErrThrottled, true},
	"SlowDown":                  {ErrThrottled, true},

	"AccessDenied":                        {ErrDenied, false},
	"AccessDeniedException":               {ErrDenied, false},
	"AuthFailure":                         {ErrDenied, false},
	"ExpiredToken":                        {ErrDenied, false},
	"ExpiredTokenException":               {ErrDenied, false},
	"IncompleteSignature":                 {ErrDenied, false},
	"IncompleteSignatureException":        {ErrDenied, false},
	"InvalidClientTokenId":                {ErrDenied, false},
	"InvalidGrantTokenException":          {ErrDenied, false},
	"InvalidSignatureException":           {ErrDenied, false},
	"MissingAuthenticationToken":          {ErrDenied, false},
	"MissingAuthenticationTokenException": {ErrDenied, false},
	"NotAuthorized":                       {ErrDenied, false},
	"OptInRequired":                       {ErrDenied, false},
	"RequestExpired":                      {ErrDenied, false},
	"RequestTimeTooSkewed":                {ErrDenied, false},
	"SignatureDoesNotMatch":               {ErrDenied, false},
	"UnrecognizedClientException":         {ErrDenied, false},

	"DisabledException":        {ErrDisabled, false},
	"KMSInvalidStateException": {ErrDisabled, false},

	"NotFoundException": {ErrNotFound, false},

	"IncorrectKeyException":      {ErrWrongContext, false},
	"InvalidCiphertextException": {ErrWrongContext, false},

	"DryRunOperationException":         {ErrInvalid, false},
	"InvalidAliasNameException":        {ErrInvalid, false},
	"InvalidArnException":              {ErrInvalid, false},
	"InvalidKeyUsageException":         {ErrInvalid, false},
	"LimitExceededException":           {ErrInvalid, false},
	"RequestEntityTooLargeException":   {ErrInvalid, false},
	"SerializationException":           {ErrInvalid, false},
	"UnknownOperationException":        {ErrInvalid, false},
	"UnsupportedOperationException":    {ErrInvalid, false},
	"ValidationError":                  {ErrInvalid, false},
	"ValidationException":              {ErrInvalid, false},
	"KMSInvalidMacException":           {ErrInvalid, false},
	"KMSInvalidSignatureException":     {ErrInvalid, false},
	"InvalidParameterValue":            {ErrInvalid, false},
	"InvalidParameterValueException":   {ErrInvalid, false},
	"MissingParameter":                 {ErrInvalid, false},
	"MalformedPolicyDocumentException": {ErrInvalid, false},

	"DependencyTimeoutException":  {ErrUnreachable, true},
	"InternalFailure":             {ErrUnreachable, true},
	"InternalServerError":         {ErrUnreachable, true},
	"InternalServerException":     {ErrUnreachable, true},
	"KMSInternalException":        {ErrUnreachable, true},
	"KeyUnavailableException":     {ErrUnreachable, true},
	"RequestTimeout":              {ErrUnreachable, true},
	"RequestTimeoutException":     {ErrUnreachable, true},
	"ServiceUnavailable":          {ErrUnreachable, true},
	"ServiceUnavailableException": {ErrUnreachable, true},
}

// faultOf is what an answer with an error means. No code and no status that speaks
// for itself is not how KMS answers: somebody else does.
func faultOf(code string, status int) fault {
	f, known := faults[code]
	switch {
	case known:
		return f
	case status >= 500:
		return fault{ErrUnreachable, true}
	case status == http.StatusTooManyRequests:
		return fault{ErrThrottled, true}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault{ErrDenied, false}
	case code == "" || status < 400:
		return fault{ErrUnreachable, false}
	}
	return fault{ErrInvalid, false}
}

// defaultRetryAfter is told when nobody knows better.
const defaultRetryAfter = time.Second

// Texts of causes.
var (
	errEndedEarly = errors.New("the answer ended early")
	errNoAnswer   = errors.New("the answer is none of KMS's")
	errNoTime     = errors.New("no answer in time")
)

// fail makes err, with which a request ended, into an Error.
func fail(err error) *Error {
	e := &Error{kind: ErrUnreachable, health: failing}
	var (
		creds   *credentialsError
		refused *refusal
	)
	switch {
	case errors.As(err, &creds):
		return failCredentials(e, creds.err)
	case errors.As(err, &refused):
		f := faultOf(refused.code, refused.status)
		e.kind, e.again, e.cause, e.RequestID = f.kind, f.again, causeOf(refused), refused.requestID
		if e.is(ErrThrottled) || !e.is(ErrUnreachable) && refused.code != "" { // else it may be somebody else who answers
			e.health = answering
		}
		switch {
		case e.is(ErrDenied) && refused.skewed:
			e.again = true
		case e.is(ErrThrottled):
			e.pause = refused.retryAfter
			e.RetryAfter = max(e.pause, defaultRetryAfter)
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.cause, e.again = errEndedEarly, true
	default:
		e.cause, e.again = transportCause(err), !hopeless(err)
	}
	return e
}

// failCredentials is for a call that was not made, for want of credentials.
func failCredentials(e *Error, err error) *Error {
	var (
		api  smithy.APIError
		send *smithyhttp.RequestSendError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.cause = errors.New("no credentials in time")
	case errors.As(err, &api) && errors.Is(faults[api.ErrorCode()].kind, ErrUnreachable), errors.As(err, &send):
		e.cause = errors.New("credentials: " + printable(err.Error(), 512))
	case isProcess(err): // whose error quotes what it has written, which may be the secret
		e.kind, e.health, e.cause = ErrDenied, unknown, errors.New("credentials: credential_process does not work")
	default:
		// What the chain tried, one after the other; of no use to who has no say over it.
		e.kind, e.health, e.cause = ErrDenied, unknown, errors.New("credentials: "+printable(err.Error(), 512))
	}
	return e
}

func isProcess(err error) bool {
	var p *processcreds.ProviderError
	return errors.As(err, &p)
}

// causeOf is an answer's error as a text. KMS's messages name keys and callers;
// the length is bounded because not everything that answers is KMS.
func causeOf(r *refusal) error {
	if r.code == "" {
		return errors.New("HTTP status " + strconv.Itoa(r.status) + " without an error of KMS")
	}
	s := printable(r.code, 64)
	if m := printable(r.message, 300); m != "" {
		s += ": " + m
	}
	return errors.New(s)
}

// transportCause is what went wrong on the way, without what wraps it: URLs and
// operations that the Error names already.
func transportCause(err error) error {
	for _, as := range []func() error{
		func() error { e, _ := errors.AsType[*net.OpError](err); return nonNil(e) },
		func() error { e, _ := errors.AsType[*tls.CertificateVerificationError](err); return nonNil(e) },
		func() error { e, _ := errors.AsType[*net.DNSError](err); return nonNil(e) },
	} {
		if e := as(); e != nil {
			return e
		}
	}
	return errors.New(printable(innermost(err).Error(), 300))
}

func nonNil[E interface {
	comparable
	error
}](e E) error {
	var none E
	if e == none {
		return nil
	}
	return e
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// hopeless reports faults of connections that the next one would have too: a
// certificate that is not trusted, a name that does not exist.
func hopeless(err error) bool {
	if d, ok := errors.AsType[*net.DNSError](err); ok && d.IsNotFound {
		return true
	}
	var (
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
	)
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") { // an alert of TLS
		return true
	}
	return errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid) || errors.As(err, &record)
}

// printable is s without control characters, cut to n bytes.
func printable(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
