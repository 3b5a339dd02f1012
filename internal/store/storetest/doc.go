// Package storetest holds the one suite that every database must pass, and gives
// tests a PostgreSQL server of their own.
package storetest
