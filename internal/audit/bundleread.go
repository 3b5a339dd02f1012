package audit

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"
	"strings"
)

// Bundle is a bundle file as a Source. It is safe for concurrent use if its
// ReaderAt is.
type Bundle struct {
	r    io.ReaderAt
	logs []bundleLog
}

// bundleLog is where in the file the parts of a log are.
type bundleLog struct {
	origin   string
	head     Head
	prunings part
	marks    []mark // some segments, ascending, to begin at

	checkpoints, tiles, segments part
}

type part struct{ from, to int64 }

type mark struct{ first, at int64 }

// markEvery is how far apart marks are, in bytes.
const markEvery = 1 << 20

var _ Source = (*Bundle)(nil)

// OpenBundle reads through a bundle of size bytes and checks its form, but not
// what is in notes and bodies: that is for Verify. It keeps a few bytes for each
// log and mebibyte. The error is an ErrMalformedBundle that says where, or r's.
func OpenBundle(r io.ReaderAt, size int64) (*Bundle, error) {
	b := &Bundle{r: r}
	s := newBundleScanner(r, part{0, size})
	if line, err := s.line(); err != nil {
		return nil, err
	} else if line != bundleMagic {
		return nil, fmt.Errorf("%w: its first line is not %q", ErrMalformedBundle, bundleMagic)
	}
	for {
		at := s.at
		it, err := s.item()
		if err != nil {
			return nil, err
		}
		if it.kind == itemEnd {
			if it.count != len(b.logs) || s.at != size {
				return nil, s.bad(at, "an end that is not the end")
			}
			return b, nil
		}
		if err := b.place(s, at, it); err != nil {
			return nil, err
		}
	}
}

// place files what was read, which must come after what was read before.
func (b *Bundle) place(s *bundleScanner, at int64, it item) error {
	if it.kind == itemLog {
		if n := len(b.logs); n == maxBundleLogs || n > 0 && b.logs[n-1].origin >= it.origin {
			return s.bad(at, "too many logs, or not in order")
		}
		here := part{s.at, s.at}
		b.logs = append(b.logs, bundleLog{origin: it.origin, head: it.head, prunings: here, checkpoints: here, tiles: here, segments: here})
		return nil
	}
	if len(b.logs) == 0 {
		return s.bad(at, "something of no log")
	}
	l := &b.logs[len(b.logs)-1]
	parts := []*part{itemPruning: &l.prunings, itemCheckpoint: &l.checkpoints, itemTile: &l.tiles, itemSegment: &l.segments}
	for _, later := range parts[it.kind+1:] {
		if later.to > later.from {
			return s.bad(at, "parts out of order")
		}
		*later = part{s.at, s.at}
	}
	parts[it.kind].to = s.at
	if n := len(l.marks); it.kind == itemSegment && (n == 0 || at-l.marks[n-1].at >= markEvery && it.segment.First > l.marks[n-1].first) {
		l.marks = append(l.marks, mark{it.segment.First, at})
	}
	return nil
}

func (b *Bundle) log(origin string) bundleLog {
	i := slices.IndexFunc(b.logs, func(l bundleLog) bool { return l.origin == origin })
	if i < 0 {
		return bundleLog{}
	}
	return b.logs[i]
}

// Logs implements Source.
func (b *Bundle) Logs(context.Context) ([]string, error) {
	var origins []string
	for _, l := range b.logs {
		origins = append(origins, l.origin)
	}
	return origins, nil
}

// Head implements Source.
func (b *Bundle) Head(_ context.Context, origin string) (Head, error) { return b.log(origin).head, nil }

// Segments implements Source.
func (b *Bundle) Segments(ctx context.Context, origin string, from int64) iter.Seq2[Segment, error] {
	l := b.log(origin)
	p := l.segments
	if i := sort.Search(len(l.marks), func(i int) bool { return l.marks[i].first > from }); i > 0 {
		p.from = l.marks[i-1].at
	}
	return func(yield func(Segment, error) bool) {
		for it, err := range b.items(ctx, p) {
			if err != nil {
				yield(Segment{}, err)
				return
			}
			if it.segment.First+int64(it.segment.Count) <= from && from > 0 {
				continue
			}
			if it.segment.Body = it.body; !yield(it.segment, nil) {
				return
			}
		}
	}
}

// Tiles implements Source.
func (b *Bundle) Tiles(ctx context.Context, origin string) iter.Seq2[Tile, error] {
	return func(yield func(Tile, error) bool) {
		for it, err := range b.items(ctx, b.log(origin).tiles) {
			if !yield(it.tile, err) {
				return
			}
		}
	}
}

