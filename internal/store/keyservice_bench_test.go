package store_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/kms"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

// large makes BenchmarkKeyService measure a store of 100,000 keys and a million grants.
var large = flag.Bool("large", false, "benchmark large stores")

// BenchmarkKeyService measures the calls of the key service one after the other, on
// small and large stores, and reports the 99th percentile.
func BenchmarkKeyService(b *testing.B) {
	for _, size := range []struct{ keys, grants int }{{1000, 10_000}, {100_000, 1_000_000}} {
		if size.keys > 1000 && !*large {
			continue
		}
		for _, db := range storetest.Databases() {
			b.Run(fmt.Sprintf("%s/keys=%d", db.Name, size.keys), func(b *testing.B) { benchKeyService(b, db.URL(b), size.keys, size.grants) })
		}
	}
}

func benchKeyService(b *testing.B, url string, keys, grants int) {
	s := storetest.Open(b, url)
	ks := store.NewKeyService(s)
	like := storetest.Key()
	like.Rotation = kms.Rotation{Enabled: true, PeriodDays: 365, Next: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	like.Policy = strings.Repeat("p", 600)
	refs, err := storetest.SeedKeys(b.Context(), url, like, keys)
	if err != nil {
		b.Fatal(err)
	}
	grant := storetest.Grant(refs[0])
	grant.Retiring, grant.Name = "arn:aws:iam::111122223333:role/retiring", "name"
	if err := storetest.SeedGrants(b.Context(), url, grant, refs[1:], grants*9/10); err != nil {
		b.Fatal(err)
	}
	if err := storetest.SeedGrants(b.Context(), url, grant, refs[:1], grants/10); err != nil { // many on one key
		b.Fatal(err)
	}
	if err := ks.PutUsage(b.Context(), usages(refs)); err != nil {
		b.Fatal(err)
	}
	e := storetest.Entry(b, "bench")
	update := func(fn func(kms.Tx) error) func(int) error {
		return func(int) error {
			return ks.Update(b.Context(), func(tx kms.Tx) error { tx.Append(e); return fn(tx) })
		}
	}
	ref := func(i int) kms.KeyRef { return refs[1+i*7919%(len(refs)-1)] }
	n := 0
	next := func() kms.KeyRef { n++; return ref(n) }
	ctx := context.WithoutCancel(b.Context())
	grantee := func(i int) string { return fmt.Sprint(grant.Grantee, i) }
	for _, c := range []struct {
		name string
		call func(i int) error
	}{
		{"Key", func(i int) error { _, err := ks.Key(ctx, ref(i)); return err }},
		{"Keys", func(i int) error {
			_, err := ks.Keys(ctx, storetest.Account, storetest.Region, ref(i).ID, 100)
			return err
		}},
		{"Grants", func(i int) error { _, err := ks.Grants(ctx, ref(i), kms.GrantFilter{}, "", 50); return err }},
		{"GrantsTo", func(i int) error {
			_, err := ks.Grants(ctx, refs[0], kms.GrantFilter{Grantee: grantee(i % (grants / 10))}, "", 50)
			return err
		}},
		{"GrantsNamed", func(i int) error { _, err := ks.Grants(ctx, ref(i), kms.GrantFilter{Name: "name"}, "", 50); return err }},
		{"Retirable", func(i int) error {
			_, err := ks.Retirable(ctx, storetest.Account, storetest.Region, grant.Retiring, fmt.Sprintf("%064x", i), 50)
			return err
		}},
		{"AliasesOf", func(i int) error { _, err := ks.AliasesOf(ctx, ref(i), "", 50); return err }},
		{"Due", func(int) error { _, err := ks.Due(ctx, like.Rotation.Next, 100); return err }},
		{"Changes", func(int) error { _, _, err := ks.Changes(ctx, 0); return err }},
		{"PutUsage", func(i int) error {
			return ks.PutUsage(ctx, []kms.Usage{{Key: ref(i), At: time.Now()}})
		}},
		{"Append", func(int) error { return ks.Append(ctx, e) }},
		{"CreateKey", update(func(tx kms.Tx) error {
			if _, err := tx.CountKeys(ctx, storetest.Account, storetest.Region, ""); err != nil {
				return err
			}
			return tx.PutKey(ctx, storetest.Key())
		})},
		{"ChangeKey", update(func(tx kms.Tx) error {
			k, err := tx.Key(ctx, next())
			if err != nil {
				return err
			}
			return tx.PutKey(ctx, k)
		})},
		{"CreateGrant", update(func(tx kms.Tx) error {
			r := next()
			if _, err := tx.CountGrants(ctx, r); err != nil {
				return err
			}
			return tx.PutGrant(ctx, storetest.Grant(r))
		})},
		{"CreateGrantBig", update(func(tx kms.Tx) error {
			if _, err := tx.CountGrants(ctx, refs[0]); err != nil {
				return err
			}
			return tx.PutGrant(ctx, storetest.Grant(refs[0]))
		})},
		{"CreateAlias", update(func(tx kms.Tx) error {
			r := next()
			return tx.PutAlias(ctx, &kms.Alias{Account: r.Account, Region: r.Region, Name: "alias/" + storetest.Key().ID, KeyID: r.ID}, false)
		})},
	} {
		b.Run(c.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for i := range b.N {
				start := time.Now()
				if err := c.call(i); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
	}
	start := time.Now()
	if err := update(func(tx kms.Tx) error { return tx.DeleteKey(ctx, refs[0]) })(0); err != nil {
		b.Fatal(err)
	}
	b.Logf("a key with %d grants is deleted in %v", grants/10, time.Since(start))
}

func usages(refs []kms.KeyRef) (us []kms.Usage) {
	for _, r := range refs {
		us = append(us, kms.Usage{Key: r, Operation: "Encrypt", At: time.Unix(1, 0), EventID: "event", RequestID: "request"})
	}
	return us
}

// BenchmarkCreateGrant64 is many who make grants at once, each with an entry.
func BenchmarkCreateGrant64(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		s := open(b, db)
		ks := store.NewKeyService(s)
		k := storetest.Key()
		storetest.PutKey(b, ks, k)
		es := make([]audit.Sealed, b.N)
		for i := range es {
			es[i] = storetest.Entry(b, "bench")
		}
		measure(b, func() {
			concurrently(b, b.N, func(ctx context.Context, i int) error {
				g := storetest.Grant(k.KeyRef)
				return ks.Update(ctx, func(tx kms.Tx) error {
					tx.Append(es[i])
					if _, err := tx.CountGrants(ctx, k.KeyRef); err != nil {
						return err
					}
					return tx.PutGrant(ctx, g)
				})
			})
		})
	})
}

// BenchmarkPutUsage is the last uses of 10,000 keys, again and again.
func BenchmarkPutUsage(b *testing.B) {
	eachBench(b, func(b *testing.B, db storetest.Database) {
		url := db.URL(b)
		ks := store.NewKeyService(storetest.Open(b, url))
		refs, err := storetest.SeedKeys(b.Context(), url, storetest.Key(), 10_000)
		if err != nil {
			b.Fatal(err)
		}
		us := usages(refs)
		b.ResetTimer()
		for range b.N {
			for i := range us {
				us[i].At = us[i].At.Add(time.Second)
			}
			if err := ks.PutUsage(b.Context(), us); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(us)), "µs/key")
	})
}
