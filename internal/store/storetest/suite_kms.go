package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/kms"
)

// RunKeyService tests a kms.Store: that of each database, and the one that tests of
// the key service have in its place. open gives a new, empty one.
func RunKeyService(t *testing.T, open func(testing.TB) KeyStoreUnderTest) {
	for name, test := range map[string]func(*testing.T, KeyStoreUnderTest){
		"RowsComeBackAsTheyWentIn":          testKeyServiceRoundTrip,
		"KeyIsReplacedInItsVersion":         testKeyVersions,
		"KeysAreListedInPages":              testKeyPages,
		"DeletedKeyTakesAllWithIt":          testDeleteKey,
		"AliasNamesOneKey":                  testAlias,
		"AliasesAreListedInPages":           testAliasPages,
		"GrantIsInsertedOnce":               testGrant,
		"GrantsAreFoundByWhatIsAsked":       testGrantFilters,
		"RetirableGrantsAreOfAllKeys":       testRetirable,
		"KeyStoreIsReplacedInItsVersion":    testKeyStoreVersions,
		"CountsFollowChanges":               testCounts,
		"LastUseIsTheLatest":                testUsage,
		"DueKeysComeEarliestFirst":          testDue,
		"ChangesAreTold":                    testChanges,
		"ChangesAreToldOnceInManyCalls":     testChangesCut,
		"TransactionThatFailsLeavesNothing": testKeyServiceRollback,
		"TransactionSeesItself":             testKeyServiceOwnWrites,
		"AppendWritesEntries":               testKeyServiceAppend,
		"ManyGrantsAtOnceAreAllThere":       testManyGrants,
		"OfManyChangesOfOneKeyOneIsFirst":   testManyVersions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func testKeyServiceRoundTrip(t *testing.T, s KeyStoreUnderTest) {
	k := Filled[kms.Key]()
	a, g, u, ks := Filled[kms.Alias](), Filled[kms.Grant](), Filled[kms.Usage](), Filled[kms.KeyStore]()
	a.Account, a.Region, a.KeyID, g.Key, u.Key = k.Account, k.Region, k.ID, k.KeyRef, k.KeyRef
	plain := &kms.Key{KeyRef: kms.KeyRef{Account: "a", Region: "r", ID: "id"}}
	update(t, s, func(tx kms.Tx) error {
		return errors.Join(tx.PutKey(t.Context(), k), tx.PutKey(t.Context(), plain), tx.PutAlias(t.Context(), a, false),
			tx.PutGrant(t.Context(), g), tx.PutKeyStore(t.Context(), ks))
	})
	if err := s.PutUsage(t.Context(), []kms.Usage{*u}); err != nil {
		t.Fatal(err)
	}
	if k.Version != 0 || ks.Version != 0 {
		t.Errorf("what was stored has been changed: versions %d and %d", k.Version, ks.Version)
	}
	k.Version, ks.Version, plain.Version = 1, 1, 1
	for _, want := range []*kms.Key{k, plain} {
		same(t, "key", must[*kms.Key](t)(s.Key(t.Context(), want.KeyRef)), want)
	}
	same(t, "alias", must[*kms.Alias](t)(s.Alias(t.Context(), a.Account, a.Region, a.Name)), a)
	same(t, "grant", must[*kms.Grant](t)(s.Grant(t.Context(), k.KeyRef, g.ID)), g)
	same(t, "usage", must[*kms.Usage](t)(s.Usage(t.Context(), k.KeyRef)), u)
	same(t, "key store", must[*kms.KeyStore](t)(s.KeyStore(t.Context(), ks.Account, ks.Region, ks.ID)), ks)
	same(t, "aliases", must[[]kms.Alias](t)(s.Aliases(t.Context(), a.Account, a.Region, "", 9)), []kms.Alias{*a})
	same(t, "grants", must[[]kms.Grant](t)(s.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 9)), []kms.Grant{*g})
	same(t, "key stores", must[[]kms.KeyStore](t)(s.KeyStores(t.Context(), ks.Account, ks.Region, "", 9)), []kms.KeyStore{*ks})
}

// testKeyServiceText is no test of a store in memory, which takes any text.
func testKeyServiceText(t *testing.T, s KeyStoreUnderTest) {
	k := Key()
	PutKey(t, s, k)
	size := s.Entries(t)
	for _, bad := range []string{"nul\x00", "\xff"} {
		other, a, g, ks := Key(), Filled[kms.Alias](), Grant(k.KeyRef), Filled[kms.KeyStore]()
		other.ID, a.Name, g.Name, ks.ID = bad, bad, bad, bad
		for i, put := range []func(kms.Tx) error{
			func(tx kms.Tx) error { return tx.PutKey(t.Context(), other) },
			func(tx kms.Tx) error { return tx.PutAlias(t.Context(), a, false) },
			func(tx kms.Tx) error { return tx.PutGrant(t.Context(), g) },
			func(tx kms.Tx) error { return tx.PutKeyStore(t.Context(), ks) },
		} {
			if err := tryUpdate(t, s, put); err == nil || errors.Is(err, kms.ErrUnavailable) ||
				!strings.Contains(err.Error(), "NUL") && !strings.Contains(err.Error(), "UTF-8") {
				t.Errorf("%q, put %d: %v", bad, i, err)
			}
		}
		ref := kms.KeyRef{Account: Account, Region: Region, ID: bad}
		_, err1 := s.Key(t.Context(), ref)
		_, err2 := s.Alias(t.Context(), Account, Region, bad)
		_, err3 := s.Grant(t.Context(), k.KeyRef, bad)
		_, err4 := s.KeyStore(t.Context(), Account, Region, bad)
		_, err5 := s.Usage(t.Context(), ref)
		for i, err := range []error{err1, err2, err3, err4, err5} {
			if !errors.Is(err, kms.ErrNoRow) {
				t.Errorf("%q, read %d: %v", bad, i, err)
			}
		}
		if gs, err := s.Grants(t.Context(), k.KeyRef, kms.GrantFilter{Grantee: bad}, "", 9); len(gs) != 0 || err != nil {
			t.Errorf("%q: grants %v, %v", bad, gs, err)
		}
		if refs, err := s.Keys(t.Context(), bad, Region, "", 9); len(refs) != 0 || err != nil {
			t.Errorf("%q: keys %v, %v", bad, refs, err)
		}
	}
	if got := s.Entries(t); got != size {
		t.Errorf("%d entries for nothing", got-size)
	}
}

func testKeyVersions(t *testing.T, s KeyStoreUnderTest) {
	k := Key()
	if _, err := s.Key(t.Context(), k.KeyRef); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("key that is not there: %v", err)
	}
	put := func(version int64, description string) error {
		c := k.Clone()
		c.Version, c.Description = version, description
		return tryUpdate(t, s, func(tx kms.Tx) error { return tx.PutKey(t.Context(), c) })
	}
	for i, c := range []struct {
		version int64
		want    error
		stands  int64
	}{{1, kms.ErrChanged, 0}, {0, nil, 1}, {0, kms.ErrChanged, 1}, {2, kms.ErrChanged, 1}, {1, nil, 2}, {1, kms.ErrChanged, 2}, {2, nil, 3}} {
		size := s.Entries(t)
		if err := put(c.version, fmt.Sprint("step ", i)); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
		if wrote := s.Entries(t) - size; wrote != map[bool]int64{true: 1}[c.want == nil] {
			t.Errorf("step %d: %d entries", i, wrote)
		}
		if c.want == nil {
			got := must[*kms.Key](t)(s.Key(t.Context(), k.KeyRef))
			if got.Version != c.stands || got.Description != fmt.Sprint("step ", i) {
				t.Errorf("step %d: version %d %q", i, got.Version, got.Description)
			}
		}
	}
	elsewhere := k.Clone()
	elsewhere.Region = "us-east-1"
	PutKey(t, s, elsewhere) // a replica has its primary's id
	if got := must[*kms.Key](t)(s.Key(t.Context(), elsewhere.KeyRef)); got.Version != 1 {
		t.Errorf("same id in another Region: version %d", got.Version)
	}
}

