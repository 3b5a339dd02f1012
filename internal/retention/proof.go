package retention

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/audit"
)

// proofMagic is the first line of a proof file.
const proofMagic = "cardea audit proof 1"

// MaxProof is the longest proof file, in bytes.
const MaxProof = 64 << 10

// Why there is no proof, or it proves nothing.
var (
	ErrNoEntry        = errors.New("there is no such entry")
	ErrUnsigned       = errors.New("no checkpoint signs the entry yet")
	ErrMalformedProof = errors.New("malformed proof")
	ErrWrongProof     = errors.New("the proof is wrong: the entry is not in the log that the checkpoint signs")
)

// Proof shows that an entry is in a log: the entry's line, its number, the hashes
// that lead from it to the root (RFC 6962 section 2.1.1), and a signed checkpoint
// with the root.
type Proof struct {
	Line       []byte
	Seq        int64
	Hashes     []tlog.Hash
	Checkpoint []byte
}

// Prove finds an entry by its id and proves that it is in the log, by the first
// stored checkpoint that covers it, whoever signed that. It reads the log up to that
// checkpoint and verifies nothing but its own result: Check does.
func Prove(ctx context.Context, src audit.Source, origins []string, id string) (Proof, error) {
	for _, origin := range origins {
		for n, err := range audit.Entries(ctx, src, origin, 0) {
			if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
				continue
			}
			if err != nil {
				return Proof{}, err
			}
			if n.Entry.ID == id {
				return prove(ctx, src, origin, Proof{Line: bytes.Clone(n.Line), Seq: n.Seq})
			}
		}
	}
	return Proof{}, fmt.Errorf("entry %s: %w", id, ErrNoEntry)
}

func prove(ctx context.Context, src audit.Source, origin string, p Proof) (Proof, error) {
	var size int64
	for signed, err := range src.Checkpoints(ctx, origin) {
		if err != nil {
			return Proof{}, fmt.Errorf("read checkpoints of %s: %w", origin, err)
		}
		if n, ok := statedSize(signed); ok && n > p.Seq {
			p.Checkpoint, size = signed, n
			break
		}
	}
	if size == 0 {
		return Proof{}, fmt.Errorf("entry %d of %s: %w", p.Seq, origin, ErrUnsigned)
	}
	var err error
	p.Hashes, err = roots(ctx, src, origin, path(p.Seq, 0, size), size)
	return p, err
}

// roots are those of subtrees that do not overlap, from one reading of the log's first
// size entries.
func roots(ctx context.Context, src audit.Source, origin string, subtrees []*subtree, size int64) ([]tlog.Hash, error) {
	order := slices.SortedFunc(slices.Values(subtrees), func(a, b *subtree) int { return cmp.Compare(a.from, b.from) })
	next := int64(0)
	for h, err := range audit.Leaves(ctx, src, origin) {
		if err != nil {
			return nil, err
		}
		for len(order) > 0 && next >= order[0].to {
			order = order[1:]
		}
		if len(order) > 0 && next >= order[0].from {
			if err := grow(order[0].tree, h); err != nil {
				return nil, err
			}
		}
		if next++; next >= size {
			break
		}
	}
	if next < size {
		return nil, fmt.Errorf("%s: %w: see 'cardea audit verify'", origin, audit.ErrDamaged)
	}
	var hashes []tlog.Hash
	for _, t := range subtrees {
		hashes = append(hashes, t.tree.Root())
	}
	return hashes, nil
}

// subtree is the tree over the entries from from to before to.
type subtree struct {
	from, to int64
	tree     *audit.Tree
}

// path gives the subtrees whose roots are the proof of entry n in the tree over the
// entries from from to before to: PATH of RFC 6962 section 2.1.1.
func path(n, from, to int64) []*subtree {
	if to-from <= 1 {
		return nil
	}
	half := int64(1)
	for 2*half < to-from {
		half *= 2
	}
	if middle := from + half; n < middle {
		return append(path(n, from, middle), &subtree{middle, to, audit.NewTree()})
	} else {
		return append(path(n, middle, to), &subtree{from, middle, audit.NewTree()})
	}
}

// Check reports what the proof shows by the keys that are trusted: the entry, and
// the checkpoint that signs it. The error is ErrWrongProof, or of audit.Decode or
// audit.OpenCheckpoint.
func (p Proof) Check(verifiers ...string) (audit.Entry, audit.Checkpoint, error) {
	c, err := audit.OpenCheckpoint(p.Checkpoint, verifiers...)
	if err != nil {
		return audit.Entry{}, audit.Checkpoint{}, err
	}
	e, err := audit.Decode(p.Line)
	if err != nil {
		return audit.Entry{}, audit.Checkpoint{}, err
	}
	if p.Seq >= c.Size || tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Seq, audit.LeafHash(p.Line)) != nil {
		return audit.Entry{}, audit.Checkpoint{}, ErrWrongProof
	}
	return e, c, nil
}

// Encode gives the proof as a file: lines with its version, the entry's number, the
// entry, the hashes in base64, an empty line and the checkpoint.
func (p Proof) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nentry %d\n%s\n", proofMagic, p.Seq, p.Line)
	for _, h := range p.Hashes {
		fmt.Fprintf(&b, "%s\n", h)
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads what Encode wrote, and nothing else: ErrMalformedProof.
func ParseProof(b []byte) (Proof, error) {
	bad := func(what string) (Proof, error) { return Proof{}, fmt.Errorf("%w: %s", ErrMalformedProof, what) }
	if len(b) > MaxProof {
		return bad("too long")
	}
	text, checkpoint, ok := bytes.Cut(b, []byte("\n\n"))
	lines := strings.Split(string(text), "\n")
	if !ok || len(lines) < 3 || lines[0] != proofMagic {
		return bad("want a first line, a number, an entry, hashes, an empty line and a checkpoint")
	}
	number, ok := strings.CutPrefix(lines[1], "entry ")
	seq, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || seq < 0 || strconv.FormatInt(seq, 10) != number {
		return bad("the entry's number")
	}
	p := Proof{Line: []byte(lines[2]), Seq: seq, Checkpoint: checkpoint}
	if len(p.Line) == 0 || len(p.Line) > audit.MaxLine {
		return bad("the entry")
	}
	for _, line := range lines[3:] {
		h, err := parseHash(line)
		if err != nil {
			return bad("a hash")
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}
