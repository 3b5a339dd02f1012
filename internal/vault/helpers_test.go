package vault_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/keymanager"
	"cardea/internal/secret"
	"cardea/internal/store"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

const (
	visa       = "4111111111111111"
	visaOther  = "4242424242424242"
	mastercard = "5555555555554444"
	amex       = "378282246310005"
)

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func newClock() *clock {
	return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// client is a tenant's application that may do everything there.
func client(tenant string) iam.Principal {
	return iam.Principal{
		Type: iam.TypeTenant, Name: "shop", Tenant: tenant, Auth: "mtls",
		IP: netip.MustParseAddr("192.0.2.7"), Merchants: []string{"*"}, Actions: []string{"*"},
	}
}

func operator() iam.Principal {
	return iam.Principal{Type: iam.TypeOperator, Name: "root", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
}

// node is a vault on real parts.
type node struct {
	*vault.Service
	clock   *clock
	store   *store.Store
	gate    *vault.Gate
	tenants *vault.Tenants
	keeper  *custodian.Keeper
	local   *keymanager.Envelope
}

// open is a master key without custodians.
type open struct{ key [32]byte }

func (open) Info() custodian.Info       { return custodian.Info{} }
func (open) Check(custodian.Part) error { return custodian.ErrWrongPart }
func (o open) Open([]custodian.Part) (secret.Bytes, error) {
	return secret.Copy(o.key[:]), nil
}

// newNode is a vault on SQLite, with real keys, whose tenants are unlocked.
func newNode(t *testing.T, tenants ...string) *node {
	t.Helper()
	n := &node{clock: newClock(), tenants: vault.NewTenants(), keeper: custodian.NewKeeper(custodian.Options{})}
	var err error
	n.store, err = store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "cardea.db"), Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	n.gate = &vault.Gate{Node: "test", Log: n.store, Tenants: n.tenants, Now: n.clock.now, Logger: slog.New(slog.DiscardHandler)}
	var all []vault.Tenant
	for _, tenant := range tenants {
		all = append(all, vault.Tenant{Name: tenant, Mode: vault.ModeLocal, LazyHolders: true})
		var o open
		copy(o.key[:], tenant)
		if err := errors.Join(n.keeper.SetTenant(tenant, o), n.keeper.Unlock(tenant)); err != nil {
			t.Fatal(err)
		}
	}
	n.tenants.Replace(all...)
	t.Cleanup(n.keeper.Close)
	if n.local, err = keymanager.NewLocal(keymanager.LocalOptions{Masters: n.keeper, Inventory: vault.NewKeyring(n.gate, n.store), Now: n.clock.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.local.Close)
	if n.Service, err = vault.NewService(vault.Options{Gate: n.gate, Store: n.store, Keys: n.local, Custodians: n.keeper}); err != nil {
		t.Fatal(err)
	}
	return n
}

// entries is the node's audit log from an entry on.
func (n *node) entries(t testing.TB, from int64) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	for e, err := range audit.Entries(context.Background(), n.store, "cardea/"+n.gate.Node, from) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Entry)
	}
	return out
}

// newFake is a vault in memory.
func newFake(t testing.TB, tenants ...string) (*vaulttest.Vault, *clock) {
	t.Helper()
	c := newClock()
	return vaulttest.New(t, nil, c.now, tenants...), c
}

// serviceOn is a vault on parts of which some are a test's own.
func serviceOn(t testing.TB, v *vaulttest.Vault, s vault.Store, k vault.KeyManager) *vault.Service {
	t.Helper()
	g := *v.Gate
	g.Log = s
	svc, err := vault.NewService(vault.Options{Gate: &g, Store: s, Keys: k, Custodians: v.Custodians})
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

// only is the one entry since from that is not of a merchant or key made by the way.
func only(t testing.TB, entries []audit.Entry) audit.Entry {
	t.Helper()
	var own []audit.Entry
	for _, e := range entries {
		if e.Who.Type != string(iam.TypeSystem) {
			own = append(own, e)
		}
	}
	if len(own) != 1 {
		t.Fatalf("%d entries of the operation, want exactly 1: %+v", len(own), own)
	}
	return own[0]
}

func since(t testing.TB, s *vaulttest.Store, from int) []audit.Entry {
	t.Helper()
	entries, err := s.Entries(from)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// what an entry says, in short.
func told(e audit.Entry) string { return e.Op + " " + string(e.Outcome) + " " + e.Result }

func tellings(entries []audit.Entry) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = told(e)
	}
	return out
}

func text(s string) secret.Bytes { return secret.Copy([]byte(s)) }

func seconds(n uint64) *uint64 { return &n }

// cardOf is a request to store a number with a name.
func cardOf(o vault.Owner, number, name string) vault.StoreCardRequest {
	in := &vault.CardInput{Number: text(number)}
	if name != "" {
		in.Name = text(name)
	}
	return vault.StoreCardRequest{Owner: o, Card: in}
}

var owner = vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c1"}

func mustStore(t testing.TB, s *vault.Service, r vault.StoreCardRequest) vault.StoreCardResult {
	t.Helper()
	res, err := s.StoreCard(t.Context(), client(r.Owner.Tenant), r)
	if err != nil {
		t.Fatalf("store: %v", err)
	}
	return res
}

// checkNumber fails unless a reference is that of a card with this number.
func checkNumber(t testing.TB, s *vault.Service, o vault.Owner, reference, number string) {
	t.Helper()
	c, err := s.RetrieveCard(t.Context(), client(o.Tenant), o, reference)
	if err != nil {
		t.Fatalf("retrieve: %v", err)
	}
	defer c.Destroy()
	if c.Card == nil || !c.Card.Number.Received().Equal(text(number)) {
		t.Fatal("retrieved another card than was stored")
	}
}

func checkError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// together runs n callers at once.
func together(n int, call func(i int)) {
	var start, all sync.WaitGroup
	start.Add(1)
	for i := range n {
		all.Go(func() {
			start.Wait()
			call(i)
		})
	}
	start.Done()
	all.Wait()
}
