// Package fileenc encrypts files and streams of any size in the AWS Encryption SDK's
// message format, under one or several keys of AWS KMS or of a key service that
// speaks its API (docs/spec/file-encryption.md). Any AWS Encryption SDK opens what it
// writes, and the reverse.
//
// It promises that memory does not grow with the data, that nothing is handed on
// that is not authenticated, that a message opens under one data key only (key
// commitment) unless the caller allows otherwise, and that only keys which the caller
// names are asked. Encryption contexts are public: they are in the message in clear,
// and CloudTrail shows them.
package fileenc

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

// Errors that callers branch on.
var (
	// ErrNotMessage says that the input does not begin as a message does, or that its
	// header breaks a rule of the format.
	ErrNotMessage = errors.New("not a message of the AWS Encryption SDK")
	// ErrTruncated says that the message ends too early.
	ErrTruncated = errors.New("the message is cut off")
	// ErrForged says that the message was changed, or put together from others.
	ErrForged = errors.New("the message is not authentic")
	// ErrTrailing says that something follows the message.
	ErrTrailing = errors.New("something follows the message")
	// ErrContext says that the encryption context is not the expected one.
	ErrContext = errors.New("the encryption context does not match")
	// ErrNoKey says that none of the keys that the caller names opens the message.
	ErrNoKey = errors.New("no key that was named opens the message")
	// ErrUncommitted says that the message does not commit to its data key.
	ErrUncommitted = errors.New("the message has no key commitment")
	// ErrSigned says that the message is signed, and so can be released only when all
	// of it was read.
	ErrSigned = errors.New("the message is signed")
	// ErrLimit says that the message goes beyond a limit of the reader.
	ErrLimit = errors.New("the message goes beyond a limit")
	// ErrInvalid says that the options cannot be meant.
	ErrInvalid = errors.New("invalid")
)

// KMS is the key service that wraps data keys; *kmsclient.Client is one. Methods
// are safe for concurrent use and return errors of package kmsclient.
type KMS interface {
	GenerateDataKey(ctx context.Context, k kmsclient.Key, context map[string]string) (kmsclient.DataKey, error)
	Encrypt(ctx context.Context, k kmsclient.Key, plaintext secret.Bytes, context map[string]string) (blob []byte, keyARN string, err error)
	Decrypt(ctx context.Context, k kmsclient.Key, blob []byte, context map[string]string) (secret.Bytes, error)
}

func forged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForged, fmt.Sprintf(format, args...))
}

func notMessage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotMessage, fmt.Sprintf(format, args...))
}
