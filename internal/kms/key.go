package kms

import (
	"slices"
	"strings"
	"time"

	"cardea/internal/keyspec"
)

// KeyRef names a key: an id is unique in an account and Region; replicas of a
// multi-Region key share it.
type KeyRef struct {
	Account string `json:"account"`
	Region  string `json:"region"`
	ID      string `json:"id"` // a UUID, or mrk- and 32 hex digits
}

// ARN is the key's ARN.
func (r KeyRef) ARN() string {
	return "arn:aws:kms:" + r.Region + ":" + r.Account + ":key/" + r.ID
}

// MultiRegion reports whether the id is that of a multi-Region key.
func (r KeyRef) MultiRegion() bool { return strings.HasPrefix(r.ID, "mrk-") }

// Key is a key with all that belongs to it but aliases, grants and last use. A Key
// that came out of a cache or a store is shared and never changed: clone it.
type Key struct {
	KeyRef
	Version     int64         `json:"-"` // of the row: 0 for a new key, else what Tx.PutKey compares
	CreatedAt   time.Time     `json:"created_at"`
	Description string        `json:"description,omitempty"`
	Spec        keyspec.Spec  `json:"spec"`
	Usage       keyspec.Usage `json:"usage"`
	Origin      Origin        `json:"origin"`
	State       KeyState      `json:"state"`
	Policy      string        `json:"policy"` // as it was sent
	Tags        []Tag         `json:"tags,omitempty"`

	// Materials in the order in which they came. At most one is MaterialCurrent.
	Materials []Material `json:"materials,omitempty"`

	Rotation   Rotation `json:"rotation,omitzero"`
	Deletion   Deletion `json:"deletion,omitzero"`
	Regions    *Regions `json:"regions,omitempty"` // of a multi-Region key
	KeyStoreID string   `json:"key_store,omitempty"`
	// MaterialSecret is the secret that the ids of imported material are made with,
	// sealed; docs/spec/import-token.md.
	MaterialSecret []byte `json:"material_secret,omitempty"`
	// Approvals were deposited for the key, see DualControl; those that were spent stay
	// until they expire.
	Approvals []Approval `json:"approvals,omitempty"`
}

// Material is one of a key's materials.
type Material struct {
	ID     string        `json:"id"` // 64 lower-case hex digits
	State  MaterialState `json:"state"`
	Handle []byte        `json:"handle,omitempty"` // what the backend needs to use it; empty while not imported
	Public []byte        `json:"public,omitempty"` // SubjectPublicKeyInfo of an asymmetric key

	CreatedAt time.Time `json:"created_at"`
	// RotatedAt is when it became current, and Rotation why; zero for the first.
	RotatedAt time.Time    `json:"rotated_at,omitzero"`
	Rotation  RotationType `json:"rotation,omitempty"`

	// Of imported material.
	Import      ImportState     `json:"import,omitempty"`
	Description string          `json:"description,omitempty"`
	Expiration  ExpirationModel `json:"expiration,omitempty"`
	ValidTo     time.Time       `json:"valid_to,omitzero"`
}

// Rotation is how a key's material is replaced.
type Rotation struct {
	Enabled    bool      `json:"enabled,omitempty"`
	PeriodDays int32     `json:"period_days,omitempty"`
	Next       time.Time `json:"next,omitzero"` // of the automatic ones
	OnDemand   int       `json:"on_demand,omitempty"`
}

// Deletion is the end of a key.
type Deletion struct {
	At         time.Time `json:"at,omitzero"`
	WindowDays int32     `json:"window_days,omitempty"`
	// RotationWas is whether automatic rotation was enabled, to which a cancelled
	// deletion returns. The state always becomes Disabled.
	RotationWas bool `json:"rotation_was,omitempty"`
}

// Regions are where a multi-Region key is.
type Regions struct {
	Type     MultiRegionType `json:"type"`
	Primary  string          `json:"primary"`
	Replicas []string        `json:"replicas,omitempty"` // sorted
}

