package approval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cardea/internal/disk"
)

// Event is what a record of the ledger says of a request.
type Event string

// The events.
const (
	EventBegun    Event = "begun"
	EventResumed  Event = "resumed"
	EventFinished Event = "finished"
)

// Record is a line of the ledger.
type Record struct {
	N       int       `json:"n"`    // from 1
	Prev    string    `json:"prev"` // SHA-256 of the line before, without its end; of nothing for the first
	At      time.Time `json:"at,omitzero"`
	Event   Event     `json:"event"`
	Request string    `json:"request"`          // its id
	Note    string    `json:"note,omitempty"`   // of a request that is begun: as it was signed
	Result  string    `json:"result,omitempty"` // of one that is finished
}

// maxRecords bounds a ledger, in bytes: decades of requests.
const maxRecords = 256 << 20

// journal is the ledger's file, open under its lock.
type journal struct {
	f       *os.File
	now     func() time.Time
	records []Record
	last    [32]byte // hash of the last line
}

// openJournal reads the file, which it makes if need be. What a process that was killed
// has left of a line is removed: it was never acted on.
func openJournal(path string, now func() time.Time) (j *journal, err error) {
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close() //nolint:errcheck // the first error is the one that counts
		}
	}()
	if missing != nil {
		if err := disk.SyncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRecords+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxRecords {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrLedger, path, maxRecords)
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	j = &journal{f: f, now: now, last: sha256.Sum256(nil)}
	if j.records, j.last, err = parseRecords(text[:whole]); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if whole < len(text) {
		if err := errors.Join(f.Truncate(int64(whole)), f.Sync()); err != nil {
			return nil, err
		}
	}
	if _, err := f.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, err
	}
	return j, nil
}

// parseRecords reads whole lines, and returns the hash of the last.
func parseRecords(text []byte) (all []Record, last [32]byte, err error) {
	last = sha256.Sum256(nil)
	for line := range bytes.Lines(text) {
		n := len(all) + 1
		line = bytes.TrimSuffix(line, []byte("\n"))
		var r Record
		err := json.Unmarshal(line, &r)
		if err == nil {
			var again []byte
			if again, err = json.Marshal(&r); err == nil && !bytes.Equal(again, line) {
				err = errors.New("it has another form")
			}
		}
		switch {
		case err != nil:
			return nil, last, fmt.Errorf("%w: line %d is no record: %w", ErrLedger, n, err)
		case r.N != n || r.Prev != hex.EncodeToString(last[:]):
			return nil, last, fmt.Errorf("%w: line %d does not follow from the one before", ErrLedger, n)
		}
		all, last = append(all, r), sha256.Sum256(line)
	}
	return all, last, nil
}

// find returns a request's record of its beginning and that of its end, or nil.
func (j *journal) find(id string) (begun, finished *Record) {
	for i := range j.records {
		switch r := &j.records[i]; {
		case r.Request != id:
		case r.Event == EventBegun:
			begun = r
		case r.Event == EventFinished:
			finished = r
		}
	}
	return begun, finished
}

// append adds a record, and makes it durable.
func (j *journal) append(r *Record) error {
	r.N, r.Prev = len(j.records)+1, hex.EncodeToString(j.last[:])
	if j.now != nil {
		r.At = j.now().UTC().Truncate(time.Second)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.records, j.last = append(j.records, *r), sha256.Sum256(line)
	return nil
}
