//go:build !unix

package disk

import (
	"errors"
	"os"
)

// take is not there on systems without flock: whoever needs a lock refuses to work
// without it.
func take(path string, _ bool) (*Lock, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}

func lock(f *os.File, _ bool) error {
	return &os.PathError{Op: "lock", Path: f.Name(), Err: errors.ErrUnsupported}
}

func unlock(*os.File) error { return nil }
