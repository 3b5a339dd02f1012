package audit

import "time"

// Call is what an entry says of a request to the key service beyond what every
// entry says: enough to write it as a record of AWS CloudTrail. Strings are free
// unless said otherwise, and what clients chose is cut to fit.
type Call struct {
	Event    string `json:"event"`            // AWS's name of the operation: "GenerateDataKey"; letters only
	Source   string `json:"source"`           // "kms.amazonaws.com", "sts.amazonaws.com", "iam.amazonaws.com"
	Region   string `json:"region"`           // whose endpoint was asked
	Account  string `json:"account"`          // that owns the resource, 12 digits; the caller's if there is none
	ReadOnly bool   `json:"read_only"`        // CloudTrail's readOnly
	Type     string `json:"type"`             // CloudTrail's userIdentity.type: IAMUser, AssumedRole, Root, AWSService, Unknown
	ID       string `json:"id,omitempty"`     // principalId
	ARN      string `json:"arn,omitempty"`    // of the session or identity
	Issuer   string `json:"issuer,omitempty"` // ARN of the role behind a session
	Caller   string `json:"caller,omitempty"` // account of the caller, 12 digits
	Key      string `json:"access_key,omitempty"`
	MFA      bool   `json:"mfa,omitempty"`
	// Issued is when temporary credentials were issued; zero for long-term ones.
	Issued time.Time `json:"issued,omitzero"`
	Agent  string    `json:"agent,omitempty"`
	TLS    string    `json:"tls,omitempty"` // version and cipher suite, "TLSv1.3 TLS_AES_128_GCM_SHA256"; empty without TLS
	Error  string    `json:"error,omitempty"`

	// Request and Response are the parameters that CloudTrail would show, in the
	// order given: never a plaintext, a ciphertext, a policy's text or a token.
	Request  []Param `json:"request,omitempty"`
	Response []Param `json:"response,omitempty"`
	// Context is the encryption context, which is public by contract.
	Context []Param `json:"context,omitempty"`
	// Resources are the ARNs of what was asked for, at most four.
	Resources []string `json:"resources,omitempty"`
}

// Param is a parameter by name.
type Param struct {
	Name  string `json:"n"`
	Value string `json:"v"`
}
