package main

import (
	"context"
	"net/url"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store/storetest"
)

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
