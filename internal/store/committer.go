package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"cardea/internal/audit"
)

const (
	// maxGroupBytes bounds the entries of one commit, far below what a segment may
	// hold, so that a commit stays short.
	maxGroupBytes = 4 << 20
	// maxTries is how often a group is tried while other transactions stand in its
	// way, and a unit while what stood in its way goes away again.
	maxTries = 5
	// maxYields is how often the committer lets others run before a commit that is
	// smaller than the last ones.
	maxYields = 10
)

// committer is the only goroutine that writes. It takes units from its queue and
// commits many at a time.
type committer struct {
	w      writer
	origin string
	log    *slog.Logger
	met    *metrics
	mono   func() time.Time // measures intervals
	max    int              // units in a group

	mu     sync.RWMutex // held to send on queue, exclusively to close it
	closed bool
	queue  chan *unit
	ended  chan struct{} // closed when the goroutine has returned
	fatal  chan error    // gets why nothing more will be written
	size   atomic.Int64  // of the log, as it is durable

	// The rest belongs to the goroutine.
	ctx      context.Context // the goroutine's own, without a deadline
	state    logState
	next     []*unit // taken, not yet answered
	reads    []*unit // taken, to be answered before the next commit
	units    []*unit // those of next that are being committed
	usual    int     // units in the largest of the last commits
	entries  []audit.Sealed
	extended func() (*addition, error) // c.extendByUnits
}

// submit queues u and waits for its outcome, which is the error and what u then
// says. The caller frees u only if answered is true.
func (c *committer) submit(ctx context.Context, u *unit) (answered bool, err error) {
	if err := c.send(ctx, u); err != nil {
		return true, err
	}
	select {
	case <-u.done:
		return true, u.err
	case <-ctx.Done():
		if u.state.CompareAndSwap(queued, abandoned) {
			return false, unavailable(context.Cause(ctx))
		}
		select {
		case <-u.done: // both at once
			return true, u.err
		default:
			return false, errUnknown(context.Cause(ctx))
		}
	}
}

// send waits for a place in the queue.
func (c *committer) send(ctx context.Context, u *unit) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return unavailable(ErrClosed)
	}
	select {
	case c.queue <- u:
		return nil
	default:
	}
	select {
	case c.queue <- u:
		return nil
	case <-ctx.Done():
		return unavailable(fmt.Errorf("queue for commits is full: %w", context.Cause(ctx)))
	}
}

// stop refuses new units, waits for those that were accepted and closes the
// connection.
func (c *committer) stop() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.ended
}

func (c *committer) loop() {
	defer close(c.ended)
	defer c.w.close()
	for c.collect() {
		c.step()
	}
}

// collect waits for a unit and takes what else is there. It answers reads at once
// and returns when there is something to commit, or false when all are answered
// and no more will come.
func (c *committer) collect() bool {
	for n := 0; ; n++ {
		if len(c.next) == 0 {
			u, ok := <-c.queue
			if !ok {
				return false
			}
			c.take(u)
		}
		more := c.drain()
		c.answerReads()
		if len(c.next) == 0 {
			continue
		}
		if !more || len(c.next) >= c.usual || n >= maxYields {
			return true
		}
		// Callers that the last commit or a read has woken may be about to queue
		// their next unit: to let them first makes one commit of what would be two.
		// Nobody is waited for, and a caller that is alone loses nothing.
		runtime.Gosched()
	}
}

// drain takes what is queued. It returns false if no more will come now.
func (c *committer) drain() bool {
	for len(c.next) < c.max {
		select {
		case u, ok := <-c.queue:
			if !ok {
				return false
			}
			c.take(u)
		default:
			return true
		}
	}
	return false
}

// take makes u the committer's, unless its caller has left.
func (c *committer) take(u *unit) {
	switch {
	case !u.state.CompareAndSwap(queued, taken):
	case u.kind == kindRead:
		c.reads = append(c.reads, u)
	default:
		c.next = append(c.next, u)
	}
}

// step answers the units in front that can go together. Those to be tried again
// stay in front.
func (c *committer) step() {
	if len(c.next) == 0 {
		return
	}
	n, again := 1, 0
	if c.next[0].kind >= kindClosure {
		c.single(c.next[0])
	} else {
		n = c.countGroup()
		again = c.group(c.next[:n])
	}
	c.usual = max(n, c.usual-c.usual/8-1)
	rest := copy(c.next[again:], c.next[n:])
	clear(c.next[again+rest:])
	c.next = c.next[:again+rest]
}

// countGroup is how many units in front make a group.
func (c *committer) countGroup() int {
	size, changes := 0, 0
	for n, u := range c.next {
		if u.kind == kindChange {
			changes++
		}
		if size += u.bytes(); n > 0 && (u.kind >= kindClosure || size > maxGroupBytes || changes > maxChanges) {
			return n
		}
	}
	return len(c.next)
}

