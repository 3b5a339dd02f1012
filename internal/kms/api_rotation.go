package kms

import (
	"time"
)

// EnableKeyRotationInput is the request of EnableKeyRotation.
type EnableKeyRotationInput struct {
	KeyID                string `json:"KeyId,omitempty"`
	RotationPeriodInDays *int32 `json:"RotationPeriodInDays,omitzero"`
}

// DisableKeyRotationInput is the request of DisableKeyRotation.
type DisableKeyRotationInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// GetKeyRotationStatusInput is the request of GetKeyRotationStatus.
type GetKeyRotationStatusInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// GetKeyRotationStatusOutput is the response of GetKeyRotationStatus.
type GetKeyRotationStatusOutput struct {
	KeyID                     string    `json:"KeyId,omitempty"`
	KeyRotationEnabled        bool      `json:"KeyRotationEnabled"`
	NextRotationDate          time.Time `json:"NextRotationDate,omitzero"`
	OnDemandRotationStartDate time.Time `json:"OnDemandRotationStartDate,omitzero"`
	RotationPeriodInDays      *int32    `json:"RotationPeriodInDays,omitzero"`
}

// RotateKeyOnDemandInput is the request of RotateKeyOnDemand.
type RotateKeyOnDemandInput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// RotateKeyOnDemandOutput is the response of RotateKeyOnDemand.
type RotateKeyOnDemandOutput struct {
	KeyID string `json:"KeyId,omitempty"`
}

// ListKeyRotationsInput is the request of ListKeyRotations.
type ListKeyRotationsInput struct {
	KeyID              string             `json:"KeyId,omitempty"`
	IncludeKeyMaterial IncludeKeyMaterial `json:"IncludeKeyMaterial,omitempty"`
	Limit              *int32             `json:"Limit,omitzero"`
	Marker             string             `json:"Marker,omitempty"`
}

// ListKeyRotationsOutput is the response of ListKeyRotations.
type ListKeyRotationsOutput struct {
	NextMarker string               `json:"NextMarker,omitempty"`
	Rotations  []RotationsListEntry `json:"Rotations"`
	Truncated  bool                 `json:"Truncated"`
}

// RotationsListEntry is part of responses and requests of the KMS API.
type RotationsListEntry struct {
	ExpirationModel        ExpirationModel `json:"ExpirationModel,omitempty"`
	ImportState            ImportState     `json:"ImportState,omitempty"`
	KeyID                  string          `json:"KeyId,omitempty"`
	KeyMaterialDescription string          `json:"KeyMaterialDescription,omitempty"`
	KeyMaterialID          string          `json:"KeyMaterialId,omitempty"`
	KeyMaterialState       MaterialState   `json:"KeyMaterialState,omitempty"`
	RotationDate           time.Time       `json:"RotationDate,omitzero"`
	RotationType           RotationType    `json:"RotationType,omitempty"`
	ValidTo                time.Time       `json:"ValidTo,omitzero"`
}
