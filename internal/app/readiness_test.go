package app

import (
	"errors"
	"reflect"
	"testing"

	"cardea/internal/httpd"
	"cardea/internal/vault"
)

func TestReadinessSaysAnErrorOfTheDatabaseOnce(t *testing.T) {
	t.Parallel()
	away := func() error { return errors.New("store is unavailable: connection refused") }
	full, gone := errors.New("disk is full"), errors.New("what was written is not there")
	failing := func(name, detail string) httpd.Check {
		return httpd.Check{Name: name, State: httpd.Failing, Detail: detail}
	}
	working := func(name string) httpd.Check { return httpd.Check{Name: name, State: httpd.Working} }
	for what, c := range map[string]struct {
		probe vault.Probe
		want  []httpd.Check
	}{
		"nothing fails": {vault.Probe{}, []httpd.Check{working("keys_database"), working("keys_database_read"), working("keys_database_write"), working("keys_database_delete")}},
		"all fail alike": {vault.Probe{Connect: away(), Read: away(), Write: away(), Delete: away()}, []httpd.Check{
			failing("keys_database", "connect, read, write and delete fail: store is unavailable: connection refused"),
			failing("keys_database_read", "see keys_database"), failing("keys_database_write", "see keys_database"), failing("keys_database_delete", "see keys_database"),
		}},
		"one fails":    {vault.Probe{Read: gone}, []httpd.Check{working("keys_database"), failing("keys_database_read", "what was written is not there"), working("keys_database_write"), working("keys_database_delete")}},
		"each its own": {vault.Probe{Read: gone, Write: full}, []httpd.Check{working("keys_database"), failing("keys_database_read", gone.Error()), failing("keys_database_write", full.Error()), working("keys_database_delete")}},
		"two of one kind": {vault.Probe{Read: gone, Write: full, Delete: full}, []httpd.Check{
			working("keys_database"), failing("keys_database_read", "what was written is not there"),
			failing("keys_database_write", "write and delete fail: disk is full"), failing("keys_database_delete", "see keys_database_write"),
		}},
	} {
		if got := databaseChecks("keys_", c.probe); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}
