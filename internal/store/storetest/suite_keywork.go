package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/store"
	"cardea/internal/vault"
)

// keyWorkTests are those of vault.KeyWork.
func keyWorkTests() map[string]func(*testing.T, string) {
	return map[string]func(*testing.T, string){
		"RotationLeavesOneVersionActive":            testRotate,
		"RotationsAtOnceMakeOneVersion":             testRotateAtOnce,
		"WrappingIsReplacedIfItIsAsRead":            testRewrap,
		"KeyMovesFromStateToState":                  testChangeKey,
		"KeyWithRowsIsNotRetired":                   testRetire,
		"KeysOfHashesWithRowsAreNotRetired":         testRetireHashes,
		"SealedRecordsAreCounted":                   testAddSealed,
		"RecordsAreFoundByKeyAndHolder":             testRecordsUnder,
		"RecordsAreFoundByTheVersionOfTheirHash":    testHashed,
		"RecordIsReplacedIfItIsAsRead":              testReplaceSealed,
		"KeyedHashThatIsTakenIsLeftOut":             testReplaceHashes,
		"RowsAreDeletedWithTheirHolder":             testDeleteRows,
		"SecretOfAHolderIsDestroyed":                testDestroySecret,
		"JobIsOneAtATimeOfItsKind":                  testPutJob,
		"JobsAreListedUnfinishedOnesAlways":         testJobs,
		"JobIsOneNodes":                             testClaimJob,
		"TenantIsSuspendedAndResumed":               testSuspend,
		"KeyEventsTellWhatChanged":                  testKeyEvents,
		"OldKeyEventsAreRemovedAndMissedOnesTold":   testPruneKeyEvents,
		"KeyEventsOfSeveralNodesComeInOrder":        testKeyEventOrder,
		"KeyWorkRefusesTextAndAStoreThatOnlyReads":  testKeyWorkRefuses,
		"DatabaseOfTheReleaseBeforeIsReadAsItMeant": testOldRows,
	}
}

// wrappedKey is a key as a key manager would make it.
func wrappedKey(holder string, p vault.Purpose) vault.WrappedKey {
	return vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: "public", Holder: holder, Purpose: p, Version: 1, State: vault.KeyActive,
		Mode: vault.ModeLocal, Wrapped: []byte("wrapped 1"), CreatedAt: 5,
	}
}

func putKey(tb testing.TB, s *store.Store, holder string, p vault.Purpose) vault.WrappedKey {
	tb.Helper()
	k := wrappedKey(holder, p)
	if _, created, err := s.PutKey(tb.Context(), k, Entry(tb, "key")); err != nil || !created {
		tb.Fatalf("put key: created %v, error %v", created, err)
	}
	return k
}

// next is the version after k.
func next(k vault.WrappedKey, at vault.Micros) vault.WrappedKey {
	k.Version++
	k.CreatedAt, k.Wrapped = at, []byte(fmt.Sprint("wrapped ", k.Version))
	return k
}

func versionOf(k vault.WrappedKey) vault.KeyVersion {
	return vault.KeyVersion{ID: k.ID, Version: k.Version}
}

// writes runs call and says how many entries it must have written.
func writes(tb testing.TB, s *store.Store, what string, want int64, call func()) {
	tb.Helper()
	before := entries(tb, s)
	call()
	if got := entries(tb, s) - before; got != want {
		tb.Errorf("%s: %d entries, want %d", what, got, want)
	}
}

func holderNamed(tb testing.TB, s *store.Store, name string, secret []byte) vault.Holder {
	tb.Helper()
	h, _, err := s.PutHolder(tb.Context(), vault.Holder{Tenant: "public", Name: name, Secret: secret, CreatedAt: 7}, Entry(tb, name))
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// putUnder stores n records of a holder under a key.
func putUnder(tb testing.TB, s *store.Store, h vault.Holder, k vault.WrappedKey, n int) []vault.Record {
	tb.Helper()
	var out []vault.Record
	for range n {
		r := Record(h.ID)
		r.Key, r.KeyVersion = k.ID, k.Version
		if h.Secret != nil {
			r.Space, r.Kind, r.Dedupe, r.HashedBy = vault.SpaceV2, vault.KindJSON, nil, 0
		}
		if existing, err := s.PutRecord(tb.Context(), r, Entry(tb, r.Reference)); err != nil || existing != nil {
			tb.Fatal(existing, err)
		}
		out = append(out, r)
	}
	return out
}

func testRotate(t *testing.T, url string) {
	s := Open(t, url)
	first, other, dedupe := putKey(t, s, "merchant_1", vault.PurposeRecord), putKey(t, s, "merchant_2", vault.PurposeRecord), putKey(t, s, "", vault.PurposeDedupe)
	second := next(first, 9)
	second.State = "" // it becomes active whatever it says
	want := second
	want.State = vault.KeyActive
	writes(t, s, "rotation", 1, func() {
		got, created, err := s.RotateKey(t.Context(), second, Entry(t, "rotate"))
		if err != nil || !created {
			t.Fatalf("rotate: created %v, error %v", created, err)
		}
		same(t, "rotated", got, want)
	})
	same(t, "active", must[vault.WrappedKey](t)(s.ActiveKey(t.Context(), "public", "merchant_1", vault.PurposeRecord)), want)
	first.State, first.ChangedAt = vault.KeyDecryptOnly, 9
	same(t, "replaced", must[vault.WrappedKey](t)(s.Key(t.Context(), first.ID, 1)), first)
	for _, version := range []uint32{1, 2} {
		writes(t, s, "rotation to a version that is taken", 0, func() {
			k := second
			k.Version, k.Wrapped = version, []byte("loser")
			got, created, err := s.RotateKey(t.Context(), k, Entry(t, "rotate"))
			if err != nil || created {
				t.Fatalf("rotate again: created %v, error %v", created, err)
			}
			same(t, "stands", got, want)
		})
	}
	same(t, "inventory", must[[]vault.WrappedKey](t)(s.Inventory(t.Context(), "public")), []vault.WrappedKey{dedupe, first, want, other})
	if keys, err := s.Inventory(t.Context(), "other"); len(keys) != 0 || err != nil {
		t.Errorf("inventory of another tenant: %v, %v", keys, err)
	}
	third := next(want, 11)
	if _, created, err := s.RotateKey(t.Context(), third, Entry(t, "rotate")); !created || err != nil {
		t.Fatal(created, err)
	}
	states := ""
	for _, k := range must[[]vault.WrappedKey](t)(s.Inventory(t.Context(), "public")) {
		if k.Holder == "merchant_1" {
			states += fmt.Sprint(k.Version, k.State, " ")
		}
	}
	if states != "1decrypt-only 2decrypt-only 3active " {
		t.Errorf("states %s", states)
	}
	// A second active version cannot come in by PutKey either.
	fourth := next(third, 12)
	writes(t, s, "second active version", 0, func() {
		if _, created, err := s.PutKey(t.Context(), fourth, Entry(t, "key")); created || err == nil || errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("second active version: created %v, error %v", created, err)
		}
	})
	Verify(t, s)
}

