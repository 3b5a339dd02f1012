// Package identity knows who may call the key service: accounts, users, roles and
// groups, their policies, access keys, temporary sessions and second factors.
//
// It promises that a secret access key is told once and stored only sealed, that
// a removed or disabled identity authenticates nobody from that moment on this
// node and within the jobs' interval on others, that repeated failures lock an
// access key out, and that every change has its audit entry in the same commit.
package identity

import (
	"context"
	"errors"
	"time"

	"cardea/internal/audit"
	"cardea/internal/secret"
)

// Errors of stores.
var (
	// ErrNoRow says that a store has no such row.
	ErrNoRow = errors.New("not stored")
	// ErrChanged says that a row has another version than the one to be replaced, or
	// that one stands where a new one was to be.
	ErrChanged = errors.New("changed by another request")
	// ErrForgotten says that changes asked for are no longer known: whoever has
	// cached anything must forget all of it.
	ErrForgotten = errors.New("changes are no longer known")
)

// Kind is what a row is about.
type Kind string

// Row is an identity as a store keeps it: this package alone knows what Body holds.
type Row struct {
	Kind      Kind
	Account   string // 12 digits; empty for rows that are found without, such as access keys
	Name      string // unique in Kind and Account
	Version   int64  // 0 for a new row, else what Tx.Put compares
	Body      []byte // at most 256 KiB
	ExpiresAt time.Time
}

// Reader reads rows; one that is not there is ErrNoRow. List is ordered by the
// bytes of names and holds up to limit rows after the one named.
type Reader interface {
	Get(ctx context.Context, kind Kind, account, name string) (*Row, error)
	List(ctx context.Context, kind Kind, account, after string, limit int) ([]Row, error)
}

// Store keeps identities beside the audit log of the key service. It is safe for
// concurrent use and reads its own node's writes.
type Store interface {
	Reader
	// Append makes audit entries durable, with nothing else.
	Append(ctx context.Context, entries ...audit.Sealed) error
	// Update runs fn in a transaction, as kms.Store's does: what fn writes is durable
	// with the entries it appends when Update returns nil, and not there otherwise.
	// fn may run more than once, must not call the Store but by the Tx, and must
	// append at least one entry.
	Update(ctx context.Context, fn func(Tx) error) error
	// Changes tells which rows were changed, by any node, after the change with the
	// number given, and the number of the last. A list cut at its limit goes on from
	// there. With a negative number it only tells the last. If some are no longer
	// known the error is ErrForgotten, and the number the last.
	Changes(ctx context.Context, after int64) (changed []Name, last int64, err error)
	// DeleteExpired removes up to limit rows whose ExpiresAt is set and at or before
	// the time. It is not audited: nothing can be done with them any more.
	DeleteExpired(ctx context.Context, at time.Time, limit int) (int, error)
}

// Name is what names a row.
type Name struct {
	Kind          Kind
	Account, Name string
}

// Tx is a transaction. A write that finds another row than expected is ErrChanged.
type Tx interface {
	Reader
	// Put inserts a row of Version 0, or replaces the row of the same version. It
	// does not change r; the row stored has the next version.
	Put(ctx context.Context, r *Row) error
	Delete(ctx context.Context, kind Kind, account, name string) error
	Append(e audit.Sealed)
}

// Secrets seals what must not be stored in clear, bound to the label. Its errors
// say that the root key is sealed, or that what was stored does not open.
type Secrets interface {
	SealSecret(ctx context.Context, label string, plaintext secret.Bytes) ([]byte, error)
	OpenSecret(ctx context.Context, label string, sealed []byte) (secret.Bytes, error)
}