// group commits units and answers them, but for those to try again, which it
// moves to the front and counts.
func (c *committer) group(us []*unit) (again int) {
	err := c.commit(us)
	if err != nil && len(us) > 1 {
		switch c.judge(err) {
		case faultUnit:
			// One of them is at fault. Halving finds it and spares the others.
			return c.parts(us, len(us)/2)
		case faultDeadlock:
			// A unit that is alone keeps no row from others while it waits for one: it
			// cannot be in another deadlock, each of which takes a second to be found.
			return c.parts(us, 1)
		}
	}
	for _, u := range us {
		if err != nil {
			u.err = err
		} else if u.again && u.err == nil {
			if u.tries++; u.tries < maxTries {
				us[again], again = u, again+1
				continue
			}
			u.err = unavailable(errors.New("what stands in the way comes and goes"))
		}
		u.done <- struct{}{}
	}
	return again
}

// parts is group of so many units at a time.
func (c *committer) parts(us []*unit, size int) (again int) {
	for n := 0; n < len(us); n += size {
		part := us[n:min(n+size, len(us))]
		again += copy(us[again:], part[:c.group(part)])
	}
	return again
}

// commit applies units in one transaction.
func (c *committer) commit(us []*unit) error {
	start := c.mono()
	c.units = us
	err := c.retry(len(us) > 1, func() error {
		for _, u := range us {
			u.outcome = outcome{tries: u.tries}
		}
		return c.w.group(c.ctx, c.state.head, us, c.extended)
	})
	c.units = nil
	clear(c.entries)
	c.met.committed(len(us), c.mono().Sub(start))
	return err
}

// extendByUnits adds the entries of the applied units to the log.
func (c *committer) extendByUnits() (*addition, error) {
	c.entries = c.entries[:0]
	for _, u := range c.units {
		if u.applied && u.err == nil {
			c.entries = append(c.entries, u.entries...)
		}
	}
	return c.state.extend(c.entries)
}

// single runs a unit that is alone in its transaction, or in none.
func (c *committer) single(u *unit) {
	if u.kind == kindOutside {
		if u.err = c.usable(); u.err == nil {
			u.err = u.outside(c.ctx, c.w)
		}
	} else {
		u.err = c.retry(false, func() error { return c.runClosure(u) })
	}
	u.done <- struct{}{}
}

func (c *committer) runClosure(u *unit) error {
	if err := c.w.begin(c.ctx); err != nil {
		return err
	}
	entries, err := c.call(u.run)
	if err != nil {
		return err
	}
	a, err := c.state.extend(entries)
	if err != nil {
		return err
	}
	if a != nil {
		if err := writeLog(c.ctx, c.w, c.state.head, a); err != nil {
			return err
		}
	}
	return c.w.commit(c.ctx)
}

func (c *committer) call(run closureFunc) (entries []audit.Sealed, err error) {
	defer func() {
		if r := recover(); r != nil { // it runs on this goroutine, which is not its to end
			err = callerError{fmt.Errorf("panic in a transaction: %v", r)}
		}
	}()
	return run(c.ctx, c.w, c.state.head)
}

// retry runs a transaction until it is no longer others that are in its way, and
// keeps the state in step with the database whatever happens. One that can be divided
// is not tried again after a deadlock.
func (c *committer) retry(divisible bool, transaction func() error) error {
	for n := 1; ; n++ {
		if err := c.usable(); err != nil {
			return err
		}
		c.state.grown = nil
		err := transaction()
		if err == nil {
			c.advance()
			return nil
		}
		switch fault := c.judge(err); fault {
		case faultUnit:
			c.undo()
			return err
		case faultRetry, faultDeadlock:
			c.undo()
			if divisible && fault == faultDeadlock {
				return err
			}
			if n == maxTries {
				return unavailable(err)
			}
		case faultLog:
			c.undo()
			return c.die(err)
		default:
			if again, err := c.settle(err); !again || n == maxTries {
				return err
			}
		}
	}
}

// advance makes what the last transaction has added to the log its state.
func (c *committer) advance() {
	c.state.advance()
	c.size.Store(c.state.head.size)
}

// undo ends a transaction that did not work out.
func (c *committer) undo() {
	if err := c.w.rollback(c.ctx); err != nil {
		c.lose(err)
	}
}

func (c *committer) judge(err error) fault {
	if errors.As(err, new(callerError)) {
		return faultUnit
	}
	if errors.Is(err, errHeadMoved) {
		return faultLog
	}
	return c.w.judge(err)
}

// closure runs fn alone in a transaction.
func (c *committer) closure(ctx context.Context, fn closureFunc) error {
	u := newUnit(kindClosure, audit.Sealed{})
	u.run = fn
	return c.alone(ctx, u)
}

// outside runs fn between two transactions.
func (c *committer) outside(ctx context.Context, fn func(context.Context, writer) error) error {
	u := newUnit(kindOutside, audit.Sealed{})
	u.outside = fn
	return c.alone(ctx, u)
}

func (c *committer) alone(ctx context.Context, u *unit) error {
	answered, err := c.submit(ctx, u)
	if answered {
		u.free()
	}
	if ce := (callerError{}); errors.As(err, &ce) {
		return ce.error
	}
	return err
}
