// Package custodian keeps a tenant's master key so that no single person can
// use it, and gives it out once enough custodians have agreed (PCI DSS 3.7.6:
// split knowledge and dual control).
//
// It promises: fewer parts than the threshold tell nothing about the key; a part
// that is mistyped, of another tenant or of another generation is refused by name
// before it can spoil the quorum; one custodian counts once; parts are wiped as
// soon as they have done their work or after a while without it; and an unlocked
// key lives in memory that is neither swapped nor dumped, where the system allows.
//
// Formats are specified in docs/spec/custodian-shares.md.
package custodian

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. A [PartError] is one of the first two.
var (
	// ErrMalformed is a part that is not what a part looks like: mistyped.
	ErrMalformed = errors.New("malformed part")
	// ErrWrongPart is a well-formed part of another tenant, generation, form or
	// seal.
	ErrWrongPart = errors.New("part of another seal")
	// ErrNotEnough is an unlock before the threshold is reached.
	ErrNotEnough = errors.New("not enough parts")
	// ErrDoesNotOpen is a full quorum whose parts do not open the seal.
	ErrDoesNotOpen = errors.New("the parts do not open the seal")
	// ErrCorruptSeal is a stored seal that does not parse.
	ErrCorruptSeal = errors.New("seal is corrupt")
	// ErrSameCustodian is a second part from one custodian.
	ErrSameCustodian = errors.New("a custodian may give only one part (dual control, PCI DSS 3.7.6)")
	// ErrPartTaken is a part that has been given already, by another custodian.
	ErrPartTaken = errors.New("this part was given already")
	// ErrLocked is returned while a tenant's master key is sealed.
	ErrLocked = errors.New("tenant is locked")
	// ErrUnlocked is a part or an unlock for a tenant that is open already.
	ErrUnlocked = errors.New("tenant is unlocked already")
	// ErrUnknownTenant is a tenant without a seal.
	ErrUnknownTenant = errors.New("unknown tenant")
)

// Form is how a custodian key is divided.
type Form string

// Shares are Shamir's k of n; Halves are the two halves of Hyperswitch's card
// vault, each of which gives away half of the key's bits; Token is no division: a
// device unseals ([TokenSeal]).
const (
	FormShares Form = "shares"
	FormHalves Form = "halves"
	FormToken  Form = "token"
)

const (
	keySize       = 32  // master key and custodian key
	halfSize      = 16  // half of a custodian key
	maxShares     = 16  // more custodians than this share a key with too many (PCI DSS 3.6.1.3)
	maxTenant     = 255 // bytes of a tenant name
	maxGeneration = 1<<31 - 1
)

// checkTerms enforces the limits of a division.
func checkTerms(form Form, shares, threshold int) error {
	switch form {
	case FormShares:
		if threshold < 2 {
			return fmt.Errorf("threshold %d: at least 2 custodians must agree (PCI DSS 3.7.6)", threshold)
		}
		if shares > maxShares {
			return fmt.Errorf("%d shares: at most %d", shares, maxShares)
		}
		if threshold > shares {
			return fmt.Errorf("threshold %d is more than the %d shares", threshold, shares)
		}
		return nil
	case FormHalves:
		if shares != 2 || threshold != 2 {
			return fmt.Errorf("halves are 2 of 2, not %d of %d", threshold, shares)
		}
		return nil
	default:
		return fmt.Errorf("unknown form %q: want %q or %q", form, FormShares, FormHalves)
	}
}