func testRotateAtOnce(t *testing.T, url string) {
	stores := []*store.Store{Open(t, url), Open(t, url, OnNode("test-2"))}
	first := putKey(t, stores[0], "merchant_1", vault.PurposeRecord)
	for round := range 5 {
		var made atomic.Int64
		var wg sync.WaitGroup
		standing := make([]vault.WrappedKey, 6)
		k := first
		k.Version = uint32(round + 1)
		for i := range standing {
			wg.Go(func() {
				mine := next(k, vault.Micros(i+1))
				got, created, err := stores[i%2].RotateKey(t.Context(), mine, EntryOf(t, []string{Node, "test-2"}[i%2], "rotate"))
				if err != nil {
					t.Error(err)
				}
				if created {
					made.Add(1)
				}
				standing[i] = got
			})
		}
		wg.Wait()
		if made.Load() != 1 {
			t.Errorf("round %d: %d made it", round, made.Load())
		}
		for _, got := range standing[1:] {
			same(t, "standing", got, standing[0])
		}
		same(t, "active", must[vault.WrappedKey](t)(stores[0].ActiveKey(t.Context(), "public", "merchant_1", vault.PurposeRecord)), standing[0])
	}
	Verify(t, stores[0])
}

func testRewrap(t *testing.T, url string) {
	s := Open(t, url)
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	k.Mode = vault.ModeKMSEnvelope
	was := k.Wrapped
	k.Wrapped = []byte("wrapped anew")
	for _, c := range []struct {
		name string
		was  []byte
		want bool
	}{{"other wrapping", []byte("other"), false}, {"as read", was, true}, {"as read before", was, false}} {
		writes(t, s, c.name, map[bool]int64{true: 1}[c.want], func() {
			if done, err := s.RewrapKey(t.Context(), k, c.was, Entry(t, "rewrap")); done != c.want || err != nil {
				t.Errorf("%s: %v, %v", c.name, done, err)
			}
		})
	}
	same(t, "rewrapped", must[vault.WrappedKey](t)(s.Key(t.Context(), k.ID, 1)), k)
	if done, err := s.ChangeKey(t.Context(), versionOf(k), vault.KeyActive, vault.KeyDestroyed, 9, Entry(t, "destroy")); !done || err != nil {
		t.Fatal(done, err)
	}
	for _, was := range [][]byte{{}, k.Wrapped} {
		if done, err := s.RewrapKey(t.Context(), k, was, Entry(t, "rewrap")); done || err != nil {
			t.Errorf("rewrap of a destroyed key: %v, %v", done, err)
		}
	}
	k.ID = vault.NewKeyID()
	if done, err := s.RewrapKey(t.Context(), k, was, Entry(t, "rewrap")); done || err != nil {
		t.Errorf("rewrap of no key: %v, %v", done, err)
	}
}

func testChangeKey(t *testing.T, url string) {
	s := Open(t, url)
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	want := k
	for i, c := range []struct {
		from, to vault.KeyState
		done     bool
		wrote    int64
	}{
		{vault.KeyDecryptOnly, vault.KeyRetired, false, 0},
		{vault.KeyActive, vault.KeyDecryptOnly, true, 1},
		{vault.KeyActive, vault.KeyDecryptOnly, true, 0}, // it is already
		{vault.KeyActive, vault.KeyDestroyed, false, 0},
		{vault.KeyDecryptOnly, vault.KeyRetired, true, 1},
		{vault.KeyRetired, vault.KeyDecryptOnly, true, 1},
		{vault.KeyDecryptOnly, vault.KeyActive, true, 1},
		{vault.KeyActive, vault.KeyDestroyed, true, 1},
		{vault.KeyActive, vault.KeyDestroyed, true, 0},
	} {
		name := fmt.Sprintf("step %d, from %s to %s", i, c.from, c.to)
		writes(t, s, name, c.wrote, func() {
			done, err := s.ChangeKey(t.Context(), versionOf(k), c.from, c.to, vault.Micros(100+i), Entry(t, "change"))
			if done != c.done || err != nil {
				t.Errorf("%s: %v, %v", name, done, err)
			}
		})
		if c.wrote > 0 {
			want.State, want.ChangedAt = c.to, vault.Micros(100+i)
		}
		if want.State == vault.KeyDestroyed {
			want.Wrapped = []byte{}
		}
		same(t, name, must[vault.WrappedKey](t)(s.Key(t.Context(), k.ID, 1)), want)
	}
	if done, err := s.ChangeKey(t.Context(), vault.KeyVersion{ID: k.ID, Version: 2}, vault.KeyActive, vault.KeyRetired, 1, Entry(t, "change")); done || err != nil {
		t.Errorf("version that is not there: %v, %v", done, err)
	}
	// Two versions are not made active.
	a := putKey(t, s, "merchant_2", vault.PurposeRecord)
	if _, created, err := s.RotateKey(t.Context(), next(a, 9), Entry(t, "rotate")); !created || err != nil {
		t.Fatal(created, err)
	}
	writes(t, s, "second active version", 0, func() {
		_, err := s.ChangeKey(t.Context(), versionOf(a), vault.KeyDecryptOnly, vault.KeyActive, 1, Entry(t, "change"))
		if !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), "another version of key "+a.ID.String()+" is active") {
			t.Errorf("second active version: %v", err)
		}
	})
	Verify(t, s)
}

// retire reports whether k, which is active, could be retired.
func retire(tb testing.TB, s *store.Store, k vault.WrappedKey) bool {
	tb.Helper()
	before := entries(tb, s)
	done, err := s.ChangeKey(tb.Context(), versionOf(k), vault.KeyActive, vault.KeyRetired, 9, Entry(tb, "retire"))
	if err != nil {
		want := fmt.Sprintf("version 1 of key %s cannot be retired, as rows are under it", k.ID)
		if !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), want) || entries(tb, s) != before {
			tb.Errorf("retire: %v, %d entries", err, entries(tb, s)-before)
		}
		return false
	}
	if !done {
		tb.Error("retired nothing")
	}
	return true
}

