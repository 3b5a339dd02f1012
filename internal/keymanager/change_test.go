package keymanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// servedModes are those that a kmsNode serves.
var servedModes = []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS}

func (n *kmsNode) key(t testing.TB, v vault.KeyVersion) vault.WrappedKey {
	t.Helper()
	w, err := n.inv.Keyring.ByID(t.Context(), v.ID, v.Version)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestAnotherModeIsTakenUpByTheNextSeal: rows of before open, keyed hashes stay, and
// the version that is replaced seals no more.
func TestAnotherModeIsTakenUpByTheNextSeal(t *testing.T) {
	t.Parallel()
	for _, before := range servedModes {
		for _, after := range servedModes {
			t.Run(before.String()+" to "+after.String(), func(t *testing.T) {
				t.Parallel()
				n := newKMSNode(t)
				r := n.router(before)
				c := card("acme", "m")
				was := mustSeal(t, r, c)
				hash, err := r.MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte("x"))
				if err != nil {
					t.Fatal(err)
				}
				r = n.router(after)
				r.Forget("acme")
				is := mustSeal(t, r, c)
				if is.Mode != after {
					t.Errorf("sealed in mode %s", is.Mode)
				}
				mustOpen(t, r, c, was)
				mustOpen(t, r, c, is)
				if again, err := r.MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte("x")); err != nil || again != hash {
					t.Errorf("another hash of the same: %v", err)
				}
				rotated := before != after && before != vault.ModeKMS && after != vault.ModeKMS
				if rotated != (is.Key == was.Key && is.KeyVersion == 2) {
					t.Errorf("version %d of %s, after version 1 of %s", is.KeyVersion, is.Key, was.Key)
				}
				if old := n.key(t, vault.KeyVersion{ID: was.Key, Version: 1}); rotated != (old.State == vault.KeyDecryptOnly) {
					t.Errorf("what was the key is %s", old.State)
				}
				if got := countEntries(t, n.inv.store, "key.rotate", "rotated"); rotated != (got == 1) {
					t.Errorf("%d entries of rotations", got)
				}
			})
		}
	}
}

// TestNodesThatDifferDoNotMakeVersionsWithoutEnd: one has the new configuration and
// one the old.
func TestNodesThatDifferDoNotMakeVersionsWithoutEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log strings.Builder
		a := newKMSNode(t)
		b := &kmsNode{kms: a.kms, inv: a.inv, masters: a.masters, tenants: a.tenants, modes: vault.NewTenants()}
		b.restart(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer a.envelope.Close()
		defer b.envelope.Close()
		c := card("acme", "m")
		ra, rb := a.router(vault.ModeLocal), b.router(vault.ModeKMSEnvelope)
		var last vault.Sealed
		for range 60 {
			mustSeal(t, ra, c)
			last = mustSeal(t, rb, c)
			time.Sleep(nameLife)
			synctest.Wait()
		}
		if last.KeyVersion > 2*maxTurns+1 {
			t.Errorf("%d versions in 5 minutes", last.KeyVersion)
		}
		if !strings.Contains(log.String(), "do all nodes have the same configuration?") {
			t.Errorf("not logged: %s", log.String())
		}
	})
}

func TestRotationByAnotherNodeIsTakenUpSoon(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		a, b := newLocal(t, m, inv), newLocal(t, m, inv)
		defer a.Close()
		defer b.Close()
		c := card("acme", "m")
		old := seal(t, a, c)
		w, err := b.Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "operator")
		if err != nil || w.Version != 2 || w.ID != old.Key || w.State != vault.KeyActive {
			t.Fatalf("%v, %+v", err, w)
		}
		if s := seal(t, b, c); s.KeyVersion != 2 {
			t.Errorf("the node that rotated seals under version %d", s.KeyVersion)
		}
		time.Sleep(nameLife)
		if s := seal(t, a, c); s.KeyVersion != 2 {
			t.Errorf("another node seals under version %d after %s", s.KeyVersion, nameLife)
		}
		for _, l := range []*Envelope{a, b} {
			checkOpens(t, l, c, old)
		}
	})
}

