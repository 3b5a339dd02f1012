package vault_test

import (
	"testing"
	"time"

	"cardea/internal/vault"
)

var datum = vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v1"}

func checkValue(t testing.TB, s *vault.Service, d vault.Datum, want string) {
	t.Helper()
	v, err := s.RetrieveData(t.Context(), client(d.Tenant), d)
	if err != nil {
		t.Fatalf("retrieve: %v", err)
	}
	defer v.Destroy()
	if !v.Equal(text(want)) {
		t.Fatal("retrieved another value than was stored")
	}
}

func storeValue(t testing.TB, s *vault.Service, d vault.Datum, value string, ttl *uint64, upsert bool) {
	t.Helper()
	if err := s.StoreData(t.Context(), client(d.Tenant), d, text(value), ttl, upsert); err != nil {
		t.Fatalf("store: %v", err)
	}
}

func TestValueKeepsItsBytes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	for i, value := range []string{"null", `""`, `{"b":1,"a":2,"b":3}`, `1.0e+00`, `"\u00e9é"`, "[]", `{"card":"4111111111111111"}`} {
		d := datum
		d.VaultID = string(rune('a' + i))
		storeValue(t, n.Service, d, value, nil, false)
		checkValue(t, n.Service, d, value)
	}
}

func TestInsertKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeValue(t, n.Service, datum, `{"a":1}`, seconds(10), false)
	from := len(n.entries(t, 0))
	storeValue(t, n.Service, datum, `{"a":2}`, nil, false)
	if e := only(t, n.entries(t, int64(from))); told(e) != "data.store allowed kept" || e.Resource.Reference != "v1" || e.Resource.Merchant != "e1" || e.Resource.Kind != "json" {
		t.Errorf("entry says %s of %+v", told(e), e.Resource)
	}
	checkValue(t, n.Service, datum, `{"a":1}`)
	n.clock.pass(10*time.Second + time.Microsecond)
	_, err := n.RetrieveData(t.Context(), client("acme"), datum)
	checkError(t, "after the first one's time", err, vault.ErrNotFound)
	storeValue(t, n.Service, datum, `{"a":3}`, nil, false) // what has expired is not there
	checkValue(t, n.Service, datum, `{"a":3}`)
}

// The peer keeps the old expiry in one of its two stores.
func TestUpsertReplacesValueAndExpiry(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeValue(t, n.Service, datum, `1`, seconds(10), false)
	storeValue(t, n.Service, datum, `2`, nil, true)
	n.clock.pass(time.Hour)
	checkValue(t, n.Service, datum, `2`)
	storeValue(t, n.Service, datum, `3`, seconds(10), true)
	checkValue(t, n.Service, datum, `3`)
	n.clock.pass(11 * time.Second)
	_, err := n.RetrieveData(t.Context(), client("acme"), datum)
	checkError(t, "after its time", err, vault.ErrNotFound)
	storeValue(t, n.Service, datum, `4`, nil, true)
	checkValue(t, n.Service, datum, `4`)
	e := n.entries(t, 0)
	if got := told(e[len(e)-2]); got != "data.store allowed upserted" {
		t.Errorf("entry says %s", got)
	}
}

func TestConcurrentInsertsOfOneValueKeepExactlyOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	together(32, func(i int) {
		if err := n.StoreData(t.Context(), client("acme"), datum, text(`"x"`), nil, i%4 == 3); err != nil {
			t.Error(err)
		}
	})
	counts := map[string]int{}
	for _, e := range n.entries(t, 0) {
		counts[told(e)]++
	}
	if counts["data.store allowed stored"] > 1 || counts["data.store allowed upserted"] != 8 ||
		counts["data.store allowed stored"]+counts["data.store allowed kept"] != 24 {
		t.Errorf("entries: %v", counts)
	}
	checkValue(t, n.Service, datum, `"x"`)
}

func TestDeletedValueIsGone(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	storeValue(t, n.Service, datum, `1`, nil, false)
	for i, want := range []string{"deleted", "absent"} {
		from := len(n.entries(t, 0))
		if err := n.DeleteData(t.Context(), client("acme"), datum); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
		if e := only(t, n.entries(t, int64(from))); told(e) != "data.delete allowed "+want {
			t.Errorf("entry says %s", told(e))
		}
	}
	_, err := n.RetrieveData(t.Context(), client("acme"), datum)
	checkError(t, "deleted", err, vault.ErrNotFound)
	stranger := datum
	stranger.Entity = "nobody"
	checkError(t, "unknown entity", n.DeleteData(t.Context(), client("acme"), stranger), vault.ErrNotFound)
	_, err = n.RetrieveData(t.Context(), client("acme"), stranger)
	checkError(t, "unknown entity", err, vault.ErrNotFound)
}

func TestTheTwoGenerationsOfTheAPINeverMeet(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	o := vault.Owner{Tenant: "acme", Merchant: "e1", Customer: "c"}
	r := cardOf(o, visa, "")
	r.Reference = "v1"
	mustStore(t, n.Service, r)
	_, err := n.RetrieveData(t.Context(), client("acme"), datum)
	checkError(t, "a card as a value", err, vault.ErrNotFound)
	storeValue(t, n.Service, datum, `1`, nil, false)
	checkNumber(t, n.Service, o, "v1", visa)
	checkValue(t, n.Service, datum, `1`)
}
