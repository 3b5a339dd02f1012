package vault

import (
	"encoding/hex"

	"github.com/google/uuid"
)

// KeyID names a key that protects records or makes keyed hashes: a UUIDv7.
type KeyID [16]byte

// NewKeyID makes a new id.
func NewKeyID() KeyID { return KeyID(uuid.Must(uuid.NewV7())) }

// String is the usual text form of a UUID.
func (k KeyID) String() string { return uuid.UUID(k).String() }

// Hex is the id without hyphens.
func (k KeyID) Hex() string { return hex.EncodeToString(k[:]) }

// Purpose is what a key is for. A key has one purpose only.
type Purpose string

// The purposes. Their names are stored.
const (
	PurposeRecord      Purpose = "record"      // branch key: record keys are derived from it
	PurposeDedupe      Purpose = "dedupe"      // HMAC key that finds a customer's card again
	PurposeFingerprint Purpose = "fingerprint" // HMAC key of fingerprints (PCI DSS 3.5.1.1)
	PurposeDirect      Purpose = "direct"      // key in a KMS that encrypts records itself
)

// KeyState is where a key version stands in its life (NIST SP 800-57 part 1, 7).
type KeyState string

// The states. Their names are stored.
const (
	KeyActive      KeyState = "active"       // encrypts and decrypts
	KeyDecryptOnly KeyState = "decrypt-only" // replaced; old records still open
	KeyRetired     KeyState = "retired"      // no record is under it
	KeyDestroyed   KeyState = "destroyed"    // its material is gone
)

// WrappedKey is a key version as stored: its material only under another key.
type WrappedKey struct {
	ID        KeyID
	Tenant    string
	Holder    string // the merchant, or empty for a key of the whole tenant
	Purpose   Purpose
	Version   uint32
	State     KeyState
	Mode      Mode
	Wrapped   []byte // docs/spec/wrapped-key.md
	CreatedAt Micros
	ChangedAt Micros // of the state
	Sealed    uint64 // records sealed under it, at least; updates included
}