// TestRotationsAtOnceAgree: all callers end up with an active version.
func TestRotationsAtOnceAgree(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	nodes := []*Envelope{newLocal(t, m, inv), newLocal(t, m, inv), newLocal(t, m, inv)}
	c := card("acme", "m")
	first := seal(t, nodes[0], c)
	for _, err := range together(12, func(i int) error {
		_, err := nodes[i%3].Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "operator")
		return err
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	active := 0
	inv.store.mu.Lock()
	for _, k := range inv.store.keys {
		if k.ID == first.Key && k.State == vault.KeyActive {
			active++
		}
	}
	inv.store.mu.Unlock()
	if active != 1 {
		t.Errorf("%d active versions", active)
	}
}

func TestSlowInventoryDoesNotMakeAnOldVersionSeal(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m, inv := newMasters(t, "acme"), newInventory()
		l := newLocal(t, m, inv)
		defer l.Close()
		c := card("acme", "m")
		s := seal(t, l, c)
		l.ForgetKey("acme", vault.KeyVersion{ID: s.Key, Version: 1})
		// The look-up and the load of the key are slow, each just within its time.
		inv.before = func(_ context.Context, method string) error { time.Sleep(loadTimeout - time.Second); return nil }
		l.wrappers[vault.ModeLocal] = slowWrapper{l.wrappers[vault.ModeLocal], loadTimeout - time.Second}
		_, err := l.Seal(t.Context(), c, text())
		if !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "record key was read 58s ago and may be replaced by now, try again") {
			t.Errorf("got %v", err)
		}
		if most := nameLife + loadTimeout + 20*time.Second; most > vault.RetireDelay { // and the store's time to write
			t.Errorf("a version may be sealed under for %s after it was replaced, and is retired after %s", most, vault.RetireDelay)
		}
	})
}

type slowWrapper struct {
	Wrapper
	by time.Duration
}

func (s slowWrapper) Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error) {
	time.Sleep(s.by)
	return s.Wrapper.Unwrap(ctx, w)
}

func TestRotateMakesTheFirstVersionToo(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	for _, mode := range servedModes {
		for _, p := range []vault.Purpose{vault.PurposeRecord, vault.PurposeDedupe} {
			w, err := n.router(mode).Rotate(t.Context(), "acme", map[vault.Purpose]string{vault.PurposeRecord: mode.String()}[p], p, "operator")
			if err != nil {
				t.Errorf("%s %s: %v", mode, p, err)
				continue
			}
			if !n.router(mode).Current(w) && (mode != vault.ModeKMS || p != vault.PurposeRecord) {
				t.Errorf("%s %s: what was just made is not current: %+v", mode, p, w)
			}
		}
	}
}

func TestRotateRefusals(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	_, err := n.router(vault.ModeLocal).Rotate(t.Context(), "acme", "", vault.PurposeDirect, "operator")
	if err == nil || err.Error() != `purpose: tenant "acme" is not in mode aws_kms, which alone has a direct key` {
		t.Errorf("got %v", err)
	}
	r := n.router(vault.ModeKMS)
	if _, err := r.Rotate(t.Context(), "acme", "", vault.PurposeDedupe, "operator"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Rotate(t.Context(), "acme", "", vault.PurposeDedupe, "operator")
	if _, ok := errors.AsType[*vault.ValidationError](err); !ok || !strings.Contains(err.Error(), "kms.mac_key_id: is the key in use, under which the same hashes would come out") {
		t.Errorf("got %v", err)
	}
	if _, err := r.Rotate(t.Context(), "nobody", "", vault.PurposeDedupe, "operator"); !errors.Is(err, vault.ErrUnknownTenant) {
		t.Errorf("got %v", err)
	}
	n.kms.failWith(kmsclient.ErrDenied)
	if _, err := n.router(vault.ModeKMSEnvelope).Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "operator"); !errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("got %v", err)
	}
	for _, k := range n.inv.store.keys {
		if k.Purpose == vault.PurposeRecord {
			t.Error("a key is in the inventory that could not be wrapped")
		}
	}
}

