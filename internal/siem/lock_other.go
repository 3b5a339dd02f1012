//go:build !unix

package siem

import (
	"errors"
	"os"
)

// lockFile is not there on systems without flock: two processes that deliver at a
// time would undo each other's cursors.
func lockFile(path string, _ bool) (*os.File, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}

func unlock(f *os.File) error { return f.Close() }
