package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/vault"
)

type custodianCommands struct {
	Init   custodianInitCommand   `cmd:"" help:"Make a tenant's master key, or the key service's root key, and divide it among custodians."`
	Adopt  custodianAdoptCommand  `cmd:"" help:"Take over the master key of a Hyperswitch locker and divide it among custodians."`
	Rekey  custodianRekeyCommand  `cmd:"" help:"Divide a master key or root key anew; the old shares are of no use afterwards."`
	Unlock custodianUnlockCommand `cmd:"" help:"Give a custodian's share to a running node; with the last one needed, unlock the tenant."`
	Status custodianStatusCommand `cmd:"" help:"Tell whether a running node has a tenant unlocked, and how many shares it has."`
}

// termsFlags say among whom a key is divided.
type termsFlags struct {
	Custodian []string `required:"" placeholder:"NAME" help:"A custodian, one part each; repeat."`
	Threshold int      `default:"2" placeholder:"N" help:"How many custodians must agree (default 2)."`
	Form      string   `enum:",shares,halves" default:"" placeholder:"FORM" help:"shares (Shamir) or halves (the Hyperswitch locker's two-halves form, 2 custodians). Default: the tenant's setting 'unseal'."`
	OutDir    string   `type:"path" required:"" placeholder:"DIR" help:"Where the handouts go, one file a custodian; give each to its custodian and shred it here."`
}

// terms joins the flags with the tenant's configuration and refuses what makes no
// sense before anything is begun.
func (t termsFlags) terms(tenant config.Tenant) (vault.Terms, error) {
	form := t.Form
	if form == "" {
		form = tenant.Unseal
	}
	terms := vault.Terms{Form: custodian.Form(form), Threshold: t.Threshold, Custodians: t.Custodian}
	n := len(t.Custodian)
	switch {
	case form != tenant.Unseal:
		return terms, usageError{fmt.Errorf("--form: the configuration says unseal = %q for this tenant; change one of the two", tenant.Unseal)}
	case form == config.UnsealHalves && (n != 2 || t.Threshold != 2):
		return terms, usageError{fmt.Errorf("--form: halves are for 2 custodians who must both agree, not %d of %d", t.Threshold, n)}
	case t.Threshold < 2:
		return terms, usageError{fmt.Errorf("--threshold: %d, at least 2 custodians must agree (PCI DSS 3.7.6)", t.Threshold)}
	case t.Threshold > n:
		return terms, usageError{fmt.Errorf("--threshold: %d custodians must agree, but only %d are named by --custodian", t.Threshold, n)}
	}
	for i, name := range t.Custodian {
		if slices.Contains(t.Custodian[:i], name) {
			return terms, usageError{fmt.Errorf("--custodian: %q is named twice, each custodian has one part", name)}
		}
	}
	return terms, nil
}

type custodianInitCommand struct {
	configFlag
	termsFlags
	Tenant string `required:"" placeholder:"NAME" help:"Tenant of the configuration; key-service for the key service's root key."`
}

// Help implements kong.HelpProvider.
func (custodianInitCommand) Help() string {
	return "Examples:\n  cardea custodian init --config cardea.toml --tenant acme --threshold 2 \\\n" +
		"    --custodian alice --custodian bob --custodian carol --out-dir ./handouts\n" +
		"  cardea custodian init --config cardea.toml --tenant key-service --threshold 2 \\\n" +
		"    --custodian alice --custodian bob --custodian carol --out-dir ./handouts"
}

func (c custodianInitCommand) Run(ctx context.Context, p *Process) (err error) {
	return c.hold(ctx, p, c.configFlag, c.Tenant, false, func(t *app.Tool, _ config.Tenant, terms vault.Terms) ([]vault.Handout, error) {
		handouts, err := t.Ceremonies.Init(ctx, operator(p), c.Tenant, terms)
		if errors.Is(err, vault.ErrSealed) {
			return nil, hinted(err, "other custodians get it by 'cardea custodian rekey'")
		}
		return handouts, err
	})
}

