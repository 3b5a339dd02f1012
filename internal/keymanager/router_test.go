package keymanager

import (
	"errors"
	"strings"
	"testing"

	"cardea/internal/vault"
)

// router is n's with all tenants in a mode.
func (n *kmsNode) router(mode vault.Mode) *Router {
	n.setMode(mode)
	return NewRouter(n.modes, n.envelope, n.direct)
}

func TestRowsOfAllModesAreReadInAnyMode(t *testing.T) {
	t.Parallel()
	n := newKMSNode(t)
	type row struct {
		at     vault.RecordContext
		sealed vault.Sealed
	}
	modes := []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS}
	var rows []row
	for _, mode := range modes {
		at := card("acme", "merchant of "+mode.String())
		s := mustSeal(t, n.router(mode), at)
		if s.Mode != mode {
			t.Errorf("sealed in mode %s, want %s", s.Mode, mode)
		}
		rows = append(rows, row{at, s})
	}
	for _, mode := range modes {
		r := n.router(mode)
		for _, row := range rows {
			mustOpen(t, r, row.at, row.sealed)
		}
	}
	n.masters.lock(t, "acme")
	r := n.router(vault.ModeKMS)
	if _, err := r.Open(t.Context(), rows[0].at, rows[0].sealed); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("local row of a locked tenant: %v", err)
	}
	mustOpen(t, r, rows[1].at, rows[1].sealed)
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
	mustSeal(t, n.router(vault.ModeLocal), card("acme", "m1"))
	mustSeal(t, n.router(vault.ModeKMSEnvelope), card("acme", "m2"))
	r := n.router(vault.ModeKMS)
	mustSeal(t, r, card("acme", "m3"))
	held := func() int {
		all := 0
		for range n.envelope.keys.keys.Keys() {
			all++
		}
		return all
	}
	if held() != 3 {
		t.Fatalf("%d keys", held())
	}
	n.masters.lock(t, "acme")
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
