package collect

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"cardea/internal/cloudtrail"
	"cardea/internal/disk"
)

// DefaultWindow is how many event ids are remembered at least.
const DefaultWindow = 500_000

// Seen remembers which events were acknowledged, by their ids: at least the last
// window of them, at most twice as many, in 8 bytes each on disk and about 20 in
// memory. An event that comes again after so many others is given again: receivers
// that mind know it by its id. Several sources may share one; it is safe for use by
// several goroutines, but only one process may use the folder.
type Seen struct {
	mu       sync.Mutex // guards what follows
	window   int
	old, cur *marks
	pending  map[uint64]struct{} // given and not acknowledged
}

// OpenSeen opens the memory in a folder, or begins one. A window of 0 is
// DefaultWindow.
func OpenSeen(dir string, window int) (*Seen, error) {
	if window <= 0 {
		window = DefaultWindow
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Seen{window: window, pending: map[uint64]struct{}{}}
	var err error
	if s.old, err = openMarks(filepath.Join(dir, "ids.old")); err != nil {
		return nil, err
	}
	if s.cur, err = openMarks(filepath.Join(dir, "ids")); err != nil {
		return nil, errors.Join(err, s.old.close())
	}
	return s, nil
}

// Close closes the files. What was acknowledged is on disk already.
func (s *Seen) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.cur.close(), s.old.close())
}

// mark is what is remembered of a text: ids of attackers' choice cannot be made to
// look like those of others with less than about 2^64 attempts.
func mark(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:])
}

// fresh removes the events that were given before, and gives the marks of the others.
func (s *Seen) fresh(events []cloudtrail.Event) ([]cloudtrail.Event, []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := events[:0]
	given := make([]uint64, 0, len(events))
	for i := range events {
		m := mark(events[i].ID)
		if _, pending := s.pending[m]; pending || s.cur.has(m) || s.old.has(m) {
			continue
		}
		s.pending[m] = struct{}{}
		given = append(given, m)
		kept = append(kept, events[i])
	}
	clear(events[len(kept):])
	return kept, given
}

// remember makes the marks of acknowledged events durable.
func (s *Seen) remember(list []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cur.add(list); err != nil {
		return err
	}
	for _, m := range list {
		delete(s.pending, m)
	}
	if len(s.cur.set) < s.window {
		return nil
	}
	// The current ones become the old ones. A crash between the two steps loses
	// nothing: both files then have the same marks.
	dir := filepath.Dir(s.cur.path)
	if err := errors.Join(s.old.close(), s.cur.close()); err != nil {
		return err
	}
	if err := os.Rename(s.cur.path, s.old.path); err != nil {
		return fmt.Errorf("remember events: %w", err)
	}
	if err := disk.SyncDir(dir); err != nil {
		return err
	}
	var err error
	if s.old, err = openMarks(s.old.path); err != nil {
		return err
	}
	s.cur, err = openMarks(s.cur.path)
	return err
}

// unique is a source without what came before.
type unique struct {
	Source
	seen    *Seen
	mu      sync.Mutex // guards what follows
	given   [][]uint64 // of the batches that are not acknowledged, oldest first
	first   int        // number of the first of them
	dropped int64
}

// Unique gives what a source gives, without the events that seen remembers, or
// that another source which shares it gave and has not had acknowledged. Such an
// event is given again by that other source if it never is.
func Unique(s Source, seen *Seen) Source { return &unique{Source: s, seen: seen} }

// Next implements Source.
func (u *unique) Next(ctx context.Context) (Batch, error) {
	b, err := u.Source.Next(ctx)
	if err != nil {
		return b, err
	}
	all := len(b.Events)
	var given []uint64
	b.Events, given = u.seen.fresh(b.Events)
	u.mu.Lock()
	u.dropped += int64(all - len(b.Events))
	u.given = append(u.given, given)
	number := u.first + len(u.given)
	u.mu.Unlock()
	inner := b
	b.ack = func(ctx context.Context) error {
		if err := u.acked(number); err != nil {
			return err
		}
		return inner.Ack(ctx)
	}
	return b, nil
}

// acked remembers the events of the batches up to a number. That comes before the
// source's own cursor: if only the first is done when the process ends, the events
// are read again and left out.
func (u *unique) acked(number int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.first < number {
		if err := u.seen.remember(u.given[0]); err != nil {
			return err
		}
		u.given = u.given[1:]
		u.first++
	}
	return nil
}

// Status implements Source.
func (u *unique) Status() Status {
	s := u.Source.Status()
	u.mu.Lock()
	defer u.mu.Unlock()
	s.Duplicates += u.dropped
	return s
}
