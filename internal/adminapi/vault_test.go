package adminapi_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cardea/internal/adminapi"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// startKeys is the socket of a vault in memory with one card of merchant m.
func startKeys(t *testing.T) (*vaulttest.Store, *adminapi.Client) {
	t.Helper()
	v := vaulttest.New(t, nil, nil, "acme")
	keys := vaulttest.NewKeys(v.Gate, v.Store)
	s, err := vault.NewService(vault.Options{Gate: v.Gate, Store: v.Store, Keys: keys, Custodians: v.Custodians})
	if err != nil {
		t.Fatal(err)
	}
	v.Service.Close()
	t.Cleanup(s.Close)
	if _, err := s.StoreCard(t.Context(), iam.Principal{Type: iam.TypeOperator, Name: "test", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}, vault.StoreCardRequest{
		Owner: vault.Owner{Tenant: "acme", Merchant: "m", Customer: "c"}, Card: &vault.CardInput{Number: secret.Copy([]byte("4111111111111111"))},
	}); err != nil {
		t.Fatal(err)
	}
	a := vault.NewKeyAdmin(vault.KeyAdminOptions{Gate: v.Gate, Service: s, Store: v.Store, Keys: keys, Custodians: v.Custodians})
	dir, err := os.MkdirTemp("", "cardea") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server, err := adminapi.Listen(adminapi.Options{
		Path: filepath.Join(dir, "v"), VaultKeys: a, Logger: slog.New(slog.DiscardHandler),
		VaultStatus: func(context.Context) *adminapi.VaultStatus {
			return &adminapi.VaultStatus{Node: "n", Tenants: []string{"acme"}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- server.Serve(ctx) }()
	go func() { a.Run(ctx); done <- nil }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
	})
	return v.Store, adminapi.NewClient(filepath.Join(dir, "v"))
}

func TestAnOperatorReplacesAKeyOverTheSocket(t *testing.T) {
	t.Parallel()
	store, client := startKeys(t)
	call := func(op string, in, out any) {
		t.Helper()
		if err := client.Call(t.Context(), op, in, out); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	var j adminapi.Job
	call("vault/Rotate", &vault.JobRequest{Tenant: "acme", Holder: "m", Keep: true, Verify: true}, &j)
	for !j.Ended() && t.Context().Err() == nil {
		call("vault/Job", &adminapi.JobID{ID: j.ID}, &j)
	}
	if j.State != vault.JobDone || j.Moved != 1 || j.Verified != 1 || j.Done.IsZero() || j.Created.IsZero() {
		t.Errorf("%+v", j)
	}
	var keys adminapi.List[vault.KeyInfo]
	call("vault/Keys", &vault.KeyQuery{Tenant: "acme", Holder: "m", Count: true}, &keys)
	if len(keys.Items) != 2 || keys.Items[0].State != vault.KeyDecryptOnly || keys.Items[1].Records != 1 {
		t.Errorf("%+v", keys.Items)
	}
	var jobs adminapi.List[*adminapi.Job]
	call("vault/Jobs", &adminapi.TenantReason{}, &jobs)
	if len(jobs.Items) != 1 || jobs.Items[0].ID != j.ID {
		t.Errorf("%+v", jobs.Items)
	}
	call("vault/Suspend", &adminapi.TenantReason{Tenant: "acme", Reason: "r"}, nil)
	call("vault/Resume", &adminapi.TenantReason{Tenant: "acme", Reason: "r"}, nil)
	entries, err := store.Entries(0)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, e := range entries {
		if e.Who.Type == "operator" && e.Who.Auth == "socket" && e.Who.Name != "" && e.RequestID != "" {
			named++
		}
	}
	if named < 5 {
		t.Errorf("%d entries name the operator", named)
	}
}

func TestRefusalsOfTheVaultsSocket(t *testing.T) {
	t.Parallel()
	store, client := startKeys(t)
	for name, c := range map[string]struct {
		op   string
		in   any
		code string
		text string
	}{
		"the key service's": {"identity/ListAccounts", struct{}{}, "UnknownOperation", "This release has no operation /identity/ListAccounts"},
		"unknown member":    {"vault/Rotate", struct{ Tenent string }{"a"}, "ValidationError", "The request cannot be read: "},
		"unknown tenant":    {"vault/Keys", vault.KeyQuery{Tenant: "x"}, "UnknownTenant", `tenant "x": unknown tenant`},
		"invalid":           {"vault/Shred", vault.JobRequest{Tenant: "acme", Holder: "m"}, "ValidationError", "reason: must not be empty"},
		"refused":           {"vault/Rotate", vault.JobRequest{Tenant: "acme", Holder: "x"}, "Refused", "tenant acme has no key of x"},
		"not found":         {"vault/Job", adminapi.JobID{ID: "x"}, "NotFound", "job x: not found"},
	} {
		var e *adminapi.Error
		if err := client.Call(t.Context(), c.op, c.in, nil); !errors.As(err, &e) || e.Code != c.code || !strings.HasPrefix(e.Message, c.text) {
			t.Errorf("%s: got %v, want %s %q", name, err, c.code, c.text)
		}
	}
	store.FailWith(func(string) error { return errors.New("gone") })
	var e *adminapi.Error
	if err := client.Call(t.Context(), "vault/Keys", vault.KeyQuery{Tenant: "acme"}, nil); !errors.As(err, &e) || e.Code != "ServiceUnavailable" {
		t.Errorf("without a database: %v", err)
	}
	store.FailWith(nil)
	long := "/tmp/" + strings.Repeat("x", 120)
	if _, err := adminapi.Listen(adminapi.Options{Path: long, VaultKeys: &vault.KeyAdmin{}}); err == nil || !strings.Contains(err.Error(), "set a shorter vault.admin_socket") {
		t.Errorf("got %v", err)
	}
}
