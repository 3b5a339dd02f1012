// Package disk is what processes of one machine need that share files: a lock that ends
// with the process that took it, however that ends, and files and names that outlive a
// loss of power.
//
// It promises that of all processes one at a time has a lock, also of several that use
// one path in one process. Locks are of the machine (flock): a folder that machines share
// by a network is not guarded.
package disk

import (
	"errors"
	"os"
	"path/filepath"
)

// ErrHeld says that another has the lock.
var ErrHeld = errors.New("another process has the lock")

// Lock is a lock that was taken, on a file that stays.
type Lock struct{ f *os.File }

// TryLock takes the lock on a file, which it makes if need be, or returns ErrHeld.
func TryLock(path string) (*Lock, error) { return take(path, false) }

// WaitLock takes the lock on a file, which it makes if need be, and waits for it.
func WaitLock(path string) (*Lock, error) { return take(path, true) }

// TryLockFile takes the lock on a file that is open, or returns ErrHeld.
func TryLockFile(f *os.File) error { return lock(f, false) }

// CloseLocked closes a file and gives the lock on it up, if it was taken, also where a
// process that is just being started still has a copy of the file.
func CloseLocked(f *os.File) error { return errors.Join(unlock(f), f.Close()) }

// Release gives the lock up.
func (l *Lock) Release() error { return CloseLocked(l.f) }

// Replace makes a file that only its owner may read, or puts it in the place of the one
// of that name: whenever the process or the power ends, it is the old one or the new one,
// and the new one once Replace has returned. The folder must exist.
func Replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
