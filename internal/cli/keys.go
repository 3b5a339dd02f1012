package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/vault"
)

type keysCommands struct {
	List     keysListCommand     `cmd:"" help:"List the keys that protect a tenant's records."`
	Show     keysShowCommand     `cmd:"" help:"Show every version of one key."`
	Usage    keysUsageCommand    `cmd:"" help:"Tell how much each key is used, and when it is due."`
	Rotate   keysRotateCommand   `cmd:"" help:"Replace keys, move every record under the new ones, retire the old."`
	Migrate  keysMigrateCommand  `cmd:"" help:"Move a tenant to the mode and KMS key that its configuration now names."`
	Verify   keysVerifyCommand   `cmd:"" help:"Open every record and count those that do not open."`
	Shred    keysShredCommand    `cmd:"" help:"Destroy the keys of a merchant or entity and remove its records, for ever."`
	Retire   keysRetireCommand   `cmd:"" help:"Retire a replaced version that has no records left, or a key of AWS KMS or a key service that nothing needs."`
	Suspend  keysSuspendCommand  `cmd:"" help:"Refuse a tenant everything and wipe its keys from memory, on all nodes."`
	Resume   keysResumeCommand   `cmd:"" help:"End a suspension."`
	Jobs     keysJobsCommand     `cmd:"" help:"List jobs: what is under way, and what was done last."`
	Wait     keysWaitCommand     `cmd:"" help:"Watch a job until it has ended."`
	Pause    keysPauseCommand    `cmd:"" help:"Stop a job until it is continued."`
	Continue keysContinueCommand `cmd:"" help:"Continue a paused job."`
	Cancel   keysCancelCommand   `cmd:"" help:"End a job where it is."`

	ScheduleDeletion keysScheduleDeletionCommand `cmd:"" help:"Have a key of AWS KMS or a key service destroyed, with the approval of two others, when nothing uses it."`
	Compromise       keysCompromiseCommand       `cmd:"" help:"Answer the compromise of a key of AWS KMS or a key service: end its use, replace it, have data moved, disable it."`
	Leaver           keysLeaverCommand           `cmd:"" help:"Take from somebody who leaves what he could reach: access keys, grants, policies of keys, keys whose material he held a part of."`
	CancelDeletion   keysCancelDeletionCommand   `cmd:"" help:"Keep a key of AWS KMS or a key service that waits for its destruction."`
}

