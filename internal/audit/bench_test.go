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

// BenchmarkVerify reads a log of 200,000 entries in segments of about 19; the
// metric that matters is entries a second.
func BenchmarkVerify(b *testing.B) {
	const n = 200_000
	w := newWriter(b, "node-1")
	w.every = 1000
	w.write(b, n)
	w.sign(b)
	o := VerifyOptions{Verifiers: []string{w.key.Verifier()}}
	b.ReportAllocs()
	for b.Loop() {
		r, err := Verify(b.Context(), sourceOf(w.memLog), o)
		if err != nil || !r.OK() {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkScan(b *testing.B) {
	line := mustSeal(b, testEntry()).Line
	s := newScanner("node-1")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.scan(line); !ok {
			b.Fatal("not recognised")
		}
	}
}
