package main

import (
	"context"
	"net/url"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store/storetest"
)

// settle lets PostgreSQL write to disk what the measurement of the bounds has left
// in its memory, and drops it, so that it is not written while the server is
// measured.
func settle(ctx context.Context, dsn string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, sql := range []string{"DROP DATABASE bench_bound", "CHECKPOINT"} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// postgres returns the URL of a new database on the tests' PostgreSQL server.
func postgres(ctx context.Context, name string) (string, error) {
	server, err := storetest.ServerURL()
	if err != nil {
		return "", err
	}
	c, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "DROP DATABASE IF EXISTS "+name); err != nil {
		return "", err
	}
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}
