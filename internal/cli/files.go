package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cardea/internal/disk"
)

// Small files: keys, registers, requests, components.

// maxNoteFile bounds the files that are read here, in bytes.
const maxNoteFile = 1 << 20

// readSmall reads a file of at most maxNoteFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxNoteFile+1))
	if err == nil && len(text) > maxNoteFile {
		err = fmt.Errorf("%s: longer than %d bytes", path, maxNoteFile)
	}
	return text, err
}

// writeNew writes a file that must not exist.
func writeNew(flag, path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// replaceFile replaces a file whole.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// readToReplace reads a small file that replaceFile will replace, and keeps others that
// would do the same from it until release: of two who sign it at once one would write
// over the signature of the other. Who is not first is told so. A folder that machines
// share by a network may not be guarded.
func readToReplace(path string) (text []byte, release func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	release = func() {
		disk.CloseLocked(f) //nolint:errcheck // only read from
	}
	held := disk.TryLockFile(f)
	mine, err := f.Stat()
	now, nerr := os.Stat(path)
	if err = errors.Join(err, nerr); err == nil && (errors.Is(held, disk.ErrHeld) || !os.SameFile(mine, now)) {
		err = fmt.Errorf("%s: somebody else is writing it at this moment: run this again", path)
	}
	if err == nil {
		text, err = readSmall(path)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return text, release, nil
}
