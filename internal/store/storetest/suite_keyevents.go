package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/store"
	"cardea/internal/vault"
)

func testSuspend(t *testing.T, url string) {
	s := Open(t, url)
	suspended := func(want map[string]string) {
		t.Helper()
		same(t, "suspended", must[map[string]string](t)(s.Suspended(t.Context())), want)
	}
	step := func(name string, want bool, call func() (bool, error)) {
		t.Helper()
		writes(t, s, name, map[bool]int64{true: 1}[want], func() {
			if got, err := call(); got != want || err != nil {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		})
	}
	suspended(map[string]string{})
	step("resume of one that is not suspended", false, func() (bool, error) { return s.Resume(t.Context(), "acme", Entry(t, "resume")) })
	step("suspend", true, func() (bool, error) { return s.Suspend(t.Context(), "acme", "breach", 9, Entry(t, "suspend")) })
	step("suspend again", false, func() (bool, error) { return s.Suspend(t.Context(), "acme", "other", 9, Entry(t, "suspend")) })
	step("suspend another", true, func() (bool, error) { return s.Suspend(t.Context(), "beta", "", 9, Entry(t, "suspend")) })
	suspended(map[string]string{"acme": "breach", "beta": ""})
	step("resume", true, func() (bool, error) { return s.Resume(t.Context(), "acme", Entry(t, "resume")) })
	suspended(map[string]string{"beta": ""})
	Verify(t, s)
}

// newest is the number of the newest event.
func newest(tb testing.TB, s *store.Store) int64 {
	tb.Helper()
	events := must[[]vault.KeyEvent](tb)(s.KeyEvents(tb.Context(), 0, 10))
	if len(events) != 1 || events[0].Number <= 0 {
		tb.Fatalf("events at the start: %+v", events)
	}
	return events[0].Number
}

func testKeyEvents(t *testing.T, url string) {
	s := Open(t, url)
	h := holderNamed(t, s, "entity_1", []byte("secret"))
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	at := newest(t, s)
	if events, err := s.KeyEvents(t.Context(), at, 10); len(events) != 0 || err != nil {
		t.Errorf("events before anything has changed: %+v, %v", events, err)
	}
	start := at
	tell := func(name string, v vault.KeyVersion, call func() (bool, error)) {
		t.Helper()
		if done, err := call(); !done || err != nil {
			t.Fatalf("%s: %v, %v", name, done, err)
		}
		events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), at, 10))
		if len(events) != 1 || events[0].Number <= at || events[0].Tenant != "public" || events[0].Key != v {
			t.Fatalf("%s: events %+v", name, events)
		}
		if at = events[0].Number; newest(t, s) != at {
			t.Errorf("%s: the newest is %d, want %d", name, newest(t, s), at)
		}
	}
	k2 := next(k, 9)
	tell("rotate", versionOf(k), func() (bool, error) {
		_, done, err := s.RotateKey(t.Context(), k2, Entry(t, "rotate"))
		return done, err
	})
	tell("rewrap", versionOf(k2), func() (bool, error) { return s.RewrapKey(t.Context(), k2, k2.Wrapped, Entry(t, "rewrap")) })
	tell("change", versionOf(k), func() (bool, error) {
		return s.ChangeKey(t.Context(), versionOf(k), vault.KeyDecryptOnly, vault.KeyRetired, 9, Entry(t, "change"))
	})
	tell("shred", vault.KeyVersion{}, func() (bool, error) { return s.ShredHolder(t.Context(), h.ID, 9, Entry(t, "shred")) })
	tell("free name", vault.KeyVersion{}, func() (bool, error) {
		return s.FreeName(t.Context(), h.ID, Entry(t, "free"))
	})
	tell("suspend", vault.KeyVersion{}, func() (bool, error) { return s.Suspend(t.Context(), "public", "breach", 9, Entry(t, "suspend")) })
	tell("resume", vault.KeyVersion{}, func() (bool, error) { return s.Resume(t.Context(), "public", Entry(t, "resume")) })
	// What did not happen is not told.
	if done, err := s.RewrapKey(t.Context(), k2, []byte("other"), Entry(t, "rewrap")); done || err != nil {
		t.Error(done, err)
	}
	if done, err := s.Resume(t.Context(), "public", Entry(t, "resume")); done || err != nil {
		t.Error(done, err)
	}
	if got := newest(t, s); got != at {
		t.Errorf("event %d of what did not happen", got)
	}
	for _, limit := range []int{1, 3, 100} {
		n := 0
		for seen := start; ; {
			events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), seen, limit))
			if len(events) > limit {
				t.Fatalf("%d events, limit %d", len(events), limit)
			}
			if len(events) == 0 {
				break
			}
			n, seen = n+len(events), events[len(events)-1].Number
		}
		if n != 7 {
			t.Errorf("%d events in pages of %d, want 7", n, limit)
		}
	}
}

func testPruneKeyEvents(t *testing.T, url string) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := Open(t, url, func(o *store.Options) { o.Now = func() time.Time { return now } })
	toggle := func() int64 {
		t.Helper()
		done, err := s.Suspend(t.Context(), "acme", "test", 1, Entry(t, "suspend"))
		if err == nil && !done {
			done, err = s.Resume(t.Context(), "acme", Entry(t, "resume"))
		}
		if !done || err != nil {
			t.Fatal(done, err)
		}
		return newest(t, s)
	}
	old := []int64{toggle(), toggle(), toggle()}
	now = now.Add(25 * time.Hour)
	// Who has seen the last of the old ones has missed nothing.
	fresh := toggle()
	events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), old[2], 10))
	if len(events) != 1 || events[0].Number != fresh || events[0].Tenant != "acme" {
		t.Errorf("after the last old event: %+v", events)
	}
	for _, after := range []int64{old[0], old[1], 1} {
		events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), after, 10))
		same(t, "after a removed event", events, []vault.KeyEvent{{Number: fresh}})
	}
	same(t, "after one that is yet to come", must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), fresh+100, 10)), []vault.KeyEvent{{Number: fresh}})
	Verify(t, s)
}

// testKeyEventOrder: who reads up to a number has seen all smaller ones, whatever
// node they came from.
func testKeyEventOrder(t *testing.T, url string) {
	nodes := []string{"a", "b"}
	var stores []*store.Store
	for _, n := range nodes {
		stores = append(stores, Open(t, url, OnNode(n)))
	}
	const each = 15
	seen := newest(t, stores[0])
	var writers, reader sync.WaitGroup
	var ended atomic.Bool
	got := map[string]bool{}
	reader.Go(func() {
		for last := false; ; {
			events, err := stores[1].KeyEvents(t.Context(), seen, 4)
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range events {
				got[e.Tenant], seen = true, e.Number
			}
			if len(events) == 0 && last {
				return
			}
			last = ended.Load()
		}
	})
	for i, s := range stores {
		for worker := range 3 {
			writers.Go(func() {
				for n := range each {
					tenant := fmt.Sprint(nodes[i], worker, "-", n)
					if done, err := s.Suspend(t.Context(), tenant, "", 1, EntryOf(t, nodes[i], "suspend")); !done || err != nil {
						t.Error(done, err)
					}
				}
			})
		}
	}
	writers.Wait()
	ended.Store(true)
	reader.Wait()
	if len(got) != 6*each {
		t.Errorf("%d events seen, want %d", len(got), 6*each)
	}
}
