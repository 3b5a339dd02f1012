package kms

// GetKeyPolicyInput is the request of GetKeyPolicy.
type GetKeyPolicyInput struct {
	KeyID      string `json:"KeyId,omitempty"`
	PolicyName string `json:"PolicyName,omitempty"`
}

// GetKeyPolicyOutput is the response of GetKeyPolicy.
type GetKeyPolicyOutput struct {
	Policy     string `json:"Policy,omitempty"`
	PolicyName string `json:"PolicyName,omitempty"`
}

// PutKeyPolicyInput is the request of PutKeyPolicy.
type PutKeyPolicyInput struct {
	KeyID                          string `json:"KeyId,omitempty"`
	Policy                         string `json:"Policy,omitempty"`
	BypassPolicyLockoutSafetyCheck bool   `json:"BypassPolicyLockoutSafetyCheck"`
	PolicyName                     string `json:"PolicyName,omitempty"`
}

// ListKeyPoliciesInput is the request of ListKeyPolicies.
type ListKeyPoliciesInput struct {
	KeyID  string `json:"KeyId,omitempty"`
	Limit  *int32 `json:"Limit,omitzero"`
	Marker string `json:"Marker,omitempty"`
}

// ListKeyPoliciesOutput is the response of ListKeyPolicies.
type ListKeyPoliciesOutput struct {
	NextMarker  string   `json:"NextMarker,omitempty"`
	PolicyNames []string `json:"PolicyNames"`
	Truncated   bool     `json:"Truncated"`
}
