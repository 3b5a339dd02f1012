package kms

import (
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// EncryptInput is the request of Encrypt.
type EncryptInput struct {
	KeyID               string                      `json:"KeyId,omitempty"`
	Plaintext           secret.Bytes                `json:"Plaintext,omitzero"`
	DryRun              bool                        `json:"DryRun,omitzero"`
	EncryptionAlgorithm keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithm,omitempty"`
	EncryptionContext   map[string]string           `json:"EncryptionContext,omitempty"`
	GrantTokens         []string                    `json:"GrantTokens,omitempty"`
}

// EncryptOutput is the response of Encrypt.
type EncryptOutput struct {
	CiphertextBlob      []byte                      `json:"CiphertextBlob,omitempty"`
	EncryptionAlgorithm keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithm,omitempty"`
	KeyID               string                      `json:"KeyId,omitempty"`
}

// DecryptInput is the request of Decrypt.
type DecryptInput struct {
	KeyID               string                      `json:"KeyId,omitempty"`
	CiphertextBlob      []byte                      `json:"CiphertextBlob,omitempty"`
	DryRun              bool                        `json:"DryRun,omitzero"`
	DryRunModifiers     []DryRunModifier            `json:"DryRunModifiers,omitempty"`
	EncryptionAlgorithm keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithm,omitempty"`
	EncryptionContext   map[string]string           `json:"EncryptionContext,omitempty"`
	GrantTokens         []string                    `json:"GrantTokens,omitempty"`
	Recipient           *RecipientInfo              `json:"Recipient,omitzero"`
}

// DecryptOutput is the response of Decrypt.
type DecryptOutput struct {
	CiphertextForRecipient []byte                      `json:"CiphertextForRecipient,omitempty"`
	EncryptionAlgorithm    keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithm,omitempty"`
	KeyID                  string                      `json:"KeyId,omitempty"`
	KeyMaterialID          string                      `json:"KeyMaterialId,omitempty"`
	Plaintext              secret.Bytes                `json:"Plaintext,omitzero"`
}

// ReEncryptInput is the request of ReEncrypt.
type ReEncryptInput struct {
	DestinationKeyID               string                      `json:"DestinationKeyId,omitempty"`
	CiphertextBlob                 []byte                      `json:"CiphertextBlob,omitempty"`
	DestinationEncryptionAlgorithm keyspec.EncryptionAlgorithm `json:"DestinationEncryptionAlgorithm,omitempty"`
	DestinationEncryptionContext   map[string]string           `json:"DestinationEncryptionContext,omitempty"`
	DryRun                         bool                        `json:"DryRun,omitzero"`
	DryRunModifiers                []DryRunModifier            `json:"DryRunModifiers,omitempty"`
	GrantTokens                    []string                    `json:"GrantTokens,omitempty"`
	SourceEncryptionAlgorithm      keyspec.EncryptionAlgorithm `json:"SourceEncryptionAlgorithm,omitempty"`
	SourceEncryptionContext        map[string]string           `json:"SourceEncryptionContext,omitempty"`
	SourceKeyID                    string                      `json:"SourceKeyId,omitempty"`
}

// ReEncryptOutput is the response of ReEncrypt.
type ReEncryptOutput struct {
	CiphertextBlob                 []byte                      `json:"CiphertextBlob,omitempty"`
	DestinationEncryptionAlgorithm keyspec.EncryptionAlgorithm `json:"DestinationEncryptionAlgorithm,omitempty"`
	DestinationKeyMaterialID       string                      `json:"DestinationKeyMaterialId,omitempty"`
	KeyID                          string                      `json:"KeyId,omitempty"`
	SourceEncryptionAlgorithm      keyspec.EncryptionAlgorithm `json:"SourceEncryptionAlgorithm,omitempty"`
	SourceKeyID                    string                      `json:"SourceKeyId,omitempty"`
	SourceKeyMaterialID            string                      `json:"SourceKeyMaterialId,omitempty"`
}

// GenerateRandomInput is the request of GenerateRandom.
type GenerateRandomInput struct {
	CustomKeyStoreID string         `json:"CustomKeyStoreId,omitempty"`
	NumberOfBytes    *int32         `json:"NumberOfBytes,omitzero"`
	Recipient        *RecipientInfo `json:"Recipient,omitzero"`
}

// GenerateRandomOutput is the response of GenerateRandom.
type GenerateRandomOutput struct {
	CiphertextForRecipient []byte       `json:"CiphertextForRecipient,omitempty"`
	Plaintext              secret.Bytes `json:"Plaintext,omitzero"`
}

// RecipientInfo is part of responses and requests of the KMS API.
type RecipientInfo struct {
	AttestationDocument    []byte `json:"AttestationDocument,omitempty"`
	KeyEncryptionAlgorithm string `json:"KeyEncryptionAlgorithm,omitempty"`
}
