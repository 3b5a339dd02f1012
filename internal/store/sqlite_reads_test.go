package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// hold keeps the committer of s busy until release is called.
func hold(t *testing.T, s *store.Store) (release func()) {
	t.Helper()
	held, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if err := s.BetweenCommits(context.WithoutCancel(t.Context()), func() { close(held); <-end }); err != nil {
			t.Error(err)
		}
	}()
	<-held
	release = sync.OnceFunc(func() { close(end); <-done })
	t.Cleanup(release)
	return release
}

func storeRecords(t *testing.T, s *store.Store, n int) []vault.Record {
	t.Helper()
	h := storetest.Holder(t, s)
	rs := make([]vault.Record, n)
	for i := range rs {
		rs[i] = storetest.Record(h.ID)
		if _, err := s.PutRecord(t.Context(), rs[i], storetest.Entry(t, rs[i].Reference)); err != nil {
			t.Fatal(err)
		}
	}
	return rs
}

func TestSQLiteReadsThatWaitTogetherGetTheirOwn(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	rs := storeRecords(t, s, 8)
	release := hold(t, s)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			want := rs[i%len(rs)]
			if i%5 == 0 {
				if _, err := s.Record(t.Context(), storetest.Record(1).Lookup); !errors.Is(err, vault.ErrNotFound) {
					t.Errorf("a record that is not there: %v", err)
				}
			}
			got, err := s.Record(t.Context(), want.Lookup)
			if err != nil || got.Reference != want.Reference || string(got.Sealed) != string(want.Sealed) {
				t.Errorf("got %s, %v, want %s", got.Reference, err, want.Reference)
			}
			clear(got.Sealed) // the caller's own
		})
	}
	release()
	wg.Wait()
}

func TestSQLiteReadLeavesWithItsCaller(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	rs := storeRecords(t, s, 1)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Record(ctx, rs[0].Lookup); !errors.Is(err, context.Canceled) || !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("read whose caller has left: %v", err)
	}
	release()
	if _, err := s.Record(t.Context(), rs[0].Lookup); err != nil {
		t.Errorf("the next read: %v", err)
	}
}

func TestSQLiteReadsWhileTheWritingConnectionIsLost(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	rs := storeRecords(t, s, 1)
	if err := s.BetweenCommits(t.Context(), func() { s.LoseWriter(errors.New("gone")) }); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Record(t.Context(), rs[0].Lookup); err != nil || got.Reference != rs[0].Reference {
		t.Errorf("read on another connection: %v", err)
	}
	r := storetest.Record(rs[0].HolderID)
	if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
		t.Fatalf("store on a new connection: %v", err)
	}
	if _, err := s.Record(t.Context(), r.Lookup); err != nil {
		t.Errorf("read on the new connection: %v", err)
	}
}

func TestSQLiteReadAfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	rs := storeRecords(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(t.Context(), rs[0].Lookup); !errors.Is(err, store.ErrClosed) || !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("read of a closed store: %v", err)
	}
}
