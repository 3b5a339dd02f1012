package keymanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cardea/internal/bubble"
	"cardea/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// together runs n callers at once and returns their errors.
func together(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var start, all sync.WaitGroup
	start.Add(1)
	for i := range n {
		all.Go(func() {
			start.Wait()
			errs[i] = call(i)
		})
	}
	start.Done()
	all.Wait()
	return errs
}

func TestColdStampedeLoadsAndCreatesOneKey(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	const rounds, callers = 200, 32
	for round := range rounds {
		c := card("acme", fmt.Sprintf("m%d", round))
		for _, err := range together(callers, func(int) error { _, err := l.Seal(t.Context(), c, text()); return err }) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, want := inv.active.Load(), int64(round+1); got != want {
			t.Fatalf("%d looks into the inventory for %d keys", got, want)
		}
	}
	if got := inv.created.Load(); got != rounds {
		t.Errorf("%d keys made for %d merchants", got, rounds)
	}
	if got := countEntries(t, inv.store, "key.create", "created"); got != rounds {
		t.Errorf("%d entries of created keys for %d merchants", got, rounds)
	}
}

func TestColdStampedeOfOpensLoadsOneKey(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	c := card("acme", "m")
	s := seal(t, newLocal(t, m, inv), c)
	l := newLocal(t, m, inv)
	for _, err := range together(100, func(int) error {
		p, err := l.Open(t.Context(), c, s)
		p.Destroy()
		return err
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := inv.byID.Load(); got != 1 {
		t.Errorf("%d looks into the inventory, want 1", got)
	}
}

func TestNodesThatMakeAKeyAtOnceShareTheFirst(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	nodes := []*Envelope{newLocal(t, m, inv), newLocal(t, m, inv), newLocal(t, m, inv), newLocal(t, m, inv)}
	for round := range 50 {
		c := card("acme", fmt.Sprintf("m%d", round))
		sealed := make([]vault.Sealed, len(nodes))
		for _, err := range together(len(nodes), func(i int) (err error) {
			sealed[i], err = nodes[i].Seal(t.Context(), c, text())
			return err
		}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range sealed {
			if s.Key != sealed[0].Key {
				t.Fatal("two nodes sealed under two keys of one merchant")
			}
			checkOpens(t, nodes[(i+1)%len(nodes)], c, s)
		}
		if got := countEntries(t, inv.store, "key.create", "created"); got != round+1 {
			t.Fatalf("%d keys made for %d merchants", got, round+1)
		}
	}
}

// Names are no separators: what one load is for must not depend on how they print.
func TestLoadsOfNamesThatPrintAlikeStayApart(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "a", "a b"), newInventory()
		gate := make(chan struct{})
		inv.before = func(context.Context, string) error { <-gate; return nil }
		l := newLocal(t, m, inv)
		cs := []vault.RecordContext{card("a", "b c"), card("a b", "c")}
		sealed := make([]vault.Sealed, len(cs))
		var all sync.WaitGroup
		for i, c := range cs {
			all.Go(func() {
				var err error
				if sealed[i], err = l.Seal(t.Context(), c, text()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if sealed[0].Key == sealed[1].Key {
			t.Fatal("two tenants were given one key")
		}
		fresh := newLocal(t, m, inv)
		for i, c := range cs {
			checkOpens(t, fresh, c, sealed[i])
		}
		l.Close()
		fresh.Close()
	})
}

func TestCancelledLeaderDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		gate := make(chan struct{})
		inv.before = func(ctx context.Context, _ string) error {
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		l := newLocal(t, m, inv)
		leading, cancel := context.WithCancel(t.Context())
		results := make(chan error, 3)
		call := func(ctx context.Context) {
			_, err := l.Seal(ctx, card("acme", "m"), text())
			results <- err
		}
		go call(leading)
		synctest.Wait()
		go call(t.Context())
		go call(t.Context())
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) || err.Error() != "wait for key: context canceled" {
			t.Errorf("the leader got %v", err)
		}
		synctest.Wait()
		close(gate)
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("one who waited got %v", err)
			}
		}
		if got := inv.active.Load(); got != 1 {
			t.Errorf("%d looks into the inventory, want 1", got)
		}
		l.Close()
	})
}

func TestLoadEndsWhenNobodyWaitsForIt(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		ended := make(chan error, 1)
		inv.before = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		l := newLocal(t, m, inv)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if _, err := l.Seal(ctx, card("acme", "m"), text()); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want canceled", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		all.Wait()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the load ended by %v", err)
		}
		synctest.Wait()
		if n := len(l.names.loads.under); n != 0 {
			t.Errorf("%d loads are left over", n)
		}
		inv.before = nil
		seal(t, l, card("acme", "m")) // is not spoilt by the load that was given up
		l.Close()
	})
}

func TestLoadDoesNotTakeLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		inv.before = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", vault.ErrUnavailable, ctx.Err())
		}
		l := newLocal(t, m, inv)
		start := time.Now()
		_, err := l.Seal(t.Context(), card("acme", "m"), text())
		if !errors.Is(err, vault.ErrUnavailable) || time.Since(start) != loadTimeout {
			t.Errorf("after %s: %v, want ErrUnavailable after %s", time.Since(start), err, loadTimeout)
		}
		l.Close()
	})
}

func TestFailedLoadIsTriedAgainByTheNext(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	inv.before = func(context.Context, string) error { return vault.ErrUnavailable }
	l := newLocal(t, m, inv)
	if _, err := l.Seal(t.Context(), card("acme", "m"), text()); !errors.Is(err, vault.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	inv.before = nil
	seal(t, l, card("acme", "m"))
}

func TestPanicOfALoadIsAnErrorForAllWhoWait(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	inv.before = func(context.Context, string) error { panic("broken inventory") }
	l := newLocal(t, m, inv)
	for _, err := range together(8, func(int) error { _, err := l.Seal(t.Context(), card("acme", "m"), text()); return err }) {
		if !errors.Is(err, vault.ErrKeyUnavailable) || err.Error() != "key is unavailable: panic while loading it: broken inventory" {
			t.Errorf("got %v", err)
		}
	}
}
