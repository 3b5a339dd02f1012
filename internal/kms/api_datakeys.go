package kms

import (
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// GenerateDataKeyInput is the request of GenerateDataKey.
type GenerateDataKeyInput struct {
	KeyID             string            `json:"KeyId,omitempty"`
	DryRun            bool              `json:"DryRun,omitzero"`
	EncryptionContext map[string]string `json:"EncryptionContext,omitempty"`
	GrantTokens       []string          `json:"GrantTokens,omitempty"`
	KeySpec           DataKeySpec       `json:"KeySpec,omitempty"`
	NumberOfBytes     *int32            `json:"NumberOfBytes,omitzero"`
	Recipient         *RecipientInfo    `json:"Recipient,omitzero"`
}

// GenerateDataKeyOutput is the response of GenerateDataKey.
type GenerateDataKeyOutput struct {
	CiphertextBlob         []byte       `json:"CiphertextBlob,omitempty"`
	CiphertextForRecipient []byte       `json:"CiphertextForRecipient,omitempty"`
	KeyID                  string       `json:"KeyId,omitempty"`
	KeyMaterialID          string       `json:"KeyMaterialId,omitempty"`
	Plaintext              secret.Bytes `json:"Plaintext,omitzero"`
}

// GenerateDataKeyWithoutPlaintextInput is the request of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextInput struct {
	KeyID             string            `json:"KeyId,omitempty"`
	DryRun            bool              `json:"DryRun,omitzero"`
	EncryptionContext map[string]string `json:"EncryptionContext,omitempty"`
	GrantTokens       []string          `json:"GrantTokens,omitempty"`
	KeySpec           DataKeySpec       `json:"KeySpec,omitempty"`
	NumberOfBytes     *int32            `json:"NumberOfBytes,omitzero"`
}

// GenerateDataKeyWithoutPlaintextOutput is the response of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextOutput struct {
	CiphertextBlob []byte `json:"CiphertextBlob,omitempty"`
	KeyID          string `json:"KeyId,omitempty"`
	KeyMaterialID  string `json:"KeyMaterialId,omitempty"`
}

// GenerateDataKeyPairInput is the request of GenerateDataKeyPair.
type GenerateDataKeyPairInput struct {
	KeyID             string            `json:"KeyId,omitempty"`
	KeyPairSpec       keyspec.Spec      `json:"KeyPairSpec,omitempty"`
	DryRun            bool              `json:"DryRun,omitzero"`
	EncryptionContext map[string]string `json:"EncryptionContext,omitempty"`
	GrantTokens       []string          `json:"GrantTokens,omitempty"`
	Recipient         *RecipientInfo    `json:"Recipient,omitzero"`
}

// GenerateDataKeyPairOutput is the response of GenerateDataKeyPair.
type GenerateDataKeyPairOutput struct {
	CiphertextForRecipient   []byte       `json:"CiphertextForRecipient,omitempty"`
	KeyID                    string       `json:"KeyId,omitempty"`
	KeyMaterialID            string       `json:"KeyMaterialId,omitempty"`
	KeyPairSpec              keyspec.Spec `json:"KeyPairSpec,omitempty"`
	PrivateKeyCiphertextBlob []byte       `json:"PrivateKeyCiphertextBlob,omitempty"`
	PrivateKeyPlaintext      secret.Bytes `json:"PrivateKeyPlaintext,omitzero"`
	PublicKey                []byte       `json:"PublicKey,omitempty"`
}

// GenerateDataKeyPairWithoutPlaintextInput is the request of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextInput struct {
	KeyID             string            `json:"KeyId,omitempty"`
	KeyPairSpec       keyspec.Spec      `json:"KeyPairSpec,omitempty"`
	DryRun            bool              `json:"DryRun,omitzero"`
	EncryptionContext map[string]string `json:"EncryptionContext,omitempty"`
	GrantTokens       []string          `json:"GrantTokens,omitempty"`
}

// GenerateDataKeyPairWithoutPlaintextOutput is the response of GenerateDataKeyPairWithoutPlaintext.
type GenerateDataKeyPairWithoutPlaintextOutput struct {
	KeyID                    string       `json:"KeyId,omitempty"`
	KeyMaterialID            string       `json:"KeyMaterialId,omitempty"`
	KeyPairSpec              keyspec.Spec `json:"KeyPairSpec,omitempty"`
	PrivateKeyCiphertextBlob []byte       `json:"PrivateKeyCiphertextBlob,omitempty"`
	PublicKey                []byte       `json:"PublicKey,omitempty"`
}
