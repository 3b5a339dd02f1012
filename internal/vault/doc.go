// Package vault stores cardholder data and gives it back to those who may have
// it. [Service] is its only door: every operation passes one gate that
// authorizes, acts and audits, in that order, and nothing is answered before its
// audit entry is durable.
//
// The package knows no transport and no SQL. It declares what it needs of a
// store and of a key manager in deps.go.
package vault
