package adminapi_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

func startVault(t *testing.T) (*vaulttest.Vault, *adminapi.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := vaulttest.New(t, nil, nil, "acme")
	t.Cleanup(v.Close)
	s, err := adminapi.Listen(adminapi.Options{Path: filepath.Join(dir, "v.sock"), Vault: v.Service, VaultKeys: &vault.KeyAdmin{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v, adminapi.NewClient(filepath.Join(dir, "v.sock"))
}

func text(s string) secret.Bytes { return secret.New([]byte(s)) }

func TestImportThroughTheSocket(t *testing.T) {
	v, c := startVault(t)
	at := vault.MicrosOf(time.Now().Add(-time.Hour))
	big := strings.Repeat(`"<\u0001>`, 100_000) // text that grows when it is encoded
	rs := []vault.ImportRecord{
		{Tenant: "acme", Holder: "m1", Space: vault.SpaceV1, Customer: "c", Reference: "r1", CreatedAt: at, ExpiresAt: at + 1<<50, Card: &vault.CardInput{Number: text("4111 1111 1111 1111"), Nick: text("")}},
		{Tenant: "acme", Holder: "m1", Space: vault.SpaceV1, Customer: "c", Reference: "r2", CreatedAt: at, Data: text("0a0b")},
		{Tenant: "acme", Holder: "m1", Space: vault.SpaceV1, Customer: "c", Reference: "bad", CreatedAt: at, Card: &vault.CardInput{Number: text("4111111111111112")}},
	}
	for i := range 8 {
		rs = append(rs, vault.ImportRecord{Tenant: "acme", Holder: "e", Space: vault.SpaceV2, Reference: string(rune('a' + i)), CreatedAt: at, Data: text(`"` + big + `"`)})
	}
	for _, want := range []vault.Imported{vault.ImportDone, vault.ImportPresent} {
		got, err := c.Import(t.Context(), rs, false)
		if err != nil || len(got) != len(rs) {
			t.Fatalf("%d results, %v", len(got), err)
		}
		for i, r := range got {
			if i == 2 {
				if r.Err == nil || r.Err.Error() != "card_number: card number invalid" || r.Imported != "" {
					t.Errorf("bad card: %+v", r)
				}
			} else if r.Err != nil || r.Imported != want {
				t.Errorf("record %d: %+v, want %s", i, r, want)
			}
		}
	}
	client := iam.Principal{Type: iam.TypeTenant, Name: "shop", Tenant: "acme", Auth: "mtls", Merchants: []string{"*"}, Actions: []string{"*"}}
	card, err := v.RetrieveCard(t.Context(), client, vault.Owner{Tenant: "acme", Merchant: "m1", Customer: "c"}, "r1")
	if err != nil || string(card.Card.Number.Received().Expose()) != "4111 1111 1111 1111" || !card.Card.Nick.Present() || card.Card.Name.Present() {
		t.Errorf("card: %v, or another", err)
	}
	value, err := v.RetrieveData(t.Context(), client, vault.Datum{Tenant: "acme", Entity: "e", VaultID: "h"})
	if err != nil || string(value.Expose()) != `"`+big+`"` {
		t.Errorf("value: %v, or another", err)
	}

	rs[1].Data = text("other")
	got, err := c.Import(t.Context(), rs[1:2], false)
	if err != nil || !errors.Is(got[0].Err, vault.ErrConflict) || got[0].Err.Error() != "reference r2: reference is in use for other data" {
		t.Errorf("conflict: %+v, %v", got, err)
	}
	rs[1].Tenant = "nobody"
	if got, err = c.Import(t.Context(), rs[1:2], false); err != nil || !errors.Is(got[0].Err, vault.ErrUnknownTenant) {
		t.Errorf("unknown tenant: %+v, %v", got, err)
	}
	// The operator who imports is in the log.
	entries, err := v.Store.Entries(0)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range entries {
		found = found || e.Op == "record.import" && e.Result == "stored" && e.Who.Type == "operator" && e.Who.Name != "" && e.Who.Auth == "socket"
	}
	if !found {
		t.Error("no entry names the operator")
	}
}

func TestImportOfFingerprintsThroughTheSocket(t *testing.T) {
	_, c := startVault(t)
	fs := make([]vault.ImportFingerprint, 1500)
	for i := range fs {
		fs[i].ID = "fingerprint" + strings.Repeat("0", 9)
		fs[i].Hash[0], fs[i].Hash[63] = byte(i), byte(i>>8)
	}
	for _, want := range []vault.Imported{vault.ImportDone, vault.ImportPresent} {
		got, err := c.ImportFingerprints(t.Context(), "acme", fs, false)
		if err != nil || len(got) != len(fs) || slices.ContainsFunc(got, func(r vault.ImportResult) bool { return r.Err != nil || r.Imported != want }) {
			t.Errorf("%d results, %v", len(got), err)
		}
	}
	fs[0].ID = ""
	if got, err := c.ImportFingerprints(t.Context(), "acme", fs[:1], false); err != nil || got[0].Err == nil || got[0].Err.Error() != "fingerprint_id: must be 1 to 64 printable ASCII characters" {
		t.Errorf("%+v, %v", got, err)
	}
}
