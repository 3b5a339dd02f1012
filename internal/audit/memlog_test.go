package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// memLog is a log as it is stored.
type memLog struct {
	origin      string
	head        Head
	segments    []Segment
	tiles       []Tile
	checkpoints [][]byte
	prunings    [][]byte
}

// memSource is logs in memory. grow, if set, runs after the first Head.
type memSource struct {
	logs []*memLog
	grow func()
	fail string // what cannot be read, "head"; after a second reading, "head 2"

	meanwhile func() // if set, runs after the first entries of the first log were read

	mu    sync.Mutex
	reads map[string]int
}

// fails reports whether this reading of something fails.
func (m *memSource) fails(what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads[what]++
	return m.fail == what || m.fail == fmt.Sprint(what, " ", m.reads[what])
}

var errDisk = errors.New("disk on fire")

func sourceOf(logs ...*memLog) *memSource { return &memSource{logs: logs, reads: make(map[string]int)} }

func (m *memSource) log(origin string) *memLog {
	for _, l := range m.logs {
		if l.origin == origin {
			return l
		}
	}
	return &memLog{}
}

func (m *memSource) Logs(context.Context) ([]string, error) {
	var origins []string
	for _, l := range m.logs {
		origins = append(origins, l.origin)
	}
	if m.fails("logs") {
		return nil, errDisk
	}
	return origins, nil
}

func (m *memSource) Head(_ context.Context, origin string) (Head, error) {
	head := m.log(origin).head
	if m.grow != nil {
		grow := m.grow
		m.grow = nil
		grow()
	}
	if m.fails("head") {
		return Head{}, errDisk
	}
	return head, nil
}

// yieldAll yields all, or the first half and then an error.
func yieldAll[T any](all []T, fail bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for i, v := range all {
			if fail && i >= len(all)/2 {
				break
			}
			if !yield(v, nil) {
				return
			}
		}
		if fail {
			var none T
			yield(none, errDisk)
		}
	}
}

func (m *memSource) Segments(_ context.Context, origin string, from int64) iter.Seq2[Segment, error] {
	all := m.log(origin).segments
	for from > 0 && len(all) > 0 && all[0].First+int64(all[0].Count) <= from {
		all = all[1:]
	}
	if fail := m.fails("segments"); m.meanwhile == nil || origin != m.logs[0].origin {
		return yieldAll(all, fail)
	}
	return func(yield func(Segment, error) bool) {
		for i, s := range all {
			if !yield(s, nil) {
				return
			}
			if i == 0 && m.meanwhile != nil {
				m.meanwhile()
				m.meanwhile = nil
				for rest, err := range m.Segments(context.Background(), origin, s.First+1) {
					if !yield(rest, err) {
						return
					}
				}
				return
			}
		}
	}
}

func (m *memSource) Tiles(_ context.Context, origin string) iter.Seq2[Tile, error] {
	return yieldAll(m.log(origin).tiles, m.fails("tiles"))
}

func (m *memSource) Prunings(_ context.Context, origin string) iter.Seq2[[]byte, error] {
	return yieldAll(m.log(origin).prunings, m.fails("prunings"))
}

func (m *memSource) Checkpoints(_ context.Context, origin string) iter.Seq2[[]byte, error] {
	return yieldAll(m.log(origin).checkpoints, m.fails("checkpoints"))
}

// numberedEntry is the entry of a number, with a time and id of its own.
func numberedEntry(node string, seq int64) Entry {
	e := testEntry()
	e.ID = fmt.Sprintf("019a9b3c-5d2e-7%03x-8a4b-%012x", seq%4096, seq)
	e.Time = testTime.Add(time.Duration(seq) * 10 * time.Millisecond)
	e.Node = node
	e.Resource.Reference = fmt.Sprintf("ref-%d", seq)
	return e
}

// writer writes a log as a node does: segments of different sizes, and a signed
// checkpoint after each that passes a multiple of every.
type writer struct {
	*memLog
	node  string
	key   *Signer
	tree  *Tree
	every int64
}

func newWriter(t testing.TB, node string) *writer {
	t.Helper()
	key := newKey(t, node)
	tree := NewTree()
	return &writer{memLog: &memLog{origin: key.Origin(), head: Head{0, tree.Root()}}, node: node, key: key, tree: tree, every: 100}
}

// newLog is a log of n entries, of which the last checkpoint covers all.
func newLog(t testing.TB, n int64) *writer {
	t.Helper()
	w := newWriter(t, "node-1")
	w.write(t, n)
	w.sign(t)
	return w
}