// pages reads a list in pages of each size, and compares.
func pages[T any](t *testing.T, what string, name func(T) string, read func(after string, limit int) ([]T, error), want []string) {
	t.Helper()
	for _, size := range []int{1, 2, 3, 100} {
		var got []string
		for after := ""; ; {
			page, err := read(after, size)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, v := range page {
				got = append(got, name(v))
			}
			if len(page) > size {
				t.Fatalf("%s: page of %d, limit %d", what, len(page), size)
			}
			if len(page) < size {
				break
			}
			after = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s in pages of %d\n got %q\nwant %q", what, size, got, want)
		}
	}
}

func testKeyPages(t *testing.T, s KeyStoreUnderTest) {
	var want []string
	for range 7 {
		k, abroad, other := Key(), Key(), Key()
		abroad.Region, other.Account = "us-east-1", "444455556666"
		PutKey(t, s, k, abroad, other)
		want = append(want, k.ID)
	}
	mrk := Key()
	mrk.ID = "mrk-" + strings.Repeat("0", 32)
	PutKey(t, s, mrk)
	want = append(want, mrk.ID)
	slices.Sort(want)
	id := func(r kms.KeyRef) string { return r.ID }
	read := func(after string, limit int) ([]kms.KeyRef, error) {
		return s.Keys(t.Context(), Account, Region, after, limit)
	}
	pages(t, "keys", id, read, want)
	update(t, s, func(tx kms.Tx) error { // in a transaction as outside
		pages(t, "keys", id, func(after string, limit int) ([]kms.KeyRef, error) {
			return tx.Keys(t.Context(), Account, Region, after, limit)
		}, want)
		return nil
	})
	if refs := must[[]kms.KeyRef](t)(s.Keys(t.Context(), "555555555555", Region, "", 9)); len(refs) != 0 {
		t.Errorf("keys of an account that has none: %v", refs)
	}
}

