package vault

import "errors"

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
	ErrUnavailable    = errors.New("store is unavailable")
)

// Errors lists every sentinel of this package.
func Errors() []error {
	return []error{ErrNotFound, ErrConflict, ErrLocked, ErrUnknownTenant, ErrDenied, ErrCorrupt, ErrKeyUnavailable, ErrUnavailable}
}

// ValidationError is a request that can never succeed as it is.
type ValidationError struct {
	Field  string // as the client named it
	Reason string // safe to show and to log
}

func (e *ValidationError) Error() string { return e.Field + ": " + e.Reason }
