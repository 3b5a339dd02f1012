package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"cardea/internal/kms"
)

func testAlias(t *testing.T, s KeyStoreUnderTest) {
	a, b := Key(), Key()
	PutKey(t, s, a, b)
	put := func(name, key string, replace bool) error {
		return tryUpdate(t, s, func(tx kms.Tx) error {
			return tx.PutAlias(t.Context(), &kms.Alias{Account: Account, Region: Region, Name: name, KeyID: key}, replace)
		})
	}
	del := func(name string) error {
		return tryUpdate(t, s, func(tx kms.Tx) error { return tx.DeleteAlias(t.Context(), Account, Region, name) })
	}
	for i, c := range []struct {
		err, want error
		key       string // of alias/x then
	}{
		{put("alias/x", a.ID, true), kms.ErrChanged, ""},
		{del("alias/x"), kms.ErrChanged, ""},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("before there is one, %d: %v", i, c.err)
		}
	}
	for i, c := range []struct {
		do   func() error
		want error
		key  string
	}{
		{func() error { return put("alias/x", Key().ID, false) }, kms.ErrChanged, ""}, // of no key
		{func() error { return put("alias/x", a.ID, false) }, nil, a.ID},
		{func() error { return put("alias/x", b.ID, false) }, kms.ErrChanged, a.ID},
		{func() error { return put("alias/x", Key().ID, true) }, kms.ErrChanged, a.ID},
		{func() error { return put("alias/x", b.ID, true) }, nil, b.ID},
		{func() error { return del("alias/y") }, kms.ErrChanged, b.ID},
		{func() error { return del("alias/x") }, nil, ""},
		{func() error { return put("alias/x", a.ID, false) }, nil, a.ID},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
		got, err := s.Alias(t.Context(), Account, Region, "alias/x")
		if c.key == "" && !errors.Is(err, kms.ErrNoRow) || c.key != "" && (err != nil || got.KeyID != c.key) {
			t.Errorf("step %d: %+v, %v; want key %q", i, got, err, c.key)
		}
	}
}

