// Package ciphertext holds the byte formats in which cardholder data and keys
// are stored, and the one construction that seals them.
//
// It promises that what was sealed for one place opens in no other: everything
// that names a record or a key is bound to its bytes, and whatever does not open
// is [ErrCorrupt], never a panic and never a partial plaintext. The functions are
// pure and safe for concurrent use. The formats are specified in
// docs/spec/record.md, docs/spec/wrapped-key.md and docs/spec/kms-ciphertext.md.
package ciphertext

import (
	"errors"
	"fmt"
)

// ErrCorrupt is the one error for bytes that do not open: too short, too long,
// flipped, swapped with another row, or under another key. Which of these it was
// is not told apart, because an attacker who can write rows must not learn it.
var ErrCorrupt = errors.New("ciphertext is corrupt or does not belong here")

// ErrUnknownVersion is an ErrCorrupt (errors.Is says so for both) whose version,
// suite or mode this program does not know: a newer program may have written it.
var ErrUnknownVersion = fmt.Errorf("%w: unknown format version", ErrCorrupt)

// ErrTooLarge is returned by the sealing functions for a plaintext or a bound
// field over its limit.
var ErrTooLarge = errors.New("too large")

// KeySize is the size in bytes of every key that seals: branch keys, master
// keys, custodian keys and entity secrets.
const KeySize = 32

// MaxField is the largest size in bytes of one bound text, such as a customer id.
const MaxField = 1024

// checkText enforces the limits of a bound text. The text is not in the error:
// it can be personal data.
func checkText(name, s string, required bool) error {
	if len(s) > MaxField {
		return fmt.Errorf("%s has %d bytes, at most %d: %w", name, len(s), MaxField, ErrTooLarge)
	}
	if required && s == "" {
		return fmt.Errorf("%s is empty", name)
	}
	return nil
}
