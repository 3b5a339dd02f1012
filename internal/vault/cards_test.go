package vault_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

func TestStoredCardComesBackWhole(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	for name, in := range map[string]*vault.CardInput{
		"number only": {Number: text(amex)},
		"all fields": {
			Number: text(" 4111 1111\t1111 1111 "), Name: text("Jörg Müller"), ExpMonth: text("03"), ExpYear: text("2030"),
			Brand: text("VISA"), ISIN: text("411111"), Nick: text("work\x00card"),
		},
		"empty, not missing": {Number: text(mastercard), Name: text(""), Nick: text("")},
		"longest":            {Number: text(visaOther), Name: secret.New(make([]byte, vault.MaxCardField))},
	} {
		o := owner
		o.Customer = name
		res := mustStore(t, n.Service, vault.StoreCardRequest{Owner: o, Card: in})
		got, err := n.RetrieveCard(t.Context(), client("acme"), o, res.Reference)
		if err != nil {
			t.Fatal(err)
		}
		c := got.Card
		if got.Data.Present() || !c.Number.Received().Equal(in.Number) {
			t.Errorf("%s: number is not what was stored", name)
		}
		for i, f := range [][2]secret.Bytes{{c.Name, in.Name}, {c.ExpMonth, in.ExpMonth}, {c.ExpYear, in.ExpYear}, {c.Brand, in.Brand}, {c.ISIN, in.ISIN}, {c.Nick, in.Nick}} {
			if f[0].Present() != f[1].Present() || !f[0].Equal(f[1]) {
				t.Errorf("%s: field %d is not what was stored", name, i)
			}
		}
		got.Destroy()
		if !in.Number.Present() || in.Number.Len() == 0 {
			t.Errorf("%s: the caller's own number was wiped", name)
		}
	}
}

func TestNewReferenceIsAUUIDv7(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	res := mustStore(t, v.Service, cardOf(owner, visa, ""))
	if id, err := uuid.Parse(res.Reference); err != nil || id.Version() != 7 || id.String() != res.Reference {
		t.Errorf("reference %q: %v", res.Reference, err)
	}
}

func TestStoringACardAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		again vault.StoreCardRequest
		want  vault.Duplication
		other bool // is stored as a card of its own
	}{
		"the same":                        {again: cardOf(owner, visa, "Jane"), want: vault.Duplicated},
		"other name":                      {again: cardOf(owner, visa, "Jim"), want: vault.MetadataChanged},
		"no name":                         {again: cardOf(owner, visa, ""), want: vault.MetadataChanged},
		"other number":                    {again: cardOf(owner, visaOther, "Jane"), other: true},
		"other spacing, hence other hash": {again: cardOf(owner, "4111 1111 1111 1111", "Jane"), other: true},
		"other customer":                  {again: cardOf(vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c2"}, visa, "Jane"), other: true},
		"other merchant":                  {again: cardOf(vault.Owner{Tenant: "acme", Merchant: "m2", Customer: "c1"}, visa, "Jane"), other: true},
		"other tenant":                    {again: cardOf(vault.Owner{Tenant: "beta", Merchant: "m1", Customer: "c1"}, visa, "Jane"), other: true},
		"merchant and customer run together": {
			again: cardOf(vault.Owner{Tenant: "acme", Merchant: "m1c", Customer: "1"}, visa, "Jane"),
			other: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "acme", "beta")
			first := mustStore(t, n.Service, cardOf(owner, visa, "Jane"))
			from := len(n.entries(t, 0))
			tc.again.Reference = "wanted-1"
			res := mustStore(t, n.Service, tc.again)
			if tc.other {
				if res != (vault.StoreCardResult{Reference: "wanted-1"}) {
					t.Errorf("got %+v, want a card of its own", res)
				}
				return
			}
			if res != (vault.StoreCardResult{Reference: first.Reference, Duplication: tc.want}) {
				t.Errorf("got %+v, want the first reference and %q", res, tc.want)
			}
			e := only(t, n.entries(t, int64(from)))
			if told(e) != "card.store allowed "+string(tc.want) || e.Resource.Reference != first.Reference || e.Resource.MaskedPAN != "411111******1111" {
				t.Errorf("entry says %s of %+v", told(e), e.Resource)
			}
			_, err := n.RetrieveCard(t.Context(), client("acme"), owner, "wanted-1")
			checkError(t, "the reference that was not used", err, vault.ErrNotFound)
			c, err := n.RetrieveCard(t.Context(), client("acme"), owner, first.Reference)
			if err != nil || !c.Card.Name.Equal(text("Jane")) {
				t.Errorf("the card that was there has changed: %v", err)
			}
		})
	}
}