// Clone is a copy that may be changed. Handles and public keys are shared.
func (k *Key) Clone() *Key {
	c := *k
	c.Tags, c.Materials, c.Approvals = slices.Clone(k.Tags), slices.Clone(k.Materials), slices.Clone(k.Approvals)
	if k.Regions != nil {
		r := *k.Regions
		r.Replicas = slices.Clone(r.Replicas)
		c.Regions = &r
	}
	return &c
}

// Current is the material that new ciphertext and signatures use, nil if none is there.
func (k *Key) Current() *Material {
	for i := range k.Materials {
		if k.Materials[i].State == MaterialCurrent {
			return &k.Materials[i]
		}
	}
	return nil
}

// Material returns the material with the id, nil if the key has none.
func (k *Key) Material(id string) *Material {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			return &k.Materials[i]
		}
	}
	return nil
}

// Replicates reports whether the key is a replica of a multi-Region key.
func (k *Key) Replicates() bool { return k.Regions != nil && k.Regions.Type == Replica }

// Due is when the next thing happens to the key by itself: rotation, expiry of
// imported material, deletion. Zero if nothing will. The store keeps it in a
// column, so that jobs find what is due.
func (k *Key) Due() time.Time {
	var due time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	if k.State == StatePendingDeletion {
		at(k.Deletion.At)
	}
	if k.State == StateEnabled && k.Rotation.Enabled && !k.Replicates() { // a replica gets what its primary has
		at(k.Rotation.Next)
	}
	for i := range k.Materials {
		if m := &k.Materials[i]; m.Expiration == MaterialExpires && m.Import == Imported {
			at(m.ValidTo)
		}
	}
	return due
}

// Alias is another name for a key.
type Alias struct {
	Account   string    `json:"account"`
	Region    string    `json:"region"`
	Name      string    `json:"name"` // with alias/
	KeyID     string    `json:"key"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// ARN is the alias's ARN.
func (a *Alias) ARN() string { return "arn:aws:kms:" + a.Region + ":" + a.Account + ":" + a.Name }

// Grant lets a principal use a key.
type Grant struct {
	Key      KeyRef `json:"key"`
	ID       string `json:"id"` // 64 hex digits
	Name     string `json:"name,omitempty"`
	Grantee  string `json:"grantee"`            // an ARN, or the name of a service
	Retiring string `json:"retiring,omitempty"` // the same
	// GranteeID and RetiringID are the unique ids of the user or role that Grantee
	// and Retiring name, "" if they name none: a grant is not for a namesake who
	// comes after.
	GranteeID   string            `json:"grantee_id,omitempty"`
	RetiringID  string            `json:"retiring_id,omitempty"`
	Issuer      string            `json:"issuer"` // the account that made it, as its root's ARN
	Operations  []GrantOperation  `json:"operations"`
	Constraints *GrantConstraints `json:"constraints,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	TokenKey    []byte            `json:"token_key"` // 32 bytes: makes its tokens, docs/spec/kms-grant-token.md
}

// KeyStore is a custom key store.
type KeyStore struct {
	Account     string          `json:"account"`
	Region      string          `json:"region"`
	ID          string          `json:"id"` // cks- and 17 hex digits
	Version     int64           `json:"-"`
	Name        string          `json:"name"`
	Type        KeyStoreType    `json:"type"`
	ClusterID   string          `json:"cluster,omitempty"`
	TrustAnchor string          `json:"trust_anchor,omitempty"`
	Password    []byte          `json:"password,omitempty"` // sealed by the backend
	State       ConnectionState `json:"state"`
	Since       time.Time       `json:"since,omitzero"` // when it came into the state
	ErrorCode   string          `json:"error_code,omitempty"`
	CreatedAt   time.Time       `json:"created_at"`
}

// Usage is the last successful cryptographic use of a key.
type Usage struct {
	Key       KeyRef    `json:"key"`
	Operation string    `json:"operation"`
	At        time.Time `json:"at"`
	EventID   string    `json:"event"`   // id of the audit entry
	RequestID string    `json:"request"` // of the KMS request
}
