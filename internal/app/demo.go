package app

import (
	"context"

	"cardea/internal/vault"
)

// SwapSealedForDemo tampers with two cards in the database; see the store's method.
func (n *Node) SwapSealedForDemo(ctx context.Context, x, y vault.Lookup) error {
	return n.store.SwapSealedForDemo(ctx, x, y)
}