func testRetire(t *testing.T, url string) {
	s := Open(t, url)
	h, entity := Holder(t, s), holderNamed(t, s, "entity_1", []byte("secret"))
	for name, c := range map[string]struct {
		key vault.WrappedKey
		of  vault.Holder
	}{
		"key of a merchant": {putKey(t, s, "merchant_1", vault.PurposeRecord), h},
		"key of a tenant":   {putKey(t, s, "", vault.PurposeRecord), entity},
		"key in a KMS":      {putKey(t, s, "", vault.PurposeDirect), h},
	} {
		records := putUnder(t, s, c.of, c.key, 3)
		putUnder(t, s, c.of, next(c.key, 9), 1) // a successor has no part in it
		for i, r := range records {
			if retire(t, s, c.key) {
				t.Fatalf("%s: retired with %d records", name, len(records)-i)
			}
			if deleted, err := s.DeleteRecord(t.Context(), r.Lookup, 0, Entry(t, r.Reference)); !deleted || err != nil {
				t.Fatal(deleted, err)
			}
		}
		if !retire(t, s, c.key) {
			t.Errorf("%s: not retired without records", name)
		}
	}
	if !retire(t, s, putKey(t, s, "merchant_that_never_came", vault.PurposeRecord)) {
		t.Error("key of nobody not retired")
	}
	Verify(t, s)
}

func testRetireHashes(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	dedupe, prints := putKey(t, s, "", vault.PurposeDedupe), putKey(t, s, "", vault.PurposeFingerprint)
	r := Record(h.ID)
	must[*vault.Record](t)(s.PutRecord(t.Context(), r, Entry(t, r.Reference)))
	if _, _, err := s.PutFingerprint(t.Context(), "public", vault.MAC{1}, 1, "print", Entry(t, "print")); err != nil {
		t.Fatal(err)
	}
	if retire(t, s, dedupe) {
		t.Error("dedupe key retired with a record's hash")
	}
	if retire(t, s, prints) {
		t.Error("fingerprint key retired with a fingerprint")
	}
	row := must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), "public", "merchant_1", 0, 10))[0]
	if done := must[[]bool](t)(s.ReplaceSealed(t.Context(), []vault.ResealedRecord{{
		Row: row.Row, Was: r.Sealed, Sealed: vault.Sealed{Mode: r.Mode, Key: r.Key, KeyVersion: 1, Blob: r.Sealed}, Dedupe: &vault.MAC{2}, HashedBy: 2,
	}}, Entry(t, "replace"))); !done[0] {
		t.Fatal("not replaced")
	}
	if !retire(t, s, dedupe) {
		t.Error("dedupe key not retired")
	}
}

func testAddSealed(t *testing.T, url string) {
	s := Open(t, url)
	a, b := putKey(t, s, "merchant_1", vault.PurposeRecord), putKey(t, s, "merchant_2", vault.PurposeRecord)
	nobody := vault.KeyVersion{ID: vault.NewKeyID(), Version: 1}
	writes(t, s, "counting", 0, func() {
		for _, counts := range []map[vault.KeyVersion]uint64{nil, {versionOf(a): 3}, {versionOf(a): 4, versionOf(b): 1, nobody: 9}} {
			if err := s.AddSealed(t.Context(), counts); err != nil {
				t.Error(err)
			}
		}
	})
	for _, c := range []struct {
		k    vault.WrappedKey
		want uint64
	}{{a, 7}, {b, 1}} {
		if got := must[vault.WrappedKey](t)(s.Key(t.Context(), c.k.ID, 1)); got.Sealed != c.want {
			t.Errorf("%d sealed, want %d", got.Sealed, c.want)
		}
	}
	many := map[vault.KeyVersion]uint64{versionOf(b): 1}
	for range 600 {
		many[vault.KeyVersion{ID: vault.NewKeyID(), Version: 1}] = 1
	}
	if err := s.AddSealed(t.Context(), many); err != nil {
		t.Error(err)
	}
	if got := must[vault.WrappedKey](t)(s.Key(t.Context(), b.ID, 1)); got.Sealed != 2 {
		t.Errorf("%d sealed, want 2", got.Sealed)
	}
}

// heldPages reads all pages of a list.
func heldPages(tb testing.TB, limit int, list func(after int64, limit int) ([]vault.HeldRecord, error)) []vault.HeldRecord {
	tb.Helper()
	var all []vault.HeldRecord
	after := int64(0)
	for {
		page := must[[]vault.HeldRecord](tb)(list(after, limit))
		if len(page) > limit {
			tb.Fatalf("page of %d rows, limit %d", len(page), limit)
		}
		for _, h := range page {
			if h.Row <= after {
				tb.Fatalf("row %d after row %d", h.Row, after)
			}
			after = h.Row
		}
		all = append(all, page...)
		if len(page) == 0 {
			return all
		}
	}
}

func held(tb testing.TB, what string, got []vault.HeldRecord, h vault.Holder, want []vault.Record) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Errorf("%s: %d rows, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		sameRecord(tb, got[i].Record, want[i])
		if got[i].Holder.ID != h.ID || got[i].Holder.Name != h.Name || got[i].Holder.Tenant != h.Tenant ||
			got[i].Holder.CreatedAt != h.CreatedAt || !bytes.Equal(got[i].Holder.Secret, h.Secret) {
			tb.Errorf("%s: holder %+v, want %+v", what, got[i].Holder, h)
		}
	}
}

