package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

var (
	_ vault.Store   = (*store.Store)(nil)
	_ vault.KeyWork = (*store.Store)(nil)
	_ vault.Custody = (*store.Store)(nil)
	_ audit.Source  = (*store.Store)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) { storetest.Run(t, storetest.SQLite) }

func TestPostgres(t *testing.T) { storetest.Run(t, storetest.Postgres) }
