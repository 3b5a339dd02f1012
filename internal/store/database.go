package store

import (
	"context"

	"cardea/internal/vault"
)

// database is what differs between SQLite and PostgreSQL but for writing. All of
// it is safe for concurrent use.
type database interface {
	// view runs fn on a connection that reads. Each statement sees what is
	// committed when it starts.
	view(ctx context.Context, fn func(context.Context, session) error) error

	// The point reads on the way of each request. Pointers are nil where there is
	// no row.
	record(ctx context.Context, l vault.Lookup) (*vault.Record, error)
	recordAndHolder(ctx context.Context, l vault.Lookup) (*vault.Record, *vault.Holder, error)
	fingerprint(ctx context.Context, hash vault.MAC) (id string, found bool, err error)
	holder(ctx context.Context, tenant, name string) (*vault.Holder, error)
	// duplicate returns the record with one of the keyed hashes, the first that is
	// known.
	duplicate(ctx context.Context, hashes []vault.MAC) (*vault.Record, error)

	// writer returns the connection that writes, not yet open.
	writer() writer
	// upkeep runs until ctx ends.
	upkeep(ctx context.Context)
	close() error
}
