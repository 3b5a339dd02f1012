//go:build pkcs11 && cgo

package pkcs11

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
)

// lost reports whether an error says that session, login or device are gone, so
// that the operation may be tried again after another login.
func lost(err error) bool {
	return isAny(err, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_ERROR,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID, p11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

// stale reports whether an error says that an object is no longer there.
func stale(err error) bool {
	return isAny(err, p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID)
}

// unopened reports whether an error, with which decrypting ended, can be the
// ciphertext's: PKCS #11 has codes for that, and devices have habits.
func unopened(err error) bool {
	const aeadDecryptFailed p11.Error = 0x42 // CKR_AEAD_DECRYPT_FAILED of PKCS #11 3.0
	return isAny(err, p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, aeadDecryptFailed,
		p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_DATA_INVALID, p11.CKR_SIGNATURE_INVALID)
}

func isAny(err error, codes ...p11.Error) bool {
	var e p11.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e == c {
			return true
		}
	}
	return false
}

// unreachable is the error of a token that cannot be used now.
func unreachable(cause error) error {
	return fmt.Errorf("%w: %w", kms.ErrDeviceLost, cause)
}

var errClosed = errors.New("the token is no longer in use")

// loginError is why a token could not be logged in to, in AWS's terms.
func loginError(err error) error {
	code := kms.ConnectInternalError
	switch {
	case isAny(err, p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED):
		code = kms.ConnectInvalidCredentials
	case isAny(err, p11.CKR_PIN_LOCKED):
		code = kms.ConnectUserLockedOut
	case isAny(err, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_USER_TYPE_INVALID):
		code = kms.ConnectUserNotFound
	case isAny(err, p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, p11.CKR_USER_TOO_MANY_TYPES):
		code = kms.ConnectUserLoggedIn
	case lost(err):
		code = kms.ConnectNetworkErrors
	}
	return &kms.ConnectError{Code: code, Err: fmt.Errorf("log in: %w", err)}
}

// refused reports whether the token has refused the PIN. Trying it again would lock
// the token's user out.
func refused(err error) bool {
	var e *kms.ConnectError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case kms.ConnectInvalidCredentials, kms.ConnectUserLockedOut, kms.ConnectUserNotFound:
		return true
	}
	return false
}