func (w *writer) write(t testing.TB, n int64) {
	t.Helper()
	for end := w.tree.Size() + n; w.tree.Size() < end; {
		first := w.tree.Size()
		var batch []Sealed
		for i := first; i < min(end, first+1+first%37); i++ {
			batch = append(batch, mustSeal(t, numberedEntry(w.node, i)))
		}
		w.commit(t, batch)
		if w.tree.Size()/w.every != first/w.every {
			w.sign(t)
		}
	}
}

func (w *writer) commit(t testing.TB, batch []Sealed) {
	t.Helper()
	w.segments = append(w.segments, Segment{First: w.tree.Size(), Count: len(batch), Body: EncodeSegment(batch)})
	for _, s := range batch {
		if err := w.tree.Append(s.Hash); err != nil {
			t.Fatal(err)
		}
	}
	w.tiles = append(w.tiles, w.tree.TakeTiles()...)
	sortTiles(w.tiles)
	w.head = Head{w.tree.Size(), w.tree.Root()}
}

func sortTiles(tiles []Tile) {
	slices.SortStableFunc(tiles, func(a, b Tile) int {
		if a.Level != b.Level {
			return a.Level - b.Level
		}
		return int(a.Index - b.Index)
	})
}

func (w *writer) sign(t testing.TB) {
	t.Helper()
	if signed := w.signed(t); len(w.checkpoints) == 0 || !bytes.Equal(w.checkpoints[len(w.checkpoints)-1], signed) {
		w.checkpoints = append(w.checkpoints, signed)
	}
}

// signed is a checkpoint of the head.
func (w *writer) signed(t testing.TB) []byte {
	t.Helper()
	signed, err := w.key.Sign(Checkpoint{Size: w.head.Size, Root: w.head.Root, Time: testTime})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// clone is a copy that can be tampered with.
func (l *memLog) clone() *memLog {
	c := *l
	c.segments = nil
	for _, s := range l.segments {
		s.Body = bytes.Clone(s.Body)
		c.segments = append(c.segments, s)
	}
	c.tiles = nil
	for _, t := range l.tiles {
		t.Data = bytes.Clone(t.Data)
		c.tiles = append(c.tiles, t)
	}
	c.checkpoints = nil
	for _, b := range l.checkpoints {
		c.checkpoints = append(c.checkpoints, bytes.Clone(b))
	}
	c.prunings = slices.Clone(l.prunings)
	return &c
}

// lines are all lines of the log, with the numbers that segments give them.
func (l *memLog) lines() [][]byte {
	var lines [][]byte
	for _, s := range l.segments {
		lines = append(lines, looseLines(s.Body)...)
	}
	return lines
}

// resegment writes lines as the segments of a log, one for every 50.
func (l *memLog) resegment(lines [][]byte) {
	l.segments = nil
	for first := 0; first < len(lines); first += 50 {
		var batch []Sealed
		for _, line := range lines[first:min(len(lines), first+50)] {
			batch = append(batch, Sealed{Line: line})
		}
		l.segments = append(l.segments, Segment{First: int64(first), Count: len(batch), Body: EncodeSegment(batch)})
	}
}

// What a tamperer sees to, besides the entries.
const (
	nothingElse      = iota
	head             // makes the head fit the entries
	headTiles        // and the tiles
	headTilesRemoval // and removes all checkpoints that do not
)

// cover makes the rest of the log fit its entries, as far as effort goes.
func (l *memLog) cover(t testing.TB, effort int) {
	t.Helper()
	tree := NewTree()
	roots := map[int64]tlog.Hash{0: tree.Root()}
	for _, line := range l.lines() {
		if err := tree.Append(LeafHash(line)); err != nil {
			t.Fatal(err)
		}
		roots[tree.Size()] = tree.Root()
	}
	if effort >= head {
		l.head = Head{tree.Size(), tree.Root()}
	}
	if effort >= headTiles {
		l.tiles = tree.TakeTiles()
		sortTiles(l.tiles)
	}
	if effort >= headTilesRemoval {
		l.checkpoints = slices.DeleteFunc(l.checkpoints, func(signed []byte) bool {
			c, err := openCheckpoint(signed, nobody())
			if !errors.Is(err, ErrUnknownKey) {
				t.Fatal(err)
			}
			return roots[c.Size] != c.Root
		})
	}
}
