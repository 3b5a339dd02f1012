package ciphertext

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A ciphertext of the key service, as its clients keep it: a header in clear that
// names the key, then what the backend of the key sealed. docs/spec/kms-ciphertext.md.
const (
	kmsVersion = 1

	kmsKeySingle = 0 // the key id is a UUID
	kmsKeyMulti  = 1 // the key id is mrk- and 32 hex digits

	kmsAccounts = 1_000_000_000_000 // account ids have 12 digits

	// KMSHeaderSize is the size in bytes of the header of a [KMSBlob].
	KMSHeaderSize = 1 + 1 + 5 + 16 + 32

	// MaxKMSBlob is the largest KMS ciphertext, in bytes (CiphertextBlob of the API).
	MaxKMSBlob = 6144

	kmsLabel = "cardea kms ciphertext v1"
)

// KMSHeader is what a KMS ciphertext says of itself in clear. It is authenticated
// when the ciphertext opens, not before.
type KMSHeader struct {
	Account    string // that owns the key: 12 digits
	KeyID      string // a UUID in lower case, or mrk- and 32 hex digits
	MaterialID string // 64 lower-case hex digits
}

// KMSBlob is a parsed KMS ciphertext. Sealed shares the memory of what was parsed.
type KMSBlob struct {
	KMSHeader
	Sealed []byte // by the key's backend; not empty
}

// ParseKMSBlob takes a KMS ciphertext apart. There is one valid encoding. What is
// none is [ErrCorrupt], of a version or kind of key that this program does not know
// [ErrUnknownVersion].
func ParseKMSBlob(blob []byte) (KMSBlob, error) {
	if len(blob) < 2 || len(blob) > MaxKMSBlob {
		return KMSBlob{}, ErrCorrupt
	}
	if blob[0] != kmsVersion || blob[1] > kmsKeyMulti {
		return KMSBlob{}, ErrUnknownVersion
	}
	if len(blob) <= KMSHeaderSize {
		return KMSBlob{}, ErrCorrupt
	}
	account := uint64(blob[2])<<32 | uint64(blob[3])<<24 | uint64(blob[4])<<16 | uint64(blob[5])<<8 | uint64(blob[6])
	if account >= kmsAccounts {
		return KMSBlob{}, ErrCorrupt
	}
	var text [12 + 36 + 64]byte // one string holds all three
	digits := strconv.AppendUint(text[:0], kmsAccounts+account, 10)
	copy(text[:12], digits[1:])
	n := 12
	id := blob[7:23]
	if blob[1] == kmsKeyMulti {
		n += copy(text[n:], "mrk-")
		n += hex.Encode(text[n:], id)
	} else {
		for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
			if i > 0 {
				text[n] = '-'
				n++
			}
			n += hex.Encode(text[n:], part)
		}
	}
	hex.Encode(text[n:], blob[23:KMSHeaderSize])
	s := string(text[:n+64])
	return KMSBlob{KMSHeader: KMSHeader{Account: s[:12], KeyID: s[12:n], MaterialID: s[n:]}, Sealed: blob[KMSHeaderSize:]}, nil
}

// Append appends the header's encoding, [KMSHeaderSize] bytes, to which a caller
// appends what the backend sealed. The error says what of the header is no such thing.
func (h KMSHeader) Append(dst []byte) ([]byte, error) {
	account, err := strconv.ParseUint(h.Account, 10, 64)
	if err != nil || len(h.Account) != 12 {
		return nil, errors.New("KMS ciphertext: account is not 12 digits")
	}
	kind, digits := byte(kmsKeyMulti), ""
	if rest, multi := strings.CutPrefix(h.KeyID, "mrk-"); multi {
		digits = rest
	} else if id := h.KeyID; len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
		kind, digits = kmsKeySingle, id[:8]+id[9:13]+id[14:18]+id[19:23]+id[24:]
	}
	dst = append(dst, kmsVersion, kind, byte(account>>32), byte(account>>24), byte(account>>16), byte(account>>8), byte(account))
	if dst, err = appendHex(dst, digits, 16); err != nil {
		return nil, fmt.Errorf("KMS ciphertext: key id: %w", err)
	}
	if dst, err = appendHex(dst, h.MaterialID, 32); err != nil {
		return nil, fmt.Errorf("KMS ciphertext: material id: %w", err)
	}
	return dst, nil
}

// appendHex appends the n bytes that lower-case hex digits stand for.
func appendHex(dst []byte, digits string, n int) ([]byte, error) {
	if len(digits) != 2*n || strings.ContainsAny(digits, "ABCDEF") {
		return nil, fmt.Errorf("not %d lower-case hex digits", 2*n)
	}
	return hex.AppendDecode(dst, []byte(digits))
}

// KMSContext is the associated data of a KMS ciphertext: its encoded header and the
// encryption context by name. Contexts that differ in any pair, or in where a name
// ends and its value begins, never give the same bytes; their order in the map is
// nothing, and no context is the same as an empty one.
func KMSContext(header []byte, pairs map[string]string) []byte {
	n := 4 + len(kmsLabel) + 4 + len(header)
	var few [8]string
	names := few[:0]
	for name, value := range pairs {
		n += 4 + len(name) + 4 + len(value)
		names = append(names, name)
	}
	slices.Sort(names)
	b := appendText(make([]byte, 0, n), kmsLabel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(header)))
	b = append(b, header...)
	for _, name := range names {
		b = appendText(b, name)
		b = appendText(b, pairs[name])
	}
	return b
}