func TestOpaqueDataWinsOverTheCardAndIsNotLookedAt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	for _, data := range []string{"", "4111111111111112", "\xff\x00 no text", strings.Repeat("x", vault.MaxData)} {
		r := cardOf(owner, "not a number", "")
		r.Data = text(data)
		res := mustStore(t, n.Service, r)
		e := n.entries(t, 0)
		if last := e[len(e)-1]; last.Resource.Kind != "data" || last.Resource.MaskedPAN != "" {
			t.Errorf("entry of opaque data is of %+v", last.Resource)
		}
		got, err := n.RetrieveCard(t.Context(), client("acme"), owner, res.Reference)
		if err != nil {
			t.Fatal(err)
		}
		if got.Card != nil || !got.Data.Present() || !got.Data.Equal(r.Data) {
			t.Errorf("%d bytes did not come back as they were", len(data))
		}
		again := mustStore(t, n.Service, r)
		if again != (vault.StoreCardResult{Reference: res.Reference, Duplication: vault.Duplicated}) {
			t.Errorf("the same data again: %+v", again)
		}
	}
}

func TestDataThatLooksLikeAStoredCardIsNoDuplicate(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	card := mustStore(t, n.Service, cardOf(owner, visa, ""))
	data := mustStore(t, n.Service, vault.StoreCardRequest{Owner: owner, Data: text(visa)})
	if data.Duplication != vault.NotDuplicated || data.Reference == card.Reference {
		t.Errorf("got %+v", data)
	}
}

// The peer answers 200 with the old reference and drops the new card.
func TestReferenceInUseForAnotherCardIsAConflictAndNothingIsLost(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	from := len(n.entries(t, 0))
	other := cardOf(owner, mastercard, "")
	other.Reference = "r1"
	_, err := n.StoreCard(t.Context(), client("acme"), other)
	checkError(t, "other card", err, vault.ErrConflict)
	if want := "requestor_card_reference: reference is in use for other data"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if e := only(t, n.entries(t, int64(from))); told(e) != "card.store failed conflict" || e.Resource.Reference != "r1" || e.Resource.MaskedPAN != "555555******4444" {
		t.Errorf("entry says %s of %+v", told(e), e.Resource)
	}
	_, err = n.StoreCard(t.Context(), client("acme"), vault.StoreCardRequest{Owner: owner, Reference: "r1", Data: text("x")})
	checkError(t, "other data", err, vault.ErrConflict)
	checkNumber(t, n.Service, owner, "r1", visa)
	if res := mustStore(t, n.Service, cardOf(owner, mastercard, "")); res.Duplication != vault.NotDuplicated {
		t.Errorf("the refused card left something behind: %+v", res)
	}
	// References belong to their customer.
	o := owner
	o.Customer = "c2"
	other.Owner = o
	mustStore(t, n.Service, other)
	checkNumber(t, n.Service, o, "r1", mastercard)
}

