package identity

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238's default, the only hash that all authenticator apps have; HMAC does not need collision resistance
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"

	"cardea/internal/secret"
)

// Parameters of RFC 6238 as authenticator apps have them.
const (
	totpStep   = 30 * time.Second
	totpDigits = 6
	totpWindow = 1 // steps that a clock may be off, either way (RFC 6238 section 5.2)
)

// hotp is the code of RFC 4226 section 5.3 for a counter, with up to 9 digits.
func hotp(key secret.Bytes, counter uint64, digits int) []byte {
	mac := hmac.New(sha1.New, key.Expose())
	mac.Write(binary.BigEndian.AppendUint64(nil, counter))
	sum := mac.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & (1<<31 - 1)
	code := fmt.Appendf(nil, "%09d", n%1_000_000_000)
	return code[len(code)-digits:]
}

// checkTOTP finds the counter after used for which code is right at the time: a
// code that was accepted is not accepted again, nor is one before it (RFC 6238
// section 5.2). The time it takes does not depend on which is right.
func checkTOTP(key secret.Bytes, code string, at time.Time, used uint64) (counter uint64, ok bool) {
	now := uint64(at.Unix()) / uint64(totpStep/time.Second)
	for c := now - totpWindow; c <= now+totpWindow; c++ {
		if subtle.ConstantTimeCompare(hotp(key, c, totpDigits), []byte(code)) == 1 && c > used {
			counter, ok = c, true
		}
	}
	return counter, ok
}
