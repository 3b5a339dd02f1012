package keymanager

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func TestDirectHoldsNoKey(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	for _, c := range []vault.RecordContext{card("acme", "m"), value("acme", "e"), card("beta", "m")} {
		s := mustSeal(t, n.direct, c)
		r, err := ciphertext.ParseKMSRecord(s.Blob)
		if err != nil || s.Mode != vault.ModeKMS || r.KMSKey != testKey {
			t.Errorf("%v, mode %s, %+v", err, s.Mode, r)
		}
		mustOpen(t, n.direct, c, s)
		k, err := n.inv.ByID(t.Context(), s.Key, s.KeyVersion)
		if err != nil {
			t.Fatal(err)
		}
		w, err := ciphertext.ParseKMSWrapped(k.Wrapped)
		if err != nil || k.Purpose != vault.PurposeDirect || w.Mode != ciphertext.ModeKMSReference || w.KMSKey != testKey {
			t.Errorf("%v, purpose %s, %+v", err, k.Purpose, w)
		}
	}
	if _, err := n.router(vault.ModeKMS).MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n.kms.calls["GenerateDataKey"] != 0 || len(keysInClear(n.envelope)) != 0 {
		t.Error("there is a key in the vault")
	}
	if want := map[string]int{"Encrypt": 3, "Decrypt": 3, "GenerateMac": 1}; n.kms.count() != 7 {
		t.Errorf("calls %v, want %v", n.kms.calls, want)
	}
}

