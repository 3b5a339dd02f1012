package siem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/disk"
)

// FileOptions are what NewFile needs.
type FileOptions struct {
	Path     string
	Encoder  *Encoder
	MaxBytes int64         // a new file is begun before one grows over it; default 64 MiB
	MaxAge   time.Duration // and when it is this old; default 24 h
	Keep     int           // older files that stay; default 14
	NoSync   bool          // leaves it to the system when lines reach the disk
	Now      func() time.Time
}

// fileMode lets an agent's group read: lines hold no cardholder data.
const fileMode = 0o640

// File appends a line an event to a file that an agent reads. A process that is
// killed leaves no part of a line: the next one cuts it off, and writes it again. Of
// several that are to write to one file one does at a time, the others fail.
type File struct {
	o     FileOptions
	f     *os.File
	size  int64
	began time.Time
}

// NewFile returns the sink; the file is made at the first batch.
func NewFile(o FileOptions) *File {
	o.MaxBytes, o.MaxAge, o.Keep = or(o.MaxBytes, 64<<20), or(o.MaxAge, 24*time.Hour), or(o.Keep, 14)
	return &File{o: o}
}

// Send implements Sink.
func (s *File) Send(_ context.Context, b Batch) (int, error) {
	var text []byte
	var err error
	for i, ev := range b.Events {
		if text, err = s.o.Encoder.Append(text, ev); err != nil {
			if i == 0 {
				return 0, &RejectedError{err.Error()}
			}
			b.Events = b.Events[:i] // those before it first
			break
		}
		text = append(text, '\n')
	}
	if err := s.ready(int64(len(text))); err != nil {
		return 0, err
	}
	if _, werr := s.f.Write(text); werr != nil {
		// The disk is full, it may be: no part of the batch stays.
		return 0, errors.Join(werr, s.f.Truncate(s.size), s.Close())
	}
	if !s.o.NoSync {
		if err := s.f.Sync(); err != nil {
			return 0, errors.Join(err, s.Close())
		}
	}
	s.size += int64(len(text))
	if err != nil {
		return len(b.Events), &RejectedError{err.Error()}
	}
	return len(b.Events), nil
}

// ready opens the file, or a new one if it is time.
func (s *File) ready(more int64) error {
	if s.f != nil && !s.named(s.f) {
		if err := s.Close(); err != nil {
			return err
		}
	}
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.size > 0 && (s.size+more > s.o.MaxBytes || s.o.Now().Sub(s.began) >= s.o.MaxAge) {
		if err := s.rotate(); err != nil {
			return err
		}
		return s.open()
	}
	return nil
}

// Why a file is not written to.
var (
	errWritten = errors.New("another delivery, or another process, writes to this file: each needs a file of its own")
	errRotated = errors.New("it was just moved away")
)

// named reports whether a file still has the name: nobody else has moved it away.
func (s *File) named(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(s.o.Path)
	return err == nil && os.SameFile(mine, there)
}

func (s *File) open() (err error) {
	f, err := os.OpenFile(s.o.Path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = os.OpenFile(s.o.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, fileMode); err == nil {
			err = errors.Join(f.Chmod(fileMode), disk.SyncDir(filepath.Dir(s.o.Path))) // whatever the umask is
		}
	}
	if errors.Is(err, os.ErrExist) { // made just now
		err = fmt.Errorf("%s: %w", s.o.Path, errWritten)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, disk.CloseLocked(f))
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", s.o.Path)
	}
	// Where the file system knows no locks, nothing guards the file.
	if err := disk.TryLockFile(f); errors.Is(err, disk.ErrHeld) {
		return fmt.Errorf("%s: %w", s.o.Path, errWritten)
	}
	if !s.named(f) {
		return fmt.Errorf("%s: %w", s.o.Path, errRotated)
	}
	if st, err = f.Stat(); err != nil { // as whoever had it has left it
		return err
	}
	size, err := wholeLines(f, st.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", s.o.Path, err)
	}
	if size < st.Size() {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	s.f, s.size, s.began = f, size, s.o.Now()
	if size > 0 {
		s.began = st.ModTime()
	}
	return nil
}

// wholeLines is the size up to the last line end.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	const most = MaxMessage + 4096
	from := max(0, size-most)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	at := bytes.LastIndexByte(tail, '\n')
	if at < 0 && from > 0 {
		return 0, errors.New("its last line is longer than any of ours: it is not a file of this delivery")
	}
	return from + int64(at) + 1, nil
}

// rotate moves the file to a name with the time, and removes the oldest of those.
func (s *File) rotate() error {
	name := s.o.Path + "." + s.o.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(s.o.Path, name); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	dir, base := filepath.Split(s.o.Path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	var old []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), base+".")
		if _, err := time.Parse("20060102T150405.000000000Z", suffix); ok && err == nil {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for _, n := range old[:max(0, len(old)-s.o.Keep)] {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}

// Close implements Sink.
func (s *File) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return disk.CloseLocked(f)
}
