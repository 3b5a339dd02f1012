package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"cardea/internal/kms"
	"cardea/internal/store/storetest"
)

// The small store that a large one is compared with.
const (
	smallKeys   = 100
	smallGrants = 1000
)

// crowd is how many grants are on one key, at the most.
const crowd = 40_000

// keyStore is a key service with many keys and grants.
type keyStore struct {
	*keyServer
	arns    []string
	grantee accessKey // a user who may do what grants allow, on the first keys
	granted []string  // those keys
}

// measureKeyScale compares Encrypt on a large store with that on a small one:
// permitted by policies, on keys in no order; by a grant; and by a grant on a key
// that has tens of thousands.
func measureKeyScale(ctx context.Context, o options, r *report, exe, dir, name, db string) error {
	if o.kmsKeys == 0 {
		return nil
	}
	stores := map[string]*keyStore{}
	for _, size := range []struct {
		name         string
		keys, grants int
	}{{"small", smallKeys, smallGrants}, {"large", o.kmsKeys, o.kmsGrants}} {
		database := "sqlite"
		if db == "postgres" {
			var err error
			if database, err = postgres(ctx, "bench_keys_"+size.name); err != nil {
				return err
			}
		}
		s, err := fillKeys(ctx, exe, filepath.Join(dir, size.name), database, size.keys, size.grants)
		if err != nil {
			return err
		}
		defer s.stop()
		stores[size.name] = s
	}
	small, large := stores["small"], stores["large"]
	const conns = 16
	for _, by := range []struct {
		what string
		ring func(s *keyStore) (ring, error)
	}{
		{"policy", func(s *keyStore) (ring, error) { return s.encrypts(s.root, s.arns) }},
		{"a grant", func(s *keyStore) (ring, error) { return s.encrypts(s.grantee, s.granted) }},
		{"a grant on a key with many", func(s *keyStore) (ring, error) { return s.encrypts(s.grantee, s.arns[:1]) }},
	} {
		turns := make([]turn, 2)
		for i, s := range []*keyStore{small, large} {
			ring, err := by.ring(s)
			if err != nil {
				return err
			}
			turns[i] = turn{s.server, ring}
		}
		got, err := inTurns(o, conns, turns)
		if err != nil {
			return fmt.Errorf("encrypt by %s: %w", by.what, err)
		}
		few, many := got[0], got[1]
		r.add(row{what: fmt.Sprintf("KMS %s Encrypt by %s, small store", name, by.what), note: fmt.Sprintf("%d keys, %d grants", smallKeys, smallGrants)}.with(few))
		r.add(row{
			what: fmt.Sprintf("KMS %s Encrypt by %s, large store", name, by.what),
			note: fmt.Sprintf("%d keys, %d grants; p99 %.2f times that of the small store; server %.0f MiB", o.kmsKeys, o.kmsGrants, float64(many.P99)/float64(few.P99), large.rss()),
		}.with(many))
	}
	return nil
}

// encrypts are requests on keys, scattered, each key once if there are not too many.
func (s *keyStore) encrypts(k accessKey, arns []string) (ring, error) {
	const most = 50_000
	return signAll(k, s.addr, "Encrypt", min(max(len(arns), keyRing), most), func(i int) []byte { return encryptBody(arns[i*7919%len(arns)]) })
}

// fillKeys makes a key service with many keys, which are made as clients make them,
// since each has material of its own, and grants, which are written past it.
func fillKeys(ctx context.Context, exe, dir, database string, keys, grants int) (*keyStore, error) {
	started, err := startKeys(ctx, exe, dir, database)
	if err != nil {
		return nil, err
	}
	s := &keyStore{keyServer: started}
	if err := s.bootstrap(ctx); err != nil {
		return nil, err
	}
	if s.grantee, err = s.user(ctx, "grantee"); err != nil {
		return nil, err
	}
	for len(s.arns) < keys { // signatures are good for minutes
		more, err := s.createKeys(min(10_000, keys-len(s.arns)))
		if err != nil {
			return nil, err
		}
		s.arns = append(s.arns, more...)
	}
	s.granted = s.arns[:min(1000, len(s.arns))]
	user := "arn:aws:iam::" + account + ":user/grantee"
	_, err = ask[struct{ GrantID string }](s.root, s.addr, "CreateGrant", 16, len(s.granted), func(i int) []byte {
		return fmt.Appendf(nil, `{"GranteePrincipal":"%s","KeyId":"%s","Operations":["Encrypt","Decrypt"]}`, user, s.granted[i])
	})
	if err != nil {
		return nil, err
	}
	err = s.restart(ctx, exe, func() error {
		refs := make([]kms.KeyRef, len(s.arns))
		for i, arn := range s.arns {
			refs[i] = kms.KeyRef{Account: account, Region: region, ID: keyID(arn)}
		}
		like := &kms.Grant{
			Key: refs[0], Grantee: "arn:aws:iam::" + account + ":user/other-", Issuer: "arn:aws:iam::" + account + ":root",
			Operations: []kms.GrantOperation{"Encrypt", "Decrypt"}, CreatedAt: time.Now().UTC(), TokenKey: random(32),
		}
		onOne := min(crowd, grants/10)
		if err := storetest.SeedGrants(ctx, s.database, like, refs[:1], onOne); err != nil {
			return err
		}
		return storetest.SeedGrants(ctx, s.database, like, refs[1:], grants-onOne-len(s.granted))
	})
	return s, err
}
