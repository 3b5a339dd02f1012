// Package pan holds primary account numbers: parsing, the Luhn check, and the
// only ways in which a number may be shown (PCI DSS 3.4.1: at most the BIN and
// the last four digits).
//
// A [PAN] hides its digits as secret.Bytes does; it is never a string.
package pan

import (
	"errors"
	"fmt"
	"log/slog"
	"unicode"
	"unicode/utf8"

	"cardea/internal/secret"
)

// Lengths of a PAN in digits (ISO/IEC 7812-1 allows 8 to 19).
const (
	MinDigits = 8
	MaxDigits = 19
)

// maxReceived bounds the number as received, white space included, in bytes.
const maxReceived = 255

// What is wrong with a number. The texts are part of the locker's wire contract.
var (
	ErrCharacter = errors.New("invalid character found in card number")
	ErrLength    = errors.New("invalid card number length")
	ErrLuhn      = errors.New("card number invalid")
)

// PAN is a valid card number. The zero value is no number. Copies share memory.
type PAN struct {
	received secret.Bytes // as the client sent it, white space included
	digits   secret.Bytes // digits only
}

// Parse takes a number as a client sends it: white space anywhere is allowed and
// kept, the rest must be 8 to 19 ASCII digits that satisfy Luhn. It copies from
// b. The error is ErrCharacter, ErrLength or ErrLuhn, in that order of checks,
// and never contains the number.
func Parse(b []byte) (PAN, error) {
	if len(b) > maxReceived {
		return PAN{}, ErrLength
	}
	digits := make([]byte, 0, MaxDigits+1)
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		rest = rest[n:]
		switch {
		case r >= '0' && r <= '9':
			if len(digits) <= MaxDigits {
				digits = append(digits, byte(r))
			}
		case r == utf8.RuneError && n <= 1, !unicode.IsSpace(r):
			secret.Wipe(digits)
			return PAN{}, ErrCharacter
		}
	}
	d := secret.New(digits)
	if n := len(digits); n < MinDigits || n > MaxDigits {
		d.Destroy()
		return PAN{}, ErrLength
	}
	if !LuhnValid(digits) {
		d.Destroy()
		return PAN{}, ErrLuhn
	}
	return PAN{received: secret.Copy(b), digits: d}, nil
}

// LuhnValid reports whether ASCII digits satisfy the check of ISO/IEC 7812-1
// annex B. It is false for an empty or non-digit input.
func LuhnValid(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 1 {
			d *= 2
			if d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return len(digits) > 0 && sum%10 == 0
}

// Received is the number exactly as the client sent it.
func (p PAN) Received() secret.Bytes { return p.received }

// Digits is the number without white space.
func (p PAN) Digits() secret.Bytes { return p.digits }

// Masked shows at most BIN and last four (PCI DSS 3.4.1): the first six and last
// four digits of a number of 15 digits or more, and only the last four, or two,
// of a shorter one, of which six and four would leave too little to guess.
func (p PAN) Masked() string {
	d := p.digits.Expose()
	first, last := 6, 4
	switch {
	case len(d) == 0:
		return ""
	case len(d) < 12:
		first, last = 0, 2
	case len(d) < 15:
		first = 0
	}
	out := make([]byte, len(d))
	for i := range d {
		out[i] = '*'
		if i < first || i >= len(d)-last {
			out[i] = d[i]
		}
	}
	return string(out)
}

// Destroy wipes the number.
func (p PAN) Destroy() {
	p.received.Destroy()
	p.digits.Destroy()
}

// Format implements fmt.Formatter: no verb prints more than the masked number.
func (p PAN) Format(f fmt.State, _ rune) { fmt.Fprint(f, p.Masked()) }

// LogValue implements slog.LogValuer.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.Masked()) }

// MarshalText implements encoding.TextMarshaler by refusing.
func (p PAN) MarshalText() ([]byte, error) { return nil, secret.ErrNotSerialisable }
