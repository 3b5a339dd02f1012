package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"cardea/internal/adminapi"
	"cardea/internal/vault"
)

// jobFlags are what is said of a job's work.
type jobFlags struct {
	Rate   int  `placeholder:"N" help:"Rows a second at most (default as configured)."`
	Verify bool `help:"Open every record afterwards; without it, a sample."`
	Keep   bool `help:"Do not retire what is replaced."`
}

type keysRotateCommand struct {
	vaultFlags
	output
	tenantFlag
	jobFlags
	waitFlags
	kmsRotateFlags
	Merchant    string `short:"m" placeholder:"ID" help:"Only the key of this merchant."`
	Compromised bool   `help:"Note in the audit log that the old keys may be known to others."`
}

// Help implements kong.HelpProvider.
func (keysRotateCommand) Help() string {
	return "Examples:\n  cardea keys rotate --tenant acme --verify\n  cardea keys rotate --config cardea.toml --tenant acme --merchant m1 --no-wait\n  cardea keys rotate --key-id alias/rds-prod-cmk --verify --verify-profile app\n  cardea keys rotate --key-id alias/vault-prod-cmk --verify --verify-profile app --replace --disable-old --config cardea.toml\n\n" +
		"Reads and writes go on meanwhile. The job survives restarts, and any node carries it on. Exit status 1 if it fails."
}

func (c keysRotateCommand) Run(ctx context.Context, p *Process) error {
	if c.KeyID != "" {
		return c.rotateKMS(ctx, p)
	}
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	reason := vault.ReasonOperator
	if c.Compromised {
		reason = vault.ReasonCompromise
	}
	return v.begin(ctx, p, c.output, c.Wait, "vault/Rotate", vault.JobRequest{
		Tenant: c.Tenant, Holder: c.Merchant, Reason: reason, Rate: c.Rate, Verify: c.Verify, Keep: c.Keep,
	})
}

type keysMigrateCommand struct {
	vaultFlags
	output
	tenantFlag
	jobFlags
	waitFlags
	DryRun bool `help:"Tell what would be done to each key and how many records would be moved, and change nothing."`
}

// Help implements kong.HelpProvider.
func (keysMigrateCommand) Help() string {
	return "Examples:\n  cardea keys migrate --tenant acme --dry-run\n  cardea keys migrate --config cardea.toml --tenant acme --verify\n\n" +
		"First set the tenant's mode, or its KMS key with the old one in kms.previous_key_ids, in the configuration of every node. " +
		"Reads and writes go on meanwhile. The way back is the same command after setting the configuration back."
}

func (c keysMigrateCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	if !c.DryRun {
		return v.begin(ctx, p, c.output, c.Wait, "vault/Migrate", vault.JobRequest{Tenant: c.Tenant, Rate: c.Rate, Verify: c.Verify, Keep: c.Keep})
	}
	var plan adminapi.List[vault.KeyMove]
	if err := v.call(ctx, "vault/Plan", &adminapi.TenantReason{Tenant: c.Tenant}, &plan); err != nil {
		return err
	}
	return c.print(p.Stdout, plan.Items, func(w io.Writer) error {
		var rows [][]string
		var moved int64
		for _, k := range plan.Items {
			if k.State == vault.KeyRetired || k.State == vault.KeyDestroyed {
				continue
			}
			rows = append(rows, []string{cmpText(k.Holder, "(tenant)"), string(k.Purpose), number(k.Version), string(k.State), k.Mode, strconv.FormatInt(k.Records, 10), actionText(k.Action)})
			if k.Action != vault.ActionNone && (k.Purpose == vault.PurposeRecord || k.Purpose == vault.PurposeDirect) {
				moved += k.Records
			}
		}
		if err := table(w, "no key yet, nothing to move", []string{"OF", "PURPOSE", "VERSION", "STATE", "MODE", "RECORDS", "WOULD BE"}, rows); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\n%d records would be moved. Nothing was changed.\n", moved)
		return err
	})
}

func actionText(a vault.KeyAction) string {
	switch a {
	case vault.ActionNone:
		return "left as it is"
	case vault.ActionRotate:
		return "replaced by a new version"
	case vault.ActionRewrap:
		return "wrapped anew"
	case vault.ActionDrain:
		return "emptied"
	case vault.ActionSift:
		return "emptied, but for what is too long for KMS"
	case vault.ActionRetire:
		return "emptied and retired"
	}
	return string(a)
}

type keysVerifyCommand struct {
	vaultFlags
	output
	tenantFlag
	waitFlags
	Merchant string `short:"m" placeholder:"ID" xor:"holder" help:"Only the records of this merchant."`
	Entity   string `placeholder:"ID" xor:"holder" help:"Only the records of this entity."`
	Rate     int    `placeholder:"N" help:"Rows a second at most (default as configured)."`
}

// Help implements kong.HelpProvider.
func (keysVerifyCommand) Help() string {
	return "Examples:\n  cardea keys verify --tenant acme\n  cardea keys verify --config cardea.toml --tenant acme --merchant m1 --output json\n\n" +
		"Records that do not open are named in the audit log. Exit status 1 if there is one."
}

func (c keysVerifyCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	return v.begin(ctx, p, c.output, c.Wait, "vault/Verify", vault.JobRequest{Tenant: c.Tenant, Holder: c.Merchant + c.Entity, Rate: c.Rate})
}

