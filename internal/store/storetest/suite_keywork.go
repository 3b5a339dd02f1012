package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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
		"RowsAreDeleted":                            testDeleteRows,
		"HolderIsMarkedAndLosesItsSecret":           testShredHolder,
		"NothingIsStoredForAShreddedHolder":         testNothingForAShredded,
		"NameOfAShreddedHolderIsFreed":              testFreeName,
		"JobIsOneAtATimeOfItsKind":                  testPutJob,
		"JobsAreListedUnfinishedOnesAlways":         testJobs,
		"JobIsOneNodes":                             testClaimJob,
		"OldJobsAreRemoved":                         testPruneJobs,
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
		got, created, err := s.PutKey(t.Context(), fourth, Entry(t, "key"))
		if created || err != nil {
			t.Errorf("second active version: created %v, error %v", created, err)
		}
		same(t, "stands", got, third)
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
