package httpd

import "github.com/google/uuid"

// maxRequestID is the longest x-request-id taken over from a client.
const maxRequestID = 128

// acceptRequestID is the client's id if there is exactly one and it is safe to
// echo, log and store: 1 to 128 visible ASCII characters that hold no card
// number. Otherwise it is a new UUIDv7.
func acceptRequestID(values []string) string {
	if len(values) == 1 && safeRequestID(values[0]) {
		return values[0]
	}
	return uuid.Must(uuid.NewV7()).String() // errs only if crypto/rand does, which never happens (Go 1.24)
}

func safeRequestID(id string) bool {
	if len(id) == 0 || len(id) > maxRequestID {
		return false
	}
	hex, letter := true, false
	for i := range len(id) {
		c := id[i]
		if c <= ' ' || c > '~' {
			return false
		}
		isLetter := 'a' <= c|0x20 && c|0x20 <= 'f'
		letter = letter || isLetter
		hex = hex && (isLetter || isDigit(c) || c == '-')
	}
	// UUIDs and trace ids hold long runs of digits now and then; replacing those
	// would break a client's correlation one time in a thousand.
	return (hex && letter) || !holdsPAN(id)
}