func testRecordsUnder(t *testing.T, url string) {
	s := Open(t, url)
	one, two := Holder(t, s), holderNamed(t, s, "merchant_2", nil)
	entity := holderNamed(t, s, "entity_1", []byte("secret"))
	k1, k2 := putKey(t, s, "merchant_1", vault.PurposeRecord), putKey(t, s, "merchant_2", vault.PurposeRecord)
	tenant, direct := putKey(t, s, "", vault.PurposeRecord), putKey(t, s, "", vault.PurposeDirect)
	// Mixed, so that no stretch of rows is of one.
	var of1, of1v2, of1direct, of2, ofEntity, all1 []vault.Record
	for i := range 25 {
		a := putUnder(t, s, one, k1, 1)
		of1, all1 = append(of1, a...), append(all1, a...)
		of2 = append(of2, putUnder(t, s, two, k2, 1)...)
		if i%3 == 0 {
			ofEntity = append(ofEntity, putUnder(t, s, entity, tenant, 1)...)
		}
		if i%5 == 0 {
			b, c := putUnder(t, s, one, next(k1, 9), 1), putUnder(t, s, one, direct, 1)
			of1v2, of1direct = append(of1v2, b...), append(of1direct, c...)
			all1 = append(append(all1, b...), c...)
		}
	}
	v2 := versionOf(next(k1, 9))
	if _, created, err := s.RotateKey(t.Context(), next(k1, 9), Entry(t, "rotate")); !created || err != nil {
		t.Fatal(created, err)
	}
	for _, limit := range []int{1, 4, 100} {
		for _, c := range []struct {
			name string
			key  vault.KeyVersion
			of   vault.Holder
			want []vault.Record
		}{
			{"merchant 1, version 1", versionOf(k1), one, of1},
			{"merchant 1, version 2", v2, one, of1v2},
			{"merchant 2", versionOf(k2), two, of2},
			{"entities", versionOf(tenant), entity, ofEntity},
			{"in a KMS", versionOf(direct), one, of1direct},
			{"nobody's", vault.KeyVersion{ID: vault.NewKeyID(), Version: 1}, one, nil},
		} {
			held(t, c.name, heldPages(t, limit, func(after int64, limit int) ([]vault.HeldRecord, error) {
				return s.RecordsUnder(t.Context(), c.key, after, limit)
			}), c.of, c.want)
			if n := must[int64](t)(s.CountRecords(t.Context(), c.key)); n != int64(len(c.want)) {
				t.Errorf("%s: %d counted, want %d", c.name, n, len(c.want))
			}
		}
		for _, c := range []struct {
			of   vault.Holder
			want []vault.Record
		}{{one, all1}, {two, of2}, {entity, ofEntity}} {
			held(t, c.of.Name, heldPages(t, limit, func(after int64, limit int) ([]vault.HeldRecord, error) {
				return s.RecordsOf(t.Context(), "public", c.of.Name, after, limit)
			}), c.of, c.want)
		}
	}
	for _, who := range [][2]string{{"public", "nobody"}, {"other", "merchant_1"}} {
		if rows, err := s.RecordsOf(t.Context(), who[0], who[1], 0, 10); len(rows) != 0 || err != nil {
			t.Errorf("records of %v: %d, %v", who, len(rows), err)
		}
	}
	if rows, err := s.RecordsUnder(t.Context(), versionOf(k1), 0, 0); len(rows) != 0 || err != nil {
		t.Errorf("limit 0: %d, %v", len(rows), err)
	}
}

func testHashed(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	other, _, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "other", Name: "merchant_1"}, Entry(t, "merchant_1"))
	if err != nil {
		t.Fatal(err)
	}
	var put []vault.Record
	store := func(holder int64, by uint32) {
		r := Record(holder)
		if r.HashedBy = by; by == 0 {
			r.Dedupe = nil
		}
		must[*vault.Record](t)(s.PutRecord(t.Context(), r, Entry(t, r.Reference)))
		put = append(put, r)
	}
	for range 5 {
		for _, by := range []uint32{1, 0, 2, 3} {
			store(h.ID, by)
		}
		store(other.ID, 1)
	}
	for below, want := range map[uint32]int{1: 0, 2: 5, 3: 10, 4: 15} {
		rows := heldPages(t, 3, func(after int64, limit int) ([]vault.HeldRecord, error) {
			return s.RecordsWithDedupe(t.Context(), "public", below, after, limit)
		})
		if len(rows) != want {
			t.Errorf("below %d: %d rows, want %d", below, len(rows), want)
		}
		for _, r := range rows {
			if r.HashedBy == 0 || r.HashedBy >= below || r.Holder.Tenant != "public" || r.Dedupe == nil {
				t.Errorf("below %d: a row hashed by version %d, of %s", below, r.HashedBy, r.Holder.Tenant)
			}
		}
	}
	for _, c := range []struct {
		tenant  string
		version uint32
		want    int64
	}{{"public", 1, 5}, {"public", 2, 5}, {"public", 4, 0}, {"other", 1, 5}, {"other", 2, 0}} {
		if n := must[int64](t)(s.CountHashed(t.Context(), c.tenant, vault.PurposeDedupe, c.version)); n != c.want {
			t.Errorf("%s, version %d: %d records, want %d", c.tenant, c.version, n, c.want)
		}
	}
	for i, by := range []uint32{1, 2, 2} {
		if _, _, err := s.PutFingerprint(t.Context(), "public", vault.MAC{byte(i)}, by, "print", Entry(t, "print")); err != nil {
			t.Fatal(err)
		}
	}
	for version, want := range map[uint32]int64{1: 1, 2: 2, 3: 0} {
		if n := must[int64](t)(s.CountHashed(t.Context(), "public", vault.PurposeFingerprint, version)); n != want {
			t.Errorf("version %d: %d fingerprints, want %d", version, n, want)
		}
	}
	if _, err := s.CountHashed(t.Context(), "public", vault.PurposeRecord, 1); err == nil || !strings.Contains(err.Error(), `a key for purpose "record" makes no keyed hashes`) {
		t.Errorf("hashes of a key that makes none: %v", err)
	}
	a, b := put[0], put[2]
	for name, c := range map[string]struct {
		hashes []vault.MAC
		want   *vault.Record
	}{
		"none": {nil, nil}, "unknown": {[]vault.MAC{{7}, {8}}, nil}, "newest": {[]vault.MAC{*a.Dedupe, {7}}, &a}, "older": {[]vault.MAC{{7}, *a.Dedupe}, &a},
		"the earlier of two": {[]vault.MAC{*b.Dedupe, *a.Dedupe}, &b}, "the other way round": {[]vault.MAC{*a.Dedupe, *b.Dedupe}, &a},
	} {
		switch got, err := s.DuplicateOf(t.Context(), c.hashes); {
		case c.want == nil && !errors.Is(err, vault.ErrNotFound), c.want != nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != nil:
			sameRecord(t, got, *c.want)
		}
	}
}

// resealed is r under another key.
func resealed(h vault.HeldRecord, k vault.WrappedKey) vault.ResealedRecord {
	return vault.ResealedRecord{
		Row: h.Row, Was: h.Sealed,
		Sealed: vault.Sealed{Mode: vault.ModeKMSEnvelope, Key: k.ID, KeyVersion: k.Version, Blob: append([]byte("anew "), h.Sealed...)},
	}
}

func testReplaceSealed(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	before := putUnder(t, s, h, k, 10)
	rows := must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), "public", "merchant_1", 0, 100))
	k2 := next(k, 9)
	var changes []vault.ResealedRecord
	for _, r := range rows {
		changes = append(changes, resealed(r, k2))
	}
	// Others change two rows meanwhile, one is gone, and one never was.
	upserted := before[3]
	upserted.Sealed = []byte("upserted")
	if err := s.UpsertRecord(t.Context(), upserted, Entry(t, "upsert")); err != nil {
		t.Fatal(err)
	}
	if deleted, err := s.DeleteRecord(t.Context(), before[5].Lookup, 0, Entry(t, "delete")); !deleted || err != nil {
		t.Fatal(deleted, err)
	}
	changes = append(changes, vault.ResealedRecord{Row: 1 << 40, Was: []byte("x"), Sealed: vault.Sealed{Blob: []byte("y")}})
	writes(t, s, "batch", 1, func() {
		done, err := s.ReplaceSealed(t.Context(), changes, Entry(t, "replace"))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "done", fmt.Sprint(done), "[true true true false true false true true true true false]")
	})
	for i, r := range before {
		got, err := s.Record(t.Context(), r.Lookup)
		switch i {
		case 3:
			sameRecord(t, got, upserted)
		case 5:
			if !errors.Is(err, vault.ErrNotFound) {
				t.Errorf("deleted record: %v", err)
			}
		default:
			r.Mode, r.Key, r.KeyVersion, r.Sealed = vault.ModeKMSEnvelope, k2.ID, k2.Version, append([]byte("anew "), r.Sealed...)
			sameRecord(t, got, r)
		}
	}
	for name, again := range map[string][]vault.ResealedRecord{"batch again": changes, "empty batch": nil} {
		writes(t, s, name, 0, func() {
			done, err := s.ReplaceSealed(t.Context(), again, Entry(t, "replace"))
			if err != nil || len(done) != len(again) || strings.Contains(fmt.Sprint(done), "true") {
				t.Errorf("%s: %v, %v", name, done, err)
			}
		})
	}
	Verify(t, s)
}

