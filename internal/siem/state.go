package siem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// state is how far a delivery has come: a file that is replaced as a whole, so that
// it is of one moment whenever the process ends. It holds no secret.
type state struct {
	Name  string              `json:"name"`
	Logs  map[string]position `json:"logs"` // by origin
	Spool spoolPosition       `json:"spool"`
	Plan  *plan               `json:"plan,omitempty"`

	Started bool `json:"started"` // what was there at the first start is dealt with

	Sent      int64     `json:"sent"`   // events, repetitions not counted
	Parked    int64     `json:"parked"` // events that the receiver does not take
	SentAt    time.Time `json:"sent_at,omitzero"`
	Error     string    `json:"error,omitempty"` // of the last try, if that failed
	ErrorAt   time.Time `json:"error_at,omitzero"`
	StalledAt time.Time `json:"stalled_at,omitzero"` // when it was found to stall, if it does
}

// position is the place in a log that has been delivered up to.
type position struct {
	Next  int64  `json:"next"`            // number of the first entry that has not
	Edge  []hash `json:"edge,omitempty"`  // of the tree over the entries before it; see edge
	Blind bool   `json:"blind,omitempty"` // the tree is not known: what is read is not held against the head
}

// hash is a tlog.Hash as base64.
type hash = tlog.Hash

// plan is a batch that is about to be sent, for receivers where the same batch must
// be sent again, and not a larger one.
type plan struct {
	Source string `json:"source"` // origin, or "" for the spool
	First  int64  `json:"first"`  // position
	End    int64  `json:"end"`    // after the last
}

// maxState bounds a state file.
const maxState = 1 << 20

func readState(path string) (state, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return state{Logs: map[string]position{}}, nil
	}
	if err != nil {
		return state{}, err
	}
	if len(b) > maxState {
		return state{}, fmt.Errorf("%s: larger than %d bytes", path, maxState)
	}
	var s state
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return state{}, fmt.Errorf("%s: %w; it says how far the delivery has come: restore it, or remove it to deliver everything again", path, err)
	}
	if s.Logs == nil {
		s.Logs = map[string]position{}
	}
	for origin, p := range s.Logs {
		if p.Next < 0 || !p.Blind && len(p.Edge) != edgeSize(p.Next) {
			return state{}, fmt.Errorf("%s: the position in %s makes no sense; remove the file to deliver everything again", path, origin)
		}
	}
	return s, nil
}

// writeFile replaces a file as a whole: after a loss of power it is the new one or
// the one before, which of a cursor is as good, for what it says is then sent again.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeState(path string, s *state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'), 0o600)
}

// The edge of the RFC 6962 tree over the first n entries: the root of the complete
// subtree for each bit of n that is set, from the lowest on. It is all that is
// needed to go on and to know the root.

// edgeSize is how many hashes the edge of n entries has.
func edgeSize(n int64) int {
	count := 0
	for ; n > 0; n &= n - 1 {
		count++
	}
	return count
}

// appendLeaf gives the edge of n+1 entries from that of n. It may change edge.
func appendLeaf(edge []hash, n int64, leaf hash) []hash {
	done := 0
	for n>>done&1 == 1 {
		leaf = tlog.NodeHash(edge[done], leaf)
		done++
	}
	return append([]hash{leaf}, edge[done:]...)
}

// edgeRoot is the root of the tree.
func edgeRoot(edge []hash) hash {
	if len(edge) == 0 {
		root, err := tlog.TreeHash(0, nil)
		if err != nil {
			return hash{} // the empty tree has a hash without being read
		}
		return root
	}
	root := edge[0]
	for _, h := range edge[1:] {
		root = tlog.NodeHash(h, root)
	}
	return root
}