func TestUnknownIsNotFound(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	for name, at := range map[string]struct {
		o   vault.Owner
		ref string
	}{
		"reference": {owner, "r2"},
		"customer":  {vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c2"}, "r1"},
		"merchant":  {vault.Owner{Tenant: "acme", Merchant: "m2", Customer: "c1"}, "r1"},
		"tenant's":  {vault.Owner{Tenant: "beta", Merchant: "m1", Customer: "c1"}, "r1"},
		"case":      {owner, "R1"},
	} {
		from := len(n.entries(t, 0))
		c, err := n.RetrieveCard(t.Context(), client(at.o.Tenant), at.o, at.ref)
		checkError(t, "unknown "+name, err, vault.ErrNotFound)
		if c != nil {
			t.Errorf("unknown %s: something was released", name)
		}
		if e := only(t, n.entries(t, int64(from))); told(e) != "card.retrieve failed not_found" || e.Resource.Reference != at.ref {
			t.Errorf("unknown %s: entry says %s of %+v", name, told(e), e.Resource)
		}
	}
}

func TestDeleteIsIdempotentButKnowsItsMerchants(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	mustStore(t, n.Service, r)
	for i, want := range []string{"deleted", "absent"} {
		from := len(n.entries(t, 0))
		if err := n.DeleteCard(t.Context(), client("acme"), owner, "r1"); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
		if e := only(t, n.entries(t, int64(from))); told(e) != "card.delete allowed "+want || e.PCI != "10.2.1.1" {
			t.Errorf("entry %d says %s", i, told(e))
		}
	}
	from := len(n.entries(t, 0))
	stranger := owner
	stranger.Merchant = "nobody"
	checkError(t, "unknown merchant", n.DeleteCard(t.Context(), client("acme"), stranger, "r1"), vault.ErrNotFound)
	if e := only(t, n.entries(t, int64(from))); told(e) != "card.delete failed not_found" {
		t.Errorf("entry says %s", told(e))
	}
	_, err := n.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	checkError(t, "deleted card", err, vault.ErrNotFound)
	r.Card.Number = text(mastercard)
	mustStore(t, n.Service, r) // the reference is free at once
	checkNumber(t, n.Service, owner, "r1", mastercard)
	r.Reference, r.Card.Number = "r2", text(visa)
	if res := mustStore(t, n.Service, r); res != (vault.StoreCardResult{Reference: "r2"}) {
		t.Errorf("the deleted number still counts as a duplicate: %+v", res)
	}
}

func TestUnknownMerchantIsMadeOnlyWhereTheTenantSaysSo(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	v.Tenants.Replace(vault.Tenant{Name: "acme", Mode: vault.ModeLocal})
	_, err := v.StoreCard(t.Context(), client("acme"), cardOf(owner, visa, ""))
	checkError(t, "add", err, vault.ErrNotFound)
	d := vault.Datum{Tenant: "acme", Entity: "m1", VaultID: "v"}
	checkError(t, "add of data", v.StoreData(t.Context(), client("acme"), d, text("1"), nil, false), vault.ErrNotFound)
	if got := tellings(since(t, v.Store, 0)); len(got) != 2 || got[0] != "card.store failed not_found" {
		t.Errorf("entries %q", got)
	}
	if _, err := v.ProvisionHolder(t.Context(), client("acme"), "acme", "m1"); err != nil {
		t.Fatal(err)
	}
	mustStore(t, v.Service, cardOf(owner, visa, ""))
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	const never = vault.Micros(0)
	end := vault.MicrosOf(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	start := vault.MicrosOf(newClock().now())
	for name, tc := range map[string]struct {
		ttl  *uint64
		want vault.Micros
	}{
		"none":                 {nil, never},
		"a second":             {seconds(1), start + 1e6},
		"a century":            {seconds(100 * 365 * 86400), start + 100*365*86400e6},
		"just before the end":  {seconds(uint64(end-start) / 1e6), start + (end-start)/1e6*1e6},
		"just after":           {seconds(uint64(end-start)/1e6 + 1), end},
		"all of time":          {seconds(uint64(end) / 1e6), end},
		"largest of the wire":  {seconds(1<<63 - 1), end},
		"largest of the field": {seconds(1<<64 - 1), end},
	} {
		v, _ := newFake(t, "acme")
		rows := &rows{Store: v.Store}
		r := cardOf(owner, visa, "")
		r.TTL = tc.ttl
		mustStore(t, serviceOn(t, v, rows, v.Keys), r)
		if got := rows.last().ExpiresAt; got != tc.want {
			t.Errorf("%s: expires at %d, want %d", name, got, tc.want)
		}
	}
}

func TestTimeToLiveOfZeroIsRefusedBeforeTheNumberIsLookedAt(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	r := cardOf(owner, "not a number", "")
	r.TTL = seconds(0)
	_, err := v.StoreCard(t.Context(), client("acme"), r)
	checkInvalid(t, err, "ttl", "TTL is invalid")
	checkInvalid(t, v.StoreData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e", VaultID: "v"}, text("1"), seconds(0), true), "ttl", "TTL is invalid")
}

func TestExpiredCardIsGoneFromThatVeryMoment(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference, r.TTL = "r1", seconds(10)
	mustStore(t, n.Service, r)
	n.clock.pass(10 * time.Second)
	checkNumber(t, n.Service, owner, "r1", visa) // expired is now > expires_at
	n.clock.pass(time.Microsecond)
	from := len(n.entries(t, 0))
	c, err := n.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	checkError(t, "expired", err, vault.ErrNotFound)
	if c != nil {
		t.Error("an expired card was released")
	}
	if e := only(t, n.entries(t, int64(from))); told(e) != "card.retrieve failed not_found" || e.Detail != "expired: not found" {
		t.Errorf("entry says %s, %q", told(e), e.Detail)
	}
}

// The peer answers duplicated, with a reference that is 404.
func TestExpiredRowGivesWay(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]vault.StoreCardRequest{
		"of the same card":      cardOf(owner, visa, ""),
		"of the same reference": cardOf(owner, mastercard, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "acme")
			old := cardOf(owner, visa, "")
			old.Reference, old.TTL = "r1", seconds(1)
			mustStore(t, n.Service, old)
			n.clock.pass(2 * time.Second)
			if name == "of the same reference" {
				r.Reference = "r1"
			}
			from := len(n.entries(t, 0))
			res := mustStore(t, n.Service, r)
			if res.Duplication != vault.NotDuplicated {
				t.Errorf("got %+v", res)
			}
			got := strings.Join(tellings(n.entries(t, int64(from))), ", ")
			if got != "record.expire allowed expired, card.store allowed stored" {
				t.Errorf("entries: %s", got)
			}
			if _, err := n.RetrieveCard(t.Context(), client("acme"), owner, res.Reference); err != nil {
				t.Errorf("the new card: %v", err)
			}
		})
	}
}

