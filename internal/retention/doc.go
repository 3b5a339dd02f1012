// Package retention is what auditors and reviewers get from the audit logs: reports
// of usage, archives of closed periods, and the journal of daily reviews (PCI DSS
// v4.0.1 requirements 10.4.1.1 and 10.5.1).
//
// It promises that a report's memory does not grow with the logs, that nothing which
// does not verify is archived, that what it calls archived was read back and
// verified, and that nothing is pruned from a store which is not archived so.
package retention
