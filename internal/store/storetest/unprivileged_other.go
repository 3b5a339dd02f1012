//go:build !unix

package storetest

import (
	"errors"
	"syscall"
)

func unprivileged(string) (*syscall.SysProcAttr, error) {
	return nil, errors.New("tests start no PostgreSQL of their own on this system: set " + postgresEnv)
}
