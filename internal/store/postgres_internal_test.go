package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	lib "modernc.org/sqlite/lib"
)

func TestTLSIsTheOnlyWayToPostgres(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url  string
		want []string // server names, of the host and the fallbacks; empty without TLS
	}{
		{"postgres://u@db.example/d?sslmode=disable", []string{"db.example"}},
		{"postgres://u@db.example/d?sslmode=prefer", []string{"db.example", "db.example"}}, // the second was in clear
		{"postgres://u@a.example,b.example/d?sslmode=disable", []string{"a.example", "b.example"}},
		{"postgres://u@/d?host=/run/postgresql", []string{""}},
	} {
		cfg, err := pgx.ParseConfig(c.url)
		if err != nil {
			t.Fatal(err)
		}
		useTLS(cfg, &tls.Config{MinVersion: tls.VersionTLS13})
		name := func(t *tls.Config) string {
			if t == nil || t.MinVersion != tls.VersionTLS13 || t.InsecureSkipVerify {
				return ""
			}
			return t.ServerName
		}
		got := []string{name(cfg.TLSConfig)}
		for _, f := range cfg.Fallbacks {
			got = append(got, name(f.TLSConfig))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: TLS names %q, want %q", c.url, got, c.want)
		}
	}
	cfg, err := pgx.ParseConfig("postgres://u@db.example/d?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	own := &tls.Config{ServerName: "other.example"}
	useTLS(cfg, own)
	if cfg.TLSConfig.ServerName != "other.example" || cfg.TLSConfig == own {
		t.Errorf("server name %q, shared %v", cfg.TLSConfig.ServerName, cfg.TLSConfig == own)
	}
}

func TestErrorsAreJudged(t *testing.T) {
	t.Parallel()
	var pg postgresWriter
	var lite sqliteWriter
	for _, c := range []struct {
		w    writer
		err  error
		want fault
	}{
		{&pg, &pgconn.PgError{Code: "23505"}, faultUnit},     // unique violation
		{&pg, &pgconn.PgError{Code: "22021"}, faultUnit},     // character not in repertoire
		{&pg, &pgconn.PgError{Code: "54000"}, faultUnit},     // index row too large
		{&pg, &pgconn.PgError{Code: "40P01"}, faultDeadlock}, // deadlock
		{&pg, &pgconn.PgError{Code: "40001"}, faultRetry},    // serialization
		{&pg, &pgconn.PgError{Code: "55P03"}, faultRetry},    // lock timeout
		{&pg, &pgconn.PgError{Code: "53100"}, faultDatabase}, // disk full
		{&pg, &pgconn.PgError{Code: "57P01"}, faultDatabase}, // terminated
		{&pg, &pgconn.PgError{Code: "42P01"}, faultDatabase}, // no such table
		{&pg, &pgconn.PgError{}, faultDatabase},
		{&pg, errNotConnected, faultDatabase},
		{&lite, &sqliteError{code: lib.SQLITE_CONSTRAINT_UNIQUE}, faultUnit},
		{&lite, &sqliteError{code: lib.SQLITE_TOOBIG}, faultUnit},
		{&lite, &sqliteError{code: lib.SQLITE_BUSY}, faultRetry},
		{&lite, &sqliteError{code: lib.SQLITE_BUSY_SNAPSHOT}, faultRetry},
		{&lite, &sqliteError{code: lib.SQLITE_FULL}, faultDatabase},
		{&lite, &sqliteError{code: lib.SQLITE_IOERR_FSYNC}, faultDatabase},
		{&lite, &sqliteError{code: lib.SQLITE_CORRUPT}, faultDatabase},
		{&lite, errors.New("other"), faultDatabase},
	} {
		com := committer{w: c.w}
		if got := com.judge(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%v: fault %d, want %d", c.err, got, c.want)
		}
		if got := com.judge(callerError{c.err}); got != faultUnit {
			t.Errorf("%v of a caller: fault %d", c.err, got)
		}
	}
	if got := (&committer{w: &pg}).judge(errors.Join(errHeadMoved, errNotConnected)); got != faultLog {
		t.Errorf("head moved: fault %d", got)
	}
}
