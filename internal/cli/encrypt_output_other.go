//go:build !linux

package cli

import (
	"errors"
	"os"
)

func hiddenFile(dir string) (f *os.File, nameless bool, err error) { return partFile(dir) }

func link(*os.File, string) error { return errors.ErrUnsupported }
