package custodian

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/secret"
)

// newKeeper has tenant "acme" with the given seal.
func newKeeper(t *testing.T, s Source) *Keeper {
	t.Helper()
	k := NewKeeper(Options{})
	t.Cleanup(k.Close)
	if err := k.SetTenant("acme", s); err != nil {
		t.Fatal(err)
	}
	return k
}

func mustSubmit(t *testing.T, k *Keeper, custodian string, p Part) {
	t.Helper()
	if err := k.Submit("acme", custodian, p); err != nil {
		t.Fatalf("submit %s by %s: %v", p.Name(), custodian, err)
	}
}

func mustUnlock(t *testing.T, k *Keeper, parts ...Part) {
	t.Helper()
	for i, p := range parts {
		mustSubmit(t, k, fmt.Sprintf("custodian-%d", i), p)
	}
	if err := k.Unlock("acme"); err != nil {
		t.Fatalf("unlock: %v", err)
	}
}

func wantStatus(t *testing.T, k *Keeper, want Status) {
	t.Helper()
	got, err := k.Status("acme")
	if err != nil {
		t.Fatal(err)
	}
	got.Since, got.MemoryLocked = time.Time{}, false
	if got != want {
		t.Errorf("status: got %+v, want %+v", got, want)
	}
}

func wantError(t *testing.T, err, is error, message string) {
	t.Helper()
	if err == nil || err.Error() != message || (is != nil && !errors.Is(err, is)) {
		t.Errorf("got %v, want %q", err, message)
	}
}

func TestQuorumUnlocks(t *testing.T) {
	t.Parallel()
	for _, form := range []Form{FormShares, FormHalves} {
		n, threshold := 3, 2
		if form == FormHalves {
			n = 2
		}
		s, master, parts := newSeal(t, "acme", form, n, threshold)
		k := newKeeper(t, s)
		locked := Status{Form: form, Threshold: threshold, Shares: n, Generation: 1}
		wantStatus(t, k, locked)
		if k.Unlocked("acme") {
			t.Error("unlocked before any part")
		}
		_, err := k.Master("acme")
		wantError(t, err, ErrLocked, `tenant "acme": tenant is locked`)

		mustSubmit(t, k, "alice", parts[1])
		waiting := locked
		waiting.Submitted = 1
		wantStatus(t, k, waiting)
		wantError(t, k.Unlock("acme"), ErrNotEnough, `tenant "acme" has 1 of 2: not enough parts`)
		wantStatus(t, k, waiting)

		mustSubmit(t, k, "bob", parts[0])
		if k.Unlocked("acme") {
			t.Error("unlocked before Unlock")
		}
		if err := k.Unlock("acme"); err != nil {
			t.Fatal(err)
		}
		open := locked
		open.Unlocked = true
		wantStatus(t, k, open)
		got, err := k.Master("acme")
		if err != nil || !got.Equal(master) || !k.Unlocked("acme") {
			t.Errorf("master: %v, or another key", err)
		}
		st, err := k.Status("acme")
		if err != nil || time.Since(st.Since) > time.Minute || time.Since(st.Since) < 0 {
			t.Errorf("since %v", st.Since)
		}
	}
}

func TestHyperswitchSealUnlocks(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	s, err := NewHyperswitchSeal(text(v.Sealed))
	if err != nil {
		t.Fatal(err)
	}
	a, errA := ParseHalf(1, text(v.Key1))
	b, errB := ParseHalf(2, text(v.Key2))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	k := newKeeper(t, s)
	mustUnlock(t, k, b, a)
	got, err := k.Master("acme")
	if err != nil || !got.Equal(secret.New(unhex(t, v.Master))) {
		t.Errorf("master: %v, or another key", err)
	}
}

func TestUnlockRefusesSameCustodianTwice(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", parts[0])
	wantError(t, k.Submit("acme", "alice", parts[1]), ErrSameCustodian,
		`custodian "alice" has given share 1: a custodian may give only one part (dual control, PCI DSS 3.7.6)`)
	wantError(t, k.Unlock("acme"), ErrNotEnough, `tenant "acme" has 1 of 2: not enough parts`)
	// Neither does one part count for two custodians.
	wantError(t, k.Submit("acme", "bob", parts[0]), ErrPartTaken, "share 1: this part was given already")
	wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 3, Generation: 1, Submitted: 1})
	mustSubmit(t, k, "bob", parts[1])
	wantError(t, k.Submit("acme", "bob", parts[2]), ErrSameCustodian,
		`custodian "bob" has given share 2: a custodian may give only one part (dual control, PCI DSS 3.7.6)`)
	if err := k.Unlock("acme"); err != nil {
		t.Error(err)
	}
}

