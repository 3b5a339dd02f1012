//go:build unix

package siem

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock on a file, which it makes if need be and which stays; it
// waits for it if wait is set. The lock ends with the process, however that ends.
// f is nil if another process has it.
func lockFile(path string, wait bool) (f *os.File, err error) {
	f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close() //nolint:errcheck // nothing was written
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil //nolint:nilnil // no lock and no error
	}
	return nil, &os.PathError{Op: "lock", Path: path, Err: err}
}

// unlock gives the lock up, also where a process that is just being started still
// has a copy of the file.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
