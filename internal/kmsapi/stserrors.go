package kmsapi

import (
	"errors"
	"net/http"

	"cardea/internal/identity"
	"cardea/internal/sigv4"
)

// Codes that only the wire knows, in AWS Query.
const (
	codeInternalFailure   identity.Code = "InternalFailure"
	codeInvalidAction     identity.Code = "InvalidAction"
	codeMalformedQuery    identity.Code = "MalformedQueryString"
	codeQueryIncomplete   identity.Code = "IncompleteSignature"
	codeQueryMissingToken identity.Code = "MissingAuthenticationToken"
	codeQueryTooLarge     identity.Code = "RequestEntityTooLarge"
	codeSignatureNoMatch  identity.Code = "SignatureDoesNotMatch"
	codeValidation                      = identity.CodeValidation
)

// queryStatuses is the table of the HTTP status of each error of STS, from its API
// reference.
var queryStatuses = map[identity.Code]int{
	identity.CodeAccessDenied:           http.StatusForbidden,
	identity.CodeConcurrentModification: http.StatusConflict,
	identity.CodeDeleteConflict:         http.StatusConflict,
	identity.CodeEntityAlreadyExists:    http.StatusConflict,
	identity.CodeExpiredToken:           http.StatusForbidden,
	identity.CodeInvalidClientTokenID:   http.StatusForbidden,
	identity.CodeLimitExceeded:          http.StatusConflict,
	identity.CodeMalformedPolicy:        http.StatusBadRequest,
	identity.CodeNoSuchEntity:           http.StatusNotFound,
	identity.CodePackedPolicyTooLarge:   http.StatusBadRequest,
	identity.CodeRegionDisabled:         http.StatusForbidden,
	identity.CodeServiceFailure:         http.StatusInternalServerError,
	identity.CodeServiceUnavailable:     http.StatusServiceUnavailable,
	identity.CodeValidation:             http.StatusBadRequest,
	codeInternalFailure:                 http.StatusInternalServerError,
	codeInvalidAction:                   http.StatusBadRequest,
	codeMalformedQuery:                  http.StatusBadRequest,
	codeQueryIncomplete:                 http.StatusForbidden,
	codeQueryMissingToken:               http.StatusForbidden,
	codeQueryTooLarge:                   http.StatusRequestEntityTooLarge,
	codeSignatureNoMatch:                http.StatusForbidden,
}

// querySignatureCodes are the names of the verifier's refusals.
var querySignatureCodes = map[sigv4.Code]identity.Code{
	sigv4.MissingToken:        codeQueryMissingToken,
	sigv4.IncompleteSignature: codeQueryIncomplete,
	sigv4.InvalidSignature:    codeSignatureNoMatch,
	sigv4.RequestExpired:      codeSignatureNoMatch, // by which SDKs correct their clock
	sigv4.UnrecognizedClient:  identity.CodeInvalidClientTokenID,
	sigv4.ExpiredToken:        identity.CodeExpiredToken,
	sigv4.AccessDenied:        identity.CodeAccessDenied,
}

// queryRefusal is a refusal of a request to STS.
type queryRefusal struct{ err *identity.Error }

func (r *queryRefusal) Error() string { return r.err.Error() }
func (r *queryRefusal) Unwrap() error { return r.err }

func refuseSTS(code identity.Code, message string) *queryRefusal {
	return &queryRefusal{&identity.Error{Code: code, Message: message}}
}

// refusedSTS is refused for STS.
func (a *API) refusedSTS(err error) *queryRefusal {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return refuseSTS(querySignatureCodes[e.Code], e.Message)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return refuseSTS(codeQueryTooLarge, a.textTooLarge())
	case errors.Is(err, errEndedEarly):
		return refuseSTS(codeMalformedQuery, textEndedEarly)
	case errors.Is(err, identity.ErrSecretUnavailable):
		return &queryRefusal{&identity.Error{Code: identity.CodeServiceUnavailable, Message: textSealed, Reason: err.Error()}}
	}
	return &queryRefusal{&identity.Error{Code: codeInternalFailure, Message: textInternal, Reason: err.Error()}}
}

// answerToSTS is answerTo for STS.
func answerToSTS(err error) (e *identity.Error, status int, known bool) {
	if e, ok := errors.AsType[*identity.Error](err); ok {
		if status, ok := queryStatuses[e.Code]; ok {
			return e, status, true
		}
	}
	return &identity.Error{Code: codeInternalFailure, Message: textInternal}, http.StatusInternalServerError, false
}
