package ciphertext

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

// The forms of records and keys whose secrecy is AWS KMS's. What they are bound to
// is in the encryption context of the call, so these are encodings and nothing more.

const (
	// ModeKMS is a key that AWS KMS has wrapped.
	ModeKMS Mode = 2
	// ModePKCS11 is a key that a key in an HSM has wrapped.
	ModePKCS11 Mode = 3
	// ModeExternal is a key that Hyperswitch's encryption service has wrapped.
	ModeExternal Mode = 4
	// ModeKMSReference is a key that never leaves AWS KMS: only its name is kept.
	ModeKMSReference Mode = 5

	suiteKMS = 2

	// maxKMSKey is the longest name of a KMS key in bytes, AWS's limit of KeyId.
	maxKMSKey = 2048

	kmsRecordLabel = "cardea kms record v1"
)

// KMSWrapped is a key under a key that is kept elsewhere: in AWS KMS, an HSM or an
// encryption service, as stored (docs/spec/wrapped-key.md).
type KMSWrapped struct {
	Mode    Mode // any but ModeLocal
	KeyID   uuid.UUID
	Version uint32
	KMSKey  string // ARN of the KMS key, or its id; URI of the HSM's; identifier of the service's; printable ASCII
	Blob    []byte // the ciphertext; none in a reference
}

// elsewhere reports whether a key of the mode is wrapped outside this process.
func elsewhere(m Mode) bool { return m >= ModeKMS && m <= ModeKMSReference }

// Encode is the stored form.
func (w KMSWrapped) Encode() ([]byte, error) {
	switch {
	case !elsewhere(w.Mode):
		return nil, fmt.Errorf("wrapped key: mode %d is not one of AWS KMS", w.Mode)
	case w.Mode == ModeKMSReference && len(w.Blob) > 0:
		return nil, errors.New("wrapped key: a reference has no ciphertext")
	}
	if err := checkKMS(w.KeyID, w.Version, w.KMSKey, w.Blob, w.Mode != ModeKMSReference); err != nil {
		return nil, fmt.Errorf("wrapped key: %w", err)
	}
	return w.bytes(), nil
}

func (w KMSWrapped) bytes() []byte {
	dst := wrapped{WrappedHeader: WrappedHeader{Mode: w.Mode, KeyID: w.KeyID, Version: w.Version}}.append(nil)
	return append(appendText(dst, w.KMSKey), w.Blob...)
}

// ParseKMSWrapped is the inverse of [KMSWrapped.Encode], under the same rules as
// [ParseRecord]. Blob shares the memory of b.
func ParseKMSWrapped(b []byte) (KMSWrapped, error) {
	if len(b) < wrappedHeaderSize {
		return KMSWrapped{}, ErrCorrupt
	}
	mode := Mode(b[1])
	if b[0] != wrappedVersion || !elsewhere(mode) {
		return KMSWrapped{}, ErrUnknownVersion
	}
	w := KMSWrapped{Mode: mode, Version: binary.BigEndian.Uint32(b[18:22])}
	copy(w.KeyID[:], b[2:18])
	if uuid.UUID(b[22:38]) != uuid.Nil {
		return KMSWrapped{}, ErrCorrupt
	}
	var ok bool
	if w.KMSKey, w.Blob, ok = cutKMS(b[wrappedHeaderSize:]); !ok {
		return KMSWrapped{}, ErrCorrupt
	}
	if checkKMS(w.KeyID, w.Version, w.KMSKey, w.Blob, mode != ModeKMSReference) != nil || mode == ModeKMSReference && len(w.Blob) > 0 {
		return KMSWrapped{}, ErrCorrupt
	}
	return w, nil
}

// KMSRecord is a record that AWS KMS has encrypted, as stored (docs/spec/record.md,
// "Record of AWS KMS").
type KMSRecord struct {
	RecordHeader
	KMSKey string // ARN of the KMS key
	Blob   []byte // KMS's ciphertext
}

// Encode is the stored form.
func (r KMSRecord) Encode() ([]byte, error) {
	if err := checkKMS(r.KeyID, r.KeyVersion, r.KMSKey, r.Blob, true); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return r.bytes(), nil
}

func (r KMSRecord) bytes() []byte {
	dst := []byte{recordVersion, suiteKMS}
	dst = append(dst, r.KeyID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, r.KeyVersion)
	return append(appendText(dst, r.KMSKey), r.Blob...)
}

// ParseKMSRecord is the inverse of [KMSRecord.Encode], under the same rules as
// [ParseRecord]. Blob shares the memory of b.
func ParseKMSRecord(b []byte) (KMSRecord, error) {
	if len(b) < recordHeaderSize {
		return KMSRecord{}, ErrCorrupt
	}
	if b[0] != recordVersion || b[1] != suiteKMS {
		return KMSRecord{}, ErrUnknownVersion
	}
	var r KMSRecord
	copy(r.KeyID[:], b[2:18])
	r.KeyVersion = binary.BigEndian.Uint32(b[18:22])
	var ok bool
	if r.KMSKey, r.Blob, ok = cutKMS(b[recordHeaderSize:]); !ok || checkKMS(r.KeyID, r.KeyVersion, r.KMSKey, r.Blob, true) != nil {
		return KMSRecord{}, ErrCorrupt
	}
	return r, nil
}

// cutKMS splits lp(key) ‖ blob.
func cutKMS(b []byte) (key string, blob []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n, rest := binary.BigEndian.Uint32(b), b[4:]
	if n > maxKMSKey || uint64(n) > uint64(len(rest)) {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}

func checkKMS(id uuid.UUID, version uint32, key string, blob []byte, wantBlob bool) error {
	switch {
	case id == uuid.Nil:
		return errors.New("key id is nil")
	case version == 0:
		return errors.New("key version is 0")
	case key == "":
		return errors.New("KMS key is empty")
	case len(key) > maxKMSKey:
		return fmt.Errorf("KMS key has %d bytes, at most %d: %w", len(key), maxKMSKey, ErrTooLarge)
	case wantBlob && len(blob) == 0:
		return errors.New("KMS ciphertext is empty")
	case len(blob) > MaxKMSBlob:
		return fmt.Errorf("KMS ciphertext has %d bytes, at most %d: %w", len(blob), MaxKMSBlob, ErrTooLarge)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return errors.New("KMS key is not printable ASCII")
		}
	}
	return nil
}

// KMSDigest is SHA-256 over everything that b names, and over the entity's secret
// where the holder has one (else nil). In the encryption context of a record it
// binds the record to its row; it tells nothing, since CloudTrail shows it.
func (b Binding) KMSDigest(entitySecret []byte) ([32]byte, error) {
	if err := b.check(); err != nil {
		return [32]byte{}, err
	}
	if n := len(entitySecret); n != 0 && n != KeySize {
		return [32]byte{}, fmt.Errorf("entity secret has %d bytes, want %d or none", n, KeySize)
	}
	c := append(b.kmsContext(), 0, 0, 0, byte(len(entitySecret)))
	c = append(c, entitySecret...)
	defer secret.Wipe(c)
	return sha256.Sum256(c), nil
}

// kmsContext is all of the digest's context but its last field.
func (b Binding) kmsContext() []byte {
	return b.fields(make([]byte, 0, 512), kmsRecordLabel, suiteKMS)
}
