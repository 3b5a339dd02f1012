package kms

// TagResourceInput is the request of TagResource.
type TagResourceInput struct {
	KeyID string `json:"KeyId,omitempty"`
	Tags  []Tag  `json:"Tags,omitempty"`
}

// UntagResourceInput is the request of UntagResource.
type UntagResourceInput struct {
	KeyID   string   `json:"KeyId,omitempty"`
	TagKeys []string `json:"TagKeys,omitempty"`
}

// ListResourceTagsInput is the request of ListResourceTags.
type ListResourceTagsInput struct {
	KeyID  string `json:"KeyId,omitempty"`
	Limit  *int32 `json:"Limit,omitzero"`
	Marker string `json:"Marker,omitempty"`
}

// ListResourceTagsOutput is the response of ListResourceTags.
type ListResourceTagsOutput struct {
	NextMarker string `json:"NextMarker,omitempty"`
	Tags       []Tag  `json:"Tags"`
	Truncated  bool   `json:"Truncated"`
}

// Tag is part of responses and requests of the KMS API.
type Tag struct {
	TagKey   string `json:"TagKey,omitempty"`
	TagValue string `json:"TagValue"`
}
