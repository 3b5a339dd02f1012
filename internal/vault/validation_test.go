package vault_test

import (
	"errors"
	"strings"
	"testing"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

func checkInvalid(t testing.TB, err error, field, reason string) {
	t.Helper()
	var v *vault.ValidationError
	if !errors.As(err, &v) || v.Field != field || v.Reason != reason || err.Error() != field+": "+reason {
		t.Errorf("got %v, want %s: %s", err, field, reason)
	}
}

func TestIDsAreRefusedWithTheirName(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	who := client("acme")
	fields := map[string]func(id string) error{
		"merchant_id": func(id string) error {
			_, err := v.StoreCard(t.Context(), who, cardOf(vault.Owner{Tenant: "acme", Merchant: id, Customer: "c"}, visa, ""))
			return err
		},
		"merchant_customer_id": func(id string) error {
			_, err := v.RetrieveCard(t.Context(), who, vault.Owner{Tenant: "acme", Merchant: "m", Customer: id}, "r")
			return err
		},
		"card_reference": func(id string) error { return v.DeleteCard(t.Context(), who, owner, id) },
		"requestor_card_reference": func(id string) error {
			if id == "" {
				return &vault.ValidationError{Field: "requestor_card_reference", Reason: "must not be empty"} // is none
			}
			r := cardOf(owner, visa, "")
			r.Reference = id
			_, err := v.StoreCard(t.Context(), who, r)
			return err
		},
		"entity_id": func(id string) error {
			return v.StoreData(t.Context(), who, vault.Datum{Tenant: "acme", Entity: id, VaultID: "v"}, text("1"), nil, false)
		},
		"vault_id": func(id string) error {
			_, err := v.RetrieveData(t.Context(), who, vault.Datum{Tenant: "acme", Entity: "e", VaultID: id})
			return err
		},
	}
	long := strings.Repeat("ü", vault.MaxID)
	for field, call := range fields {
		from := v.Store.Len()
		checkInvalid(t, call(""), field, "must not be empty")
		checkInvalid(t, call("a\x00b"), field, "must not contain a NUL character")
		checkInvalid(t, call("a\xffb"), field, "must be UTF-8")
		checkInvalid(t, call(long+"ü"), field, "longer than 255 characters")
		for _, e := range since(t, v.Store, from) {
			if e.Outcome != "failed" || e.Result != "invalid" {
				t.Errorf("%s: entry says %s", field, told(e))
			}
		}
		if err := call(long); err != nil && !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s of 255 characters: %v", field, err)
		}
	}
	_, err := v.ProvisionHolder(t.Context(), who, "acme", "")
	checkInvalid(t, err, "entity_id", "must not be empty")
	checkInvalid(t, v.DeleteData(t.Context(), who, vault.Datum{Tenant: "acme", Entity: "e"}), "vault_id", "must not be empty")
	checkInvalid(t, v.DeleteCard(t.Context(), who, vault.Owner{Tenant: "acme"}, ""), "merchant_id", "must not be empty")
}

// The longest ids must fit into a record and into the real store.
func TestLongestIDsAreStored(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	long := strings.Repeat("𝄞", vault.MaxID)
	o := vault.Owner{Tenant: "acme", Merchant: long, Customer: long}
	r := cardOf(o, visa, "")
	r.Reference = long
	mustStore(t, n.Service, r)
	checkNumber(t, n.Service, o, long, visa)
	d := vault.Datum{Tenant: "acme", Entity: long, VaultID: long}
	if err := n.StoreData(t.Context(), client("acme"), d, text("1"), nil, false); err != nil {
		t.Fatal(err)
	}
	if v, err := n.RetrieveData(t.Context(), client("acme"), d); err != nil || !v.Equal(text("1")) {
		t.Errorf("retrieve: %v", err)
	}
}

