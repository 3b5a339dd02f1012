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
	"strings"
	"syscall"
	"unicode"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/secret"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// devTenant is the one tenant of dev and demo.
const devTenant = "dev"

type devCommand struct {
	DataDir string `default:"./cardea-data" type:"path" placeholder:"DIR" help:"Where the data is kept (default ./cardea-data)."`
	Listen  string `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of the vault (default 127.0.0.1:8080); port 0 takes a free one."`
	Keys    string `default:"127.0.0.1:4599" placeholder:"ADDR" help:"Address of the key service, which speaks the API of AWS KMS (default 127.0.0.1:4599); port 0 takes a free one."`
	Region  string `default:"us-east-1" placeholder:"REGION" help:"Region of the key service (default us-east-1)."`
	Ops     string `default:"127.0.0.1:9464" placeholder:"ADDR" help:"Address of metrics and health (default 127.0.0.1:9464); port 0 takes a free one."`
	Verbose bool   `short:"v" help:"Log every request."`
}

// Help implements kong.HelpProvider.
func (devCommand) Help() string {
	return "Examples:\n  cardea dev\n  cardea dev --listen 127.0.0.1:0 --keys 127.0.0.1:0 --data-dir /tmp/try"
}

func (c devCommand) Run(ctx context.Context, p *Process) error {
	level := "warn"
	if c.Verbose {
		level = "debug"
	}
	d, err := startDev(ctx, p, devOptions{DataDir: c.DataDir, Listen: c.Listen, Keys: c.Keys, Region: c.Region, Ops: c.Ops, Level: level})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(err, "another program listens there; choose another address by --listen, --keys or --ops, port 0 takes a free one")
	case errors.Is(err, store.ErrLogTaken):
		return hinted(err, "another 'cardea dev' uses %s; stop it, or choose another folder by --data-dir", c.DataDir)
	case err != nil:
		return explained(err)
	}
	c.greet(p, d)
	err = d.Run(ctx)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (c devCommand) greet(p *Process, d *devApp) {
	url, keys, self, dir := d.Vault().URL(), d.Keys().URL(), invocation(p), quoted(c.DataDir)
	curl := func(path, body string) string {
		return fmt.Sprintf("curl -s %s%s -H 'content-type: application/json' -H 'x-tenant-id: %s' -d '%s'", url, path, devTenant, body)
	}
	aws := "aws --endpoint-url " + keys + " kms"
	fmt.Fprintf(p.Stdout, `
*** DEV MODE: this vault and its key service have unsealed themselves with shares that are in
*** %s
*** and speak plain HTTP to everyone on this machine. Never put a real card into it.

vault        %s
key service  %s   the API of AWS KMS
metrics      %s/metrics   readiness %s/readyz

Store a card, store it again, read it back:

  %s; echo

  %s | grep -o 'duplicated'

  REF=$(%s | sed 's/.*"card_reference":"\([^"]*\)".*/\1/')
  %s; echo

Make a key and use it, with AWS's command line or any AWS SDK:

  export AWS_SHARED_CREDENTIALS_FILE=%s AWS_DEFAULT_REGION=%s
  KEY=$(%s create-key --description 'KEK of the dev vault' --query KeyMetadata.Arn --output text)
  %s generate-data-key --key-id "$KEY" --key-spec AES_256 --encryption-context tenant=dev

See who did what, and that nobody changed the logs:

  %s audit show --data-dir %s
  %s audit show --data-dir %s --key-service
  %s audit verify --data-dir %s
  %s audit verify --data-dir %s --key-service

Stop with Ctrl-C.
`, c.DataDir, url, keys, d.OpsURL(), d.OpsURL(),
		curl("/cards/add", devCard), curl("/cards/add", devCard), curl("/cards/add", devCard),
		curl("/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"alice","card_reference":"'$REF'"}`),
		quoted(filepath.Join(c.DataDir, devCredentialsFile)), quoted(c.Region), aws, aws,
		self, dir, self, dir, self, dir, self, dir)
}

// invocation is how a line to paste calls this program.
func invocation(p *Process) string {
	path, err := os.Executable()
	if err != nil {
		return "cardea"
	}
	for _, kv := range p.Env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if found, err := filepath.EvalSymlinks(filepath.Join(dir, "cardea")); err == nil && found == path {
				return "cardea"
			}
		}
	}
	if strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/cardea" // the program itself is gone when this one ends
	}
	return quoted(path)
}

// quoted is a text as a shell takes it for one word.
func quoted(s string) string {
	plain := func(r rune) bool {
		return !strings.ContainsRune("/._-+:,@", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}
	if s != "" && !strings.ContainsFunc(s, plain) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// devCard is a network's published test number.
const devCard = `{"merchant_id":"shop","merchant_customer_id":"alice","card":{"card_number":"4242424242424242","name_on_card":"Alice Example","card_exp_month":"12","card_exp_year":"2031"}}`

// The files with what makes dev mode unseal itself and lets the AWS command line in.
const (
	devSharesFile      = "INSECURE-dev-shares.txt"
	devKeySharesFile   = "INSECURE-dev-key-service-shares.txt"
	devCredentialsFile = "INSECURE-dev-credentials"
)

// devAccount is the account of dev and demo.
const devAccount = "111122223333"

type devOptions struct {
	DataDir, Listen, Ops, Level string
	Keys, Region                string    // address of the key service, "" for none; its Region
	Log                         io.Writer // standard error if nil
}

// devApp is a node whose one tenant is unlocked.
type devApp struct{ *app.App }

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

func startDev(ctx context.Context, p *Process, o devOptions) (*devApp, error) {
	cfg, err := devConfig(o)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = p.Stderr
	}
	log, err := logger(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	a, err := app.New(ctx, cfg, app.Options{Logger: log, Now: p.Now, MakesCustodians: true})
	if err != nil {
		return nil, err
	}
	err = unsealDev(ctx, a.Vault(), devTenant, filepath.Join(o.DataDir, devSharesFile), log)
	if k := a.Keys(); err == nil && k != nil {
		if err = unsealDev(ctx, k.Node, config.KeyServiceTenant, filepath.Join(o.DataDir, devKeySharesFile), log); err == nil {
			err = makeDevCredentials(ctx, k, filepath.Join(o.DataDir, devCredentialsFile), cfg.KeyService.Regions[0])
		}
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &devApp{a}, nil
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

// makeDevCredentials makes an account and an administrator, unless there are some,
// and writes his access key as AWS's tools read it.
func makeDevCredentials(ctx context.Context, k *app.KeyService, path, region string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	who := identity.ByOperator(iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"*"}})
	key, err := devKey(ctx, k.Identities(), who)
	if err != nil {
		return fmt.Errorf("make dev credentials: %w", err)
	}
	defer key.Destroy()
	text := fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = ", key.ID)
	text = fmt.Appendf(append(text, key.Secret.Expose()...), "\nregion = %s\n", region)
	defer secret.Wipe(text)
	return os.WriteFile(path, text, 0o600)
}

// devKey is an access key of the administrator, who may be there from a start that
// was cut short.
func devKey(ctx context.Context, ids *identity.Service, who identity.Caller) (*identity.NewAccessKey, error) {
	b, err := ids.Bootstrap(ctx, who, &identity.BootstrapInput{Account: identity.CreateAccountInput{ID: devAccount}, User: "admin"})
	if e, is := errors.AsType[*identity.Error](err); is && e.Code == identity.CodeEntityAlreadyExists {
		return ids.CreateAccessKey(ctx, who, &identity.EntityInput{Account: devAccount, Name: "admin"})
	}
	if err != nil {
		return nil, err
	}
	return &b.Key, nil
}
