package vault

import (
	"context"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/secret"
)

// Store keeps records, holders, fingerprints, keys and the audit log. Every
// method is safe for concurrent use and reads its own node's writes.
//
// The Put, Delete and Append methods are units of the group commit: each returns
// after its change and its audit entry are durable together. A unit that is not
// applied, because something stands in its way, writes nothing, not even its
// entry; then the caller records the outcome that it decides on by Append. An
// error means that the outcome is unknown or that nothing was written; it wraps
// ErrUnavailable when the database could not be reached or the log not written.
type Store interface {
	Records
	Holders
	Keys

	// Fingerprint returns the id stored for hash, or ErrNotFound.
	Fingerprint(ctx context.Context, hash MAC) (string, error)
	// PutFingerprint stores id for hash, which the given version of the tenant's
	// fingerprint key made. If the hash is known, it returns the id that stands and
	// false.
	PutFingerprint(ctx context.Context, tenant string, hash MAC, hashedBy uint32, id string, e audit.Sealed) (string, bool, error)

	// Append makes entries durable in the order given, without any other change.
	Append(ctx context.Context, entries ...audit.Sealed) error

	// Probe tries each kind of database work on a row of its own.
	Probe(ctx context.Context) Probe
}

// Records stores records by lookup key.
type Records interface {
	// Record returns the row, expired or not, or ErrNotFound.
	Record(ctx context.Context, l Lookup) (Record, error)
	// RecordAndHolder is Record with the row's holder, in one read.
	RecordAndHolder(ctx context.Context, l Lookup) (Record, Holder, error)
	// PutRecord inserts r. If a row with the same Dedupe or, failing that, the same
	// Lookup exists, expired or not, nothing is written and that row is returned.
	// Neither PutRecord nor UpsertRecord stores for a holder that is marked by
	// KeyWork.ShredHolder, from whatever node, or is not there: ErrShredded.
	PutRecord(ctx context.Context, r Record, e audit.Sealed) (existing *Record, err error)
	// UpsertRecord inserts r, or replaces the row with the same Lookup whole.
	UpsertRecord(ctx context.Context, r Record, e audit.Sealed) error
	// DeleteRecord removes the row and reports whether there was one. If
	// expiredAt is not 0, only a row that is expired at that time is removed.
	DeleteRecord(ctx context.Context, l Lookup, expiredAt Micros, e audit.Sealed) (bool, error)
	// Expired lists up to limit rows that are expired at now, oldest first.
	Expired(ctx context.Context, now Micros, limit int) ([]ExpiredRecord, error)
}

// Holders stores merchants and entities.
type Holders interface {
	// Holder returns the holder or ErrNotFound.
	Holder(ctx context.Context, tenant, name string) (Holder, error)
	// PutHolder inserts h, ignoring h.ID. If the name is taken, it returns the
	// holder that stands and false.
	PutHolder(ctx context.Context, h Holder, e audit.Sealed) (Holder, bool, error)
}

// Keys stores wrapped keys.
type Keys interface {
	// Key returns a key version by id and version, or ErrNotFound.
	Key(ctx context.Context, id KeyID, version uint32) (WrappedKey, error)
	// ActiveKey returns the active version for the purpose, or ErrNotFound.
	ActiveKey(ctx context.Context, tenant, holder string, p Purpose) (WrappedKey, error)
	// PutKey inserts k. If tenant, holder, purpose and version are taken, by whichever
	// node, or another version is active, it returns the key that stands and false.
	PutKey(ctx context.Context, k WrappedKey, e audit.Sealed) (WrappedKey, bool, error)
}

// Probe is the state of each kind of database work, and of the tenant's keys;
// nil is working. A store leaves Keys to Service.Diagnose.
type Probe struct{ Connect, Read, Write, Delete, Keys error }

// KeyManager protects plaintext. Every method is safe for concurrent use. An
// error wraps ErrLocked while the tenant's master key is sealed, ErrCorrupt if
// what was stored does not open, ErrKeyUnavailable if the key cannot be had now,
// ErrKeyThrottled if it is asked for too often (both may come as *KeyError),
// *ValidationError if the plaintext is longer than the tenant's mode takes, or what
// ended ctx.
type KeyManager interface {
	// Seal encrypts plaintext under the active key of c's tenant and holder,
	// which it creates if there is none. It does not keep plaintext.
	Seal(ctx context.Context, c RecordContext, plaintext secret.Bytes) (Sealed, error)
	// Open decrypts what Seal returned for the same context.
	Open(ctx context.Context, c RecordContext, s Sealed) (secret.Bytes, error)
	// MAC is the keyed hash of parts under the tenant's key for p, which it
	// creates if there is none.
	MAC(ctx context.Context, tenant string, p Purpose, parts ...[]byte) (MAC, error)
}

// RecordContext is everything a record's ciphertext is bound to but its key: a
// record opened under any other context is corrupt.
type RecordContext struct {
	Tenant       string
	Holder       string
	HolderSecret []byte // v2 only
	Space        Space
	Customer     string
	Reference    string
	Kind         Kind
	CreatedAt    Micros
	ExpiresAt    Micros
}

// Sealed is ciphertext with the name of what sealed it.
type Sealed struct {
	Mode       Mode
	Key        KeyID
	KeyVersion uint32
	Blob       []byte
}

// Custody keeps what unseals a tenant: its sealed master key and the credentials
// of its custodians. Its changes are rare; each is a transaction of its own.
type Custody interface {
	// MasterSeal returns the tenant's current seal, or ErrNotFound.
	MasterSeal(ctx context.Context, tenant string) (MasterSeal, error)
	// Credentials returns the custodians' credentials of a tenant, by name.
	Credentials(ctx context.Context, tenant string) ([]custodian.Credential, error)
	// Update runs fn in a transaction. What fn writes is durable together with the
	// entries it appends when Update returns nil, and not there otherwise. fn may
	// run more than once.
	Update(ctx context.Context, fn func(CustodyTx) error) error
}

// CustodyTx is a transaction of Custody. It must have at least one entry.
type CustodyTx interface {
	// PutMasterSeal replaces the seal of generation s.Generation-1; ErrConflict if
	// the stored generation is another. Generation 1 is the first.
	PutMasterSeal(s MasterSeal) error
	// PutCredentials replaces all credentials of the tenant.
	PutCredentials(tenant string, cs []custodian.Credential) error
	// Append adds an entry to the audit log.
	Append(e audit.Sealed)
}

// MasterSeal is a tenant's master key as stored, docs/spec/custodian-shares.md.
type MasterSeal struct {
	Tenant     string
	Generation int // counts the rekeys
	Blob       []byte
	CreatedAt  Micros
}