// TestRewrapKeepsTheMaterial: between any two modes that wrap, and under another KMS
// key.
func TestRewrapKeepsTheMaterial(t *testing.T) {
	t.Parallel()
	wrapping := []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope}
	for _, before := range wrapping {
		for _, after := range servedModes {
			n := newKMSNode(t)
			r := n.router(before)
			c := card("acme", "m")
			s := mustSeal(t, r, c)
			hash, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			dedupe, err := n.inv.Keyring.Active(t.Context(), "acme", "", vault.PurposeDedupe)
			if err != nil {
				t.Fatal(err)
			}
			n.setKeys("acme", func(k *KMSKeys) { k.Key.ID, k.Previous = testKeyThen, []string{testKey} })
			r = n.router(after)
			for _, w := range []vault.WrappedKey{dedupe, n.key(t, vault.KeyVersion{ID: s.Key, Version: 1})} {
				stays := before == after && before == vault.ModeLocal
				if r.Current(w) != stays {
					t.Errorf("%s in mode %s: current %v", w.Purpose, after, !stays)
				}
				now, err := r.Rewrap(t.Context(), w)
				if err != nil {
					t.Fatalf("%s from %s to %s: %v", w.Purpose, before, after, err)
				}
				if now.Version != w.Version || now.ID != w.ID || now.State != w.State || now.Mode == vault.ModeKMS {
					t.Errorf("%+v became %+v", w, now)
				}
				if !r.Current(now) && w.Purpose == vault.PurposeDedupe {
					t.Errorf("%s from %s to %s is not current", w.Purpose, before, after)
				}
				if got := n.key(t, versionOf(now)); got.Mode != now.Mode || string(got.Wrapped) != string(now.Wrapped) {
					t.Error("the inventory has another wrapping")
				}
			}
			if before == vault.ModeLocal && after != vault.ModeLocal {
				n.masters.lock(t, "acme") // is not needed any more
			}
			n.restart(t)
			r = n.router(after)
			mustOpen(t, r, c, s)
			if again, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil || again != hash {
				t.Errorf("from %s to %s: another hash: %v", before, after, err)
			}
		}
	}
}

func TestRewrapRefusals(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	r := n.router(vault.ModeKMS)
	if _, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil {
		t.Fatal(err)
	}
	inKMS, err := n.inv.Keyring.Active(t.Context(), "acme", "", vault.PurposeDedupe)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.router(vault.ModeLocal).Rewrap(t.Context(), inKMS); !errors.Is(err, vault.ErrKeyFixed) || !strings.Contains(err.Error(), "it is in AWS KMS only, rotate it instead") {
		t.Errorf("got %v", err)
	}
	s := mustSeal(t, n.router(vault.ModeLocal), card("acme", "m"))
	w := n.key(t, vault.KeyVersion{ID: s.Key, Version: 1})
	r = n.router(vault.ModeKMSEnvelope)
	n.masters.lock(t, "acme")
	if _, err := r.Rewrap(t.Context(), w); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("locked: got %v", err)
	}
	n.masters.unlock(t, "acme")
	gone := w
	gone.State = vault.KeyDestroyed
	if _, err := r.Rewrap(t.Context(), gone); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "is destroyed") {
		t.Errorf("destroyed: got %v", err)
	}
	if _, err := r.Rewrap(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Rewrap(t.Context(), w); err != nil || again.Mode != vault.ModeKMSEnvelope { // by another node, meanwhile
		t.Errorf("got %v, mode %s", err, again.Mode)
	}
	if got := countEntries(t, n.inv.store, "key.rewrap", "changed_meanwhile"); got != 1 {
		t.Errorf("%d entries of what was not rewrapped", got)
	}
	r = n.router(vault.ModeLocal)
	if _, err := r.Rewrap(t.Context(), n.key(t, versionOf(w))); err != nil {
		t.Fatal(err)
	}
	n.setMode(vault.ModeKMSEnvelope)
	stale := w
	stale.Wrapped = slices.Clone(w.Wrapped)
	if _, err := r.Rewrap(t.Context(), stale); err == nil || !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), "was changed meanwhile, try again") {
		t.Errorf("got %v", err)
	}
}

// TestRewrappedKeyOutlivesTheLockOfItsFormerMode on another node, which has it in its
// cache as it was wrapped before.
func TestRewrappedKeyOutlivesTheLockOfItsFormerMode(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	other := &kmsNode{kms: n.kms, inv: n.inv, masters: n.masters, tenants: n.tenants, modes: n.modes}
	other.restart(t)
	c := card("acme", "m")
	s := mustSeal(t, n.router(vault.ModeLocal), c)
	mustOpen(t, other.envelope, c, s)
	if _, err := n.router(vault.ModeKMSEnvelope).Rewrap(t.Context(), n.key(t, vault.KeyVersion{ID: s.Key, Version: 1})); err != nil {
		t.Fatal(err)
	}
	n.masters.lock(t, "acme")
	mustOpen(t, other.envelope, c, s)
	mustOpen(t, n.envelope, c, s)
}