func TestSubmitRefusesNamelessCustodian(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	wantError(t, newKeeper(t, s).Submit("acme", "", parts[0]), nil, "custodian name is empty")
}

func TestSubmitRefusesAWrongPartAndKeepsTheOthers(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	_, _, foreign := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", parts[0])
	wantError(t, k.Submit("acme", "bob", foreign[1]), ErrWrongPart, "share 2 is not the one that was handed out")
	wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 3, Generation: 1, Submitted: 1, Failures: 1})
	mustSubmit(t, k, "bob", parts[1])
	if err := k.Unlock("acme"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, k, Status{Unlocked: true, Form: FormShares, Threshold: 2, Shares: 3, Generation: 1})
}

func TestWrongHalvesAreAllDropped(t *testing.T) {
	t.Parallel()
	v := readVectors(t).Hyperswitch
	s, err := NewHyperswitchSeal(text(v.Sealed))
	if err != nil {
		t.Fatal(err)
	}
	good, errGood := ParseHalf(1, text(v.Key1))
	bad, errBad := ParseHalf(2, text(v.Key1))
	right, errRight := ParseHalf(2, text(v.Key2))
	if err := errors.Join(errGood, errBad, errRight); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", good)
	mustSubmit(t, k, "bob", bad)
	wantError(t, k.Unlock("acme"), ErrDoesNotOpen, `tenant "acme": the parts do not open the seal`)
	wantStatus(t, k, Status{Form: FormHalves, Threshold: 2, Shares: 2, Generation: 1, Failures: 1})
	// A custodian who noticed his mistake in time may correct it.
	mustSubmit(t, k, "alice", good)
	mustSubmit(t, k, "bob", bad)
	mustSubmit(t, k, "bob", right)
	if err := k.Unlock("acme"); err != nil {
		t.Error(err)
	}
}

func TestUnlockedTenantTakesNoParts(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustUnlock(t, k, parts[:2]...)
	wantError(t, k.Submit("acme", "carol", parts[2]), ErrUnlocked, `tenant "acme": tenant is unlocked already`)
	wantError(t, k.Unlock("acme"), ErrUnlocked, `tenant "acme": tenant is unlocked already`)
}

func TestUnknownTenant(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	_, errMaster := k.Master("other")
	_, errStatus := k.Status("other")
	for _, err := range []error{
		k.Submit("other", "alice", parts[0]), k.Unlock("other"), k.Lock("other"), errMaster, errStatus,
	} {
		wantError(t, err, ErrUnknownTenant, `tenant "other": unknown tenant`)
	}
	if k.Unlocked("other") {
		t.Error("an unknown tenant is unlocked")
	}
}

func TestLockWipesKeyAndParts(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustUnlock(t, k, parts[:2]...)
	page := (*k.tenants.Load())["acme"].master.Load()
	taken, err := k.Master("acme")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Lock("acme"); err != nil {
			t.Fatal(err)
		}
	}
	if page.key.Len() != 0 {
		t.Error("the key is still in memory")
	}
	if _, ok := page.read(); ok {
		t.Error("a retired page was read")
	}
	if !taken.Equal(master) {
		t.Error("Lock reached a copy that was given out")
	}
	_, err = k.Master("acme")
	wantError(t, err, ErrLocked, `tenant "acme": tenant is locked`)
	wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 3, Generation: 1})

	mustSubmit(t, k, "alice", parts[0])
	held := (*k.tenants.Load())["acme"].held[0].part
	if err := k.Lock("acme"); err != nil {
		t.Fatal(err)
	}
	if held.value.Len() != 0 {
		t.Error("Lock left a part in memory")
	}
	mustUnlock(t, k, parts[1:]...)
}

func TestUnlockWipesTheParts(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", parts[0])
	mustSubmit(t, k, "bob", parts[1])
	tn := (*k.tenants.Load())["acme"]
	kept := []Part{tn.held[0].part, tn.held[1].part}
	if err := k.Unlock("acme"); err != nil {
		t.Fatal(err)
	}
	for _, p := range kept {
		if p.value.Len() != 0 {
			t.Errorf("%s is still in memory", p.Name())
		}
	}
	if tn.held != nil || tn.expiry != nil {
		t.Error("the tenant still holds parts")
	}
	if parts[0].value.Len() != keySize {
		t.Error("the caller's part was wiped; it is his")
	}
}

