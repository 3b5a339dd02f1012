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

	"pgregory.net/rapid"

	"cardea/internal/bubble"
	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func TestNColdCallersMakeOneCallToKMS(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	c := card("acme", "m")
	for _, err := range together(100, func(int) error { _, err := n.envelope.Seal(t.Context(), c, text()); return err }) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := n.kms.count(); got != 1 {
		t.Fatalf("%d calls of KMS for a new key, want 1", got)
	}
	s := mustSeal(t, n.envelope, c)
	n.restart(t)
	for _, err := range together(100, func(int) error {
		p, err := n.envelope.Open(t.Context(), c, s)
		p.Destroy()
		return err
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := n.kms.count(); got != 2 {
		t.Errorf("%d calls of KMS after a restart, want one more", got)
	}
}

func TestSteadyStateNeedsNoKMS(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	contexts := []vault.RecordContext{card("acme", "m1"), card("acme", "m2"), value("acme", "e1"), card("beta", "m1")}
	op := func(i int) {
		c := contexts[i%len(contexts)]
		mustOpen(t, n.envelope, c, mustSeal(t, n.envelope, c))
		if _, err := n.envelope.MAC(t.Context(), c.Tenant, vault.PurposeDedupe, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range contexts {
		op(i)
	}
	warm := n.kms.count()
	for i := range 10_000 / 3 {
		op(i)
	}
	if got := n.kms.count() - warm; got > 1 {
		t.Errorf("%d calls of KMS in 10,000 operations", got)
	}
	if want := 4 + 2; warm != want { // made for each holder, and the two tenants' dedupe keys
		t.Errorf("%d calls of KMS while cold, want %d", warm, want)
	}
}

func genSwap(t *rapid.T) vault.RecordContext {
	name := rapid.SampledFrom([]string{"a", "ab", "b"})
	c := vault.RecordContext{
		Tenant: rapid.SampledFrom([]string{"acme", "beta"}).Draw(t, "tenant"), Holder: name.Draw(t, "holder"), Space: vault.SpaceV1,
		Customer: name.Draw(t, "customer"), Reference: name.Draw(t, "reference"),
		Kind:      rapid.SampledFrom([]vault.Kind{vault.KindCard, vault.KindData}).Draw(t, "kind"),
		CreatedAt: vault.Micros(rapid.IntRange(0, 1).Draw(t, "created")), ExpiresAt: vault.Micros(rapid.IntRange(0, 1).Draw(t, "expires")),
	}
	if rapid.Bool().Draw(t, "v2") {
		c.Space, c.Kind, c.Customer = vault.SpaceV2, vault.KindJSON, ""
		c.HolderSecret = []byte(strings.Repeat(rapid.SampledFrom([]string{"s", "t"}).Draw(t, "secret"), 32))
	}
	return c
}

// TestNoRowOpensInAnothersPlace: any two rows, contexts, tenants and versions
// swapped fail to decrypt, though all are under one KMS key.
func TestNoRowOpensInAnothersPlace(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	modes := map[string]sealer{"envelope": n.envelope, "direct": n.direct}
	for name, m := range modes {
		rapid.Check(t, func(rt *rapid.T) {
			a, b := genSwap(rt), genSwap(rt)
			sealed := mustSeal(t, m, a)
			mustOpen(t, m, a, sealed)
			other := mustSeal(t, m, b)
			same := fmt.Sprint(a) == fmt.Sprint(b)
			open := func(what string, c vault.RecordContext, s vault.Sealed) {
				p, err := m.Open(t.Context(), c, s)
				p.Destroy()
				if same != (err == nil) || err != nil && !errors.Is(err, vault.ErrCorrupt) {
					rt.Fatalf("%s: %s, the same %v: got %v", name, what, same, err)
				}
			}
			open("row in another's place", b, sealed)
			open("ciphertext in another's row", b, vault.Sealed{Mode: other.Mode, Key: other.Key, KeyVersion: other.KeyVersion, Blob: sealed.Blob})
			if same {
				return
			}
			open("key of another row", a, vault.Sealed{Mode: sealed.Mode, Key: other.Key, KeyVersion: other.KeyVersion + 1, Blob: sealed.Blob})
		})
		c := card("acme", "m")
		s := mustSeal(t, m, c)
		for i := range s.Blob {
			bad := slices.Clone(s.Blob)
			bad[i] ^= 1
			s := s
			s.Blob = bad
			p, err := m.Open(t.Context(), c, s)
			p.Destroy()
			if !errors.Is(err, vault.ErrCorrupt) && !errors.Is(err, vault.ErrKeyUnavailable) {
				t.Fatalf("%s: byte %d changed: got %v", name, i, err)
			}
		}
	}
}

// TestNoKeyUnwrapsInAnothersPlace: wrapped keys of one KMS key do not stand in for
// each other.
func TestNoKeyUnwrapsInAnothersPlace(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	w := &kmsWrapper{kms: n.kms, tenants: n.tenants, refused: refusals{now: time.Now}}
	key := vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "acme", Holder: "m", Purpose: vault.PurposeRecord, Version: 1}
	var err error
	var inClear secret.Bytes
	if key.Wrapped, inClear, err = w.Generate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	got, err := w.Unwrap(t.Context(), key)
	if err != nil || !got.Equal(inClear) {
		t.Fatalf("unwrap: %v, or another key", err)
	}
	for name, change := range map[string]func(*vault.WrappedKey){
		"tenant":  func(k *vault.WrappedKey) { k.Tenant = "beta" },
		"holder":  func(k *vault.WrappedKey) { k.Holder = "n" },
		"purpose": func(k *vault.WrappedKey) { k.Purpose = vault.PurposeDedupe },
		"id":      func(k *vault.WrappedKey) { k.ID = vault.NewKeyID() },
		"version": func(k *vault.WrappedKey) { k.Version = 2 },
		"id, its bytes changed as well": func(k *vault.WrappedKey) {
			k.Wrapped = slices.Clone(k.Wrapped)
			k.ID[3] ^= 1 // not set: it is a time's, and may be any
			k.Wrapped[2+3] ^= 1
		},
		"version, its bytes changed as well": func(k *vault.WrappedKey) {
			k.Wrapped = slices.Clone(k.Wrapped)
			k.Version, k.Wrapped[21] = 2, 2
		},
	} {
		other := key
		change(&other)
		if _, err := w.Unwrap(t.Context(), other); !errors.Is(err, vault.ErrCorrupt) {
			t.Errorf("other %s: got %v, want ErrCorrupt", name, err)
		}
	}
}

// TestContextsTellNobodyApart: what CloudTrail shows names the tenant and keys, not
// people.
func TestContextsTellNobodyApart(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	for _, m := range []sealer{n.envelope, n.direct} {
		c := value("acme", "person@example.com")
		c.Reference = "4111111111111111"
		mustOpen(t, m, c, mustSeal(t, m, c))
		c = card("acme", "merchant-of-one-person")
		c.Customer = "person@example.com"
		mustOpen(t, m, c, mustSeal(t, m, c))
	}
	purposes := map[string]bool{}
	for _, c := range n.kms.contexts {
		purposes[c["purpose"]] = true
		for _, v := range []string{"person", "41111111", "merchant-of"} { // four digits alone are often in a digest
			if strings.Contains(fmt.Sprint(c), v) {
				t.Errorf("context shows %s: %v", v, c)
			}
		}
		if c["tenant"] != "acme" || len(c["holder"]) != 64 {
			t.Errorf("context %v", c)
		}
	}
	if got := slices.Sorted(maps.Keys(purposes)); !slices.Equal(got, []string{"record", "record-key"}) {
		t.Errorf("purposes %v", got)
	}
}

func TestErrorsOfKMSAreToldApart(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]struct {
		is     error
		result string
	}{
		kmsclient.ErrThrottled: {vault.ErrKeyThrottled, "key_throttled"}, kmsclient.ErrDenied: {vault.ErrKeyUnavailable, "key_denied"},
		kmsclient.ErrDisabled: {vault.ErrKeyUnavailable, "key_disabled"}, kmsclient.ErrNotFound: {vault.ErrKeyUnavailable, "key_not_found"},
		kmsclient.ErrInvalid: {vault.ErrKeyUnavailable, "key_refused"}, kmsclient.ErrUnreachable: {vault.ErrKeyUnavailable, "key_unreachable"},
		context.DeadlineExceeded: {vault.ErrKeyUnavailable, "key_unreachable"}, kmsclient.ErrWrongContext: {vault.ErrCorrupt, ""},
		context.Canceled: {context.Canceled, ""},
	} {
		n := newKMSNode(t)
		c := card("acme", "m")
		enveloped, direct := mustSeal(t, n.envelope, c), mustSeal(t, n.direct, c)
		n.restart(t)
		n.kms.failWith(fmt.Errorf("wrapped: %w", err))
		for name, call := range map[string]func() error{
			"envelope open": func() error { _, err := n.envelope.Open(t.Context(), c, enveloped); return err },
			"envelope seal": func() error { _, err := n.envelope.Seal(t.Context(), card("acme", "new"), text()); return err },
			"direct open":   func() error { _, err := n.direct.Open(t.Context(), c, direct); return err },
			"direct seal":   func() error { _, err := n.direct.Seal(t.Context(), c, text()); return err },
			"direct MAC": func() error {
				_, err := n.router(vault.ModeKMS).MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
				return err
			},
		} {
			got := call()
			if !errors.Is(got, want.is) || !errors.Is(got, err) {
				t.Errorf("%v, %s: got %v, want %v", err, name, got, want.is)
			}
			k, ok := errors.AsType[*vault.KeyError](got)
			if ok != (want.result != "") || ok && k.AuditResult() != want.result {
				t.Errorf("%v, %s: result of %v is not %q", err, name, got, want.result)
			}
		}
	}
}

func TestWhatIsRefusedIsNotAskedForAgainWithinASecond(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := newKMSNode(t)
		c := card("acme", "m")
		s := mustSeal(t, n.envelope, c)
		n.restart(t)
		defer n.envelope.Close()
		open := func() error {
			p, err := n.envelope.Open(t.Context(), c, s)
			p.Destroy()
			return err
		}
		from := n.kms.count()
		n.kms.failWith(kmsclient.ErrDenied)
		for range 50 {
			if err := open(); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "denied") {
				t.Fatalf("got %v", err)
			}
		}
		if got := n.kms.count() - from; got != 1 {
			t.Errorf("%d calls of KMS for 50 requests that are denied, want 1", got)
		}
		n.kms.failWith(nil)
		time.Sleep(refusalTime)
		if err := open(); err != nil {
			t.Errorf("allowed again, after a second: %v", err)
		}
		n.restart(t)
		defer n.envelope.Close()
		from = n.kms.count()
		n.kms.failWith(kmsclient.ErrThrottled)
		for range 3 {
			if err := open(); !errors.Is(err, vault.ErrKeyThrottled) {
				t.Fatalf("got %v", err)
			}
		}
		if got := n.kms.count() - from; got != 3 {
			t.Errorf("%d calls, want 3: what is throttled is the client's to hold back", got)
		}
	})
}

