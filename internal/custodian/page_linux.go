package custodian

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocPage returns n zero bytes (at most a memory page) outside the Go heap
// that are neither swapped nor part of a core dump, and what gives them back. If
// the limit of locked memory (RLIMIT_MEMLOCK) or the system does not allow it, the
// bytes are ordinary ones and locked is false.
func allocPage(n int) (mem []byte, locked bool, free func()) {
	m, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, n), false, func() {}
	}
	locked = unix.Mlock(m) == nil
	if unix.Madvise(m, unix.MADV_DONTDUMP) != nil {
		locked = false
	}
	// Unmapping also unlocks. It fails only for a slice that Mmap did not return.
	return m[:n:n], locked, func() { _ = unix.Munmap(m) }
}