type keysShredCommand struct {
	vaultFlags
	output
	tenantFlag
	waitFlags
	Merchant string `short:"m" placeholder:"ID" required:"" xor:"holder" help:"The merchant."`
	Entity   string `placeholder:"ID" required:"" xor:"holder" help:"The entity."`
	Reason   string `required:"" placeholder:"TEXT" help:"Why; the audit log tells it."`
	Yes      bool   `short:"y" help:"Do not ask."`
	Rate     int    `placeholder:"N" help:"Rows a second at most (default as configured)."`
}

// Help implements kong.HelpProvider.
func (keysShredCommand) Help() string {
	return "Examples:\n  cardea keys shred --tenant acme --merchant m1 --reason 'contract ended'\n" +
		"  cardea keys shred --config cardea.toml --tenant acme --entity customer-7 --reason 'erasure request 12' --yes\n\n" +
		"There is no way back. It asks for the name again, unless --yes is given. The proof is in the audit log: 'cardea audit show --op key.shred'."
}

func (c keysShredCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	name := c.Merchant + c.Entity
	if !c.Yes {
		if err := confirm(p, fmt.Sprintf("All records of %s in tenant %s will be unreadable for ever, also in copies of the database where its keys are its own.\nType its name to go on: ", printable(name), c.Tenant), name); err != nil {
			return err
		}
	}
	return v.begin(ctx, p, c.output, c.Wait, "vault/Shred", vault.JobRequest{Tenant: c.Tenant, Holder: name, Reason: c.Reason, Rate: c.Rate})
}

// confirm goes on only if the answer is what is wanted.
func confirm(p *Process, question, want string) error {
	fmt.Fprint(p.Stderr, question)
	line, err := bufio.NewReader(io.LimitReader(p.Stdin, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimRight(line, "\r\n") != want {
		return errors.New("that is not its name: nothing was done")
	}
	return nil
}

type keysRetireCommand struct {
	vaultFlags
	tenantFlag
	kmsRetireFlags
	Key     string `arg:"" optional:"" help:"The key's id."`
	Version uint32 `placeholder:"N" help:"The version."`
}

// Help implements kong.HelpProvider.
func (keysRetireCommand) Help() string {
	return "Examples:\n  cardea keys retire --tenant acme 01980000-0000-7000-8000-000000000000 --version 1\n" +
		"  cardea keys retire --key-id 1234abcd-12ab-34cd-56ef-1234567890ab --file key-lifecycle.yaml --register people.toml --approval retire.request --key carol.key --config cardea.toml\n\n" +
		"Jobs retire what they have emptied by themselves, unless they were begun with --keep. A version with records is not retired.\n\n" +
		"A key of a key service is disabled, to be destroyed at the end of the window; its audit trail and a record that you sign are kept in the report's folder (PCI DSS 3.7.5). " +
		"Refused while an alias names it, it has replicas, it serves a class of the policy file, files or records of the vault are under it, or it was used lately. " +
		"Two others approve key.retire of exactly this key and window; run again after the window, it finds out whether the key is gone."
}

func (c keysRetireCommand) Run(ctx context.Context, p *Process) error {
	if c.KeyID != "" {
		return c.retireKMS(ctx, p)
	}
	if c.Key == "" || c.Version == 0 {
		return usageError{errors.New("name a vault's key and --version, or a key of a key service by --key-id")}
	}
	v, err := c.open(ctx, p, &c.Tenant)
	if err == nil {
		err = v.call(ctx, "vault/Retire", &adminapi.KeyName{Tenant: c.Tenant, Key: c.Key, Version: c.Version}, nil)
	}
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, "version %d of key %s is retired\n", c.Version, c.Key)
	}
	return err
}

type keysSuspendCommand struct {
	vaultFlags
	tenantFlag
	Reason string `required:"" placeholder:"TEXT" help:"Why; the audit log tells it."`
}

// Help implements kong.HelpProvider.
func (keysSuspendCommand) Help() string {
	return "Examples:\n  cardea keys suspend --tenant acme --reason 'credentials of a client may have leaked'\n\n" +
		"Every request of the tenant is answered 403. Its keys, and in mode local its master key, are wiped from memory: on this node " +
		"at once, on others within two seconds. It lasts until 'cardea keys resume', also over restarts."
}

func (c keysSuspendCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, c.tenantFlag, c.Reason, "vault/Suspend", "tenant %s is suspended; 'cardea keys resume' ends that\n")
}

type keysResumeCommand struct {
	vaultFlags
	tenantFlag
	Reason string `required:"" placeholder:"TEXT" help:"Why; the audit log tells it."`
}

// Help implements kong.HelpProvider.
func (keysResumeCommand) Help() string {
	return "Examples:\n  cardea keys resume --tenant acme --reason 'all credentials replaced'\n\n" +
		"In mode local the tenant's custodians then have to unlock it on every node."
}

func (c keysResumeCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, c.tenantFlag, c.Reason, "vault/Resume", "tenant %s is resumed; in mode local its custodians unlock it by 'cardea custodian unlock'\n")
}

func (f vaultFlags) change(ctx context.Context, p *Process, t tenantFlag, reason, operation, done string) error {
	v, err := f.open(ctx, p, &t.Tenant)
	if err == nil {
		err = v.call(ctx, operation, &adminapi.TenantReason{Tenant: t.Tenant, Reason: reason}, nil)
	}
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, done, t.Tenant)
	}
	return err
}
