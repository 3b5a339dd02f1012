package vault

import (
	"context"

	"cardea/internal/audit"
)

// KeyVersion names a version of a key.
type KeyVersion struct {
	ID      KeyID
	Version uint32
}

// KeyWork is the part of the store that changes keys and moves records from one to
// another: rotation, migration, retirement, shredding. Each change is a transaction
// of its own, off the group commit, in batches that do not hold it up for long, and
// durable with its entry. Errors are those of Store.
type KeyWork interface {
	// Inventory lists the key versions of a tenant, of every state, by holder, purpose
	// and version.
	Inventory(ctx context.Context, tenant string) ([]WrappedKey, error)
	// RotateKey inserts k, of the same id as its predecessors and the next version, as
	// the active one, and makes the version that was active decrypt-only at
	// k.CreatedAt. If the version is taken, it returns the newest version and false.
	RotateKey(ctx context.Context, k WrappedKey, e audit.Sealed) (WrappedKey, bool, error)
	// RewrapKey replaces mode and wrapping of a version whose wrapping is still was.
	RewrapKey(ctx context.Context, k WrappedKey, was []byte, e audit.Sealed) (bool, error)
	// ChangeKey moves a version from one state to another at a time, and reports false
	// if it is in neither. A destroyed one loses its wrapped material. To become
	// retired it must have no record under it (ErrConflict).
	ChangeKey(ctx context.Context, v KeyVersion, from, to KeyState, at Micros, e audit.Sealed) (bool, error)
	// AddSealed adds to the counts of records sealed under key versions. They are
	// statistics: at least so many.
	AddSealed(ctx context.Context, counts map[KeyVersion]uint64) error

	// CountRecords counts the rows under a key version.
	CountRecords(ctx context.Context, v KeyVersion) (int64, error)
	// RecordsUnder lists up to limit rows under a key version, whose row number is
	// above after, by row number. It reads from the writing side.
	RecordsUnder(ctx context.Context, v KeyVersion, after int64, limit int) ([]HeldRecord, error)
	// RecordsAmong lists rows under any of the key versions in the same way. It reads the
	// rows of others too.
	RecordsAmong(ctx context.Context, under map[KeyVersion]bool, after int64, limit int) ([]HeldRecord, error)
	// PassPays reports whether so many rows, under several key versions, are moved in
	// less time by RecordsAmong than by RecordsUnder for one version after the other.
	PassPays(ctx context.Context, rows int64) (bool, error)
	// RecordsOf lists rows of a holder in the same way.
	RecordsOf(ctx context.Context, tenant, holder string, after int64, limit int) ([]HeldRecord, error)
	// RecordsWithDedupe lists rows of a tenant whose keyed hash is under an older
	// version of its dedupe key than version.
	RecordsWithDedupe(ctx context.Context, tenant string, below uint32, after int64, limit int) ([]HeldRecord, error)
	// CountHashed counts the keyed hashes that a version of the tenant's key for p has
	// made: of records for PurposeDedupe, of fingerprints for PurposeFingerprint.
	CountHashed(ctx context.Context, tenant string, p Purpose, version uint32) (int64, error)
	// DuplicateOf returns the row that has one of the keyed hashes, or ErrNotFound: how
	// a card is found again while some rows are under an older dedupe key.
	DuplicateOf(ctx context.Context, hashes []MAC) (Record, error)
	// ReplaceSealed puts what records are sealed in anew, where a row is still as it
	// was read, and tells for each whether it was. A keyed hash that another row has
	// already is left out (NULL).
	ReplaceSealed(ctx context.Context, changes []ResealedRecord, e audit.Sealed) ([]bool, error)
	// ShredHolder marks a holder as shredded at a time and wipes its secret, and reports
	// false if it is marked already. Once it has returned, no node's Put or Upsert
	// stores a record of the holder, and all that were stored before are to be seen.
	ShredHolder(ctx context.Context, holderID int64, at Micros, e audit.Sealed) (bool, error)
	// DeleteRows removes rows.
	DeleteRows(ctx context.Context, rows []int64, e audit.Sealed) (int, error)
	// FreeName gives the name of a shredded holder that has no rows back: a holder of
	// that name may be created, which is another one. It reports false if it has rows,
	// or is not marked.
	FreeName(ctx context.Context, holderID int64, e audit.Sealed) (bool, error)

	// PutJob inserts a job, or returns the unfinished one of the same tenant, kind and
	// holder and false.
	PutJob(ctx context.Context, j Job, e audit.Sealed) (Job, bool, error)
	// Jobs lists the jobs of a tenant, or of all if it is empty, newest first, at most
	// limit; unfinished ones always.
	Jobs(ctx context.Context, tenant string, limit int) ([]Job, error)
	// ClaimJob gives a job to a node until a time, unless another node has it until
	// later than now.
	ClaimJob(ctx context.Context, id KeyID, node string, now, until Micros) (Job, bool, error)
	// SaveJob writes a job's progress, if it is still the node's.
	SaveJob(ctx context.Context, j Job, e *audit.Sealed) (bool, error)

	// Suspend and Resume mark a tenant; Suspended lists those marked.
	Suspend(ctx context.Context, tenant, reason string, at Micros, e audit.Sealed) (bool, error)
	Resume(ctx context.Context, tenant string, e audit.Sealed) (bool, error)
	Suspended(ctx context.Context) (map[string]string, error)

	// KeyEvents lists what changed after an event number, for other nodes' caches:
	// each RotateKey, RewrapKey, ChangeKey, ShredHolder, FreeName, Suspend and Resume
	// adds one in its transaction. After 0 it returns only the newest.
	KeyEvents(ctx context.Context, after int64, limit int) ([]KeyEvent, error)
}

