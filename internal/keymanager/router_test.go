package keymanager

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/vault"
)

// router joins n's key managers for acme in a mode.
func (n *kmsNode) router(mode vault.Mode, more ...map[vault.Mode]vault.KeyManager) *Router {
	modes := map[vault.Mode]vault.KeyManager{vault.ModeKMSEnvelope: n.envelope, vault.ModeKMS: n.direct}
	for _, m := range more {
		for mode, m := range m {
			modes[mode] = m
		}
	}
	return NewRouter(vault.NewTenants(vault.Tenant{Name: "acme", Mode: mode}), modes)
}

func TestRowsOfAllModesAreReadInAnyMode(t *testing.T) {
	t.Parallel()
	n, m := newKMSNode(t), newMasters(t, "acme")
	local := map[vault.Mode]vault.KeyManager{vault.ModeLocal: newLocal(t, m, n.inv)}
	type row struct {
		at     vault.RecordContext
		sealed vault.Sealed
	}
	modes := []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS}
	var rows []row
	for _, mode := range modes {
		at := card("acme", "merchant of "+mode.String())
		s := mustSeal(t, n.router(mode, local), at)
		if s.Mode != mode {
			t.Errorf("sealed in mode %s, want %s", s.Mode, mode)
		}
		rows = append(rows, row{at, s})
	}
	for _, mode := range modes {
		r := n.router(mode, local)
		for _, row := range rows {
			mustOpen(t, r, row.at, row.sealed)
		}
	}
	m.lock(t, "acme")
	r := n.router(vault.ModeKMS, local)
	if _, err := r.Open(t.Context(), rows[0].at, rows[0].sealed); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("local row of a locked tenant: %v", err)
	}
	mustOpen(t, r, rows[1].at, rows[1].sealed)
}

// TestKeysOfTheFormerModeAreNotUsed: a hash key of the former mode would find no
// card again.
func TestKeysOfTheFormerModeAreNotUsed(t *testing.T) {
	t.Parallel()
	modes := []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS}
	for _, before := range modes {
		n := newKMSNode(t)
		local := map[vault.Mode]vault.KeyManager{vault.ModeLocal: newLocal(t, newMasters(t, "acme"), n.inv)}
		if _, err := n.router(before, local).MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, after := range modes {
			_, err := n.router(after, local).MAC(t.Context(), "acme", vault.PurposeFingerprint, []byte("x"))
			if before == after {
				if err != nil {
					t.Errorf("%s: %v", after, err)
				}
				continue
			}
			k, ok := errors.AsType[*vault.KeyError](err)
			if !ok || k.Result != "key_of_other_mode" || !errors.Is(err, vault.ErrKeyUnavailable) ||
				!strings.Contains(err.Error(), "is in mode "+before.String()+", not "+after.String()+": keys cannot be moved between modes yet, set the tenant's mode back") {
				t.Errorf("%s after %s: got %v", after, before, err)
			}
		}
	}
	n := newKMSNode(t)
	local := map[vault.Mode]vault.KeyManager{vault.ModeLocal: newLocal(t, newMasters(t, "acme"), n.inv)}
	mustSeal(t, n.router(vault.ModeLocal, local), card("acme", "m"))
	if _, err := n.router(vault.ModeKMSEnvelope, local).Seal(t.Context(), card("acme", "m"), text()); err == nil || !strings.Contains(err.Error(), "set the tenant's mode back") {
		t.Errorf("branch key: got %v", err)
	}
}

func TestRouterRefusesWhatItDoesNotServe(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	r := n.router(vault.ModePKCS11)
	_, err := r.Seal(t.Context(), card("acme", "m"), text())
	if !errors.Is(err, vault.ErrKeyUnavailable) || err.Error() != `tenant "acme" is in mode pkcs11, which is not served here: key is unavailable` {
		t.Errorf("got %v", err)
	}
	if _, err := r.MAC(t.Context(), "nobody", vault.PurposeDedupe); !errors.Is(err, vault.ErrUnknownTenant) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Open(t.Context(), card("acme", "m"), vault.Sealed{Mode: 9}); !errors.Is(err, vault.ErrCorrupt) || !strings.Contains(err.Error(), "mode 9") {
		t.Errorf("got %v", err)
	}
}

func TestRouterForgetsAndClosesAll(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	m := newMasters(t, "acme")
	l, err := NewLocal(LocalOptions{Masters: m, Inventory: n.inv, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	r := n.router(vault.ModeLocal, map[vault.Mode]vault.KeyManager{vault.ModeLocal: l})
	mustSeal(t, r, card("acme", "m1"))
	mustSeal(t, n.envelope, card("acme", "m2"))
	mustSeal(t, n.direct, card("acme", "m3"))
	held := func() int { return len(keysInClear(l)) + len(keysInClear(n.envelope)) + len(n.direct.refs) }
	if held() != 3 {
		t.Fatalf("%d keys", held())
	}
	m.lock(t, "acme")
	r.Sweep()
	if held() != 2 {
		t.Errorf("%d keys after a lock", held())
	}
	r.Forget("acme")
	if held() != 0 {
		t.Errorf("%d keys after Forget", held())
	}
	r.Close()
	if _, err := r.Open(t.Context(), card("acme", "m2"), vault.Sealed{Mode: vault.ModeKMSEnvelope}); !errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("closed: %v", err)
	}
}