func testReplaceHashes(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	before := putUnder(t, s, h, k, 6)
	rows := must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), "public", "merchant_1", 0, 100))
	mac := func(b byte) *vault.MAC { return &vault.MAC{31: b} }
	change := func(i int, m *vault.MAC) vault.ResealedRecord {
		c := resealed(rows[i], next(k, 9))
		c.Dedupe, c.HashedBy = m, 2
		return c
	}
	standing := Record(h.ID)
	standing.Dedupe, standing.HashedBy = mac(9), 2
	must[*vault.Record](t)(s.PutRecord(t.Context(), standing, Entry(t, "standing")))
	changes := []vault.ResealedRecord{
		change(0, mac(1)), change(1, mac(9)), change(2, mac(2)), change(3, mac(2)), change(4, nil), change(5, before[5].Dedupe),
	}
	changes[4].HashedBy = 7 // says nothing without a hash
	done := must[[]bool](t)(s.ReplaceSealed(t.Context(), changes, Entry(t, "replace")))
	same(t, "done", fmt.Sprint(done), "[true true true true true true]")
	for i, want := range []struct {
		mac *vault.MAC
		by  uint32
	}{{mac(1), 2}, {nil, 0}, {mac(2), 2}, {nil, 0}, {before[4].Dedupe, 1}, {before[5].Dedupe, 2}} {
		got := must[vault.Record](t)(s.Record(t.Context(), before[i].Lookup))
		if (got.Dedupe == nil) != (want.mac == nil) || got.Dedupe != nil && *got.Dedupe != *want.mac || got.HashedBy != want.by {
			t.Errorf("record %d: hash %v by version %d, want %v by %d", i, got.Dedupe, got.HashedBy, want.mac, want.by)
		}
	}
	if got := must[vault.Record](t)(s.DuplicateOf(t.Context(), []vault.MAC{*mac(9)})); got.Reference != standing.Reference {
		t.Error("the hash has moved from the record that had it")
	}
	Verify(t, s)
}

func testDeleteRows(t *testing.T, url string) {
	s := Open(t, url)
	h, other := Holder(t, s), holderNamed(t, s, "merchant_2", nil)
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	mine, theirs := putUnder(t, s, h, k, 5), putUnder(t, s, other, k, 1)
	rows := must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), "public", "merchant_1", 0, 100))
	var numbers []int64
	for _, r := range rows {
		numbers = append(numbers, r.Row)
	}
	for _, c := range []struct {
		name    string
		rows    []int64
		drop    int64
		deleted int
		wrote   int64
		left    int
	}{
		{"nothing", nil, 0, 0, 0, 5},
		{"holder with rows", nil, h.ID, 0, 0, 5},
		{"some", numbers[:2], h.ID, 2, 1, 3},
		{"some again", numbers[:2], h.ID, 0, 0, 3},
		{"some, and some that are gone", append(numbers[1:4:4], 1<<40), 0, 2, 1, 1},
		{"the last, with their holder", numbers, h.ID, 1, 1, 0},
		{"again", numbers, h.ID, 0, 0, 0},
	} {
		writes(t, s, c.name, c.wrote, func() {
			if n, err := s.DeleteRows(t.Context(), c.rows, c.drop, Entry(t, "delete")); n != c.deleted || err != nil {
				t.Errorf("%s: %d deleted, want %d; %v", c.name, n, c.deleted, err)
			}
		})
		left := 0
		for _, r := range mine {
			if _, err := s.Record(t.Context(), r.Lookup); err == nil {
				left++
			}
		}
		if left != c.left {
			t.Errorf("%s: %d left, want %d", c.name, left, c.left)
		}
	}
	if _, err := s.Holder(t.Context(), "public", "merchant_1"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("holder whose rows are gone: %v", err)
	}
	sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), theirs[0].Lookup)), theirs[0])
	// The empty holder alone.
	empty := holderNamed(t, s, "merchant_3", nil)
	writes(t, s, "empty holder", 1, func() {
		if n, err := s.DeleteRows(t.Context(), nil, empty.ID, Entry(t, "delete")); n != 0 || err != nil {
			t.Errorf("empty holder: %d, %v", n, err)
		}
	})
	Verify(t, s)
}

func testDestroySecret(t *testing.T, url string) {
	s := Open(t, url)
	h, other := holderNamed(t, s, "entity_1", []byte("secret")), holderNamed(t, s, "entity_2", []byte("other"))
	for i, want := range []bool{true, false} {
		writes(t, s, fmt.Sprint("try ", i), map[bool]int64{true: 1}[want], func() {
			if done, err := s.DestroyHolderSecret(t.Context(), h.ID, Entry(t, "destroy")); done != want || err != nil {
				t.Errorf("try %d: %v, %v", i, done, err)
			}
		})
	}
	h.Secret = nil
	same(t, "holder", must[vault.Holder](t)(s.Holder(t.Context(), "public", "entity_1")), h)
	same(t, "other holder", must[vault.Holder](t)(s.Holder(t.Context(), "public", "entity_2")), other)
	if done, err := s.DestroyHolderSecret(t.Context(), 1<<40, Entry(t, "destroy")); done || err != nil {
		t.Errorf("nobody's secret: %v, %v", done, err)
	}
}

// job has something in every field.
func job(kind vault.JobKind, holder string, created vault.Micros) vault.Job {
	return vault.Job{
		ID: vault.NewKeyID(), Kind: kind, Tenant: "public", Holder: holder, State: vault.JobRunning, Reason: "operator", By: "ann", Rate: 100,
		Verify: true, Retire: true, Step: "records", Key: vault.KeyVersion{ID: vault.NewKeyID(), Version: 3}, After: 4, Total: 5, Moved: 6,
		Verified: 7, Skipped: 8, Bad: 9, Error: "none", Node: "", Until: 0, CreatedAt: created, UpdatedAt: 12, WaitUntil: 13, DoneAt: 14,
	}
}

