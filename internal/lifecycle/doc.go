// Package lifecycle administers keys of AWS KMS, and of key services that speak its
// API, from creation to destruction under a written policy (PCI DSS v4.0.1 3.6, 3.7).
//
// It promises that what it does may be cut off at any step and done again; that each
// step is checked by what the key service says afterwards; and that nothing which
// cannot be undone is done without the approvals that the policy asks for.
package lifecycle