func TestTwoExpiredRowsInTheWayOfOneCardBothGiveWay(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	for i, number := range []string{visa, mastercard} {
		r := cardOf(owner, number, "")
		r.Reference, r.TTL = []string{"r1", "r2"}[i], seconds(1)
		mustStore(t, n.Service, r)
	}
	n.clock.pass(2 * time.Second)
	r := cardOf(owner, visa, "") // the hash of r1's and the reference of r2
	r.Reference = "r2"
	if res := mustStore(t, n.Service, r); res != (vault.StoreCardResult{Reference: "r2"}) {
		t.Errorf("got %+v", res)
	}
	checkNumber(t, n.Service, owner, "r2", visa)
}

// A row in the way that comes and goes must not keep a store for ever.
func TestStoreGivesUpAfterManyTries(t *testing.T) {
	t.Parallel()
	v, c := newFake(t, "acme")
	old := cardOf(owner, visa, "")
	old.TTL = seconds(1)
	rows := &rows{Store: v.Store}
	s := serviceOn(t, v, rows, v.Keys)
	mustStore(t, s, old)
	c.pass(2 * time.Second)
	rows.standing = rows.last()
	_, err := s.StoreCard(t.Context(), client("acme"), cardOf(owner, visa, ""))
	checkError(t, "row that is always there again", err, vault.ErrUnavailable)
	if !strings.Contains(err.Error(), "changed 8 times meanwhile") {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentStoresOfOneCardInsertOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	const callers = 64
	results := make([]vault.StoreCardResult, callers)
	together(callers, func(i int) {
		r := cardOf(owner, visa, "Jane")
		if i%2 == 0 {
			r.Reference = "wanted-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		}
		var err error
		if results[i], err = n.StoreCard(t.Context(), client("acme"), r); err != nil {
			t.Error(err)
		}
	})
	inserted := 0
	for _, r := range results {
		if r.Reference != results[0].Reference {
			t.Fatalf("references %s and %s for one card", r.Reference, results[0].Reference)
		}
		if r.Duplication == vault.NotDuplicated {
			inserted++
		} else if r.Duplication != vault.Duplicated {
			t.Errorf("got %q", r.Duplication)
		}
	}
	if inserted != 1 {
		t.Errorf("%d inserts, want 1", inserted)
	}
	counts := map[string]int{}
	for _, e := range n.entries(t, 0) {
		counts[told(e)]++
	}
	if counts["card.store allowed stored"] != 1 || counts["card.store allowed duplicated"] != callers-1 {
		t.Errorf("entries: %v", counts)
	}
	checkNumber(t, n.Service, owner, results[0].Reference, visa)
}

// Two services share nothing but the database, as two nodes do.
func TestConcurrentStoresOnTwoServicesInsertOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	second, err := vault.NewService(vault.Options{Gate: n.gate, Store: n.store, Keys: n.local, Custodians: n.keeper})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	references := map[string]int{}
	together(32, func(i int) {
		s := []*vault.Service{n.Service, second}[i%2]
		res, err := s.StoreCard(t.Context(), client("acme"), cardOf(owner, visa, ""))
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		references[res.Reference]++
		mu.Unlock()
	})
	if len(references) != 1 {
		t.Errorf("%d references for one card", len(references))
	}
}

func TestConcurrentStoresUnderOneReferenceKeepExactlyOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	numbers := []string{visa, visaOther, mastercard, amex}
	errs := make([]error, 4*8)
	together(len(errs), func(i int) {
		r := cardOf(owner, numbers[i%4], "")
		r.Reference = "r1"
		_, errs[i] = n.StoreCard(t.Context(), client("acme"), r)
	})
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0 && i%4 != winner:
			t.Error("two cards under one reference")
		case err == nil:
			winner = i % 4
		case !errors.Is(err, vault.ErrConflict):
			t.Errorf("got %v, want ErrConflict", err)
		}
	}
	if winner < 0 {
		t.Fatal("no card was stored")
	}
	checkNumber(t, n.Service, owner, "r1", numbers[winner])
}

