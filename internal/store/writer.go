package store

import "context"

// writer is the connection that writes: what differs between the databases when
// they do. Only the committer's goroutine uses it.
type writer interface {
	session
	// open connects, dropping an earlier connection, and sees to it that of all
	// processes that ask for the same log one gets this far. With ErrLogTaken
	// the connection can only read.
	open(ctx context.Context) error
	begin(ctx context.Context) error
	commit(ctx context.Context) error
	// rollback ends a transaction that may be open. If it returns nil, none of this
	// connection is.
	rollback(ctx context.Context) error
	// group applies the units and adds what extend then returns to the log that
	// has the head h, in one transaction, begin and commit included. extend
	// returns nil if there is nothing to add; then nothing is changed. A unit that
	// alone is at fault may get an error instead of the group.
	group(ctx context.Context, h head, us []*unit, extend func() (*addition, error)) error
	// judge tells whose an error is.
	judge(err error) fault
	close()
}
