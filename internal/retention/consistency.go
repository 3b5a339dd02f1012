package retention

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/audit"
)

// consistencyMagic is the first line of a consistency proof's file.
const consistencyMagic = "cardea audit consistency 1"

// ErrNotPrefix says that the log of a newer checkpoint does not begin with that of an
// older one, or that a proof does not show it.
var ErrNotPrefix = errors.New("the newer checkpoint is not of a log that begins as the older one says")

// Consistency shows that the log of an older checkpoint is the beginning of that of a
// newer one, so that nothing the older one covers was changed or removed: both, and
// the hashes that lead from one root to the other (RFC 6962 section 2.1.2).
type Consistency struct {
	Older, Newer []byte
	Hashes       []tlog.Hash
}

// ProveConsistency proves that a log goes on as an older checkpoint of it said, up to
// a newer one, or to its last stored if that is nil, whoever signed them. It reads
// the log up to that. ErrNotPrefix says that the log does not.
func ProveConsistency(ctx context.Context, src audit.Source, older, newer []byte) (Consistency, error) {
	from, err := stated(older)
	if err != nil {
		return Consistency{}, fmt.Errorf("older checkpoint: %w", err)
	}
	if newer == nil {
		for signed, err := range src.Checkpoints(ctx, from.Origin) {
			if err != nil {
				return Consistency{}, fmt.Errorf("read checkpoints of %s: %w", from.Origin, err)
			}
			newer = signed
		}
	}
	if newer == nil {
		return Consistency{}, fmt.Errorf("%s: %w", from.Origin, ErrUnsigned)
	}
	to, err := stated(newer)
	if err != nil {
		return Consistency{}, fmt.Errorf("newer checkpoint: %w", err)
	}
	c := Consistency{Older: older, Newer: newer}
	if err := ordered(from, to); err != nil {
		return Consistency{}, err
	}
	if from.Size > 0 {
		// tlog asks for all hashes at once, which one reading of the log gives.
		hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return storedHashes(ctx, src, to.Origin, indexes) })
		if c.Hashes, err = tlog.ProveTree(to.Size, from.Size, hashes); err != nil {
			return Consistency{}, err
		}
	}
	return c, c.check(from, to)
}

// stated is what a checkpoint says, whoever signed it.
func stated(signed []byte) (audit.Checkpoint, error) {
	c, err := audit.OpenCheckpoint(signed)
	if errors.Is(err, audit.ErrUnknownKey) {
		err = nil
	}
	return c, err
}

// ordered refuses checkpoints that cannot follow each other.
func ordered(older, newer audit.Checkpoint) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: the older is of %s, the newer of %s", ErrNotPrefix, older.Origin, newer.Origin)
	case older.Size > newer.Size:
		return fmt.Errorf("%w: the older has %d entries, the newer only %d", ErrNotPrefix, older.Size, newer.Size)
	}
	return nil
}

// storedHashes are the roots of complete subtrees of a log, as tlog numbers them.
func storedHashes(ctx context.Context, src audit.Source, origin string, indexes []int64) ([]tlog.Hash, error) {
	subtrees := make([]*subtree, len(indexes))
	size := int64(0)
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		subtrees[i] = &subtree{n << level, (n + 1) << level, audit.NewTree()}
		size = max(size, subtrees[i].to)
	}
	return roots(ctx, src, origin, subtrees, size)
}

// Check reports what the proof shows by the keys that are trusted: both checkpoints.
// The error is ErrNotPrefix, or of audit.OpenCheckpoint.
func (c Consistency) Check(verifiers ...string) (older, newer audit.Checkpoint, err error) {
	if older, err = audit.OpenCheckpoint(c.Older, verifiers...); err != nil {
		return audit.Checkpoint{}, audit.Checkpoint{}, fmt.Errorf("older checkpoint: %w", err)
	}
	if newer, err = audit.OpenCheckpoint(c.Newer, verifiers...); err != nil {
		return audit.Checkpoint{}, audit.Checkpoint{}, fmt.Errorf("newer checkpoint: %w", err)
	}
	if err := errors.Join(ordered(older, newer), c.check(older, newer)); err != nil {
		return audit.Checkpoint{}, audit.Checkpoint{}, err
	}
	return older, newer, nil
}

func (c Consistency) check(older, newer audit.Checkpoint) error {
	if older.Size == 0 { // of which RFC 6962 has no proof: every log begins so
		if len(c.Hashes) > 0 || older.Root != audit.NewTree().Root() {
			return ErrNotPrefix
		}
		return nil
	}
	if tlog.CheckTree(c.Hashes, newer.Size, newer.Root, older.Size, older.Root) != nil {
		return ErrNotPrefix
	}
	return nil
}

// Encode gives the proof as a file: lines with its version and the hashes in base64,
// then each checkpoint after a line with its length.
func (c Consistency) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(consistencyMagic + "\n")
	for _, h := range c.Hashes {
		fmt.Fprintf(&b, "%s\n", h)
	}
	fmt.Fprintf(&b, "older %d\n%snewer %d\n%s", len(c.Older), c.Older, len(c.Newer), c.Newer)
	return b.Bytes()
}

// IsConsistency reports whether a proof's file is of a Consistency, by its first line.
func IsConsistency(b []byte) bool { return bytes.HasPrefix(b, []byte(consistencyMagic+"\n")) }

// ParseConsistency reads what Encode wrote, and nothing else: ErrMalformedProof.
func ParseConsistency(b []byte) (Consistency, error) {
	bad := func(what string) (Consistency, error) {
		return Consistency{}, fmt.Errorf("%w: %s", ErrMalformedProof, what)
	}
	if len(b) > MaxProof {
		return bad("too long")
	}
	rest, ok := bytes.CutPrefix(b, []byte(consistencyMagic+"\n"))
	if !ok {
		return bad("the first line")
	}
	var c Consistency
	for !bytes.HasPrefix(rest, []byte("older ")) {
		var line []byte
		if line, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
			return bad("no older checkpoint")
		}
		h, err := parseHash(string(line))
		if err != nil {
			return bad("a hash")
		}
		c.Hashes = append(c.Hashes, h)
	}
	if c.Older, rest, ok = cutNote(rest, "older "); !ok {
		return bad("the older checkpoint")
	}
	if c.Newer, rest, ok = cutNote(rest, "newer "); !ok || len(rest) > 0 {
		return bad("the newer checkpoint")
	}
	return c, nil
}

// cutNote takes a note and the line with its length.
func cutNote(b []byte, name string) (note, rest []byte, ok bool) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	text, ok2 := bytes.CutPrefix(line, []byte(name))
	n, err := strconv.Atoi(string(text))
	if !ok || !ok2 || err != nil || n < 0 || n > len(rest) || strconv.Itoa(n) != string(text) {
		return nil, nil, false
	}
	return rest[:n:n], rest[n:], true
}

// parseHash reads a hash in the one base64 encoding that it has.
func parseHash(s string) (tlog.Hash, error) {
	h, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(h) != tlog.HashSize || base64.StdEncoding.EncodeToString(h) != s {
		return tlog.Hash{}, errors.New("want a hash in base64")
	}
	return tlog.Hash(h), nil
}