// Checkpoints implements Source.
func (b *Bundle) Checkpoints(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return b.notes(ctx, b.log(origin).checkpoints)
}

// Prunings implements Source.
func (b *Bundle) Prunings(ctx context.Context, origin string) iter.Seq2[[]byte, error] {
	return b.notes(ctx, b.log(origin).prunings)
}

func (b *Bundle) notes(ctx context.Context, p part) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for it, err := range b.items(ctx, p) {
			if !yield(it.body, err) {
				return
			}
		}
	}
}

// items reads a part once more, with bodies.
func (b *Bundle) items(ctx context.Context, p part) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		s := newBundleScanner(b.r, p)
		s.bodies = true
		for s.at < p.to {
			it, err := s.item()
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(item{}, err)
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

type itemKind int

// Kinds of typed lines. The first four in the order in which a log has them.
const (
	itemPruning itemKind = iota
	itemCheckpoint
	itemTile
	itemSegment
	itemLog
	itemEnd
)

// item is a typed line and what follows it.
type item struct {
	kind    itemKind
	origin  string
	head    Head
	tile    Tile
	segment Segment // without its body
	count   int     // of logs
	body    []byte  // of a note or segment
}

// bundleScanner reads items and counts bytes.
type bundleScanner struct {
	r      *bufio.Reader
	at     int64
	bodies bool // keep them; otherwise pass over
}

func newBundleScanner(r io.ReaderAt, p part) *bundleScanner {
	return &bundleScanner{r: bufio.NewReaderSize(io.NewSectionReader(r, p.from, p.to-p.from), maxBundleLine), at: p.from}
}

func (s *bundleScanner) bad(at int64, what string) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrMalformedBundle, at, what)
}

// line reads a line, which it returns without its newline.
func (s *bundleScanner) line() (string, error) {
	line, err := s.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", s.bad(s.at, "a line that is too long")
	case errors.Is(err, io.EOF):
		return "", s.bad(s.at, "the file ends before its end line")
	case err != nil:
		return "", err
	}
	s.at += int64(len(line))
	return string(line[:len(line)-1]), nil
}

// item reads the next typed line and what follows it.
func (s *bundleScanner) item() (item, error) {
	at := s.at
	line, err := s.line()
	if err != nil {
		return item{}, err
	}
	it, size, ok := parseItem(strings.Split(line, " "))
	if !ok {
		return item{}, s.bad(at, "not a typed line")
	}
	if it.kind != itemPruning && it.kind != itemCheckpoint && it.kind != itemSegment {
		return it, nil
	}
	if s.bodies {
		it.body = make([]byte, size)
		_, err = io.ReadFull(s.r, it.body)
	} else {
		_, err = s.r.Discard(size)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return item{}, s.bad(at, "the file ends in what follows")
	}
	s.at += int64(size)
	return it, err
}

// parseItem reads a typed line. size is how many bytes follow it.
func parseItem(fields []string) (it item, size int, ok bool) {
	ok = true
	number := func(i int) int64 {
		n, err := parseSize(fields[i])
		ok = ok && err == nil
		return n
	}
	switch {
	case len(fields) == 4 && fields[0] == "log":
		it.kind, it.origin, it.head.Size = itemLog, fields[1], number(2)
		_, valid := nodeOf(it.origin)
		root, err := parseRoot(fields[3])
		it.head.Root = root
		return it, 0, ok && valid && err == nil
	case len(fields) == 2 && (fields[0] == "checkpoint" || fields[0] == "prune"):
		if it.kind = itemCheckpoint; fields[0] == "prune" {
			it.kind = itemPruning
		}
		n := number(1)
		return it, int(n), ok && n <= MaxCheckpoint
	case len(fields) == 4 && fields[0] == "tile":
		data, err := base64.StdEncoding.Strict().DecodeString(fields[3])
		it.kind, it.tile = itemTile, Tile{Level: int(number(1)), Index: number(2), Data: data}
		return it, 0, ok && err == nil && !strings.Contains(fields[3], "\r")
	case len(fields) == 4 && fields[0] == "segment":
		it.kind, it.segment = itemSegment, Segment{First: number(1), Count: int(number(2))}
		n := number(3)
		return it, int(n), ok && n <= MaxSegmentBytes
	case len(fields) == 2 && fields[0] == "end":
		it.kind, it.count = itemEnd, int(number(1))
		return it, 0, ok
	}
	return item{}, 0, false
}
