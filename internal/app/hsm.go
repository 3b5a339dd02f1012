package app

import (
	"fmt"
	"os"

	"cardea/internal/config"
	"cardea/internal/hsm/pkcs11"
	"cardea/internal/kms"
)

// keyStores are the clusters that custom key stores can name, nil if there are none.
func keyStores(cfg config.Config, o Options) (kms.KeyStores, error) {
	if len(cfg.KeyService.Clusters) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	clusters := map[string]pkcs11.Cluster{}
	for id, c := range cfg.KeyService.Clusters {
		cluster := pkcs11.Cluster{Token: pkcs11.Token{Library: c.Library, Label: c.Token}}
		if c.TrustAnchorFile != "" {
			pem, err := os.ReadFile(c.TrustAnchorFile)
			if err != nil {
				return nil, fmt.Errorf("key_service.clusters.%s.trust_anchor_file: %w", id, err)
			}
			cluster.TrustAnchor = string(pem)
		}
		clusters[id] = cluster
	}
	stores, err := pkcs11.NewKeyStores(clusters, pkcs11.Options{Now: o.Now})
	if err != nil {
		return nil, fmt.Errorf("key_service.clusters: %w", err)
	}
	return stores, nil
}
