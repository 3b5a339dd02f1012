package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"cardea/internal/config"
	"cardea/internal/iam"
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
	Mode    string `enum:",aws_kms_envelope,local" default:"" placeholder:"MODE" help:"How cards are protected: aws_kms_envelope (keys of the vault wrapped by the key service) or local (under a master key of the vault's own). Default: as in the data folder, aws_kms_envelope in a new one."`
	Verbose bool   `short:"v" help:"Log every request."`
}

// Help implements kong.HelpProvider.
func (devCommand) Help() string {
	return "Examples:\n  cardea dev\n  cardea dev --listen 127.0.0.1:0 --keys 127.0.0.1:0 --data-dir /tmp/try\n  cardea dev --mode local --data-dir ./local-data\n\n" +
		"A folder whose cards are under a local master key is served in that mode. To move them to the key service without downtime, start once with " +
		"--mode aws_kms_envelope and run 'cardea keys migrate'."
}

func (c devCommand) Run(ctx context.Context, p *Process) error {
	level := "warn"
	if c.Verbose {
		level = "debug"
	}
	d, err := startDev(ctx, p, devOptions{DataDir: c.DataDir, Listen: c.Listen, Keys: c.Keys, Region: c.Region, Ops: c.Ops, Mode: c.Mode, Level: level})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(err, "another program listens there; choose another address by --listen, --keys or --ops, port 0 takes a free one")
	case errors.Is(err, store.ErrLogTaken):
		return hinted(err, "another 'cardea dev' uses %s; stop it, or choose another folder by --data-dir", c.DataDir)
	case err != nil:
		return explained(err)
	}
	c.greet(p, d)
	if err = c.hint(ctx, p, d); err == nil {
		err = d.Run(ctx)
	}
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
cards        %s

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

See the keys that protect the cards ('keys rotate' replaces them while the vault goes on):

  %s keys list --data-dir %s --records

Stop with Ctrl-C.
`, c.DataDir, url, keys, d.OpsURL(), d.OpsURL(), d.protection(),
		curl("/cards/add", devCard), curl("/cards/add", devCard), curl("/cards/add", devCard),
		curl("/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"alice","card_reference":"'$REF'"}`),
		quoted(filepath.Join(c.DataDir, devCredentialsFile)), quoted(c.Region), aws, aws,
		self, dir, self, dir, self, dir, self, dir, self, dir)
}

// protection is what the cards are under, in words.
func (d *devApp) protection() string {
	if d.mode == config.ModeLocal {
		return "mode local: their keys are under a master key of the vault's own"
	}
	return "mode aws_kms_envelope: their keys are wrapped by the key service"
}

// hint tells how the cards of an older folder come under the key service.
func (c devCommand) hint(ctx context.Context, p *Process, d *devApp) error {
	switch {
	case !d.sealed || c.Mode == config.ModeLocal:
		return nil
	case d.mode == config.ModeLocal:
		fmt.Fprintf(p.Stderr, "This folder's cards are under a local master key, and stay there. To move them: '%s dev --mode aws_kms_envelope', and then '%s keys migrate'.\n", invocation(p), invocation(p))
		return nil
	}
	who := iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
	moves, err := d.Vault().KeyAdmin().Plan(ctx, who, devTenant)
	if err != nil {
		return fmt.Errorf("look for keys that are under the local master key: %w", err)
	}
	for _, m := range moves {
		if m.Mode == config.ModeLocal && m.Action != vault.ActionNone && (m.Records > 0 || m.State == vault.KeyActive) {
			fmt.Fprintf(p.Stderr, "Some cards are still under the local master key: '%s keys migrate --data-dir %s' moves them while the vault goes on.\n", invocation(p), quoted(c.DataDir))
			break
		}
	}
	return nil
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
