package lockerapi_test

import (
	"fmt"
	"testing"

	"cardea/internal/lockerapi"
	"cardea/internal/vault"
)

// A suspended tenant's client, and one of a shredded merchant, is refused for good,
// not asked to come again; a locked one's as the contract says, and what could not be
// logged as a failure.
func TestWhatTheOperatorHasEndedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		status  int
		message string
	}{
		"suspended":            {vault.ErrSuspended, 403, "Tenant is suspended"},
		"suspended and locked": {fmt.Errorf("%w: %w", vault.ErrLocked, vault.ErrSuspended), 403, "Tenant is suspended"},
		"shredded":             {vault.ErrShredded, 410, "Merchant or entity was shredded"},
		"locked":               {vault.ErrLocked, 401, "Custodian is locked"},
		"not logged":           {fmt.Errorf("%w: %w", vault.ErrUnavailable, vault.ErrSuspended), 500, "Failed while connecting to database"},
	} {
		status, code, message, known := lockerapi.AnswerOf(fmt.Errorf("tenant %q: %w", "acme", c.err))
		if want := map[int]string{410: "TE_02", 500: "TE_01", 403: "TE_00", 401: "TE_00"}[c.status]; status != c.status || code != want || message != c.message || !known {
			t.Errorf("%s: %d %s %q", name, status, code, message)
		}
	}
}
