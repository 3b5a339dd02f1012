// Package audit is the tamper-evident audit log: its entries, the Merkle tree
// over them, signed checkpoints, verification, and the bundle that an auditor
// takes away. The bytes are specified in docs/spec/audit-entry.md, audit-log.md
// and checkpoint.md.
//
// It promises that an entry has one encoding, that no value of an entry can
// break out of its line, that no card number of a client's making gets into one,
// and that [Verify], given a trusted key, finds every change of what was signed.
// It does no I/O of its own: the store writes what it computes.
package audit
