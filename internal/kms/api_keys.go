package kms

import (
	"time"

	"cardea/internal/keyspec"
)

// CreateKeyInput is the request of CreateKey.
type CreateKeyInput struct {
	BypassPolicyLockoutSafetyCheck bool          `json:"BypassPolicyLockoutSafetyCheck"`
	CustomKeyStoreID               string        `json:"CustomKeyStoreId,omitempty"`
	CustomerMasterKeySpec          keyspec.Spec  `json:"CustomerMasterKeySpec,omitempty"`
	Description                    string        `json:"Description,omitempty"`
	KeySpec                        keyspec.Spec  `json:"KeySpec,omitempty"`
	KeyUsage                       keyspec.Usage `json:"KeyUsage,omitempty"`
	MultiRegion                    bool          `json:"MultiRegion"`
	Origin                         Origin        `json:"Origin,omitempty"`
	Policy                         string        `json:"Policy,omitempty"`
	Tags                           []Tag         `json:"Tags,omitempty"`
	XksKeyID                       string        `json:"XksKeyId,omitempty"`
}

// CreateKeyOutput is the response of CreateKey.
type CreateKeyOutput struct {
	KeyMetadata *KeyMetadata `json:"KeyMetadata,omitzero"`
}

// DescribeKeyInput is the request of DescribeKey.
type DescribeKeyInput struct {
	KeyID       string   `json:"KeyId,omitempty"`
	GrantTokens []string `json:"GrantTokens,omitempty"`
}

// DescribeKeyOutput is the response of DescribeKey.
type DescribeKeyOutput struct {
	KeyMetadata *KeyMetadata `json:"KeyMetadata,omitzero"`
}

// ListKeysInput is the request of ListKeys.
type ListKeysInput struct {
	Limit  *int32 `json:"Limit,omitzero"`
	Marker string `json:"Marker,omitempty"`
}

// ListKeysOutput is the response of ListKeys.
type ListKeysOutput struct {
	Keys       []KeyListEntry `json:"Keys"`
	NextMarker string         `json:"NextMarker,omitempty"`
	Truncated  bool           `json:"Truncated"`
}

// EnableKeyInput is the request of EnableKey.
type EnableKeyInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// DisableKeyInput is the request of DisableKey.
type DisableKeyInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// ScheduleKeyDeletionInput is the request of ScheduleKeyDeletion.
type ScheduleKeyDeletionInput struct {
	KeyID               string `json:"KeyId,omitempty"`
	PendingWindowInDays *int32 `json:"PendingWindowInDays,omitzero"`
}

// ScheduleKeyDeletionOutput is the response of ScheduleKeyDeletion.
type ScheduleKeyDeletionOutput struct {
	DeletionDate        time.Time `json:"DeletionDate,omitzero"`
	KeyID               string    `json:"KeyId,omitempty"`
	KeyState            KeyState  `json:"KeyState,omitempty"`
	PendingWindowInDays *int32    `json:"PendingWindowInDays,omitzero"`
}

// CancelKeyDeletionInput is the request of CancelKeyDeletion.
type CancelKeyDeletionInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// CancelKeyDeletionOutput is the response of CancelKeyDeletion.
type CancelKeyDeletionOutput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// UpdateKeyDescriptionInput is the request of UpdateKeyDescription.
type UpdateKeyDescriptionInput struct {
	KeyID       string `json:"KeyId,omitempty"`
	Description string `json:"Description,omitempty"`
}

// GetKeyLastUsageInput is the request of GetKeyLastUsage.
type GetKeyLastUsageInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// GetKeyLastUsageOutput is the response of GetKeyLastUsage.
type GetKeyLastUsageOutput struct {
	KeyCreationDate   time.Time         `json:"KeyCreationDate,omitzero"`
	KeyID             string            `json:"KeyId,omitempty"`
	KeyLastUsage      *KeyLastUsageData `json:"KeyLastUsage,omitzero"`
	TrackingStartDate time.Time         `json:"TrackingStartDate,omitzero"`
}

// KeyMetadata is part of responses and requests of the KMS API.
type KeyMetadata struct {
	KeyID                       string                        `json:"KeyId,omitempty"`
	AccountID                   string                        `json:"AWSAccountId,omitempty"`
	ARN                         string                        `json:"Arn,omitempty"`
	CloudHSMClusterID           string                        `json:"CloudHsmClusterId,omitempty"`
	CreationDate                time.Time                     `json:"CreationDate,omitzero"`
	CurrentKeyMaterialID        string                        `json:"CurrentKeyMaterialId,omitempty"`
	CustomKeyStoreID            string                        `json:"CustomKeyStoreId,omitempty"`
	CustomerMasterKeySpec       keyspec.Spec                  `json:"CustomerMasterKeySpec,omitempty"`
	DeletionDate                time.Time                     `json:"DeletionDate,omitzero"`
	Description                 string                        `json:"Description"`
	Enabled                     bool                          `json:"Enabled"`
	EncryptionAlgorithms        []keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithms,omitempty"`
	ExpirationModel             ExpirationModel               `json:"ExpirationModel,omitempty"`
	KeyAgreementAlgorithms      []keyspec.AgreementAlgorithm  `json:"KeyAgreementAlgorithms,omitempty"`
	KeyManager                  string                        `json:"KeyManager,omitempty"`
	KeySpec                     keyspec.Spec                  `json:"KeySpec,omitempty"`
	KeyState                    KeyState                      `json:"KeyState,omitempty"`
	KeyUsage                    keyspec.Usage                 `json:"KeyUsage,omitempty"`
	MACAlgorithms               []keyspec.MACAlgorithm        `json:"MacAlgorithms,omitempty"`
	MultiRegion                 bool                          `json:"MultiRegion"`
	MultiRegionConfiguration    *MultiRegionConfiguration     `json:"MultiRegionConfiguration,omitzero"`
	Origin                      Origin                        `json:"Origin,omitempty"`
	PendingDeletionWindowInDays *int32                        `json:"PendingDeletionWindowInDays,omitzero"`
	SigningAlgorithms           []keyspec.SigningAlgorithm    `json:"SigningAlgorithms,omitempty"`
	ValidTo                     time.Time                     `json:"ValidTo,omitzero"`
}

// MultiRegionConfiguration is part of responses and requests of the KMS API.
type MultiRegionConfiguration struct {
	MultiRegionKeyType MultiRegionType  `json:"MultiRegionKeyType,omitempty"`
	PrimaryKey         *MultiRegionKey  `json:"PrimaryKey,omitzero"`
	ReplicaKeys        []MultiRegionKey `json:"ReplicaKeys,omitempty"`
}

// MultiRegionKey is part of responses and requests of the KMS API.
type MultiRegionKey struct {
	ARN    string `json:"Arn,omitempty"`
	Region string `json:"Region,omitempty"`
}

// KeyListEntry is part of responses and requests of the KMS API.
type KeyListEntry struct {
	KeyARN string `json:"KeyArn,omitempty"`
	KeyID  string `json:"KeyId,omitempty"`
}

// KeyLastUsageData is part of responses and requests of the KMS API.
type KeyLastUsageData struct {
	CloudTrailEventID string    `json:"CloudTrailEventId,omitempty"`
	KMSRequestID      string    `json:"KmsRequestId,omitempty"`
	Operation         string    `json:"Operation,omitempty"`
	Timestamp         time.Time `json:"Timestamp,omitzero"`
}
