// Package pkcs11 is the backend of the key service that keeps keys in a PKCS #11
// token: an HSM, or SoftHSM. It is built with the tag pkcs11 and cgo; without them
// every constructor returns [ErrNotBuilt].
//
// It promises that keys are made inside the token, cannot leave it, and are only
// used there; that a handle works for its own key, material id and spec alone, with
// the very key that it was made of; that plaintexts and PINs are not left behind in
// memory of C; and that a lost session, login or device is set up again without the
// caller, but a PIN that was once refused is never tried again.
//
// Keys are symmetric (docs/hsm.md has the formats). A message is encrypted by
// AES-256-GCM under the key itself with a random nonce of 96 bits, so a key may
// encrypt at most 2^32 messages (NIST SP 800-38D, section 8.3). The device does not
// count them, and neither does this package.
package pkcs11

import (
	"errors"
	"time"
)

// ErrNotBuilt says that the program has no support for PKCS #11.
var ErrNotBuilt = errors.New("this program was built without PKCS #11: build it with 'CGO_ENABLED=1 go build -tags pkcs11'")

// Token names a token.
type Token struct {
	Library string // path of the PKCS #11 library, which is loaded into this process
	Label   string // of the token; no two that the library sees may share it
}

// Cluster is a token that custom key stores can name.
type Cluster struct {
	Token
	TrustAnchor string // PEM; "" if any will do
}

// Options of backends. The zero value is ready to use.
type Options struct {
	// Sessions is how many operations run in a token at the same time; others wait.
	// Default 16. The first backend of a token decides.
	Sessions int
	// RetryAfter is how long a token that cannot be reached is left alone. Default 1 s.
	RetryAfter time.Duration
	Now        func() time.Time // default time.Now
}
