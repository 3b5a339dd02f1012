package audit

import (
	"context"
	"iter"

	"golang.org/x/mod/sumdb/tlog"
)

// Head is the state of a log.
type Head struct {
	Size int64
	Root tlog.Hash
}

// Segment is the entries of one commit. Body has Count lines; see EncodeSegment.
type Segment struct {
	First int64
	Count int
	Body  []byte
}

// Source is where logs are read from: a database, or a bundle.
//
// It gives what is stored, sound or not, and an error only if it cannot read.
// Several of its sequences are read at the same time, on several goroutines.
// A sequence ends after its first error. What it yields the receiver keeps.
// A node may be writing: what is read later may be of a later state, never of an
// earlier one, and a commit is seen as a whole or not at all.
type Source interface {
	// Logs gives the origins of all logs, ascending.
	Logs(ctx context.Context) ([]string, error)
	// Head gives the head; of a log that is not there the zero Head.
	Head(ctx context.Context, origin string) (Head, error)
	// Segments gives the segments from the one that holds entry number from,
	// ascending by First.
	Segments(ctx context.Context, origin string, from int64) iter.Seq2[Segment, error]
	// Tiles gives the tiles ascending by level, then by index.
	Tiles(ctx context.Context, origin string) iter.Seq2[Tile, error]
	// Checkpoints gives the signed checkpoints ascending by size.
	Checkpoints(ctx context.Context, origin string) iter.Seq2[[]byte, error]
	// Prunings gives the signed notes of what was pruned of the log, ascending by To;
	// see OpenPruning. The entries before are not among those that Segments gives.
	Prunings(ctx context.Context, origin string) iter.Seq2[[]byte, error]
}

// horizon is the size up to which a log that may be growing is read.
type horizon struct {
	src    Source
	origin string
	head   Head // as it was at the start
	latest int64
}

func newHorizon(ctx context.Context, src Source, origin string) (*horizon, error) {
	head, err := src.Head(ctx, origin)
	return &horizon{src: src, origin: origin, head: head, latest: head.Size}, err
}

// grew reports whether the log now has size entries, so that something beyond
// the horizon is of a commit since and not something that should not be there.
func (h *horizon) grew(ctx context.Context, size int64) (bool, error) {
	if size > h.latest {
		head, err := h.src.Head(ctx, h.origin)
		if err != nil {
			return false, err
		}
		h.latest = max(h.latest, head.Size)
	}
	return size <= h.latest, nil
}