type custodianAdoptCommand struct {
	configFlag
	termsFlags
	Tenant    string   `required:"" placeholder:"NAME" help:"Tenant of the configuration, with sealed_master_key_file."`
	ShareFile []string `type:"path" placeholder:"FILE" help:"File with half 1, then one with half 2, of the locker's custodians. Without it they are asked for."`
}

// Help implements kong.HelpProvider.
func (custodianAdoptCommand) Help() string {
	return "Examples:\n  cardea custodian adopt --config cardea.toml --tenant acme --threshold 2 \\\n" +
		"    --custodian alice --custodian bob --custodian carol --out-dir ./handouts\n\n" +
		"The locker's two custodians type in their halves. Afterwards remove sealed_master_key_file from the configuration."
}

func (c custodianAdoptCommand) Run(ctx context.Context, p *Process) error {
	return c.hold(ctx, p, c.configFlag, c.Tenant, true, func(t *app.Tool, tc config.Tenant, terms vault.Terms) ([]vault.Handout, error) {
		sealed, err := app.LockerSeal(tc)
		if err != nil {
			return nil, fmt.Errorf("tenants.%s.sealed_master_key_file: %w", c.Tenant, err)
		}
		parts, err := readParts(p, c.ShareFile, sealed.Info())
		defer destroyParts(parts)
		if err != nil {
			return nil, err
		}
		master, err := sealed.Open(parts)
		if err != nil {
			return nil, fmt.Errorf("open the locker's master key: %w", err)
		}
		defer master.Destroy()
		handouts, err := t.Ceremonies.Adopt(ctx, operator(p), c.Tenant, master, terms)
		if errors.Is(err, vault.ErrSealed) {
			return nil, hinted(err, "it was taken over before; other custodians get it by 'cardea custodian rekey'")
		}
		return handouts, err
	})
}

type custodianRekeyCommand struct {
	configFlag
	termsFlags
	Tenant    string   `required:"" placeholder:"NAME" help:"Tenant of the configuration; key-service for the key service's root key."`
	ShareFile []string `type:"path" placeholder:"FILE" help:"File with a share or half of the old custodians; repeat. Without it they are asked for."`
}

// Help implements kong.HelpProvider.
func (custodianRekeyCommand) Help() string {
	return "Examples:\n  cardea custodian rekey --config cardea.toml --tenant acme --threshold 3 \\\n" +
		"    --custodian alice --custodian bob --custodian dave --custodian erin --out-dir ./handouts \\\n" +
		"    --share-file alice.handout --share-file bob.handout\n\n" +
		"The master key stays, so nothing is encrypted anew, and running nodes stay unlocked."
}

func (c custodianRekeyCommand) Run(ctx context.Context, p *Process) error {
	return c.hold(ctx, p, c.configFlag, c.Tenant, false, func(t *app.Tool, _ config.Tenant, terms vault.Terms) ([]vault.Handout, error) {
		seal, err := t.Ceremonies.Seal(ctx, c.Tenant)
		if errors.Is(err, vault.ErrNotFound) {
			return nil, noMasterKey(c.Tenant)
		}
		if err != nil {
			return nil, err
		}
		parts, err := readParts(p, c.ShareFile, seal.Info())
		defer destroyParts(parts)
		if err != nil {
			return nil, err
		}
		return t.Ceremonies.Rekey(ctx, operator(p), c.Tenant, parts, terms)
	})
}

// noMasterKey says that no ceremony was held yet.
func noMasterKey(tenant string) error {
	if tenant == config.KeyServiceTenant {
		return errors.New("the key service has no root key yet: make one with 'cardea custodian init --tenant key-service'")
	}
	return fmt.Errorf("tenant %s has no master key yet: make one with 'cardea custodian init'", tenant)
}

