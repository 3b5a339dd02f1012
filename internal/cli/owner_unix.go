//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// checkOwner refuses to work in a folder of another user, as root may: the node
// could not use the files that would be made there. A folder that does not exist
// is nobody's.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil //nolint:nilerr // told by whoever needs it
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	name := "#" + strconv.Itoa(int(st.Uid))
	if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
		name = u.Username
	}
	return usageError{fmt.Errorf("%s belongs to user %s: run this as that user, such as by sudo -u '%s', or the node could not use the files that are made", dir, name, name)}
}