func withGrace(o *Options) { o.TTL, o.Grace = time.Minute, 15*time.Minute }

// TestBrownOut: while KMS is out of reach keys last for the grace and no longer,
// and what was revoked does not come back.
func TestBrownOut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := newKMSNode(t, withGrace, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer n.envelope.Close()
		c := card("acme", "m")
		s := mustSeal(t, n.envelope, c)
		open := func() error {
			p, err := n.envelope.Open(t.Context(), c, s)
			p.Destroy()
			synctest.Wait()
			return err
		}
		check := func(when string, want error) {
			t.Helper()
			if err := open(); !errors.Is(err, want) {
				t.Fatalf("%s: got %v, want %v", when, err, want)
			}
		}
		check("at first", nil)
		n.kms.failWith(kmsclient.ErrUnreachable)
		time.Sleep(2 * time.Minute)
		from := n.kms.count()
		for range 20 {
			check("in the brown-out", nil)
		}
		if got := n.kms.count() - from; got != 1 {
			t.Errorf("%d calls of a KMS that is down for 20 requests, want 1", got)
		}
		if !strings.Contains(log.String(), "key is used past its time") {
			t.Errorf("not logged: %s", log.String())
		}
		time.Sleep(13 * time.Minute)
		check("15 minutes after it was unwrapped", nil)
		time.Sleep(time.Minute + 2*time.Second)
		check("after time and grace", vault.ErrKeyUnavailable)
		n.kms.failWith(nil)
		check("when KMS is back", nil)

		n.kms.failWith(kmsclient.ErrDenied)
		check("revoked, within the time", nil)
		time.Sleep(time.Minute)
		check("revoked", vault.ErrKeyUnavailable)
		n.kms.failWith(kmsclient.ErrUnreachable)
		time.Sleep(2 * time.Second)
		check("revoked, then out of reach", vault.ErrKeyUnavailable)
	})
}

