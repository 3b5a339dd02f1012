//go:build !linux

package siem

import "net"

// unacknowledged cannot be known here.
func unacknowledged(net.Conn) (int, error) { return 0, nil }