func TestDeletesAndStoresOfOneReferenceAtOnceLeaveItWholeOrGone(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	r := cardOf(owner, visa, "")
	r.Reference = "r1"
	together(24, func(i int) {
		for range 5 {
			if i%2 == 0 {
				if err := n.DeleteCard(t.Context(), client("acme"), owner, "r1"); err != nil && !errors.Is(err, vault.ErrNotFound) {
					t.Errorf("delete: %v", err)
				}
				continue
			}
			req := cardOf(owner, visa, "")
			req.Reference = "r1"
			if res, err := n.StoreCard(t.Context(), client("acme"), req); err != nil || res.Reference != "r1" {
				t.Errorf("store: %+v, %v", res, err)
			}
		}
	})
	stored, deleted := 0, 0
	for _, e := range n.entries(t, 0) {
		switch told(e) {
		case "card.store allowed stored":
			stored++
		case "card.delete allowed deleted":
			deleted++
		}
	}
	_, err := n.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	if there := err == nil; stored-deleted != map[bool]int{true: 1, false: 0}[there] {
		t.Errorf("%d stored, %d deleted by the log, there=%t", stored, deleted, there)
	}
}

func TestDamagedRecordIsCorruptAndInTheLog(t *testing.T) {
	t.Parallel()
	v := filled(t)
	v.Store.Damage()
	from := v.Store.Len()
	c, err := v.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	checkError(t, "retrieve", err, vault.ErrCorrupt)
	if c != nil {
		t.Error("something was released")
	}
	if e := only(t, since(t, v.Store, from)); told(e) != "card.retrieve failed corrupt" || e.Resource.MaskedPAN != "" || e.Resource.Key == "" {
		t.Errorf("entry says %s of %+v", told(e), e.Resource)
	}
	from = v.Store.Len()
	_, err = v.RetrieveData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"})
	checkError(t, "retrieve data", err, vault.ErrCorrupt)
	if e := only(t, since(t, v.Store, from)); told(e) != "data.retrieve failed corrupt" {
		t.Errorf("entry says %s", told(e))
	}
	from = v.Store.Len()
	_, err = v.StoreCard(t.Context(), client("acme"), cardOf(owner, visa, ""))
	checkError(t, "store of the same card", err, vault.ErrCorrupt)
	if e := only(t, since(t, v.Store, from)); told(e) != "card.store failed corrupt" || e.Resource.Reference != "r1" {
		t.Errorf("entry says %s of %+v, want that of the damaged record", told(e), e.Resource)
	}
	if err := v.DeleteCard(t.Context(), client("acme"), owner, "r1"); err != nil {
		t.Errorf("a damaged record cannot be deleted: %v", err)
	}
}

// sealedText replaces what is sealed.
type sealedText struct {
	vault.KeyManager
	text string
}

func (s sealedText) Open(context.Context, vault.RecordContext, vault.Sealed) (secret.Bytes, error) {
	return text(s.text), nil
}

func TestRecordThatIsNoCardIsCorrupt(t *testing.T) {
	t.Parallel()
	v := filled(t)
	for _, plain := range []string{"", "\x02", "\x01\xff\xff", "\x01\x00\x02ab"} {
		_, err := serviceOn(t, v, v.Store, sealedText{v.Keys, plain}).RetrieveCard(t.Context(), client("acme"), owner, "r1")
		checkError(t, "plaintext that is no card", err, vault.ErrCorrupt)
	}
}

