package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// The migrations are numbered files that are only ever added to; each leaves a
// schema that the release before can work on.
//
//go:embed migrations
var migrations embed.FS

// versionTable is where goose keeps which migrations have run.
const versionTable = "schema_version"

// schema is one database's migrations.
type schema struct {
	dialect goose.Dialect
	folder  string
	exists  string // SQL that gives a row if there is a versionTable
	options []goose.ProviderOption
}

// migrate brings the database up to the newest migration, or, if readOnly, only
// looks whether it is there.
func (m schema) migrate(ctx context.Context, db *sql.DB, readOnly bool) error {
	files, err := fs.Sub(migrations, m.folder)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(m.dialect, db, files, append(m.options,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	have, err := m.version(ctx, db)
	switch {
	case err != nil:
		return fmt.Errorf("read the schema's version: %w", err)
	case have == want:
		return nil
	case have > want:
		return fmt.Errorf("%w: its schema has version %d, this program knows %d", ErrSchemaTooNew, have, want)
	case readOnly:
		return fmt.Errorf("%w: its schema has version %d, this program needs %d; a server migrates it when it starts", ErrSchemaTooOld, have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from version %d to %d: %w", have, want, err)
	}
	return nil
}

// version is that of the last migration that has run, 0 if none has.
func (m schema) version(ctx context.Context, db *sql.DB) (v int64, err error) {
	var there int
	if err := db.QueryRowContext(ctx, m.exists, versionTable).Scan(&there); err != nil {
		return 0, err
	}
	if there == 0 {
		return 0, nil
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable+" WHERE is_applied").Scan(&v)
	return v, err
}