func testPutJob(t *testing.T, url string) {
	s := Open(t, url)
	put := func(j vault.Job) (vault.Job, bool) {
		t.Helper()
		got, created, err := s.PutJob(t.Context(), j, Entry(t, "job"))
		if err != nil {
			t.Fatal(err)
		}
		return got, created
	}
	first := job(vault.JobReencrypt, "", 1)
	writes(t, s, "jobs", 3, func() {
		for _, j := range []vault.Job{first, job(vault.JobVerify, "", 2), job(vault.JobReencrypt, "merchant_1", 3)} {
			got, created := put(j)
			if same(t, "job", got, j); !created {
				t.Error("not created")
			}
		}
		again, created := put(job(vault.JobReencrypt, "", 4))
		if same(t, "standing job", again, first); created {
			t.Error("created twice")
		}
	})
	var successor vault.Job
	for i, state := range []vault.JobState{vault.JobPaused, vault.JobWaiting, vault.JobRunning, vault.JobDone, vault.JobFailed} {
		first.State = state
		if saved, err := s.SaveJob(t.Context(), first, nil); !saved || err != nil {
			t.Fatal(saved, err)
		}
		ended := state == vault.JobDone || state == vault.JobFailed
		var created bool
		successor, created = put(job(vault.JobReencrypt, "", vault.Micros(10+i)))
		if created != ended {
			t.Errorf("a %s job: another is created %v", state, created)
		}
		if ended {
			// It does not come back beside its successor.
			first.State = vault.JobRunning
			writes(t, s, "save of a job that has ended", 0, func() {
				e := Entry(t, "progress")
				if saved, err := s.SaveJob(t.Context(), first, &e); saved || err != nil {
					t.Errorf("a %s job is saved %v, %v", state, saved, err)
				}
			})
			first = successor
		}
	}
	successor.Holder = "merchant_9"
	if _, _, err := s.PutJob(t.Context(), successor, Entry(t, "job")); !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), "the id of job "+successor.ID.String()+" is taken") {
		t.Errorf("id used twice: %v", err)
	}
	Verify(t, s)
}

func testJobs(t *testing.T, url string) {
	s := Open(t, url)
	var want []vault.Job // newest first
	for i := range 12 {
		j := job(vault.JobVerify, fmt.Sprint("merchant_", i), vault.Micros(100+i/2))
		if i%4 != 0 {
			j.State = []vault.JobState{vault.JobDone, vault.JobFailed}[i%2]
		}
		if i >= 8 {
			j.Tenant = "other"
		}
		if _, created, err := s.PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
			t.Fatal(created, err)
		}
		want = append([]vault.Job{j}, want...)
	}
	for _, c := range []struct {
		tenant string
		limit  int
		want   []int // numbers
	}{
		{"", 100, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{"", 5, []int{11, 10, 8, 4, 0}},
		{"", 1, []int{8, 4, 0}},
		{"", 0, []int{8, 4, 0}},
		{"public", 100, []int{7, 6, 5, 4, 3, 2, 1, 0}},
		{"public", 3, []int{7, 4, 0}},
		{"other", 2, []int{11, 8}},
		{"nobody", 9, nil},
	} {
		var jobs []vault.Job
		for _, n := range c.want {
			jobs = append(jobs, want[11-n])
		}
		same(t, fmt.Sprintf("jobs of %q, limit %d", c.tenant, c.limit), must[[]vault.Job](t)(s.Jobs(t.Context(), c.tenant, c.limit)), jobs)
	}
}

func testClaimJob(t *testing.T, url string) {
	s, other := Open(t, url), Open(t, url, OnNode("test-2"))
	j := job(vault.JobReencrypt, "", 1)
	if _, created, err := s.PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
		t.Fatal(created, err)
	}
	claim := func(on *store.Store, node string, now, until vault.Micros, want bool, has string) {
		t.Helper()
		got, ok, err := on.ClaimJob(t.Context(), j.ID, node, now, until)
		if err != nil || ok != want || got.Node != has {
			t.Errorf("claim by %s at %d: %v, has %s, %v", node, now, ok, got.Node, err)
		}
	}
	save := func(on *store.Store, node string, until vault.Micros, want bool) {
		t.Helper()
		mine := j
		mine.Node, mine.Until, mine.Moved = node, until, mine.Moved+1
		e := Entry(t, "progress")
		if on == other {
			e = EntryOf(t, "test-2", "progress")
		}
		got, err := on.SaveJob(t.Context(), mine, &e)
		if err != nil || got != want {
			t.Errorf("save by %s: %v, %v", node, got, err)
		}
		if got {
			j.Moved++
		}
	}
	claim(s, "a", 10, 20, true, "a")
	claim(other, "b", 19, 30, false, "a")
	claim(s, "a", 15, 25, true, "a") // again
	save(s, "a", 25, true)
	writes(t, s, "save without an entry", 0, func() {
		mine := j
		mine.Node, mine.Until = "a", 25
		if saved, err := s.SaveJob(t.Context(), mine, nil); !saved || err != nil {
			t.Error(saved, err)
		}
	})
	save(other, "b", 40, false)
	claim(other, "b", 25, 40, true, "b") // it has run out
	writes(t, s, "save of a job that another node has", 0, func() { save(s, "a", 99, false) })
	save(other, "b", 40, true)
	save(other, "b", 0, true) // gives it free
	claim(s, "a", 1, 5, true, "a")
	save(s, "a", 9, true)
	got := must[[]vault.Job](t)(s.Jobs(t.Context(), "public", 10))
	j.Node, j.Until = "a", 9
	same(t, "job", got, []vault.Job{j})
	claim(other, "operator", 1<<62, 1<<62, true, "operator") // by force
	j.State, j.Node = vault.JobDone, "operator"
	if saved, err := s.SaveJob(t.Context(), j, nil); !saved || err != nil {
		t.Error(saved, err)
	}
	claim(s, "operator", 1<<62, 1<<62, false, "operator") // it has ended
	if _, _, err := s.ClaimJob(t.Context(), vault.NewKeyID(), "a", 1, 2); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("claim of no job: %v", err)
	}
	testClaimsAtOnce(t, s, other)
	Verify(t, s)
}

