package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/note"
)

// point is a checkpoint that the log is held against.
type point struct {
	Checkpoint
	kept bool // by the auditor; otherwise stored with the log
}

func (p point) String() string {
	if p.kept {
		return fmt.Sprintf("the kept checkpoint of %d entries", p.Size)
	}
	return fmt.Sprintf("the signed checkpoint of %d entries", p.Size)
}

// points gives the trusted checkpoints of a log, stored and kept, ascending.
type points struct {
	origin string
	keys   note.Verifiers
	any    bool // trust those that no known key signed

	next   func() ([]byte, error, bool)
	stop   func()
	stored *point // next of the stored, if already read
	last   int64  // size of the last stored
	kept   []Checkpoint

	// refused is told of each stored checkpoint that cannot be trusted.
	refused func(kind Kind, size int64, message string)
}

func newPoints(ctx context.Context, src Source, origin string, keys note.Verifiers, trustAny bool, kept []Checkpoint, refused func(Kind, int64, string)) *points {
	p := &points{origin: origin, keys: keys, any: trustAny, kept: kept, refused: refused}
	p.next, p.stop = iter.Pull2(src.Checkpoints(ctx, origin))
	return p
}

// peek gives the smallest one left; ok is false after the last.
func (p *points) peek() (pt point, ok bool, err error) {
	if p.stored == nil {
		if p.stored, err = p.read(); err != nil {
			return point{}, false, err
		}
	}
	if len(p.kept) > 0 && (p.stored == nil || p.kept[0].Size <= p.stored.Size) {
		return point{Checkpoint: p.kept[0], kept: true}, true, nil
	}
	if p.stored == nil {
		return point{}, false, nil
	}
	return *p.stored, true, nil
}

// drop passes over the one that peek gave.
func (p *points) drop(pt point) {
	if pt.kept {
		p.kept = p.kept[1:]
	} else {
		p.stored = nil
	}
}

// read gives the next stored one that can be trusted, or nil.
func (p *points) read() (*point, error) {
	for {
		signed, err, ok := p.next()
		if err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		if !ok {
			return nil, nil
		}
		c, err := openCheckpoint(signed, p.keys)
		if p.any && errors.Is(err, ErrUnknownKey) {
			err = nil
		}
		switch {
		case errors.Is(err, ErrUnknownKey):
			p.refused(KindUnknownKey, c.Size, fmt.Sprintf("checkpoint of %d entries: %v", c.Size, err))
		case errors.Is(err, ErrBadSignature):
			p.refused(KindBadSignature, p.last, fmt.Sprintf("a checkpoint after that of %d entries: %v", p.last, err))
		case err != nil:
			p.refused(KindMalformedCheckpoint, p.last, fmt.Sprintf("a checkpoint after that of %d entries: %v", p.last, err))
		case c.Origin != p.origin:
			p.refused(KindMalformedCheckpoint, c.Size, fmt.Sprintf("checkpoint of %d entries: it is of the log %s", c.Size, c.Origin))
		case c.Size < p.last:
			p.refused(KindMalformedCheckpoint, c.Size, fmt.Sprintf("checkpoint of %d entries: it comes after that of %d", c.Size, p.last))
		default:
			p.last = c.Size
			return &point{Checkpoint: c}, nil
		}
	}
}

// nobody trusts no key: with it a checkpoint is read without being believed.
func nobody() note.Verifiers { return note.VerifierList() }
