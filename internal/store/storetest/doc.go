// Package storetest holds the one suite that a store must pass on every database
// that it supports, and gives tests databases, a PostgreSQL server of their own
// among them. Only tests import it.
package storetest
