package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/kms"
)

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