func TestPartsExpire(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
		k := newKeeper(t, s)
		mustSubmit(t, k, "alice", parts[0])
		time.Sleep(10 * time.Minute)
		mustSubmit(t, k, "bob", parts[1])
		tn := (*k.tenants.Load())["acme"]
		tn.mu.Lock()
		first, second := tn.held[0].part, tn.held[1].part
		tn.mu.Unlock()
		wiped := func(p Part) bool {
			tn.mu.Lock()
			defer tn.mu.Unlock()
			return p.value.Len() == 0
		}

		time.Sleep(5*time.Minute - time.Second)
		synctest.Wait()
		if wiped(first) {
			t.Error("wiped before its time")
		}
		// Wiped by the clock: nobody calls anything.
		time.Sleep(time.Second)
		synctest.Wait()
		if !wiped(first) || wiped(second) {
			t.Error("after 15 minutes the first part must be wiped, and only it")
		}
		wantError(t, k.Unlock("acme"), ErrNotEnough, `tenant "acme" has 1 of 2: not enough parts`)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if !wiped(second) {
			t.Error("after 15 minutes the second part must be wiped")
		}
		wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 3, Generation: 1})
		// A custodian may come again after his part has expired.
		mustUnlock(t, k, parts[2], parts[0])
	})
}

// With an injected clock that runs ahead of the timers, calls see the parts as
// expired too.
func TestPartsExpireByTheInjectedClock(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	now := time.Unix(1_700_000_000, 0)
	k := NewKeeper(Options{Now: func() time.Time { return now }, PartTTL: time.Minute})
	t.Cleanup(k.Close)
	if err := k.SetTenant("acme", s); err != nil {
		t.Fatal(err)
	}
	mustSubmit(t, k, "alice", parts[0])
	mustSubmit(t, k, "bob", parts[1])
	now = now.Add(time.Minute)
	wantError(t, k.Unlock("acme"), ErrNotEnough, `tenant "acme" has 0 of 2: not enough parts`)
}

func TestSetTenantRefuses(t *testing.T) {
	t.Parallel()
	s, _, _ := newSeal(t, "acme", FormShares, 3, 2)
	k := NewKeeper(Options{})
	wantError(t, k.SetTenant("", s), nil, "tenant name is empty")
	wantError(t, k.SetTenant("other", s), nil, `tenant "other": the seal is of tenant "acme"`)
}

func TestSetTenantAgain(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", parts[0])
	// The same seal, as after a configuration reload: parts stay.
	if err := k.SetTenant("acme", s); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 3, Generation: 1, Submitted: 1})

	// A rekey: parts go, an open tenant stays open.
	next, nextParts, err := Rekey(s, parts[:2], FormShares, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetTenant("acme", next); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, k, Status{Form: FormShares, Threshold: 3, Shares: 5, Generation: 2})
	wantError(t, k.Submit("acme", "alice", parts[0]), ErrWrongPart, "share 1 is of generation 1, the seal of generation 2")
	mustUnlock(t, k, nextParts[:3]...)
	third, _, err := Rekey(next, nextParts[1:4], FormHalves, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetTenant("acme", third); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Master("acme"); err != nil || !got.Equal(master) {
		t.Errorf("after a rekey: %v, or another key", err)
	}

	// Another master key: locked.
	other, _, _ := newSeal(t, "acme", FormShares, 2, 2)
	if err := k.SetTenant("acme", other); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, k, Status{Form: FormShares, Threshold: 2, Shares: 2, Generation: 1})
}

func TestRemoveAndCloseForget(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	for name, forget := range map[string]func(*Keeper){
		"Remove": func(k *Keeper) { k.Remove("acme"); k.Remove("acme") },
		"Close":  func(k *Keeper) { k.Close(); k.Close() },
	} {
		k := newKeeper(t, s)
		mustUnlock(t, k, parts[:2]...)
		tn := (*k.tenants.Load())["acme"]
		page := tn.master.Load()
		forget(k)
		_, err := k.Master("acme")
		wantError(t, err, ErrUnknownTenant, `tenant "acme": unknown tenant`)
		if page.key.Len() != 0 {
			t.Errorf("%s left the key in memory", name)
		}
		// A request that found the tenant just before does not revive it.
		tn.mu.Lock()
		err = tn.ready(time.Now())
		tn.mu.Unlock()
		wantError(t, err, ErrUnknownTenant, `tenant "acme": unknown tenant`)
	}
}

