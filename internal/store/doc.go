// Package store keeps what the vault must not lose: records, holders,
// fingerprints, wrapped keys and the audit log, in SQLite or PostgreSQL. It is
// the only package that speaks SQL.
//
// It promises that a change and its audit entry are durable together before the
// call that made them returns, that many calls share one commit without one
// spoiling another, that a node reads its own writes, and that what it could not
// do it says: an error is never a success, and after a commit whose outcome the
// network hid it asks the database instead of guessing.
//
// docs/design/storage.md tells how.
package store
