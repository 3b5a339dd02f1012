package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/lifecycle"
	"cardea/internal/vault"
)

type keysScheduleDeletionCommand struct {
	keyAccess
	personKey
	registerFile
	journal
	output
	KeyID      string `required:"" name:"key-id" placeholder:"KEY" help:"The key of AWS KMS or a key service: its id or ARN."`
	Window     int    `default:"30" placeholder:"DAYS" help:"Days until it is destroyed, 7 to 30 (default 30)."`
	Approval   string `required:"" type:"path" placeholder:"FILE" help:"Approved request for key.schedule-deletion of this key, with param window=DAYS."`
	Record     string `required:"" type:"path" placeholder:"FILE" help:"File for the destruction record, which you sign."`
	UnusedFor  int    `default:"30" placeholder:"DAYS" help:"For how many days it must not have been used (default 30)."`
	UseChecked bool   `help:"You have looked into CloudTrail, since the key service does not tell when the key was last used."`
}

// Help implements kong.HelpProvider.
func (keysScheduleDeletionCommand) Help() string {
	return "Examples:\n  cardea keys schedule-deletion --key-id 1234abcd-12ab-34cd-56ef-1234567890ab --window 30 --register people.toml --approval deletion.request --key carol.key --record destroyed.note --config cardea.toml\n\n" +
		"The request is made by 'cardea approval request --operation key.schedule-deletion --target KEY-ARN --param window=30' and approved by two others. " +
		"Refused while an alias names the key, it has replicas, it was used lately, or keys of the vault that --config names are under it. " +
		"Until the end of the window 'cardea keys cancel-deletion' keeps the key."
}

func (c keysScheduleDeletionCommand) Run(ctx context.Context, p *Process) error {
	if c.Window < 7 || c.Window > 30 {
		return usageError{fmt.Errorf("--window: %d must be 7 to 30 days", c.Window)}
	}
	if c.UnusedFor < 7 {
		return usageError{fmt.Errorf("--unused-for: %d must be 7 days or more", c.UnusedFor)}
	}
	reg, err := c.read()
	if err != nil {
		return err
	}
	s, err := c.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	if _, err := reg.Person(s.Name()); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	client, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	k, err := lifecycle.Look(ctx, client, c.KeyID)
	if err != nil {
		return err
	}
	signed, err := readSmall(c.Approval)
	if err != nil {
		return fmt.Errorf("--approval: %w", err)
	}
	st, err := approval.Check(signed, reg, p.Now(), approval.Want{
		Operation: approval.KeyDeletion, Target: k.ARN, Params: map[string]string{"window": strconv.Itoa(c.Window)}, Approvals: 2,
	})
	if err != nil {
		return fmt.Errorf("--approval: %w", err)
	}
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	ledger := approval.Ledger{Dir: filepath.Join(cfg.Node.DataDir, "approvals")}
	d := lifecycle.Destruction{
		Key: k.ARN, Class: k.Class, Spec: k.Spec, Origin: k.Origin, Created: k.Created, Rotations: append([]time.Time{}, k.Rotations...), ReplacedBy: k.ReplacedBy,
		Reason: st.Request.Reason, Request: st.Request.ID, Requester: st.Request.Requester, Approvers: st.Approvers, WindowDays: c.Window, Recorded: p.Now().UTC().Truncate(time.Second),
	}
	if k.LastUse != nil {
		d.LastUse = k.LastUse.Time
	}
	err = c.perform(ctx, p, true, app.OpLifecycleDeletion, vault.Target{Reference: st.Request.ID}, k.ARN, func() (string, string, error) {
		detail := fmt.Sprintf("window %d days, asked by %s, approved by %s: %s", c.Window, d.Requester, strings.Join(d.Approvers, ", "), d.Reason)
		if cfg.Vault.Listen != "" {
			if err := underVault(ctx, p, vaultFlags{Config: c.Config, DataDir: c.DataDir}, k.ARN); err != nil {
				return "", detail, err
			}
		}
		if d.LastUseText, err = lifecycle.Destructible(ctx, client, k, p.Now(), time.Duration(c.UnusedFor)*24*time.Hour, c.UseChecked); err != nil {
			return "", detail, err
		}
		if _, err := ledger.Begin(st.Request, signed); err != nil {
			return "", detail, err
		}
		if d.Deletion, err = lifecycle.ScheduleDeletion(ctx, client, k, lifecycle.Days(c.Window)); err != nil {
			return "", detail, err
		}
		record, err := d.Sign(s)
		if err == nil {
			err = replaceFile(c.Record, record)
		}
		if err != nil {
			return "", detail, fmt.Errorf("--record: %w", err)
		}
		return "scheduled", detail, ledger.Finish(st.Request, "to be destroyed on "+d.Deletion.Format(time.RFC3339))
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, d, func(w io.Writer) error {
		return fields(w, []string{"key", d.Key}, []string{"destroyed on", day(d.Deletion)}, []string{"not in use", d.LastUseText}, []string{"approved by", strings.Join(d.Approvers, ", ")},
			[]string{"record", c.Record + ", signed by " + s.Name()})
	})
}

// underVault refuses if a vault has keys under a KMS key: their records would be lost
// with it.
func underVault(ctx context.Context, p *Process, f vaultFlags, arn string) error {
	v, err := f.connect(ctx, p)
	if err != nil {
		return fmt.Errorf("whether the vault's records are under it must be known: %w", err)
	}
	for _, tenant := range v.status.Tenants {
		keys, err := v.keys(ctx, vault.KeyQuery{Tenant: tenant, Count: true})
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.KMSKey == arn && (k.State == vault.KeyActive || k.State == vault.KeyDecryptOnly || k.Records > 0) {
				return hinted(fmt.Errorf("%w: key %s of tenant %s is under it, with %d records", lifecycle.ErrInUse, k.ID, tenant, k.Records), "move them by 'cardea keys migrate'")
			}
		}
	}
	return nil
}

type keysCancelDeletionCommand struct {
	keyAccess
	journal
	KeyID  string `required:"" name:"key-id" placeholder:"KEY" help:"The key of AWS KMS or a key service: its id or ARN."`
	Reason string `required:"" placeholder:"TEXT" help:"Why; the audit log tells it."`
}

// Help implements kong.HelpProvider.
func (keysCancelDeletionCommand) Help() string {
	return "Examples:\n  cardea keys cancel-deletion --key-id 1234abcd-12ab-34cd-56ef-1234567890ab --reason 'a backup needs it' --config cardea.toml\n\nThe key is disabled afterwards."
}

func (c keysCancelDeletionCommand) Run(ctx context.Context, p *Process) error {
	if strings.TrimSpace(c.Reason) == "" {
		return usageError{errors.New("--reason: say why: it is recorded")}
	}
	client, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	arn := ""
	err = c.perform(ctx, p, true, app.OpLifecycleDeletion, vault.Target{}, c.KeyID, func() (string, string, error) {
		arn, err = lifecycle.CancelDeletion(ctx, client, c.KeyID)
		return "cancelled", c.Reason, err
	})
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, "key %s is kept, and disabled\n", arn)
	}
	return err
}
