package store_test

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// callers is how many goroutines call the store at once.
const callers = 64

func eachBench(b *testing.B, bench func(b *testing.B, db storetest.Database)) {
	for _, db := range storetest.Databases() {
		b.Run(db.Name, func(b *testing.B) { bench(b, db) })
	}
}

// measure runs n and reports calls a second and the processor time of this process.
func measure(b *testing.B, run func()) {
	b.Helper()
	b.ReportAllocs()
	before := processorTime(b)
	b.ResetTimer()
	run()
	b.StopTimer()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// open opens a store and, when b ends, reports how many calls shared a commit.
func open(b *testing.B, db storetest.Database) *store.Store {
	r := prometheus.NewRegistry()
	s := storetest.Open(b, db.URL(b), func(o *store.Options) { o.Metrics = r })
	b.Cleanup(func() {
		families, err := r.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if h := f.Metric[0].GetHistogram(); f.GetName() == "cardea_store_batch_size" {
				b.ReportMetric(h.GetSampleSum()/float64(h.GetSampleCount()), "units/commit")
			}
		}
	})
	return s
}

// concurrently calls fn for 0 to n-1 on all callers.
func concurrently(b *testing.B, n int, fn func(ctx context.Context, i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(b.Context(), i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func makePairs(b *testing.B, n int, holder int64) ([]vault.Record, []audit.Sealed) {
	records, entries := make([]vault.Record, n), make([]audit.Sealed, n)
	for i := range n {
		records[i] = storetest.Record(holder)
		entries[i] = storetest.Entry(b, records[i].Reference)
	}
	return records, entries
}

func BenchmarkPutRecord64(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		records, entries := makePairs(b, b.N, storetest.Holder(b, s).ID)
		measure(b, func() {
			concurrently(b, b.N, func(ctx context.Context, i int) error {
				_, err := s.PutRecord(ctx, records[i], entries[i])
				return err
			})
		})
	})
}

func BenchmarkAppend64(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		e := storetest.Entry(b, "reference")
		measure(b, func() {
			concurrently(b, b.N, func(ctx context.Context, _ int) error { return s.Append(ctx, e) })
		})
	})
}

func BenchmarkRecord64(b *testing.B) {
	const rows = 20000
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		records := fill(b, s, rows)
		measure(b, func() {
			concurrently(b, b.N, func(ctx context.Context, i int) error {
				_, err := s.Record(ctx, records[i*7919%rows].Lookup)
				return err
			})
		})
	})
}

// BenchmarkRecordThenAppend64 is what a retrieve asks of a store.
func BenchmarkRecordThenAppend64(b *testing.B) {
	const rows = 20000
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		records, e := fill(b, s, rows), storetest.Entry(b, "reference")
		measure(b, func() {
			concurrently(b, b.N, func(ctx context.Context, i int) error {
				if _, err := s.Record(ctx, records[i*7919%rows].Lookup); err != nil {
					return err
				}
				return s.Append(ctx, e)
			})
		})
	})
}

