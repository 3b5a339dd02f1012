package vault_test

import (
	"errors"
	"testing"

	"cardea/internal/vault"
)

// old is a record of another vault, a day old.
func (n *node) old(customer, reference, number string) vault.ImportRecord {
	return vault.ImportRecord{
		Tenant: "acme", Holder: "m1", Space: vault.SpaceV1, Customer: customer, Reference: reference,
		Card: &vault.CardInput{Number: text(number), Nick: text("mine")}, CreatedAt: vault.MicrosOf(n.clock.now().AddDate(0, 0, -1)),
	}
}

func (n *node) imports(t *testing.T, check bool, rs ...vault.ImportRecord) []vault.Imported {
	t.Helper()
	var got []vault.Imported
	for i, r := range n.Import(t.Context(), operator(), rs, check) {
		if r.Err != nil {
			t.Fatalf("record %d: %v", i, r.Err)
		}
		got = append(got, r.Imported)
	}
	return got
}

func TestImportKeepsReferencesAndTimes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	n.tenants.Replace(vault.Tenant{Name: "acme", Mode: vault.ModeLocal}) // clients may not create merchants, an import does
	card := n.old("c1", "old-reference", visa)
	card.ExpiresAt = vault.MicrosOf(n.clock.now().AddDate(1, 0, 0))
	data := vault.ImportRecord{Tenant: "acme", Holder: "m1", Space: vault.SpaceV1, Customer: "c1", Reference: "r2", Data: text("0a0b"), CreatedAt: card.CreatedAt}
	value := vault.ImportRecord{Tenant: "acme", Holder: "e1", Space: vault.SpaceV2, Reference: "v", Data: text(`{"b":1,"a":2}`), CreatedAt: card.CreatedAt}
	late := n.old("c1", "late", mastercard)
	late.ExpiresAt = vault.MicrosOf(n.clock.now()) - 1
	all := []vault.ImportRecord{card, data, value, late}

	for _, step := range []struct {
		check bool
		want  vault.Imported
	}{{true, vault.ImportAbsent}, {false, vault.ImportDone}, {false, vault.ImportPresent}, {true, vault.ImportPresent}} {
		got := n.imports(t, step.check, all...)
		for i := range 3 {
			if got[i] != step.want {
				t.Errorf("record %d is %s, want %s", i, got[i], step.want)
			}
		}
		if got[3] != vault.ImportExpired {
			t.Errorf("the expired record is %s", got[3])
		}
	}
	c, err := n.RetrieveCard(t.Context(), client("acme"), vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c1"}, "old-reference")
	if err != nil || string(c.Card.Nick.Expose()) != "mine" || c.Card.Name.Present() {
		t.Errorf("retrieve: %v, or another card", err)
	}
	v, err := n.RetrieveData(t.Context(), client("acme"), vault.Datum{Tenant: "acme", Entity: "e1", VaultID: "v"})
	if err != nil || string(v.Expose()) != `{"b":1,"a":2}` {
		t.Errorf("retrieve value: %v, or another", err)
	}
	// A store of the same card finds the imported one, and it still expires in time.
	r, err := n.StoreCard(t.Context(), client("acme"), vault.StoreCardRequest{Owner: vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c1"}, Card: &vault.CardInput{Number: text(visa), Nick: text("mine")}})
	if err != nil || r.Reference != "old-reference" || r.Duplication != vault.Duplicated {
		t.Errorf("store: %+v, %v", r, err)
	}
	n.clock.pass(366 * 24 * 3600e9)
	if _, err := n.RetrieveCard(t.Context(), client("acme"), vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c1"}, "old-reference"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("after its time: %v", err)
	}
}

// The peer let an owner have a card twice, until 2026-07.
func TestImportKeepsBothReferencesOfACard(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	a, b := n.old("c1", "first", visa), n.old("c1", "second", visa)
	for _, want := range []vault.Imported{vault.ImportDone, vault.ImportPresent} {
		for _, r := range []vault.ImportRecord{a, b} {
			if got := n.imports(t, false, r); got[0] != want {
				t.Errorf("%s is %s, want %s", r.Reference, got[0], want)
			}
		}
	}
	for _, reference := range []string{"first", "second"} {
		c, err := n.RetrieveCard(t.Context(), client("acme"), vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c1"}, reference)
		if err != nil || string(c.Card.Number.Received().Expose()) != visa {
			t.Errorf("%s: %v, or another card", reference, err)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	good := n.old("c1", "r", visa)
	n.imports(t, false, good)
	for what, change := range map[string]struct {
		change func(*vault.ImportRecord)
		want   string
	}{
		"other card":     {func(r *vault.ImportRecord) { r.Card = &vault.CardInput{Number: text(mastercard)} }, "reference r: reference is in use for other data"},
		"other fields":   {func(r *vault.ImportRecord) { r.Card = &vault.CardInput{Number: text(visa)} }, "reference r: reference is in use for other data"},
		"other expiry":   {func(r *vault.ImportRecord) { r.ExpiresAt = 1 << 60 }, "reference r: reference is in use for other data"},
		"other kind":     {func(r *vault.ImportRecord) { r.Card, r.Data = nil, text("x") }, "reference r: reference is in use for other data"},
		"no Luhn digit":  {func(r *vault.ImportRecord) { r.Card = &vault.CardInput{Number: text("4111111111111112")} }, "card_number: card number invalid"},
		"nothing":        {func(r *vault.ImportRecord) { r.Card = nil }, "card: neither card nor enc_card_data is given"},
		"no reference":   {func(r *vault.ImportRecord) { r.Reference = "" }, "card_reference: must not be empty"},
		"no merchant":    {func(r *vault.ImportRecord) { r.Holder = "" }, "merchant_id: must not be empty"},
		"no time":        {func(r *vault.ImportRecord) { r.CreatedAt = 0 }, "created_at: must be after 1970"},
		"no space":       {func(r *vault.ImportRecord) { r.Space = 0 }, "space: must be v1 or v2"},
		"card in v2":     {func(r *vault.ImportRecord) { r.Space, r.Customer = vault.SpaceV2, "" }, "data: must be a JSON value of at most 1048576 bytes"},
		"unknown tenant": {func(r *vault.ImportRecord) { r.Tenant = "other" }, `tenant "other": unknown tenant`},
	} {
		r := good
		change.change(&r)
		got := n.Import(t.Context(), operator(), []vault.ImportRecord{r}, false)
		if got[0].Err == nil || got[0].Err.Error() != change.want || got[0].Imported != "" {
			t.Errorf("%s: got %v, want %s", what, got[0].Err, change.want)
		}
	}
	if got := n.Import(t.Context(), client("other"), []vault.ImportRecord{good}, false); !errors.Is(got[0].Err, vault.ErrDenied) {
		t.Errorf("another tenant's client: %v", got[0].Err)
	}
}

func TestImportedFingerprintsAreFoundByTheirData(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	f := vault.ImportFingerprint{ID: "aB3aB3aB3aB3aB3aB3aB"}
	copy(f.Hash[:], vault.LockerFingerprint([]byte("key"), []byte(visa)))
	for _, step := range []struct {
		check bool
		want  vault.Imported
	}{{true, vault.ImportAbsent}, {false, vault.ImportDone}, {false, vault.ImportPresent}, {true, vault.ImportPresent}} {
		if got := n.ImportFingerprints(t.Context(), operator(), "acme", []vault.ImportFingerprint{f}, step.check)[0]; got.Err != nil || got.Imported != step.want {
			t.Errorf("got %+v, want %s", got, step.want)
		}
	}
	if got := fingerprint(t, n.Service, "acme", visa, "key", ""); got != f.ID {
		t.Errorf("the client gets %s", got)
	}
	for id, want := range map[string]string{
		"other": "fingerprint other: reference is in use for other data",
		"":      "fingerprint_id: must be 1 to 64 printable ASCII characters",
		"a b":   "fingerprint_id: must be 1 to 64 printable ASCII characters",
	} {
		g := f
		g.ID = id
		if got := n.ImportFingerprints(t.Context(), operator(), "acme", []vault.ImportFingerprint{g}, false)[0]; got.Err == nil || got.Err.Error() != want {
			t.Errorf("got %v, want %s", got.Err, want)
		}
	}
}
