package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cardea/internal/vault"
)

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
	for _, limit := range []int{1, 4, 100} {
		for _, c := range []struct {
			under []vault.KeyVersion
			of    vault.Holder
			want  []vault.Record
		}{
			{nil, one, nil},
			{[]vault.KeyVersion{{ID: vault.NewKeyID(), Version: 1}}, one, nil},
			{[]vault.KeyVersion{versionOf(k1), v2, versionOf(direct)}, one, all1},
			{[]vault.KeyVersion{{ID: k1.ID, Version: 7}, versionOf(tenant)}, entity, ofEntity},
		} {
			under := map[vault.KeyVersion]bool{}
			for _, v := range c.under {
				under[v] = true
			}
			held(t, fmt.Sprintf("among %d versions", len(under)), heldPages(t, limit, func(after int64, limit int) ([]vault.HeldRecord, error) {
				return s.RecordsAmong(t.Context(), under, after, limit)
			}), c.of, c.want)
		}
	}
	all := must[[]vault.HeldRecord](t)(s.RecordsAmong(t.Context(), map[vault.KeyVersion]bool{versionOf(k1): true, versionOf(k2): true}, 0, 1000))
	for i, h := range all {
		if want := []string{"merchant_1", "merchant_2"}[i%2]; h.Holder.Name != want {
			t.Errorf("row %d is of %s, want them as they lie", i, h.Holder.Name)
		}
	}
	if len(all) != 50 {
		t.Errorf("%d rows of two versions", len(all))
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
