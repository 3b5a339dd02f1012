package kms

import (
	"time"
)

// CreateCustomKeyStoreInput is the request of CreateCustomKeyStore.
type CreateCustomKeyStoreInput struct {
	CustomKeyStoreName              string       `json:"CustomKeyStoreName,omitempty"`
	CloudHSMClusterID               string       `json:"CloudHsmClusterId,omitempty"`
	CustomKeyStoreType              KeyStoreType `json:"CustomKeyStoreType,omitempty"`
	KeyStorePassword                Password     `json:"KeyStorePassword,omitzero"`
	TrustAnchorCertificate          string       `json:"TrustAnchorCertificate,omitempty"`
	XksProxyConnectivity            string       `json:"XksProxyConnectivity,omitempty"`
	XksProxyURIEndpoint             string       `json:"XksProxyUriEndpoint,omitempty"`
	XksProxyURIPath                 string       `json:"XksProxyUriPath,omitempty"`
	XksProxyVpcEndpointServiceName  string       `json:"XksProxyVpcEndpointServiceName,omitempty"`
	XksProxyVpcEndpointServiceOwner string       `json:"XksProxyVpcEndpointServiceOwner,omitempty"`
}

// CreateCustomKeyStoreOutput is the response of CreateCustomKeyStore.
type CreateCustomKeyStoreOutput struct {
	CustomKeyStoreID string `json:"CustomKeyStoreId,omitempty"`
}

// UpdateCustomKeyStoreInput is the request of UpdateCustomKeyStore.
type UpdateCustomKeyStoreInput struct {
	CustomKeyStoreID                string   `json:"CustomKeyStoreId,omitempty"`
	CloudHSMClusterID               string   `json:"CloudHsmClusterId,omitempty"`
	KeyStorePassword                Password `json:"KeyStorePassword,omitzero"`
	NewCustomKeyStoreName           string   `json:"NewCustomKeyStoreName,omitempty"`
	XksProxyConnectivity            string   `json:"XksProxyConnectivity,omitempty"`
	XksProxyURIEndpoint             string   `json:"XksProxyUriEndpoint,omitempty"`
	XksProxyURIPath                 string   `json:"XksProxyUriPath,omitempty"`
	XksProxyVpcEndpointServiceName  string   `json:"XksProxyVpcEndpointServiceName,omitempty"`
	XksProxyVpcEndpointServiceOwner string   `json:"XksProxyVpcEndpointServiceOwner,omitempty"`
}

// DeleteCustomKeyStoreInput is the request of DeleteCustomKeyStore.
type DeleteCustomKeyStoreInput struct {
	CustomKeyStoreID string `json:"CustomKeyStoreId,omitempty"`
}

// DescribeCustomKeyStoresInput is the request of DescribeCustomKeyStores.
type DescribeCustomKeyStoresInput struct {
	CustomKeyStoreID   string `json:"CustomKeyStoreId,omitempty"`
	CustomKeyStoreName string `json:"CustomKeyStoreName,omitempty"`
	Limit              *int32 `json:"Limit,omitzero"`
	Marker             string `json:"Marker,omitempty"`
}

// DescribeCustomKeyStoresOutput is the response of DescribeCustomKeyStores.
type DescribeCustomKeyStoresOutput struct {
	CustomKeyStores []CustomKeyStoresListEntry `json:"CustomKeyStores"`
	NextMarker      string                     `json:"NextMarker,omitempty"`
	Truncated       bool                       `json:"Truncated"`
}

// ConnectCustomKeyStoreInput is the request of ConnectCustomKeyStore.
type ConnectCustomKeyStoreInput struct {
	CustomKeyStoreID string `json:"CustomKeyStoreId,omitempty"`
}

// DisconnectCustomKeyStoreInput is the request of DisconnectCustomKeyStore.
type DisconnectCustomKeyStoreInput struct {
	CustomKeyStoreID string `json:"CustomKeyStoreId,omitempty"`
}

// CustomKeyStoresListEntry is part of responses and requests of the KMS API.
type CustomKeyStoresListEntry struct {
	CloudHSMClusterID      string          `json:"CloudHsmClusterId,omitempty"`
	ConnectionErrorCode    string          `json:"ConnectionErrorCode,omitempty"`
	ConnectionState        ConnectionState `json:"ConnectionState,omitempty"`
	CreationDate           time.Time       `json:"CreationDate,omitzero"`
	CustomKeyStoreID       string          `json:"CustomKeyStoreId,omitempty"`
	CustomKeyStoreName     string          `json:"CustomKeyStoreName,omitempty"`
	CustomKeyStoreType     KeyStoreType    `json:"CustomKeyStoreType,omitempty"`
	TrustAnchorCertificate string          `json:"TrustAnchorCertificate,omitempty"`
}
