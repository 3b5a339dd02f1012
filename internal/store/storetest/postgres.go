package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The environment that says where PostgreSQL is.
const (
	// postgresEnv is the URL of a running server whose user may create databases.
	postgresEnv = "CARDEA_TEST_POSTGRES"
	// requireEnv, if set, turns the lack of PostgreSQL from a skip into a failure.
	requireEnv = "CARDEA_TEST_REQUIRE_POSTGRES"
)

var errNoPostgres = errors.New("no PostgreSQL: set " + postgresEnv + ", or install initdb and postgres")

var databases atomic.Int64

// Postgres returns the URL of a new, empty database, which is dropped when tb
// ends. The server is that of CARDEA_TEST_POSTGRES or, once for each test binary,
// one started from the system's PostgreSQL with fsync on, which listens on a
// socket in a private folder only. Without either tb is skipped, or fails if
// CARDEA_TEST_REQUIRE_POSTGRES is set.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server, err := postgresServer()
	switch {
	case errors.Is(err, errNoPostgres) && os.Getenv(requireEnv) == "":
		tb.Skip(err)
	case err != nil:
		tb.Fatal(err)
	}
	name := fmt.Sprintf("cardea_test_%d_%d", os.Getpid(), databases.Add(1))
	execPostgres(tb, server, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execPostgres(tb, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u := *server.url
	u.Path = "/" + name
	return u.String()
}

// server is a PostgreSQL server.
type server struct {
	url *url.URL
	// life is the standard input of a server that we started, which ends when life
	// is closed: it must stay reachable.
	life io.Closer
}

// patience is for a server on a machine that is busy with all the other tests: each
// database that is dropped makes it write and sync all that it has.
const patience = 5 * time.Minute

func execPostgres(tb testing.TB, s *server, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url.String())
	if err != nil {
		tb.Fatalf("connect to the test server: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// postgresServer starts the server at the first call.
var postgresServer = sync.OnceValues(func() (*server, error) {
	if env := os.Getenv(postgresEnv); env != "" {
		u, err := url.Parse(env)
		if err != nil {
			return nil, fmt.Errorf("%s is not a URL", postgresEnv) // the error would show its password
		}
		return &server{url: u}, nil
	}
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	return startPostgres(bin)
})

// postgresBin is the folder of initdb and postgres, of the newest version.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return postgresVersion(a) - postgresVersion(b) })
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			found = append(found, p)
		}
	}
	for _, initdb := range slices.Backward(found) {
		dir := filepath.Dir(initdb)
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", errNoPostgres
}

func postgresVersion(path string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return v
}

// supervise runs a server until its own standard input ends, which happens when
// the test binary is gone, however it went.
const supervise = `"$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=on -c synchronous_commit=on \
	-c max_connections=200 -c shared_buffers=128MB -c max_wal_size=2GB -c autovacuum_naptime=5s </dev/null >"$2/log" 2>&1 &
cat
kill -INT $!
wait $!
rm -rf "$2"`

// startPostgres makes a cluster in a temporary folder and starts its server.
func startPostgres(bin string) (*server, error) {
	dir, err := os.MkdirTemp("", "cardea-pg-")
	if err != nil {
		return nil, err
	}
	as, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "cardea",
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	run := exec.Command("/bin/sh", "-c", supervise, "sh", filepath.Join(bin, "postgres"), dir)
	run.SysProcAttr, run.Dir = as, dir
	life, err := run.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := run.Start(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	u := &url.URL{Scheme: "postgres", User: url.User("cardea"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}
	if err := awaitPostgres(u); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, fmt.Errorf("postgres does not come up: %w\n%s", err, log)
	}
	return &server{url: u, life: life}, nil
}

func awaitPostgres(u *url.URL) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, u.String())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
