package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver under test
)

// cpus is how many cores the server, the database and the load share.
var cpus = float64(runtime.GOMAXPROCS(0))

// cost is the processor time of one piece of work, on all cores together.
type cost time.Duration

// saturated is the cost of a piece of work of which rate a second keep every core busy.
func saturated(rate float64) cost { return cost(cpus / rate * float64(time.Second)) }

// perSecond is the rate at which pieces of work that cost c keep every core busy.
func perSecond(c cost) float64 { return cpus * float64(time.Second) / float64(c) }

// cpuTime is the processor time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// boundHTTP is what a request costs before it does anything: a net/http handler
// that reads and writes JSON of the locker's size, under the same load.
func boundHTTP(conns int, d time.Duration, answer string) (cost, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer)
	}), ReadHeaderTimeout: time.Minute}
	go srv.Serve(ln)
	defer srv.Close()
	body := storeBody(0, 0)
	res, err := load(ln.Addr().String(), conns, d, func(buf []byte, _, _ int) []byte {
		return post(buf, "/cards/add", body)
	})
	if err != nil {
		return 0, err
	}
	return saturated(res.rate()), nil
}

// sqliteBounds are the costs of the least that SQLite must do.
type sqliteBounds struct {
	pair     cost    // processor time of a row and an audit row in a commit of 64
	pairRate float64 // pairs a second of one writer, its waits for the disk included
	read     cost    // a point read
	audit    cost    // an audit row in a commit of 64
}

func boundSQLite(dir string, d time.Duration) (b sqliteBounds, err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "bound.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return b, err
	}
	defer db.Close()
	ctx := context.Background()
	if _, err = db.ExecContext(ctx, `
		CREATE TABLE card (id INTEGER PRIMARY KEY, token BLOB NOT NULL UNIQUE, fingerprint BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
		CREATE TABLE audit (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL)`); err != nil {
		return b, err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return b, err
	}
	defer c.Close()
	card, err := c.PrepareContext(ctx, `INSERT INTO card (token, fingerprint, sealed) VALUES (?,?,?)`)
	if err != nil {
		return b, err
	}
	entry, err := c.PrepareContext(ctx, `INSERT INTO audit (entry) VALUES (?)`)
	if err != nil {
		return b, err
	}
	get, err := c.PrepareContext(ctx, `SELECT id, sealed FROM card WHERE token = ?`)
	if err != nil {
		return b, err
	}
	tokens := [][]byte{}
	run := func(pairs bool) (int, error) {
		n, end := 0, time.Now().Add(d)
		for time.Now().Before(end) {
			if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
				return n, err
			}
			for range 64 {
				if pairs {
					token := random(16)
					tokens = append(tokens, token)
					if _, err := card.Exec(token, random(32), random(300)); err != nil {
						return n, err
					}
				}
				if _, err := entry.Exec(random(400)); err != nil {
					return n, err
				}
				n++
			}
			if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	measure := func(f func() (int, error)) (cost, float64, error) {
		cpu, start := cpuTime(), time.Now()
		n, err := f()
		return cost((cpuTime() - cpu) / time.Duration(max(n, 1))), float64(n) / time.Since(start).Seconds(), err
	}
	if b.pair, b.pairRate, err = measure(func() (int, error) { return run(true) }); err != nil {
		return b, err
	}
	if b.audit, _, err = measure(func() (int, error) { return run(false) }); err != nil {
		return b, err
	}
	b.read, _, err = measure(func() (int, error) {
		n, end := 0, time.Now().Add(d)
		var id int64
		var sealed []byte
		for ; time.Now().Before(end); n++ {
			if err := get.QueryRow(tokens[n*7919%len(tokens)]).Scan(&id, &sealed); err != nil {
				return n, err
			}
		}
		return n, nil
	})
	return b, err
}

// postgresBounds are the costs of the least that PostgreSQL must do, its own
// processes included, found as rates that keep every core busy.
type postgresBounds struct {
	pair  cost // a row and an audit row, 64 a transaction
	read  cost // a point read
	audit cost // an audit row, 64 a transaction
	plain cost // a row and an audit row in a pipelined transaction of their own
}

