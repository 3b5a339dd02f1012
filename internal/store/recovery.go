package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cardea/internal/audit"
)

// retakeAfter is the least time between two tries to get the log back, so that
// calls fail at once while the database is down.
const retakeAfter = 100 * time.Millisecond

// logState is what the committer knows of its log and its database.
type logState struct {
	head  head
	tree  *audit.Tree // of head
	grown *audit.Tree // with what the running transaction adds, nil if that is nothing
	old   *audit.Tree // what tree was before, for its memory; may be nil
	body  []byte      // of the running transaction's segment, for its memory

	maybe   *audit.Tree // the tree if the commit of unknown outcome has happened
	lost    error       // why the database cannot be used; nil if it can
	lastTry time.Time   // to get it back
	dead    error       // why nothing more will ever be written
}

// extend computes what entries add to the log, nil for none.
func (s *logState) extend(entries []audit.Sealed) (a *addition, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	old := s.old
	s.old = nil
	if s.grown, a, err = add(s.tree, old, s.body, entries); err == nil {
		s.body = a.body
	}
	return a, err
}

func (s *logState) advance() {
	if s.grown != nil {
		s.tree, s.grown, s.old = s.grown, nil, s.tree
		s.head.size, s.head.root = s.tree.Size(), s.tree.Root()
	}
}

// start takes the log and starts the goroutine.
func (c *committer) start(ctx context.Context) error {
	if _, err := rand.Read(c.state.head.writer[:8]); err != nil {
		return err
	}
	err := c.w.open(ctx)
	if err == nil {
		err = c.seize(ctx, true)
	}
	if err == nil {
		c.state.tree, err = resume(ctx, c.w, c.state.head)
	}
	if err != nil {
		c.w.close()
		return fmt.Errorf("audit log %s: %w", c.origin, err)
	}
	c.size.Store(c.state.head.size)
	go c.loop()
	return nil
}

// seize makes a new writer id that of the log and reads its head.
func (c *committer) seize(ctx context.Context, fresh bool) error {
	id := &c.state.head.writer
	binary.BigEndian.PutUint64(id[8:], binary.BigEndian.Uint64(id[8:])+1)
	if err := c.w.begin(ctx); err != nil {
		return err
	}
	h, err := seize(ctx, c.w, c.origin, *id, fresh)
	if err == nil {
		err = c.w.commit(ctx)
	}
	if err != nil {
		return errors.Join(err, c.w.rollback(ctx))
	}
	s := &c.state
	switch {
	case fresh, h.size == s.head.size && h.root == s.head.root:
	case s.maybe != nil && h.size == s.maybe.Size() && h.root == s.maybe.Root():
		s.tree = s.maybe
		c.size.Store(h.size)
	default:
		return errHeadMoved
	}
	s.head, s.maybe = h, nil
	return nil
}

// lose notes that the database cannot be used.
func (c *committer) lose(err error) {
	if c.state.lost == nil {
		c.log.ErrorContext(c.ctx, "database is not usable; nothing is written until it is", slog.Any("error", err))
	}
	c.state.lost, c.state.lastTry = err, time.Time{}
}

// usable gets the log back if the database was lost. It returns nil if the log
// can be written.
func (c *committer) usable() error {
	s := &c.state
	switch {
	case s.dead != nil:
		return s.dead
	case s.lost == nil:
		return nil
	case c.mono().Sub(s.lastTry) < retakeAfter:
		return unavailable(s.lost)
	}
	err := c.retake()
	s.lastTry = c.mono()
	switch {
	case err == nil:
		s.lost = nil
		c.log.InfoContext(c.ctx, "database is usable again", slog.Int64("log_size", s.head.size))
		return nil
	case errors.Is(err, errHeadMoved):
		return c.die(err)
	default:
		s.lost = err
		return unavailable(err)
	}
}

// retake reconnects, and goes on where the log is what this process left.
func (c *committer) retake() error {
	err := c.w.open(c.ctx)
	if errors.Is(err, ErrLogTaken) {
		// By an earlier connection of this process that the server has not missed
		// yet, or by another process, which then is in the log.
		h, found, herr := selectHead(c.ctx, c.w, c.origin)
		if herr == nil && (!found || string(h.writer.process()) != string(c.state.head.writer.process())) {
			return errHeadMoved
		}
	}
	if err != nil {
		return err
	}
	return c.seize(c.ctx, false)
}

// settle finds out what became of a transaction that broke. Its error is nil if
// it was committed. If again, it was not, but can be tried again at once.
func (c *committer) settle(cause error) (again bool, err error) {
	s := &c.state
	if err := c.w.rollback(c.ctx); err == nil {
		// The connection has survived: its transaction is over, what it reads is final.
		h, found, err := selectHead(c.ctx, c.w, c.origin)
		switch {
		case err != nil:
		case found && h == s.head:
			c.lose(cause)
			return false, notWritten(cause)
		case found && s.grown != nil && h.size == s.grown.Size() && h.root == s.grown.Root() && h.writer == s.head.writer:
			c.advance()
			return false, nil
		default:
			return false, c.die(errHeadMoved)
		}
	}
	s.maybe = s.grown
	size := s.head.size
	c.lose(cause)
	switch err := c.usable(); {
	case s.dead != nil:
		return false, s.dead
	case err == nil && s.head.size != size:
		return false, nil
	case err == nil:
		return true, notWritten(cause)
	case s.maybe == nil:
		return false, notWritten(cause)
	default:
		return false, errUnknown(cause)
	}
}

func notWritten(cause error) error {
	return unavailable(fmt.Errorf("nothing was written: %w", cause))
}

// die ends all writing: the log is another process's now.
func (c *committer) die(cause error) error {
	s := &c.state
	if s.dead == nil {
		s.dead = unavailable(fmt.Errorf("audit log %s: %w (%w)", c.origin, ErrLogTaken, cause))
		c.log.ErrorContext(c.ctx, "nothing more is written", slog.Any("error", s.dead))
		c.fatal <- s.dead
	}
	return s.dead
}