func TestDirectMACIsOfTenantPurposeAndParts(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	mac := func(tenant string, p vault.Purpose, parts ...string) vault.MAC {
		var all [][]byte
		for _, p := range parts {
			all = append(all, []byte(p))
		}
		m, err := n.router(vault.ModeKMS).MAC(t.Context(), tenant, p, all...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	seen := map[vault.MAC]string{}
	for name, m := range map[string]vault.MAC{
		"one": mac("acme", vault.PurposeDedupe, "a", "bc"), "parts": mac("acme", vault.PurposeDedupe, "ab", "c"),
		"tenant": mac("beta", vault.PurposeDedupe, "a", "bc"), "purpose": mac("acme", vault.PurposeFingerprint, "a", "bc"),
		"long": mac("acme", vault.PurposeDedupe, strings.Repeat("x", 1<<20)),
	} {
		if seen[m] != "" {
			t.Errorf("%s is %s", name, seen[m])
		}
		seen[m] = name
	}
	if again := mac("acme", vault.PurposeDedupe, "a", "bc"); seen[again] != "one" {
		t.Error("another MAC for the same parts")
	}
	for _, k := range n.kms.keys {
		if k.ID != testMACKey {
			t.Errorf("MAC under %s", k.ID)
		}
	}
	const want = "keyed hash under a record key: a key has one purpose only"
	if _, err := n.router(vault.ModeKMS).MAC(t.Context(), "acme", vault.PurposeRecord); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestDirectWithoutAMACKeyMakesHashesInTheEnvelope(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	n.setKeys("acme", func(k *KMSKeys) { k.MAC = kmsclient.Key{} })
	if _, err := n.router(vault.ModeKMS).MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n.kms.calls["GenerateMac"] != 0 || n.kms.calls["GenerateDataKey"] != 1 {
		t.Errorf("calls %v", n.kms.calls)
	}
	// A MAC key that comes later would make other hashes of the same numbers: it is for
	// Rotate to take it up.
	n.setKeys("acme")
	if _, err := n.router(vault.ModeKMS).MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil || n.kms.calls["GenerateMac"] != 0 {
		t.Errorf("got %v, calls %v", err, n.kms.calls)
	}
}

func TestDirectRefusesWhatKMSDoesNotTake(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	long, longest := secret.New(make([]byte, maxDirect+1)), secret.New(make([]byte, maxDirect))
	for field, c := range map[string]vault.RecordContext{"card": card("acme", "m"), "data": value("acme", "e")} {
		_, err := n.direct.Seal(t.Context(), c, long)
		if v, ok := errors.AsType[*vault.ValidationError](err); !ok || v.Field != field || v.Reason != "has 4097 bytes as stored, and this tenant's key service encrypts at most 4096" {
			t.Errorf("%s: got %v", field, err)
		}
		if _, err := n.direct.Seal(t.Context(), c, longest); err != nil {
			t.Errorf("%s: longest: %v", field, err)
		}
	}
	c := card("acme", "m")
	c.Kind = vault.KindData
	if _, err := n.direct.Seal(t.Context(), c, secret.New(nil)); err == nil || err.Error() != "enc_card_data: must not be empty" {
		t.Errorf("got %v", err)
	}
	n.setKeys("acme", func(k *KMSKeys) { k.OversizeEnvelope = true })
	for _, c := range []vault.RecordContext{card("acme", "m"), value("acme", "e")} {
		s, err := n.direct.Seal(t.Context(), c, long)
		if err != nil || s.Mode != vault.ModeKMSEnvelope {
			t.Fatalf("%v, mode %s", err, s.Mode)
		}
		p, err := n.router(vault.ModeKMS).Open(t.Context(), c, s)
		if err != nil || !p.Equal(long) {
			t.Errorf("open: %v, or something else", err)
		}
		if s := mustSeal(t, n.direct, c); s.Mode != vault.ModeKMS {
			t.Errorf("a short one is in mode %s", s.Mode)
		}
	}
}

// TestOnlyWhatIsTooLongStays: records of mode aws_kms_envelope that fit into KMS are
// to be moved there.
func TestOnlyWhatIsTooLongStays(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	seal := func(m vault.Mode, bytes int) vault.Sealed {
		s, err := n.router(m).Seal(t.Context(), card("acme", m.String()), secret.New(make([]byte, bytes)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	long, longest := seal(vault.ModeKMSEnvelope, maxDirect+1), seal(vault.ModeKMSEnvelope, maxDirect)
	local, direct := seal(vault.ModeLocal, maxDirect+1), seal(vault.ModeKMS, maxDirect)
	if n.router(vault.ModeKMS).Stays("acme", long) {
		t.Error("a long one stays where it is refused")
	}
	n.setKeys("acme", func(k *KMSKeys) { k.OversizeEnvelope = true })
	for name, c := range map[string]struct {
		mode   vault.Mode
		tenant string
		s      vault.Sealed
		want   bool
	}{
		"too long":           {vault.ModeKMS, "acme", long, true},
		"fits":               {vault.ModeKMS, "acme", longest, false},
		"of mode local":      {vault.ModeKMS, "acme", local, false},
		"of mode aws_kms":    {vault.ModeKMS, "acme", direct, false},
		"in mode envelope":   {vault.ModeKMSEnvelope, "acme", long, false},
		"of nobody's tenant": {vault.ModeKMS, "nobody", long, false},
	} {
		if got := n.router(c.mode).Stays(c.tenant, c.s); got != c.want {
			t.Errorf("%s: stays %v", name, got)
		}
	}
}

func TestDirectTakesUpAnotherKey(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	r := n.router(vault.ModeKMS)
	c := card("acme", "m")
	s := mustSeal(t, r, c)
	before, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	n.setKeys("acme", func(k *KMSKeys) { k.Key.ID, k.Previous, k.MAC.ID = testKeyThen, []string{testKey}, testKeyThen })
	r.Forget("acme")
	next := mustSeal(t, r, c)
	if next.Key != s.Key || next.KeyVersion != 2 || countEntries(t, n.inv.store, "key.rotate", "rotated") != 1 {
		t.Errorf("sealed under version %d of %s", next.KeyVersion, next.Key)
	}
	mustOpen(t, r, c, s)
	mustOpen(t, r, c, next)
	_, err = r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
	if want := "keyed hashes are made by KMS key " + testMACKey + ", which is neither the tenant's kms.mac_key_id nor among its kms.previous_key_ids"; !errors.Is(err, vault.ErrKeyUnavailable) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("MAC: got %v", err)
	}
	n.setKeys("acme", func(k *KMSKeys) {
		k.Key.ID, k.Previous, k.MAC.ID = testKeyThen, []string{testKey, testMACKey}, testKeyThen
	})
	if again, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil || again != before {
		t.Errorf("other hash under the key from before: %v", err)
	}
}

func TestDirectLooksIntoTheInventory(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*vault.WrappedKey)
		want   error
		msg    string
	}{
		"destroyed":       {func(k *vault.WrappedKey) { k.State = vault.KeyDestroyed }, vault.ErrKeyUnavailable, "is destroyed"},
		"of another":      {func(k *vault.WrappedKey) { k.Tenant = "beta" }, vault.ErrCorrupt, "is not for it"},
		"for another":     {func(k *vault.WrappedKey) { k.Purpose = vault.PurposeDedupe }, vault.ErrCorrupt, "is not for it"},
		"not a reference": {func(k *vault.WrappedKey) { k.Wrapped = []byte("x") }, vault.ErrCorrupt, "is no reference to a KMS key"},
		"in local mode":   {func(k *vault.WrappedKey) { k.Mode = vault.ModeLocal }, vault.ErrCorrupt, "does not unwrap under the master key"},
	} {
		n := newKMSNode(t)
		c := card("acme", "m")
		s := mustSeal(t, n.direct, c)
		n.restart(t)
		n.inv.change = tc.change
		if _, err := n.direct.Open(t.Context(), c, s); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.msg) {
			t.Errorf("%s: got %v", name, err)
		}
		if n.kms.calls["Decrypt"] != 0 {
			t.Errorf("%s: KMS was asked", name)
		}
	}
	n := newKMSNode(t)
	s := mustSeal(t, n.direct, card("acme", "m"))
	other := newKMSNode(t)
	if _, err := other.direct.Open(t.Context(), card("acme", "m"), s); !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "not in the inventory") {
		t.Errorf("got %v", err)
	}
}

func TestDirectKeepsReferencesForATimeOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := newKMSNode(t)
		c := card("acme", "m")
		s := mustSeal(t, n.direct, c)
		n.restart(t)
		defer n.envelope.Close()
		n.inv.active.Store(0)
		for range 10 {
			mustOpen(t, n.direct, c, s)
			mustSeal(t, n.direct, c)
		}
		if n.inv.active.Load() != 1 || n.inv.byID.Load() != 1 {
			t.Errorf("%d and %d looks into the inventory", n.inv.active.Load(), n.inv.byID.Load())
		}
		time.Sleep(nameLife)
		mustSeal(t, n.direct, c)
		if n.inv.active.Load() != 2 {
			t.Errorf("%d looks for the active reference, want one more", n.inv.active.Load())
		}
		time.Sleep(5*time.Minute + 2*time.Second)
		mustOpen(t, n.direct, c, s)
		n.envelope.Forget("beta")
		mustOpen(t, n.direct, c, s)
		n.envelope.Forget("acme")
		mustOpen(t, n.direct, c, s)
		if got := n.inv.byID.Load(); got != 3 {
			t.Errorf("%d looks into the inventory, want 3", got)
		}
	})
}