func TestResealMovesRecordsBetweenAnyTwoModes(t *testing.T) {
	t.Parallel()
	for _, before := range servedModes {
		for _, after := range servedModes {
			n := newKMSNode(t)
			for _, c := range []vault.RecordContext{card("acme", "m"), value("acme", "e")} {
				s := mustSeal(t, n.router(before), c)
				r := n.router(after)
				r.Forget("acme")
				now, err := r.Reseal(t.Context(), c, s)
				if err != nil {
					t.Fatalf("%s to %s: %v", before, after, err)
				}
				if now.Mode != after {
					t.Errorf("%s to %s: sealed in mode %s", before, after, now.Mode)
				}
				mustOpen(t, r, c, now)
				mustOpen(t, r, c, s)
			}
		}
	}
}

// TestResealInKMSNeverSeesThePlaintext: KMS re-encrypts, under another version and
// under another key.
func TestResealInKMSNeverSeesThePlaintext(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	r := n.router(vault.ModeKMS)
	c := value("acme", "e")
	s := mustSeal(t, r, c)
	if _, err := r.Rotate(t.Context(), "acme", "", vault.PurposeDirect, "operator"); err != nil {
		t.Fatal(err)
	}
	s2, err := r.Reseal(t.Context(), c, s)
	if err != nil || s2.KeyVersion != 2 || s2.Key != s.Key {
		t.Fatalf("%v, version %d", err, s2.KeyVersion)
	}
	n.setKeys("acme", func(k *KMSKeys) { k.Key.ID, k.Previous = testKeyThen, []string{testKey} })
	r.Forget("acme")
	s3, err := r.Reseal(t.Context(), c, s2)
	if err != nil || s3.KeyVersion != 3 {
		t.Fatalf("%v, version %d", err, s3.KeyVersion)
	}
	if n.kms.calls["Decrypt"] != 0 || n.kms.calls["ReEncrypt"] != 2 || n.kms.calls["Encrypt"] != 1 {
		t.Errorf("calls %v", n.kms.calls)
	}
	for _, s := range []vault.Sealed{s, s2, s3} {
		mustOpen(t, r, c, s)
	}
	other := value("acme", "f")
	if _, err := r.Reseal(t.Context(), other, s3); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("row of another: got %v", err)
	}
	// Keys in two Regions: KMS cannot, so it is decrypted and encrypted.
	far := strings.Replace(testKey, testRegion, "us-east-1", 1)
	n.setKeys("acme", func(k *KMSKeys) {
		k.Key, k.Previous = kmsclient.Key{ID: far, Region: "us-east-1"}, []string{testKey, testKeyThen}
	})
	r.Forget("acme")
	s4, err := r.Reseal(t.Context(), c, s3)
	if err != nil || n.kms.calls["ReEncrypt"] != 3 || n.kms.calls["Encrypt"] != 2 {
		t.Errorf("%v, calls %v", err, n.kms.calls)
	}
	mustOpen(t, r, c, s4)
}

func TestMACsAreOfAllVersionsThatAreNotRetired(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	r := n.router(vault.ModeLocal)
	parts := [][]byte{[]byte("a"), []byte("b")}
	var want []vault.VersionMAC
	for i, mode := range servedModes {
		r = n.router(mode)
		w, err := r.Rotate(t.Context(), "acme", "", vault.PurposeDedupe, "operator")
		if err != nil || w.Version != uint32(i+1) || w.Mode != mode {
			t.Fatalf("%v, %+v", err, w)
		}
		mac, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, parts...)
		if err != nil {
			t.Fatal(err)
		}
		want = append([]vault.VersionMAC{{Version: w.Version, MAC: mac}}, want...)
	}
	check := func(want []vault.VersionMAC) {
		t.Helper()
		got, err := r.MACs(t.Context(), "acme", vault.PurposeDedupe, parts...)
		same := func(a, b vault.VersionMAC) bool { return a.Version == b.Version && a.MAC == b.MAC }
		if err != nil || !slices.EqualFunc(got, want, same) {
			t.Errorf("%v: got %d hashes, want %d, or others", err, len(got), len(want))
		}
	}
	check(want)
	w, err := n.inv.Keyring.Active(t.Context(), "acme", "", vault.PurposeDedupe)
	if err != nil {
		t.Fatal(err)
	}
	n.inv.store.setState(vault.KeyVersion{ID: w.ID, Version: 2}, vault.KeyRetired)
	r.ForgetKey("acme", vault.KeyVersion{ID: w.ID, Version: 2})
	check([]vault.VersionMAC{want[0], want[2]})
	if _, err := r.MACs(t.Context(), "acme", vault.PurposeRecord); err == nil || !strings.Contains(err.Error(), "a key has one purpose only") {
		t.Errorf("got %v", err)
	}
	n.masters.lock(t, "acme")
	if _, err := r.MACs(t.Context(), "acme", vault.PurposeDedupe, parts...); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("with a version under a locked master key: got %v", err)
	}
}

