package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	unneededFlags
	KeyID    string `required:"" name:"key-id" placeholder:"KEY" help:"The key of AWS KMS or a key service: its id or ARN."`
	Window   int    `placeholder:"DAYS" help:"Days until it is destroyed, 7 to 30 (default: as the policy file says, else 30)."`
	File     string `type:"path" placeholder:"FILE" help:"Policy of keys, such as key-lifecycle.yaml: how many must approve, and for how long a key waits for its destruction (default: two others, 30 days)."`
	Approval string `required:"" type:"path" placeholder:"FILE" help:"Approved request for key.schedule-deletion of this key, with param window=DAYS."`
	Record   string `required:"" type:"path" placeholder:"FILE" help:"File for the destruction record, which you sign."`
}

// Help implements kong.HelpProvider.
func (keysScheduleDeletionCommand) Help() string {
	return "Examples:\n  cardea keys schedule-deletion --key-id 1234abcd-12ab-34cd-56ef-1234567890ab --window 30 --register people.toml --approval deletion.request --key carol.key --record destroyed.note --config cardea.toml\n\n" +
		"The request is made by 'cardea approval request --operation key.schedule-deletion --target KEY-ARN --param window=30' and approved by two others. " +
		"Refused while an alias names the key, it has replicas, it serves a class of the policy file, files or records of the vault that --config names are under it, or it was used lately. " +
		"'cardea keys retire --key-id' disables it and keeps its audit trail, too. Until the end of the window 'cardea keys cancel-deletion' keeps the key."
}

func (c keysScheduleDeletionCommand) Run(ctx context.Context, p *Process) error {
	if c.UnusedFor < 7 {
		return usageError{fmt.Errorf("--unused-for: %d must be 7 days or more", c.UnusedFor)}
	}
	policy, err := approvedWork{File: c.File}.policy()
	if err != nil {
		return err
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
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	held, err := workAlone(cfg, "key "+keyIDOf(c.KeyID))
	if err != nil {
		return err
	}
	defer held.release()
	k, err := lifecycle.Look(ctx, client, c.KeyID)
	if err != nil {
		return err
	}
	window, err := policy.Window(k.Class, c.Window)
	if err != nil {
		return usageError{fmt.Errorf("--window: %w", err)}
	}
	work := approvedWork{Register: c.Register, Approval: c.Approval}
	a := &lifecycle.Approved{}
	var d lifecycle.Destruction
	err = c.performLong(ctx, p, app.OpLifecycleDeletion, k.ARN, fmt.Sprintf("window %s", window), func() (string, string, error) {
		st, ledger, err := work.check(p, c.journal, a, policy.DeletionApproval(approval.KeyDeletion, k.ARN, window))
		if err != nil {
			return "", "", err
		}
		d = lifecycle.DestructionOf(k, a, st.Request.Reason, window, p.Now())
		detail := fmt.Sprintf("window %s, %s: %s", window, a.String(), d.Reason)
		if k.Live() { // else this goes on after a stop
			u := &lifecycle.Unneeded{KMS: client, Policy: policy}
			if err := c.unneeded(ctx, p, c.journal, u, k); err != nil {
				return "", detail, err
			}
			if d.Evidence, err = u.Prove(ctx, k); err != nil {
				return "", detail, err
			}
			d.LastUseText = d.Evidence[len(d.Evidence)-1]
		}
		if d.Deletion, err = lifecycle.ScheduleDeletion(ctx, client, k, window); err != nil {
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
		rows := [][]string{{"key", d.Key}, {"destroyed on", day(d.Deletion)}}
		for _, e := range d.Evidence {
			rows = append(rows, []string{"not needed", e})
		}
		return fields(w, append(rows, []string{"approved by", strings.Join(d.Approvers, ", ")}, []string{"record", c.Record + ", signed by " + s.Name()})...)
	})
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
