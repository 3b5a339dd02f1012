//go:build !linux

package cli

import (
	"errors"
	"io/fs"
	"os"
)

func hiddenFile(dir string) (f *os.File, nameless bool, err error) { return partFile(dir) }

func link(*os.File, string) error { return errors.ErrUnsupported }

func keepOwner(*os.File, fs.FileInfo) error { return nil }