func TestMACsAllocateNoMoreThanOneHash(t *testing.T) {
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	part := []byte("x")
	one := testing.AllocsPerRun(200, func() {
		if _, err := l.MAC(t.Context(), "acme", vault.PurposeDedupe, part); err != nil {
			t.Fatal(err)
		}
	})
	if all := testing.AllocsPerRun(200, func() {
		if _, err := l.MACs(t.Context(), "acme", vault.PurposeDedupe, part); err != nil {
			t.Fatal(err)
		}
	}); all > one+1 { // its slice
		t.Errorf("%v allocations, and %v for one hash", all, one)
	}
}

func TestForgetKeyWipesOneVersionAndItsName(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	a, b := seal(t, l, card("acme", "a")), seal(t, l, card("acme", "b"))
	l.ForgetKey("other", vault.KeyVersion{ID: a.Key, Version: 1})
	l.ForgetKey("acme", vault.KeyVersion{ID: a.Key, Version: 2})
	if n := len(keysInClear(l)); n != 2 {
		t.Errorf("%d keys, want both", n)
	}
	l.ForgetKey("acme", vault.KeyVersion{ID: a.Key, Version: 1})
	left := keysInClear(l)
	if len(left) != 1 || left[0].id != b.Key {
		t.Errorf("%d keys left, want that of another merchant", len(left))
	}
	from := inv.active.Load()
	seal(t, l, card("acme", "a"))
	if inv.active.Load() != from+1 {
		t.Error("the inventory was not asked again")
	}
}

func TestCountsAreOfEachVersionAndOnce(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	want := map[vault.KeyVersion]uint64{}
	for i, mode := range servedModes {
		r := n.router(mode)
		for range i + 2 {
			s := mustSeal(t, r, card("acme", mode.String()))
			want[vault.KeyVersion{ID: s.Key, Version: s.KeyVersion}]++
			mustOpen(t, r, card("acme", mode.String()), s)
		}
	}
	r := n.router(vault.ModeLocal)
	n.masters.lock(t, "acme")
	r.Sweep() // what has left the cache counts as well
	if got := r.Counts(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := r.Counts(); len(got) != 0 {
		t.Errorf("counted twice: %v", got)
	}
}

func TestCurrentFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	keys := map[vault.Mode]vault.WrappedKey{}
	for _, mode := range servedModes {
		s := mustSeal(t, n.router(mode), card("acme", mode.String()))
		keys[mode] = n.key(t, vault.KeyVersion{ID: s.Key, Version: s.KeyVersion})
	}
	for _, of := range servedModes {
		for _, in := range servedModes {
			if got := n.router(in).Current(keys[of]); got != (of == in) {
				t.Errorf("key of mode %s in mode %s: current %v", of, in, got)
			}
		}
	}
	n.setKeys("acme", func(k *KMSKeys) { k.OversizeEnvelope = true })
	if !n.router(vault.ModeKMS).Current(keys[vault.ModeKMSEnvelope]) {
		t.Error("a branch key is not current though records may be too long")
	}
	n.setKeys("acme", func(k *KMSKeys) { k.Key.ID, k.Previous = testKeyThen, []string{testKey} })
	for _, mode := range servedModes[1:] {
		if n.router(mode).Current(keys[mode]) {
			t.Errorf("%s: current under another KMS key", mode)
		}
	}
	unknown := keys[vault.ModeLocal]
	unknown.Tenant = "nobody"
	if n.envelope.Current(unknown) {
		t.Error("key of an unknown tenant is current")
	}
}

func TestChangesOfKeysAreInTheLog(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	s := mustSeal(t, n.router(vault.ModeLocal), card("acme", "m"))
	r := n.router(vault.ModeKMSEnvelope)
	if _, err := r.Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "cryptoperiod"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rewrap(t.Context(), n.key(t, vault.KeyVersion{ID: s.Key, Version: 1})); err != nil {
		t.Fatal(err)
	}
	entries, err := n.inv.store.Entries(0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%s %s %s %d: %s", e.Op, e.Result, e.Resource.Merchant, e.Resource.KeyVersion, e.Detail))
	}
	want := []string{
		"key.create created m 1: purpose record, mode local",
		"key.rotate rotated m 2: purpose record, mode aws_kms_envelope, reason cryptoperiod",
		"key.rewrap rewrapped m 1: purpose record, mode aws_kms_envelope",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
