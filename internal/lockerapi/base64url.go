package lockerapi

import (
	"encoding/base64"
	"errors"
)

var errBase64 = errors.New("not canonical base64url")

// decoder6 maps a base64url symbol to its value, and everything else to 0xFF.
var decoder6 = func() (t [256]byte) {
	const symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range t {
		t[i] = 0xFF
	}
	for i := range len(symbols) {
		t[symbols[i]] = byte(i)
	}
	return t
}()

// canonicalBase64 reports whether text is what encoding some bytes gives:
// base64url without padding, line breaks or bits left over (RFC 7515 section 2).
// The standard decoder skips line breaks, even when strict.
func canonicalBase64(text []byte) bool {
	for _, c := range text {
		if decoder6[c] == 0xFF {
			return false
		}
	}
	switch len(text) % 4 {
	case 1:
		return false
	case 2:
		return decoder6[text[len(text)-1]]&0x0F == 0
	case 3:
		return decoder6[text[len(text)-1]]&0x03 == 0
	}
	return true
}

// appendBase64 decodes canonical text.
func appendBase64(dst, text []byte) ([]byte, error) {
	if !canonicalBase64(text) {
		return dst, errBase64
	}
	return base64.RawURLEncoding.AppendDecode(dst, text)
}
