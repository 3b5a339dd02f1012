package lockerapi_test

import (
	"fmt"
	"testing"

	"cardea/internal/lockerapi"
	"cardea/internal/vault"
)

// A suspended tenant's client is refused for good, not asked to come again; a locked
// one's as the contract says, and what could not be logged as a failure.
func TestSuspendedTenantIsForbidden(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		status  int
		message string
	}{
		"suspended":            {vault.ErrSuspended, 403, "Tenant is suspended"},
		"suspended and locked": {fmt.Errorf("%w: %w", vault.ErrLocked, vault.ErrSuspended), 403, "Tenant is suspended"},
		"locked":               {vault.ErrLocked, 401, "Custodian is locked"},
		"not logged":           {fmt.Errorf("%w: %w", vault.ErrUnavailable, vault.ErrSuspended), 500, "Failed while connecting to database"},
	} {
		status, code, message, known := lockerapi.AnswerOf(fmt.Errorf("tenant %q: %w", "acme", c.err))
		if want := map[bool]string{true: "TE_01", false: "TE_00"}[c.status == 500]; status != c.status || code != want || message != c.message || !known {
			t.Errorf("%s: %d %s %q", name, status, code, message)
		}
	}
}
