package adminapi

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel whose process is at the other end.
func peerOf(c net.Conn) peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: fmt.Errorf("not a Unix socket but %T", c)}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return peer{err: err}
	}
	if credErr != nil {
		return peer{err: credErr}
	}
	if uid := int(cred.Uid); uid != 0 && uid != os.Geteuid() {
		return peer{err: fmt.Errorf("user %d", uid)}
	}
	name := "uid-" + strconv.FormatUint(uint64(cred.Uid), 10)
	if who, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10)); err == nil {
		name = who.Username
	}
	return peer{name: name}
}
