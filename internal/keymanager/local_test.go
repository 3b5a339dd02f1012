package keymanager

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func TestNewLocalRefusesLimitsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    LocalOptions
		want string
	}{
		{LocalOptions{TTL: time.Hour + 1}, "key cache ttl 1h0m0.000000001s: must be above 0 and at most 1h"},
		{LocalOptions{TTL: -1}, "key cache ttl -1ns: must be above 0 and at most 1h"},
		{LocalOptions{Entries: -1}, "key cache of -1 entries: must be at least 1"},
	} {
		if _, err := NewLocal(c.o); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestMerchantsHaveKeysOfTheirOwnAndEntitiesShareTheTenants(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	keys := map[vault.KeyID]string{}
	for _, c := range []struct {
		name   string
		of     vault.RecordContext
		shared bool
	}{
		{"merchant a", card("acme", "a"), false},
		{"merchant b", card("acme", "b"), false},
		{"entity a", value("acme", "a"), false},
		{"entity b", value("acme", "b"), true},
		{"merchant a of another tenant", card("other", "a"), false},
		{"entity a of another tenant", value("other", "a"), false},
	} {
		s := seal(t, l, c.of)
		if first, known := keys[s.Key]; known != c.shared {
			t.Errorf("%s: key of %q, shared=%t, want %t", c.name, first, known, c.shared)
		}
		keys[s.Key] = c.name
		checkOpens(t, l, c.of, s)
	}
}

// Whatever of a record's context is changed, the record does not open.
func TestRecordOpensInItsOwnContextOnly(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	name := rapid.StringMatching(`[a-c]{1,2}`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) vault.RecordContext {
			c := vault.RecordContext{
				Tenant: rapid.SampledFrom([]string{"acme", "other"}).Draw(t, label+" tenant"), Holder: name.Draw(t, label+" holder"),
				Space: vault.SpaceV1, Customer: name.Draw(t, label+" customer"), Reference: name.Draw(t, label+" reference"),
				Kind: vault.Kind(rapid.IntRange(1, 3).Draw(t, label+" kind")), CreatedAt: vault.Micros(rapid.IntRange(0, 1).Draw(t, label+" created")),
				ExpiresAt: vault.Micros(rapid.IntRange(0, 1).Draw(t, label+" expires")),
			}
			if rapid.Bool().Draw(t, label+" v2") {
				c.Space, c.HolderSecret = vault.SpaceV2, make([]byte, 32)
				c.HolderSecret[rapid.IntRange(0, 31).Draw(t, label+" byte")] = byte(rapid.IntRange(0, 1).Draw(t, label+" secret"))
			}
			return c
		}
		a, b := draw("a"), draw("b")
		s, err := l.Seal(context.Background(), a, text())
		if err != nil {
			t.Fatal(err)
		}
		same := a.Tenant == b.Tenant && a.Holder == b.Holder && a.Space == b.Space && a.Customer == b.Customer && a.Reference == b.Reference &&
			a.Kind == b.Kind && a.CreatedAt == b.CreatedAt && a.ExpiresAt == b.ExpiresAt && string(a.HolderSecret) == string(b.HolderSecret)
		p, err := l.Open(context.Background(), b, s)
		switch {
		case same && err != nil:
			t.Fatalf("does not open where it was sealed: %v", err)
		case !same && !errors.Is(err, vault.ErrCorrupt):
			t.Fatalf("in another context: got %v, want ErrCorrupt", err)
		case !same && p.Present():
			t.Fatal("an error came with a plaintext")
		}
	})
}

