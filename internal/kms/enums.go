package kms

import "cardea/internal/secret"

// Origin is where key material comes from.
type Origin string

// The origins.
const (
	OriginKMS      Origin = "AWS_KMS"
	OriginExternal Origin = "EXTERNAL"
	OriginCloudHSM Origin = "AWS_CLOUDHSM"       // a custom key store: PKCS #11
	OriginXKS      Origin = "EXTERNAL_KEY_STORE" // refused
)

// KeyState is what can be done with a key now.
type KeyState string

// The key states.
const (
	StateCreating               KeyState = "Creating"
	StateEnabled                KeyState = "Enabled"
	StateDisabled               KeyState = "Disabled"
	StatePendingDeletion        KeyState = "PendingDeletion"
	StatePendingImport          KeyState = "PendingImport"
	StatePendingReplicaDeletion KeyState = "PendingReplicaDeletion"
	StateUnavailable            KeyState = "Unavailable"
	StateUpdating               KeyState = "Updating"
)

// ExpirationModel says whether imported material expires.
type ExpirationModel string

// The expiration models.
const (
	MaterialExpires       ExpirationModel = "KEY_MATERIAL_EXPIRES"
	MaterialDoesNotExpire ExpirationModel = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// MultiRegionType tells a primary key from its replicas.
type MultiRegionType string

// The multi-Region key types.
const (
	Primary MultiRegionType = "PRIMARY"
	Replica MultiRegionType = "REPLICA"
)

// MaterialState is the state of one of a key's materials.
type MaterialState string

// The material states.
const (
	MaterialCurrent         MaterialState = "CURRENT"
	MaterialNonCurrent      MaterialState = "NON_CURRENT"
	MaterialPendingRotation MaterialState = "PENDING_ROTATION"
	MaterialPendingRegions  MaterialState = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
)

// ImportState says whether imported material is there.
type ImportState string

// The import states.
const (
	Imported      ImportState = "IMPORTED"
	PendingImport ImportState = "PENDING_IMPORT"
)

// ImportType is what ImportKeyMaterial brings.
type ImportType string

// The import types.
const (
	NewMaterial      ImportType = "NEW_KEY_MATERIAL"
	ExistingMaterial ImportType = "EXISTING_KEY_MATERIAL"
)

// RotationType is why material became current.
type RotationType string

// The rotation types.
const (
	RotatedAutomatically RotationType = "AUTOMATIC"
	RotatedOnDemand      RotationType = "ON_DEMAND"
)

// IncludeKeyMaterial is what ListKeyRotations lists.
type IncludeKeyMaterial string

// The choices of ListKeyRotations.
const (
	AllMaterial   IncludeKeyMaterial = "ALL_KEY_MATERIAL"
	RotationsOnly IncludeKeyMaterial = "ROTATIONS_ONLY"
)

// DryRunModifier changes what a dry run checks.
type DryRunModifier string

// IgnoreCiphertext makes a dry run check authorization only.
const IgnoreCiphertext DryRunModifier = "IGNORE_CIPHERTEXT"

// DataKeySpec is the spec of a symmetric data key.
type DataKeySpec string

// The data key specs.
const (
	DataKeyAES256 DataKeySpec = "AES_256"
	DataKeyAES128 DataKeySpec = "AES_128"
)

// KeyStoreType is the kind of a custom key store.
type KeyStoreType string

// The custom key store types.
const (
	KeyStoreCloudHSM KeyStoreType = "AWS_CLOUDHSM"
	KeyStoreXKS      KeyStoreType = "EXTERNAL_KEY_STORE"
)

// ConnectionState is that of a custom key store.
type ConnectionState string

// The connection states.
const (
	Connected     ConnectionState = "CONNECTED"
	Connecting    ConnectionState = "CONNECTING"
	ConnectFailed ConnectionState = "FAILED"
	Disconnected  ConnectionState = "DISCONNECTED"
	Disconnecting ConnectionState = "DISCONNECTING"
)

// GrantOperation is what a grant permits.
type GrantOperation string

// GrantOperations are all 17, in the order of AWS's list.
var GrantOperations = []GrantOperation{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify",
	"GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateMac", "VerifyMac", "DeriveSharedSecret",
}

// Password is a secret that is text on the wire, where other secrets are base64.
type Password struct{ secret.Bytes }
