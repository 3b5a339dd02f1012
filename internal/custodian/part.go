package custodian

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
)

// Part is what one custodian holds of a custodian key: a Shamir share or a half.
// It comes from [NewSeal], [ParseShare] or [ParseHalf]. A copy shares its memory.
type Part struct {
	form  Form
	index int // from 1
	value secret.Bytes

	// Of shares only: a half has nothing but its bytes.
	tenant            tenantTag
	generation        int
	threshold, shares int
}

// tenantTag tells tenants apart in share text without naming them.
type tenantTag [5]byte

func tagOf(tenant string) tenantTag {
	sum := sha256.Sum256(ciphertext.Context("cardea share tenant v1", []byte(tenant)))
	return tenantTag(sum[:5])
}

// Form tells a share from a half.
func (p Part) Form() Form { return p.form }

// Index is the number of the part, from 1.
func (p Part) Index() int { return p.index }

// Name is how errors and logs call the part: "share 3" or "half 1".
func (p Part) Name() string {
	if p.form == FormHalves {
		return fmt.Sprintf("half %d", p.index)
	}
	return fmt.Sprintf("share %d", p.index)
}

// Text is the part as its custodian keeps it: the line that [ParseShare] reads,
// or the 32 hexadecimal digits that [ParseHalf] reads. The caller destroys it.
func (p Part) Text() secret.Bytes {
	if p.form == FormHalves {
		text := make([]byte, hex.EncodedLen(p.value.Len()))
		hex.Encode(text, p.value.Expose())
		return secret.New(text)
	}
	return p.shareText()
}

// Destroy wipes the part and its copies.
func (p Part) Destroy() { p.value.Destroy() }

// whole reports whether the part has its bytes: it was not destroyed.
func (p Part) whole() bool {
	if p.form == FormHalves {
		return p.value.Len() == halfSize
	}
	return p.value.Len() == keySize
}

// clone has memory of its own.
func (p Part) clone() Part {
	p.value = secret.Copy(p.value.Expose())
	return p
}

// ParseHalf reads half 1 or 2 of a custodian key: 32 hexadecimal digits of
// either case, as Hyperswitch's card vault takes them. The error is a
// [*PartError] with [ErrMalformed]. The caller keeps text.
func ParseHalf(index int, text secret.Bytes) (Part, error) {
	p := Part{form: FormHalves, index: index}
	if index != 1 && index != 2 {
		return Part{}, p.malformed("is not one of the two halves")
	}
	if text.Len() != 2*halfSize {
		return Part{}, p.malformed("has %d characters, want %d", text.Len(), 2*halfSize)
	}
	value := make([]byte, halfSize)
	if _, err := hex.Decode(value, text.Expose()); err != nil {
		secret.Wipe(value)
		// The cause would quote a digit.
		return Part{}, p.malformed("has a character that is not a hexadecimal digit")
	}
	p.value = secret.New(value)
	return p, nil
}

// checkValue identifies a part without giving it away: a truncated HMAC under
// the part itself, salted per seal.
func (p Part) checkValue(tenant string, generation int, salt [16]byte) [16]byte {
	context := ciphertext.Context("cardea share check v1", []byte(tenant),
		binary.BigEndian.AppendUint32(nil, uint32(generation)), salt[:], []byte{byte(p.index)})
	mac := hmac.New(sha256.New, p.value.Expose())
	mac.Write(context)
	return [16]byte(mac.Sum(nil))
}

// PartError is a part that is refused by itself. It never quotes the part.
type PartError struct {
	Part   string // "share 3", "half 1"; "share" if its number is not readable
	Reason string
	Kind   error // ErrMalformed or ErrWrongPart
}

func (e *PartError) Error() string { return e.Part + " " + e.Reason }

// Unwrap makes errors.Is work with Kind.
func (e *PartError) Unwrap() error { return e.Kind }

func (p Part) malformed(format string, args ...any) error {
	name := p.Name()
	if p.index == 0 {
		name = "share" // a half always has its number
	}
	return &PartError{Part: name, Reason: fmt.Sprintf(format, args...), Kind: ErrMalformed}
}

func (p Part) wrong(format string, args ...any) error {
	return &PartError{Part: p.Name(), Reason: fmt.Sprintf(format, args...), Kind: ErrWrongPart}
}
