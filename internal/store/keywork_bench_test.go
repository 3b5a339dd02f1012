package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// resealRows is how many records BenchmarkReplaceSealed and its bound work on.
const resealRows = 20_000

// fillUnder stores records of one merchant under one key.
func fillUnder(b *testing.B, s *store.Store, rows int) vault.WrappedKey {
	h := storetest.Holder(b, s)
	k := vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: "public", Holder: h.Name, Purpose: vault.PurposeRecord, Version: 1, State: vault.KeyActive,
		Mode: vault.ModeLocal, Wrapped: []byte("wrapped"), CreatedAt: 1,
	}
	if _, created, err := s.PutKey(b.Context(), k, storetest.Entry(b, "key")); !created || err != nil {
		b.Fatal(created, err)
	}
	records, entries := makePairs(b, rows, h.ID)
	concurrently(b, rows, func(ctx context.Context, i int) error {
		records[i].Key = k.ID
		_, err := s.PutRecord(ctx, records[i], entries[i])
		return err
	})
	return k
}

// BenchmarkReplaceSealed moves records under another key version, as re-encryption
// does, but for its cryptography. "list" reads them by RecordsUnder, too.
func BenchmarkReplaceSealed(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		for _, batch := range []int{100, 500, 1000} {
			for _, list := range []bool{false, true} {
				b.Run(fmt.Sprintf("batch=%d/list=%v", batch, list), func(b *testing.B) { benchReplaceSealed(b, db.URL(b), batch, list) })
			}
		}
	})
}

func benchReplaceSealed(b *testing.B, url string, batch int, list bool) {
	s := storetest.Open(b, url)
	k := fillUnder(b, s, resealRows)
	rows, err := s.RecordsOf(b.Context(), "public", k.Holder, 0, resealRows)
	if err != nil || len(rows) != resealRows {
		b.Fatal(len(rows), err)
	}
	e := storetest.Entry(b, "batch")
	done, longest := 0, time.Duration(0)
	b.ResetTimer()
	for n := range b.N {
		from := n * batch % resealRows
		version := uint32(n*batch/resealRows + 2)
		page := rows[from : from+batch]
		if list {
			after := int64(0)
			if from > 0 {
				after = rows[from-1].Row
			}
			got, err := s.RecordsUnder(b.Context(), vault.KeyVersion{ID: k.ID, Version: version - 1}, after, batch)
			if err != nil || len(got) != batch {
				b.Fatal(len(got), err)
			}
		}
		changes := make([]vault.ResealedRecord, batch)
		for i := range page {
			r := &page[i]
			blob := bytes.Clone(r.Sealed)
			blob[0]++
			changes[i] = vault.ResealedRecord{Row: r.Row, Was: r.Sealed, Sealed: vault.Sealed{Mode: r.Mode, Key: k.ID, KeyVersion: version, Blob: blob}}
			r.Sealed = blob
		}
		start := time.Now()
		oks, err := s.ReplaceSealed(b.Context(), changes, e)
		if err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(start))
		for _, ok := range oks {
			if !ok {
				b.Fatal("not as it was read")
			}
			done++
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(longest.Microseconds())/1e3, "ms-longest")
}

// BenchmarkBulkUpdate is the bound of BenchmarkReplaceSealed: the same columns by
// one statement.
func BenchmarkBulkUpdate(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		url := db.URL(b)
		s := storetest.Open(b, url)
		fillUnder(b, s, resealRows)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		update := bulkUpdate(b, url)
		b.ResetTimer()
		for range b.N {
			update()
		}
		b.ReportMetric(float64(b.N)*resealRows/b.Elapsed().Seconds(), "rows/s")
	})
}

func bulkUpdate(b *testing.B, url string) func() {
	ctx := b.Context()
	key := vault.NewKeyID()
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(0)&_pragma=secure_delete(ON)&_pragma=cache_size(-65536)")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { db.Close() })
		return func() {
			if _, err := db.ExecContext(ctx, "UPDATE record SET mode = 2, key_id = $1, key_version = key_version + 1, sealed = randomblob(190)", key[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	return func() {
		if _, err := conn.Exec(ctx, `UPDATE record SET mode = 2, key_id = $1, key_version = key_version + 1, sealed = substr(sealed, 2) || '\x01'`, key[:]); err != nil {
			b.Fatal(err)
		}
	}
}
