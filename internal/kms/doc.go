// Package kms is the key service: keys with policies, grants, rotation, imported
// material and HSM backing, with the operations, errors and limits of the AWS KMS
// API of 2014-11-01.
//
// It promises: no operation without authorization by key policy, identity
// policies and grants, with an explicit deny in any of them final; no answer, be
// it yes, no or broken, before its audit entry is durable; state and entry change
// in one commit; key material leaves a backend only as what the API gives out;
// and what happens by itself with time is done by jobs, never as a side effect of
// a read. It knows no HTTP and no SQL.
//
// A request goes through one function, [Service] do in gate.go. The operations
// stand in a table, operation.go, and are one method each, in files by theme. The
// way of a request is told in docs/design/life-of-a-kms-request.md.
package kms