// vaultFlags say which running vault a command is about.
type vaultFlags struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"installation" help:"Configuration of the vault."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"installation" help:"Data folder of 'cardea dev' (default ./cardea-data)."`
}

// tenantFlag names the tenant of a command; it need not be named if there is one.
type tenantFlag struct {
	Tenant string `short:"t" placeholder:"NAME" help:"The tenant; it need not be named if there is only one."`
}

// runningVault is a running vault, asked by its admin socket.
type runningVault struct {
	socket string
	client *adminapi.Client
	status adminapi.VaultStatus
}

// connect asks the vault how it is.
func (f vaultFlags) connect(ctx context.Context, p *Process) (*runningVault, error) {
	cfg, err := installation(p, f.Config, f.DataDir)
	if err != nil {
		return nil, err
	}
	if cfg.Vault.Listen == "" {
		return nil, usageError{errors.New("the configuration has no vault: name that of a vault by --config")}
	}
	v := &runningVault{socket: cfg.Vault.AdminSocket, client: adminapi.NewClient(cfg.Vault.AdminSocket)}
	return v, v.call(ctx, "vault/Status", struct{}{}, &v.status)
}

// open is connect for a command on one tenant, which it settles.
func (f vaultFlags) open(ctx context.Context, p *Process, tenant *string) (*runningVault, error) {
	v, err := f.connect(ctx, p)
	if err != nil || *tenant != "" {
		return v, err
	}
	switch len(v.status.Tenants) {
	case 0:
		return nil, errors.New("the vault has no tenant")
	case 1:
		*tenant = v.status.Tenants[0]
		return v, nil
	}
	return nil, usageError{fmt.Errorf("--tenant: there are %s; say which one is meant", strings.Join(v.status.Tenants, ", "))}
}

// call has an operation done. Its errors say what to do about them.
func (v *runningVault) call(ctx context.Context, operation string, in, out any) error {
	err := v.client.Call(ctx, operation, in, out)
	refused, _ := errors.AsType[*adminapi.Error](err)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, fs.ErrPermission):
		return hinted(fmt.Errorf("%s: %w", v.socket, fs.ErrPermission), "run this as the user that the vault runs as, such as by sudo -u cardea")
	case errors.Is(err, adminapi.ErrNotRunning):
		return fmt.Errorf("no vault answers on %s: start it with 'cardea serve' or 'cardea dev', or say where it is by --config or --data-dir", v.socket)
	case refused == nil:
		return err
	case refused.Code == "Locked":
		return hinted(err, "its custodians unlock it by 'cardea custodian unlock'")
	case refused.Code == "Suspended":
		return hinted(err, "'cardea keys resume' ends that")
	case refused.Code == "ServiceFailure", refused.Code == "ServiceUnavailable":
		return hinted(err, "the vault's log says why")
	}
	return err
}

type keysListCommand struct {
	vaultFlags
	output
	tenantFlag
	Merchant string `short:"m" placeholder:"ID" help:"Only the keys of this merchant."`
	All      bool   `help:"Also versions that are retired or destroyed."`
	Records  bool   `help:"Count the records under each, which takes time for each of them."`
}

// Help implements kong.HelpProvider.
func (keysListCommand) Help() string {
	return "Examples:\n  cardea keys list --config cardea.toml --tenant acme\n  cardea keys list --tenant acme --merchant m1 --all --records --output json"
}

func (c keysListCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	keys, err := v.keys(ctx, vault.KeyQuery{Tenant: c.Tenant, Holder: c.Merchant, Count: c.Records})
	if err != nil {
		return err
	}
	shown := make([]vault.KeyInfo, 0, len(keys))
	for _, k := range keys {
		if c.All || k.State == vault.KeyActive || k.State == vault.KeyDecryptOnly {
			shown = append(shown, k)
		}
	}
	return c.print(p.Stdout, shown, func(w io.Writer) error {
		var rows [][]string
		for _, k := range shown {
			records := ""
			if c.Records {
				records = strconv.FormatInt(k.Records, 10)
			}
			rows = append(rows, []string{
				k.ID, number(k.Version), cmpText(k.Holder, "(tenant)"), string(k.Purpose), k.Spec, string(k.State), modeText(k),
				days(k.Age(p.Now())), left(k, p.Now()), records,
			})
		}
		return table(w, "no key yet: they are made when they are first needed",
			[]string{"KEY", "VERSION", "OF", "PURPOSE", "SPEC", "STATE", "MODE", "AGE", "LEFT", "RECORDS"}, rows)
	})
}

func (v *runningVault) keys(ctx context.Context, q vault.KeyQuery) ([]vault.KeyInfo, error) {
	var keys adminapi.List[vault.KeyInfo]
	err := v.call(ctx, "vault/Keys", &q, &keys)
	return keys.Items, err
}

type keysShowCommand struct {
	vaultFlags
	output
	tenantFlag
	Key string `arg:"" help:"The key's id, as 'cardea keys list' shows it."`
}

// Help implements kong.HelpProvider.
func (keysShowCommand) Help() string {
	return "Examples:\n  cardea keys show --tenant acme 01980000-0000-7000-8000-000000000000\n  cardea keys show 01980000-0000-7000-8000-000000000000 --output json"
}

func (c keysShowCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	keys, err := v.keys(ctx, vault.KeyQuery{Tenant: c.Tenant, Key: c.Key, Count: true})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, keys, func(w io.Writer) error {
		for i, k := range keys {
			if i > 0 {
				fmt.Fprintln(w)
			}
			if err := fields(w, []string{"key", k.ID}, []string{"version", number(k.Version)}, []string{"tenant", k.Tenant}, []string{"merchant", cmpText(k.Holder, "none: of the whole tenant")},
				[]string{"purpose", string(k.Purpose)}, []string{"spec", k.Spec}, []string{"state", stateText(k)}, []string{"mode", modeText(k)}, []string{"kms key", k.KMSKey},
				[]string{"created", day(k.Created)}, []string{"due", day(k.Due)}, []string{recordsOf(k), strconv.FormatInt(k.Records, 10)},
				[]string{"sealed", sealedText(k)}); err != nil {
				return err
			}
		}
		return nil
	})
}

type keysUsageCommand struct {
	vaultFlags
	output
	tenantFlag
}

// Help implements kong.HelpProvider.
func (keysUsageCommand) Help() string {
	return "Examples:\n  cardea keys usage --tenant acme\n  cardea keys usage --config cardea.toml --tenant acme --output json\n\n" +
		"Exit status 3 if a key is overdue, or not in the mode and under the KMS key that are configured."
}

func (c keysUsageCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.open(ctx, p, &c.Tenant)
	if err != nil {
		return err
	}
	all, err := v.keys(ctx, vault.KeyQuery{Tenant: c.Tenant, Count: true})
	if err != nil {
		return err
	}
	keys, findings := make([]vault.KeyInfo, 0, len(all)), false
	for _, k := range all {
		if k.State != vault.KeyActive && k.Records == 0 {
			continue
		}
		keys = append(keys, k)
		findings = findings || overdue(k, p.Now()) || !k.Current && k.Records > 0
	}
	err = c.print(p.Stdout, keys, func(w io.Writer) error {
		var rows [][]string
		for _, k := range keys {
			rows = append(rows, []string{
				cmpText(k.Holder, "(tenant)"), string(k.Purpose), number(k.Version), string(k.State), modeText(k),
				strconv.FormatInt(k.Records, 10), sealedText(k), days(k.Age(p.Now())), left(k, p.Now()),
			})
		}
		return table(w, "no key is used", []string{"OF", "PURPOSE", "VERSION", "STATE", "MODE", "RECORDS", "SEALED", "AGE", "LEFT"}, rows)
	})
	if err == nil && findings {
		err = errFindings
	}
	return err
}

func overdue(k vault.KeyInfo, now time.Time) bool {
	return k.State == vault.KeyActive && (!k.Due.IsZero() && now.After(k.Due) || k.MessageLimit > 0 && k.Sealed >= k.MessageLimit && k.Purpose == vault.PurposeRecord)
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func cmpText(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// modeText is a key's mode, with a mark if it is not the configured one.
func modeText(k vault.KeyInfo) string {
	if !k.Current && (k.State == vault.KeyActive || k.Records > 0) {
		return k.Mode + " (not as configured)"
	}
	return k.Mode
}

func stateText(k vault.KeyInfo) string {
	if k.Changed.IsZero() {
		return string(k.State)
	}
	return string(k.State) + " since " + day(k.Changed)
}

func recordsOf(k vault.KeyInfo) string {
	if k.Purpose == vault.PurposeFingerprint {
		return "fingerprints"
	}
	return "records"
}

func sealedText(k vault.KeyInfo) string {
	if k.MessageLimit == 0 || k.Purpose != vault.PurposeRecord {
		return strconv.FormatUint(k.Sealed, 10)
	}
	return fmt.Sprintf("%d of %d", k.Sealed, k.MessageLimit)
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// left is how much of its cryptoperiod a key has.
func left(k vault.KeyInfo, now time.Time) string {
	switch {
	case k.Due.IsZero():
		return ""
	case now.After(k.Due):
		return "overdue"
	}
	return days(k.Due.Sub(now))
}
