package ciphertext

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

const (
	recordVersion = 1
	suiteHKDFGCM  = 1

	recordHeaderSize = 1 + 1 + 16 + 4

	// RecordOverhead is by how many bytes a record is longer than its plaintext.
	RecordOverhead = recordHeaderSize + BoxOverhead

	// MaxPlaintext is the largest plaintext of a record in bytes: 1 MiB of data
	// and 4 KiB for the envelope of its stored form.
	MaxPlaintext = 1<<20 + 4<<10
)

// RecordHeader is what a stored record says of itself in clear: which key to
// fetch. It is authenticated only by [OpenRecord].
type RecordHeader struct {
	KeyID      uuid.UUID
	KeyVersion uint32
}

// record is a parsed record; box shares the memory of what was parsed.
type record struct {
	RecordHeader
	box []byte
}

// ParseRecord reads the header of a record. It accepts the one valid encoding
// only: any other bytes are [ErrCorrupt], or [ErrUnknownVersion] where the
// version or suite is not known. It does not allocate.
func ParseRecord(blob []byte) (RecordHeader, error) {
	r, err := parseRecord(blob)
	return r.RecordHeader, err
}

func parseRecord(blob []byte) (record, error) {
	if len(blob) < RecordOverhead || len(blob) > RecordOverhead+MaxPlaintext {
		return record{}, ErrCorrupt
	}
	if blob[0] != recordVersion || blob[1] != suiteHKDFGCM {
		return record{}, ErrUnknownVersion
	}
	var r record
	copy(r.KeyID[:], blob[2:18])
	r.KeyVersion = binary.BigEndian.Uint32(blob[18:22])
	r.box = blob[recordHeaderSize:]
	if r.KeyID == uuid.Nil || r.KeyVersion == 0 {
		return record{}, ErrCorrupt
	}
	return r, nil
}

// append is the inverse of parseRecord.
func (r record) append(dst []byte) []byte {
	dst = append(dst, recordVersion, suiteHKDFGCM)
	dst = append(dst, r.KeyID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, r.KeyVersion)
	return append(dst, r.box...)
}

// SealRecord encrypts plaintext (0 to [MaxPlaintext] bytes) for the place that b
// names, under the 32-byte branch key b.KeyID and, where the holder has one, its
// 32-byte entity secret (else nil). Each call has its own random salt, AES key
// and nonce. The caller keeps all arguments; plaintext is read only.
func SealRecord(branchKey secret.Bytes, entitySecret []byte, b Binding, plaintext []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("record has %d bytes, at most %d: %w", len(plaintext), MaxPlaintext, ErrTooLarge)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	var buf [2 * KeySize]byte
	ikm, err := mixEntity(&buf, branchKey, entitySecret)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(ikm)
	out := record{RecordHeader: RecordHeader{b.KeyID, b.KeyVersion}}.
		append(make([]byte, 0, RecordOverhead+len(plaintext)))
	return appendBox(out, ikm, b.context(), plaintext)
}

// OpenRecord is the inverse of [SealRecord]. Whatever does not open is
// [ErrCorrupt]; the caller owns the plaintext and destroys it.
func OpenRecord(branchKey secret.Bytes, entitySecret []byte, b Binding, blob []byte) (secret.Bytes, error) {
	r, err := parseRecord(blob)
	if err != nil {
		return secret.Bytes{}, err
	}
	if err := b.check(); err != nil {
		return secret.Bytes{}, err
	}
	// The context covers both, so this only saves the derivation.
	if r.KeyID != b.KeyID || r.KeyVersion != b.KeyVersion {
		return secret.Bytes{}, ErrCorrupt
	}
	var buf [2 * KeySize]byte
	ikm, err := mixEntity(&buf, branchKey, entitySecret)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.Wipe(ikm)
	return openBox(ikm, b.context(), r.box)
}

// mixEntity puts the input key material of a record into buf.
func mixEntity(buf *[2 * KeySize]byte, branchKey secret.Bytes, entitySecret []byte) ([]byte, error) {
	if err := checkKey("branch key", branchKey); err != nil {
		return nil, err
	}
	if n := len(entitySecret); n != 0 && n != KeySize {
		return nil, fmt.Errorf("entity secret has %d bytes, want %d or none", n, KeySize)
	}
	ikm := append(buf[:0], branchKey.Expose()...)
	return append(ikm, entitySecret...), nil
}
