package vault_test

import (
	"errors"
	"log/slog"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// audited is an entry to write by hand.
func audited(n *node) audit.Entry {
	return audit.Entry{
		ID: "01890000-0000-7000-8000-000000000000", Time: n.clock.now(), Node: "test",
		Who: audit.Actor{Type: "system", Auth: "internal"}, Op: "x", Outcome: audit.Allowed, Result: "x",
	}
}

// sealed is a vault with a real keeper whose tenant is sealed among custodians.
func sealed(t *testing.T) (*vaulttest.Vault, []custodian.Part) {
	t.Helper()
	seal, master, parts, err := custodian.NewSeal("acme", custodian.FormShares, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	master.Destroy()
	k := custodian.NewKeeper(custodian.Options{})
	t.Cleanup(k.Close)
	if err := k.SetTenant("acme", seal); err != nil {
		t.Fatal(err)
	}
	return vaulttest.New(t, k, newClock().now, "acme"), parts
}

func person(name string) iam.Principal {
	return iam.Principal{Type: iam.TypeCustodian, Name: name, Tenant: "acme", Auth: "bearer", Actions: []string{"custodian:*"}}
}

func TestTwoCustodiansUnlockAndTheLogNamesThem(t *testing.T) {
	t.Parallel()
	v, parts := sealed(t)
	steps := []struct {
		who  string
		act  func(iam.Principal) error
		want string
		err  error
	}{
		{"alice", func(p iam.Principal) error { return v.Unlock(t.Context(), p, "acme") }, "custodian.unlock failed quorum_missing", custodian.ErrNotEnough},
		{"alice", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", parts[0]) }, "custodian.part allowed accepted", nil},
		{"alice", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", parts[1]) }, "custodian.part failed same_custodian", custodian.ErrSameCustodian},
		{"bob", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", parts[0]) }, "custodian.part failed part_taken", custodian.ErrPartTaken},
		{"bob", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", custodian.Part{}) }, "custodian.part failed wrong_part", custodian.ErrWrongPart},
		{"bob", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", parts[1]) }, "custodian.part allowed accepted", nil},
		{"bob", func(p iam.Principal) error { return v.Unlock(t.Context(), p, "acme") }, "custodian.unlock allowed unlocked", nil},
		{"carol", func(p iam.Principal) error { return v.SubmitPart(t.Context(), p, "acme", parts[2]) }, "custodian.part failed already_unlocked", custodian.ErrUnlocked},
		{"carol", func(p iam.Principal) error { return v.Lock(t.Context(), p, "acme") }, "custodian.lock allowed locked", nil},
		{"carol", func(p iam.Principal) error { return v.Lock(t.Context(), p, "acme") }, "custodian.lock allowed locked", nil},
	}
	for i, s := range steps {
		from := v.Store.Len()
		if err := s.act(person(s.who)); !errors.Is(err, s.err) {
			t.Fatalf("step %d: got %v, want %v", i, err, s.err)
		}
		e := only(t, since(t, v.Store, from))
		if told(e) != s.want || e.Who.Name != s.who || e.Who.Type != "custodian" || e.Resource.Reference != s.who {
			t.Errorf("step %d: entry says %s by %+v of %+v", i, told(e), e.Who, e.Resource)
		}
	}
}

// One person with a token and an application's certificate must not be a quorum.
func TestOnlyCustodiansGiveParts(t *testing.T) {
	t.Parallel()
	v, parts := sealed(t)
	for _, who := range []iam.Principal{client("acme"), operator(), iam.System("node")} {
		from := v.Store.Len()
		err := v.SubmitPart(t.Context(), who, "acme", parts[0])
		if !errors.Is(err, vault.ErrDenied) || err.Error() != "access denied: only a custodian gives a part" {
			t.Errorf("%s: got %v", who.Type, err)
		}
		if e := since(t, v.Store, from); len(e) != 1 || told(e[0]) != "custodian.part denied denied" {
			t.Errorf("%s: entries %q", who.Type, tellings(e))
		}
	}
	st, err := v.CustodyStatus(t.Context(), person("alice"), "acme")
	if err != nil || st.Submitted != 0 || st.Unlocked || st.Threshold != 2 || st.Shares != 3 {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestCustodianOfAnotherTenantIsDenied(t *testing.T) {
	t.Parallel()
	v, parts := sealed(t)
	v.SetTenants("acme", "beta")
	stranger := person("alice")
	stranger.Tenant = "beta"
	checkError(t, "part", v.SubmitPart(t.Context(), stranger, "acme", parts[0]), vault.ErrDenied)
	checkError(t, "unlock", v.Unlock(t.Context(), stranger, "acme"), vault.ErrDenied)
	checkError(t, "lock", v.Lock(t.Context(), stranger, "acme"), vault.ErrDenied)
	_, err := v.CustodyStatus(t.Context(), stranger, "acme")
	checkError(t, "status", err, vault.ErrDenied)
}

func TestReadyTellsWhatATransportMustKnow(t *testing.T) {
	t.Parallel()
	v, _ := sealed(t)
	err := v.Ready("acme")
	if !errors.Is(err, vault.ErrLocked) || err.Error() != `tenant "acme": tenant is locked by its custodians` {
		t.Errorf("got %v", err)
	}
	checkError(t, "unknown", v.Ready("nobody"), vault.ErrUnknownTenant)
	open, _ := newFake(t, "acme")
	if err := open.Ready("acme"); err != nil {
		t.Error(err)
	}
	if n := v.Store.Len() + open.Store.Len(); n != 0 {
		t.Errorf("asking made %d entries", n)
	}
}

func TestDiagnoseTellsWhatFails(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	bad := errors.New("disk is full")
	v.Store.SetProbe(vault.Probe{Write: bad})
	p, err := v.Diagnose(t.Context(), client("acme"), "acme")
	if err != nil || p != (vault.Probe{Write: bad}) {
		t.Errorf("got %+v, %v", p, err)
	}
	v.Keys.FailWith(vault.ErrKeyUnavailable)
	p, err = v.Diagnose(t.Context(), client("acme"), "acme")
	if err != nil || !errors.Is(p.Keys, vault.ErrKeyUnavailable) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, got := range tellings(since(t, v.Store, 0)) {
		if got != "health.diagnose allowed probed" {
			t.Errorf("entry says %s", got)
		}
	}
	who := client("acme")
	who.Actions = []string{"card:*"}
	_, err = v.Diagnose(t.Context(), who, "acme")
	checkError(t, "without the action", err, vault.ErrDenied)
}

// What is kept in memory of a tenant's parts dies with the tenant's lock.
func TestLockedTenantOpensNothingUntilUnlocked(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	n.gate.Logger = slog.New(slog.DiscardHandler)
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	checkNumber(t, n.Service, owner, "r1", visa)
	who := person("alice")
	if err := n.Lock(t.Context(), who, "acme"); err != nil {
		t.Fatal(err)
	}
	_, err := n.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	checkError(t, "retrieve while locked", err, vault.ErrLocked)
	checkError(t, "delete while locked", n.DeleteCard(t.Context(), client("acme"), owner, "r1"), vault.ErrLocked)
	if err := n.Unlock(t.Context(), who, "acme"); err != nil {
		t.Fatal(err)
	}
	checkNumber(t, n.Service, owner, "r1", visa)
}
