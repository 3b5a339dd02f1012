// Package kmsclient asks AWS KMS, or a key service that speaks its API, on behalf
// of the vault: many tenants, each with its key, Region and credentials, over one
// process.
//
// It promises that what cannot succeed is not tried again, that a key service in
// trouble is not pressed further, that every call ends in time, and that an error
// says which of a few things went wrong, so that the vault can answer its own
// clients truthfully. Encryption contexts are public: CloudTrail shows them.
package kmsclient

import (
	"context"
	"errors"

	"cardea/internal/secret"
)

// Errors that callers branch on; every error of a Client wraps one of them, or is
// what ended ctx.
var (
	// ErrThrottled says that the rate of a key is used up, here or at KMS. RetryAfter
	// tells how long to wait.
	ErrThrottled = errors.New("key service is throttled")
	// ErrDenied says that the credentials may not use the key.
	ErrDenied = errors.New("key service denied access to the key")
	// ErrDisabled says that the key cannot be used in its state: disabled, pending
	// deletion, pending import, unavailable.
	ErrDisabled = errors.New("key cannot be used in its state")
	// ErrNotFound says that there is no such key.
	ErrNotFound = errors.New("key does not exist")
	// ErrWrongContext says that ciphertext does not open under the key and the
	// encryption context: it was changed, moved or is of another key.
	ErrWrongContext = errors.New("ciphertext does not belong to the key and the encryption context")
	// ErrInvalid says that KMS refuses the request as such: too long, wrong usage.
	ErrInvalid = errors.New("key service refused the request as invalid")
	// ErrUnreachable says that KMS did not answer in time, or not sensibly, or that
	// the circuit breaker is open because it did not lately.
	ErrUnreachable = errors.New("key service is unreachable")
)

// Key names a tenant's key and how to reach it. Keys that are equal share
// connections, rates and breakers.
type Key struct {
	ID       string // key ARN or alias ARN; an id or alias of the credentials' account also works
	Region   string
	Endpoint string // URL; empty is AWS's endpoint of the Region
	FIPS     bool   // AWS's FIPS endpoint
	Profile  string // of the shared credentials file; empty is the standard chain
	// Replicas are replica keys of a multi-Region key in other Regions, asked in
	// this order when this Region does not answer.
	Replicas []Replica
}

// Replica is a multi-Region key's replica.
type Replica struct {
	ID, Region, Endpoint string
}

// DataKey is what GenerateDataKey gives. The caller destroys Plaintext.
type DataKey struct {
	Plaintext secret.Bytes // 32 bytes
	Blob      []byte
	KeyARN    string
}

// KMS is a key service as key managers need it; *Client is one. All methods are
// safe for concurrent use.
type KMS interface {
	GenerateDataKey(ctx context.Context, k Key, context map[string]string) (DataKey, error)
	Encrypt(ctx context.Context, k Key, plaintext secret.Bytes, context map[string]string) (blob []byte, keyARN string, err error)
	Decrypt(ctx context.Context, k Key, blob []byte, context map[string]string) (secret.Bytes, error)
	ReEncrypt(ctx context.Context, from Key, blob []byte, fromContext map[string]string, to Key, toContext map[string]string) (newBlob []byte, keyARN string, err error)
	// GenerateMAC is HMAC_SHA_256 under an HMAC_256 key.
	GenerateMAC(ctx context.Context, k Key, message []byte) ([]byte, error)
	// Check calls KMS for the key, so that health tells the truth.
	Check(ctx context.Context, k Key) error
}
