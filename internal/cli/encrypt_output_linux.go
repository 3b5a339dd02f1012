package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// hiddenFile makes a file in dir that has no name until link gives it one, so that
// nothing of it stays if the process is killed.
func hiddenFile(dir string) (f *os.File, nameless bool, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return partFile(dir) // the file system cannot do that
	}
	f = os.NewFile(uintptr(fd), dir)
	if _, err := os.Stat(procName(f)); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return partFile(dir)
	}
	return f, true, nil
}

func procName(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// link names a file of hiddenFile.
func link(f *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, procName(f), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: "a new file", New: name, Err: err}
	}
	return nil
}

// keepOwner gives f the owner of the file that it replaces, where that is allowed.
func keepOwner(f *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