// readParts reads a quorum of the parts that there are, from files or the
// terminal.
func readParts(p *Process, files []string, info custodian.Info) ([]custodian.Part, error) {
	var parts []custodian.Part
	n := len(files)
	if n == 0 {
		n = info.Threshold
	}
	if n < info.Threshold {
		return nil, usageError{fmt.Errorf("--share-file: %d given, %d custodians must agree", n, info.Threshold)}
	}
	for i := range n {
		path := ""
		if len(files) > 0 {
			path = files[i]
		}
		h, err := readHandout(p, path, fmt.Sprintf("Part %d of %d: ", i+1, n), labelPart)
		if err != nil {
			return parts, err
		}
		if info.Form == custodian.FormHalves && h.half == 0 {
			h.half = i + 1
		}
		part, err := h.parse()
		h.destroy()
		if err != nil {
			return parts, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func destroyParts(parts []custodian.Part) {
	for _, part := range parts {
		part.Destroy()
	}
}

// hold performs a ceremony and writes the handouts. The folder is tried first: a
// key whose handouts cannot be written would be lost.
func (t termsFlags) hold(ctx context.Context, p *Process, cf configFlag, tenant string, adopt bool, ceremony func(*app.Tool, config.Tenant, vault.Terms) ([]vault.Handout, error)) (err error) {
	cfg, err := cf.load(p)
	if err != nil {
		return err
	}
	what := "tenant " + tenant
	if tenant == config.KeyServiceTenant {
		if what = "the key service"; !cfg.KeyService.Enabled() {
			return errNoKeyService
		}
		cfg = cfg.ForKeyService()
	}
	tc, err := heldByCustodians(cfg, tenant, adopt)
	if err != nil {
		return err
	}
	terms, err := t.terms(tc)
	if err != nil {
		return err
	}
	if err := prepareHandouts(t.OutDir, tenant, t.Custodian); err != nil {
		return err
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tool.Close()) }()
	handouts, err := ceremony(tool, tc, terms)
	if err != nil && !errors.Is(err, vault.ErrUncertain) {
		return err
	}
	// Uncertain: the new parts may be in force. They are written all the same, for
	// without them the master key would be lost if they are.
	var werr error
	for _, h := range handouts {
		werr = errors.Join(werr, writeHandout(p, t.OutDir, tenant, h))
		h.Destroy()
	}
	if werr != nil {
		return errors.Join(err, fmt.Errorf("a handout was not written: rekey with the others, or, if too few are left, start again: %w", werr))
	}
	if err != nil {
		return fmt.Errorf("%w\nHandouts were written to %s. Unlock a node with the new parts; if they are refused, the old ones are in force", err, t.OutDir)
	}
	fmt.Fprintf(p.Stdout, "\nGive each file to its custodian and shred it here. Nobody can make them again.\n"+
		"%d of %d custodians unlock %s on each node after each start, with 'cardea custodian unlock --handout <file>'.\n"+
		"Nodes that run take up the change within seconds.\n", t.Threshold, len(t.Custodian), what)
	return nil
}

// heldByCustodians is the tenant, unless its master key is none that custodians
// can hold or, for adopt, is none of a locker.
func heldByCustodians(cfg config.Config, tenant string, adopt bool) (config.Tenant, error) {
	tc, ok := cfg.Tenants[tenant]
	switch {
	case !ok:
		names := strings.Join(slices.Sorted(maps.Keys(cfg.Tenants)), ", ")
		return tc, usageError{fmt.Errorf("--tenant: %q is not in the configuration, which has %s", tenant, orNone(names))}
	case tc.MasterKeyFile != "" && tenant == config.KeyServiceTenant:
		return tc, usageError{errors.New("--tenant: the key service has its root key in key_service.root_key_file; remove that from the configuration first")}
	case tc.Unseal == config.UnsealPKCS11:
		return tc, usageError{fmt.Errorf("--tenant: key_service.unseal is %q: a PKCS #11 token unseals the root key, and there are no custodians", tc.Unseal)}
	case tc.MasterKeyFile != "":
		return tc, usageError{fmt.Errorf("--tenant: %s has its master key in master_key_file; remove that from the configuration first", tenant)}
	case tc.SealedMasterKeyFile != "" && !adopt:
		return tc, usageError{fmt.Errorf("--tenant: %s has its master key in sealed_master_key_file; take it over by 'cardea custodian adopt'", tenant)}
	case tc.SealedMasterKeyFile == "" && adopt:
		return tc, usageError{fmt.Errorf("--tenant: %s has no sealed_master_key_file in the configuration to adopt", tenant)}
	}
	return tc, nil
}
