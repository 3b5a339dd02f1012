package kms

import (
	"time"

	"cardea/internal/keyspec"
)

// GetParametersForImportInput is the request of GetParametersForImport.
type GetParametersForImportInput struct {
	KeyID             string                    `json:"KeyId,omitempty"`
	WrappingAlgorithm keyspec.WrappingAlgorithm `json:"WrappingAlgorithm,omitempty"`
	WrappingKeySpec   keyspec.Spec              `json:"WrappingKeySpec,omitempty"`
}

// GetParametersForImportOutput is the response of GetParametersForImport.
type GetParametersForImportOutput struct {
	ImportToken       []byte    `json:"ImportToken,omitempty"`
	KeyID             string    `json:"KeyId,omitempty"`
	ParametersValidTo time.Time `json:"ParametersValidTo,omitzero"`
	PublicKey         []byte    `json:"PublicKey,omitempty"`
}

// ImportKeyMaterialInput is the request of ImportKeyMaterial.
type ImportKeyMaterialInput struct {
	KeyID                  string          `json:"KeyId,omitempty"`
	EncryptedKeyMaterial   []byte          `json:"EncryptedKeyMaterial,omitempty"`
	ImportToken            []byte          `json:"ImportToken,omitempty"`
	ExpirationModel        ExpirationModel `json:"ExpirationModel,omitempty"`
	ImportType             ImportType      `json:"ImportType,omitempty"`
	KeyMaterialDescription string          `json:"KeyMaterialDescription,omitempty"`
	KeyMaterialID          string          `json:"KeyMaterialId,omitempty"`
	ValidTo                time.Time       `json:"ValidTo,omitzero"`
}

// ImportKeyMaterialOutput is the response of ImportKeyMaterial.
type ImportKeyMaterialOutput struct {
	KeyID         string `json:"KeyId,omitempty"`
	KeyMaterialID string `json:"KeyMaterialId,omitempty"`
}

// DeleteImportedKeyMaterialInput is the request of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialInput struct {
	KeyID         string `json:"KeyId,omitempty"`
	KeyMaterialID string `json:"KeyMaterialId,omitempty"`
}

// DeleteImportedKeyMaterialOutput is the response of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialOutput struct {
	KeyID         string `json:"KeyId,omitempty"`
	KeyMaterialID string `json:"KeyMaterialId,omitempty"`
}
