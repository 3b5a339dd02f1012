package vault_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// refusesShredded wants everything refused that is to be stored for a merchant that
// was shredded at the second minute of the clock, with an entry that says so.
func (n *keyNode) refusesShredded(t *testing.T, o vault.Owner) {
	t.Helper()
	h, err := n.store.Holder(t.Context(), o.Tenant, o.Merchant)
	if err != nil || h.ShreddedAt == 0 || h.Secret != nil {
		t.Fatalf("the merchant is %+v, %v", h, err)
	}
	want := o.Merchant + " was shredded at " + h.ShreddedAt.Time().Format(time.RFC3339) + ", and nothing is stored for it any more: merchant or entity was shredded"
	for name, call := range map[string]func() error{
		"a card": func() error {
			_, err := n.StoreCard(t.Context(), client("acme"), cardOf(o, visa, ""))
			return err
		},
		"a value": func() error {
			return n.StoreData(t.Context(), client("acme"), vault.Datum{Tenant: o.Tenant, Entity: o.Merchant, VaultID: "v"}, text("1"), nil, true)
		},
		"the merchant itself": func() error {
			_, err := n.ProvisionHolder(t.Context(), client("acme"), o.Tenant, o.Merchant)
			return err
		},
	} {
		from := n.store.Len()
		err := call()
		wantRefusal(t, name, err, want)
		checkError(t, name, err, vault.ErrShredded)
		if e := only(t, since(t, n.store, from)); e.Result != "shredded" || e.Outcome != audit.Failed || e.Detail != want {
			t.Errorf("%s: entry is %+v", name, e)
		}
	}
	_, err = n.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: o.Tenant, Holder: o.Merchant, Reason: "again"})
	wantRefusal(t, "once more", err, o.Merchant+" of tenant acme was shredded at "+h.ShreddedAt.Time().Format(time.RFC3339)+", or still is being ('cardea keys jobs')")
}

// storesAgain stores for an entity whose name is free again.
func (n *keyNode) storesAgain(t *testing.T) {
	t.Helper()
	d := vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"}
	if err := n.StoreData(t.Context(), client("acme"), d, text(`{"a":2}`), nil, false); err != nil {
		t.Fatal(err)
	}
	got, err := n.RetrieveData(t.Context(), client("acme"), d)
	defer got.Destroy()
	if err != nil || string(got.Expose()) != `{"a":2}` {
		t.Errorf("what was stored for the entity again: %v", err)
	}
}

func TestShreddingLeavesNothingThatOpens(t *testing.T) {
	t.Parallel()
	for _, holder := range []string{"m1", "e1"} {
		t.Run(holder, func(t *testing.T) {
			t.Parallel()
			n := newKeyNode(t, "a", nil)
			all := n.fill(t, 220)
			n.clock.pass(time.Second)
			from := n.store.Len()
			j, err := n.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: holder, Reason: "contract ended"})
			if err != nil {
				t.Fatal(err)
			}
			n.admin.TakeUp(t.Context())
			if _, err := n.admin.Cancel(t.Context(), operator(), j.ID.String()); err == nil || err.Error() != "job "+j.ID.String()+" has destroyed keys: what is left of it cannot be kept" {
				t.Errorf("cancel: %v", err)
			}
			if holder == "m1" {
				c, err := n.RetrieveCard(t.Context(), client("acme"), all[0].owner, all[0].reference)
				c.Destroy()
				checkError(t, "its card", err, vault.ErrShredded)
			} else {
				_, err := n.RetrieveData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"})
				checkError(t, "its value", err, vault.ErrShredded)
			}
			if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Moved != j.Verified || j.Moved != map[string]int64{"m1": 110, "e1": 1}[holder] {
				t.Errorf("%+v", j)
			}
			proofs := 0
			for _, e := range since(t, n.store, from) {
				if e.Op == "key.shred" && e.Result == "proved" {
					proofs++
					want := map[string]string{"m1": "1 versions of its key destroyed; of 110 records", "e1": "0 versions of its key destroyed; of 1 records"}[holder]
					if !strings.HasPrefix(e.Detail, want+" sealed under them or with its secret none opens; job ") || !strings.HasSuffix(e.Detail, " of root: contract ended") || e.Resource.Merchant != holder {
						t.Errorf("proof is %+v", e)
					}
				}
			}
			if proofs != 1 {
				t.Errorf("%d proofs", proofs)
			}
			if holder == "m1" {
				c, err := n.RetrieveCard(t.Context(), client("acme"), all[0].owner, all[0].reference)
				c.Destroy()
				checkError(t, "its card afterwards", err, vault.ErrNotFound)
				n.refusesShredded(t, all[0].owner)
				checkNumber(t, n.Service, all[1].owner, all[1].reference, all[1].number)
				return
			}
			_, err = n.RetrieveData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"})
			checkError(t, "its value afterwards", err, vault.ErrNotFound)
			n.storesAgain(t)
			checkNumber(t, n.Service, all[0].owner, all[0].reference, all[0].number)
		})
	}
}

