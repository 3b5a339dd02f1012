package approval

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Ledger remembers which requests were executed, in a folder: one file a request,
// with the request in it. Processes of one machine may share it.
type Ledger struct{ Dir string }

// ErrExecuted says that a request was executed already.
var ErrExecuted = errors.New("the request has been executed")

// done is the last line of a finished request's file.
const done = "\nfinished: "

// Begin marks a request as being executed. If it was begun before and not finished,
// resumed is true: whoever executes it goes on where it was. ErrExecuted if it was
// finished.
func (l Ledger) Begin(r *Request, signed []byte) (resumed bool, err error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return false, fmt.Errorf("ledger of approvals: %w", err)
	}
	path := l.path(r)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		text, err := os.ReadFile(path)
		if err != nil {
			return false, fmt.Errorf("ledger of approvals: %w", err)
		}
		if _, after, finished := strings.Cut(string(text), done); finished {
			return false, fmt.Errorf("%w: %s: ask for a new one", ErrExecuted, strings.TrimSpace(after))
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("ledger of approvals: %w", err)
	}
	_, err = f.Write(signed)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("ledger of approvals: %w", err)
	}
	return false, nil
}

// Finish marks a begun request as executed, with what came of it in one line.
func (l Ledger) Finish(r *Request, result string) error {
	f, err := os.OpenFile(l.path(r), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("ledger of approvals: %w", err)
	}
	_, err = f.WriteString(done + strings.Join(strings.Fields(result), " ") + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("ledger of approvals: %w", err)
	}
	return nil
}

func (l Ledger) path(r *Request) string { return filepath.Join(l.Dir, r.ID+".note") }
