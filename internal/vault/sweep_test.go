package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/bubble"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// storeExpiring stores n values that expire after ttl seconds, under ids with a prefix.
func storeExpiring(t testing.TB, s *vault.Service, prefix string, n int, ttl *uint64) {
	t.Helper()
	for i := range n {
		storeValue(t, s, vault.Datum{Tenant: "acme", Entity: "e1", VaultID: fmt.Sprintf("%s%d", prefix, i)}, "1", ttl, false)
	}
}

func TestSweepRemovesWhatHasExpiredAndNothingElse(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeExpiring(t, n.Service, "short", 5, seconds(10))
	storeExpiring(t, n.Service, "long", 3, seconds(11))
	storeExpiring(t, n.Service, "never", 3, nil)
	r := cardOf(owner, visa, "")
	r.Reference, r.TTL = "r1", seconds(10)
	mustStore(t, n.Service, r)

	n.clock.pass(10 * time.Second) // to the moment itself: not yet
	if got, err := n.Sweep(t.Context(), 100); got != 0 || err != nil {
		t.Errorf("removed %d, %v before anything has expired", got, err)
	}
	n.clock.pass(time.Microsecond)
	from := len(n.entries(t, 0))
	if got, err := n.Sweep(t.Context(), 100); got != 6 || err != nil {
		t.Errorf("removed %d, %v, want 6", got, err)
	}
	entries := n.entries(t, int64(from))
	seen := map[string]int{}
	for _, e := range entries {
		seen[e.Resource.Reference]++
		if told(e) != "record.expire allowed expired" || e.Who.Name != "sweeper" || e.PCI != vault.OpRecordExpire.PCI || e.Tenant != "acme" {
			t.Errorf("entry says %s by %s", told(e), e.Who.Name)
		}
		if e.Resource.Reference == "r1" && e.Resource != (audit.Resource{Kind: "card", Merchant: "m1", Customer: "c1", Reference: "r1"}) {
			t.Errorf("entry of the card is of %+v", e.Resource)
		}
	}
	if len(entries) != 6 || len(seen) != 6 {
		t.Errorf("%d entries of %d records, want one each of 6", len(entries), len(seen))
	}
	if got, err := n.Sweep(t.Context(), 100); got != 0 || err != nil || len(n.entries(t, int64(from))) != 6 {
		t.Errorf("a second pass removed %d, %v", got, err)
	}
	checkValue(t, n.Service, vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "long0"}, "1")
	checkValue(t, n.Service, vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "never0"}, "1")
}

