package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/store"
	"cardea/internal/vault"
)

// model is what the records of a few references should be.
type model map[vault.Lookup]vault.Record

// change is one call on a store and on the model.
type change struct {
	kind      string // put, upsert, delete
	record    vault.Record
	expiredAt vault.Micros
	got       string // what the store answered
}

// apply makes the change in m and tells what the answer has to be.
func (c *change) apply(m model) string {
	l := c.record.Lookup
	switch c.kind {
	case "put":
		if c.record.Dedupe != nil {
			for _, r := range m {
				if r.Dedupe != nil && *r.Dedupe == *c.record.Dedupe {
					return "found " + nameOf(r)
				}
			}
		}
		if r, ok := m[l]; ok {
			return "found " + nameOf(r)
		}
		m[l] = c.record
		return "put"
	case "upsert":
		m[l] = c.record
		return "upserted"
	default:
		r, ok := m[l]
		if !ok || c.expiredAt != 0 && (r.ExpiresAt == 0 || c.expiredAt <= r.ExpiresAt) {
			return "absent"
		}
		delete(m, l)
		return "deleted"
	}
}

func (c *change) run(tb testing.TB, s *store.Store) {
	e := Entry(tb, c.record.Reference)
	var err error
	switch c.kind {
	case "put":
		var existing *vault.Record
		if existing, err = s.PutRecord(tb.Context(), c.record, e); existing != nil {
			c.got = "found " + nameOf(*existing)
		} else {
			c.got = "put"
		}
	case "upsert":
		err = s.UpsertRecord(tb.Context(), c.record, e)
		c.got = "upserted"
	default:
		var deleted bool
		deleted, err = s.DeleteRecord(tb.Context(), c.record.Lookup, c.expiredAt, e)
		c.got = map[bool]string{true: "deleted", false: "absent"}[deleted]
	}
	if err != nil {
		c.got = err.Error()
	}
}

// nameOf tells records apart.
func nameOf(r vault.Record) string { return fmt.Sprint(r.Reference, " of ", r.CreatedAt) }

// fits reports whether the changes, in some order, have the answers that they got
// and lead from before to after.
func fits(cs []*change, before, after model) bool {
	if len(cs) == 0 {
		return maps.EqualFunc(before, after, func(a, b vault.Record) bool { return nameOf(a) == nameOf(b) })
	}
	for i, c := range cs {
		m := maps.Clone(before)
		if c.apply(m) == c.got && fits(append(slices.Clone(cs[:i]), cs[i+1:]...), m, after) {
			return true
		}
	}
	return false
}

// testLinearizable commits random changes of few records together and asks
// whether what came out is what some order of them would have given. Every answer
// that says that something was done has its entry.
func testLinearizable(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		const references = 3
		var macs [references]vault.MAC
		for i := range macs {
			macs[i] = vault.MAC{byte(i), byte(run), byte(run >> 8)}
		}
		lookups := make([]vault.Lookup, references)
		for i := range lookups {
			lookups[i] = vault.LookupOf("public", fmt.Sprint(run), vault.SpaceV1, "", fmt.Sprint(i))
		}
		before := model{}
		version := vault.Micros(0)
		for range rapid.IntRange(1, 4).Draw(rt, "commits") {
			var cs []*change
			var calls []func()
			for range rapid.IntRange(1, 5).Draw(rt, "changes") {
				i := rapid.IntRange(0, references-1).Draw(rt, "reference")
				version++
				c := &change{kind: rapid.SampledFrom([]string{"put", "put", "upsert", "delete"}).Draw(rt, "kind"), record: Record(h.ID)}
				r := &c.record
				r.Lookup, r.Reference, r.CreatedAt, r.Dedupe = lookups[i], fmt.Sprint(i), version, nil
				if c.kind == "put" && rapid.Bool().Draw(rt, "dedupe") {
					r.Dedupe = &macs[rapid.IntRange(0, references-1).Draw(rt, "card")]
				}
				if rapid.Bool().Draw(rt, "expiring") {
					r.ExpiresAt, c.expiredAt = 10, rapid.SampledFrom([]vault.Micros{0, 10, 11}).Draw(rt, "expired at")
				}
				cs = append(cs, c)
				calls = append(calls, func() { c.run(t, s) })
			}
			size := entries(t, s)
			gate.Together(t, calls...)
			after := model{}
			for i := range lookups {
				if r, err := s.Record(t.Context(), lookups[i]); err == nil {
					after[r.Lookup] = r
				}
			}
			if !fits(cs, before, after) {
				for _, c := range cs {
					rt.Logf("%s %s dedupe %v expired at %d: %s", c.kind, nameOf(c.record), c.record.Dedupe != nil, c.expiredAt, c.got)
				}
				rt.Fatalf("no order of the changes leads from %v to %v with these answers", slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
			}
			done := int64(0)
			for _, c := range cs {
				if !strings.HasPrefix(c.got, "found") && c.got != "absent" {
					done++
				}
			}
			if got := entries(t, s) - size; got != done {
				rt.Fatalf("%d entries for %d changes", got, done)
			}
			before = after
		}
	})
	Verify(t, s)
}
