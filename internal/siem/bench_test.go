package siem

import (
	"path/filepath"
	"testing"
	"time"
)

func BenchmarkFormats(b *testing.B) {
	for name, ev := range map[string]*Event{"entry": entryEvent(b, testEntry()), "call": entryEvent(b, callEntry())} {
		for _, f := range Formats() {
			b.Run(name+"/"+string(f), func(b *testing.B) {
				e, buf := encoder(f), []byte(nil)
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if buf, err = e.Append(buf[:0], ev); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(buf)))
			})
		}
	}
}

// BenchmarkDeliverToFile delivers a log of 10,000 entries: reading, strict decoding,
// the tree, NDJSON, and a sync and a new cursor for each batch of 500.
func BenchmarkDeliverToFile(b *testing.B) {
	const n = 10_000
	log := newMemLog(b, "node-1")
	log.add(b, n)
	for b.Loop() {
		dir := b.TempDir()
		o, _, _ := options(b, dir, []*memLog{log}, Receiver{Name: "file", Sink: NewFile(FileOptions{Path: filepath.Join(dir, "x"), Encoder: encoder(FormatNDJSON), Now: time.Now})})
		d := mustOpen(b, o)
		if err := d.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
