package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/vault"
)

func testMasterSeal(t *testing.T, url string) {
	s := Open(t, url)
	if _, err := s.MasterSeal(t.Context(), "public"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("no seal: %v", err)
	}
	seal := func(generation int) vault.MasterSeal {
		return vault.MasterSeal{Tenant: "public", Generation: generation, Blob: []byte(fmt.Sprint("seal ", generation)), CreatedAt: vault.Micros(generation)}
	}
	for _, c := range []struct {
		generation int
		want       error
		stands     int
	}{{2, vault.ErrConflict, 0}, {1, nil, 1}, {1, vault.ErrConflict, 1}, {3, vault.ErrConflict, 1}, {2, nil, 2}, {3, nil, 3}, {2, vault.ErrConflict, 3}} {
		size := entries(t, s)
		err := s.Update(t.Context(), func(tx vault.CustodyTx) error {
			tx.Append(Entry(t, "seal"))
			return tx.PutMasterSeal(seal(c.generation))
		})
		if !errors.Is(err, c.want) {
			t.Errorf("generation %d: %v, want %v", c.generation, err, c.want)
		}
		if wrote := entries(t, s) - size; wrote != map[bool]int64{true: 1}[err == nil] {
			t.Errorf("generation %d: %d entries, error %v", c.generation, wrote, err)
		}
		if c.stands > 0 {
			if got := must[vault.MasterSeal](t)(s.MasterSeal(t.Context(), "public")); fmt.Sprint(got) != fmt.Sprint(seal(c.stands)) {
				t.Errorf("seal %+v, want generation %d", got, c.stands)
			}
		}
	}
}

func testCredentials(t *testing.T, url string) {
	s := Open(t, url)
	cred := func(name string, expires time.Time) custodian.Credential {
		return custodian.Credential{
			Tenant: "public", Name: name, TokenHash: [32]byte{1, byte(len(name))}, ShareIndex: len(name),
			CreatedAt: time.UnixMicro(1790000000123456).UTC(), ExpiresAt: expires,
		}
	}
	put := func(tenant string, cs ...custodian.Credential) {
		t.Helper()
		err := s.Update(t.Context(), func(tx vault.CustodyTx) error {
			tx.Append(Entry(t, "credentials"))
			return tx.PutCredentials(tenant, cs)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(tenant string, cs ...custodian.Credential) {
		t.Helper()
		got := must[[]custodian.Credential](t)(s.Credentials(t.Context(), tenant))
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", cs) {
			t.Errorf("credentials of %s\n got %+v\nwant %+v", tenant, got, cs)
		}
	}
	ann, bob, cy := cred("ann", time.Time{}), cred("bobby", time.UnixMicro(1790000000654321).UTC()), cred("cy", time.Time{})
	want("public")
	put("public", bob, ann)
	want("public", ann, bob)
	want("other")
	put("public", cy)
	want("public", cy)
	put("public")
	want("public")
}

func testUpdateRollback(t *testing.T, url string) {
	s := Open(t, url)
	mine := errors.New("mine")
	change := func(tx vault.CustodyTx) error {
		tx.Append(Entry(t, "update"))
		return errors.Join(tx.PutMasterSeal(vault.MasterSeal{Tenant: "public", Generation: 1, Blob: []byte("seal")}),
			tx.PutCredentials("public", []custodian.Credential{{Name: "ann"}}))
	}
	for name, c := range map[string]struct {
		fn   func(vault.CustodyTx) error
		want func(error) bool
	}{
		"fn fails": {func(tx vault.CustodyTx) error {
			return errors.Join(change(tx), mine)
		}, func(err error) bool { return errors.Is(err, mine) && !errors.Is(err, vault.ErrUnavailable) }},
		"no entry": {func(tx vault.CustodyTx) error {
			return tx.PutMasterSeal(vault.MasterSeal{Tenant: "public", Generation: 1, Blob: []byte("seal")})
		}, func(err error) bool {
			return err != nil && err.Error() == "change of custody without an audit entry"
		}},
		"fn panics": {func(tx vault.CustodyTx) error {
			must[struct{}](t)(struct{}{}, change(tx))
			panic("at the disco")
		}, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "panic in a transaction")
		}},
		"database refuses": {func(tx vault.CustodyTx) error {
			err := tx.PutCredentials("public", []custodian.Credential{{Name: "ann"}, {Name: "ann"}})
			if err == nil {
				t.Error("same name twice")
			}
			if again := change(tx); again == nil {
				t.Error("a transaction that is broken went on")
			}
			return nil // what it did not do, it cannot have forgotten
		}, func(err error) bool { return err != nil && !errors.Is(err, vault.ErrUnavailable) }},
		"text": {func(tx vault.CustodyTx) error {
			return tx.PutMasterSeal(vault.MasterSeal{Tenant: "nul\x00", Generation: 1})
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "NUL") }},
	} {
		if err := s.Update(t.Context(), c.fn); !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.MasterSeal(t.Context(), "public"); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s: seal is there: %v", name, err)
		}
		if cs, err := s.Credentials(t.Context(), "public"); len(cs) != 0 || err != nil {
			t.Errorf("%s: credentials %v, %v", name, cs, err)
		}
		if got := entries(t, s); got != 0 {
			t.Errorf("%s: %d entries", name, got)
		}
	}
	if err := s.Update(t.Context(), change); err != nil {
		t.Errorf("after failures: %v", err)
	}
	Verify(t, s)
}
