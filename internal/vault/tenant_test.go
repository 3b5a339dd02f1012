package vault_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"cardea/internal/vault"
)

func TestTenantsAreReplacedWhole(t *testing.T) {
	t.Parallel()
	ts := vault.NewTenants(vault.Tenant{Name: "b"}, vault.Tenant{Name: "a", LazyHolders: true})
	if got := ts.Names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names %q", got)
	}
	if a, err := ts.Tenant("a"); err != nil || !a.LazyHolders {
		t.Errorf("got %+v, %v", a, err)
	}
	ts.Replace(vault.Tenant{Name: "c"})
	if _, err := ts.Tenant("a"); !errors.Is(err, vault.ErrUnknownTenant) || err.Error() != `tenant "a": unknown tenant` {
		t.Errorf("got %v", err)
	}
	if _, err := vault.NewTenants().Tenant(""); !errors.Is(err, vault.ErrUnknownTenant) {
		t.Errorf("got %v", err)
	}
}

// Requests that run meanwhile see the old tenants or the new ones.
func TestTenantsAreReplacedWhileRequestsRun(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	stop := make(chan struct{})
	var replacing, all sync.WaitGroup
	replacing.Go(func() {
		sets := [][]vault.Tenant{{{Name: "acme", LazyHolders: true}, {Name: "beta"}}, {{Name: "beta"}}}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				n.tenants.Replace(sets[i%2]...)
			}
		}
	})
	known, unknown := 0, 0
	var mu sync.Mutex
	for range 4 {
		all.Go(func() {
			for range 100 {
				c, err := n.RetrieveCard(t.Context(), client("acme"), owner, "r1")
				mu.Lock()
				switch {
				case err == nil:
					known++
					c.Destroy()
				case errors.Is(err, vault.ErrUnknownTenant):
					unknown++
				default:
					t.Errorf("got %v", err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	close(stop)
	replacing.Wait()
	released, denied := 0, 0
	for _, got := range tellings(n.entries(t, 0)) {
		switch got {
		case "card.retrieve allowed released":
			released++
		case "card.retrieve denied unknown_tenant":
			denied++
		}
	}
	if released != known || denied != unknown || known+unknown != 400 {
		t.Errorf("%d answered and %d refused, by the log %d and %d", known, unknown, released, denied)
	}
}
