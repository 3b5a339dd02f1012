package lockerapi

import (
	"errors"
	"net/http"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/vault"
)

// answer is how an error looks on the wire: {"code","message","data":null}.
type answer struct {
	status        int
	code, message string
}

// The answers of the contract. Their texts are the peer's, spelling included.
var (
	answerNoTenant       = answer{http.StatusBadRequest, "TE_03", "Tenant error: x-tenant-id not found in headers"}
	answerNoTenantCustod = answer{http.StatusBadRequest, "TE_03", "Tenant error: x-tenant-id not found in header"}
	answerBadTenant      = answer{http.StatusBadRequest, "TE_03", "Tenant error: Invalid x-tenant-id"}
	answerLocked         = answer{http.StatusUnauthorized, "TE_00", "Custodian is locked"}
	answerUnlocked       = answer{http.StatusBadRequest, "TE_03", "Custodian is already unlocked"}
	answerHalvesMissing  = answer{http.StatusUnauthorized, "TE_00", "Failed while decrypting two custodian keys: Both the custodain keys are not present to decrypt"}
	answerHalvesWrong    = answer{http.StatusUnauthorized, "TE_00", "Failed while decrypting two custodian keys: AES decryption failed"}
	answerEnvelope       = answer{http.StatusBadRequest, "TE_03", "failed in request middleware: Failed while encrypting/decrypting"}
	answerNotJWS         = answer{http.StatusBadRequest, "TE_03", "Failed while decoding data"}
	answerSealing        = answer{http.StatusInternalServerError, "TE_00", "failed in response middleware: Failed while encrypting response"}
	answerTTL            = answer{http.StatusBadRequest, "TE_03", "TTL is invalid"}
	answerNotFound       = answer{http.StatusNotFound, "TE_02", "Requested resource not found"}
	answerKey            = answer{http.StatusInternalServerError, "TE_00", "Error while encrypting with merchant key"}
	answerStore          = answer{http.StatusInternalServerError, "TE_01", "Failed while connecting to database"}
	answerStored         = answer{http.StatusInternalServerError, "TE_01", "failed while retrieving stored data"}
	answerUnknown        = answer{http.StatusInternalServerError, "TE_00", "Something went wrong"}
)

// Answers that the peer does not have.
var (
	answerDenied      = answer{http.StatusForbidden, "TE_00", "Access denied"}
	answerPlain       = answer{http.StatusForbidden, "TE_00", "Access denied: plain requests are answered on loopback or over mutual TLS only"}
	answerCertificate = answer{http.StatusForbidden, "TE_00", "Access denied: no client certificate of this tenant"}
	answerClear       = answer{http.StatusForbidden, "TE_00", "Access denied: custodians are heard on loopback or over TLS only"}
	answerThrottled   = answer{http.StatusServiceUnavailable, "TE_00", "Key service is busy, try again later"}
	answerSuspended   = answer{http.StatusForbidden, "TE_00", "Tenant is suspended"}
	answerShredded    = answer{http.StatusGone, "TE_02", "Merchant or entity was shredded"}
	answerConflict    = answer{http.StatusConflict, "TE_03", "requestor_card_reference is in use for other data"}
	answerToken       = answer{http.StatusUnauthorized, "TE_00", "Custodian is not authenticated"}
	answerTooMany     = answer{http.StatusTooManyRequests, "TE_00", "Too many attempts"}
	answerPart        = invalid("the part is not one of this tenant's")
	answerRate        = answer{http.StatusTooManyRequests, "TE_00", "Rate Limit Applied"}
)

// invalid is a request that the contract refuses with 400 TE_03.
func invalid(reason string) answer {
	return answer{http.StatusBadRequest, "TE_03", "Failed while validation: " + reason}
}

// known is the table from errors to answers, in the order in which it is asked:
// an operation whose entry could not be written has failed, whatever else it did.
var known = []struct {
	err    error
	answer answer
}{
	{vault.ErrUnavailable, answerStore},
	{vault.ErrDenied, answerDenied},
	{vault.ErrUnknownTenant, answerBadTenant},
	{vault.ErrSuspended, answerSuspended},
	{vault.ErrShredded, answerShredded},
	{vault.ErrLocked, answerLocked},
	{vault.ErrConflict, answerConflict},
	{vault.ErrCorrupt, answerStored},
	{vault.ErrKeyThrottled, answerThrottled},
	{vault.ErrKeyUnavailable, answerKey},
	{vault.ErrNotFound, answerNotFound},

	{custodian.ErrUnlocked, answerUnlocked},
	{custodian.ErrUnknownTenant, answerBadTenant},
	{custodian.ErrNotEnough, answerHalvesMissing},
	{custodian.ErrDoesNotOpen, answerHalvesWrong},
	{custodian.ErrLocked, answerLocked},
	{custodian.ErrCorruptSeal, answerStored},
	{custodian.ErrTokenSeal, answerStored}, // a key in the wrong hands for how the node is configured
	{custodian.ErrCustodianSeal, answerStored},
	{custodian.ErrSameCustodian, answer{http.StatusConflict, "TE_03", "A custodian may give only one part"}},
	{custodian.ErrPartTaken, answer{http.StatusConflict, "TE_03", "Another custodian has given this part"}},
	{custodian.ErrMalformed, answerPart}, // with a *custodian.PartError: see answerOf
	{custodian.ErrWrongPart, answerPart},
	{custodian.ErrMalformedToken, answerToken},
	{custodian.ErrBadToken, answerToken},
	{custodian.ErrExpired, answerToken},
}