func TestCardsAreRefusedWithTheNameOfTheField(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	long := secret.New(make([]byte, vault.MaxCardField+1))
	for _, tc := range []struct {
		card          *vault.CardInput
		data          secret.Bytes
		field, reason string
	}{
		{nil, secret.Bytes{}, "card", "neither card nor enc_card_data is given"},
		{&vault.CardInput{}, secret.Bytes{}, "card_number", "invalid card number length"},
		{&vault.CardInput{Number: text("4111x")}, secret.Bytes{}, "card_number", "invalid character found in card number"},
		{&vault.CardInput{Number: text("4111111111111112")}, secret.Bytes{}, "card_number", "card number invalid"},
		{&vault.CardInput{Number: text(visa), Name: long}, secret.Bytes{}, "name_on_card", "longer than 1024 bytes"},
		{&vault.CardInput{Number: text(visa), ExpMonth: long}, secret.Bytes{}, "card_exp_month", "longer than 1024 bytes"},
		{&vault.CardInput{Number: text(visa), ExpYear: long}, secret.Bytes{}, "card_exp_year", "longer than 1024 bytes"},
		{&vault.CardInput{Number: text(visa), Brand: long}, secret.Bytes{}, "card_brand", "longer than 1024 bytes"},
		{&vault.CardInput{Number: text(visa), ISIN: long}, secret.Bytes{}, "card_isin", "longer than 1024 bytes"},
		{&vault.CardInput{Number: text(visa), Nick: long}, secret.Bytes{}, "nick_name", "longer than 1024 bytes"},
		{nil, secret.New(make([]byte, vault.MaxData+1)), "enc_card_data", "longer than 1048576 bytes"},
	} {
		from := v.Store.Len()
		_, err := v.StoreCard(t.Context(), client("acme"), vault.StoreCardRequest{Owner: owner, Card: tc.card, Data: tc.data})
		checkInvalid(t, err, tc.field, tc.reason)
		if e := only(t, since(t, v.Store, from)); told(e) != "card.store failed invalid" || e.Detail != tc.field+": "+tc.reason {
			t.Errorf("entry says %s, %q", told(e), e.Detail)
		}
		if n := v.Store.Len() - from; n != 1 {
			t.Errorf("%s: %d entries: something was made for a request that is refused", tc.field, n)
		}
	}
}

func TestValuesAreRefusedWithTheNameOfTheField(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	d := vault.Datum{Tenant: "acme", Entity: "e", VaultID: "v"}
	for reason, value := range map[string]secret.Bytes{
		"must be a JSON value":       {},
		"longer than 1048576 bytes":  secret.New(make([]byte, vault.MaxData+1)),
		"must be a JSON value\x00":   text(""),
		"longer than 1048576 bytes ": secret.New(make([]byte, 2*vault.MaxData)),
	} {
		checkInvalid(t, v.StoreData(t.Context(), client("acme"), d, value, nil, true), "data", strings.TrimRight(reason, "\x00 "))
	}
	if err := v.StoreData(t.Context(), client("acme"), d, secret.New(make([]byte, vault.MaxData)), nil, true); err != nil {
		t.Error(err)
	}
}

func TestFingerprintIDsAreRefused(t *testing.T) {
	t.Parallel()
	v, _ := newFake(t, "acme")
	for _, id := range []string{"short", strings.Repeat("a", 19), strings.Repeat("a", 21), strings.Repeat("a", 19) + "-", strings.Repeat("a", 18) + "ü", strings.Repeat("a", 19) + " "} {
		if vault.ValidFingerprintID(id) {
			t.Errorf("%q is valid", id)
		}
		_, err := v.Fingerprint(t.Context(), client("acme"), vault.FingerprintRequest{Tenant: "acme", Data: text("x"), Key: text("k"), Wanted: id})
		checkInvalid(t, err, "x-fingerprint-id", "must be exactly 20 alphanumeric characters")
	}
	if !vault.ValidFingerprintID("abcdefghijABCDEFGHIJ"[:10] + "0123456789") {
		t.Error("20 letters and digits are not valid")
	}
}

func TestNewServiceRefusesACacheOfNegativeSize(t *testing.T) {
	t.Parallel()
	if _, err := vault.NewService(vault.Options{HolderCache: -1}); err == nil || !strings.HasPrefix(err.Error(), "holder cache: ") {
		t.Errorf("got %v", err)
	}
}
