package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// treeOf is a tree over n made-up leaves.
func treeOf(t testing.TB, n int64) *Tree {
	t.Helper()
	tree := NewTree()
	grow(t, tree, n)
	return tree
}

func grow(t testing.TB, tree *Tree, n int64) {
	t.Helper()
	for range n {
		if err := tree.Append(testLeaf(tree.Size())); err != nil {
			t.Fatal(err)
		}
	}
}

func testLeaf(i int64) tlog.Hash { return LeafHash(fmt.Appendf(nil, "entry %d", i)) }

// The roots of RFC 6962's reference implementation over its eight leaves.
func TestTreeHasTheRootsOfCertificateTransparency(t *testing.T) {
	t.Parallel()
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	tree := NewTree()
	for i, want := range roots {
		if got := tree.Root(); hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %d: got %x, want %s", i, got, want)
		}
		if i == len(leaves) {
			break
		}
		leaf, err := hex.DecodeString(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Append(LeafHash(leaf)); err != nil {
			t.Fatal(err)
		}
	}
}

// storedTiles collects tiles as a database would.
type storedTiles map[tileAt][]byte

func (s storedTiles) take(tree *Tree) {
	for _, t := range tree.TakeTiles() {
		s[tileAt{t.Level, t.Index}] = t.Data
	}
}

func (s storedTiles) read(level int, index int64) ([]byte, error) {
	data, ok := s[tileAt{level, index}]
	if !ok {
		return nil, fmt.Errorf("no tile %d/%d", level, index)
	}
	return data, nil
}

func tailOf(size int64) []tlog.Hash {
	var tail []tlog.Hash
	for i := size &^ (TileWidth - 1); i < size; i++ {
		tail = append(tail, testLeaf(i))
	}
	return tail
}

// TestTilesAreThoseOfTlog compares with tlog's own reading of a full hash store.
func TestTilesAreThoseOfTlog(t *testing.T) {
	t.Parallel()
	const n = 3*TileWidth + 7
	tiles := storedTiles{}
	tree := treeOf(t, n)
	tiles.take(tree)
	var store []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, x := range indexes {
			out = append(out, store[x])
		}
		return out, nil
	})
	for i := range int64(n) {
		hashes, err := tlog.StoredHashesForRecordHash(i, testLeaf(i), reader)
		if err != nil {
			t.Fatal(err)
		}
		store = append(store, hashes...)
	}
	full := 0
	for _, tile := range tlog.NewTiles(TileHeight, 0, n) {
		if tile.W != TileWidth {
			continue
		}
		full++
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := tiles[tileAt{tile.L, tile.N}]; string(got) != string(want) {
			t.Errorf("tile %s differs", tile.Path())
		}
	}
	if full != len(tiles) || full != 3 {
		t.Errorf("got %d tiles, want %d, both 3", len(tiles), full)
	}
	if root, err := tlog.TreeHash(n, reader); err != nil || root != tree.Root() {
		t.Errorf("got the root %s, want %s, %v", tree.Root(), root, err)
	}
}

