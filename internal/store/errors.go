package store

import (
	"errors"
	"fmt"

	"cardea/internal/vault"
)

// Errors that the one who opens a store branches on.
var (
	// ErrLogTaken says that another process writes the audit log of this node. At
	// Open it may go away when that process ends; later it is fatal, see Fatal.
	ErrLogTaken = errors.New("another process writes this audit log: node names must be unique")
	// ErrSchemaTooNew says that a newer release has migrated the database.
	ErrSchemaTooNew = errors.New("database is newer than this program")
	// ErrSchemaTooOld says that a read-only open found migrations that have not run.
	ErrSchemaTooOld = errors.New("database is older than this program")
	// ErrReadOnly says that the store was opened to read only.
	ErrReadOnly = errors.New("store is open to read only")
	// ErrClosed says that Close has been called.
	ErrClosed = errors.New("store is closed")
)

// errText is a unit's fault, not the database's.
var errText = errors.New("text has a NUL character or is not UTF-8")

// errHeadMoved says that the log's head is not what this process left.
var errHeadMoved = errors.New("head of the audit log has moved")

// errNotConnected is that of a connection that is broken or not there.
var errNotConnected = errors.New("not connected to the database")

// fault says whose an error is.
type fault int

const (
	faultDatabase fault = iota // the database cannot be used now, or the outcome is unknown
	faultUnit                  // one of the units asks for what the database refuses
	faultRetry                 // other transactions stood in the way
	faultDeadlock              // likewise, and this one stood in theirs
	faultLog                   // another process has moved the log
)

// unavailable marks err as one that the vault answers as such.
func unavailable(err error) error {
	if errors.Is(err, vault.ErrUnavailable) {
		return err
	}
	return &unavailableError{err}
}

// unavailableError says that the database could not be used. To the vault it is
// vault.ErrUnavailable; the key service gets its own in the place.
type unavailableError struct{ cause error }

func (e *unavailableError) Error() string {
	return vault.ErrUnavailable.Error() + ": " + e.cause.Error()
}

func (e *unavailableError) Unwrap() []error { return []error{vault.ErrUnavailable, e.cause} }

// errUnknown marks err where a commit may or may not have happened.
func errUnknown(err error) error {
	return unavailable(fmt.Errorf("outcome of the commit is unknown: %w", err))
}

// callerError is what a closure returned for reasons of its own.
type callerError struct{ error }

func (e callerError) Unwrap() error { return e.error }
