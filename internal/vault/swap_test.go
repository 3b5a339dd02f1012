package vault_test

import (
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/keymanager"
	"cardea/internal/vault"
)

// placed is a record with where it was stored and what it holds.
type placed struct {
	rec    vault.Record
	owner  vault.Owner // v1
	datum  vault.Datum // v2
	number string
	value  string
}

// what retrieves the record from where it was stored, as one text.
func (p placed) what(s *vault.Service) (string, error) {
	ctx := context.Background()
	if p.value != "" {
		v, err := s.RetrieveData(ctx, client(p.datum.Tenant), p.datum)
		return string(v.Expose()), err
	}
	c, err := s.RetrieveCard(ctx, client(p.owner.Tenant), p.owner, p.rec.Reference)
	if err != nil {
		return "", err
	}
	if c.Card == nil {
		return string(c.Data.Expose()), nil
	}
	return string(c.Card.Number.Received().Expose()), nil
}

// columns are what an attacker with the database can write in a row.
var columns = []struct {
	name string
	move func(to, from *vault.Record)
}{
	{"holder", func(to, from *vault.Record) { to.HolderID = from.HolderID }},
	{"space", func(to, from *vault.Record) { to.Space = from.Space }},
	{"kind", func(to, from *vault.Record) { to.Kind = from.Kind }},
	{"customer", func(to, from *vault.Record) { to.Customer = from.Customer }},
	{"reference", func(to, from *vault.Record) { to.Reference = from.Reference }},
	{"mode", func(to, from *vault.Record) { to.Mode = from.Mode }},
	{"key", func(to, from *vault.Record) { to.Key = from.Key }},
	{"key version", func(to, from *vault.Record) { to.KeyVersion = from.KeyVersion }},
	{"sealed", func(to, from *vault.Record) { to.Sealed = from.Sealed }},
	{"created", func(to, from *vault.Record) { to.CreatedAt = from.CreatedAt }},
	{"expires", func(to, from *vault.Record) { to.ExpiresAt = from.ExpiresAt }},
	{"dedupe", func(to, from *vault.Record) { to.Dedupe = from.Dedupe }},
	{"lookup", func(to, from *vault.Record) { to.Lookup = from.Lookup }},
}