// A source whose key has a wrong size must not open the tenant.
type shortKey struct{ Seal }

func (shortKey) Open([]Part) (secret.Bytes, error) { return secret.Random(16), nil }

func TestUnlockRefusesAKeyOfAnotherSize(t *testing.T) {
	t.Parallel()
	s, _, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, shortKey{s})
	mustSubmit(t, k, "alice", parts[0])
	mustSubmit(t, k, "bob", parts[1])
	wantError(t, k.Unlock("acme"), nil, `tenant "acme": master key has 16 bytes, want 32`)
	if k.Unlocked("acme") {
		t.Error("unlocked")
	}
}

// Everything at once; with -race this also proves that a reader never sees a key
// that is half wiped.
func TestKeeperUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormShares, 3, 2)
	k := newKeeper(t, s)
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				key, err := k.Master("acme")
				switch {
				case err == nil && !key.Equal(master):
					t.Error("a key that is not the master key")
				case err != nil && !errors.Is(err, ErrLocked) && !errors.Is(err, ErrUnknownTenant):
					t.Error(err)
				}
				key.Destroy()
				k.Unlocked("acme")
			}
		})
	}
	for w := range 3 {
		writers.Go(func() {
			for i := range 300 {
				// Refusals are expected: the others are at it too.
				_ = k.Submit("acme", fmt.Sprintf("custodian-%d", w), parts[w])
				_ = k.Unlock("acme")
				_, _ = k.Status("acme")
				switch {
				case i%3 == w:
					_ = k.Lock("acme")
				case i%50 == 49:
					k.Remove("acme")
					if err := k.SetTenant("acme", s); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if err := k.Lock("acme"); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, k, parts[:2]...)
	if key, err := k.Master("acme"); err != nil || !key.Equal(master) {
		t.Errorf("in the end: %v, or another key", err)
	}
}

func TestPageIsWipedByTheLastReader(t *testing.T) {
	t.Parallel()
	key := secret.Random(keySize)
	p := newPage(key)
	if got, ok := p.read(); !ok || !got.Equal(key) {
		t.Fatal("the page does not hold the key")
	}
	p.readers.Add(1) // a read is under way
	done := make(chan struct{})
	go func() { p.retire(); close(done) }()
	for p.readers.Load() > 0 { // until retire has begun
		runtime.Gosched()
	}
	if _, ok := p.read(); ok {
		t.Error("a retired page was read")
	}
	select {
	case <-done:
		t.Error("retired while a read was under way")
	default:
	}
	p.leave()
	<-done
	if p.key.Len() != 0 {
		t.Error("not wiped")
	}
}

func TestPrintersShowNoSecret(t *testing.T) {
	t.Parallel()
	s, master, parts := newSeal(t, "acme", FormShares, 2, 2)
	k := newKeeper(t, s)
	mustSubmit(t, k, "alice", parts[0])
	var out bytes.Buffer
	for _, v := range []any{parts, parts[0], &parts[0], s, &s, k, (*k.tenants.Load())["acme"].held} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&out, verb, v)
		}
	}
	for _, b := range [][]byte{master.Expose(), parts[0].value.Expose(), parts[1].value.Expose()} {
		for _, form := range []string{string(b[:8]), fmt.Sprintf("%x", b[:8]), fmt.Sprintf("%X", b[:8]), strings.Trim(fmt.Sprint(b[:8]), "[]")} {
			if bytes.Contains(out.Bytes(), []byte(form)) {
				t.Error("a printer shows a secret")
			}
		}
	}
}

func BenchmarkMaster(b *testing.B) {
	s, _, parts, err := NewSeal("acme", FormShares, 3, 2)
	if err != nil {
		b.Fatal(err)
	}
	k := NewKeeper(Options{})
	defer k.Close()
	if err := errors.Join(k.SetTenant("acme", s), k.Submit("acme", "a", parts[0]), k.Submit("acme", "b", parts[1]), k.Unlock("acme")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key, err := k.Master("acme")
			if err != nil {
				b.Error(err)
			}
			key.Destroy()
		}
	})
}

func BenchmarkUnlocked(b *testing.B) {
	s, _, _, err := NewSeal("acme", FormShares, 3, 2)
	if err != nil {
		b.Fatal(err)
	}
	k := NewKeeper(Options{})
	defer k.Close()
	if err := k.SetTenant("acme", s); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		k.Unlocked("acme")
	}
}
