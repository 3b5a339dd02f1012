package vaulttest

import (
	"sync"

	"cardea/internal/custodian"
	"cardea/internal/vault"
)

// Custodians is a vault.Custodians whose tenants are open unless locked. Parts
// are not looked at; for real ones use custodian.Keeper.
type Custodians struct {
	mu     sync.Mutex // guards locked
	locked map[string]bool
}

var _ vault.Custodians = (*Custodians)(nil)

// NewCustodians returns custodians that have unlocked every tenant.
func NewCustodians() *Custodians { return &Custodians{locked: map[string]bool{}} }

// Submit implements vault.Custodians.
func (c *Custodians) Submit(tenant, _ string, _ custodian.Part) error {
	if c.Unlocked(tenant) {
		return custodian.ErrUnlocked
	}
	return nil
}

// Unlock implements vault.Custodians.
func (c *Custodians) Unlock(tenant string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.locked[tenant] {
		return custodian.ErrUnlocked
	}
	delete(c.locked, tenant)
	return nil
}

// Lock implements vault.Custodians.
func (c *Custodians) Lock(tenant string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locked[tenant] = true
	return nil
}

// Status implements vault.Custodians.
func (c *Custodians) Status(tenant string) (custodian.Status, error) {
	return custodian.Status{Unlocked: c.Unlocked(tenant), Form: custodian.FormShares, Threshold: 2, Shares: 3, Generation: 1}, nil
}

// Unlocked implements vault.Custodians.
func (c *Custodians) Unlocked(tenant string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.locked[tenant]
}
