package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/app"
	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

type lifecycleCommands struct {
	Plan     lifecyclePlanCommand     `cmd:"" help:"Show what would make the keys as the policy file wants them."`
	Apply    lifecycleApplyCommand    `cmd:"" help:"Make the keys as the policy file wants them."`
	Status   lifecycleStatusCommand   `cmd:"" help:"Show every key with its age, rotation, cryptoperiod, last use and findings."`
	Baseline lifecycleBaselineCommand `cmd:"" help:"Sign how the keys are now, to compare with later."`
	Drift    lifecycleDriftCommand    `cmd:"" help:"Compare keys with the policy file and a signed baseline (PCI DSS 11.5.2)."`
}

// policyFile is the policy of keys.
type policyFile struct {
	keyAccess
	File string `required:"" short:"f" type:"path" placeholder:"FILE" help:"Policy of keys, such as key-lifecycle.yaml."`
}

func (f policyFile) open(ctx context.Context) (*lifecycle.Policy, *lifecycle.Administrator, error) {
	text, err := readSmall(f.File)
	if err != nil {
		return nil, nil, fmt.Errorf("--file: %w", err)
	}
	p, err := lifecycle.ParsePolicy(text)
	if err != nil {
		return nil, nil, fmt.Errorf("--file: %s:\n%w", f.File, err)
	}
	k, err := f.administer(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	return p, &lifecycle.Administrator{KMS: k}, nil
}

// planView is a plan.
type planView struct {
	Steps     []lifecycle.Step `json:"steps"`
	Conflicts []string         `json:"conflicts"`
	Unread    []string         `json:"unread,omitempty"` // keys that may be of the policy
}

func (v *planView) text(w io.Writer) error {
	var rows [][]string
	for _, s := range v.Steps {
		key := s.Key
		if key != "" {
			key = key[strings.LastIndexByte(key, '/')+1:]
		}
		rows = append(rows, []string{s.Class, string(s.Kind), key, s.Before, s.After})
	}
	if err := table(w, "nothing is to be changed", []string{"CLASS", "STEP", "KEY", "BEFORE", "AFTER"}, rows); err != nil {
		return err
	}
	for _, s := range v.Steps {
		if s.Approval != nil {
			fmt.Fprintf(w, "%s: %s needs approval: %s\n", s.Class, s.Kind, s.Approval.Command())
		}
	}
	for _, c := range v.Conflicts {
		fmt.Fprintf(w, "conflict: %s\n", printable(c))
	}
	return unreadText(w, v.Unread)
}

// unreadText tells of keys that could not be looked at.
func unreadText(w io.Writer, unread []string) error {
	if len(unread) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%d keys may be of the policy, but their tags may not be read: %s\n", len(unread), printable(strings.Join(unread, ", ")))
	return err
}

type lifecyclePlanCommand struct {
	policyFile
	output
}

// Help implements kong.HelpProvider.
func (lifecyclePlanCommand) Help() string {
	return "Examples:\n  cardea lifecycle plan --file key-lifecycle.yaml\n  cardea lifecycle plan --file key-lifecycle.yaml --endpoint-url https://keys.example.com --region eu-central-1 --output json\n\n" +
		"Nothing is changed. Exit status 3 if something is to be changed, is in conflict with the file, or could not be looked at."
}

func (c lifecyclePlanCommand) Run(ctx context.Context, p *Process) error {
	policy, admin, err := c.open(ctx)
	if err != nil {
		return err
	}
	inv, err := lifecycle.Take(ctx, admin.KMS)
	if err != nil {
		return err
	}
	v := planView{Steps: []lifecycle.Step{}, Conflicts: []string{}, Unread: inv.Unread}
	steps, conflicts, err := policy.Plan(inv)
	if err != nil {
		return err
	}
	v.Steps, v.Conflicts = append(v.Steps, steps...), append(v.Conflicts, conflicts...)
	if err := c.print(p.Stdout, v, v.text); err != nil {
		return err
	}
	if len(steps)+len(conflicts)+len(inv.Unread) > 0 {
		return errFindings
	}
	return nil
}

type lifecycleApplyCommand struct {
	policyFile
	approvals
	journal
	output
}

// Help implements kong.HelpProvider.
func (lifecycleApplyCommand) Help() string {
	return "Examples:\n  cardea lifecycle apply --file key-lifecycle.yaml\n" +
		"  cardea lifecycle apply --file key-lifecycle.yaml --register people.toml --approval policy.request --config cardea.toml\n\n" +
		"It may be stopped at any time and run again: keys are found by their tag cardea:class. What needs approval, 'cardea lifecycle plan' tells. " +
		"It is recorded in the audit log of an installation."
}

func (c lifecycleApplyCommand) Run(ctx context.Context, p *Process) error {
	policy, admin, err := c.open(ctx)
	if err != nil {
		return err
	}
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	held, err := workAlone(cfg, "the policy of keys")
	if err != nil {
		return err
	}
	defer held.release()
	v := planView{Steps: []lifecycle.Step{}, Conflicts: []string{}}
	g, err := c.check(p, c.journal, admin)
	if err != nil {
		return err
	}
	defer g.ledger.Close() //nolint:errcheck // what is held ends with this process, too
	admin.Begin = func(steps []lifecycle.Step) error {
		return c.perform(ctx, p, true, app.OpLifecycleApply, vault.Target{}, "", func() (string, string, error) {
			return "begun", stepsText(steps) + "; approvals: " + cmpText(g.names(), "none"), nil
		})
	}
	done, failed := admin.Apply(ctx, policy)
	v.Steps = append(v.Steps, done...)
	err = c.perform(context.WithoutCancel(ctx), p, true, app.OpLifecycleApply, vault.Target{}, "", func() (string, string, error) {
		if failed == nil {
			failed = g.finish(fmt.Sprintf("applied, %d steps", len(done)))
		}
		return "applied", stepsText(done), failed
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, v.text)
}

// stepsText is steps in a line, for the audit log.
func stepsText(steps []lifecycle.Step) string {
	var all []string
	for _, s := range steps {
		all = append(all, strings.TrimSpace(s.Class+" "+string(s.Kind)+" "+s.Key))
	}
	return fmt.Sprintf("%d steps: %s", len(steps), strings.Join(all, ", "))
}

type lifecycleStatusCommand struct {
	policyFile
	output
	Vault vaultFlags `embed:""`
	HTML  string     `name:"html" type:"path" placeholder:"FILE" help:"Write the status as a web page, one file, too."`
}

// Help implements kong.HelpProvider.
func (lifecycleStatusCommand) Help() string {
	return "Examples:\n  cardea lifecycle status --file key-lifecycle.yaml\n  cardea lifecycle status --file key-lifecycle.yaml --html keys.html --output json\n  cardea lifecycle status --file key-lifecycle.yaml --config cardea.toml\n\n" +
		"With --config or --data-dir of a running vault it also tells how many records are under each key. Exit status 3 if there is a finding."
}

func (c lifecycleStatusCommand) Run(ctx context.Context, p *Process) error {
	policy, admin, err := c.open(ctx)
	if err != nil {
		return err
	}
	inv, err := lifecycle.Take(ctx, admin.KMS)
	if err != nil {
		return err
	}
	s := policy.Status(inv, p.Now())
	if len(c.Vault.Config) > 0 || c.Vault.DataDir != "" {
		under, err := c.records(ctx, p)
		if err != nil {
			return err
		}
		s.AddRecords(under)
	}
	if c.HTML != "" {
		var page strings.Builder
		if err := s.HTML(&page); err != nil {
			return err
		}
		if err := replaceFile(c.HTML, []byte(page.String())); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	err = c.print(p.Stdout, s, func(w io.Writer) error {
		var rows [][]string
		for _, k := range s.Keys {
			records := ""
			if k.Records != nil {
				records = strconv.FormatInt(*k.Records, 10)
			}
			rows = append(rows, []string{
				k.Class, k.KeyID, k.State, k.Spec, strconv.Itoa(k.AgeDays) + "d", k.Rotation, day(k.Next), strconv.Itoa(k.LeftDays) + "d", k.LastUse, records, strconv.Itoa(len(k.Findings)),
			})
		}
		if err := table(w, "no key", []string{"CLASS", "KEY", "STATE", "SPEC", "AGE", "ROTATION", "NEXT", "LEFT", "LAST USE", "RECORDS", "FINDINGS"}, rows); err != nil {
			return err
		}
		for _, k := range s.Keys {
			for _, f := range k.Findings {
				fmt.Fprintf(w, "%s %s: %s\n", k.Class, printable(k.KeyID), printable(f))
			}
		}
		return unreadText(w, s.Unread)
	})
	if err == nil && s.Findings > 0 {
		err = errFindings
	}
	return err
}

// records counts the records of a vault by the key that they are under.
func (c lifecycleStatusCommand) records(ctx context.Context, p *Process) (map[string]int64, error) {
	v, err := c.Vault.connect(ctx, p)
	if err != nil {
		return nil, err
	}
	under := map[string]int64{}
	for _, tenant := range v.status.Tenants {
		keys, err := v.keys(ctx, vault.KeyQuery{Tenant: tenant, Count: true})
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if k.Purpose == vault.PurposeRecord || k.Purpose == vault.PurposeDirect {
				under[k.KMSKey] += k.Records
			}
		}
	}
	return under, nil
}

type lifecycleBaselineCommand struct {
	keyAccess
	personKey
	journal
	Out string `required:"" type:"path" placeholder:"FILE" help:"File for the baseline, which must not exist; it is not secret."`
}

// Help implements kong.HelpProvider.
func (lifecycleBaselineCommand) Help() string {
	return "Examples:\n  cardea lifecycle baseline --key auditor.key --out keys.baseline\n\nLook at 'cardea lifecycle status' and 'cardea lifecycle drift' first: what you sign is what later changes are measured by."
}

func (c lifecycleBaselineCommand) Run(ctx context.Context, p *Process) error {
	s, err := c.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	k, err := c.administer(ctx, "")
	if err != nil {
		return err
	}
	inv, err := lifecycle.Take(ctx, k)
	if err != nil {
		return err
	}
	signed, err := inv.Baseline(p.Now()).Sign(s)
	if err != nil {
		return err
	}
	err = c.perform(ctx, p, true, app.OpLifecycleBaseline, vault.Target{}, "", func() (string, string, error) {
		return "signed", fmt.Sprintf("%d keys by %s", len(inv.Keys), s.Name()), writeNew("--out", c.Out, signed, os.FileMode(0o644))
	})
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, "%d keys, signed by %s\n", len(inv.Keys), s.Name())
	}
	return err
}