// HeldRecord is a row with its number and its holder.
type HeldRecord struct {
	Row int64
	Record
	Holder Holder
}

// ResealedRecord is a row's new form.
type ResealedRecord struct {
	Row      int64
	Was      []byte // Sealed as read
	Sealed   Sealed
	Dedupe   *MAC // nil leaves it as it is
	HashedBy uint32
}

// KeyEvent tells other nodes what to forget.
type KeyEvent struct {
	Number int64
	Tenant string
	Key    KeyVersion // zero if the whole tenant is meant
}

// JobKind is what a job does.
type JobKind string

// The kinds. Their names are stored.
const (
	JobReencrypt JobKind = "reencrypt" // move every record under the tenant's current keys: rotation and migration
	JobShred     JobKind = "shred"     // destroy a holder's keys, show that nothing opens, remove its rows
	JobVerify    JobKind = "verify"    // open every record, or a sample
)

// JobState is how far a job is.
type JobState string

// The states. Their names are stored.
const (
	JobRunning JobState = "running"
	JobPaused  JobState = "paused"
	JobWaiting JobState = "waiting" // until what is replaced may be retired
	JobDone    JobState = "done"
	JobFailed  JobState = "failed" // cannot go on; Error says why and what to do
)

// Job is long work on a tenant's records. Any node carries it on; it survives all.
type Job struct {
	ID     KeyID
	Kind   JobKind
	Tenant string
	Holder string // one merchant or entity, or empty for the whole tenant
	State  JobState
	Reason string // "operator", "cryptoperiod", "message limit", "mode", "compromise"
	By     string // who asked for it
	Rate   int    // rows a second at most, all nodes together; 0 as configured
	Verify bool   // open every moved record afterwards; else a sample
	Retire bool   // retire the versions that are replaced

	Step      string     // "keys", "records", "hashes", "verify", "retire"
	Key       KeyVersion // that it is at
	After     int64      // row that it is at
	Total     int64      // rows to do, as counted at the start
	Moved     int64
	Verified  int64
	Skipped   int64 // changed by others meanwhile, or gone
	Bad       int64 // rows that do not open: left as they are, listed in the audit log
	Error     string
	Node      string // that has it
	Until     Micros // until when
	CreatedAt Micros
	UpdatedAt Micros
	WaitUntil Micros
	DoneAt    Micros
}

// KeyChanger is the part of a key manager that changes keys and moves records.
type KeyChanger interface {
	// Rotate makes the next version of the key of a tenant's holder and purpose, in
	// the tenant's mode and under its present KMS key, and makes it the active one.
	Rotate(ctx context.Context, tenant, holder string, p Purpose, reason string) (WrappedKey, error)
	// Rewrap wraps a key version in the tenant's mode and under its present KMS key;
	// its material stays. A key that is in a KMS only cannot be rewrapped.
	Rewrap(ctx context.Context, w WrappedKey) (WrappedKey, error)
	// Current reports whether w is as the tenant's configuration now asks for: its mode
	// and the KMS key that wraps it.
	Current(w WrappedKey) bool
	// Stays reports whether a record under a current key is where it would be sealed
	// anew: in mode aws_kms those that are too long for KMS are under branch keys.
	Stays(tenant string, s Sealed) bool
	// Reseal seals a record anew under the tenant's current key. In mode aws_kms, from
	// one KMS key to another, its plaintext does not leave KMS.
	Reseal(ctx context.Context, c RecordContext, s Sealed) (Sealed, error)
	// MACs is MAC under the active version and under the replaced ones that are not
	// retired, newest first.
	MACs(ctx context.Context, tenant string, p Purpose, parts ...[]byte) ([]VersionMAC, error)
	// Forget wipes what is in memory of a tenant's keys, or of one key version.
	Forget(tenant string)
	ForgetKey(tenant string, v KeyVersion)
	// Counts returns how many records were sealed under each key version since it was
	// last asked.
	Counts() map[KeyVersion]uint64
}

// VersionMAC is a keyed hash with the version of its key.
type VersionMAC struct {
	Version uint32
	Since   Micros // when the version was made
	MAC     MAC
}
