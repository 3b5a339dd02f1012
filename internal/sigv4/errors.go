package sigv4

import (
	"strconv"
	"strings"
	"time"
)

// Code says why a request was refused. Transports map it to the names on the
// wire, which differ between AWS's JSON and Query protocols.
type Code string

// The codes, with their wire names in AWS JSON and in AWS Query.
const (
	// MissingToken: nothing is signed. MissingAuthenticationTokenException,
	// MissingAuthenticationToken.
	MissingToken Code = "MissingAuthenticationToken"

	// IncompleteSignature: not a well-formed Signature Version 4.
	// IncompleteSignatureException, IncompleteSignature.
	IncompleteSignature Code = "IncompleteSignature"

	// InvalidSignature: well-formed, but wrong, for another scope, or not over
	// everything that it must cover. InvalidSignatureException, SignatureDoesNotMatch.
	InvalidSignature Code = "InvalidSignature"

	// RequestExpired: signed too long ago or in the future. In JSON
	// InvalidSignatureException too, in Query SignatureDoesNotMatch or RequestExpired.
	RequestExpired Code = "RequestExpired"

	// UnrecognizedClient: no such access key, or not with this session token.
	// UnrecognizedClientException, InvalidClientTokenId.
	UnrecognizedClient Code = "UnrecognizedClient"

	// ExpiredToken: the temporary credentials have ended; said only to who could
	// sign with them. ExpiredTokenException, ExpiredToken.
	ExpiredToken Code = "ExpiredToken"

	// AccessDenied: a way to sign that is switched off here.
	// AccessDeniedException, AccessDenied.
	AccessDenied Code = "AccessDenied"
)

// Error is a refusal. Message is for the client, AWS's own text where AWS has
// one. It holds nothing secret: no secret key, token, signature or body hash, of
// the request neither.
type Error struct {
	Code    Code
	Message string

	// AccessKeyID is the one that the request claimed, if it could be read. It is
	// for the audit log and for counting failures: nothing proves it.
	AccessKeyID string

	// Mismatch says that the signature itself did not verify, as with a wrong secret.
	// Other refusals are no attempts to guess one.
	Mismatch bool
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func refuse(c Code, message ...string) error {
	return &Error{Code: c, Message: strings.Join(message, "")}
}

const (
	textMissing  = "Missing Authentication Token"
	textUnknown  = "The security token included in the request is invalid."
	textExpired  = "The security token included in the request is expired"
	textMismatch = "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)

// mismatch is AWS's text and what was verified, so that one can see a host that a
// proxy has changed or a header that it has dropped.
func mismatch(host string, c claim) error {
	return &Error{
		Code: InvalidSignature, Mismatch: true,
		Message: textMismatch + " (Verified for host " + strconv.Quote(host) + ", signed headers '" + c.signedHeaders + "', scope '" + c.scope + "'.)",
	}
}

// tooOld and tooNew are AWS's texts; some clients read the server's time there.
func tooOld(c claim, now time.Time, skew time.Duration) error {
	return refuse(RequestExpired, "Signature expired: ", c.timestamp, " is now earlier than ", timestamp(now.Add(-skew)),
		" (", timestamp(now), " - ", minutes(skew), ".)")
}

func tooNew(c claim, now time.Time, skew time.Duration) error {
	return refuse(RequestExpired, "Signature not yet current: ", c.timestamp, " is still later than ", timestamp(now.Add(skew)),
		" (", timestamp(now), " + ", minutes(skew), ".)")
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return d.String()
}
