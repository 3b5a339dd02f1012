package audit

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are as in C2SP tlog-tiles: 256 hashes each.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
	TileBytes  = TileWidth * tlog.HashSize

	// tileLevels is enough for every size that an int64 holds.
	tileLevels = 8
	// maxSize is above every number of entries, in all formats.
	maxSize = 1 << 62
)

// ErrDamaged says that the parts of a stored tree do not fit together.
var ErrDamaged = errors.New("audit log is damaged")

// Tile is a full tile: the 256 hashes 256·Index … 256·Index+255 of tree level
// 8·Level.
type Tile struct {
	Level int
	Index int64
	Data  []byte // TileBytes
}

// Tree is the RFC 6962 tree over the entries of a log, which is built by
// appending to it. It keeps no entries, and of the hashes those only that later
// ones need: at most 64 and 255 a tile level. It is not safe for concurrent use.
type Tree struct {
	size  int64
	edge  edge
	tiles [tileLevels][]byte // hashes of the last, partial tile of each level
	done  []Tile             // full, not yet taken
}

// edge holds the roots of complete subtrees on the right edge of the tree: at
// each level the last one that is a left child. They are all that tlog reads
// when a tree grows by one and when its root is computed.
type edge [63]tlog.Hash

// ReadHashes implements tlog.HashReader.
func (e *edge) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, _ := tlog.SplitStoredHashIndex(x)
		hashes[i] = e[level]
	}
	return hashes, nil
}

// NewTree returns the empty tree.
func NewTree() *Tree { return &Tree{} }

// Append adds the leaf hash of the next entry. The error is for a tree that is
// full, at 2^62 - 1 entries.
func (t *Tree) Append(h tlog.Hash) error {
	if t.size >= maxSize-1 {
		return fmt.Errorf("append to audit log: %d entries are the limit", t.size)
	}
	// As tlog.StoredHashesForRecordHash does, without memory for its result.
	for level := 0; ; level++ {
		if level%TileHeight == 0 {
			t.file(level/TileHeight, h)
		}
		if t.size>>level&1 == 0 { // h is a left child, whose sibling is to come
			t.edge[level] = h
			break
		}
		h = tlog.NodeHash(t.edge[level], h)
	}
	t.size++
	return nil
}

// file adds the next hash of a tile level.
func (t *Tree) file(level int, h tlog.Hash) {
	tile := &t.tiles[level]
	if *tile == nil {
		*tile = make([]byte, 0, TileBytes)
	}
	*tile = append(*tile, h[:]...)
	if len(*tile) == TileBytes {
		t.done = append(t.done, Tile{Level: level, Index: t.size >> (TileHeight * (level + 1)), Data: *tile})
		*tile = nil
	}
}

// Size is the number of entries.
func (t *Tree) Size() int64 { return t.size }

// Root is the root hash; of the empty tree the hash of nothing.
func (t *Tree) Root() tlog.Hash {
	root, err := tlog.TreeHash(t.size, &t.edge)
	if err != nil {
		panic(err) // edge.ReadHashes returns none, nor a wrong number
	}
	return root
}

// TakeTiles returns the tiles that became full since the last call, which the
// caller then owns.
func (t *Tree) TakeTiles() []Tile {
	done := t.done
	t.done = nil
	return done
}

// Clone returns a tree that grows independently. It copies about 8 KiB a tile level.
func (t *Tree) Clone() *Tree { return t.CloneTo(nil) }

// CloneTo is Clone into the memory of old, a tree that is not needed any more, if it
// is not nil.
func (t *Tree) CloneTo(old *Tree) *Tree {
	if old == nil {
		old = &Tree{}
	}
	old.size, old.edge = t.size, t.edge
	for level, tile := range t.tiles {
		switch {
		case tile == nil:
			old.tiles[level] = nil
			continue
		case old.tiles[level] == nil:
			old.tiles[level] = make([]byte, 0, TileBytes)
		}
		old.tiles[level] = append(old.tiles[level][:0], tile...)
	}
	old.done = append(old.done[:0], t.done...)
	return old
}

// ResumeTree restores the tree of a log from what is stored: the head's size and
// root, full tiles, and the leaf hashes of the entries after the last full tile of
// level 0. It asks for at most 255 tiles a level. The error is tiles' own, or
// ErrDamaged if the root of what was read is not root: then nothing must be
// appended to the log, or the damage would be signed.
func ResumeTree(size int64, root tlog.Hash, tiles func(level int, index int64) ([]byte, error), tail []tlog.Hash) (*Tree, error) {
	if size < 0 || size >= maxSize {
		return nil, fmt.Errorf("resume audit log: %w: size %d", ErrDamaged, size)
	}
	if want := size % TileWidth; int64(len(tail)) != want {
		return nil, fmt.Errorf("resume audit log: %w: %d entries after the last full tile, want %d for a log of %d",
			ErrDamaged, len(tail), want, size)
	}
	t := &Tree{size: size}
	for _, h := range tail {
		t.tiles[0] = append(t.tiles[0], h[:]...)
	}
	for level := 1; level < tileLevels; level++ {
		if err := t.resumeLevel(level, tiles); err != nil {
			return nil, fmt.Errorf("resume audit log: %w", err)
		}
	}
	if err := t.resumeEdge(); err != nil {
		return nil, fmt.Errorf("resume audit log: %w", err)
	}
	if got := t.Root(); got != root {
		return nil, fmt.Errorf("resume audit log: %w: tiles and entries have the root %s, the head of %d entries says %s",
			ErrDamaged, got, size, root)
	}
	return t, nil
}

// resumeLevel fills the partial tile of a level from the full tiles below it.
func (t *Tree) resumeLevel(level int, tiles func(int, int64) ([]byte, error)) error {
	to := t.size >> (TileHeight * level)
	for index := to &^ (TileWidth - 1); index < to; index++ {
		data, err := tiles(level-1, index)
		if err != nil {
			return fmt.Errorf("read tile %d/%d: %w", level-1, index, err)
		}
		root, err := tileRoot(level-1, index, data)
		if err != nil {
			return err
		}
		t.tiles[level] = append(t.tiles[level], root[:]...)
	}
	return nil
}

// resumeEdge computes the subtree for each bit of the size from the partial tile
// whose hashes it spans.
func (t *Tree) resumeEdge() error {
	for bit := range t.edge {
		if t.size>>bit&1 == 0 {
			continue
		}
		level := bit / TileHeight
		data := t.tiles[level]
		tile := tlog.Tile{H: TileHeight, L: level, N: t.size >> (TileHeight * (level + 1)), W: len(data) / tlog.HashSize}
		h, err := tlog.HashFromTile(tile, data, tlog.StoredHashIndex(bit, t.size>>bit-1))
		if err != nil {
			return err
		}
		t.edge[bit] = h
	}
	return nil
}

// tileRoot is the hash over a full tile.
func tileRoot(level int, index int64, data []byte) (tlog.Hash, error) {
	if len(data) != TileBytes {
		return tlog.Hash{}, fmt.Errorf("%w: tile %d/%d has %d bytes, want %d", ErrDamaged, level, index, len(data), TileBytes)
	}
	// tlog counts a tile's root to the tile above and so gives only its halves.
	tile := tlog.Tile{H: TileHeight, L: level, N: index, W: TileWidth}
	half := TileHeight*(level+1) - 1
	left, err := tlog.HashFromTile(tile, data, tlog.StoredHashIndex(half, 2*index))
	if err != nil {
		return tlog.Hash{}, err
	}
	right, err := tlog.HashFromTile(tile, data, tlog.StoredHashIndex(half, 2*index+1))
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.NodeHash(left, right), nil
}
