package retention_test

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
)

// BenchmarkVerify verifies a log of a million entries in memory, and says what part
// of the speed that is at which as many goroutines hash the same bytes by SHA-256 in
// the same run and do nothing else.
func BenchmarkVerify(b *testing.B) {
	const size, commit = 1_000_000, 500
	m := newMemLog(b, vaultLog)
	var bytes int64
	for n := 0; n < size; {
		batch := make([]audit.Entry, commit)
		for i := range batch {
			batch[i] = entry("vault-1", n, noon.Add(time.Duration(n)*time.Millisecond))
			n++
		}
		m.commit(b, vaultLog, noon.Add(time.Duration(n)*time.Millisecond), batch...)
	}
	segments := m.logs[vaultLog].segments
	for _, s := range segments {
		bytes += int64(len(s.Body))
	}
	workers := runtime.GOMAXPROCS(0)
	b.SetBytes(bytes)
	var verifying, hashing time.Duration
	for b.Loop() {
		start := time.Now()
		r, err := audit.Verify(b.Context(), m, audit.VerifyOptions{Verifiers: m.verifiers(), Workers: workers})
		if err != nil || !r.OK() {
			b.Fatal(r, err)
		}
		verifying += time.Since(start)
		start = time.Now()
		var g errgroup.Group
		for w := range workers {
			g.Go(func() error {
				var all [sha256.Size]byte
				for i := w; i < len(segments); i += workers {
					sum := sha256.Sum256(segments[i].Body)
					all[0] ^= sum[0]
				}
				if all == [sha256.Size]byte{1: 1} {
					return fmt.Errorf("never")
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		hashing += time.Since(start)
	}
	runs := float64(b.N)
	b.ReportMetric(size*runs/verifying.Seconds(), "entries/s")
	b.ReportMetric(float64(bytes)*runs/verifying.Seconds()/1e6, "verify-MB/s")
	b.ReportMetric(float64(bytes)*runs/hashing.Seconds()/1e6, "sha256-MB/s")
	b.ReportMetric(0, "ns/op")
}