func TestKeyManagerErrorsKeepTheirClass(t *testing.T) {
	t.Parallel()
	for _, want := range []error{vault.ErrLocked, vault.ErrCorrupt, vault.ErrKeyUnavailable, vault.ErrUnavailable} {
		for _, op := range []string{"card.store", "card.retrieve", "data.store", "data.retrieve", "fingerprint.get"} {
			v := filled(t)
			v.Keys.FailWith(want)
			checkError(t, op, operations()[op](t.Context(), v.Service, client("acme")), want)
		}
	}
}

func TestPlaintextOfAStoreIsWiped(t *testing.T) {
	t.Parallel()
	v := filled(t)
	keys := &watched{KeyManager: v.Keys}
	s := serviceOn(t, v, v.Store, keys)
	mustStore(t, s, cardOf(owner, mastercard, "")) // is stored
	mustStore(t, s, cardOf(owner, visa, "x"))      // is there
	mustStore(t, s, vault.StoreCardRequest{Owner: owner, Data: text("data")})
	v.Keys.FailWith(vault.ErrKeyUnavailable)
	if _, err := s.StoreCard(t.Context(), client("acme"), cardOf(owner, amex, "")); err == nil {
		t.Fatal("stored without a key")
	}
	v.Keys.FailWith(nil)
	id, err := s.Fingerprint(t.Context(), client("acme"), vault.FingerprintRequest{Tenant: "acme", Data: text(visa), Key: text("k")})
	if err != nil || id == "" {
		t.Fatal(err)
	}
	if len(keys.sealed) != 3 || len(keys.opened) != 1 || len(keys.hashed) < 4 {
		t.Fatalf("%d sealed, %d opened, %d hashed", len(keys.sealed), len(keys.opened), len(keys.hashed))
	}
	for i, p := range append(keys.sealed, keys.opened...) {
		if p.Len() != 0 {
			t.Errorf("plaintext %d was not wiped", i)
		}
	}
	for i, p := range keys.hashed {
		if strings.Trim(string(p), "\x00") != "" {
			t.Errorf("what was hashed in call %d was not wiped", i)
		}
	}
}

// watched keeps every plaintext that a key manager sees.
type watched struct {
	vault.KeyManager
	sealed, opened []secret.Bytes
	hashed         [][]byte // the last part of each
}

func (w *watched) Seal(ctx context.Context, c vault.RecordContext, p secret.Bytes) (vault.Sealed, error) {
	w.sealed = append(w.sealed, p)
	return w.KeyManager.Seal(ctx, c, p)
}

func (w *watched) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	p, err := w.KeyManager.Open(ctx, c, s)
	w.opened = append(w.opened, p)
	return p, err
}

func (w *watched) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	w.hashed = append(w.hashed, parts[len(parts)-1])
	return w.KeyManager.MAC(ctx, tenant, p, parts...)
}

func TestReleasedCardIsWipedByDestroy(t *testing.T) {
	t.Parallel()
	v := filled(t)
	c, err := v.RetrieveCard(t.Context(), client("acme"), owner, "r1")
	if err != nil {
		t.Fatal(err)
	}
	c.Destroy()
	c.Destroy()
	(*vault.StoredCard)(nil).Destroy()
	if c.Card.Number.Received().Len() != 0 || c.Card.Number.Digits().Len() != 0 {
		t.Error("the number is still there")
	}
}

// A tenant's client that is limited to some merchants cannot reach the others' rows.
func TestClientReachesOnlyItsMerchants(t *testing.T) {
	t.Parallel()
	v := filled(t)
	who := client("acme")
	who.Merchants = []string{"m2", "shop-*"}
	_, err := v.RetrieveCard(t.Context(), who, owner, "r1")
	checkError(t, "retrieve", err, vault.ErrDenied)
	checkError(t, "delete", v.DeleteCard(t.Context(), who, owner, "r1"), vault.ErrDenied)
	o := owner
	o.Merchant = "shop-7"
	if _, err := v.StoreCard(t.Context(), who, cardOf(o, visa, "")); err != nil {
		t.Error(err)
	}
	who.Actions = []string{iam.Request{Action: vault.OpCardStore.Action}.Action}
	_, err = v.RetrieveCard(t.Context(), who, o, "r1")
	checkError(t, "retrieve without its action", err, vault.ErrDenied)
}
