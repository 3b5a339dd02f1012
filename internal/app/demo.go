package app

import (
	"context"

	"cardea/internal/vault"
)

// SwapSealedForDemo tampers with two cards in the database; see the store's method.
func (a *App) SwapSealedForDemo(ctx context.Context, x, y vault.Lookup) error {
	return a.store.SwapSealedForDemo(ctx, x, y)
}
