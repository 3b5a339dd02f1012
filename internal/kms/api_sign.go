package kms

import (
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// SignInput is the request of Sign.
type SignInput struct {
	KeyID            string                   `json:"KeyId,omitempty"`
	Message          []byte                   `json:"Message,omitempty"`
	SigningAlgorithm keyspec.SigningAlgorithm `json:"SigningAlgorithm,omitempty"`
	DryRun           bool                     `json:"DryRun,omitzero"`
	GrantTokens      []string                 `json:"GrantTokens,omitempty"`
	MessageType      keyspec.MessageType      `json:"MessageType,omitempty"`
}

// SignOutput is the response of Sign.
type SignOutput struct {
	KeyID            string                   `json:"KeyId,omitempty"`
	Signature        []byte                   `json:"Signature,omitempty"`
	SigningAlgorithm keyspec.SigningAlgorithm `json:"SigningAlgorithm,omitempty"`
}

// VerifyInput is the request of Verify.
type VerifyInput struct {
	KeyID            string                   `json:"KeyId,omitempty"`
	Message          []byte                   `json:"Message,omitempty"`
	Signature        []byte                   `json:"Signature,omitempty"`
	SigningAlgorithm keyspec.SigningAlgorithm `json:"SigningAlgorithm,omitempty"`
	DryRun           bool                     `json:"DryRun,omitzero"`
	GrantTokens      []string                 `json:"GrantTokens,omitempty"`
	MessageType      keyspec.MessageType      `json:"MessageType,omitempty"`
}

// VerifyOutput is the response of Verify.
type VerifyOutput struct {
	KeyID            string                   `json:"KeyId,omitempty"`
	SignatureValid   bool                     `json:"SignatureValid"`
	SigningAlgorithm keyspec.SigningAlgorithm `json:"SigningAlgorithm,omitempty"`
}

// GenerateMACInput is the request of GenerateMac.
type GenerateMACInput struct {
	KeyID        string               `json:"KeyId,omitempty"`
	MACAlgorithm keyspec.MACAlgorithm `json:"MacAlgorithm,omitempty"`
	Message      []byte               `json:"Message,omitempty"`
	DryRun       bool                 `json:"DryRun,omitzero"`
	GrantTokens  []string             `json:"GrantTokens,omitempty"`
}

// GenerateMACOutput is the response of GenerateMac.
type GenerateMACOutput struct {
	KeyID        string               `json:"KeyId,omitempty"`
	MAC          []byte               `json:"Mac,omitempty"`
	MACAlgorithm keyspec.MACAlgorithm `json:"MacAlgorithm,omitempty"`
}

// VerifyMACInput is the request of VerifyMac.
type VerifyMACInput struct {
	KeyID        string               `json:"KeyId,omitempty"`
	MAC          []byte               `json:"Mac,omitempty"`
	MACAlgorithm keyspec.MACAlgorithm `json:"MacAlgorithm,omitempty"`
	Message      []byte               `json:"Message,omitempty"`
	DryRun       bool                 `json:"DryRun,omitzero"`
	GrantTokens  []string             `json:"GrantTokens,omitempty"`
}

// VerifyMACOutput is the response of VerifyMac.
type VerifyMACOutput struct {
	KeyID        string               `json:"KeyId,omitempty"`
	MACAlgorithm keyspec.MACAlgorithm `json:"MacAlgorithm,omitempty"`
	MACValid     bool                 `json:"MacValid"`
}

// DeriveSharedSecretInput is the request of DeriveSharedSecret.
type DeriveSharedSecretInput struct {
	KeyID                 string                     `json:"KeyId,omitempty"`
	KeyAgreementAlgorithm keyspec.AgreementAlgorithm `json:"KeyAgreementAlgorithm,omitempty"`
	PublicKey             []byte                     `json:"PublicKey,omitempty"`
	DryRun                bool                       `json:"DryRun,omitzero"`
	GrantTokens           []string                   `json:"GrantTokens,omitempty"`
	Recipient             *RecipientInfo             `json:"Recipient,omitzero"`
}

// DeriveSharedSecretOutput is the response of DeriveSharedSecret.
type DeriveSharedSecretOutput struct {
	CiphertextForRecipient []byte                     `json:"CiphertextForRecipient,omitempty"`
	KeyAgreementAlgorithm  keyspec.AgreementAlgorithm `json:"KeyAgreementAlgorithm,omitempty"`
	KeyID                  string                     `json:"KeyId,omitempty"`
	KeyOrigin              Origin                     `json:"KeyOrigin,omitempty"`
	SharedSecret           secret.Bytes               `json:"SharedSecret,omitzero"`
}

// GetPublicKeyInput is the request of GetPublicKey.
type GetPublicKeyInput struct {
	KeyID       string   `json:"KeyId,omitempty"`
	GrantTokens []string `json:"GrantTokens,omitempty"`
}

// GetPublicKeyOutput is the response of GetPublicKey.
type GetPublicKeyOutput struct {
	CustomerMasterKeySpec  keyspec.Spec                  `json:"CustomerMasterKeySpec,omitempty"`
	EncryptionAlgorithms   []keyspec.EncryptionAlgorithm `json:"EncryptionAlgorithms,omitempty"`
	KeyAgreementAlgorithms []keyspec.AgreementAlgorithm  `json:"KeyAgreementAlgorithms,omitempty"`
	KeyID                  string                        `json:"KeyId,omitempty"`
	KeySpec                keyspec.Spec                  `json:"KeySpec,omitempty"`
	KeyUsage               keyspec.Usage                 `json:"KeyUsage,omitempty"`
	PublicKey              []byte                        `json:"PublicKey,omitempty"`
	SigningAlgorithms      []keyspec.SigningAlgorithm    `json:"SigningAlgorithms,omitempty"`
}
