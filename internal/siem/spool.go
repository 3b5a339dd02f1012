package siem

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cardea/internal/disk"
)

// Limits of a spool.
const (
	spoolFileBytes = 8 << 20
	spoolBytes     = 256 << 20
	spoolLine      = 256 << 10
)

// ErrSpoolFull says that deliveries are so far behind that alerts find no room.
var ErrSpoolFull = errors.New("spool of alerts is full: see why nothing is delivered")

// Spool keeps alerts, findings and checkpoints until they are delivered. What
// Append has taken survives the process. Several processes may append and one may
// deliver; a Spool is safe for concurrent use.
type Spool struct {
	dir  string
	max  int64 // bytes of all files
	file int64 // bytes of one
}

// spoolPosition is a place in a spool.
type spoolPosition struct {
	File   int64 `json:"file"`
	Offset int64 `json:"offset"`
}

// OpenSpool opens the spool in a folder, which it makes if need be.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &Spool{dir: dir, max: spoolBytes, file: spoolFileBytes}, nil
}

// Append keeps an event, which must not be an entry: those are in their log. The
// error is ErrSpoolFull if it must be tried again later.
func (s *Spool) Append(ev Event) (err error) {
	if ev.Kind == KindEntry {
		return errors.New("spool: entries are delivered from their log")
	}
	line, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if line = append(line, '\n'); len(line) > spoolLine {
		return fmt.Errorf("spool: %w", ErrTooLarge)
	}
	lock, err := disk.WaitLock(filepath.Join(s.dir, "spool.lock"))
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	files, total, err := s.files()
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if total+int64(len(line)) > s.max {
		return ErrSpoolFull
	}
	number := int64(1)
	if len(files) > 0 {
		number = files[len(files)-1]
	}
	f, err := os.OpenFile(s.path(number), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() >= s.file {
		if err = f.Close(); err == nil {
			f, err = os.OpenFile(s.path(number+1), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	err = appendLine(f, line)
	if err := errors.Join(err, f.Sync(), f.Close(), disk.SyncDir(s.dir)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// appendLine writes a line. A line before it that was not finished, because its
// process ended, is ended first; reading passes over it.
func appendLine(f *os.File, line []byte) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if n := st.Size(); n > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, n-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	return err
}

func (s *Spool) path(number int64) string {
	return filepath.Join(s.dir, fmt.Sprintf("spool-%08d.ndjson", number))
}

// files are the numbers of the files, ascending, and their bytes together.
func (s *Spool) files() (numbers []int64, total int64, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "spool-")
		name, ok2 := strings.CutSuffix(name, ".ndjson")
		n, err := strconv.ParseInt(name, 10, 64)
		if !ok || !ok2 || err != nil || n < 1 {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, 0, err
		}
		numbers, total = append(numbers, n), total+info.Size()
	}
	slices.Sort(numbers)
	return numbers, total, nil
}

// spooled is an event and where the next one begins.
type spooled struct {
	ev   *Event // nil for a line that is none
	next spoolPosition
}

// read gives at most limit lines from a position on, of one file.
func (s *Spool) read(at spoolPosition, limit int, until int64) ([]spooled, error) {
	numbers, _, err := s.files()
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	for _, n := range numbers {
		if n < at.File {
			continue
		}
		if n > at.File {
			at = spoolPosition{File: n}
		}
		list, err := s.readFile(at, limit, until)
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
	return nil, nil
}

func (s *Spool) readFile(at spoolPosition, limit int, until int64) (list []spooled, err error) {
	f, err := os.Open(s.path(at.File))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	r := bufio.NewReaderSize(f, spoolLine)
	for len(list) < limit && (until == 0 || at.Offset < until) {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return list, nil // a line that is not finished may be one that is being written
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return list, fmt.Errorf("read spool: %w", err)
		}
		at.Offset += int64(len(line))
		item := spooled{next: at}
		// Members that this release does not know are left out: an event of a newer one
		// is worth more without them than not at all.
		var ev Event
		if err := json.Unmarshal(line, &ev); err == nil && ev.sound() {
			item.ev = &ev
		}
		list = append(list, item)
	}
	return list, nil
}

// sound reports whether an event has what its kind needs.
func (ev *Event) sound() bool {
	switch ev.Kind {
	case KindAlert:
		return ev.Alert != nil
	case KindCheckpoint:
		return ev.Checkpoint != nil
	case KindFinding:
		return ev.Finding != nil
	}
	return false
}

// end is the position after all that is there.
func (s *Spool) end() (spoolPosition, error) {
	numbers, _, err := s.files()
	if err != nil || len(numbers) == 0 {
		return spoolPosition{}, err
	}
	last := numbers[len(numbers)-1]
	st, err := os.Stat(s.path(last))
	if err != nil {
		return spoolPosition{}, err
	}
	return spoolPosition{File: last, Offset: st.Size()}, nil
}

// prune removes the files before one that all deliveries have come to. The newest
// file stays, so that numbers go on.
func (s *Spool) prune(before int64) error {
	numbers, _, err := s.files()
	if err != nil || len(numbers) == 0 {
		return err
	}
	var errs error
	for _, n := range numbers[:len(numbers)-1] {
		if n < before {
			errs = errors.Join(errs, os.Remove(s.path(n)))
		}
	}
	return errs
}