// What a job meets of a holder that is being shredded is neither damaged nor moved.
func TestOtherJobsLeaveWhatIsBeingShredded(t *testing.T) {
	t.Parallel()
	for _, holder := range []string{"m1", "e1"} {
		for name, ask := range map[string]func(*vault.KeyAdmin) (vault.Job, error){
			"rotate": func(a *vault.KeyAdmin) (vault.Job, error) {
				return a.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true})
			},
			"verify": func(a *vault.KeyAdmin) (vault.Job, error) {
				return a.Verify(t.Context(), operator(), vault.JobRequest{Tenant: "acme"})
			},
		} {
			t.Run(holder+" "+name, func(t *testing.T) {
				t.Parallel()
				n := newKeyNode(t, "a", nil)
				n.fill(t, 4)
				n.clock.pass(time.Second)
				s, err := n.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: holder, Reason: "r"})
				if err != nil {
					t.Fatal(err)
				}
				n.admin.TakeUp(t.Context())
				if _, err := n.admin.Pause(t.Context(), operator(), s.ID.String()); err != nil {
					t.Fatal(err)
				}
				j, err := ask(n.admin)
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					n.admin.TakeUp(t.Context())
					n.clock.pass(2 * time.Minute)
				}
				if j, err = n.admin.Job(t.Context(), operator(), j.ID.String()); err != nil || j.State != vault.JobDone || j.Bad != 0 || j.Verified == 0 {
					t.Errorf("%+v, %v", j, err)
				}
				if _, err := n.admin.Continue(t.Context(), operator(), s.ID.String()); err != nil {
					t.Fatal(err)
				}
				if s = n.finish(t, s.ID); s.State != vault.JobDone || s.Moved == 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestShreddingWhereKMSHasTheKeySaysSo(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.setMode(vault.ModeKMS, "k")
	all := n.fill(t, 4)
	from := n.store.Len()
	j, err := n.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1", Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Moved != 2 || j.Verified != 0 {
		t.Errorf("%+v", j)
	}
	said := slices.ContainsFunc(since(t, n.store, from), func(e audit.Entry) bool {
		return e.Op == "key.shred" && e.Result == "not_shredded" && strings.Contains(e.Detail, "2 records were encrypted by KMS under a key of the whole tenant, which is not destroyed: they are removed, but copies of the database from before open with that key")
	})
	if !said {
		t.Error("the log does not say that nothing was shredded")
	}
	checkNumber(t, n.Service, all[1].owner, all[1].reference, all[1].number)
	n.refusesShredded(t, all[0].owner)
}

