package kms

import (
	"context"
	"time"

	"cardea/internal/audit"
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// Reader reads state. Lists are ordered by id or name and hold up to limit items
// after the one named, "" for the first. A row that is not there is ErrNoRow.
type Reader interface {
	Key(ctx context.Context, ref KeyRef) (*Key, error)
	Keys(ctx context.Context, account, region, after string, limit int) ([]KeyRef, error)
	Alias(ctx context.Context, account, region, name string) (*Alias, error)
	Aliases(ctx context.Context, account, region, after string, limit int) ([]Alias, error)
	AliasesOf(ctx context.Context, ref KeyRef, after string, limit int) ([]Alias, error)
	Grant(ctx context.Context, ref KeyRef, id string) (*Grant, error)
	Grants(ctx context.Context, ref KeyRef, f GrantFilter, after string, limit int) ([]Grant, error)
	// Retirable lists grants by retiring principal, over all keys of an account and
	// Region.
	Retirable(ctx context.Context, account, region, principal, after string, limit int) ([]Grant, error)
	KeyStore(ctx context.Context, account, region, id string) (*KeyStore, error)
	KeyStores(ctx context.Context, account, region, after string, limit int) ([]KeyStore, error)
	Usage(ctx context.Context, ref KeyRef) (*Usage, error)
}

// GrantFilter narrows a list of grants; empty fields do not.
type GrantFilter struct {
	Grantee string
	Name    string // exact
}

// Store keeps the state of the key service and its audit log. It is safe for
// concurrent use and reads its own node's writes.
type Store interface {
	Reader

	// Append makes entries durable, with nothing else. Calls at the same time share
	// a commit.
	Append(ctx context.Context, entries ...audit.Sealed) error
	// Update runs fn in a transaction of its own. What fn writes is durable together
	// with the entries it appends when Update returns nil, and not there otherwise.
	// fn may run more than once, must not call the Store but by the Tx, and must
	// append at least one entry.
	Update(ctx context.Context, fn func(Tx) error) error
	// PutUsage merges last uses: of two of one key the later stands. It is not audited.
	PutUsage(ctx context.Context, us []Usage) error

	// Due lists keys whose Due is at or before the time, the earliest first.
	Due(ctx context.Context, at time.Time, limit int) ([]KeyRef, error)
	// Changes lists keys that were changed, by any node, after the change with the
	// number given, and the number of the last. A list cut at its limit goes on from
	// there. A change of an alias or a grant is one of the keys concerned; see
	// Change. With ErrForgotten comes the number to go on from; asked for changes
	// after a negative number, the store gives the number of the last alone.
	Changes(ctx context.Context, after int64) (changes []Change, last int64, err error)
}

// Change is what caches must forget: a key, or, if ID is empty, the alias.
type Change struct {
	KeyRef
	Alias string
}

// Tx is a transaction. A write that finds another row than expected is ErrChanged.
type Tx interface {
	Reader

	// PutKey inserts a key of Version 0, or replaces the row of the same version. It
	// does not change k.
	PutKey(ctx context.Context, k *Key) error
	// DeleteKey removes the key with its aliases, grants and last use.
	DeleteKey(ctx context.Context, ref KeyRef) error
	// CountKeys counts the keys of a custom key store, or, if id is "", of the
	// account and Region.
	CountKeys(ctx context.Context, account, region, keyStoreID string) (int, error)

	// PutAlias inserts or, if replace is set, updates.
	PutAlias(ctx context.Context, a *Alias, replace bool) error
	DeleteAlias(ctx context.Context, account, region, name string) error

	PutGrant(ctx context.Context, g *Grant) error
	DeleteGrant(ctx context.Context, ref KeyRef, id string) error
	CountGrants(ctx context.Context, ref KeyRef) (int, error)

	// PutKeyStore is as PutKey.
	PutKeyStore(ctx context.Context, s *KeyStore) error
	DeleteKeyStore(ctx context.Context, account, region, id string) error

	// Append adds an entry to the audit log.
	Append(e audit.Sealed)
}

// Backend keeps key material and computes with it. Every method is safe for
// concurrent use. Errors wrap ErrSealed while the backend cannot be used, ErrNotOurs
// if a handle or ciphertext does not open, or are those of package keyspec; any
// other is a failure of the backend.
type Backend interface {
	// Ready tells whether material can be used now, ErrSealed if not.
	Ready(ctx context.Context) error

	// Generate makes material for m, whose Handle is empty, and returns its handle,
	// bound to m's key and id, and the public half.
	Generate(ctx context.Context, m MaterialRef) (handle, public []byte, err error)
	// Import is Generate for given material. The caller keeps it.
	Import(ctx context.Context, m MaterialRef, material secret.Bytes) (handle, public []byte, err error)
	// Destroy removes what the backend itself keeps. Unknown material is no error.
	Destroy(ctx context.Context, m MaterialRef) error

	// Seal and Open are the symmetric encryption of a message under a key derived
	// for it alone, or by the device's own AEAD. aad is never empty.
	Seal(ctx context.Context, m MaterialRef, aad []byte, plaintext secret.Bytes) ([]byte, error)
	Open(ctx context.Context, m MaterialRef, aad, sealed []byte) (secret.Bytes, error)

	// The rest is as in package keyspec.
	Sign(ctx context.Context, m MaterialRef, a keyspec.SigningAlgorithm, t keyspec.MessageType, message []byte) ([]byte, error)
	Decrypt(ctx context.Context, m MaterialRef, a keyspec.EncryptionAlgorithm, ciphertext []byte) (secret.Bytes, error)
	MAC(ctx context.Context, m MaterialRef, a keyspec.MACAlgorithm, message []byte) ([]byte, error)
	Agree(ctx context.Context, m MaterialRef, peer []byte) (secret.Bytes, error)
	Random(ctx context.Context, n int) (secret.Bytes, error)
}

// MaterialRef names material to a backend.
type MaterialRef struct {
	KeyID  string // of the key, without account and Region: replicas share material
	ID     string // 64 hex digits
	Spec   keyspec.Spec
	Handle []byte // as Generate or Import returned it
}

// Secrets seals what must not be stored in clear, bound to the label: passwords of
// custom key stores, wrapping keys of imports. Errors are those of a Backend.
type Secrets interface {
	SealSecret(ctx context.Context, label string, plaintext secret.Bytes) ([]byte, error)
	OpenSecret(ctx context.Context, label string, sealed []byte) (secret.Bytes, error)
}

// KeyStores finds the backend of a custom key store by its cluster id. The
// configuration says which clusters there are.
type KeyStores interface {
	// Connect logs in to the cluster's device.
	Connect(ctx context.Context, clusterID string, password secret.Bytes) (Backend, error)
	// Clusters are the ids that are configured, with their trust anchors (PEM; may be "").
	Clusters() map[string]string
}
