package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// segments are those of the log of Node.
func segments(tb testing.TB, s *store.Store) (out []audit.Segment) {
	tb.Helper()
	for g, err := range s.Segments(tb.Context(), "cardea/"+Node, 0) {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, g)
	}
	return out
}

func testOrderInCommit(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	old, card := Record(h.ID), Record(h.ID)
	must[*vault.Record](t)(s.PutRecord(t.Context(), old, Entry(t, "old")))
	next, last := Record(h.ID), Record(h.ID)
	next.Lookup, last.Lookup = old.Lookup, old.Lookup
	next.Dedupe, last.Dedupe = nil, nil
	var outcomes [9]string
	put := func(i int, r vault.Record) func() {
		return func() {
			existing, err := s.PutRecord(t.Context(), r, Entry(t, "put"))
			switch {
			case err != nil:
				outcomes[i] = err.Error()
			case existing != nil:
				outcomes[i] = "found " + existing.Reference
			default:
				outcomes[i] = "put"
			}
		}
	}
	del := func(i int, l vault.Lookup) func() {
		return func() {
			deleted, err := s.DeleteRecord(t.Context(), l, 0, Entry(t, "delete"))
			outcomes[i] = map[bool]string{true: "deleted", false: "absent"}[deleted]
			if err != nil {
				outcomes[i] = err.Error()
			}
		}
	}
	upsert := func(i int, r vault.Record) func() {
		return func() {
			outcomes[i] = "upserted"
			if err := s.UpsertRecord(t.Context(), r, Entry(t, "upsert")); err != nil {
				outcomes[i] = err.Error()
			}
		}
	}
	before := len(segments(t, s))
	gate.Together(t,
		put(0, next), del(1, old.Lookup), put(2, next), upsert(3, last), upsert(4, next), del(5, old.Lookup), del(6, old.Lookup),
		put(7, last), put(8, card))
	want := [9]string{"found " + old.Reference, "deleted", "put", "upserted", "upserted", "deleted", "absent", "put", "put"}
	// A put that finds a record may be told of the one that is there at the end.
	if outcomes[0] == "found "+last.Reference {
		outcomes[0] = want[0]
	}
	if outcomes != want {
		t.Errorf("outcomes\n got %q\nwant %q", outcomes, want)
	}
	sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), old.Lookup)), last)
	all := segments(t, s)
	if len(all) != before+1 || all[before].Count != 7 {
		t.Fatalf("%d segments after %d, the last of %d entries; want one more, of the 7 changes", len(all), before, all[len(all)-1].Count)
	}
	Verify(t, s)
}

func testPoison(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	holder := Record(h.ID)
	must[*vault.Record](t)(s.PutRecord(t.Context(), holder, Entry(t, "holder")))
	size := entries(t, s)
	const n = 9
	var errs [n]error
	var puts [n]vault.Record
	calls := make([]func(), n)
	for i := range calls {
		puts[i] = Record(h.ID)
		if i == 2 || i == 7 {
			puts[i].Dedupe = holder.Dedupe // which another record has: an upsert cannot take it
		}
		calls[i] = func() { errs[i] = s.UpsertRecord(t.Context(), puts[i], Entry(t, "upsert")) }
	}
	gate.Together(t, calls...)
	for i, err := range errs {
		_, rerr := s.Record(t.Context(), puts[i].Lookup)
		if i == 2 || i == 7 {
			if err == nil || errors.Is(err, vault.ErrUnavailable) || !errors.Is(rerr, vault.ErrNotFound) {
				t.Errorf("call %d, at fault: %v; read after it: %v", i, err, rerr)
			}
		} else if err != nil || rerr != nil {
			t.Errorf("call %d, beside one at fault: %v; read after it: %v", i, err, rerr)
		}
	}
	if got := entries(t, s) - size; got != n-2 {
		t.Errorf("%d entries, want %d", got, n-2)
	}
	if err := s.Append(t.Context(), Entry(t, "after")); err != nil {
		t.Errorf("call after one at fault: %v", err)
	}
	Verify(t, s)
}

func testCancelled(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	r := Record(h.ID)
	open := gate.Close(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("client has gone")
	result := make(chan error)
	go func() {
		_, err := s.PutRecord(ctx, r, Entry(t, "cancelled"))
		result <- err
	}()
	gate.AwaitQueued(t, 1)
	cancel(left)
	if err := <-result; !errors.Is(err, left) || !errors.Is(err, vault.ErrUnavailable) || strings.Contains(err.Error(), "unknown") {
		t.Errorf("call whose context has ended: %v", err)
	}
	open()
	if err := s.Append(t.Context(), Entry(t, "after")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(t.Context(), r.Lookup); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("what was cancelled is there: %v", err)
	}
	if got := entries(t, s); got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
}

func testFullQueue(t *testing.T, url string) {
	s, gate := OpenGated(t, url, func(o *store.Options) { o.MaxBatch = 1 })
	open := gate.Close(t)
	const places = 4
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range places {
		wg.Go(func() {
			if s.Append(t.Context(), Entry(t, "queued")) != nil {
				failed.Add(1)
			}
		})
	}
	gate.AwaitQueued(t, places)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.Append(ctx, Entry(t, "too many")) }()
	cancel()
	err := <-result
	if !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), "queue for commits is full") {
		t.Errorf("call beyond the queue: %v", err)
	}
	open()
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d calls in the queue failed", n)
	}
}

func testReadYourWrites(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	r := Record(h.ID)
	r.Dedupe = nil
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	// Entries and head of a commit are there together, or neither is.
	wg.Go(func() {
		for ctx.Err() == nil {
			head, err := s.Head(t.Context(), "cardea/"+Node)
			if err != nil {
				t.Error(err)
				return
			}
			last := int64(0)
			for g, err := range s.Segments(t.Context(), "cardea/"+Node, head.Size-1) {
				if err != nil {
					t.Error(err)
					return
				}
				last = g.First + int64(g.Count)
			}
			if last < head.Size {
				t.Errorf("head of %d entries, segments of %d", head.Size, last)
			}
		}
	})
	for i := range 100 {
		r.CreatedAt = vault.Micros(i + 1)
		if err := s.UpsertRecord(t.Context(), r, Entry(t, "write")); err != nil {
			t.Fatal(err)
		}
		if got := must[vault.Record](t)(s.Record(t.Context(), r.Lookup)); got.CreatedAt != r.CreatedAt {
			t.Fatalf("read write %d after write %d", got.CreatedAt, r.CreatedAt)
		}
	}
	cancel()
	wg.Wait()
}

func testCloseUnderLoad(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	var mu sync.Mutex
	var stored []vault.Record
	var wg sync.WaitGroup
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	for range 16 {
		wg.Go(func() {
			for {
				r := Record(h.ID)
				_, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference))
				if err != nil {
					if !errors.Is(err, store.ErrClosed) || !errors.Is(err, vault.ErrUnavailable) {
						t.Errorf("call while closing: %v", err)
					}
					return
				}
				mu.Lock()
				if stored = append(stored, r); len(stored) == 100 {
					begin()
				}
				mu.Unlock()
			}
		})
	}
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	s = Open(t, url)
	for _, r := range stored {
		sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), r.Lookup)), r)
	}
	if got, want := entries(t, s), int64(len(stored)+1); got != want {
		t.Errorf("%d entries for %d calls that succeeded", got, want)
	}
	Verify(t, s)
}