// answerOf is the answer to an error. expected is false for an error that the
// table does not know.
func answerOf(err error) (a answer, expected bool) {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.answer, true
	}
	if !errors.Is(err, vault.ErrUnavailable) { // which comes joined with what failed before
		if v, ok := errors.AsType[*vault.ValidationError](err); ok {
			return validationAnswer(v), true
		}
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			a := k.answer
			if p, ok := errors.AsType[*custodian.PartError](err); ok && a == answerPart {
				a = invalid(p.Error()) // names the part, never quotes it
			}
			return a, true
		}
	}
	if _, ok := errors.AsType[*custodian.RateLimitedError](err); ok {
		return answerTooMany, true
	}
	if _, ok := errors.AsType[*custodian.LockedOutError](err); ok {
		return answerTooMany, true
	}
	return answerUnknown, false
}

// retryAfter is when a request that failed with err may be tried again; 0 if that
// is not known.
func retryAfter(err error) time.Duration {
	if k, ok := errors.AsType[*vault.KeyError](err); ok && k.RetryAfter > 0 {
		return k.RetryAfter
	}
	if errors.Is(err, vault.ErrKeyThrottled) {
		return time.Second
	}
	return 0
}

// validationAnswer words a refused field as the contract does: most messages
// name the field, those of the card number and of ttl do not.
func validationAnswer(v *vault.ValidationError) answer {
	switch v.Field {
	case "ttl":
		return answerTTL
	case "card_number":
		return invalid(v.Reason)
	}
	return invalid(v.Field + " " + v.Reason)
}

// fault is a request that this package refuses before or instead of asking the
// vault. It is what the audit log is told as the cause.
type fault struct {
	answer
	detail     string        // for the audit log only; holds nothing of the request's body
	result     string        // its code in the audit log; empty: what the vault makes of cause
	cause      error         // vault.ErrDenied if who asked is the reason
	plainText  bool          // the answer is the bare message, as the peer's rate limiter gives it
	retryAfter time.Duration // above 0: in the header Retry-After, rounded up to seconds
	challenge  bool          // with WWW-Authenticate: Bearer
}

func (f *fault) Error() string {
	if f.detail == "" {
		return f.message
	}
	return f.message + ": " + f.detail
}

func (f *fault) Unwrap() error { return f.cause }

// AuditResult is how the audit log calls the refusal.
func (f *fault) AuditResult() string { return f.result }

// code is the refusal's in a count of many.
func (f *fault) code() string {
	switch {
	case f.result != "":
		return f.result
	case errors.Is(f.cause, vault.ErrUnknownTenant):
		return "unknown_tenant"
	case errors.Is(f.cause, vault.ErrLocked):
		return "locked"
	case errors.Is(f.cause, vault.ErrDenied):
		return "denied"
	}
	return "refused"
}

// refuse is a fault for a request that is not acceptable in itself.
func refuse(a answer) *fault { return &fault{answer: a, result: "invalid"} }

// deny is a fault for a request that is not acceptable from its sender.
func deny(a answer, detail string) *fault {
	return &fault{answer: a, detail: detail, cause: vault.ErrDenied}
}

// The body errors of the peer's web framework, in the JSON envelope. The peer's
// code for a request that is at fault is TE_03.

func jsonFault(reason string) *fault {
	return refuse(answer{http.StatusBadRequest, "TE_03", "Failed to parse the request body as JSON: " + reason})
}

func bodyFault(reason string) *fault {
	return refuse(answer{http.StatusUnprocessableEntity, "TE_03", "Failed to deserialize the JSON body into the target type: " + reason})
}

func contentTypeFault() *fault {
	return refuse(answer{http.StatusUnsupportedMediaType, "TE_03", "Expected request with `Content-Type: application/json`"})
}

func tooLongFault() *fault {
	return refuse(answer{http.StatusRequestEntityTooLarge, "TE_03", "Failed to buffer the request body: length limit exceeded"})
}

func readFault() *fault {
	return refuse(answer{http.StatusBadRequest, "TE_03", "Failed to buffer the request body: the body ended early"})
}

func queryFault(reason string) *fault {
	return refuse(answer{http.StatusBadRequest, "TE_03", "Failed to deserialize query string: " + reason})
}

func idFault(name string) *fault { return refuse(invalid(name + " is longer than 255 characters")) }
