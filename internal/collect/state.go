package collect

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cardea/internal/disk"
)

// saveJSON replaces a file by v, durably: after a crash it is the old one or the
// new one.
func saveJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return save(path, b)
}

func save(path string, b []byte) error {
	if err := disk.Replace(path, b); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

// loadJSON reads what saveJSON wrote; it leaves v alone if there is nothing.
func loadJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("state of what was read: %w; repair or remove %s, which reads everything again", err, path)
	}
	return nil
}

// marks is a set of 64-bit marks in a file that only grows until it is written
// anew. A mark that was half written when the process ended is as if never made.
type marks struct {
	path string
	f    *os.File
	set  map[uint64]struct{}
}

const markSize = 8

func openMarks(path string) (*marks, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m := &marks{path: path, set: make(map[uint64]struct{}, len(b)/markSize)}
	whole := len(b) / markSize * markSize
	for i := 0; i < whole; i += markSize {
		m.set[binary.LittleEndian.Uint64(b[i:])] = struct{}{}
	}
	if m.f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	err = disk.SyncDir(filepath.Dir(path))
	if err == nil && whole < len(b) {
		err = m.f.Truncate(int64(whole))
	}
	if err != nil {
		return nil, errors.Join(err, m.f.Close())
	}
	return m, nil
}

func (m *marks) has(v uint64) bool {
	_, ok := m.set[v]
	return ok
}

// add makes marks durable.
func (m *marks) add(list []uint64) error {
	if len(list) == 0 {
		return nil
	}
	b := make([]byte, 0, len(list)*markSize)
	for _, v := range list {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if _, err := m.f.Write(b); err != nil {
		return fmt.Errorf("write %s: %w", m.path, err)
	}
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", m.path, err)
	}
	for _, v := range list {
		m.set[v] = struct{}{}
	}
	return nil
}

// keep writes the file anew with only these marks, of those there are.
func (m *marks) keep(wanted map[uint64]struct{}) error {
	b := make([]byte, 0, len(wanted)*markSize)
	set := make(map[uint64]struct{}, len(wanted))
	for v := range m.set {
		if _, ok := wanted[v]; ok {
			b = binary.LittleEndian.AppendUint64(b, v)
			set[v] = struct{}{}
		}
	}
	if err := save(m.path, b); err != nil {
		return err
	}
	f, err := os.OpenFile(m.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	old := m.f
	m.f, m.set = f, set
	return old.Close()
}

func (m *marks) close() error { return m.f.Close() }
