package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// keyOperations are what is measured, in this order: Decrypt opens what Encrypt has
// sealed.
var keyOperations = []string{"Encrypt", "Decrypt", "GenerateDataKey"}

// cuts is into how many parts a comparison is cut, in which those that are
// compared take turns: what else the machine does falls on all.
const cuts = 5

// keyConns are the numbers of connections that are measured.
func (o options) keyConns() []int {
	if o.quick {
		return []int{64}
	}
	return []int{1, 16, 64}
}

// keyRing is how many requests are signed for a measurement, on how many keys.
const (
	keyRing  = 512
	keyCount = 64
)

// measureKeys measures the key service on one database: beside its bound, the same
// without policy, audit log and store, and beside itself with a store that discards;
// by the AWS SDK; and with many keys and grants.
func measureKeys(ctx context.Context, o options, r *report, exe, dir, db string) error {
	name, database := "SQLite", "sqlite"
	if db == "postgres" {
		var err error
		name = "PostgreSQL"
		if database, err = postgres(ctx, "bench_keys"); err != nil {
			return err
		}
	}
	dir = filepath.Join(dir, "keys-"+db)
	s, err := startKeys(ctx, exe, dir, database)
	if err != nil {
		return err
	}
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	arns, err := s.createKeys(keyCount)
	if err != nil {
		return err
	}
	if strings.Contains(o.keyParts, "bound") {
		if err := measureBound(ctx, o, r, name, s, arns); err != nil {
			return err
		}
	}
	if strings.Contains(o.keyParts, "sdk") {
		if err := measureSDK(ctx, o, r, "KMS "+name, "http://"+s.addr, s.root, arns[0]); err != nil {
			return err
		}
	}
	if err := s.stop(); err != nil {
		return err
	}
	if !strings.Contains(o.keyParts, "scale") {
		return nil
	}
	return measureKeyScale(ctx, o, r, exe, dir, name, db)
}

// measureBound measures the server beside its bounds.
func measureBound(ctx context.Context, o options, r *report, name string, s *keyServer, arns []string) error {
	least, err := startBound(ctx, s.root, false)
	if err != nil {
		return err
	}
	same, err := startBound(ctx, s.root, true)
	if err != nil {
		return err
	}
	theirs, err := (&keyServer{server: same, root: s.root}).createKeys(keyCount)
	if err != nil {
		return err
	}
	for _, op := range keyOperations {
		turns := make([]turn, 3)
		for i, x := range []struct {
			*server
			arns []string
		}{{s.server, arns}, {least, arns}, {same, theirs}} {
			requests, err := operationRing(s.root, x.addr, op, x.arns)
			if err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
			turns[i] = turn{x.server, requests}
		}
		for _, conns := range o.keyConns() {
			got, err := inTurns(o, conns, turns)
			if err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
			most, discarding := got[1], got[2]
			r.add(row{
				what: fmt.Sprintf("KMS %s %s, %s", name, op, connections(conns)), bound: most.rate(),
				note: fmt.Sprintf("bound: p50 %s ms, CPU %.1f µs; entries discarded: %.0f/s (%.0f %%), CPU %.1f µs",
					ms(most.P50), micros(most.CPU), discarding.rate(), 100*got[0].rate()/discarding.rate(), micros(discarding.CPU)),
			}.with(got[0]))
		}
	}
	return errors.Join(least.stop(), same.stop())
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// benchContext is the encryption context of all requests, of two pairs.
const benchContext = `"EncryptionContext":{"purpose":"branch-key","tenant":"acme"}`

// operationRing are requests on keys in turn.
func operationRing(k accessKey, addr, op string, arns []string) (ring, error) {
	body := func(i int) []byte { return encryptBody(arns[i%len(arns)]) }
	switch op {
	case "GenerateDataKey":
		body = func(i int) []byte {
			return fmt.Appendf(nil, `{%s,"KeyId":"%s","KeySpec":"AES_256"}`, benchContext, arns[i%len(arns)])
		}
	case "Decrypt":
		blobs, err := ask[struct{ CiphertextBlob []byte }](k, addr, "Encrypt", 4, keyRing, body)
		if err != nil {
			return nil, err
		}
		body = func(i int) []byte {
			return fmt.Appendf(nil, `{"CiphertextBlob":"%s",%s,"KeyId":"%s"}`, base64.StdEncoding.EncodeToString(blobs[i].CiphertextBlob), benchContext, arns[i%len(arns)])
		}
	}
	return signAll(k, addr, op, keyRing, body)
}

// encryptBody encrypts 32 bytes.
func encryptBody(arn string) []byte {
	return fmt.Appendf(nil, `{%s,"KeyId":"%s","Plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`, benchContext, arn)
}

// turn is one of those that are compared.
type turn struct {
	*server
	ring
}

// inTurns measures servers in turns.
func inTurns(o options, conns int, turns []turn) ([]result, error) {
	o.conns = conns
	o.seconds /= cuts
	sums := make([]result, len(turns))
	for range cuts {
		for i, x := range turns {
			got, err := check(x.load(o, x.next))
			if err != nil {
				return nil, err
			}
			sums[i] = sums[i].plus(got)
		}
	}
	return sums, nil
}
