package storetest

import (
	"errors"
	"fmt"
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
