package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// awaitLock returns when a connection to the database waits for a lock.
func awaitLock(t *testing.T, address string) {
	t.Helper()
	watch, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(context.Background())
	const waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()"
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var waits int
		if err := watch.QueryRow(t.Context(), waiting).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing waits")
		}
	}
}

// stores are the calls that insert a record.
func stores(t *testing.T, s *store.Store, node string, r vault.Record) map[string]func() error {
	e := storetest.EntryOf(t, node, r.Reference)
	return map[string]func() error{
		"put": func() error {
			_, err := s.PutRecord(context.Background(), r, e)
			return err
		},
		"upsert": func() error { return s.UpsertRecord(context.Background(), r, e) },
	}
}

// TestShreddingWaitsForAStoreUnderWay: a node has inserted a record and not committed
// it yet when another node marks the holder. Whoever has marked it must see the
// record, to remove it.
func TestShreddingWaitsForAStoreUnderWay(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"put", "upsert"} {
		s, p, address := openPaused(t)
		h := storetest.Holder(t, s)
		other := storetest.Open(t, address, storetest.OnNode("other"))
		if _, err := s.PutRecord(t.Context(), storetest.Record(h.ID), storetest.Entry(t, "first")); err != nil { // its statements are prepared
			t.Fatal(err)
		}
		if err := s.UpsertRecord(t.Context(), storetest.Record(h.ID), storetest.Entry(t, "second")); err != nil {
			t.Fatal(err)
		}
		shredded := make(chan error, 1)
		writes := 0
		between := func() {
			if writes++; writes == 2 { // the first is the insert, the second the log and the commit
				go func() {
					done, err := other.ShredHolder(context.Background(), h.ID, 9, storetest.EntryOf(t, "other", "shred"))
					shredded <- applied(done, err)
				}()
				awaitLock(t, address)
			}
		}
		p.before.Store(&between)
		err := stores(t, s, storetest.Node, storetest.Record(h.ID))[call]()
		p.before.Store(nil)
		if err != nil || writes < 2 {
			t.Fatalf("%s: %v after %d writes", call, err, writes)
		}
		if err := <-shredded; err != nil {
			t.Fatal(err)
		}
		if rows, err := other.RecordsOf(t.Context(), "public", "merchant_1", 0, 9); len(rows) != 3 || err != nil {
			t.Errorf("%s: who has shredded sees %d rows, %v", call, len(rows), err)
		}
		storetest.Verify(t, s)
	}
}

// TestStoreWaitsForAShreddingUnderWay: a node has marked a holder and not committed
// that yet when another node stores for it.
func TestStoreWaitsForAShreddingUnderWay(t *testing.T) {
	t.Parallel()
	s, p, address := openPaused(t)
	h := storetest.Holder(t, s)
	other := storetest.Open(t, address, storetest.OnNode("other"))
	warm := storetest.Record(h.ID)
	for _, call := range stores(t, other, "other", warm) {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	answers := make(chan error, 2)
	begun := false
	p.before.Store(new(func() {
		var marked bool // by a transaction that is open
		watch, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Error(err)
			return
		}
		defer watch.Close(context.Background())
		// Who asks for the row and need not wait gets it.
		err = watch.QueryRow(t.Context(), "SELECT count(*) = 0 FROM (SELECT id FROM holder WHERE id = $1 FOR KEY SHARE SKIP LOCKED) AS free", h.ID).Scan(&marked)
		if err != nil {
			t.Error(err)
		}
		if marked && !begun {
			begun = true
			go func() {
				for _, call := range stores(t, other, "other", storetest.Record(h.ID)) {
					answers <- call()
				}
			}()
			awaitLock(t, address)
		}
	}))
	done, err := s.ShredHolder(t.Context(), h.ID, 9, storetest.Entry(t, "shred"))
	p.before.Store(nil)
	if !done || err != nil || !begun {
		t.Fatal(done, err, begun)
	}
	for range 2 {
		if err := <-answers; !errors.Is(err, vault.ErrShredded) {
			t.Errorf("stored for a shredded merchant: %v", err)
		}
	}
	if rows, err := s.RecordsOf(t.Context(), "public", "merchant_1", 0, 9); len(rows) != 1 || err != nil {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	storetest.Verify(t, s)
}
