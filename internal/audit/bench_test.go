package audit

import (
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func BenchmarkSeal(b *testing.B) {
	e := testEntry()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Seal(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	line := mustSeal(b, testEntry()).Line
	b.ReportAllocs()
	var buf []byte
	var err error
	for b.Loop() {
		if _, buf, err = decode(line, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeafHash(b *testing.B) {
	line := mustSeal(b, testEntry()).Line
	b.ReportAllocs()
	for b.Loop() {
		LeafHash(line)
	}
}

// BenchmarkAppend is what the committer does an entry: a clone of a tree of a
// million entries takes a batch, its root is computed and its tiles are taken.
func BenchmarkAppend(b *testing.B) {
	const batch = 32
	tree := NewTree()
	for range 1_000_000 {
		if err := tree.Append(tlog.Hash{1}); err != nil {
			b.Fatal(err)
		}
	}
	tree.TakeTiles()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%batch == 0 {
			tree.Root()
			tree.TakeTiles()
			tree = tree.Clone()
		}
		if err := tree.Append(tlog.Hash{2}); err != nil {
			b.Fatal(err)
		}
	}
}