func testAliasPages(t *testing.T, s KeyStoreUnderTest) {
	a, b, abroad := Key(), Key(), Key()
	abroad.Region = "us-east-1"
	PutKey(t, s, a, b, abroad)
	var all, of []string
	update(t, s, func(tx kms.Tx) error {
		all, of = nil, nil
		for i, name := range []string{"alias/z", "alias/B", "alias/a", "alias/aa", "alias/a/b", "alias/_", "alias/0"} {
			k := []*kms.Key{a, b}[i%2]
			if k == a {
				of = append(of, name)
			}
			all = append(all, name)
			err := errors.Join(tx.PutAlias(t.Context(), &kms.Alias{Account: Account, Region: Region, Name: name, KeyID: k.ID}, false),
				tx.PutAlias(t.Context(), &kms.Alias{Account: Account, Region: abroad.Region, Name: name, KeyID: abroad.ID}, false))
			if err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(all) // by their bytes
	slices.Sort(of)
	name := func(a kms.Alias) string { return a.Name }
	pages(t, "aliases", name, func(after string, limit int) ([]kms.Alias, error) {
		return s.Aliases(t.Context(), Account, Region, after, limit)
	}, all)
	pages(t, "aliases of a key", name, func(after string, limit int) ([]kms.Alias, error) {
		return s.AliasesOf(t.Context(), a.KeyRef, after, limit)
	}, of)
}

func testGrant(t *testing.T, s KeyStoreUnderTest) {
	k, other := Key(), Key()
	PutKey(t, s, k, other)
	g := Grant(k.KeyRef)
	put := func(g *kms.Grant) error {
		return tryUpdate(t, s, func(tx kms.Tx) error { return tx.PutGrant(t.Context(), g) })
	}
	del := func(ref kms.KeyRef, id string) error {
		return tryUpdate(t, s, func(tx kms.Tx) error { return tx.DeleteGrant(t.Context(), ref, id) })
	}
	for i, c := range []struct {
		do   func() error
		want error
	}{
		{func() error { return put(Grant(Key().KeyRef)) }, kms.ErrChanged}, // of no key
		{func() error { return put(g) }, nil},
		{func() error { return put(g) }, kms.ErrChanged},
		{func() error { return del(other.KeyRef, g.ID) }, kms.ErrChanged},
		{func() error { return del(k.KeyRef, g.ID) }, nil},
		{func() error { return del(k.KeyRef, g.ID) }, kms.ErrChanged},
		{func() error { return put(g) }, nil},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
	}
	same(t, "grant", must[*kms.Grant](t)(s.Grant(t.Context(), k.KeyRef, g.ID)), g)
	if _, err := s.Grant(t.Context(), other.KeyRef, g.ID); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("grant of another key: %v", err)
	}
}

func testGrantFilters(t *testing.T, s KeyStoreUnderTest) {
	k, other := Key(), Key()
	PutKey(t, s, k, other)
	want := map[kms.GrantFilter][]string{}
	update(t, s, func(tx kms.Tx) error {
		clear(want)
		for i := range 24 {
			g := Grant(k.KeyRef)
			g.Grantee, g.Name = fmt.Sprint("grantee", i%3), []string{"", "one", "two"}[i/3%3]
			for _, f := range []kms.GrantFilter{{}, {Grantee: g.Grantee}, {Name: g.Name}, {Grantee: g.Grantee, Name: g.Name}} {
				if f.Name == g.Name && g.Name != "" || f.Name == "" && (f.Grantee != "" || f == kms.GrantFilter{}) && !slices.Contains(want[f], g.ID) {
					want[f] = append(want[f], g.ID)
				}
			}
			elsewhere := *g
			elsewhere.Key = other.KeyRef
			if err := errors.Join(tx.PutGrant(t.Context(), g), tx.PutGrant(t.Context(), &elsewhere)); err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(want); n != 1+3+2+6 {
		t.Fatalf("%d filters", n)
	}
	want[kms.GrantFilter{Grantee: "grantee"}], want[kms.GrantFilter{Name: "on"}], want[kms.GrantFilter{Grantee: "grantee0", Name: "three"}] = nil, nil, nil
	for f, ids := range want {
		slices.Sort(ids)
		pages(t, fmt.Sprintf("grants by %+v", f), func(g kms.Grant) string { return g.ID }, func(after string, limit int) ([]kms.Grant, error) {
			return s.Grants(t.Context(), k.KeyRef, f, after, limit)
		}, ids)
	}
	if gs := must[[]kms.Grant](t)(s.Grants(t.Context(), Key().KeyRef, kms.GrantFilter{}, "", 9)); len(gs) != 0 {
		t.Errorf("grants of a key that is not there: %v", gs)
	}
}

func testRetirable(t *testing.T, s KeyStoreUnderTest) {
	a, b, abroad := Key(), Key(), Key()
	abroad.Region = "us-east-1"
	PutKey(t, s, a, b, abroad)
	want := map[string][]string{}
	update(t, s, func(tx kms.Tx) error {
		clear(want)
		for i := range 20 {
			k := []*kms.Key{a, b, abroad}[i%3]
			g := Grant(k.KeyRef)
			if i < 18 {
				g.Retiring = fmt.Sprint("arn:aws:iam::111122223333:role/r", i%2)
			}
			if k != abroad {
				want[g.Retiring] = append(want[g.Retiring], g.ID)
			}
			if err := tx.PutGrant(t.Context(), g); err != nil {
				return err
			}
		}
		return nil
	})
	for principal, ids := range want {
		if slices.Sort(ids); principal == "" {
			continue // nobody retires those
		}
		pages(t, "retirable by "+principal, func(g kms.Grant) string { return g.ID }, func(after string, limit int) ([]kms.Grant, error) {
			return s.Retirable(t.Context(), Account, Region, principal, after, limit)
		}, ids)
	}
}

func testManyGrants(t *testing.T, s KeyStoreUnderTest) {
	const callers, each = 64, 5
	k := Key()
	PutKey(t, s, k)
	size := s.Entries(t)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				g := Grant(k.KeyRef)
				err := tryUpdate(t, s, func(tx kms.Tx) error {
					if _, err := tx.CountGrants(t.Context(), k.KeyRef); err != nil {
						return err
					}
					return tx.PutGrant(t.Context(), g)
				})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Grant(t.Context(), k.KeyRef, g.ID); err != nil {
					t.Errorf("own grant: %v", err)
				}
				if err := s.Append(t.Context(), Entry(t, "beside")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if gs := must[[]kms.Grant](t)(s.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 1000)); len(gs) != callers*each {
		t.Errorf("%d grants, want %d", len(gs), callers*each)
	}
	update(t, s, func(tx kms.Tx) error {
		if n, err := tx.CountGrants(t.Context(), k.KeyRef); n != callers*each || err != nil {
			t.Errorf("%d grants by their count, want %d; %v", n, callers*each, err)
		}
		return nil
	})
	if got, want := s.Entries(t)-size, int64(2*callers*each+1); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}