func boundPostgres(dsn string, conns int, d time.Duration) (b postgresBounds, err error) {
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return b, err
	}
	cfg.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return b, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `
		DROP TABLE IF EXISTS bound_card; DROP TABLE IF EXISTS bound_audit;
		CREATE TABLE bound_card (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, token BYTEA NOT NULL UNIQUE, fingerprint BYTEA NOT NULL UNIQUE, sealed BYTEA NOT NULL);
		CREATE TABLE bound_audit (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entry BYTEA NOT NULL)`); err != nil {
		return b, err
	}
	const insertCards = `INSERT INTO bound_card (token, fingerprint, sealed) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[])`
	const insertAudit = `INSERT INTO bound_audit (entry) SELECT * FROM unnest($1::bytea[])`
	var mu sync.Mutex
	var tokens [][]byte

	rate := func(workers int, each func() (int, error)) (cost, error) {
		var n atomic.Int64
		var wg sync.WaitGroup
		errs := make(chan error, workers)
		start := time.Now()
		end := start.Add(d)
		for range workers {
			wg.Go(func() {
				for time.Now().Before(end) {
					k, err := each()
					if err != nil {
						errs <- err
						return
					}
					n.Add(int64(k))
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return 0, err
		default:
			return saturated(float64(n.Load()) / time.Since(start).Seconds()), nil
		}
	}
	batch := func(pairs bool) (int, error) {
		tok, fp, sealed, entries := columns(64)
		q := &pgx.Batch{}
		if pairs {
			q.Queue(insertCards, tok, fp, sealed)
		}
		q.Queue(insertAudit, entries)
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, q).Close() }); err != nil {
			return 0, err
		}
		if pairs {
			mu.Lock()
			tokens = append(tokens, tok...)
			mu.Unlock()
		}
		return 64, nil
	}
	if b.pair, err = rate(4, func() (int, error) { return batch(true) }); err != nil {
		return b, err
	}
	if b.audit, err = rate(4, func() (int, error) { return batch(false) }); err != nil {
		return b, err
	}
	var turn atomic.Int64
	if b.read, err = rate(conns, func() (int, error) {
		var id int64
		var sealed []byte
		t := tokens[int(turn.Add(1))*7919%len(tokens)]
		return 1, pool.QueryRow(ctx, `SELECT id, sealed FROM bound_card WHERE token = $1`, t).Scan(&id, &sealed)
	}); err != nil {
		return b, err
	}
	b.plain, err = rate(conns, func() (int, error) {
		q := &pgx.Batch{}
		q.Queue("BEGIN")
		q.Queue(`INSERT INTO bound_card (token, fingerprint, sealed) VALUES ($1,$2,$3)`, random(16), random(32), random(300))
		q.Queue(`INSERT INTO bound_audit (entry) VALUES ($1)`, random(400))
		q.Queue("COMMIT")
		return 1, pool.SendBatch(ctx, q).Close()
	})
	return b, err
}

func columns(n int) (tok, fp, sealed, entries [][]byte) {
	for range n {
		tok, fp = append(tok, random(16)), append(fp, random(32))
		sealed, entries = append(sealed, random(300)), append(entries, random(400))
	}
	return tok, fp, sealed, entries
}

// boundRSA is the cost of one RSA-2048 private operation while every core does
// nothing else. Cores that share a unit slow each other down, so one alone would
// promise too much.
func boundRSA(d time.Duration) (cost, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, err
	}
	digest := random(32)
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	start := time.Now()
	for w := range errs {
		wg.Go(func() {
			for time.Since(start) < d && errs[w] == nil {
				_, errs[w] = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return saturated(float64(n.Load()) / time.Since(start).Seconds()), errors.Join(errs...)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// rss is the resident memory of a process in bytes (Linux; 0 elsewhere).
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	fmt.Sscan(string(b), &size, &resident)
	return resident * int64(os.Getpagesize())
}