// swapVault has records of all kinds on rows that can be changed, and real keys.
func swapVault(t *testing.T) (*vault.Service, *rows, []placed) {
	t.Helper()
	n := newNode(t, "acme", "beta")
	r := &rows{Store: n.store}
	local, err := keymanager.NewLocal(keymanager.LocalOptions{Masters: n.keeper, Inventory: vault.NewKeyring(n.gate, n.store), Now: n.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(local.Close)
	s, err := vault.NewService(vault.Options{Gate: n.gate, Store: r, Keys: local, Custodians: n.keeper})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	var all []placed
	card := func(o vault.Owner, reference, number, data string, ttl *uint64) {
		q := vault.StoreCardRequest{Owner: o, Reference: reference, TTL: ttl}
		if data != "" {
			q.Data = text(data)
		} else {
			q.Card = &vault.CardInput{Number: text(number)}
		}
		mustStore(t, s, q)
		all = append(all, placed{rec: *r.last(), owner: o, number: number + data})
	}
	card(owner, "r1", visa, "", nil)
	card(owner, "r2", mastercard, "", seconds(1000))
	card(vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c2"}, "r1", amex, "", nil)
	card(vault.Owner{Tenant: "acme", Merchant: "m2", Customer: "c1"}, "r1", visaOther, "", nil)
	card(vault.Owner{Tenant: "beta", Merchant: "m1", Customer: "c1"}, "r1", "6011111111111117", "", nil)
	card(owner, "r3", "", "opaque one", nil)
	card(vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c2"}, "r3", "", "opaque two", nil)
	for i, d := range []vault.Datum{
		{Tenant: "acme", Entity: "m1", VaultID: "r1"},
		{Tenant: "acme", Entity: "m1", VaultID: "r2"},
		{Tenant: "acme", Entity: "m2", VaultID: "r1"},
		{Tenant: "beta", Entity: "m1", VaultID: "r1"},
	} {
		value := `{"n":` + string(rune('1'+i)) + `}`
		storeValue(t, s, d, value, nil, false)
		all = append(all, placed{rec: *r.last(), datum: d, value: value})
	}
	return s, r, all
}

// Whatever columns of a row come from another row, the client gets its own
// record or none.
func TestMovedRowsAndColumnsNeverReleaseAnothersRecord(t *testing.T) {
	t.Parallel()
	s, r, all := swapVault(t)
	rapid.Check(t, func(t *rapid.T) {
		to := rapid.SampledFrom(all).Draw(t, "to")
		from := rapid.SampledFrom(all).Draw(t, "from")
		changed := to.rec
		mask := rapid.Uint16().Draw(t, "columns")
		for i, c := range columns {
			if mask&(1<<i) != 0 {
				c.move(&changed, &from.rec)
			}
		}
		r.change(to.rec.Lookup, changed)
		defer r.restore()
		got, err := to.what(s)
		switch {
		case err == nil && got != to.number+to.value:
			t.Fatal("another's record was released")
		case err != nil && !errors.Is(err, vault.ErrCorrupt) && !errors.Is(err, vault.ErrNotFound):
			t.Fatalf("got %v, want ErrCorrupt or ErrNotFound", err)
		case err == nil && string(changed.Sealed) != string(to.rec.Sealed):
			t.Fatal("opened with another ciphertext")
		}
	})
}

// The same for each pair of rows as a whole: the row moved under another's key.
func TestRowMovedWholeIsCorrupt(t *testing.T) {
	t.Parallel()
	s, r, all := swapVault(t)
	for i, to := range all {
		for j, from := range all {
			if i == j {
				continue
			}
			r.change(to.rec.Lookup, from.rec)
			if got, err := to.what(s); !errors.Is(err, vault.ErrCorrupt) || got != "" {
				t.Errorf("row %d in the place of row %d: got %v, want ErrCorrupt", j, i, err)
			}
			r.restore()
		}
		if got, err := to.what(s); err != nil || got != to.number+to.value {
			t.Errorf("row %d in its own place: %v", i, err)
		}
	}
}

func TestDamageInAnyColumnIsCorruptOrGone(t *testing.T) {
	t.Parallel()
	s, r, all := swapVault(t)
	for i, p := range all {
		for name, damage := range map[string]func(*vault.Record){
			"sealed":         func(x *vault.Record) { x.Sealed = append([]byte{0}, x.Sealed[1:]...) },
			"sealed, short":  func(x *vault.Record) { x.Sealed = x.Sealed[:10] },
			"sealed, none":   func(x *vault.Record) { x.Sealed = nil },
			"kind":           func(x *vault.Record) { x.Kind = 9 },
			"mode":           func(x *vault.Record) { x.Mode = 0 },
			"key":            func(x *vault.Record) { x.Key[15] ^= 1 },
			"key version":    func(x *vault.Record) { x.KeyVersion++ },
			"created":        func(x *vault.Record) { x.CreatedAt++ },
			"expires, later": func(x *vault.Record) { x.ExpiresAt = 1 << 62 },
			"expires, past":  func(x *vault.Record) { x.ExpiresAt = 1 },
		} {
			changed := p.rec
			damage(&changed)
			r.change(p.rec.Lookup, changed)
			want := vault.ErrCorrupt
			if name == "expires, past" {
				want = vault.ErrNotFound
			}
			if got, err := p.what(s); !errors.Is(err, want) || got != "" {
				t.Errorf("record %d, %s: got %v, want %v", i, name, err, want)
			}
			r.restore()
		}
	}
}

// The hash that finds a card again is not bound to its ciphertext.
func TestStoreIsNotToldOfAnothersCardByAMovedHash(t *testing.T) {
	t.Parallel()
	s, r, all := swapVault(t)
	for i, wanted := range all {
		for j, other := range all {
			if i == j || wanted.value != "" {
				continue
			}
			moved := other.rec
			moved.Dedupe = wanted.rec.Dedupe // found for the number of wanted
			r.standing = &moved
			q := vault.StoreCardRequest{Owner: wanted.owner}
			if wanted.rec.Kind == vault.KindData {
				q.Data = text(wanted.number)
			} else {
				q.Card = &vault.CardInput{Number: text(wanted.number)}
			}
			res, err := s.StoreCard(t.Context(), client(wanted.owner.Tenant), q)
			if !errors.Is(err, vault.ErrCorrupt) || res != (vault.StoreCardResult{}) {
				t.Errorf("row %d found for the card of row %d: got %+v, %v, want ErrCorrupt", j, i, res, err)
			}
			r.restore()
		}
	}
}

// A record sealed for one tenant does not open for another even if both had one
// key: what is bound names the tenant.
func TestRecordsOfTwoTenantsUnderOneKeyStayApart(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme", "beta") // one key for all
	r := &rows{Store: v.Store}
	s := serviceOn(t, v, r, v.Keys)
	q := cardOf(owner, visa, "")
	q.Reference = "r1"
	mustStore(t, s, q)
	stolen := *r.last()
	o := owner
	o.Tenant = "beta"
	r.change(vault.LookupOf("beta", o.Merchant, vault.SpaceV1, o.Customer, "r1"), stolen)
	c, err := s.RetrieveCard(t.Context(), client("beta"), o, "r1")
	checkError(t, "another tenant's record", err, vault.ErrCorrupt)
	if c != nil {
		t.Error("it was released")
	}
}
