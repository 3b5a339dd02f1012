package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// TestNodesThatMakeTheSameRowsDoNotDeadlock: each node has all calls in one commit, and
// in an order of its own.
func TestNodesThatMakeTheSameRowsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	var nodes []*store.Store
	var gates []*storetest.Gate
	for _, name := range []string{"a", "b"} {
		s, gate := storetest.OpenGated(t, url, storetest.OnNode(name))
		nodes, gates = append(nodes, s), append(gates, gate)
	}
	h, _, err := nodes[0].PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "merchant_1"}, storetest.EntryOf(t, "a", "h"))
	if err != nil {
		t.Fatal(err)
	}
	for round := range 10 {
		const n = 60
		cards := make([]vault.Record, n)
		for i := range cards {
			cards[i] = storetest.Record(h.ID)
		}
		var opens []func()
		var wg sync.WaitGroup
		for k, s := range nodes {
			opens = append(opens, gates[k].Close(t))
			mine := slices.Clone(cards)
			if k > 0 {
				slices.Reverse(mine)
			}
			for i, r := range mine {
				wg.Go(func() {
					e := storetest.EntryOf(t, []string{"a", "b"}[k], r.Reference)
					if _, err := s.PutRecord(t.Context(), r, e); err != nil {
						t.Error(err)
					}
					if _, _, err := s.PutFingerprint(t.Context(), "public", *r.Dedupe, 1, r.Reference, e); err != nil {
						t.Error(err)
					}
					name := fmt.Sprintf("%d-%s", round, r.Reference)
					if _, _, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: name}, e); err != nil {
						t.Error(err)
					}
				})
				gates[k].AwaitQueued(t, i+1)
			}
		}
		for _, open := range opens {
			go open()
		}
		wg.Wait()
		for _, open := range opens {
			open() // and wait
		}
	}
	for _, s := range nodes { // the server counts what a session did when it is over
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var deadlocks int
	if err := conn.QueryRow(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks); err != nil || deadlocks != 0 {
		t.Errorf("%d deadlocks, error %v", deadlocks, err)
	}
}

// TestGroupThatDeadlocksIsDivided: what cannot be done together is done one by one,
// each call with its own outcome.
func TestGroupThatDeadlocksIsDivided(t *testing.T) {
	t.Parallel()
	s, gate := storetest.OpenGated(t, storetest.SQLite(t))
	h := storetest.Holder(t, s)
	first := storetest.Record(h.ID)
	groups, err := s.DeadlockGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var calls []func()
	var mu sync.Mutex
	stored := 0
	for i := range 9 {
		r := storetest.Record(h.ID)
		if i%3 == 0 {
			r = first
		}
		calls = append(calls, func() {
			existing, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if existing == nil {
				stored++
			}
		})
	}
	gate.Together(t, calls...)
	if stored != 7 { // six of their own and the first
		t.Errorf("%d calls stored their record, want 7", stored)
	}
	if groups.Load() == 0 {
		t.Error("no group met a deadlock")
	}
	storetest.Verify(t, s)
}
