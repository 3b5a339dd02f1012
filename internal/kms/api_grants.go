package kms

import (
	"time"
)

// CreateGrantInput is the request of CreateGrant.
type CreateGrantInput struct {
	KeyID                    string            `json:"KeyId,omitempty"`
	Operations               []GrantOperation  `json:"Operations,omitempty"`
	Constraints              *GrantConstraints `json:"Constraints,omitzero"`
	DryRun                   bool              `json:"DryRun,omitzero"`
	GrantTokens              []string          `json:"GrantTokens,omitempty"`
	GranteePrincipal         string            `json:"GranteePrincipal,omitempty"`
	GranteeServicePrincipal  string            `json:"GranteeServicePrincipal,omitempty"`
	Name                     string            `json:"Name,omitempty"`
	RetiringPrincipal        string            `json:"RetiringPrincipal,omitempty"`
	RetiringServicePrincipal string            `json:"RetiringServicePrincipal,omitempty"`
}

// CreateGrantOutput is the response of CreateGrant.
type CreateGrantOutput struct {
	GrantID    string `json:"GrantId,omitempty"`
	GrantToken string `json:"GrantToken,omitempty"`
}

// ListGrantsInput is the request of ListGrants.
type ListGrantsInput struct {
	KeyID                   string `json:"KeyId,omitempty"`
	GrantID                 string `json:"GrantId,omitempty"`
	GranteePrincipal        string `json:"GranteePrincipal,omitempty"`
	GranteeServicePrincipal string `json:"GranteeServicePrincipal,omitempty"`
	Limit                   *int32 `json:"Limit,omitzero"`
	Marker                  string `json:"Marker,omitempty"`
}

// ListGrantsOutput is the response of ListGrants.
type ListGrantsOutput struct {
	Grants     []GrantListEntry `json:"Grants"`
	NextMarker string           `json:"NextMarker,omitempty"`
	Truncated  bool             `json:"Truncated"`
}

// ListRetirableGrantsInput is the request of ListRetirableGrants.
type ListRetirableGrantsInput struct {
	Limit                    *int32 `json:"Limit,omitzero"`
	Marker                   string `json:"Marker,omitempty"`
	RetiringPrincipal        string `json:"RetiringPrincipal,omitempty"`
	RetiringServicePrincipal string `json:"RetiringServicePrincipal,omitempty"`
}

// ListRetirableGrantsOutput is the response of ListRetirableGrants.
type ListRetirableGrantsOutput struct {
	Grants     []GrantListEntry `json:"Grants"`
	NextMarker string           `json:"NextMarker,omitempty"`
	Truncated  bool             `json:"Truncated"`
}

// RetireGrantInput is the request of RetireGrant.
type RetireGrantInput struct {
	KeyID      string `json:"KeyId,omitempty"`
	DryRun     bool   `json:"DryRun,omitzero"`
	GrantID    string `json:"GrantId,omitempty"`
	GrantToken string `json:"GrantToken,omitempty"`
}

// RevokeGrantInput is the request of RevokeGrant.
type RevokeGrantInput struct {
	KeyID   string `json:"KeyId,omitempty"`
	GrantID string `json:"GrantId,omitempty"`
	DryRun  bool   `json:"DryRun,omitzero"`
}

// GrantConstraints is part of responses and requests of the KMS API.
type GrantConstraints struct {
	EncryptionContextEquals map[string]string `json:"EncryptionContextEquals,omitempty"`
	EncryptionContextSubset map[string]string `json:"EncryptionContextSubset,omitempty"`
	SourceARN               string            `json:"SourceArn,omitempty"`
}

// GrantListEntry is part of responses and requests of the KMS API.
type GrantListEntry struct {
	Constraints              *GrantConstraints `json:"Constraints,omitzero"`
	CreationDate             time.Time         `json:"CreationDate,omitzero"`
	GrantID                  string            `json:"GrantId,omitempty"`
	GranteePrincipal         string            `json:"GranteePrincipal,omitempty"`
	GranteeServicePrincipal  string            `json:"GranteeServicePrincipal,omitempty"`
	IssuingAccount           string            `json:"IssuingAccount,omitempty"`
	KeyID                    string            `json:"KeyId,omitempty"`
	Name                     string            `json:"Name,omitempty"`
	Operations               []GrantOperation  `json:"Operations,omitempty"`
	RetiringPrincipal        string            `json:"RetiringPrincipal,omitempty"`
	RetiringServicePrincipal string            `json:"RetiringServicePrincipal,omitempty"`
}