func testDeleteKey(t *testing.T, s KeyStoreUnderTest) {
	gone, stays := Key(), Key()
	PutKey(t, s, gone, stays)
	aliases := map[string]*kms.Key{"alias/a": gone, "alias/b": gone, "alias/c": stays}
	grants := map[*kms.Key]*kms.Grant{gone: Grant(gone.KeyRef), stays: Grant(stays.KeyRef)}
	update(t, s, func(tx kms.Tx) error {
		var errs error
		for name, k := range aliases {
			errs = errors.Join(errs, tx.PutAlias(t.Context(), &kms.Alias{Account: Account, Region: Region, Name: name, KeyID: k.ID}, false))
		}
		for _, g := range grants {
			errs = errors.Join(errs, tx.PutGrant(t.Context(), g))
		}
		return errs
	})
	use := func() {
		t.Helper()
		if err := s.PutUsage(t.Context(), []kms.Usage{{Key: gone.KeyRef, At: time.Unix(1, 0)}, {Key: stays.KeyRef, At: time.Unix(1, 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	use()
	update(t, s, func(tx kms.Tx) error { return tx.DeleteKey(t.Context(), gone.KeyRef) })
	use() // of a key that is gone nothing is kept
	for name, k := range aliases {
		if _, err := s.Alias(t.Context(), Account, Region, name); errors.Is(err, kms.ErrNoRow) != (k == gone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, k := range []*kms.Key{gone, stays} {
		_, err1 := s.Key(t.Context(), k.KeyRef)
		_, err2 := s.Grant(t.Context(), k.KeyRef, grants[k].ID)
		_, err3 := s.Usage(t.Context(), k.KeyRef)
		for i, err := range []error{err1, err2, err3} {
			if errors.Is(err, kms.ErrNoRow) != (k == gone) {
				t.Errorf("gone %v, read %d: %v", k == gone, i, err)
			}
		}
	}
	if err := tryUpdate(t, s, func(tx kms.Tx) error { return tx.DeleteKey(t.Context(), gone.KeyRef) }); !errors.Is(err, kms.ErrChanged) {
		t.Errorf("deleted twice: %v", err)
	}
	// The id is free again, with nothing of what it had.
	PutKey(t, s, gone)
	update(t, s, func(tx kms.Tx) error {
		if n, err := tx.CountGrants(t.Context(), gone.KeyRef); n != 0 || err != nil {
			t.Errorf("%d grants of a new key, %v", n, err)
		}
		if n, err := tx.CountKeys(t.Context(), Account, Region, ""); n != 2 || err != nil {
			t.Errorf("%d keys, %v; want 2", n, err)
		}
		return nil
	})
	if as := must[[]kms.Alias](t)(s.AliasesOf(t.Context(), gone.KeyRef, "", 9)); len(as) != 0 {
		t.Errorf("aliases of a new key: %v", as)
	}
}

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

func testKeyStoreVersions(t *testing.T, s KeyStoreUnderTest) {
	ks := &kms.KeyStore{Account: Account, Region: Region, ID: "cks-1234567890abcdef0", Name: "one", Type: kms.KeyStoreCloudHSM, CreatedAt: time.Unix(1, 0).UTC()}
	if _, err := s.KeyStore(t.Context(), Account, Region, ks.ID); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("key store that is not there: %v", err)
	}
	for i, c := range []struct {
		version int64
		want    error
	}{{1, kms.ErrChanged}, {0, nil}, {0, kms.ErrChanged}, {2, kms.ErrChanged}, {1, nil}, {1, kms.ErrChanged}, {2, nil}} {
		put := *ks
		put.Version, put.Name = c.version, fmt.Sprint("step ", i)
		if err := tryUpdate(t, s, func(tx kms.Tx) error { return tx.PutKeyStore(t.Context(), &put) }); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
		if c.want == nil {
			put.Version++
			same(t, "key store", must[*kms.KeyStore](t)(s.KeyStore(t.Context(), Account, Region, ks.ID)), &put)
		}
	}
	more := *ks
	more.ID = "cks-0234567890abcdef0"
	update(t, s, func(tx kms.Tx) error { return tx.PutKeyStore(t.Context(), &more) })
	pages(t, "key stores", func(s kms.KeyStore) string { return s.ID }, func(after string, limit int) ([]kms.KeyStore, error) {
		return s.KeyStores(t.Context(), Account, Region, after, limit)
	}, []string{more.ID, ks.ID})
	for _, want := range []error{nil, kms.ErrChanged} {
		err := tryUpdate(t, s, func(tx kms.Tx) error { return tx.DeleteKeyStore(t.Context(), Account, Region, ks.ID) })
		if !errors.Is(err, want) {
			t.Errorf("delete: %v, want %v", err, want)
		}
	}
}

func testCounts(t *testing.T, s KeyStoreUnderTest) {
	a, b, abroad := Key(), Key(), Key()
	abroad.Region, b.KeyStoreID = "us-east-1", "cks-1"
	var grants []*kms.Grant
	want := func(tx kms.Tx, keys, inStore, ofA int) {
		t.Helper()
		n1, err1 := tx.CountKeys(t.Context(), Account, Region, "")
		n2, err2 := tx.CountKeys(t.Context(), Account, Region, "cks-1")
		n3, err3 := tx.CountGrants(t.Context(), a.KeyRef)
		if err := errors.Join(err1, err2, err3); err != nil || n1 != keys || n2 != inStore || n3 != ofA {
			t.Errorf("counts %d %d %d, want %d %d %d; %v", n1, n2, n3, keys, inStore, ofA, err)
		}
	}
	update(t, s, func(tx kms.Tx) error { want(tx, 0, 0, 0); return nil })
	PutKey(t, s, a, b, abroad)
	for i := range 3 {
		grants = append(grants, Grant(a.KeyRef))
		update(t, s, func(tx kms.Tx) error {
			want(tx, 2, 1, i)
			err := tx.PutGrant(t.Context(), grants[i])
			want(tx, 2, 1, i+1)
			return err
		})
	}
	update(t, s, func(tx kms.Tx) error {
		err := tx.DeleteGrant(t.Context(), a.KeyRef, grants[0].ID)
		want(tx, 2, 1, 2)
		return err
	})
	mine := errors.New("mine")
	err := tryUpdate(t, s, func(tx kms.Tx) error { // changes nothing
		return errors.Join(tx.PutGrant(t.Context(), Grant(a.KeyRef)), tx.DeleteKey(t.Context(), b.KeyRef), mine)
	})
	if !errors.Is(err, mine) {
		t.Error(err)
	}
	update(t, s, func(tx kms.Tx) error { want(tx, 2, 1, 2); return nil })
	update(t, s, func(tx kms.Tx) error {
		now, err := tx.Key(t.Context(), b.KeyRef)
		if err != nil {
			return err
		}
		now.KeyStoreID = ""
		return tx.PutKey(t.Context(), now)
	})
	update(t, s, func(tx kms.Tx) error { want(tx, 2, 0, 2); return nil })
	update(t, s, func(tx kms.Tx) error { return tx.DeleteKey(t.Context(), a.KeyRef) })
	update(t, s, func(tx kms.Tx) error { want(tx, 1, 0, 0); return nil })
}

func testUsage(t *testing.T, s KeyStoreUnderTest) {
	a, b := Key(), Key()
	PutKey(t, s, a, b)
	if _, err := s.Usage(t.Context(), a.KeyRef); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("key that was never used: %v", err)
	}
	size := s.Entries(t)
	use := func(k *kms.Key, second int64, op string) kms.Usage {
		return kms.Usage{Key: k.KeyRef, Operation: op, At: time.Unix(second, 0).UTC(), EventID: "event", RequestID: "request"}
	}
	for _, us := range [][]kms.Usage{
		{use(a, 20, "second"), use(b, 5, "b")},
		{use(a, 10, "first"), use(a, 15, "between")},
		{use(a, 20, "at the same time")},
		{use(b, 7, "b later"), use(b, 6, "b between"), use(Key(), 1, "of nothing")},
		{},
	} {
		if err := s.PutUsage(t.Context(), us); err != nil {
			t.Fatal(err)
		}
	}
	for k, want := range map[*kms.Key]kms.Usage{a: use(a, 20, "second"), b: use(b, 7, "b later")} {
		same(t, "usage", must[*kms.Usage](t)(s.Usage(t.Context(), k.KeyRef)), &want)
	}
	var many []*kms.Key
	var us []kms.Usage
	for range 1200 { // more than one transaction has
		many = append(many, Key())
		us = append(us, use(many[len(many)-1], 1, "many"))
	}
	PutKey(t, s, many...)
	if err := s.PutUsage(t.Context(), us); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*kms.Key{many[0], many[600], many[1199]} {
		if u, err := s.Usage(t.Context(), k.KeyRef); err != nil || u.Operation != "many" {
			t.Errorf("usage of one of many: %+v, %v", u, err)
		}
	}
	if got := s.Entries(t) - size; got != 1 {
		t.Errorf("%d entries, want that of the keys", got)
	}
}

func testDue(t *testing.T, s KeyStoreUnderTest) {
	at := func(minute int) time.Time { return time.Date(2027, 1, 1, 0, minute, 0, 0, time.UTC) }
	var want []string
	for _, minute := range []int{30, 10, 50, 20, 40} {
		k := Key()
		k.Rotation = kms.Rotation{Enabled: true, PeriodDays: 90, Next: at(minute)}
		PutKey(t, s, k, Key())
		want = append(want, fmt.Sprint(minute, k.ID))
	}
	slices.Sort(want)
	due := func(when time.Time, limit int) []string {
		t.Helper()
		var got []string
		for i, ref := range must[[]kms.KeyRef](t)(s.Due(t.Context(), when, limit)) {
			got = append(got, fmt.Sprint((i+1)*10, ref.ID))
		}
		return got
	}
	for _, c := range []struct {
		when  time.Time
		limit int
		n     int
	}{
		{at(9), 9, 0},
		{at(10).Add(-time.Microsecond), 9, 0},
		{at(10), 9, 1},
		{at(35), 9, 3},
		{at(60), 9, 5},
		{at(60), 2, 2},
	} {
		if got := due(c.when, c.limit); !slices.Equal(got, want[:c.n]) {
			t.Errorf("due at %v, limit %d: %q, want %q", c.when, c.limit, got, want[:c.n])
		}
	}
	// A change moves it.
	first := must[[]kms.KeyRef](t)(s.Due(t.Context(), at(10), 1))[0]
	update(t, s, func(tx kms.Tx) error {
		k, err := tx.Key(t.Context(), first)
		if err != nil {
			return err
		}
		k = k.Clone()
		k.State, k.Deletion = kms.StatePendingDeletion, kms.Deletion{At: at(55)}
		return tx.PutKey(t.Context(), k)
	})
	if got := due(at(10), 9); len(got) != 0 {
		t.Errorf("due after it was moved: %q", got)
	}
	refs := must[[]kms.KeyRef](t)(s.Due(t.Context(), at(60), 9))
	if len(refs) != 5 || refs[4] != first {
		t.Errorf("due later: %v, want %v last", refs, first)
	}
	update(t, s, func(tx kms.Tx) error { return tx.DeleteKey(t.Context(), first) })
	if refs := must[[]kms.KeyRef](t)(s.Due(t.Context(), at(60), 9)); len(refs) != 4 {
		t.Errorf("due after one was deleted: %v", refs)
	}
}

// changesSince reads all changes after a number, and moves it.
func changesSince(t *testing.T, s kms.Store, after *int64) map[kms.Change]bool {
	t.Helper()
	all := map[kms.Change]bool{}
	for {
		changes, last, err := s.Changes(t.Context(), *after)
		if err != nil {
			t.Fatal(err)
		}
		if last < *after {
			t.Fatalf("changes after %d end at %d", *after, last)
		}
		for _, c := range changes {
			all[c] = true
		}
		if *after = last; len(changes) == 0 {
			return all
		}
	}
}

func testChanges(t *testing.T, s KeyStoreUnderTest) {
	k, other := Key(), Key()
	g := Grant(k.KeyRef)
	alias := func(k *kms.Key) *kms.Alias {
		return &kms.Alias{Account: Account, Region: Region, Name: "alias/a", KeyID: k.ID}
	}
	named := kms.Change{KeyRef: k.KeyRef, Alias: "alias/a"}
	seen := int64(0)
	if got := changesSince(t, s, &seen); len(got) != 0 {
		t.Errorf("changes of nothing: %v", got)
	}
	for _, c := range []struct {
		name string
		do   func(tx kms.Tx) error
		want []kms.Change // at least; for caches one too many is no fault
	}{
		{"keys made", func(tx kms.Tx) error { return errors.Join(tx.PutKey(t.Context(), k), tx.PutKey(t.Context(), other)) }, []kms.Change{{KeyRef: k.KeyRef}}},
		{"key changed", func(tx kms.Tx) error {
			now, err := tx.Key(t.Context(), k.KeyRef)
			return errors.Join(err, tx.PutKey(t.Context(), now))
		}, []kms.Change{{KeyRef: k.KeyRef}}},
		{"alias made", func(tx kms.Tx) error { return tx.PutAlias(t.Context(), alias(k), false) }, []kms.Change{named}},
		{"alias moved", func(tx kms.Tx) error { return tx.PutAlias(t.Context(), alias(other), true) }, []kms.Change{{KeyRef: k.KeyRef}, {KeyRef: other.KeyRef, Alias: "alias/a"}}},
		{"alias deleted", func(tx kms.Tx) error { return tx.DeleteAlias(t.Context(), Account, Region, "alias/a") }, []kms.Change{{KeyRef: other.KeyRef, Alias: "alias/a"}}},
		{"grant made", func(tx kms.Tx) error { return tx.PutGrant(t.Context(), g) }, []kms.Change{{KeyRef: k.KeyRef}}},
		{"grant deleted", func(tx kms.Tx) error { return tx.DeleteGrant(t.Context(), k.KeyRef, g.ID) }, []kms.Change{{KeyRef: k.KeyRef}}},
		{"alias made again", func(tx kms.Tx) error { return tx.PutAlias(t.Context(), alias(k), false) }, []kms.Change{named}},
		{"key deleted", func(tx kms.Tx) error { return tx.DeleteKey(t.Context(), k.KeyRef) }, []kms.Change{{KeyRef: k.KeyRef}, named}},
	} {
		update(t, s, c.do)
		got := changesSince(t, s, &seen)
		for _, w := range c.want {
			// That of an alias may come with its key or beside it.
			split := got[kms.Change{KeyRef: kms.KeyRef{Account: w.Account, Region: w.Region}, Alias: w.Alias}] && (w.ID == "" || got[kms.Change{KeyRef: w.KeyRef}])
			if !got[w] && !split {
				t.Errorf("%s: changes %v, want %v", c.name, slices.Collect(maps.Keys(got)), w)
			}
		}
		if again := changesSince(t, s, &seen); len(again) != 0 {
			t.Errorf("%s: told twice: %v", c.name, again)
		}
	}
	if err := tryUpdate(t, s, func(tx kms.Tx) error {
		return errors.Join(tx.PutKey(t.Context(), Key()), errors.New("mine"))
	}); err == nil {
		t.Error("no error")
	}
	if err := s.Append(t.Context(), Entry(t, "no change")); err != nil {
		t.Error(err)
	}
	if got := changesSince(t, s, &seen); len(got) != 0 {
		t.Errorf("changes by what has changed nothing: %v", got)
	}
	changes, last, err := s.Changes(t.Context(), -1)
	if len(changes) != 0 || err != nil || last < seen {
		t.Errorf("changes after -1: %v, %d, %v; want none after %d", changes, last, err, seen)
	}
	PutKey(t, s, k)
	if got := changesSince(t, s, &last); !got[kms.Change{KeyRef: k.KeyRef}] {
		t.Errorf("changes after the last: %v", got)
	}
}

// testChangesCut makes more changes than one list or one block of numbers holds.
func testChangesCut(t *testing.T, s KeyStoreUnderTest) {
	want := map[kms.Change]bool{}
	for range 3 {
		var keys []*kms.Key
		for range 700 {
			keys = append(keys, Key())
			want[kms.Change{KeyRef: keys[len(keys)-1].KeyRef}] = true
		}
		PutKey(t, s, keys...)
	}
	seen := int64(0)
	if got := changesSince(t, s, &seen); !maps.Equal(got, want) {
		t.Errorf("%d changes, want %d", len(got), len(want))
	}
}

func testKeyServiceRollback(t *testing.T, s KeyStoreUnderTest) {
	mine := errors.New("mine")
	k, standing := Key(), Key()
	PutKey(t, s, standing)
	size, seen := s.Entries(t), int64(0)
	changesSince(t, s, &seen)
	for name, c := range map[string]struct {
		fn   func(kms.Tx) error
		want func(error) bool
	}{
		"fails after it has written": {func(tx kms.Tx) error {
			tx.Append(Entry(t, "update"))
			return errors.Join(tx.PutKey(t.Context(), k), tx.PutGrant(t.Context(), Grant(k.KeyRef)), mine)
		}, func(err error) bool { return errors.Is(err, mine) }},
		"refuses before it writes": {func(tx kms.Tx) error {
			tx.Append(Entry(t, "update"))
			return mine
		}, func(err error) bool { return errors.Is(err, mine) && err.Error() == "mine" }},
		"meets another version": {func(tx kms.Tx) error {
			tx.Append(Entry(t, "update"))
			return errors.Join(tx.PutKey(t.Context(), k), tx.PutKey(t.Context(), standing))
		}, func(err error) bool { return errors.Is(err, kms.ErrChanged) }},
		"misses a row": {func(tx kms.Tx) error {
			tx.Append(Entry(t, "update"))
			_, err := tx.Key(t.Context(), k.KeyRef)
			return err
		}, func(err error) bool { return errors.Is(err, kms.ErrNoRow) }},
		"has no entry": {func(tx kms.Tx) error {
			return tx.PutKey(t.Context(), k)
		}, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "change without an audit entry")
		}},
	} {
		if err := recovered(func() error { return s.Update(t.Context(), c.fn) }); !c.want(err) || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Key(t.Context(), k.KeyRef); !errors.Is(err, kms.ErrNoRow) {
			t.Errorf("%s: key is there: %v", name, err)
		}
		if got := s.Entries(t); got != size {
			t.Errorf("%s: %d entries", name, got-size)
		}
		if got := changesSince(t, s, &seen); len(got) != 0 {
			t.Errorf("%s: changes %v", name, got)
		}
	}
	PutKey(t, s, k)
}

// recovered turns a panic into an error: a store of tests may panic where another
// returns an error.
func recovered(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return fn()
}

func testKeyServiceOwnWrites(t *testing.T, s KeyStoreUnderTest) {
	k := Key()
	a := &kms.Alias{Account: Account, Region: Region, Name: "alias/a", KeyID: k.ID}
	g := Grant(k.KeyRef)
	g.Retiring = "arn:aws:iam::111122223333:role/r"
	update(t, s, func(tx kms.Tx) error {
		err := errors.Join(tx.PutKey(t.Context(), k), tx.PutAlias(t.Context(), a, false), tx.PutGrant(t.Context(), g))
		got, err1 := tx.Key(t.Context(), k.KeyRef)
		_, err2 := tx.Alias(t.Context(), Account, Region, a.Name)
		_, err3 := tx.Grant(t.Context(), k.KeyRef, g.ID)
		as, err4 := tx.AliasesOf(t.Context(), k.KeyRef, "", 9)
		gs, err5 := tx.Retirable(t.Context(), Account, Region, g.Retiring, "", 9)
		if err := errors.Join(err, err1, err2, err3, err4, err5); err != nil || got.Version != 1 || len(as) != 1 || len(gs) != 1 {
			t.Errorf("in the transaction: %v", err)
			return err
		}
		if _, err := tx.Usage(t.Context(), k.KeyRef); !errors.Is(err, kms.ErrNoRow) {
			t.Errorf("usage: %v", err)
		}
		got = got.Clone()
		got.Description = "twice"
		return errors.Join(tx.PutKey(t.Context(), got), tx.DeleteGrant(t.Context(), k.KeyRef, g.ID))
	})
	if got := must[*kms.Key](t)(s.Key(t.Context(), k.KeyRef)); got.Version != 2 || got.Description != "twice" {
		t.Errorf("after it: version %d %q", got.Version, got.Description)
	}
	if _, err := s.Grant(t.Context(), k.KeyRef, g.ID); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("after it: grant %v", err)
	}
}

func testKeyServiceAppend(t *testing.T, s KeyStoreUnderTest) {
	if err := errors.Join(s.Append(t.Context(), Entry(t, "one")), s.Append(t.Context(), Entry(t, "two"), Entry(t, "three")), s.Append(t.Context())); err != nil {
		t.Error(err)
	}
	update(t, s, func(tx kms.Tx) error {
		tx.Append(Entry(t, "four"))
		return nil
	})
	if got := s.Entries(t); got != 5 {
		t.Errorf("%d entries, want 5", got)
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

// testManyVersions: of all who change the key that they have read, one does; the
// others are told.
func testManyVersions(t *testing.T, s KeyStoreUnderTest) {
	const callers, each = 32, 5
	k := Key()
	k.Rotation.OnDemand = 0
	PutKey(t, s, k)
	var done, stale atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := 0; n < each; {
				now, err := s.Key(t.Context(), k.KeyRef)
				if err != nil {
					t.Error(err)
					return
				}
				next := now.Clone()
				next.Rotation.OnDemand++
				err = tryUpdate(t, s, func(tx kms.Tx) error {
					if i%2 == 0 { // writes before it finds out
						if err := tx.PutGrant(t.Context(), Grant(k.KeyRef)); err != nil {
							return err
						}
					}
					return tx.PutKey(t.Context(), next)
				})
				switch {
				case err == nil:
					done.Add(1)
					n++
				case errors.Is(err, kms.ErrChanged):
					stale.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := must[*kms.Key](t)(s.Key(t.Context(), k.KeyRef))
	if int64(got.Rotation.OnDemand) != done.Load() || got.Version != 1+done.Load() {
		t.Errorf("%d changes are there in version %d, %d were made", got.Rotation.OnDemand, got.Version, done.Load())
	}
	gs := must[[]kms.Grant](t)(s.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 1000))
	if len(gs) != callers/2*each {
		t.Errorf("%d grants, want %d: those of changes that were not made must not be there", len(gs), callers/2*each)
	}
	if got, want := s.Entries(t), 1+done.Load(); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}