// testClaimsAtOnce: at any time one node at most has the job.
func testClaimsAtOnce(t *testing.T, stores ...*store.Store) {
	j := job(vault.JobVerify, "", 1)
	if _, created, err := stores[0].PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
		t.Fatal(created, err)
	}
	var clock, owners, claims atomic.Int64
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			s, node := stores[worker%len(stores)], fmt.Sprint("node-", worker)
			for range 10 {
				mine, ok, err := s.ClaimJob(t.Context(), j.ID, node, vault.Micros(clock.Add(1)), 1<<40)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					continue
				}
				claims.Add(1)
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d nodes have the job", n)
				}
				mine.Moved++
				owners.Add(-1) // before it is given free
				mine.Until = 0
				if saved, err := s.SaveJob(t.Context(), mine, nil); !saved || err != nil {
					t.Errorf("save of one's own: %v, %v", saved, err)
				}
			}
		})
	}
	wg.Wait()
	for _, got := range must[[]vault.Job](t)(stores[0].Jobs(t.Context(), "", 10)) {
		if got.ID == j.ID && got.Moved != j.Moved+claims.Load() {
			t.Errorf("%d saves, %d are there", claims.Load(), got.Moved-j.Moved)
		}
	}
}

func testSuspend(t *testing.T, url string) {
	s := Open(t, url)
	suspended := func(want map[string]string) {
		t.Helper()
		same(t, "suspended", must[map[string]string](t)(s.Suspended(t.Context())), want)
	}
	step := func(name string, want bool, call func() (bool, error)) {
		t.Helper()
		writes(t, s, name, map[bool]int64{true: 1}[want], func() {
			if got, err := call(); got != want || err != nil {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		})
	}
	suspended(map[string]string{})
	step("resume of one that is not suspended", false, func() (bool, error) { return s.Resume(t.Context(), "acme", Entry(t, "resume")) })
	step("suspend", true, func() (bool, error) { return s.Suspend(t.Context(), "acme", "breach", 9, Entry(t, "suspend")) })
	step("suspend again", false, func() (bool, error) { return s.Suspend(t.Context(), "acme", "other", 9, Entry(t, "suspend")) })
	step("suspend another", true, func() (bool, error) { return s.Suspend(t.Context(), "beta", "", 9, Entry(t, "suspend")) })
	suspended(map[string]string{"acme": "breach", "beta": ""})
	step("resume", true, func() (bool, error) { return s.Resume(t.Context(), "acme", Entry(t, "resume")) })
	suspended(map[string]string{"beta": ""})
	Verify(t, s)
}

// newest is the number of the newest event.
func newest(tb testing.TB, s *store.Store) int64 {
	tb.Helper()
	events := must[[]vault.KeyEvent](tb)(s.KeyEvents(tb.Context(), 0, 10))
	if len(events) != 1 || events[0].Number <= 0 {
		tb.Fatalf("events at the start: %+v", events)
	}
	return events[0].Number
}

func testKeyEvents(t *testing.T, url string) {
	s := Open(t, url)
	h := holderNamed(t, s, "entity_1", []byte("secret"))
	k := putKey(t, s, "merchant_1", vault.PurposeRecord)
	at := newest(t, s)
	if events, err := s.KeyEvents(t.Context(), at, 10); len(events) != 0 || err != nil {
		t.Errorf("events before anything has changed: %+v, %v", events, err)
	}
	start := at
	tell := func(name string, v vault.KeyVersion, call func() (bool, error)) {
		t.Helper()
		if done, err := call(); !done || err != nil {
			t.Fatalf("%s: %v, %v", name, done, err)
		}
		events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), at, 10))
		if len(events) != 1 || events[0].Number <= at || events[0].Tenant != "public" || events[0].Key != v {
			t.Fatalf("%s: events %+v", name, events)
		}
		if at = events[0].Number; newest(t, s) != at {
			t.Errorf("%s: the newest is %d, want %d", name, newest(t, s), at)
		}
	}
	k2 := next(k, 9)
	tell("rotate", versionOf(k), func() (bool, error) {
		_, done, err := s.RotateKey(t.Context(), k2, Entry(t, "rotate"))
		return done, err
	})
	tell("rewrap", versionOf(k2), func() (bool, error) { return s.RewrapKey(t.Context(), k2, k2.Wrapped, Entry(t, "rewrap")) })
	tell("change", versionOf(k), func() (bool, error) {
		return s.ChangeKey(t.Context(), versionOf(k), vault.KeyDecryptOnly, vault.KeyRetired, 9, Entry(t, "change"))
	})
	tell("destroy secret", vault.KeyVersion{}, func() (bool, error) { return s.DestroyHolderSecret(t.Context(), h.ID, Entry(t, "destroy")) })
	tell("drop holder", vault.KeyVersion{}, func() (bool, error) {
		_, err := s.DeleteRows(t.Context(), nil, h.ID, Entry(t, "drop"))
		return err == nil, err
	})
	tell("suspend", vault.KeyVersion{}, func() (bool, error) { return s.Suspend(t.Context(), "public", "breach", 9, Entry(t, "suspend")) })
	tell("resume", vault.KeyVersion{}, func() (bool, error) { return s.Resume(t.Context(), "public", Entry(t, "resume")) })
	// What did not happen is not told.
	if done, err := s.RewrapKey(t.Context(), k2, []byte("other"), Entry(t, "rewrap")); done || err != nil {
		t.Error(done, err)
	}
	if done, err := s.Resume(t.Context(), "public", Entry(t, "resume")); done || err != nil {
		t.Error(done, err)
	}
	if got := newest(t, s); got != at {
		t.Errorf("event %d of what did not happen", got)
	}
	for _, limit := range []int{1, 3, 100} {
		n := 0
		for seen := start; ; {
			events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), seen, limit))
			if len(events) > limit {
				t.Fatalf("%d events, limit %d", len(events), limit)
			}
			if len(events) == 0 {
				break
			}
			n, seen = n+len(events), events[len(events)-1].Number
		}
		if n != 7 {
			t.Errorf("%d events in pages of %d, want 7", n, limit)
		}
	}
}

func testPruneKeyEvents(t *testing.T, url string) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := Open(t, url, func(o *store.Options) { o.Now = func() time.Time { return now } })
	toggle := func() int64 {
		t.Helper()
		done, err := s.Suspend(t.Context(), "acme", "test", 1, Entry(t, "suspend"))
		if err == nil && !done {
			done, err = s.Resume(t.Context(), "acme", Entry(t, "resume"))
		}
		if !done || err != nil {
			t.Fatal(done, err)
		}
		return newest(t, s)
	}
	old := []int64{toggle(), toggle(), toggle()}
	now = now.Add(25 * time.Hour)
	// Who has seen the last of the old ones has missed nothing.
	fresh := toggle()
	events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), old[2], 10))
	if len(events) != 1 || events[0].Number != fresh || events[0].Tenant != "acme" {
		t.Errorf("after the last old event: %+v", events)
	}
	for _, after := range []int64{old[0], old[1], 1} {
		events := must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), after, 10))
		same(t, "after a removed event", events, []vault.KeyEvent{{Number: fresh}})
	}
	same(t, "after one that is yet to come", must[[]vault.KeyEvent](t)(s.KeyEvents(t.Context(), fresh+100, 10)), []vault.KeyEvent{{Number: fresh}})
	Verify(t, s)
}

