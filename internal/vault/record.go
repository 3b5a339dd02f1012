package vault

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Space separates the two generations of the locker API, whose ids never meet.
type Space uint8

// The spaces. Their numbers are stored.
const (
	SpaceV1 Space = 1 // cards and opaque data of a merchant's customer
	SpaceV2 Space = 2 // any JSON of an entity
)

// String is the name that records are bound to.
func (s Space) String() string {
	switch s {
	case SpaceV1:
		return "v1"
	case SpaceV2:
		return "v2"
	}
	return "unknown"
}

// Kind says what a record's plaintext is.
type Kind uint8

// The kinds. Their numbers are stored.
const (
	KindCard Kind = 1 // a card, docs/spec/card.md
	KindData Kind = 2 // opaque bytes of the client (enc_card_data)
	KindJSON Kind = 3 // a JSON value (v2)
)

// String is the name that records are bound to and the audit log shows.
func (k Kind) String() string {
	switch k {
	case KindCard:
		return "card"
	case KindData:
		return "data"
	case KindJSON:
		return "json"
	}
	return "unknown"
}

// Mode names the key manager that sealed a record or wrapped a key.
type Mode uint8

// The modes. Their numbers are stored.
const (
	ModeLocal       Mode = 1 // tenant master key under custodian shares
	ModeKMSEnvelope Mode = 2 // branch keys wrapped by AWS KMS
	ModeKMS         Mode = 3 // each record encrypted by AWS KMS
	ModePKCS11      Mode = 4 // branch keys wrapped in an HSM
	ModeExternal    Mode = 5 // Hyperswitch's encryption service
)

// modeNames are the names used in configuration.
var modeNames = map[Mode]string{
	ModeLocal: "local", ModeKMSEnvelope: "aws_kms_envelope", ModeKMS: "aws_kms", ModePKCS11: "pkcs11", ModeExternal: "external",
}

// String is the name used in configuration.
func (m Mode) String() string {
	if name, ok := modeNames[m]; ok {
		return name
	}
	return "unknown"
}

// ParseMode finds a mode by its name in configuration.
func ParseMode(name string) (Mode, bool) {
	for m, n := range modeNames {
		if n == name {
			return m, true
		}
	}
	return 0, false
}

// Micros is a time in microseconds since the Unix epoch, UTC, as stored; 0 is never.
type Micros int64

// MicrosOf rounds t down to the microsecond.
func MicrosOf(t time.Time) Micros { return Micros(t.UnixMicro()) }

// Time is m in UTC.
func (m Micros) Time() time.Time { return time.UnixMicro(int64(m)).UTC() }

// MaxID is the longest merchant, customer, entity, reference or vault id, in
// characters (the locker's columns are varchar(255)).
const MaxID = 255

// Lookup is a record's primary key: six bytes for locality, sixteen of
// SHA-256 over tenant, holder, space, customer and reference. References that
// are UUIDv7 share their time prefix, so that rows stored together lie together
// in the index.
type Lookup [22]byte

// LookupOf derives the lookup key. It holds no secret: ids are not cardholder data.
func LookupOf(tenant, holder string, space Space, customer, reference string) Lookup {
	buf := make([]byte, 0, 256)
	buf = append(buf, "cardea lookup v1"...)
	buf = append(buf, byte(space))
	for _, s := range [...]string{tenant, holder, customer, reference} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(s)))
		buf = append(buf, s...)
	}
	sum := sha256.Sum256(buf)
	var l Lookup
	copy(l[6:], sum[:16])
	if id, err := uuid.Parse(reference); err == nil && id.Version() == 7 {
		copy(l[:6], id[:6])
	} else {
		copy(l[:6], sum[16:22])
	}
	return l
}

// MAC is a keyed hash, HMAC-SHA-256.
type MAC [32]byte

// Record is one stored row. Sealed is ciphertext; nothing in it is secret.
type Record struct {
	Lookup     Lookup
	Dedupe     *MAC   // keyed hash that finds the same card of one customer again; nil in v2
	HashedBy   uint32 // version of the tenant's dedupe key; 0 without a keyed hash
	HolderID   int64
	Space      Space
	Kind       Kind
	Customer   string // v1 only
	Reference  string // card reference or vault id
	Mode       Mode
	Key        KeyID
	KeyVersion uint32
	Sealed     []byte // docs/spec/record.md
	CreatedAt  Micros
	ExpiresAt  Micros
}

// expired reports whether r may no longer be answered at now. The locker's rule
// is now > expires_at.
func (r *Record) expired(now Micros) bool { return r.ExpiresAt != 0 && now > r.ExpiresAt }

// Holder is a merchant (v1) or an entity (v2): whose key protects a record. Both
// share one name space in a tenant.
type Holder struct {
	ID        int64 // given by the store
	Tenant    string
	Name      string
	Secret    []byte // 32 random bytes mixed into the keys of v2 records; destroying them shreds the entity
	CreatedAt Micros
	// ShreddedAt is when it was shredded, or begun to be; 0 is never. Nothing is stored
	// for it from then on.
	ShreddedAt Micros
}

// ExpiredRecord is what the sweeper needs of a row whose time has passed.
type ExpiredRecord struct {
	Lookup    Lookup
	Tenant    string
	Holder    string
	Space     Space
	Kind      Kind
	Customer  string
	Reference string
	ExpiresAt Micros
}