func BenchmarkRecord1(b *testing.B) {
	const rows = 20000
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		records := fill(b, s, rows)
		measure(b, func() {
			for i := range b.N {
				if _, err := s.Record(b.Context(), records[i*7919%rows].Lookup); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func fill(b *testing.B, s *store.Store, rows int) []vault.Record {
	records, entries := makePairs(b, rows, storetest.Holder(b, s).ID)
	concurrently(b, rows, func(ctx context.Context, i int) error {
		_, err := s.PutRecord(ctx, records[i], entries[i])
		return err
	})
	return records
}

const (
	rawColumns = "lookup, dedupe, holder_id, space, kind, customer, reference, mode, key_id, key_version, sealed, created_at, expires_at, hashed_by"
	rawBatch   = 64
)

// BenchmarkRawPair64 is the bound of BenchmarkPutRecord64: the same rows and one
// segment of entries, 64 a transaction, by nothing but a loop.
func BenchmarkRawPair64(b *testing.B) {
	b.Run("sqlite", rawSQLite)
	b.Run("postgres", rawPostgres)
}

func rawSQLite(b *testing.B) {
	url := storetest.SQLite(b)
	if err := openOnce(b, url); err != nil {
		b.Fatal(err)
	}
	records, entries := makePairs(b, b.N+rawBatch, 1)
	conn, err := new(sqlite.Driver).Open("file:" + strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		b.Fatal(err)
	}
	var stmts []driver.Stmt
	defer func() {
		for _, st := range stmts {
			st.Close()
		}
		conn.Close()
	}()
	ctx := context.Background()
	for _, p := range []string{"synchronous(FULL)", "wal_autocheckpoint(4000)", "temp_store(MEMORY)", "cache_size(-65536)"} {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "PRAGMA "+p, nil); err != nil {
			b.Fatal(err)
		}
	}
	var args []driver.NamedValue
	exec := func(sql string) func(...any) {
		st, err := conn.Prepare(sql)
		if err != nil {
			b.Fatal(err)
		}
		stmts = append(stmts, st)
		return func(values ...any) {
			args = args[:0]
			for i, v := range values {
				args = append(args, driver.NamedValue{Ordinal: i + 1, Value: v})
			}
			if _, err := st.(driver.StmtExecContext).ExecContext(ctx, args); err != nil {
				b.Fatal(err)
			}
		}
	}
	begin, commit := exec("BEGIN IMMEDIATE"), exec("COMMIT")
	insert := exec("INSERT INTO record (" + rawColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
	segment := exec("INSERT INTO audit_segment (log_id, first, count, body) VALUES (?,?,?,?)")
	head := exec("UPDATE audit_log SET size = ? WHERE id = 1")
	measure(b, func() {
		for n := 0; n < b.N; n += rawBatch {
			begin()
			for i := range rawBatch {
				r := &records[n+i]
				insert(r.Lookup[:], r.Dedupe[:], r.HolderID, int64(r.Space), int64(r.Kind), r.Customer, r.Reference, int64(r.Mode),
					r.Key[:], int64(r.KeyVersion), r.Sealed, int64(r.CreatedAt), int64(r.ExpiresAt), int64(r.HashedBy))
			}
			segment(int64(1), int64(n), int64(rawBatch), audit.EncodeSegment(entries[n:n+rawBatch]))
			head(int64(n))
			commit()
		}
	})
}

func rawPostgres(b *testing.B) {
	url := storetest.Postgres(b)
	if err := openOnce(b, url); err != nil {
		b.Fatal(err)
	}
	records, entries := makePairs(b, b.N+rawBatch, 1)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	const insert = "INSERT INTO record (" + rawColumns + `) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::smallint[],
		$5::smallint[], $6::text[], $7::text[], $8::smallint[], $9::bytea[], $10::bigint[], $11::bytea[], $12::bigint[], $13::bigint[], $14::bigint[])`
	measure(b, func() {
		for n := 0; n < b.N; n += rawBatch {
			var lookups, dedupes, keys, sealed [][]byte
			var holders, versions, created, expires, hashed []int64
			var spaces, kinds, modes []int16
			var customers, references []string
			for i := range rawBatch {
				r := &records[n+i]
				lookups, dedupes = append(lookups, r.Lookup[:]), append(dedupes, r.Dedupe[:])
				keys, sealed = append(keys, r.Key[:]), append(sealed, r.Sealed)
				holders, versions = append(holders, r.HolderID), append(versions, int64(r.KeyVersion))
				created, expires = append(created, int64(r.CreatedAt)), append(expires, int64(r.ExpiresAt))
				spaces, kinds, modes = append(spaces, int16(r.Space)), append(kinds, int16(r.Kind)), append(modes, int16(r.Mode))
				customers, references = append(customers, r.Customer), append(references, r.Reference)
				hashed = append(hashed, int64(r.HashedBy))
			}
			var batch pgx.Batch
			batch.Queue("BEGIN")
			batch.Queue(insert, lookups, dedupes, holders, spaces, kinds, customers, references, modes, keys, versions, sealed, created, expires, hashed)
			batch.Queue("INSERT INTO audit_segment (log_id, first, count, body) VALUES (1, $1, $2, $3)", int64(n), int64(rawBatch),
				audit.EncodeSegment(entries[n:n+rawBatch]))
			batch.Queue("UPDATE audit_log SET size = $1 WHERE id = 1", int64(n))
			batch.Queue("COMMIT")
			if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// openOnce makes the schema.
func openOnce(b *testing.B, url string) error {
	s, err := store.Open(b.Context(), store.Options{URL: url, Node: storetest.Node})
	if err != nil {
		return err
	}
	return s.Close()
}