// A node that has a merchant in memory, and has not heard of its shredding yet,
// stores nothing for it.
func TestNodeThatHasNotHeardOfAShreddingStoresNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []vault.Mode{vault.ModeLocal, vault.ModeKMS} {
		for _, holder := range []string{"m1", "e1"} {
			a := newKeyNode(t, "a", nil)
			b := newKeyNode(t, "b", a)
			a.setMode(mode, "k")
			b.setMode(mode, "k")
			b.fill(t, 4)
			store := func() error {
				if holder == "e1" {
					return b.StoreData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v2"}, text("1"), nil, true)
				}
				_, err := b.StoreCard(t.Context(), client("acme"), cardOf(vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "new"}, amex, ""))
				return err
			}
			j, err := a.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: holder, Reason: "r"})
			if err != nil {
				t.Fatal(err)
			}
			a.admin.TakeUp(t.Context())
			if err := store(); !errors.Is(err, vault.ErrShredded) && !errors.Is(err, vault.ErrKeyUnavailable) {
				t.Errorf("mode %s: stored for %s: %v", mode, holder, err)
			}
			if j = a.finish(t, j.ID); j.State != vault.JobDone {
				t.Fatalf("%+v", j)
			}
			err = store() // it has not heard yet
			if !errors.Is(err, vault.ErrShredded) && !errors.Is(err, vault.ErrKeyUnavailable) {
				t.Errorf("mode %s: stored for %s afterwards: %v", mode, holder, err)
			}
			b.admin.Follow(t.Context())
			if err := store(); (err == nil) != (holder == "e1") {
				t.Errorf("mode %s: %s, once it has heard: %v", mode, holder, err)
			}
		}
	}
}

// lateStore answers with a holder only after something else has happened.
type lateStore struct {
	*vaulttest.Store
	meanwhile func()
}

func (s *lateStore) Holder(ctx context.Context, tenant, name string) (vault.Holder, error) {
	h, err := s.Store.Holder(ctx, tenant, name)
	s.meanwhile()
	return h, err
}

// What was read before a holder was shredded does not stay in memory afterwards.
func TestHolderReadBeforeItWasShreddedIsNotKept(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 1)
	late := &lateStore{Store: n.store}
	s, err := vault.NewService(vault.Options{Gate: n.Gate, Store: late, Keys: n.keys, Custodians: n.guards})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	admin := vault.NewKeyAdmin(vault.KeyAdminOptions{Gate: n.Gate, Service: s, Store: n.store, Keys: n.keys, Custodians: n.guards})
	if err := admin.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	late.meanwhile = sync.OnceFunc(func() {
		if _, err := n.admin.Shred(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "e1", Reason: "r"}); err != nil {
			t.Error(err)
		}
		n.admin.TakeUp(t.Context())
		admin.Follow(t.Context())
	})
	store := func() error {
		return s.StoreData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v2"}, text("1"), nil, true)
	}
	wantRefusal(t, "with the secret of before", store(), "holder 2: merchant or entity was shredded")
	wantRefusal(t, "afterwards", store(), "e1 was shredded at 2026-03-01T12:00:00Z, and nothing is stored for it any more: merchant or entity was shredded")
}

// Whoever asks for a job that there is not is in the log, too.
func TestUnknownJobIsAskedForInTheLog(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	for name, c := range map[string]struct {
		call func(context.Context, string) (vault.Job, error)
		op   string
	}{
		"job":      {func(ctx context.Context, id string) (vault.Job, error) { return n.admin.Job(ctx, operator(), id) }, "key.list"},
		"pause":    {func(ctx context.Context, id string) (vault.Job, error) { return n.admin.Pause(ctx, operator(), id) }, "key.job"},
		"continue": {func(ctx context.Context, id string) (vault.Job, error) { return n.admin.Continue(ctx, operator(), id) }, "key.job"},
		"cancel":   {func(ctx context.Context, id string) (vault.Job, error) { return n.admin.Cancel(ctx, operator(), id) }, "key.job"},
	} {
		from := n.store.Len()
		_, err := c.call(t.Context(), "x")
		wantRefusal(t, name, err, "job x: not found")
		checkError(t, name, err, vault.ErrNotFound)
		if e := only(t, since(t, n.store, from)); told(e) != c.op+" failed not_found" || e.Detail != "job x: not found" || e.Who.Name != "root" {
			t.Errorf("%s: entry is %+v", name, e)
		}
	}
	_, err := n.admin.Job(t.Context(), client("acme"), strings.Repeat("x", 1000))
	checkError(t, "a client", err, vault.ErrDenied)
	_, err = n.admin.Job(t.Context(), operator(), strings.Repeat("ö", 1000))
	wantRefusal(t, "long", err, "job "+strings.Repeat("ö", 32)+": not found")
}