func TestGraceEndsWithTheTenant(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := newKMSNode(t, withGrace)
		defer n.envelope.Close()
		c := card("acme", "m")
		mustSeal(t, n.envelope, c)
		keys := keysInClear(n.envelope)
		time.Sleep(2 * time.Minute)
		n.tenants.Replace(nil)
		n.envelope.Forget("acme")
		if len(keys) != 1 || keys[0].key.Len() != 0 {
			t.Errorf("%d keys, or one is still there", len(keys))
		}
		_, err := n.envelope.Seal(t.Context(), c, text())
		if err == nil || err.Error() != `tenant "acme" has no kms.key_id: key is unavailable` {
			t.Errorf("got %v", err)
		}
	})
}

func TestNoGraceUnlessAsked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := newKMSNode(t)
		defer n.envelope.Close()
		c := card("acme", "m")
		mustSeal(t, n.envelope, c)
		n.kms.failWith(kmsclient.ErrUnreachable)
		time.Sleep(5*time.Minute + 2*time.Second)
		if _, err := n.envelope.Seal(t.Context(), c, text()); !errors.Is(err, vault.ErrKeyUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOnlyConfiguredKeysOpen: a row that names somebody else's KMS key is refused
// before KMS is asked, though KMS would decrypt it.
func TestOnlyConfiguredKeysOpen(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	n.setKeys("acme", func(k *KMSKeys) { k.Key.ID = testKeyThen })
	c := card("acme", "m")
	enveloped, direct := mustSeal(t, n.envelope, c), mustSeal(t, n.direct, c)
	n.restart(t)
	n.setKeys("acme")
	from := n.kms.count()
	for name, call := range map[string]func() error{
		"envelope": func() error { _, err := n.envelope.Open(t.Context(), c, enveloped); return err },
		"direct":   func() error { _, err := n.direct.Open(t.Context(), c, direct); return err },
	} {
		err := call()
		if !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "names KMS key "+testKeyThen+", which is neither the tenant's kms.key_id nor among its kms.previous_key_ids") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := n.kms.count(); got != from {
		t.Errorf("KMS was asked %d times", got-from)
	}
	n.setKeys("acme", func(k *KMSKeys) { k.Previous = []string{testKeyThen} })
	mustOpen(t, n.envelope, c, enveloped)
	mustOpen(t, n.direct, c, direct)
	for _, k := range n.kms.keys[from:] {
		if k.ID != testKeyThen {
			t.Errorf("KMS was told key %s", k.ID)
		}
	}
}

func TestKeysAreNamedByIDOrARNAndReplicasOpenAtHome(t *testing.T) {
	t.Parallel()
	const mrk = "key/mrk-1234abcd12ab34cd56ef1234567890ab"
	home, replica := "arn:aws:kms:eu-central-1:111122223333:"+mrk, "arn:aws:kms:eu-west-1:111122223333:"+mrk
	key := kmsclient.Key{ID: home, Region: "eu-central-1", Replicas: []kmsclient.Replica{{Region: "eu-west-1"}}}
	for _, tc := range []struct {
		keys         KMSKeys
		stored, want string
	}{
		{KMSKeys{Key: key}, home, home},
		{KMSKeys{Key: key}, replica, home},
		{keysOf(), testKey, testKey},
		{keysOf(func(k *KMSKeys) { k.Key.ID = id(testKey) }), testKey, id(testKey)},
		{keysOf(func(k *KMSKeys) { k.Key.ID = id(testKey) }), id(testKey), id(testKey)},
		{keysOf(), strings.Replace(testKey, "1111", "9999", 1), ""},
		{keysOf(), "", ""},
		{keysOf(func(k *KMSKeys) { k.Previous = []string{home} }), home, home},
		{keysOf(func(k *KMSKeys) { k.Previous = []string{home} }), replica, ""},
	} {
		got, err := tc.keys.opens(tc.stored)
		if got.ID != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s under %s: got %q, %v", tc.stored, tc.keys.Key.ID, got.ID, err)
		}
	}
	previous := KMSKeys{Key: key, Previous: []string{strings.Replace(testKey, testRegion, "us-east-1", 1)}}
	if got, err := previous.opens(previous.Previous[0]); err != nil || got.Region != "us-east-1" || got.Replicas != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnswersOfKMSAreNotTakenOnTrust(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	n.kms.answer = testKeyThen
	for name, m := range map[string]sealer{"envelope": n.envelope, "direct": n.direct} {
		if _, err := m.Seal(t.Context(), card("acme", "m"), text()); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), testKeyThen) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := n.inv.created.Load(); got != 1 { // the reference of direct mode
		t.Errorf("%d keys went into the inventory", got)
	}
}

func TestGraceHasAHardCap(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	_, err := NewEnvelope(Options{Wrappers: KMSWrappers(n.kms, n.tenants, time.Now), Inventory: n.inv, Now: time.Now, Grace: time.Hour + 1})
	if err == nil || err.Error() != "key cache grace 1h0m0.000000001s: must be at most 1h" {
		t.Errorf("got %v", err)
	}
}

func TestWrappedKeysAreStoredAsSpecified(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	s := mustSeal(t, n.envelope, card("acme", "m"))
	k, err := n.inv.ByID(t.Context(), s.Key, s.KeyVersion)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ciphertext.ParseKMSWrapped(k.Wrapped)
	if err != nil || k.Mode != vault.ModeKMSEnvelope || w.Mode != ciphertext.ModeKMS || w.KMSKey != testKey {
		t.Errorf("%v, mode %s, %+v", err, k.Mode, w)
	}
}
