package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

var twoOfThree = vault.Terms{Form: custodian.FormShares, Threshold: 2, Custodians: []string{"alice", "bob", "carol"}}

// custody is a custody whose changes may go wrong.
type custody struct {
	vault.Custody
	before func(ctx context.Context) error // instead of the change, if it returns an error
	after  func() error                    // what the caller is told of a change that was made
	read   error
}

func (c *custody) MasterSeal(ctx context.Context, tenant string) (vault.MasterSeal, error) {
	if c.read != nil {
		return vault.MasterSeal{}, c.read
	}
	return c.Custody.MasterSeal(ctx, tenant)
}

func (c *custody) Update(ctx context.Context, fn func(vault.CustodyTx) error) error {
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return err
		}
	}
	if err := c.Custody.Update(ctx, fn); err != nil {
		return err
	}
	if c.after != nil {
		return c.after()
	}
	return nil
}

func destroy(hs []vault.Handout) {
	for _, h := range hs {
		h.Destroy()
	}
}

// checkOpen fails unless the handouts open the tenant's seal, and returns the key.
func checkOpen(t *testing.T, c *vault.Ceremonies, tenant string, hs []vault.Handout) secret.Bytes {
	t.Helper()
	s, err := c.Seal(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	var parts []custodian.Part
	for _, h := range hs {
		parts = append(parts, h.Part)
	}
	key, err := s.Open(parts)
	if err != nil || key.Len() != 32 {
		t.Fatalf("the parts do not open the seal: %v", err)
	}
	return key
}

func TestInitMakesASealThatItsHandoutsOpen(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	hs, err := c.Init(vault.WithRequestID(t.Context(), "req"), operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy(hs)
	for _, two := range [][]vault.Handout{hs[:2], hs[1:], {hs[0], hs[2]}} {
		checkOpen(t, c, "acme", two).Destroy()
	}
	credentials, err := n.store.Credentials(t.Context(), "acme")
	if err != nil || len(credentials) != 3 {
		t.Fatalf("%d credentials, %v", len(credentials), err)
	}
	for i, h := range hs {
		who, err := custodian.Authenticate(credentials, "acme", h.Token, n.clock.now())
		if err != nil || who.Name != twoOfThree.Custodians[i] || h.Custodian != who.Name || who.ShareIndex != h.Part.Index() {
			t.Errorf("handout %d is of %s with part %d, its token of %s: %v", i, h.Custodian, h.Part.Index(), who.Name, err)
		}
	}
	entries := n.entries(t, 0)
	e := only(t, entries)
	if told(e) != "custodian.init allowed sealed" || e.PCI != "10.2.1.5" || e.Tenant != "acme" || e.RequestID != "req" || e.Who.Name != "root" ||
		e.Detail != "shares, 2 of 3, generation 1, custodians [alice bob carol]" {
		t.Errorf("entry says %s by %s: %q", told(e), e.Who.Name, e.Detail)
	}
	if len(entries) != 1 {
		t.Errorf("%d entries", len(entries))
	}
}

func TestSecondMasterKeyIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	hs, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy(hs)
	master := secret.Random(32)
	for name, call := range map[string]func() ([]vault.Handout, error){
		"init":  func() ([]vault.Handout, error) { return c.Init(t.Context(), operator(), "acme", twoOfThree) },
		"adopt": func() ([]vault.Handout, error) { return c.Adopt(t.Context(), operator(), "acme", master, twoOfThree) },
	} {
		from := len(n.entries(t, 0))
		more, err := call()
		if !errors.Is(err, vault.ErrSealed) || err.Error() != "tenant has a master key already" || more != nil {
			t.Errorf("%s: %d handouts, %v", name, len(more), err)
		}
		if e := only(t, n.entries(t, int64(from))); told(e) != "custodian.init failed already_sealed" {
			t.Errorf("%s: entry says %s", name, told(e))
		}
	}
	checkOpen(t, c, "acme", hs[:2]).Destroy()
}

func TestConcurrentInitsMakeOneMasterKey(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	var mu sync.Mutex
	var winners [][]vault.Handout
	together(8, func(int) {
		hs, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			winners = append(winners, hs)
		} else if !errors.Is(err, vault.ErrSealed) || hs != nil {
			t.Errorf("a loser got %d handouts, %v", len(hs), err)
		}
	})
	if len(winners) != 1 {
		t.Fatalf("%d ceremonies think they made the master key", len(winners))
	}
	checkOpen(t, c, "acme", winners[0][1:]).Destroy()
}