// TestResumedTreeIsTheTree: at any size, however it was reached, a resumed tree
// has the root and grows to the same roots and tiles as one that never stopped.
func TestResumedTreeIsTheTree(t *testing.T) {
	t.Parallel()
	const most = TileWidth*TileWidth + 2*TileWidth // so that level 2 is reached
	sizes := rapid.OneOf(rapid.Int64Range(0, 3*TileWidth), rapid.Int64Range(0, most),
		rapid.SampledFrom([]int64{0, 1, 255, 256, 257, 65535, 65536, 65537, 65536 + 255, 65536 + 256}))
	whole := treeOf(t, most)
	tiles := storedTiles{}
	tiles.take(whole)
	rapid.Check(t, func(rt *rapid.T) {
		size := sizes.Draw(rt, "size")
		more := rapid.Int64Range(0, 600).Draw(rt, "more")
		fresh := treeOf(t, size)
		fresh.TakeTiles()
		resumed, err := ResumeTree(size, fresh.Root(), func(level int, index int64) ([]byte, error) {
			if !(tileAt{level, index}).inside(size) {
				return nil, fmt.Errorf("tile %d/%d is not full at %d", level, index, size)
			}
			return tiles.read(level, index)
		}, tailOf(size))
		if err != nil {
			rt.Fatal(err)
		}
		if resumed.Size() != size {
			rt.Fatalf("got size %d, want %d", resumed.Size(), size)
		}
		grow(t, fresh, more)
		grow(t, resumed, more)
		if fresh.Root() != resumed.Root() {
			rt.Fatalf("resumed at %d, after %d more the roots differ", size, more)
		}
		a, b := storedTiles{}, storedTiles{}
		a.take(fresh)
		b.take(resumed)
		for at, data := range a {
			if string(b[at]) != string(data) || len(a) != len(b) {
				rt.Fatalf("resumed at %d, after %d more tile %v differs", size, more, at)
			}
		}
	})
}

func TestResumeRefusesDamage(t *testing.T) {
	t.Parallel()
	const size = 2*TileWidth + 10
	tree := treeOf(t, size)
	tiles := storedTiles{}
	tiles.take(tree)
	root := tree.Root()
	changed := storedTiles{{0, 0}: append([]byte(nil), tiles[tileAt{0, 0}]...), {0, 1}: tiles[tileAt{0, 1}]}
	changed[tileAt{0, 0}][100] ^= 1
	swapped := tailOf(size)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for name, c := range map[string]struct {
		size  int64
		root  tlog.Hash
		tiles storedTiles
		tail  []tlog.Hash
		want  string
	}{
		"another root":  {size, tlog.Hash{1}, tiles, tailOf(size), "tiles and entries have the root"},
		"a tile":        {size, root, changed, tailOf(size), "tiles and entries have the root"},
		"a tail":        {size, root, tiles, swapped, "tiles and entries have the root"},
		"a short tail":  {size, root, tiles, tailOf(size)[1:], "9 entries after the last full tile, want 10 for a log of 522"},
		"no tail":       {size + 1, root, tiles, nil, "0 entries after the last full tile, want 11"},
		"a short tile":  {size, root, storedTiles{{0, 0}: {1}}, tailOf(size), "tile 0/0 has 1 bytes, want 8192"},
		"negative size": {-1, root, tiles, nil, "size -1"},
		"a huge size":   {maxSize, root, tiles, nil, "size 4611686018427387904"},
	} {
		_, err := ResumeTree(c.size, c.root, c.tiles.read, c.tail)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want ErrDamaged with %q", name, err, c.want)
		}
	}
	if _, err := ResumeTree(size, root, storedTiles{}.read, tailOf(size)); err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "no tile 0/0") {
		t.Errorf("unreadable tile: got %v, want the reader's error", err)
	}
}

// TestCloneGrowsAlone is the committer's use: a commit that fails leaves no trace.
func TestCloneGrowsAlone(t *testing.T) {
	t.Parallel()
	tree := treeOf(t, TileWidth-1)
	root := tree.Root()
	failed := tree.Clone()
	for range 600 {
		if err := failed.Append(tlog.Hash{9}); err != nil {
			t.Fatal(err)
		}
	}
	if tree.Size() != TileWidth-1 || tree.Root() != root || len(tree.TakeTiles()) != 0 {
		t.Error("the clone's growth reached the original")
	}
	if got := len(failed.TakeTiles()); got != 3 {
		t.Errorf("the clone has %d tiles, want 3", got)
	}
	grow(t, tree, 600)
	if want := treeOf(t, TileWidth-1+600).Root(); tree.Root() != want {
		t.Error("the original grew to another root")
	}
	clone := tree.Clone()
	if a, b := clone.TakeTiles(), tree.TakeTiles(); len(a) != 3 || len(b) != 3 {
		t.Errorf("tiles before cloning: clone %d, original %d, want 3 each", len(a), len(b))
	}
}
