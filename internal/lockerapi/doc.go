// Package lockerapi speaks the Hyperswitch locker's HTTP protocol for
// vault.Service: v1 /data and /cards, v2 /api/v2/vault, /entity, /custodian and
// /health, in plain JSON or in the locker's JWE-around-JWS envelope.
// docs/locker-api.md is its compatibility statement.
//
// It promises that no request reaches the vault without a principal: a verified
// signature, a mapped client certificate, the loopback interface, or a
// custodian's token; that every request it refuses itself is in the audit log
// before it is answered; that nothing of a request's body comes back in an error
// or goes into a log; and that buffers which held cardholder data are wiped.
package lockerapi
