package vault_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/bubble"
	"cardea/internal/vault"
)

func TestProvisioningIsIdempotent(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	first, err := n.ProvisionHolder(t.Context(), client("acme"), "acme", "e1")
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != "e1" || first.Tenant != "acme" || first.CreatedAt != vault.MicrosOf(n.clock.now()) {
		t.Errorf("got %s of %s at %d", first.Name, first.Tenant, first.CreatedAt)
	}
	n.clock.pass(time.Hour)
	again, err := n.ProvisionHolder(t.Context(), client("acme"), "acme", "e1")
	if err != nil || again.CreatedAt != first.CreatedAt || again.ID != first.ID {
		t.Errorf("again: created at %d, %v; want %d", again.CreatedAt, err, first.CreatedAt)
	}
	other, err := n.ProvisionHolder(t.Context(), client("beta"), "beta", "e1")
	if err != nil || other.ID == first.ID || other.CreatedAt == first.CreatedAt {
		t.Errorf("another tenant's: %d, %v", other.CreatedAt, err)
	}
	got := tellings(n.entries(t, 0))
	if len(got) != 3 || got[0] != "holder.create allowed created" || got[1] != "holder.create allowed existed" || got[2] != got[0] {
		t.Errorf("entries %q", got)
	}
}

func TestConcurrentProvisioningMakesOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	var mu sync.Mutex
	times, ids := map[vault.Micros]bool{}, map[int64]bool{}
	together(48, func(i int) {
		n.clock.pass(time.Millisecond)
		h, err := n.ProvisionHolder(t.Context(), client("acme"), "acme", "e1")
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		times[h.CreatedAt], ids[h.ID] = true, true
	})
	if len(times) != 1 || len(ids) != 1 {
		t.Errorf("%d creation times and %d ids of one entity", len(times), len(ids))
	}
	created := 0
	for _, got := range tellings(n.entries(t, 0)) {
		if got == "holder.create allowed created" {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d entries of its creation", created)
	}
}

// An entity's secret is for the key manager only.
func TestProvisionedHolderComesWithoutItsSecret(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	for range 2 {
		h, err := v.ProvisionHolder(t.Context(), client("acme"), "acme", "e1")
		if err != nil || h.Secret != nil {
			t.Errorf("secret of %d bytes, %v", len(h.Secret), err)
		}
	}
	stored, err := v.Store.Holder(t.Context(), "acme", "e1")
	if err != nil || len(stored.Secret) != 32 {
		t.Fatalf("stored secret of %d bytes, %v", len(stored.Secret), err)
	}
	other, err := v.ProvisionHolder(t.Context(), client("acme"), "acme", "e2")
	if err != nil {
		t.Fatal(err)
	}
	second, err := v.Store.Holder(t.Context(), "acme", other.Name)
	if err != nil || string(second.Secret) == string(stored.Secret) {
		t.Errorf("two entities have one secret: %v", err)
	}
	storeValue(t, v.Service, datum, "1", nil, false) // works from memory
	checkValue(t, v.Service, datum, "1")
}

// lookups counts how often the store is asked for a holder.
type lookups struct {
	vault.Store
	mu sync.Mutex // guards n
	n  int
}

func (l *lookups) Holder(ctx context.Context, tenant, name string) (vault.Holder, error) {
	l.mu.Lock()
	l.n++
	l.mu.Unlock()
	return l.Store.Holder(ctx, tenant, name)
}

func TestHoldersAreRememberedForAWhile(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		v, _ := newFake(t, "acme")
		l := &lookups{Store: v.Store}
		s := serviceOn(t, v, l, v.Keys)
		defer v.Service.Close()
		defer s.Close()
		storeValue(t, s, datum, "1", nil, true)
		for range 10 {
			storeValue(t, s, datum, "2", nil, true)
		}
		if l.n != 1 {
			t.Errorf("the store was asked %d times, want once", l.n)
		}
		time.Sleep(time.Minute + time.Second)
		storeValue(t, s, datum, "3", nil, true)
		if l.n != 2 {
			t.Errorf("the store was asked %d times after a minute, want twice", l.n)
		}
	})
}

func TestHolderThatCouldNotBeMadeIsNotRemembered(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	v.Store.FailWith(func(method string) error {
		if method == "PutHolder" {
			return context.DeadlineExceeded
		}
		return nil
	})
	_, err := v.StoreCard(t.Context(), client("acme"), cardOf(owner, visa, ""))
	checkError(t, "store", err, vault.ErrUnavailable)
	entries := since(t, v.Store, 0)
	if got := tellings(entries); len(got) != 2 || got[0] != "holder.create failed unavailable" || got[1] != "card.store failed unavailable" ||
		entries[0].Outcome != audit.Failed {
		t.Errorf("entries %q", got)
	}
	v.Store.FailWith(nil)
	mustStore(t, v.Service, cardOf(owner, visa, ""))
}
