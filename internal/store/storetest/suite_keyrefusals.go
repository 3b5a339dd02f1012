package storetest

import (
	"bytes"
	"errors"
	"testing"

	"cardea/internal/store"
	"cardea/internal/vault"
)

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
	_, rows := reader.DeleteRows(t.Context(), nil, e)
	_, shred := reader.ShredHolder(t.Context(), 1, 1, e)
	_, free := reader.FreeName(t.Context(), 1, e)
	_, _, put := reader.PutJob(t.Context(), j, e)
	_, save := reader.SaveJob(t.Context(), j, nil)
	_, _, claim := reader.ClaimJob(t.Context(), j.ID, "a", 1, 2)
	_, suspend := reader.Suspend(t.Context(), "acme", "", 1, e)
	_, resume := reader.Resume(t.Context(), "acme", e)
	for name, err := range map[string]error{
		"rotate": rotate, "rewrap": rewrap, "change": change, "replace": replace, "rows": rows, "shred": shred, "free": free, "put": put, "save": save,
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
