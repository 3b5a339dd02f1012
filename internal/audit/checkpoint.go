package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/notekey"
)

// MaxCheckpoint is the longest signed checkpoint, in bytes.
const MaxCheckpoint = 16 << 10

// originPrefix is what every log's origin begins with.
const originPrefix = "cardea/"

// Why a checkpoint is refused.
var (
	ErrMalformedCheckpoint = errors.New("malformed checkpoint")
	ErrUnknownKey          = errors.New("checkpoint is not signed by a trusted key of its log")
	ErrBadSignature        = errors.New("checkpoint signature is wrong")
)

// Checkpoint is a node's statement that the first Size entries of its log have
// this root.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Time   time.Time // when it was signed, to the microsecond; zero if it does not say
}

// Origin is the name of a node's log, "cardea/" and the node's name.
func Origin(node string) (string, error) {
	if !ValidNode(node) {
		return "", fmt.Errorf("node name %q: want 1 to 64 of a-z, 0-9, dot and hyphen, with a letter or digit at both ends", node)
	}
	return originPrefix + node, nil
}

// nodeOf is the node whose log has this origin; ok is false if none can.
func nodeOf(origin string) (node string, ok bool) {
	node, ok = strings.CutPrefix(origin, originPrefix)
	return node, ok && ValidNode(node)
}

// text is what is signed (docs/spec/checkpoint.md).
func (c Checkpoint) text() (string, error) {
	if _, ok := nodeOf(c.Origin); !ok {
		return "", fmt.Errorf("%w: origin %q", ErrMalformedCheckpoint, c.Origin)
	}
	if c.Size < 0 || c.Size >= maxSize {
		return "", fmt.Errorf("%w: size %d", ErrMalformedCheckpoint, c.Size)
	}
	b := append([]byte(c.Origin), '\n')
	b = append(strconv.AppendInt(b, c.Size, 10), '\n')
	b = append(base64.StdEncoding.AppendEncode(b, c.Root[:]), '\n')
	if !c.Time.IsZero() {
		b = append(b, "time "...)
		b = append(appendTime(b, c.Time), '\n')
	}
	return string(b), nil
}

// parseCheckpoint reads a text that it would itself write.
func parseCheckpoint(text string) (Checkpoint, error) {
	bad := func(what string) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("%w: %s", ErrMalformedCheckpoint, what)
	}
	lines := strings.Split(text, "\n")
	if n := len(lines); n != 4 && n != 5 || lines[n-1] != "" {
		return bad("want three or four lines")
	}
	c := Checkpoint{Origin: lines[0]}
	if _, ok := nodeOf(c.Origin); !ok {
		return bad("origin")
	}
	var err error
	if c.Size, err = parseSize(lines[1]); err != nil {
		return bad("size")
	}
	if c.Root, err = parseRoot(lines[2]); err != nil {
		return bad("root")
	}
	if len(lines) == 5 {
		at, ok := strings.CutPrefix(lines[3], "time ")
		if c.Time, err = parseTime(at); !ok || err != nil || c.Time.Year() < 1970 {
			return bad("time")
		}
	}
	return c, nil
}

// parseSize reads a decimal without leading zeros below maxSize.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n >= maxSize || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("want a decimal number")
	}
	return n, nil
}

// parseRoot reads a hash in the one base64 encoding that it has.
func parseRoot(s string) (tlog.Hash, error) {
	h, err := tlog.ParseHash(s)
	if err != nil || h.String() != s {
		return tlog.Hash{}, errors.New("want a hash in base64")
	}
	return h, nil
}

// OpenCheckpoint reads a signed checkpoint and verifies its signatures. It is
// trusted if one of the verifiers (encoded as by GenerateSigningKey) whose name
// is the checkpoint's origin signed it. Signatures by other keys are ignored, a
// wrong one by any of the verifiers is not. The error is ErrMalformedCheckpoint,
// ErrUnknownKey or ErrBadSignature, or tells of an unusable verifier.
func OpenCheckpoint(signed []byte, verifiers ...string) (Checkpoint, error) {
	keys, err := parseVerifiers(verifiers)
	if err != nil {
		return Checkpoint{}, err
	}
	return openCheckpoint(signed, keys)
}

// parseVerifiers reads public keys and drops repeated ones.
func parseVerifiers(encoded []string) (note.Verifiers, error) {
	var list []note.Verifier
	seen := make(map[string]bool)
	for _, text := range encoded {
		if seen[text] {
			continue
		}
		seen[text] = true
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("checkpoint verifier %q: %w", text, err)
		}
		if _, ok := nodeOf(v.Name()); !ok {
			return nil, fmt.Errorf("checkpoint verifier %q: its name is not the origin of a log, like cardea/node-1", text)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

func openCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes", ErrMalformedCheckpoint, len(signed))
	}
	n, err := notekey.Open(signed, keys)
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		n = unverified.Note
	} else if invalid, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return Checkpoint{}, fmt.Errorf("%w: key %s+%08x", ErrBadSignature, invalid.Name, invalid.Hash)
	} else if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrMalformedCheckpoint, err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	for _, sig := range n.Sigs {
		if sig.Name == c.Origin {
			return c, nil
		}
	}
	// Verify may be told to do without signatures, so what it says goes with the error.
	return c, fmt.Errorf("%w: %s", ErrUnknownKey, c.Origin)
}
