package store

import (
	"context"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// SwapSealedForDemo exchanges the ciphertexts of two records, as somebody who can
// write to the database might. It is what 'cardea demo' and tests tamper with;
// no other code may call it.
func (s *Store) SwapSealedForDemo(ctx context.Context, a, b vault.Lookup) error {
	if s.com == nil {
		return ErrReadOnly
	}
	return s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
		first, err := selectRecord(ctx, c, byLookup, a[:])
		if err != nil {
			return nil, callerError{err}
		}
		second, err := selectRecord(ctx, c, byLookup, b[:])
		if err != nil {
			return nil, callerError{err}
		}
		const swap = "UPDATE record SET sealed = $1 WHERE lookup = $2"
		if _, err := c.exec(ctx, swap, second.Sealed, a[:]); err != nil {
			return nil, err
		}
		_, err = c.exec(ctx, swap, first.Sealed, b[:])
		return nil, err
	})
}