// testKeyEventOrder: who reads up to a number has seen all smaller ones, whatever
// node they came from.
func testKeyEventOrder(t *testing.T, url string) {
	nodes := []string{"a", "b"}
	var stores []*store.Store
	for _, n := range nodes {
		stores = append(stores, Open(t, url, OnNode(n)))
	}
	const each = 15
	seen := newest(t, stores[0])
	var writers, reader sync.WaitGroup
	var ended atomic.Bool
	got := map[string]bool{}
	reader.Go(func() {
		for last := false; ; {
			events, err := stores[1].KeyEvents(t.Context(), seen, 4)
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range events {
				got[e.Tenant], seen = true, e.Number
			}
			if len(events) == 0 && last {
				return
			}
			last = ended.Load()
		}
	})
	for i, s := range stores {
		for worker := range 3 {
			writers.Go(func() {
				for n := range each {
					tenant := fmt.Sprint(nodes[i], worker, "-", n)
					if done, err := s.Suspend(t.Context(), tenant, "", 1, EntryOf(t, nodes[i], "suspend")); !done || err != nil {
						t.Error(done, err)
					}
				}
			})
		}
	}
	writers.Wait()
	ended.Store(true)
	reader.Wait()
	if len(got) != 6*each {
		t.Errorf("%d events seen, want %d", len(got), 6*each)
	}
}

func testKeyWorkRefuses(t *testing.T, url string) {
	s := Open(t, url)
	const bad = "nul\x00"
	e := Entry(t, "bad")
	k, j := wrappedKey(bad, vault.PurposeRecord), job(vault.JobVerify, bad, 1)
	calls := func(s *store.Store) map[string]error {
		_, _, rotate := s.RotateKey(t.Context(), k, e)
		_, change := s.ChangeKey(t.Context(), versionOf(k), bad, vault.KeyActive, 1, e)
		_, _, put := s.PutJob(t.Context(), j, e)
		_, save := s.SaveJob(t.Context(), j, nil)
		_, _, claim := s.ClaimJob(t.Context(), j.ID, bad, 1, 2)
		_, suspend := s.Suspend(t.Context(), "acme", bad, 1, e)
		_, resume := s.Resume(t.Context(), bad, e)
		return map[string]error{"rotate": rotate, "change": change, "put": put, "save": save, "claim": claim, "suspend": suspend, "resume": resume}
	}
	writes(t, s, "refused", 0, func() {
		for name, err := range calls(s) {
			if err == nil || err.Error() != "text has a NUL character or is not UTF-8" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	for name, n := range map[string]int{
		"inventory": len(must[[]vault.WrappedKey](t)(s.Inventory(t.Context(), bad))), "jobs": len(must[[]vault.Job](t)(s.Jobs(t.Context(), bad, 9))),
		"records":         len(must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), bad, bad, 0, 9))),
		"records by hash": len(must[[]vault.HeldRecord](t)(s.RecordsWithDedupe(t.Context(), bad, 9, 0, 9))),
		"hashes":          int(must[int64](t)(s.CountHashed(t.Context(), bad, vault.PurposeDedupe, 1))),
	} {
		if n != 0 {
			t.Errorf("%s: %d of nobody", name, n)
		}
	}
	reader := Open(t, url, ReadOnly)
	k, j = wrappedKey("merchant_1", vault.PurposeRecord), job(vault.JobVerify, "", 1)
	_, _, rotate := reader.RotateKey(t.Context(), k, e)
	_, rewrap := reader.RewrapKey(t.Context(), k, nil, e)
	_, change := reader.ChangeKey(t.Context(), versionOf(k), vault.KeyActive, vault.KeyDestroyed, 1, e)
	_, replace := reader.ReplaceSealed(t.Context(), nil, e)
	_, rows := reader.DeleteRows(t.Context(), nil, 0, e)
	_, secret := reader.DestroyHolderSecret(t.Context(), 1, e)
	_, _, put := reader.PutJob(t.Context(), j, e)
	_, save := reader.SaveJob(t.Context(), j, nil)
	_, _, claim := reader.ClaimJob(t.Context(), j.ID, "a", 1, 2)
	_, suspend := reader.Suspend(t.Context(), "acme", "", 1, e)
	_, resume := reader.Resume(t.Context(), "acme", e)
	for name, err := range map[string]error{
		"rotate": rotate, "rewrap": rewrap, "change": change, "replace": replace, "rows": rows, "secret": secret, "put": put, "save": save,
		"claim": claim, "suspend": suspend, "resume": resume, "count": reader.AddSealed(t.Context(), map[vault.KeyVersion]uint64{versionOf(k): 1}),
	} {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s of a store that only reads: %v", name, err)
		}
	}
}

// testOldRows writes rows as the release before does, which lists no column that it
// does not know.
func testOldRows(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	k, r, plain := wrappedKey("merchant_1", vault.PurposeRecord), Record(h.ID), Record(h.ID)
	plain.Dedupe = nil
	Exec(t, url, `INSERT INTO wrapped_key (key_id, version, tenant, holder, purpose, state, mode, wrapped, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		k.ID[:], 1, k.Tenant, k.Holder, string(k.Purpose), string(k.State), int(k.Mode), k.Wrapped, int64(k.CreatedAt))
	for _, r := range []vault.Record{r, plain} {
		var dedupe []byte
		if r.Dedupe != nil {
			dedupe = r.Dedupe[:]
		}
		Exec(t, url, `INSERT INTO record (lookup, dedupe, holder_id, space, kind, customer, reference, mode, key_id, key_version, sealed, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, r.Lookup[:], dedupe, h.ID, int(r.Space), int(r.Kind), r.Customer, r.Reference,
			int(r.Mode), r.Key[:], int(r.KeyVersion), r.Sealed, int64(r.CreatedAt), int64(r.ExpiresAt))
	}
	Exec(t, url, "INSERT INTO fingerprint (hash, tenant, id) VALUES ($1, $2, $3)", bytes.Repeat([]byte{1}, 32), "public", "print")
	same(t, "key", must[vault.WrappedKey](t)(s.Key(t.Context(), k.ID, 1)), k)
	sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), r.Lookup)), r)
	sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), plain.Lookup)), plain)
	for _, p := range []vault.Purpose{vault.PurposeDedupe, vault.PurposeFingerprint} {
		if n := must[int64](t)(s.CountHashed(t.Context(), "public", p, 1)); n != 1 {
			t.Errorf("%d hashes of the first %s key, want 1", n, p)
		}
	}
}
