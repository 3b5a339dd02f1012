package vault

import (
	"errors"
	"time"
)

// Errors that a caller branches on. Transports map each to a status; a test
// walks Errors so that none is forgotten.
var (
	ErrNotFound       = errors.New("not found")
	ErrConflict       = errors.New("reference is in use for other data")
	ErrLocked         = errors.New("tenant is locked by its custodians")
	ErrUnknownTenant  = errors.New("unknown tenant")
	ErrDenied         = errors.New("access denied")
	ErrCorrupt        = errors.New("stored data does not open")
	ErrKeyUnavailable = errors.New("key is unavailable")
	ErrKeyThrottled   = errors.New("key is used too often just now")
	ErrUnavailable    = errors.New("store is unavailable")
	ErrSuspended      = errors.New("tenant is suspended by its operator")
	ErrShredded       = errors.New("merchant or entity was shredded")
)

// Errors lists every sentinel of this package.
func Errors() []error {
	return []error{ErrNotFound, ErrConflict, ErrLocked, ErrUnknownTenant, ErrDenied, ErrCorrupt, ErrKeyUnavailable, ErrKeyThrottled, ErrUnavailable, ErrSuspended, ErrShredded}
}

// KeyError is an ErrKeyUnavailable or ErrKeyThrottled of which it is known why.
type KeyError struct {
	Result     string        // its code in the audit log: "key_denied", "key_unreachable" …
	RetryAfter time.Duration // when to try again; 0 if that is not known
	Err        error         // wraps one of the two
}

func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e *KeyError) Unwrap() error { return e.Err }

// AuditResult is how the audit log calls the error.
func (e *KeyError) AuditResult() string { return e.Result }

// ValidationError is a request that can never succeed as it is.
type ValidationError struct {
	Field  string // as the client named it
	Reason string // safe to show and to log
}

func (e *ValidationError) Error() string { return e.Field + ": " + e.Reason }

// ErrKeyFixed is what KeyChanger.Rewrap answers of a key whose material cannot be
// kept in another way, because it is in a KMS only. It is none of Errors: no client
// gets to see it.
var ErrKeyFixed = errors.New("key material cannot be moved")

// Refusal is an operator's request that cannot be done as things stand.
type Refusal struct {
	Result string // its code in the audit log: "rows_remain", "job_under_way" …
	Reason string // what stands in the way and what to do
}

func (e *Refusal) Error() string { return e.Reason }

// AuditResult is how the audit log calls the refusal.
func (e *Refusal) AuditResult() string { return e.Result }
