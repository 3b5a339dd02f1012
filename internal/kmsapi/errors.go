package kmsapi

import (
	"errors"
	"net/http"
	"strconv"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/sigv4"
)

// Codes that only the wire knows: a request with one of them never became an
// operation.
const (
	codeExpiredToken     kms.Code = "ExpiredTokenException"
	codeIncomplete       kms.Code = "IncompleteSignatureException"
	codeInvalidSignature kms.Code = "InvalidSignatureException"
	codeMissingToken     kms.Code = "MissingAuthenticationTokenException"
	codeSerialization    kms.Code = "SerializationException"
	codeTooLarge         kms.Code = "RequestEntityTooLargeException"
	codeUnknownClient    kms.Code = "UnrecognizedClientException"
	codeUnknownOperation kms.Code = "UnknownOperationException"
)

// statuses is the table of the HTTP status of each error. AWS's service model says
// 404, 409 and 412 for some, but what AWS sends is 400 for every fault of the
// client, and SDKs retry by status.
var statuses = map[kms.Code]int{
	// Modelled by the API.
	kms.CodeAlreadyExists:                          http.StatusBadRequest,
	"CloudHsmClusterInUseException":                http.StatusBadRequest,
	"CloudHsmClusterInvalidConfigurationException": http.StatusBadRequest,
	"CloudHsmClusterNotActiveException":            http.StatusBadRequest,
	"CloudHsmClusterNotFoundException":             http.StatusBadRequest,
	"CloudHsmClusterNotRelatedException":           http.StatusBadRequest,
	kms.CodeConflict:                               http.StatusBadRequest,
	"CustomKeyStoreHasCMKsException":               http.StatusBadRequest,
	"CustomKeyStoreInvalidStateException":          http.StatusBadRequest,
	"CustomKeyStoreNameInUseException":             http.StatusBadRequest,
	"CustomKeyStoreNotFoundException":              http.StatusBadRequest,
	kms.CodeDependencyTimeout:                      http.StatusServiceUnavailable,
	kms.CodeDisabled:                               http.StatusBadRequest,
	kms.CodeDryRun:                                 http.StatusBadRequest,
	kms.CodeExpiredImportToken:                     http.StatusBadRequest,
	"IncorrectTrustAnchorException":                http.StatusBadRequest,
	kms.CodeIncorrectKey:                           http.StatusBadRequest,
	kms.CodeIncorrectMaterial:                      http.StatusBadRequest,
	kms.CodeInternal:                               http.StatusInternalServerError,
	kms.CodeInvalidAliasName:                       http.StatusBadRequest,
	kms.CodeInvalidARN:                             http.StatusBadRequest,
	kms.CodeInvalidCiphertext:                      http.StatusBadRequest,
	kms.CodeInvalidGrantID:                         http.StatusBadRequest,
	kms.CodeInvalidGrantToken:                      http.StatusBadRequest,
	kms.CodeInvalidImportToken:                     http.StatusBadRequest,
	kms.CodeInvalidKeyUsage:                        http.StatusBadRequest,
	kms.CodeInvalidMAC:                             http.StatusBadRequest,
	kms.CodeInvalidMarker:                          http.StatusBadRequest,
	kms.CodeInvalidSignature:                       http.StatusBadRequest,
	kms.CodeInvalidState:                           http.StatusBadRequest,
	kms.CodeKeyUnavailable:                         http.StatusInternalServerError,
	kms.CodeLimitExceeded:                          http.StatusBadRequest,
	kms.CodeMalformedPolicy:                        http.StatusBadRequest,
	kms.CodeNotFound:                               http.StatusBadRequest,
	kms.CodeTag:                                    http.StatusBadRequest,
	kms.CodeUnsupported:                            http.StatusBadRequest,

	// Common to AWS's services.
	kms.CodeAccessDenied:  http.StatusBadRequest,
	kms.CodeValidation:    http.StatusBadRequest,
	"ThrottlingException": http.StatusBadRequest,
	codeExpiredToken:      http.StatusBadRequest,
	codeIncomplete:        http.StatusBadRequest,
	codeInvalidSignature:  http.StatusBadRequest,
	codeMissingToken:      http.StatusBadRequest,
	codeSerialization:     http.StatusBadRequest,
	codeTooLarge:          http.StatusRequestEntityTooLarge,
	codeUnknownClient:     http.StatusBadRequest,
	codeUnknownOperation:  http.StatusBadRequest,
}

// signatureCodes are the names of the verifier's refusals.
var signatureCodes = map[sigv4.Code]kms.Code{
	sigv4.MissingToken:        codeMissingToken,
	sigv4.IncompleteSignature: codeIncomplete,
	sigv4.InvalidSignature:    codeInvalidSignature,
	sigv4.RequestExpired:      codeInvalidSignature, // by which SDKs correct their clock
	sigv4.UnrecognizedClient:  codeUnknownClient,
	sigv4.ExpiredToken:        codeExpiredToken,
	sigv4.AccessDenied:        kms.CodeAccessDenied,
}

// Texts of failures inside, of which a client learns nothing else.
const (
	textInternal   = "The request failed inside the key service."
	textEndedEarly = "The request body ended early."
	textUnknown    = "The requested operation is not one of this service."
	textSealed     = "The key service is sealed: its root key has not been unsealed by the custodians."
)

// Errors of reading a request's body, which the two protocols name differently.
var (
	errTooLarge   = errors.New("request body too large")
	errEndedEarly = errors.New("request body ended early")
)

// refusal is a request that this package refuses before it becomes an operation.
// The audit log is told of it.
type refusal struct{ err *kms.Error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(code kms.Code, message string) *refusal {
	return &refusal{&kms.Error{Code: code, Message: message}}
}

// refused is the refusal of a request that could not be read or authenticated.
func (a *API) refused(err error) *refusal {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return refuse(signatureCodes[e.Code], e.Message)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return refuse(codeTooLarge, a.textTooLarge())
	case errors.Is(err, errEndedEarly):
		return refuse(codeSerialization, textEndedEarly)
	case errors.Is(err, identity.ErrSecretUnavailable):
		return &refusal{&kms.Error{Code: kms.CodeKeyUnavailable, Message: textSealed, Reason: err.Error()}}
	}
	return &refusal{&kms.Error{Code: kms.CodeInternal, Message: textInternal, Reason: err.Error()}}
}

func (a *API) textTooLarge() string {
	return "The request body is longer than " + strconv.FormatInt(a.bodyLimit, 10) + " bytes."
}

// answerTo is what a client is told about err. known is false for an error that is
// none of the API's.
func answerTo(err error) (e *kms.Error, status int, known bool) {
	if e, ok := errors.AsType[*kms.Error](err); ok {
		if status, ok := statuses[e.Code]; ok {
			return e, status, true
		}
	}
	return &kms.Error{Code: kms.CodeInternal, Message: textInternal}, http.StatusInternalServerError, false
}

// encodeError writes an error as AWS JSON has it. An empty message is left out, as
// AWS does for ciphertexts and signatures that do not verify.
func encodeError(b *buffer, e *kms.Error) {
	b.text(`{"__type":`)
	b.quote(string(e.Code))
	if e.Message != "" {
		b.text(`,"message":`)
		b.quote(e.Message)
	}
	b.text("}")
}
