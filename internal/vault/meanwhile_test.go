package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// In mode aws_kms the hash and the ciphertext of a card are a call to KMS each: both
// are under way at once.
func TestCardIsHashedAndSealedAtOnceWhereKMSDoesBoth(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.setMode(vault.ModeKMS, "k")
	all := n.fill(t, 2)
	begun := map[string]chan struct{}{"Seal": make(chan struct{}), "MACs": make(chan struct{})}
	n.keys.FailWith(func(op string) error {
		mine, is := begun[op]
		if !is {
			return nil
		}
		close(mine)
		other := begun[map[string]string{"Seal": "MACs", "MACs": "Seal"}[op]]
		select {
		case <-other:
			return nil
		case <-time.After(30 * time.Second):
			return fmt.Errorf("%s waits for the other call", op)
		}
	})
	o := vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "new"}
	res := mustStore(t, n.Service, cardOf(o, amex, ""))
	n.keys.FailWith(nil)
	checkNumber(t, n.Service, o, res.Reference, amex)
	checkNumber(t, n.Service, all[0].owner, all[0].reference, all[0].number)

	for _, op := range []string{"Seal", "MACs"} {
		for _, panics := range []bool{false, true} {
			if panics && op == "MACs" {
				continue // on the request's own goroutine, whose server answers
			}
			n.keys.FailWith(func(called string) error {
				switch {
				case called != op:
					return nil
				case panics:
					panic("in the key manager")
				}
				return fmt.Errorf("%s: %w", op, vault.ErrKeyUnavailable)
			})
			_, err := n.StoreCard(t.Context(), client("acme"), cardOf(vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "other"}, amex, ""))
			if err == nil || errors.Is(err, vault.ErrKeyUnavailable) == panics {
				t.Errorf("%s, panic %v: %v", op, panics, err)
			}
			n.keys.FailWith(nil)
		}
	}
}

// aheadStore does something before each batch is committed.
type aheadStore struct {
	*vaulttest.Store
	before func()
}

func (s *aheadStore) ReplaceSealed(ctx context.Context, changes []vault.ResealedRecord, e audit.Sealed) ([]bool, error) {
	s.before()
	return s.Store.ReplaceSealed(ctx, changes, e)
}

// A job whose rate is named seals the next batch while one is committed.
func TestJobWhoseRateIsNamedSealsAhead(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 1)
	datum := func(i int) vault.Datum {
		return vault.Datum{Tenant: "acme", Entity: "e1", VaultID: fmt.Sprint("v", i)}
	}
	put := func(i int, value string) {
		if err := n.StoreData(t.Context(), client("acme"), datum(i), text(value), nil, true); err != nil {
			t.Error(err)
		}
	}
	const rows = 700
	for i := range rows {
		put(i, "1")
	}
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Rate: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	// The first commit begins when two batches are sealed.
	sealed := make(chan struct{}, 2*rows)
	n.keys.FailWith(func(op string) error {
		if op == "Reseal" {
			sealed <- struct{}{}
		}
		return nil
	})
	ahead := &aheadStore{Store: n.store, before: sync.OnceFunc(func() {
		for range 500 {
			select {
			case <-sealed:
			case <-time.After(30 * time.Second):
				t.Error("the next batch is not sealed meanwhile")
				return
			}
		}
	})}
	admin := vault.NewKeyAdmin(vault.KeyAdminOptions{Gate: n.Gate, Service: n.Service, Store: ahead, Keys: n.keys, Custodians: n.guards})
	admin.TakeUp(t.Context())
	n.keys.FailWith(nil)
	if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Moved < rows {
		t.Fatalf("%+v", j)
	}
	n.allIn(t, vault.ModeLocal, rows+1)
	for i := range rows {
		got, err := n.RetrieveData(t.Context(), client("acme"), datum(i))
		if err != nil || string(got.Expose()) != "1" {
			t.Errorf("row %d: %v", i, err)
		}
		got.Destroy()
	}
}
