//go:build !unix

package store

import (
	"errors"
	"os"
)

// lockFile is not there on systems without flock: SQLite needs it to keep a second
// process of the same node away.
func lockFile(path string) (*os.File, bool, error) {
	return nil, false, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}
