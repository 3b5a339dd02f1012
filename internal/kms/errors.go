package kms

import "errors"

// Error is a refusal or failure that the API has a name for. Code is the wire
// name, Message AWS's text where one is known. Neither holds a secret.
type Error struct {
	Code    Code
	Message string
	// Reason is for the audit log and its readers only, such as the statement that
	// decided or the cause inside; the client never sees it.
	Reason string
	cause  error
}

// Code is the type of an error on the wire.
type Code string

// The codes that the service itself branches on or makes in many places; others
// are made where they belong. The transport's table has the HTTP status of each.
const (
	CodeAccessDenied       Code = "AccessDeniedException"
	CodeAlreadyExists      Code = "AlreadyExistsException"
	CodeConflict           Code = "ConflictException"
	CodeDependencyTimeout  Code = "DependencyTimeoutException"
	CodeDisabled           Code = "DisabledException"
	CodeDryRun             Code = "DryRunOperationException"
	CodeExpiredImportToken Code = "ExpiredImportTokenException"
	CodeIncorrectKey       Code = "IncorrectKeyException"
	CodeIncorrectMaterial  Code = "IncorrectKeyMaterialException"
	CodeInternal           Code = "KMSInternalException"
	CodeInvalidAliasName   Code = "InvalidAliasNameException"
	CodeInvalidARN         Code = "InvalidArnException"
	CodeInvalidCiphertext  Code = "InvalidCiphertextException"
	CodeInvalidGrantID     Code = "InvalidGrantIdException"
	CodeInvalidGrantToken  Code = "InvalidGrantTokenException"
	CodeInvalidImportToken Code = "InvalidImportTokenException"
	CodeInvalidKeyUsage    Code = "InvalidKeyUsageException"
	CodeInvalidMAC         Code = "KMSInvalidMacException"
	CodeInvalidMarker      Code = "InvalidMarkerException"
	CodeInvalidSignature   Code = "KMSInvalidSignatureException"
	CodeInvalidState       Code = "KMSInvalidStateException"
	CodeKeyUnavailable     Code = "KeyUnavailableException"
	CodeLimitExceeded      Code = "LimitExceededException"
	CodeMalformedPolicy    Code = "MalformedPolicyDocumentException"
	CodeNotFound           Code = "NotFoundException"
	CodeTag                Code = "TagException"
	CodeThrottling         Code = "ThrottlingException"
	CodeUnsupported        Code = "UnsupportedOperationException"
	CodeValidation         Code = "ValidationException"
)

func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Message
}

// Unwrap is the cause inside, which the client does not see.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// broken is a failure of what the service depends on.
func broken(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Reason: cause.Error(), cause: cause}
}

// Errors of stores and backends.
var (
	// ErrNoRow says that a store has no such row.
	ErrNoRow = errors.New("not stored")
	// ErrChanged says that a row has another version than the one to be replaced,
	// or that one stands where a new one was to be.
	ErrChanged = errors.New("changed by another request")
	// ErrUnavailable says that the database cannot be reached or written.
	ErrUnavailable = errors.New("database unavailable")
	// ErrForgotten says that a store no longer knows all the changes it was asked
	// for: caches must be emptied.
	ErrForgotten = errors.New("changes are no longer known")
	// ErrSealed says that a backend's root key has not been unsealed, or that its
	// device is not connected.
	ErrSealed = errors.New("root key is sealed")
	// ErrDeviceLost is ErrSealed of a backend whose device cannot be reached now.
	ErrDeviceLost error = deviceLost{}
	// ErrNotOurs says that ciphertext or a handle does not open.
	ErrNotOurs = errors.New("does not open")
)

type deviceLost struct{}

func (deviceLost) Error() string { return "device cannot be reached" }
func (deviceLost) Unwrap() error { return ErrSealed }
