package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"cardea/internal/store"
	"cardea/internal/vault"
)

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
		deleted int
		wrote   int64
		left    int
	}{
		{"nothing", nil, 0, 0, 5},
		{"some", numbers[:2], 2, 1, 3},
		{"some again", numbers[:2], 0, 0, 3},
		{"some, and some that are gone", append(numbers[1:4:4], 1<<40), 2, 1, 1},
		{"the last", numbers, 1, 1, 0},
		{"again", numbers, 0, 0, 0},
	} {
		writes(t, s, c.name, c.wrote, func() {
			if n, err := s.DeleteRows(t.Context(), c.rows, Entry(t, "delete")); n != c.deleted || err != nil {
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
	sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), theirs[0].Lookup)), theirs[0])
	Verify(t, s)
}

// shred marks a holder and wants it to be done, or not.
func shred(tb testing.TB, s *store.Store, h vault.Holder, want bool) {
	tb.Helper()
	writes(tb, s, "shred", map[bool]int64{true: 1}[want], func() {
		if done, err := s.ShredHolder(tb.Context(), h.ID, 9, Entry(tb, "shred")); done != want || err != nil {
			tb.Errorf("shred: %v, %v", done, err)
		}
	})
}

func testShredHolder(t *testing.T, url string) {
	s := Open(t, url)
	h, other := holderNamed(t, s, "entity_1", []byte("secret")), holderNamed(t, s, "entity_2", []byte("other"))
	shred(t, s, h, true)
	shred(t, s, h, false)
	shred(t, s, vault.Holder{ID: 1 << 40}, false)
	want := h
	want.Secret, want.ShreddedAt = nil, 9
	same(t, "holder", must[vault.Holder](t)(s.Holder(t.Context(), "public", "entity_1")), want)
	same(t, "other holder", must[vault.Holder](t)(s.Holder(t.Context(), "public", "entity_2")), other)
	standing, created, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "entity_1", Secret: []byte("new"), CreatedAt: 10}, Entry(t, "again"))
	if created || err != nil {
		t.Errorf("its name was taken: created %v, %v", created, err)
	}
	same(t, "who stands in the way", standing, want)
}

// testNothingForAShredded: a node that has the holder in memory goes on storing for
// it when another node has marked it.
func testNothingForAShredded(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	other := Open(t, url, OnNode("other"))
	h, kept := Holder(t, s), holderNamed(t, s, "merchant_2", nil)
	before := Record(h.ID)
	if existing, err := s.PutRecord(t.Context(), before, Entry(t, "before")); existing != nil || err != nil {
		t.Fatal(existing, err)
	}
	if done, err := other.ShredHolder(t.Context(), h.ID, 9, EntryOf(t, "other", "shred")); !done || err != nil {
		t.Fatal(done, err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if want := fmt.Sprintf("holder %d: merchant or entity was shredded", h.ID); !errors.Is(err, vault.ErrShredded) || err.Error() != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	put := func(r vault.Record) error {
		existing, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference))
		if existing != nil {
			t.Errorf("%s stands in the way", existing.Reference)
		}
		return err
	}
	upsert := func(r vault.Record) error {
		return s.UpsertRecord(t.Context(), r, Entry(t, r.Reference))
	}
	anew, fresh := before, Record(h.ID)
	anew.Sealed = []byte("anew")
	for range 2 { // the second time all statements are prepared
		writes(t, s, "refused", 0, func() {
			refused("put", put(Record(h.ID)))
			refused("upsert", upsert(fresh))
			refused("upsert of one that is there", upsert(anew))
		})
	}
	existing, err := s.PutRecord(t.Context(), before, Entry(t, "again"))
	if err != nil || existing == nil || existing.Reference != before.Reference {
		t.Errorf("one that is there: %+v, %v", existing, err)
	}
	// In one commit with those of others.
	var mu sync.Mutex
	var errs [2][]error
	var calls []func()
	for i := range 8 {
		of := []vault.Holder{kept, h}[i%2]
		store := []func(vault.Record) error{put, upsert}[i/2%2]
		calls = append(calls, func() {
			err := store(Record(of.ID))
			mu.Lock()
			defer mu.Unlock()
			errs[i%2] = append(errs[i%2], err)
		})
	}
	writes(t, s, "together", 4, func() { gate.Together(t, calls...) })
	for i := range errs[0] {
		if errs[0][i] != nil {
			t.Error(errs[0][i])
		}
		refused("together", errs[1][i])
	}
	if rows := must[[]vault.HeldRecord](t)(other.RecordsOf(t.Context(), "public", "merchant_1", 0, 100)); len(rows) != 1 || !sameSealed(rows[0], before) {
		t.Errorf("rows of the shredded one: %+v", rows)
	}
	if rows := must[[]vault.HeldRecord](t)(other.RecordsOf(t.Context(), "public", "merchant_2", 0, 100)); len(rows) != 4 {
		t.Errorf("%d rows of the other", len(rows))
	}
	Verify(t, s)
}

func sameSealed(h vault.HeldRecord, r vault.Record) bool {
	return h.Reference == r.Reference && string(h.Sealed) == string(r.Sealed)
}

func testFreeName(t *testing.T, url string) {
	s := Open(t, url)
	h := holderNamed(t, s, "entity_1", []byte("secret"))
	putUnder(t, s, h, wrappedKey("", vault.PurposeRecord), 1)
	free := func(want bool) {
		t.Helper()
		writes(t, s, "free", map[bool]int64{true: 1}[want], func() {
			if done, err := s.FreeName(t.Context(), h.ID, Entry(t, "free")); done != want || err != nil {
				t.Errorf("free: %v, %v", done, err)
			}
		})
	}
	free(false) // it is not marked
	shred(t, s, h, true)
	free(false) // it has a row
	rows := must[[]vault.HeldRecord](t)(s.RecordsOf(t.Context(), "public", "entity_1", 0, 9))
	must[int](t)(s.DeleteRows(t.Context(), []int64{rows[0].Row}, Entry(t, "delete")))
	free(true)
	free(false)
	if _, err := s.Holder(t.Context(), "public", "entity_1"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("holder whose name is free: %v", err)
	}
	again := holderNamed(t, s, "entity_1", []byte("new"))
	if again.ID == h.ID || string(again.Secret) != "new" || again.ShreddedAt != 0 {
		t.Errorf("another of the same name: %+v", again)
	}
	if _, err := s.PutRecord(t.Context(), Record(h.ID), Entry(t, "late")); !errors.Is(err, vault.ErrShredded) {
		t.Errorf("of the former one: %v", err)
	}
	putUnder(t, s, again, wrappedKey("", vault.PurposeRecord), 1)
	Verify(t, s)
}