type lifecycleDriftCommand struct {
	policyFile
	output
	Baseline string `type:"path" placeholder:"FILE" help:"Signed baseline of 'cardea lifecycle baseline'."`
	Verifier string `placeholder:"KEY" help:"Public key that must have signed the baseline, as 'cardea approval keygen' printed it."`
}

// Help implements kong.HelpProvider.
func (lifecycleDriftCommand) Help() string {
	return "Examples:\n  cardea lifecycle drift --file key-lifecycle.yaml\n  cardea lifecycle drift --file key-lifecycle.yaml --baseline keys.baseline --verifier auditor+0a1b2c3d+AeY...\n\nExit status 3 if something differs."
}

func (c lifecycleDriftCommand) Run(ctx context.Context, p *Process) error {
	if (c.Baseline == "") != (c.Verifier == "") {
		return usageError{errors.New("--baseline and --verifier: give both, or none")}
	}
	policy, admin, err := c.open(ctx)
	if err != nil {
		return err
	}
	var base *lifecycle.Baseline
	if c.Baseline != "" {
		v, err := note.NewVerifier(c.Verifier)
		if err != nil {
			return usageError{errors.New("--verifier: is not a verifier NAME+HASH+KEY, as 'cardea approval keygen' prints it")}
		}
		signed, err := os.ReadFile(c.Baseline)
		if err != nil {
			return fmt.Errorf("--baseline: %w", err)
		}
		if base, _, err = lifecycle.OpenBaseline(signed, note.VerifierList(v)); err != nil {
			return fmt.Errorf("--baseline: %w", err)
		}
	}
	inv, err := lifecycle.Take(ctx, admin.KMS)
	if err != nil {
		return err
	}
	drift, err := policy.Drift(inv, base)
	if err != nil {
		return err
	}
	err = c.print(p.Stdout, drift, func(w io.Writer) error {
		var rows [][]string
		for _, d := range drift {
			rows = append(rows, []string{d.Class, d.Key[strings.LastIndexByte(d.Key, '/')+1:], d.What, d.Against, d.Want, d.Is})
		}
		return table(w, "no drift", []string{"CLASS", "KEY", "WHAT", "AGAINST", "WANT", "IS"}, rows)
	})
	if err == nil && len(drift) > 0 {
		err = errFindings
	}
	return err
}
