package keymanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func TestLockedTenantGetsNothingEvenFromTheCache(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	c := card("acme", "m")
	s := seal(t, l, c)
	checkOpens(t, l, c, s)
	m.lock(t, "acme") // and nobody calls Forget

	_, sealErr := l.Seal(t.Context(), c, text())
	_, openErr := l.Open(t.Context(), c, s)
	_, macErr := l.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
	_, unknownErr := l.Seal(t.Context(), card("nobody", "m"), text())
	for call, err := range map[string]error{"Seal": sealErr, "Open": openErr, "MAC": macErr, "unknown tenant": unknownErr} {
		if !errors.Is(err, vault.ErrLocked) {
			t.Errorf("%s: got %v, want ErrLocked", call, err)
		}
	}
	if want := `tenant "acme": tenant is locked by its custodians`; sealErr.Error() != want {
		t.Errorf("got %q, want %q", sealErr, want)
	}
	seal(t, l, card("other", "m")) // is not concerned
	m.unlock(t, "acme")
	checkOpens(t, l, c, s)
}

func TestForgetWipesTheKeysOfOneTenantAtOnce(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	s := seal(t, l, card("acme", "m"))
	checkOpens(t, l, card("acme", "m"), s)
	wiped := keysInClear(l)
	seal(t, l, card("other", "m"))
	m.lock(t, "acme")
	l.Forget("acme")
	for _, k := range wiped {
		if k.key.Len() != 0 || k.users.Load() != 0 {
			t.Error("a key of the tenant is still in clear")
		}
	}
	if n := len(keysInClear(l)); n != 1 {
		t.Errorf("%d keys are left, want that of the other tenant", n)
	}
}

// A key of which the time is over is passed over by readers, but not gone.
func TestForgetWipesExpiredKeysToo(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		l := newLocal(t, m, inv, func(o *LocalOptions) { o.TTL = 300 * time.Millisecond }) // below the cache's own tick
		seal(t, l, card("acme", "m"))
		key := keysInClear(l)[0]
		time.Sleep(400 * time.Millisecond)
		if key.key.Len() == 0 {
			t.Fatal("the test comes too late")
		}
		m.lock(t, "acme")
		l.Forget("acme")
		if key.key.Len() != 0 {
			t.Error("an expired key is still in clear")
		}
		l.Close()
	})
}

func TestSweepWipesKeysOfTenantsThatWereLockedWithoutForget(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	seal(t, l, card("acme", "m"))
	key := keysInClear(l)[0]
	seal(t, l, card("other", "m"))
	m.Remove("acme")
	l.Sweep()
	if key.key.Len() != 0 {
		t.Error("the key of a removed tenant is still in clear")
	}
	if n := len(keysInClear(l)); n != 1 {
		t.Errorf("%d keys are left, want that of the other tenant", n)
	}
}

func TestLoadOvertakenByLockLeavesNoKey(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("caller leaves=%t", leaves), func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) {
				m, inv := newMasters(t, "acme"), newInventory()
				gate := make(chan struct{})
				inv.before = func(context.Context, string) error { <-gate; return nil } // does not heed its context
				l := newLocal(t, m, inv)
				ctx, cancel := context.WithCancel(t.Context())
				result := make(chan error, 1)
				go func() {
					_, err := l.Seal(ctx, card("acme", "m"), text())
					result <- err
				}()
				synctest.Wait() // the load has the master key in hand
				want := vault.ErrLocked
				if leaves {
					cancel()
					want = context.Canceled
				}
				m.lock(t, "acme")
				l.Forget("acme")
				close(gate)
				if err := <-result; !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				synctest.Wait()
				if n := len(keysInClear(l)); n != 0 {
					t.Errorf("%d keys in clear of a locked tenant", n)
				}
				cancel()
				l.Close()
			})
		})
	}
}

func TestMasterKeyIsWipedAfterEachLoad(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	seal(t, l, card("acme", "m"))
	inv.before = func(context.Context, string) error { return vault.ErrUnavailable }
	if _, err := l.Seal(t.Context(), card("acme", "n"), text()); err == nil {
		t.Fatal("the load did not fail")
	}
	inv.before = func(context.Context, string) error { panic("x") }
	if _, err := l.Seal(t.Context(), card("acme", "o"), text()); err == nil {
		t.Fatal("the load did not fail")
	}
	if len(m.given) != 1 { // the other loads did not get that far
		t.Fatalf("%d master keys given out, want 1", len(m.given))
	}
	for i, k := range m.given {
		if k.Len() != 0 {
			t.Errorf("master key %d is still in clear", i)
		}
	}
}

func TestKeyIsWipedWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		l := newLocal(t, m, inv, func(o *LocalOptions) { o.TTL = time.Minute })
		c := card("acme", "m")
		seal(t, l, c)
		key := keysInClear(l)[0]
		time.Sleep(40 * time.Second)
		seal(t, l, c) // use does not lengthen its life
		if got := len(m.given); got != 1 {
			t.Fatalf("%d uses of the master key within the time to live, want 1", got)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if key.key.Len() != 0 {
			t.Error("an idle key is still in clear after its time")
		}
		seal(t, l, c)
		if got := len(m.given); got != 2 {
			t.Errorf("%d uses of the master key, want a second one", got)
		}
		l.Close()
	})
}

func TestCacheHoldsNoMoreThanItsEntries(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	const entries = 16
	l := newLocal(t, m, inv, func(o *LocalOptions) { o.Entries = entries })
	var all []*clearKey
	for i := range 40 * entries {
		seal(t, l, card("acme", fmt.Sprintf("m%d", i)))
		n, ok := l.names.names.GetIfPresent(activeName{"acme", fmt.Sprintf("m%d", i), vault.PurposeRecord})
		if !ok {
			continue // the cache did not think it worth keeping
		}
		all = append(all, n.active.key.Load())
	}
	l.keys.keys.CleanUp()
	if n := len(keysInClear(l)); n > entries {
		t.Errorf("%d keys in clear, want at most %d", n, entries)
	}
	left := 0
	for _, k := range all {
		if k.key.Len() != 0 {
			left++
		}
	}
	if left > entries || len(all) == 0 {
		t.Errorf("%d of %d keys were not wiped, want at most %d", left, len(all), entries)
	}
}

// Evictions, locks and expiry go on beside users: none may see a wiped key.
func TestKeyIsWipedOnlyAfterItsLastUser(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv, func(o *LocalOptions) { o.Entries = 2 })
	stop := make(chan struct{})
	var forgetting, all sync.WaitGroup
	forgetting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				l.Forget("acme")
			}
		}
	})
	for i := range 4 {
		all.Go(func() {
			c := card("acme", fmt.Sprintf("m%d", i%3))
			for range 300 {
				s, err := l.Seal(t.Context(), c, text())
				if err != nil {
					t.Errorf("seal: %v", err)
					return
				}
				p, err := l.Open(t.Context(), c, s)
				if err != nil || !p.Equal(text()) {
					t.Errorf("open: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	close(stop)
	forgetting.Wait()
}

func TestKeyInUseOutlivesForget(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{7}, 32)
	k := newClearKey(vault.WrappedKey{}, secret.New(raw), "", &counts{})
	if !k.acquire() {
		t.Fatal("a fresh key cannot be had")
	}
	k.release() // the cache gives it up
	if raw[0] != 7 {
		t.Fatal("the key was wiped under its user")
	}
	k.release()
	if raw[0] != 0 {
		t.Error("the last user left the key in clear")
	}
	if k.acquire() {
		t.Error("a wiped key can be had")
	}
}

func TestCloseWipesEveryKeyAndRefuses(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	c := card("acme", "m")
	s := seal(t, l, c)
	checkOpens(t, l, c, s)
	keys := keysInClear(l)
	l.Close()
	for _, k := range keys {
		if k.key.Len() != 0 {
			t.Error("a key is still in clear")
		}
	}
	_, sealErr := l.Seal(t.Context(), c, text())
	_, openErr := l.Open(t.Context(), c, s)
	for _, err := range []error{sealErr, openErr} {
		if !errors.Is(err, vault.ErrKeyUnavailable) || err.Error() != "key is unavailable: the key manager is closed" {
			t.Errorf("got %v", err)
		}
	}
	l.Close()
}

func TestCloseEndsLoads(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	begun := make(chan struct{})
	inv.before = func(ctx context.Context, _ string) error {
		close(begun)
		<-ctx.Done()
		return fmt.Errorf("%w: %w", vault.ErrUnavailable, ctx.Err())
	}
	l := newLocal(t, m, inv)
	result := make(chan error, 1)
	go func() {
		_, err := l.Seal(t.Context(), card("acme", "m"), text())
		result <- err
	}()
	<-begun
	l.Close()
	if err := <-result; !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("got %v, want the error of the load", err)
	}
}
