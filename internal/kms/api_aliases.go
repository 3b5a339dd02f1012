package kms

import (
	"time"
)

// CreateAliasInput is the request of CreateAlias.
type CreateAliasInput struct {
	AliasName   string `json:"AliasName,omitempty"`
	TargetKeyID string `json:"TargetKeyId,omitempty"`
}

// UpdateAliasInput is the request of UpdateAlias.
type UpdateAliasInput struct {
	AliasName   string `json:"AliasName,omitempty"`
	TargetKeyID string `json:"TargetKeyId,omitempty"`
}

// DeleteAliasInput is the request of DeleteAlias.
type DeleteAliasInput struct {
	AliasName string `json:"AliasName,omitempty"`
}

// ListAliasesInput is the request of ListAliases.
type ListAliasesInput struct {
	KeyID  string `json:"KeyId,omitempty"`
	Limit  *int32 `json:"Limit,omitzero"`
	Marker string `json:"Marker,omitempty"`
}

// ListAliasesOutput is the response of ListAliases.
type ListAliasesOutput struct {
	Aliases    []AliasListEntry `json:"Aliases"`
	NextMarker string           `json:"NextMarker,omitempty"`
	Truncated  bool             `json:"Truncated"`
}

// AliasListEntry is part of responses and requests of the KMS API.
type AliasListEntry struct {
	AliasARN        string    `json:"AliasArn,omitempty"`
	AliasName       string    `json:"AliasName,omitempty"`
	CreationDate    time.Time `json:"CreationDate,omitzero"`
	LastUpdatedDate time.Time `json:"LastUpdatedDate,omitzero"`
	TargetKeyID     string    `json:"TargetKeyId,omitempty"`
}
