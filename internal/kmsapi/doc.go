// Package kmsapi is the wire of the key service: the AWS KMS API of 2014-11-01 in
// AWS JSON 1.1, and the three calls of AWS STS that its clients need in AWS Query,
// on the path "/" of one HTTP handler.
//
// It promises that no operation begins before the request's Signature Version 4
// has been verified over its whole body; that every request which it refuses
// itself is in the audit log before it is answered; that nothing of a request's
// values comes back in an error of its own; and that buffers which held plaintext
// are wiped. docs/kms-compatibility.md says what differs from AWS.
package kmsapi
