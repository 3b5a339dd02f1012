package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/notekey"
)

// OpLogPrune is the operation of the entry that records a pruning.
const OpLogPrune = "log.prune"

// pruneMagic is the first line of a pruning's note.
const pruneMagic = "cardea audit prune 1"

// ErrMalformedPruning says that a note is not one of a pruning.
var ErrMalformedPruning = errors.New("malformed record of pruning")

// Pruning is the removal of a log's entries From to before To, and so of all before
// To, from where the log is stored, after an archive had them
// (docs/spec/audit-log.md, Pruning).
type Pruning struct {
	Origin   string
	From, To int64
	Root     tlog.Hash // of the log's first To entries
	Archive  string    // digest of the archive, 64 lower-case hexadecimal digits
	Last     time.Time // of entry To - 1
	Time     time.Time // when it was recorded
	Recorder string    // the log with its entry; not part of what is signed, but who signs
}

// Detail is the detail of the entry that records the pruning. It ends in a digest,
// which is therefore not taken for a card number.
func (p Pruning) Detail() string {
	return fmt.Sprintf("%s, root %s, archive sha256/%s", entries(p.From, p.To-p.From), p.Root, p.Archive)
}

// text is what is signed.
func (p Pruning) text() (string, error) {
	_, ok := nodeOf(p.Origin)
	digest, err := hex.DecodeString(p.Archive)
	switch {
	case !ok, err != nil || len(digest) != tlog.HashSize || strings.ToLower(p.Archive) != p.Archive,
		p.From < 0 || p.To <= p.From || p.To >= maxSize, !inYears(p.Last), !inYears(p.Time):
		return "", fmt.Errorf("%w: %s of %q", ErrMalformedPruning, entries(p.From, p.To-p.From), p.Origin)
	}
	b := fmt.Appendf(nil, "%s\n%s\n%d %d\n%s\n%s\nlast ", pruneMagic, p.Origin, p.From, p.To, p.Root, p.Archive)
	b = append(appendTime(b, p.Last), "\ntime "...)
	return string(append(appendTime(b, p.Time), '\n')), nil
}

// inYears reports whether a time has the form of an entry's.
func inYears(t time.Time) bool { return t.UTC().Year() >= 1970 && t.UTC().Year() <= 9999 }

// parsePruning reads a text that it would itself write.
func parsePruning(text string) (Pruning, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 8 {
		return Pruning{}, fmt.Errorf("%w: want seven lines", ErrMalformedPruning)
	}
	p := Pruning{Origin: lines[1], Archive: lines[4]}
	from, to, _ := strings.Cut(lines[2], " ")
	last, _ := strings.CutPrefix(lines[5], "last ")
	at, _ := strings.CutPrefix(lines[6], "time ")
	var errs [5]error
	p.From, errs[0] = parseSize(from)
	p.To, errs[1] = parseSize(to)
	p.Root, errs[2] = parseRoot(lines[3])
	p.Last, errs[3] = parseTime(last)
	p.Time, errs[4] = parseTime(at)
	if err := errors.Join(errs[:]...); err != nil {
		return Pruning{}, fmt.Errorf("%w: %w", ErrMalformedPruning, err)
	}
	if again, err := p.text(); err != nil || again != text {
		return Pruning{}, fmt.Errorf("%w: not as it is written", ErrMalformedPruning)
	}
	return p, nil
}

// SignPruning returns the signed note of a pruning that the signer's log records.
func (s *Signer) SignPruning(p Pruning) ([]byte, error) {
	text, err := p.text()
	if err != nil {
		return nil, fmt.Errorf("sign pruning: %w", err)
	}
	signed, err := s.key.sign(context.Background(), text)
	if err != nil {
		return nil, fmt.Errorf("sign pruning: %w", err)
	}
	return signed, nil
}

// OpenPruning reads a signed note of a pruning and verifies it. It is trusted if
// one of the verifiers signed it, whose name is the Recorder. The error is
// ErrMalformedPruning, ErrUnknownKey or ErrBadSignature. With ErrUnknownKey it
// gives what the note says, which then proves nothing.
func OpenPruning(signed []byte, verifiers ...string) (Pruning, error) {
	keys, err := parseVerifiers(verifiers)
	if err != nil {
		return Pruning{}, err
	}
	return openPruning(signed, keys)
}

func openPruning(signed []byte, keys note.Verifiers) (Pruning, error) {
	if len(signed) > MaxCheckpoint {
		return Pruning{}, fmt.Errorf("%w: %d bytes", ErrMalformedPruning, len(signed))
	}
	n, err := notekey.Open(signed, keys)
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		n = unverified.Note
	} else if invalid, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return Pruning{}, fmt.Errorf("%w: key %s+%08x", ErrBadSignature, invalid.Name, invalid.Hash)
	} else if err != nil {
		return Pruning{}, fmt.Errorf("%w: %w", ErrMalformedPruning, err)
	}
	p, err := parsePruning(n.Text)
	if err != nil {
		return Pruning{}, err
	}
	if len(n.Sigs) > 0 {
		p.Recorder = n.Sigs[0].Name
		return p, nil
	}
	if len(n.UnverifiedSigs) > 0 {
		p.Recorder = n.UnverifiedSigs[0].Name
	}
	return p, fmt.Errorf("%w: record of pruning", ErrUnknownKey)
}

// Absent says what of a log's beginning is not where it is read.
type Absent struct {
	Before int64 // entries before it are not there
	// Pruning is the newest that says so, or nil if none does: then the entries are
	// missing, and Verify tells. Who signed it is not looked at.
	Pruning *Pruning
}

// AbsentOf tells readers of a log what they will not see of it, so that they can
// say so. It verifies nothing and reads one segment.
func AbsentOf(ctx context.Context, src Source, origin string) (Absent, error) {
	first, err := firstStored(ctx, src, origin)
	if err != nil || first == 0 {
		return Absent{}, err
	}
	a := Absent{Before: first}
	for signed, err := range src.Prunings(ctx, origin) {
		if err != nil {
			return Absent{}, fmt.Errorf("read prunings of %s: %w", origin, err)
		}
		p, err := openPruning(signed, nobody())
		if errors.Is(err, ErrUnknownKey) && p.Origin == origin && p.To >= first {
			a.Pruning = &p
		}
	}
	return a, nil
}

// firstStored is the number of the first entry that is stored, or the log's size if
// none is.
func firstStored(ctx context.Context, src Source, origin string) (int64, error) {
	for s, err := range src.Segments(ctx, origin, 0) {
		if err != nil {
			return 0, fmt.Errorf("read entries of %s: %w", origin, err)
		}
		return s.First, nil
	}
	head, err := src.Head(ctx, origin)
	if err != nil {
		return 0, fmt.Errorf("read head of %s: %w", origin, err)
	}
	return head.Size, nil
}