func TestKeyThatARecordNamesIsRefused(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	c := card("acme", "m")
	good := seal(t, l, c)
	foreign := seal(t, l, card("other", "m"))
	if _, err := l.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil {
		t.Fatal(err)
	}
	hmacKey, err := inv.Keyring.Active(t.Context(), "acme", "", vault.PurposeDedupe)
	if err != nil {
		t.Fatal(err)
	}
	neighbour := seal(t, l, card("acme", "n"))
	with := func(change func(*vault.Sealed)) vault.Sealed { s := good; change(&s); return s }
	for _, tc := range []struct {
		name   string
		sealed vault.Sealed
		change func(*vault.WrappedKey)
		want   error
		msg    string
	}{
		{name: "another tenant's", sealed: with(func(s *vault.Sealed) { s.Key = foreign.Key }), want: vault.ErrCorrupt, msg: "which is not for it"},
		{name: "of another purpose", sealed: with(func(s *vault.Sealed) { s.Key = hmacKey.ID }), want: vault.ErrCorrupt, msg: "which is not for it"},
		{name: "another merchant's", sealed: with(func(s *vault.Sealed) { s.Key = neighbour.Key }), want: vault.ErrCorrupt, msg: "stored data does not open"},
		{name: "none", sealed: with(func(s *vault.Sealed) { s.Key = vault.KeyID{} }), want: vault.ErrCorrupt, msg: "which is not in the inventory"},
		{name: "of no version", sealed: with(func(s *vault.Sealed) { s.KeyVersion = 0 }), want: vault.ErrCorrupt, msg: "version 0, which is not in the inventory"},
		{name: "of a later version", sealed: with(func(s *vault.Sealed) { s.KeyVersion = 2 }), want: vault.ErrCorrupt, msg: "version 2, which is not in the inventory"},
		{name: "of another mode", sealed: with(func(s *vault.Sealed) { s.Mode = 9 }), want: vault.ErrCorrupt, msg: "record names mode 9, which no key manager here opens"},
		{name: "destroyed", sealed: good, change: func(k *vault.WrappedKey) { k.State = vault.KeyDestroyed }, want: vault.ErrKeyUnavailable, msg: "is destroyed: merchant or entity was shredded: key is unavailable"},
		{name: "wrapped in another mode", sealed: good, change: func(k *vault.WrappedKey) { k.Mode = 2 }, want: vault.ErrKeyUnavailable, msg: "is in mode aws_kms_envelope, which is not served here"},
		{name: "with another name", sealed: good, change: func(k *vault.WrappedKey) { k.Holder = "n" }, want: vault.ErrCorrupt, msg: "does not unwrap under the master key"},
		{name: "cut short", sealed: good, change: func(k *vault.WrappedKey) { k.Wrapped = k.Wrapped[:20] }, want: vault.ErrCorrupt, msg: "does not unwrap under the master key"},
		{name: "empty", sealed: good, change: func(k *vault.WrappedKey) { k.Wrapped = nil }, want: vault.ErrCorrupt, msg: "does not unwrap under the master key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inv := &inventory{Keyring: inv.Keyring, store: inv.store, change: tc.change}
			p, err := newLocal(t, m, inv).Open(t.Context(), c, tc.sealed)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.msg) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.msg)
			}
			if p.Present() {
				t.Error("an error came with a plaintext")
			}
		})
	}
}

func TestRetiredAndReplacedKeysStillOpen(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	c := card("acme", "m")
	s := seal(t, newLocal(t, m, inv), c)
	for _, state := range []vault.KeyState{vault.KeyDecryptOnly, vault.KeyRetired} {
		inv.change = func(k *vault.WrappedKey) { k.State = state }
		checkOpens(t, newLocal(t, m, inv), c, s)
	}
}

// A holder whose key was destroyed does not get another one, nor one that it had.
func TestNothingIsSealedAfterAKeyWasDestroyed(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	first := seal(t, newLocal(t, m, inv), card("acme", "m"))
	inv.store.setState(vault.KeyVersion{ID: first.Key, Version: 1}, vault.KeyDestroyed)
	l := newLocal(t, m, inv)
	want := "key " + first.Key.String() + " is destroyed, and there is no active one"
	if _, err := l.Seal(t.Context(), card("acme", "m"), text()); !errors.Is(err, vault.ErrShredded) || !strings.Contains(err.Error(), want) {
		t.Errorf("seal: got %v", err)
	}
	if _, err := l.Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "operator"); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), want) {
		t.Errorf("rotate: got %v", err)
	}
}

// A key for which the tenant's mode had no use for a time goes on with its next
// version.
func TestKeyWithoutAnActiveVersionGoesOn(t *testing.T) {
	t.Parallel()
	for _, state := range []vault.KeyState{vault.KeyDecryptOnly, vault.KeyRetired} {
		m, inv := newMasters(t, "acme"), newInventory()
		l := newLocal(t, m, inv)
		c := card("acme", "m")
		first := seal(t, l, c)
		if _, err := l.Rotate(t.Context(), "acme", "m", vault.PurposeRecord, "operator"); err != nil {
			t.Fatal(err)
		}
		inv.store.setState(vault.KeyVersion{ID: first.Key, Version: 2}, state)
		l = newLocal(t, m, inv)
		s := seal(t, l, c)
		if s.Key != first.Key || s.KeyVersion != 3 {
			t.Errorf("%s: sealed under version %d of %s", state, s.KeyVersion, s.Key)
		}
		checkOpens(t, l, c, first)
		checkOpens(t, l, c, s)
	}
}

