//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"fmt"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// KeyStores are the clusters that custom key stores can name.
type KeyStores struct {
	clusters map[string]Cluster
	o        Options
}

var _ kms.KeyStores = (*KeyStores)(nil)

// NewKeyStores makes the clusters, by their ids, known. It connects nothing.
func NewKeyStores(clusters map[string]Cluster, o Options) (*KeyStores, error) {
	return &KeyStores{clusters, o}, nil
}

// Connect implements kms.KeyStores: the password of the key store is the PIN of the
// token's user. The Backend is an io.Closer.
func (k *KeyStores) Connect(ctx context.Context, clusterID string, password secret.Bytes) (kms.Backend, error) {
	c, ok := k.clusters[clusterID]
	if !ok {
		return nil, &kms.ConnectError{Code: kms.ConnectClusterNotFound, Err: fmt.Errorf("no such cluster is configured: %s", clusterID)}
	}
	b, err := Open(ctx, c.Token, password, k.o)
	if err != nil {
		return nil, err // not a nil *Backend in an interface
	}
	return b, nil
}

// Clusters implements kms.KeyStores.
func (k *KeyStores) Clusters() map[string]string {
	all := make(map[string]string, len(k.clusters))
	for id, c := range k.clusters {
		all[id] = c.TrustAnchor
	}
	return all
}
