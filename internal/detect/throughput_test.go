//go:build unix

package detect_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
	"cardea/internal/detect/traffic"
)

// BenchmarkFromFiles reads a trail's files, parses and detects, and beside it
// unpacks and decodes them with encoding/json alone. cpu-ns/record is what counts
// where the machine is shared.
func BenchmarkFromFiles(b *testing.B) {
	p := traffic.Random(7)
	p.Days, p.Attacks, p.Rate = 3, false, 1500
	w := traffic.New(p)
	dir := b.TempDir()
	records, err := w.WriteTrail(dir)
	if err != nil {
		b.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "AWSLogs", "*", "CloudTrail", "*", "*", "*", "*", "*.gz"))
	if err != nil || len(paths) == 0 {
		b.Fatal(len(paths), err)
	}
	var files [][]byte
	for _, path := range paths { // in the order of their names, which is that of time
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, data)
	}
	rules, err := detect.ParseRules(w.Rules())
	if err != nil {
		b.Fatal(err)
	}
	measure := func(b *testing.B, f func()) {
		b.Helper()
		start := cpu()
		for b.Loop() {
			f()
		}
		n := float64(b.N) * float64(records)
		b.ReportMetric(float64(cpu()-start)/n, "cpu-ns/record")
		b.ReportMetric(n/b.Elapsed().Seconds(), "records/s")
	}
	b.Run("detect", func(b *testing.B) {
		measure(b, func() {
			d := detector(b, rules)
			r := cloudtrail.NewReader(bytes.NewReader(nil), cloudtrail.Options{})
			var e cloudtrail.Event
			for _, f := range files {
				r.Reset(bytes.NewReader(f))
				for {
					if err := r.Read(&e); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
					d.Observe(&e)
				}
			}
			if s := d.Stats(); s.Events != uint64(records) || s.Late != 0 {
				b.Fatalf("stats %+v of %d records", s, records)
			}
		})
	})
	b.Run("encoding/json alone", func(b *testing.B) {
		measure(b, func() {
			for _, f := range files {
				z, err := gzip.NewReader(bytes.NewReader(f))
				if err != nil {
					b.Fatal(err)
				}
				var v struct{ Records []map[string]any }
				if err := json.NewDecoder(z).Decode(&v); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// cpu is the time that the process computed.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
