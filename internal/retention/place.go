package retention

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cardea/internal/disk"
)

// Place is where the files of an archive are: a Folder or a Bucket. One goroutine
// uses it at a time.
type Place interface {
	String() string
	// hold waits until no other process of this machine changes the archive, or removes
	// what it has from a log, and keeps others waiting until release. Those of other
	// machines save finds out.
	hold(ctx context.Context) (release func() error, err error)
	// scratch makes a file that is written to be kept under a name.
	scratch(name string) (*os.File, error)
	// open reads a file. The error is fs.ErrNotExist if it is not there.
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// keep takes a file that scratch made. It may be read under the name that is
	// returned; settle gives it its own, drop removes it.
	keep(ctx context.Context, path, name string) (temporary string, err error)
	settle(ctx context.Context, temporary, name string) error
	drop(ctx context.Context, temporary string) error
	// save replaces the manifest that open gave last. The error is errMoved if that is
	// not the one that is there.
	save(ctx context.Context, manifest []byte) error
}

// errMoved says that somebody else added to the archive.
var errMoved = errors.New("another process has added to the archive meanwhile: run it again")

// holdAgain is how long is waited until a lock is tried again.
const holdAgain = 50 * time.Millisecond

// folder is a folder of this machine.
type folder struct {
	dir string
	was []byte // the manifest
}

// Folder is an archive in a folder, which need not be there.
func Folder(dir string) Place { return &folder{dir: dir} }

func (f *folder) String() string { return f.dir }

func (f *folder) hold(ctx context.Context) (release func() error, err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	again := time.NewTicker(holdAgain)
	defer again.Stop()
	for {
		lock, err := disk.TryLock(filepath.Join(f.dir, ".lock"))
		if err == nil {
			return lock.Release, nil
		}
		if !errors.Is(err, disk.ErrHeld) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}

// scratch takes a file that a process left which was killed: there is one at a time.
func (f *folder) scratch(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(f.dir, "."+name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (f *folder) open(_ context.Context, name string) (io.ReadCloser, error) {
	if name != manifestName {
		return os.Open(filepath.Join(f.dir, name))
	}
	b, err := f.manifest()
	f.was = b
	return io.NopCloser(bytes.NewReader(b)), err
}

func (f *folder) manifest() ([]byte, error) {
	file, err := os.Open(filepath.Join(f.dir, manifestName))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	return b, errors.Join(err, file.Close())
}

func (f *folder) keep(_ context.Context, path, _ string) (string, error) {
	return filepath.Base(path), nil // it is where it belongs
}

func (f *folder) settle(_ context.Context, temporary, name string) error {
	return os.Rename(filepath.Join(f.dir, temporary), filepath.Join(f.dir, name))
}

func (f *folder) drop(_ context.Context, temporary string) error {
	return removeIfThere(filepath.Join(f.dir, temporary))
}

func (f *folder) save(_ context.Context, manifest []byte) error {
	there, err := f.manifest()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(there, f.was) {
		return errMoved
	}
	if err := disk.Replace(filepath.Join(f.dir, manifestName), manifest); err != nil {
		return err
	}
	f.was = manifest
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
