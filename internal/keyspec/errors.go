package keyspec

import (
	"errors"
	"fmt"
)

// Errors that callers branch on.
var (
	ErrInvalidSignature  = errors.New("invalid signature")
	ErrInvalidCiphertext = errors.New("invalid ciphertext")
	ErrInvalidKey        = errors.New("invalid key material")
	ErrUnsupported       = errors.New("not supported for this key spec")
)

// InputError is a plaintext, message or digest that an algorithm cannot take. Its
// text is the one AWS KMS answers with as a ValidationException.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

// unsupported is ErrUnsupported for what is asked of a key of the spec.
func unsupported[A ~string](s Spec, what A) error {
	if what == "" {
		what = "(none)"
	}
	return fmt.Errorf("%s with a key of spec %s: %w", what, s, ErrUnsupported)
}

// invalidKey is ErrInvalidKey with a reason, which never holds a byte of the key.
func invalidKey(s Spec, reason string) error {
	return fmt.Errorf("%w of spec %s: %s", ErrInvalidKey, s, reason)
}
