package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// The files with what makes dev mode unseal itself and lets the AWS command line in.
const (
	devSharesFile      = "INSECURE-dev-shares.txt"
	devKeySharesFile   = "INSECURE-dev-key-service-shares.txt"
	devCredentialsFile = "INSECURE-dev-credentials"
	devVaultAccessFile = "INSECURE-dev-vault-credentials"
)

// devVaultKeyFile names the KMS key of the vault, which is no secret.
const devVaultKeyFile = "dev-vault-kms-key"

// devAccount is the account of dev and demo.
const devAccount = "111122223333"

type devOptions struct {
	DataDir, Listen, Ops, Level string
	Keys, Region                string    // address of the key service; its Region
	Mode                        string    // of the tenant; "" as its cards are
	Log                         io.Writer // standard error if nil
}

// devApp is a vault and a key service, whose one tenant can be served.
type devApp struct {
	*app.App
	mode   string
	sealed bool // the tenant has a local master key, under which some cards may be
}

// devConfig is the configuration of dev and demo, which has no file.
func devConfig(o devOptions) (config.Config, error) {
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir = "dev", o.DataDir
	cfg.Vault.Listen, cfg.Ops.Listen = o.Listen, o.Ops
	cfg.KeyService.Listen = o.Keys
	if o.Region != "" {
		cfg.KeyService.Regions = []string{o.Region}
	}
	cfg.Log.Level, cfg.Log.Format = o.Level, "text"
	cfg.Tenants = map[string]config.Tenant{devTenant: config.DefaultTenant()}
	cfg.Derive("dev")
	return cfg, cfg.Validate()
}

// startDev makes what is missing and unseals what is sealed, in the order in which one
// needs the other: the key service, then the vault's key in it, then the vault's
// tenant. Nothing is answered before Run, so nobody sees it half done.
func startDev(ctx context.Context, p *Process, o devOptions) (*devApp, error) {
	cfg, err := devConfig(o)
	if err != nil {
		return nil, err
	}
	arn, err := readVaultKey(o.DataDir)
	if err != nil {
		return nil, err
	}
	if r := regionOf(arn); r != "" && !slices.Contains(cfg.KeyService.Regions, r) {
		cfg.KeyService.Regions = append(cfg.KeyService.Regions, r) // the vault's key stays where it is
	}
	if o.Log == nil {
		o.Log = p.Stderr
	}
	log, err := logger(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	cfg.Tenants = nil
	a, err := app.New(ctx, cfg, app.Options{
		Logger: log, Now: p.Now, MakesCustodians: true, KMSCredentialsFile: filepath.Join(o.DataDir, devVaultAccessFile),
	})
	if err != nil {
		return nil, err
	}
	d := &devApp{App: a}
	if err := d.prepare(ctx, cfg, o, arn, log); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return d, nil
}

// prepare unseals the key service, and makes the tenant be served.
func (d *devApp) prepare(ctx context.Context, cfg config.Config, o devOptions, arn string, log *slog.Logger) (err error) {
	if err := unsealDev(ctx, d.Keys().Node, config.KeyServiceTenant, filepath.Join(o.DataDir, devKeySharesFile), log); err != nil {
		return err
	}
	if err := makeDevCredentials(ctx, d.Keys(), filepath.Join(o.DataDir, devCredentialsFile), cfg.KeyService.Regions[0]); err != nil {
		return err
	}
	if d.sealed, err = d.Vault().HasMasterKey(ctx, devTenant); err != nil {
		return err
	}
	t := config.DefaultTenant()
	switch t.Mode = o.Mode; {
	case o.Mode != "":
	case d.sealed && arn == "":
		t.Mode = config.ModeLocal // of a folder from before there was the other
	default:
		t.Mode = config.ModeKMSEnvelope
	}
	if d.mode = t.Mode; d.mode == config.ModeKMSEnvelope || arn != "" {
		// Also in mode local, if some cards are under the KMS key.
		if arn, err = makeVaultAccess(ctx, d.Keys(), o.DataDir, arn, cfg.KeyService.Regions[0]); err != nil {
			return fmt.Errorf("make the vault's key in the key service: %w", err)
		}
		t.KMS.KeyID, t.KMS.Region, t.KMS.Endpoint, t.KMS.Profile = arn, regionOf(arn), d.Keys().URL(), devVaultUser
	}
	cfg.Tenants = map[string]config.Tenant{devTenant: t}
	if err := d.Reload(ctx, cfg); err != nil || d.mode != config.ModeLocal && !d.sealed {
		return err
	}
	d.sealed = true
	return unsealDev(ctx, d.Vault(), devTenant, filepath.Join(o.DataDir, devSharesFile), log)
}

// unsealDev does by itself what takes custodians: it makes them if there are none,
// and unlocks the tenant with the shares that it kept.
func unsealDev(ctx context.Context, n *app.Node, tenant, path string, log *slog.Logger) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if text, err = makeDevShares(ctx, n, tenant, path); err != nil {
			return fmt.Errorf("make dev custodians: %w", err)
		}
	} else if err != nil {
		return err
	}
	defer secret.Wipe(text)
	for i, line := range bytes.Fields(text) {
		part, err := custodian.ParseShare(secret.Copy(line))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer part.Destroy()
		who := iam.Principal{Type: iam.TypeCustodian, Name: fmt.Sprintf("dev-%d", i+1), Tenant: tenant, Auth: "internal", Actions: []string{"custodian:*"}}
		if err := n.Service().SubmitPart(ctx, who, tenant, part); err != nil {
			return err
		}
		if i == 1 {
			log.WarnContext(ctx, "dev mode unseals itself with the shares it kept", slog.String("file", path))
			return n.Service().Unlock(ctx, who, tenant)
		}
	}
	return fmt.Errorf("%s: has fewer than two shares", path)
}

func makeDevShares(ctx context.Context, n *app.Node, tenant, path string) ([]byte, error) {
	who := iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"custodian:*"}}
	handouts, err := n.Ceremonies().Init(ctx, who, tenant, vault.Terms{Form: custodian.FormShares, Threshold: 2, Custodians: []string{"dev-1", "dev-2", "dev-3"}})
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, h := range handouts {
		t := h.Part.Text()
		text = append(append(text, t.Expose()...), '\n')
		t.Destroy()
		h.Destroy()
	}
	if err := n.TakeUpSeals(ctx); err != nil {
		return nil, err
	}
	return text, os.WriteFile(path, text, 0o600)
}
