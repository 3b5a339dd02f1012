package keymanager

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/vault"
)

// newWholeNode serves every mode.
func newWholeNode(t testing.TB) *kmsNode {
	t.Helper()
	s := newEncryptionService(t, (*httptest.Server).Start)
	h := fakeHSMKey(&fakeHSM{})
	return newKMSNode(t, func(o *Options) {
		o.Wrappers = append(o.Wrappers, HSMWrapper(NewHSMTenants(map[string]HSMKey{"acme": h, "beta": h})),
			ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", ServiceOptions{URL: s.URL}), "beta": newService(t, "acme", ServiceOptions{URL: s.URL})})))
	})
}

var allModes = []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS, vault.ModePKCS11, vault.ModeExternal}

// TestNoRowOfAnyModeOpensInAnothersPlace: rows, contexts, tenants, versions, keys,
// wrappings and modes that are swapped do not open. Of a row's mode only its suite is
// bound: between modes with branch keys what opens is what was sealed.
func TestNoRowOfAnyModeOpensInAnothersPlace(t *testing.T) {
	t.Parallel()
	n := newWholeNode(t)
	rapid.Check(t, func(rt *rapid.T) {
		mode := rapid.SampledFrom(allModes)
		a, b := genSwap(rt), genSwap(rt)
		ma, mb := mode.Draw(rt, "mode a"), mode.Draw(rt, "mode b")
		a.Holder, b.Holder = a.Holder+ma.String(), b.Holder+mb.String()
		sa := mustSeal(t, n.router(ma), a)
		if rapid.Bool().Draw(rt, "rotate") {
			p, holder := vault.PurposeRecord, branchHolder(a)
			if ma == vault.ModeKMS {
				p, holder = vault.PurposeDirect, ""
			}
			if _, err := n.router(ma).Rotate(t.Context(), a.Tenant, holder, p, "operator"); err != nil {
				rt.Fatal(err)
			}
		}
		sb := mustSeal(t, n.router(mb), b)
		r := n.router(mode.Draw(rt, "mode now"))
		mustOpen(t, r, a, sa)
		mustOpen(t, r, b, sb)
		fails := func(what string, c vault.RecordContext, s vault.Sealed) {
			p, err := r.Open(t.Context(), c, s)
			p.Destroy()
			if err == nil || !errors.Is(err, vault.ErrCorrupt) && !errors.Is(err, vault.ErrKeyUnavailable) {
				rt.Fatalf("%s, %s and %s: got %v", what, ma, mb, err)
			}
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			fails("row in another's place", b, sa)
			fails("ciphertext in another's row", b, vault.Sealed{Mode: sb.Mode, Key: sb.Key, KeyVersion: sb.KeyVersion, Blob: sa.Blob})
		}
		if sa.Key != sb.Key || sa.KeyVersion != sb.KeyVersion {
			fails("under another's key", a, vault.Sealed{Mode: sa.Mode, Key: sb.Key, KeyVersion: sb.KeyVersion, Blob: sa.Blob})
		}
		fails("under a later version", a, vault.Sealed{Mode: sa.Mode, Key: sa.Key, KeyVersion: sa.KeyVersion + 100, Blob: sa.Blob})
		other := sa
		other.Mode = mode.Draw(rt, "other mode")
		if (other.Mode == vault.ModeKMS) != (sa.Mode == vault.ModeKMS) {
			fails("in a mode with another suite", a, other)
		} else {
			mustOpen(t, r, a, other)
		}
		ka, kb := n.key(t, vault.KeyVersion{ID: sa.Key, Version: sa.KeyVersion}), n.key(t, vault.KeyVersion{ID: sb.Key, Version: sb.KeyVersion})
		swapped := func(what string, change func(*vault.WrappedKey)) {
			w := ka
			change(&w)
			k, err := n.envelope.unwrap(t.Context(), w)
			if err == nil || !errors.Is(err, vault.ErrCorrupt) && !errors.Is(err, vault.ErrKeyUnavailable) && !errors.Is(err, vault.ErrKeyFixed) {
				rt.Fatalf("key of mode %s %s: got %v", ka.Mode, what, err)
			}
			if k != nil {
				k.release()
			}
		}
		if ka.ID != kb.ID || ka.Version != kb.Version {
			swapped("with another's wrapping", func(w *vault.WrappedKey) { w.Mode, w.Wrapped = kb.Mode, kb.Wrapped })
		}
		if m := mode.Draw(rt, "mode of the key"); m != ka.Mode {
			swapped("in mode "+m.String(), func(w *vault.WrappedKey) { w.Mode = m })
		}
		if ka.Mode != vault.ModeKMS { // a reference has nothing that could be bound: it is only a name
			swapped("of another holder", func(w *vault.WrappedKey) { w.Holder += "x" })
			swapped("of another version", func(w *vault.WrappedKey) { w.Version++ })
		}
	})
}

// TestKeysMoveBetweenAllModes: records and hashes from any mode to any other and back.
func TestKeysMoveBetweenAllModes(t *testing.T) {
	t.Parallel()
	for _, from := range allModes {
		n := newWholeNode(t)
		c := card("acme", "m")
		was := mustSeal(t, n.router(from), c)
		hash, err := n.router(from).MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		now := was
		for _, to := range append(allModes, from) {
			r := n.router(to)
			r.Forget("acme")
			if now, err = r.Reseal(t.Context(), c, now); err != nil || now.Mode != to {
				t.Fatalf("%s to %s: %v, mode %s", from, to, err, now.Mode)
			}
			if from == vault.ModeKMS {
				continue // its hash key is in KMS
			}
			w, err := n.inv.Keyring.Active(t.Context(), "acme", "", vault.PurposeDedupe)
			if err != nil {
				t.Fatal(err)
			}
			if w, err = r.Rewrap(t.Context(), w); err != nil || !r.Current(w) {
				t.Errorf("%s to %s: %v, mode %s", from, to, err, w.Mode)
			}
			if again, err := r.MAC(t.Context(), "acme", vault.PurposeDedupe, []byte("x")); err != nil || again != hash {
				t.Errorf("%s to %s: another hash: %v", from, to, err)
			}
		}
		mustOpen(t, n.router(from), c, now)
		mustOpen(t, n.router(from), c, was)
	}
}
