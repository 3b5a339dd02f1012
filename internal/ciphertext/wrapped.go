package ciphertext

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

// Mode says what wraps a key (docs/spec/wrapped-key.md).
type Mode byte

// ModeLocal is a key wrapped by this package under another key in memory.
const ModeLocal Mode = 1

const (
	wrappedVersion    = 1
	wrappedHeaderSize = 1 + 1 + 16 + 4 + 16
	wrappedLabel      = "cardea wrapped key v1"

	// MinWrappedKey and MaxWrappedKey limit the size in bytes of a key that is
	// wrapped or that makes a MAC.
	MinWrappedKey = 32
	MaxWrappedKey = 64
)

// KeyBinding names the key that is wrapped: it opens under this name only.
type KeyBinding struct {
	Tenant  string    // not empty
	Holder  string    // the merchant of a branch key; empty for a key of the tenant
	Purpose string    // "branch", "dedupe", "fingerprint" …; not empty
	KeyID   uuid.UUID // not nil
	Version uint32    // from 1
	Mode    Mode      // ModeLocal
	KEK     uuid.UUID // the key that wraps; nil = the only one the tenant has
}

// WrappedHeader is what a wrapped key says of itself in clear. It is
// authenticated only by [UnwrapKey].
type WrappedHeader struct {
	Mode    Mode
	KeyID   uuid.UUID
	Version uint32
	KEK     uuid.UUID
}

// wrapped is a parsed wrapped key; payload shares the memory of what was parsed.
type wrapped struct {
	WrappedHeader
	payload []byte
}

// ParseWrapped reads the header of a wrapped key, under the same rules as
// [ParseRecord]. A mode other than [ModeLocal] is [ErrUnknownVersion]; the
// others are [ParseKMSWrapped]'s.
func ParseWrapped(blob []byte) (WrappedHeader, error) {
	w, err := parseWrapped(blob)
	return w.WrappedHeader, err
}

func parseWrapped(blob []byte) (wrapped, error) {
	const least = wrappedHeaderSize + BoxOverhead + MinWrappedKey
	const most = wrappedHeaderSize + BoxOverhead + MaxWrappedKey
	if len(blob) < wrappedHeaderSize {
		return wrapped{}, ErrCorrupt
	}
	if blob[0] != wrappedVersion || Mode(blob[1]) != ModeLocal {
		return wrapped{}, ErrUnknownVersion
	}
	if len(blob) < least || len(blob) > most {
		return wrapped{}, ErrCorrupt
	}
	w := wrapped{WrappedHeader: WrappedHeader{Mode: Mode(blob[1])}}
	copy(w.KeyID[:], blob[2:18])
	w.Version = binary.BigEndian.Uint32(blob[18:22])
	copy(w.KEK[:], blob[22:38])
	w.payload = blob[wrappedHeaderSize:]
	if w.KeyID == uuid.Nil || w.Version == 0 {
		return wrapped{}, ErrCorrupt
	}
	return w, nil
}

// append is the inverse of parseWrapped.
func (w wrapped) append(dst []byte) []byte {
	dst = append(dst, wrappedVersion, byte(w.Mode))
	dst = append(dst, w.KeyID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, w.Version)
	dst = append(dst, w.KEK[:]...)
	return append(dst, w.payload...)
}

// WrapKey encrypts key ([MinWrappedKey] to [MaxWrappedKey] bytes) under the
// 32-byte kek, bound to the name kb. The caller keeps both keys.
func WrapKey(kek secret.Bytes, kb KeyBinding, key secret.Bytes) ([]byte, error) {
	if err := kb.check(); err != nil {
		return nil, err
	}
	if err := checkKey("wrapping key", kek); err != nil {
		return nil, err
	}
	if err := checkKeySize("key to wrap", key); err != nil {
		return nil, err
	}
	out := wrapped{WrappedHeader: kb.header()}.
		append(make([]byte, 0, wrappedHeaderSize+BoxOverhead+key.Len()))
	return appendBox(out, kek.Expose(), kb.context(), key.Expose())
}

// UnwrapKey is the inverse of [WrapKey]. Whatever does not open is
// [ErrCorrupt]; the caller owns the key and destroys it.
func UnwrapKey(kek secret.Bytes, kb KeyBinding, blob []byte) (secret.Bytes, error) {
	w, err := parseWrapped(blob)
	if err != nil {
		return secret.Bytes{}, err
	}
	if err := kb.check(); err != nil {
		return secret.Bytes{}, err
	}
	if err := checkKey("wrapping key", kek); err != nil {
		return secret.Bytes{}, err
	}
	// The context covers all of it, so this only saves the derivation.
	if w.WrappedHeader != kb.header() {
		return secret.Bytes{}, ErrCorrupt
	}
	return openBox(kek.Expose(), kb.context(), w.payload)
}

func (kb KeyBinding) header() WrappedHeader {
	return WrappedHeader{Mode: kb.Mode, KeyID: kb.KeyID, Version: kb.Version, KEK: kb.KEK}
}

func (kb KeyBinding) check() error {
	if kb.Mode != ModeLocal {
		return fmt.Errorf("key binding: mode %d is not one that is wrapped here", kb.Mode)
	}
	if kb.KeyID == uuid.Nil {
		return errors.New("key binding: key id is nil")
	}
	if kb.Version == 0 {
		return errors.New("key binding: version is 0")
	}
	return cmp.Or(
		checkText("key binding: tenant", kb.Tenant, true),
		checkText("key binding: holder", kb.Holder, false),
		checkText("key binding: purpose", kb.Purpose, true),
	)
}

// context is what the wrapping covers (docs/spec/wrapped-key.md).
func (kb KeyBinding) context() []byte {
	c := make([]byte, 0, 128+len(kb.Tenant)+len(kb.Holder)+len(kb.Purpose))
	c = appendText(c, wrappedLabel)
	c = appendByte(c, byte(kb.Mode))
	c = appendText(c, kb.Tenant)
	c = appendText(c, kb.Holder)
	c = appendText(c, kb.Purpose)
	c = appendID(c, kb.KeyID)
	c = appendUint32(c, kb.Version)
	return appendID(c, kb.KEK)
}
