package store

import (
	"context"
	"errors"

	"cardea/internal/audit"
)

// errElsewhere says that the writing connection cannot be read from now, others
// perhaps can.
var errElsewhere = errors.New("writing connection is not usable")

// view runs fn on the writing connection before the next commit. What fn reads is
// what the last commit has left.
func (c *committer) view(ctx context.Context, fn func(context.Context, session) error) error {
	u := newUnit(kindRead, audit.Sealed{})
	u.read = fn
	if err := c.send(ctx, u); err != nil {
		u.free()
		return err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		if u.state.CompareAndSwap(queued, abandoned) {
			return context.Cause(ctx)
		}
		<-u.done // fn is running or about to
	}
	err := u.err
	u.free()
	return err
}

// answerReads runs the reads that were taken, in one transaction if there are
// many: to begin and end one is half of what a read costs.
func (c *committer) answerReads() {
	if len(c.reads) == 0 {
		return
	}
	var err error
	if c.state.lost != nil {
		err = errElsewhere
	}
	together := err == nil && len(c.reads) > 1
	if together {
		_, err = c.w.exec(c.ctx, "BEGIN")
	}
	for _, u := range c.reads {
		if u.err = err; err == nil {
			u.err = u.read(c.ctx, c.w)
		}
	}
	if together && err == nil {
		if _, err := c.w.exec(c.ctx, "COMMIT"); err != nil {
			c.undo()
		}
	}
	for _, u := range c.reads {
		u.done <- struct{}{}
	}
	clear(c.reads)
	c.reads = c.reads[:0]
}