func TestWrongMasterKeySaysSo(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	c := card("acme", "m")
	s := seal(t, newLocal(t, m, inv), c)
	other := newMasters(t)
	other.set(t, "acme", 99)
	l := newLocal(t, other, inv)
	_, openErr := l.Open(t.Context(), c, s)
	_, sealErr := l.Seal(t.Context(), c, text())
	for _, err := range []error{openErr, sealErr} {
		if !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "key "+s.Key.String()+" does not unwrap under the master key") {
			t.Errorf("got %v, want ErrCorrupt that names the key and the master key", err)
		}
	}
}

func TestInventoryThatGivesAnotherKeyIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*vault.WrappedKey){
		"tenant":  func(k *vault.WrappedKey) { k.Tenant = "other" },
		"holder":  func(k *vault.WrappedKey) { k.Holder = "n" },
		"purpose": func(k *vault.WrappedKey) { k.Purpose = vault.PurposeDedupe },
	} {
		m, inv := newMasters(t, "acme", "other"), newInventory()
		seal(t, newLocal(t, m, inv), card("acme", "m"))
		inv.change = change
		_, err := newLocal(t, m, inv).Seal(t.Context(), card("acme", "m"), text())
		if !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "for something else than it was asked for") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestInventoryErrorsKeepTheirClass(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	c := card("acme", "m")
	s := seal(t, newLocal(t, m, inv), c)
	for _, method := range []string{"Active", "ByID", "Create"} {
		inv.before = func(_ context.Context, called string) error {
			if called == method {
				return vault.ErrUnavailable
			}
			return nil
		}
		l := newLocal(t, m, inv)
		var err error
		switch method {
		case "Active":
			_, err = l.Seal(t.Context(), c, text())
		case "ByID":
			_, err = l.Open(t.Context(), c, s)
		case "Create":
			_, err = l.Seal(t.Context(), card("acme", "new"), text())
		}
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", method, err)
		}
	}
}

func TestEntityWithoutItsSecretIsRefused(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	s := seal(t, l, value("acme", "e"))
	for _, n := range []int{0, 31, 33} {
		c := value("acme", "e")
		c.HolderSecret = make([]byte, n)
		_, sealErr := l.Seal(t.Context(), c, text())
		_, openErr := l.Open(t.Context(), c, s)
		for _, err := range []error{sealErr, openErr} {
			if !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "want 32") {
				t.Errorf("secret of %d bytes: got %v", n, err)
			}
		}
	}
	c := card("acme", "m")
	c.HolderSecret = make([]byte, 32)
	if _, err := l.Seal(t.Context(), c, text()); !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "has 32 bytes, want 0") {
		t.Errorf("merchant with a secret: got %v", err)
	}
}

func TestDamagedRecordIsCorruptAndNothingElse(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	c := card("acme", "m")
	s := seal(t, l, c)
	for n := range len(s.Blob) {
		for _, blob := range [][]byte{s.Blob[:n], flip(s.Blob, n), append(flip(s.Blob, n), 0)} {
			d := s
			d.Blob = blob
			if p, err := l.Open(t.Context(), c, d); !errors.Is(err, vault.ErrCorrupt) || p.Present() {
				t.Fatalf("byte %d: got %v, want ErrCorrupt", n, err)
			}
		}
	}
	long := c
	long.Reference = strings.Repeat("x", ciphertext.MaxField+1) // as somebody wrote it into a row
	if _, err := l.Open(t.Context(), long, s); !errors.Is(err, vault.ErrCorrupt) {
		t.Errorf("bound text too long: got %v, want ErrCorrupt", err)
	}
}

func flip(b []byte, at int) []byte {
	c := append([]byte(nil), b...)
	c[at] ^= 0x80
	return c
}

func TestMACIsApartByTenantPurposeAndParts(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme", "other"), newInventory()
	l := newLocal(t, m, inv)
	seen := map[vault.MAC]string{}
	for _, c := range []struct {
		name, tenant string
		p            vault.Purpose
		parts        []string
	}{
		{"plain", "acme", vault.PurposeDedupe, []string{"ab", "c"}},
		{"parts divided elsewhere", "acme", vault.PurposeDedupe, []string{"a", "bc"}},
		{"one part", "acme", vault.PurposeDedupe, []string{"abc"}},
		{"an empty part more", "acme", vault.PurposeDedupe, []string{"ab", "c", ""}},
		{"other purpose", "acme", vault.PurposeFingerprint, []string{"ab", "c"}},
		{"other tenant", "other", vault.PurposeDedupe, []string{"ab", "c"}},
		{"no parts", "acme", vault.PurposeDedupe, nil},
	} {
		var parts [][]byte
		for _, p := range c.parts {
			parts = append(parts, []byte(p))
		}
		got, err := l.MAC(t.Context(), c.tenant, c.p, parts...)
		if err != nil {
			t.Fatal(err)
		}
		if first, known := seen[got]; known {
			t.Errorf("%q and %q have one hash", first, c.name)
		}
		seen[got] = c.name
		if again, err := newLocal(t, m, inv).MAC(t.Context(), c.tenant, c.p, parts...); err != nil || again != got {
			t.Errorf("%q differs on another node: %v", c.name, err)
		}
	}
}

