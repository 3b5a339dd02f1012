package app

import (
	"context"
	"strings"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// Tool is what a command of an operator works with beside running nodes: the
// store, under an audit log of its own.
type Tool struct {
	Store      *store.Store
	Gate       *vault.Gate
	Ceremonies *vault.Ceremonies

	signer *audit.Signer
}

// OpenTool opens the store under the log of the command line, <node>-cli, which
// has a signing key of its own beside the node's.
func OpenTool(ctx context.Context, cfg config.Config, o Options) (*Tool, error) {
	cfg.Node.Name += "-cli"
	cfg.Audit.SigningKeyFile = strings.TrimSuffix(cfg.Audit.SigningKeyFile, ".key") + "-cli.key" // a file also if a KMS signs the node's log
	signer, err := LoadOrMakeSigningKey(cfg, o.Logger)
	if err != nil {
		return nil, err
	}
	s, err := OpenStore(ctx, cfg, StoreOptions{Logger: o.Logger, Now: o.Now, Signer: signer})
	if err != nil {
		signer.Destroy()
		return nil, err
	}
	var tenants []vault.Tenant
	for name := range cfg.Tenants {
		tenants = append(tenants, vault.Tenant{Name: name})
	}
	g := &vault.Gate{Node: cfg.Node.Name, Log: s, Tenants: vault.NewTenants(tenants...), Now: o.Now, Logger: o.Logger}
	return &Tool{Store: s, Gate: g, Ceremonies: vault.NewCeremonies(g, s), signer: signer}, nil
}

// Close closes the store, whose last act is a checkpoint.
func (t *Tool) Close() error {
	defer t.signer.Destroy()
	return t.Store.Close()
}
