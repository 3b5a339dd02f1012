package approval

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"cardea/internal/disk"
)

// Ledger remembers which requests were executed, in a folder that processes of one
// machine may share: of all that execute a request one does at a time, and once it has
// finished, none does again. Its records are in a file that only grows, each bound to
// the one before, and durable before it is acted on (docs/spec/approval.md).
//
// A Ledger is used by pointer, by one goroutine at a time.
type Ledger struct {
	Dir string
	Now func() time.Time // for the records; nil leaves their time out

	held map[string]*disk.Lock // of the requests that this one executes, by id
}

// Errors that a caller branches on.
var (
	ErrExecuted  = errors.New("the request has been executed")                       // ask anew
	ErrExecuting = errors.New("the request is being executed by another process")    // wait for it
	ErrLedger    = errors.New("the ledger of approvals is not as it was written")    // somebody must look
	errNotBegun  = errors.New("the request was not begun, so it cannot be finished") // a mistake of ours
)

// Begin marks a request as being executed, and keeps other processes from it until
// Finish, Close, or the end of this process. If it was begun before and not finished,
// resumed is true: whoever executes it goes on where it was. Errors: ErrExecuted,
// ErrExecuting, ErrLedger.
func (l *Ledger) Begin(r *Request, signed []byte) (resumed bool, err error) {
	if err := l.take(r.ID); err != nil {
		return false, fmt.Errorf("ledger of approvals: %w", err)
	}
	err = l.update(func(j *journal) error {
		begun, finished := j.find(r.ID)
		switch {
		case finished != nil:
			return fmt.Errorf("%w: %s: ask for a new one", ErrExecuted, finished.Result)
		case begun != nil:
			resumed = true
			return j.append(&Record{Event: EventResumed, Request: r.ID})
		}
		if !utf8.Valid(signed) {
			return ErrMalformed
		}
		return j.append(&Record{Event: EventBegun, Request: r.ID, Note: string(signed)})
	})
	if err != nil {
		return false, errors.Join(err, l.release(r.ID))
	}
	return resumed, nil
}

// Finish marks a begun request as executed, with what came of it in one line.
func (l *Ledger) Finish(r *Request, result string) error {
	if err := l.take(r.ID); err != nil {
		return fmt.Errorf("ledger of approvals: %w", err)
	}
	err := l.update(func(j *journal) error {
		begun, finished := j.find(r.ID)
		switch {
		case finished != nil:
			return fmt.Errorf("%w: %s", ErrExecuted, finished.Result)
		case begun == nil:
			return errNotBegun
		}
		return j.append(&Record{Event: EventFinished, Request: r.ID, Result: strings.Join(strings.Fields(strings.ToValidUTF8(result, "?")), " ")})
	})
	if err == nil { // whoever waits for the lock finds the record
		err = os.Remove(l.lockPath(r.ID))
	}
	return errors.Join(err, l.release(r.ID))
}

// Close lets others resume what was begun here and is not finished.
func (l *Ledger) Close() error {
	var all error
	for id := range l.held {
		all = errors.Join(all, l.release(id))
	}
	return all
}

// Records reads the ledger and verifies that each record follows from the one before.
// A ledger that is not there is empty. Errors: ErrLedger.
func (l *Ledger) Records() ([]Record, error) {
	if _, err := os.Stat(l.Dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all []Record
	return all, l.update(func(j *journal) error {
		all = j.records
		return nil
	})
}

// take takes the lock on a request, unless this ledger has it.
func (l *Ledger) take(id string) error {
	if l.held[id] != nil {
		return nil
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	lock, err := disk.TryLock(l.lockPath(id))
	if errors.Is(err, disk.ErrHeld) {
		return ErrExecuting
	}
	if err != nil {
		return err
	}
	if l.held == nil {
		l.held = map[string]*disk.Lock{}
	}
	l.held[id] = lock
	return nil
}

func (l *Ledger) release(id string) error {
	lock := l.held[id]
	delete(l.held, id)
	return lock.Release()
}

// update runs fn while no other process reads or writes the records.
func (l *Ledger) update(fn func(*journal) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ledger of approvals: %w", err)
		}
	}()
	lock, err := disk.WaitLock(filepath.Join(l.Dir, "ledger.lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	j, err := openJournal(filepath.Join(l.Dir, "ledger"), l.Now)
	if err != nil {
		return err
	}
	return errors.Join(fn(j), j.f.Close())
}

func (l *Ledger) lockPath(id string) string { return filepath.Join(l.Dir, id+".lock") }