// Two purposes must stay apart even if somebody gave them one key.
func TestMACBindsThePurposeBesidesTheKey(t *testing.T) {
	t.Parallel()
	key := secret.Copy(make([]byte, 32))
	a, err := ciphertext.MAC(key, "cardea dedupe v1", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	for _, p := range []vault.Purpose{vault.PurposeDedupe, vault.PurposeFingerprint} {
		w := vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "acme", Purpose: p, Version: 1, State: vault.KeyActive, Mode: vault.ModeLocal}
		n := &name{active: held{w: w}, read: time.Now().Add(time.Hour)}
		_, k, err := l.keep(w, secret.Copy(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		k.release()
		n.active.key.Store(k)
		l.names.names.Set(activeName{"acme", "", p}, n)
	}
	d, err := l.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
	if err != nil || d != vault.MAC(a) {
		t.Errorf("dedupe hash is not HMAC-SHA-256 under the label of its purpose: %v", err)
	}
	if f, err := l.MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte("x")); err != nil || f == d {
		t.Errorf("fingerprint and dedupe hashes are the same under one key: %v", err)
	}
}

func TestMACUnderABranchKeyIsRefused(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	for _, p := range []vault.Purpose{vault.PurposeRecord, "", "other"} {
		if _, err := l.MAC(t.Context(), "acme", p, []byte("x")); err == nil || !strings.Contains(err.Error(), "a key has one purpose only") {
			t.Errorf("%q: got %v", p, err)
		}
	}
	if n := inv.created.Load(); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestKeysAreStoredWrappedOnlyAndTheirMakingIsInTheLog(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	s := seal(t, l, card("acme", "m"))
	w, err := inv.Keyring.ByID(t.Context(), s.Key, s.KeyVersion)
	if err != nil {
		t.Fatal(err)
	}
	clear := keysInClear(l)[0].key
	if strings.Contains(string(w.Wrapped), string(clear.Expose())) {
		t.Error("the key is stored in clear")
	}
	entries, err := inv.store.Entries(0)
	if err != nil {
		t.Fatal(err)
	}
	e := entries[0]
	if len(entries) != 1 || e.Op != "key.create" || e.Result != "created" || e.Tenant != "acme" || e.Resource.Merchant != "m" ||
		e.Resource.Key != s.Key.String() || e.Resource.KeyVersion != 1 || e.Detail != "purpose record, mode local" || e.Who.Name != "key-manager" {
		t.Errorf("got %d entries, the first %+v", len(entries), e)
	}
}

// The vault lets in what a record may hold.
func TestRecordTakesTheLargestDataOfTheVault(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	l := newLocal(t, m, inv)
	if _, err := l.Seal(t.Context(), card("acme", "m"), secret.New(make([]byte, vault.MaxData))); err != nil {
		t.Error(err)
	}
}

func TestLookUpsAreCounted(t *testing.T) {
	t.Parallel()
	m, inv := newMasters(t, "acme"), newInventory()
	r := prometheus.NewRegistry()
	now := time.Now()
	l := newLocal(t, m, inv, func(o *LocalOptions) { o.Metrics, o.Now = r, func() time.Time { return now } }) // a name's time is short
	for range 3 {
		checkOpens(t, l, card("acme", "m"), seal(t, l, card("acme", "m")))
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	const family = "cardea_keys_cache_lookups_total "
	want := map[string]float64{family + "active hit": 2, family + "active miss": 1, family + "version hit": 3, family + "version miss": 0, family + "active grace": 0, family + "version grace": 0}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkSealWithCachedKey(b *testing.B) {
	m, inv := newMasters(b, "acme"), newInventory()
	l := newLocal(b, m, inv)
	c, p := card("acme", "m"), text()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Seal(b.Context(), c, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMACWithCachedKey(b *testing.B) {
	m, inv := newMasters(b, "acme"), newInventory()
	l := newLocal(b, m, inv)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.MAC(b.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
}
