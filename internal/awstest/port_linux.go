package awstest

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// port is one of 127.0.0.1 that is the caller's until the test ends. A socket stays
// bound to it that never listens: the kernel gives the port to nobody who asks for any,
// and still lets a server bind that names it and sets SO_REUSEADDR, as most do. Without
// that, whoever took the port before the server did would be taken for the server.
//
// Source: socket(7), SO_REUSEADDR.
func port(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Close(fd); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("bound to %T", name)
	}
	return strconv.Itoa(in.Port)
}
