package keymanager

import (
	"errors"
	"testing"

	"cardea/internal/vault"
)

// What is under way when a tenant is suspended, such as a job, neither opens anything
// more nor brings keys back into memory that were wiped, whatever the mode.
func TestSuspendedTenantsKeysDoNotComeBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []vault.Mode{vault.ModeLocal, vault.ModeKMSEnvelope, vault.ModeKMS} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			n := newKMSNode(t)
			n.setMode(mode)
			r := NewRouter(n.modes, n.envelope, n.direct)
			c, other := card("acme", "m"), card("beta", "m")
			s, theirs := mustSeal(t, r, c), mustSeal(t, r, other)

			n.modes.Suspend(map[string]string{"acme": "test"})
			r.Forget("acme")
			if _, err := r.Open(t.Context(), c, s); !errors.Is(err, vault.ErrSuspended) {
				t.Errorf("open: %v", err)
			}
			if _, err := r.Seal(t.Context(), c, text()); !errors.Is(err, vault.ErrSuspended) {
				t.Errorf("seal: %v", err)
			}
			if _, err := r.Reseal(t.Context(), c, s); !errors.Is(err, vault.ErrSuspended) {
				t.Errorf("reseal: %v", err)
			}
			for k := range n.envelope.keys.keys.Values() {
				if k.tenant == "acme" {
					t.Errorf("key %s is in memory again", k.id)
				}
			}
			mustOpen(t, r, other, theirs)

			n.modes.Suspend(nil)
			mustOpen(t, r, c, s)
		})
	}
}
