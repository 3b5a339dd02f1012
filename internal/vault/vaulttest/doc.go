// Package vaulttest has what tests of the vault and of its transports need: a
// store in memory, a key manager with real encryption, and custodians that open
// and close at a word. Each can be told to fail. It promises the semantics of the
// interfaces in vault/deps.go, but no durability and no speed; only tests import it.
package vaulttest