func TestAdoptKeepsTheMasterKey(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	master := secret.Random(32)
	hs, err := c.Adopt(t.Context(), operator(), "acme", master, vault.Terms{Form: custodian.FormHalves, Threshold: 2, Custodians: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer destroy(hs)
	if master.Len() != 32 {
		t.Fatal("the caller's key was wiped")
	}
	if !checkOpen(t, c, "acme", hs).Equal(master) {
		t.Error("another key came out")
	}
	_, err = c.Adopt(t.Context(), operator(), "beta", secret.Random(32), twoOfThree)
	checkError(t, "tenant that is not configured", err, vault.ErrUnknownTenant)
	_, err = newCeremonies(t, "acme").Adopt(t.Context(), operator(), "acme", secret.Random(31), twoOfThree)
	if err == nil || err.Error() != "master key has 31 bytes, want 32" {
		t.Errorf("short key: %v", err)
	}
}

func newCeremonies(t *testing.T, tenants ...string) *vault.Ceremonies {
	t.Helper()
	n := newNode(t, tenants...)
	return vault.NewCeremonies(n.gate, n.store)
}

func TestRekeyKeepsTheMasterKeyAndEndsTheOldParts(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	old, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	master := checkOpen(t, c, "acme", old[:2])
	from := len(n.entries(t, 0))
	parts := []custodian.Part{old[2].Part, old[0].Part}
	next, err := c.Rekey(t.Context(), operator(), "acme", parts, vault.Terms{Form: custodian.FormShares, Threshold: 3, Custodians: []string{"dave", "erin", "frank", "alice"}})
	if err != nil {
		t.Fatal(err)
	}
	if e := only(t, n.entries(t, int64(from))); told(e) != "custodian.rekey allowed sealed" || e.Detail != "shares, 3 of 4, generation 2, custodians [dave erin frank alice]" {
		t.Errorf("entry says %s: %q", told(e), e.Detail)
	}
	if !checkOpen(t, c, "acme", next[1:]).Equal(master) {
		t.Error("the master key has changed")
	}
	s, err := c.Seal(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var wrong *custodian.PartError
	if _, err := s.Open(parts); !errors.As(err, &wrong) {
		t.Errorf("the old parts: %v", err)
	}
	credentials, err := n.store.Credentials(t.Context(), "acme")
	if err != nil || len(credentials) != 4 {
		t.Fatalf("%d credentials, %v", len(credentials), err)
	}
	_, err = custodian.Authenticate(credentials, "acme", old[1].Token, n.clock.now())
	checkError(t, "token of one who is not a custodian any more", err, custodian.ErrBadToken)
	if parts[0].Text().Len() == 0 {
		t.Error("the caller's parts were wiped")
	}
}

func TestRekeyNeedsAQuorumOfThisSeal(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	c := vault.NewCeremonies(n.gate, n.store)
	_, err := c.Rekey(t.Context(), operator(), "acme", nil, twoOfThree)
	checkError(t, "tenant without a seal", err, vault.ErrNotFound)
	old, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := c.Init(t.Context(), operator(), "beta", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		parts []custodian.Part
		want  error
		tells string
	}{
		"none":             {nil, custodian.ErrNotEnough, "custodian.rekey failed quorum_missing"},
		"one":              {[]custodian.Part{old[0].Part}, custodian.ErrNotEnough, "custodian.rekey failed quorum_missing"},
		"one twice":        {[]custodian.Part{old[0].Part, old[0].Part}, custodian.ErrPartTaken, "custodian.rekey failed part_taken"},
		"another tenant's": {[]custodian.Part{foreign[0].Part, foreign[1].Part}, custodian.ErrWrongPart, "custodian.rekey failed wrong_part"},
	} {
		from := len(n.entries(t, 0))
		hs, err := c.Rekey(t.Context(), operator(), "acme", tc.parts, twoOfThree)
		checkError(t, name, err, tc.want)
		if hs != nil {
			t.Errorf("%s: handouts were made", name)
		}
		if e := only(t, n.entries(t, int64(from))); told(e) != tc.tells {
			t.Errorf("%s: entry says %s", name, told(e))
		}
	}
	checkOpen(t, c, "acme", old[:2]).Destroy()
}

func TestConcurrentRekeysLeaveOneInForce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	old, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	master := checkOpen(t, c, "acme", old[:2])
	var mu sync.Mutex
	var winners [][]vault.Handout
	together(8, func(int) {
		hs, err := c.Rekey(t.Context(), operator(), "acme", []custodian.Part{old[0].Part, old[1].Part}, twoOfThree)
		mu.Lock()
		defer mu.Unlock()
		var wrong *custodian.PartError
		switch {
		case err == nil:
			winners = append(winners, hs)
		case errors.Is(err, vault.ErrConflict) && strings.HasPrefix(err.Error(), `another ceremony of tenant "acme" was faster: `):
		case errors.As(err, &wrong): // it came after the winner
		default:
			t.Errorf("a loser got %v", err)
		}
	})
	if len(winners) != 1 {
		t.Fatalf("%d rekeys think they are in force", len(winners))
	}
	if !checkOpen(t, c, "acme", winners[0][:2]).Equal(master) {
		t.Error("the master key has changed")
	}
}

func TestTermsThatAreNotAllowedAreRefusedAndInTheLog(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	terms := func(threshold int, names ...string) vault.Terms {
		return vault.Terms{Form: custodian.FormShares, Threshold: threshold, Custodians: names}
	}
	for want, tm := range map[string]vault.Terms{
		`custodian: "alice" is named twice: each custodian has one part`:                  terms(2, "alice", "bob", "alice"),
		`custodian: "Alice" is named twice: each custodian has one part`:                  terms(2, "alice", "bob", "Alice"),
		"threshold 1: at least 2 custodians must agree (PCI DSS 3.7.6)":                   terms(1, "alice", "bob"),
		"threshold 3 is more than the 2 shares":                                           terms(3, "alice", "bob"),
		"threshold 2 is more than the 0 shares":                                           terms(2),
		"halves are 2 of 2, not 2 of 3":                                                   {Form: custodian.FormHalves, Threshold: 2, Custodians: []string{"a", "b", "c"}},
		`unknown form "": want "shares" or "halves"`:                                      {Threshold: 2, Custodians: []string{"a", "b"}},
		"custodian: custodian: name has 0 bytes, want 1 to 64":                            terms(2, "alice", ""),
		"custodian: custodian: name has a character other than visible ASCII, or a slash": terms(2, "alice", "bob/1"),
	} {
		from := len(n.entries(t, 0))
		hs, err := c.Init(t.Context(), operator(), "acme", tm)
		if err == nil || err.Error() != want || hs != nil {
			t.Errorf("got %d handouts, %v, want %q", len(hs), err, want)
			continue
		}
		if e := only(t, n.entries(t, int64(from))); e.Op != "custodian.init" || e.Outcome != "failed" || e.Detail != want {
			t.Errorf("entry says %s, %q", told(e), e.Detail)
		}
	}
	_, err := c.Seal(t.Context(), "acme")
	checkError(t, "seal after refusals", err, vault.ErrNotFound)
}

func TestCeremoniesAreForThoseWhoMay(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, n.store)
	who := operator()
	who.Actions = []string{"custodian:Rekey"}
	_, err := c.Init(t.Context(), who, "acme", twoOfThree)
	checkError(t, "init by an operator without the action", err, vault.ErrDenied)
	_, err = c.Rekey(t.Context(), iam.Principal{}, "acme", nil, twoOfThree)
	checkError(t, "rekey by nobody", err, vault.ErrDenied)
	if got := tellings(n.entries(t, 0)); fmt.Sprint(got) != "[custodian.init denied denied custodian.rekey denied denied]" {
		t.Errorf("entries %q", got)
	}
}

// A refused change must leave no parts behind, in memory either.
func TestHandoutsOfAFailedCeremonyAreDestroyed(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	broken := errors.New("constraint failed")
	c := vault.NewCeremonies(n.gate, &custody{Custody: n.store, before: func(context.Context) error { return broken }})
	hs, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	checkError(t, "init", err, broken)
	if hs != nil {
		t.Error("handouts came with a definite error")
	}
	_, err = c.Seal(t.Context(), "acme")
	checkError(t, "seal", err, vault.ErrNotFound)
	unread := vault.NewCeremonies(n.gate, &custody{Custody: n.store, read: vault.ErrUnavailable})
	_, err = unread.Init(t.Context(), operator(), "acme", twoOfThree)
	checkError(t, "init that cannot see whether there is a seal", err, vault.ErrUnavailable)
	if errors.Is(err, vault.ErrUncertain) {
		t.Error("nothing was tried, so nothing is uncertain")
	}
	_, err = unread.Rekey(t.Context(), operator(), "acme", nil, twoOfThree)
	checkError(t, "rekey", err, vault.ErrUnavailable)
}

// The store does not always know whether a commit has happened. Parts that may be
// in force are the only way to the master key.
func TestHandoutsOfAnUncertainCeremonyAreKept(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	lost := fmt.Errorf("%w: outcome of the commit is unknown", vault.ErrUnavailable)
	store := &custody{Custody: n.store, after: func() error { return lost }}
	c := vault.NewCeremonies(n.gate, store)
	hs, err := c.Init(t.Context(), operator(), "acme", twoOfThree)
	checkError(t, "init", err, vault.ErrUncertain)
	checkError(t, "init", err, vault.ErrUnavailable)
	master := checkOpen(t, c, "acme", hs[:2]) // it did happen
	next, err := c.Rekey(t.Context(), operator(), "acme", []custodian.Part{hs[0].Part, hs[1].Part}, twoOfThree)
	checkError(t, "rekey", err, vault.ErrUncertain)
	if !checkOpen(t, c, "acme", next[:2]).Equal(master) {
		t.Error("the master key is lost")
	}
	store.after, store.before = nil, func(context.Context) error { return lost }
	if next, err = c.Rekey(t.Context(), operator(), "acme", []custodian.Part{next[0].Part, next[1].Part}, twoOfThree); len(next) != 3 {
		t.Errorf("rekey that did not happen: %d handouts, %v", len(next), err)
	}
	checkError(t, "rekey that did not happen", err, vault.ErrUncertain)
}

// Control-C in the middle must not leave a key whose parts nobody has.
func TestCeremonyDoesNotEndWithItsCallerOnceItIsBegun(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	ctx, cancel := context.WithCancel(t.Context())
	c := vault.NewCeremonies(n.gate, &custody{Custody: n.store, before: func(inner context.Context) error {
		cancel()
		return inner.Err()
	}})
	hs, err := c.Init(ctx, operator(), "acme", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	checkOpen(t, c, "acme", hs[:2]).Destroy()
}

func TestDamagedSealIsCorrupt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c := vault.NewCeremonies(n.gate, &custody{Custody: n.store})
	row := vault.MasterSeal{Tenant: "acme", Generation: 1, Blob: []byte("no seal")}
	e := must(audited(n).Seal())
	if err := n.store.Update(t.Context(), func(tx vault.CustodyTx) error {
		tx.Append(e)
		return tx.PutMasterSeal(row)
	}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Seal(t.Context(), "acme")
	checkError(t, "seal", err, vault.ErrCorrupt)
	checkError(t, "seal", err, custodian.ErrCorruptSeal)
	_, err = c.Rekey(t.Context(), operator(), "acme", nil, twoOfThree)
	checkError(t, "rekey", err, vault.ErrCorrupt)
	_, err = c.Init(t.Context(), operator(), "acme", twoOfThree)
	checkError(t, "init over a damaged seal", err, vault.ErrSealed)
}