func TestSweepRemovesOldestFirstUpToItsLimit(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeExpiring(t, n.Service, "b", 4, seconds(2))
	storeExpiring(t, n.Service, "a", 3, seconds(1))
	n.clock.pass(time.Minute)
	from := len(n.entries(t, 0))
	if got, err := n.Sweep(t.Context(), 3); got != 3 || err != nil {
		t.Fatalf("removed %d, %v", got, err)
	}
	for _, e := range n.entries(t, int64(from)) {
		if !strings.HasPrefix(e.Resource.Reference, "a") {
			t.Errorf("removed %s before an older one", e.Resource.Reference)
		}
	}
	for _, limit := range []int{0, -1} {
		if _, err := n.Sweep(t.Context(), limit); err == nil || err.Error() != fmt.Sprintf("sweep of %d records: must be at least 1", limit) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// Data goes when its time is over, whoever is configured or locked by then.
func TestSweepWorksForTenantsThatAreLockedOrGone(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	storeExpiring(t, n.Service, "x", 1, seconds(1))
	storeValue(t, n.Service, vault.Datum{Tenant: "beta", Entity: "e", VaultID: "v"}, "1", seconds(1), false)
	n.tenants.Replace(vault.Tenant{Name: "acme"})
	n.keeper.Remove("beta")
	if err := n.keeper.Lock("acme"); err != nil {
		t.Fatal(err)
	}
	n.clock.pass(time.Minute)
	if got, err := n.Sweep(t.Context(), 10); got != 2 || err != nil {
		t.Errorf("removed %d, %v, want 2", got, err)
	}
}

func TestSweepsAtOnceRemoveEachRecordOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeExpiring(t, n.Service, "x", 100, seconds(1))
	n.clock.pass(time.Minute)
	var mu sync.Mutex
	total := 0
	together(4, func(int) {
		got, err := n.Sweep(t.Context(), 1000)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		total += got
		mu.Unlock()
	})
	if total != 100 {
		t.Errorf("%d removed, want 100", total)
	}
	expired := 0
	for _, got := range tellings(n.entries(t, 0)) {
		switch got {
		case "record.expire allowed expired":
			expired++
		case "record.expire allowed absent", "data.store allowed stored", "holder.create allowed created", "key.create allowed created":
		default:
			t.Errorf("entry says %s", got)
		}
	}
	if expired != 100 {
		t.Errorf("%d entries of removals, want 100", expired)
	}
}

// One row that does not go must not keep the others.
func TestSweepGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	v, c := newFake(t, "acme")
	storeExpiring(t, v.Service, "x", 200, seconds(1))
	c.pass(time.Minute)
	calls := 0
	v.Store.FailWith(func(method string) error {
		if method == "DeleteRecord" {
			if calls++; calls == 1 {
				return errors.New("broken row")
			}
		}
		return nil
	})
	from := v.Store.Len()
	got, err := v.Sweep(t.Context(), 500)
	if got != 199 || !errors.Is(err, vault.ErrUnavailable) || !strings.HasPrefix(err.Error(), "remove expired records: ") {
		t.Errorf("removed %d, %v, want 199 and the error", got, err)
	}
	if n := v.Store.Len() - from; n != 200 {
		t.Errorf("%d entries, want 200", n)
	}
	v.Store.FailWith(func(string) error { return errors.New("database is gone") })
	if _, err := v.Sweep(t.Context(), 1); !errors.Is(err, vault.ErrUnavailable) || !strings.HasPrefix(err.Error(), "list expired records: ") {
		t.Errorf("got %v", err)
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	v, c := newFake(t, "acme")
	storeExpiring(t, v.Service, "x", 10, seconds(1))
	c.pass(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := v.Sweep(ctx, 10); got != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("removed %d, %v", got, err)
	}
}

// stubborn lists rows as expired that cannot be removed, as a clock that goes
// backwards would.
type stubborn struct {
	*vaulttest.Store
	lists int
}

func (s *stubborn) Expired(context.Context, vault.Micros, int) ([]vault.ExpiredRecord, error) {
	s.lists++
	return make([]vault.ExpiredRecord, 5), nil
}

func TestSweepEverySweepsBacklogsAtOnceAndThenEachInterval(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		v, c := newFake(t, "acme")
		defer v.Service.Close()
		storeExpiring(t, v.Service, "x", 25, seconds(1))
		c.pass(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { v.SweepEvery(ctx, time.Hour, 10) })
		time.Sleep(time.Second)
		if left, err := v.Store.Expired(t.Context(), vault.MicrosOf(c.now()), 100); err != nil || len(left) != 0 {
			t.Errorf("%d of a backlog are left, %v", len(left), err)
		}
		storeExpiring(t, v.Service, "y", 1, seconds(1))
		c.pass(time.Minute)
		time.Sleep(time.Hour)
		if left, err := v.Store.Expired(t.Context(), vault.MicrosOf(c.now()), 100); err != nil || len(left) != 0 {
			t.Errorf("%d are left after the interval, %v", len(left), err)
		}
		cancel()
		done.Wait()
	})
}

func TestSweepEveryDoesNotSpinWithoutProgress(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		v, _ := newFake(t, "acme")
		defer v.Service.Close()
		for _, batch := range []int{5, 0} {
			store := &stubborn{Store: v.Store}
			s := serviceOn(t, v, store, v.Keys)
			ctx, cancel := context.WithCancel(t.Context())
			var done sync.WaitGroup
			done.Go(func() { s.SweepEvery(ctx, time.Minute, batch) })
			time.Sleep(10*time.Minute + time.Second)
			cancel()
			done.Wait()
			s.Close()
			if store.lists > 11 {
				t.Errorf("batch %d: %d passes in ten minutes", batch, store.lists)
			}
		}
	})
}

func TestSweepEveryTellsTheOperator(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		v, _ := newFake(t, "acme")
		v.Gate.Logger = slog.New(slog.NewTextHandler(&out, nil))
		s := serviceOn(t, v, v.Store, v.Keys)
		defer v.Service.Close()
		defer s.Close()
		v.Store.FailWith(func(string) error { return errors.New("database is gone") })
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { s.SweepEvery(ctx, time.Minute, 5) })
		time.Sleep(90 * time.Second)
		cancel()
		done.Wait()
		if got := strings.Count(out.String(), "expired records not removed, next try after the interval"); got != 2 {
			t.Errorf("%d complaints in 90 seconds, want 2:\n%s", got, out.String())
		}
	})
}
