package kms

// ReplicateKeyInput is the request of ReplicateKey.
type ReplicateKeyInput struct {
	KeyID                          string `json:"KeyId,omitempty"`
	ReplicaRegion                  string `json:"ReplicaRegion,omitempty"`
	BypassPolicyLockoutSafetyCheck bool   `json:"BypassPolicyLockoutSafetyCheck"`
	Description                    string `json:"Description,omitempty"`
	Policy                         string `json:"Policy,omitempty"`
	Tags                           []Tag  `json:"Tags,omitempty"`
}

// ReplicateKeyOutput is the response of ReplicateKey.
type ReplicateKeyOutput struct {
	ReplicaKeyMetadata *KeyMetadata `json:"ReplicaKeyMetadata,omitzero"`
	ReplicaPolicy      string       `json:"ReplicaPolicy,omitempty"`
	ReplicaTags        []Tag        `json:"ReplicaTags,omitempty"`
}

// UpdatePrimaryRegionInput is the request of UpdatePrimaryRegion.
type UpdatePrimaryRegionInput struct {
	KeyID         string `json:"KeyId,omitempty"`
	PrimaryRegion string `json:"PrimaryRegion,omitempty"`
}
