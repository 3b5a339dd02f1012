package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// answerText is an answer of the locker's size, for the bound of HTTP alone.
const answerText = `{"status":"Ok","payload":{"card_reference":"01932c0e-6a4e-7cc0-8c4a-0d1f4b7f3a55","duplication_check":null,"dedup":null}}`

// cryptoCost is what one operation's cryptography costs: key derivation, AES-GCM,
// two keyed hashes and the hash of an audit entry.
const cryptoCost = cost(5 * time.Microsecond)

// run is the counter that keeps customers of different measurements apart.
var run64 atomic.Int64

// measureStore measures stores of new cards.
func measureStore(o options, s *server) (result, error) {
	base := int(run64.Add(1)) * 1000
	return s.load(o, func(buf []byte, w, i int) []byte {
		return post(buf, "/cards/add", storeBody(base+w, i))
	})
}

// seed stores n cards and returns how to read them.
func seed(s *server, conns, n int) ([]stored, error) {
	base := int(run64.Add(1)) * 1000
	out := make([]stored, n)
	var next atomic.Int64
	err := parallel(s.addr, conns, func(w int, c *conn) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			body, err := c.do("/cards/add", storeBody(base+w, i))
			if err != nil {
				return err
			}
			ref := between(body, `"card_reference":"`, `"`)
			if ref == "" {
				return fmt.Errorf("unexpected answer %q", body)
			}
			out[i] = stored{fmt.Sprintf("merchant-%d", (base+w)%16), fmt.Sprintf("customer-%d-%d", base+w, i), ref}
		}
	})
	return out, err
}

func between(b []byte, before, after string) string {
	_, b, ok := bytes.Cut(b, []byte(before))
	if !ok {
		return ""
	}
	b, _, _ = bytes.Cut(b, []byte(after))
	return string(b)
}

// measureRetrieve measures reads of cards in a scattered order.
func measureRetrieve(o options, s *server, cards []stored) (result, error) {
	return s.load(o, func(buf []byte, w, i int) []byte {
		return post(buf, "/cards/retrieve", cards[(w*7919+i*104729)%len(cards)].body())
	})
}

// load measures the server and what it costs.
func (s *server) load(o options, next func(buf []byte, w, i int) []byte) (result, error) {
	cpu := s.cpu()
	r, err := load(s.addr, o.conns, o.window(), next)
	r.CPU = (s.cpu() - cpu) / time.Duration(max(r.Requests, 1))
	return r, err
}

func check(r result, err error) (result, error) {
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d of %d answers were not 200", r.Failed, r.Requests)
	}
	return r, err
}

func measureSQLite(ctx context.Context, o options, r *report, exe, dir string) error {
	dir = filepath.Join(dir, "sqlite")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	http, err := boundHTTP(o.conns, o.window(), answerText)
	if err != nil {
		return err
	}
	b, err := boundSQLite(dir, o.window())
	if err != nil {
		return err
	}
	storeBound := min(perSecond(http+cryptoCost+b.pair), b.pairRate)
	readBound := perSecond(http + cryptoCost + b.read + b.audit)
	return measureDatabase(ctx, o, r, exe, "SQLite", serverOptions{database: "sqlite", dir: dir}, storeBound, readBound)
}

func measurePostgres(ctx context.Context, o options, r *report, exe, dir string) error {
	raw, err := postgres(ctx, "bench_bound")
	if err != nil {
		return err
	}
	dsn, err := postgres(ctx, "bench")
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "postgres")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	http, err := boundHTTP(o.conns, o.window(), answerText)
	if err != nil {
		return err
	}
	b, err := boundPostgres(raw, o.conns, o.window())
	if err != nil {
		return err
	}
	if err := settle(ctx, dsn); err != nil {
		return err
	}
	storeBound, readBound := perSecond(http+cryptoCost+b.pair), perSecond(http+cryptoCost+b.read+b.audit)
	r.add(row{what: "PostgreSQL store, a transaction a request: bound", rate: perSecond(http + cryptoCost + b.plain), note: "what group commit is compared with"})
	return measureDatabase(ctx, o, r, exe, "PostgreSQL", serverOptions{database: dsn, dir: dir}, storeBound, readBound)
}

// measureDatabase measures the server on one database.
func measureDatabase(ctx context.Context, o options, r *report, exe, name string, so serverOptions, storeBound, readBound float64) error {
	s, err := start(ctx, exe, so)
	if err != nil {
		return err
	}
	idle := s.rss()
	cards, err := seed(s, o.conns, 10_000)
	if err != nil {
		return err
	}
	st, err := check(measureStore(o, s))
	if err != nil {
		return err
	}
	r.add(row{what: name + " store", bound: storeBound}.with(st))
	rt, err := check(measureRetrieve(o, s, cards))
	if err != nil {
		return err
	}
	r.add(row{what: name + " retrieve", bound: readBound, note: fmt.Sprintf("idle server %.0f MiB", idle)}.with(rt))
	one := o
	one.conns = 1
	if st, err = check(measureStore(one, s)); err != nil {
		return err
	}
	r.add(row{what: name + " store, 1 connection"}.with(st))
	if err := large(o, r, name, s, st.P99, rt.P99, cards); err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}

	so.batch = "CARDEA__DATABASE__MAX_BATCH=1"
	if s, err = start(ctx, exe, so); err != nil {
		return err
	}
	if st, err = check(measureStore(o, s)); err != nil {
		return err
	}
	r.add(row{what: name + " store, a transaction a request", note: "the same server, group commit off"}.with(st))
	return s.stop()
}

// large fills the store and measures again.
func large(o options, r *report, name string, s *server, _, _ time.Duration, cards []stored) error {
	if o.rows == 0 {
		return nil
	}
	begin := time.Now()
	more, err := seed(s, 4*o.conns, o.rows)
	if err != nil {
		return err
	}
	cards = append(cards, more...)
	note := fmt.Sprintf("%d rows, filled at %.0f/s", o.rows, float64(o.rows)/time.Since(begin).Seconds())
	st, err := check(measureStore(o, s))
	if err != nil {
		return err
	}
	r.add(row{what: name + " store, large", note: note}.with(st))
	rt, err := check(measureRetrieve(o, s, cards))
	if err != nil {
		return err
	}
	r.add(row{what: name + " retrieve, large", note: fmt.Sprintf("server %.0f MiB", s.rss())}.with(rt))
	return nil
}
