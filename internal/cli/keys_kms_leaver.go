package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/iam"
	"cardea/internal/lifecycle"
)

type keysLeaverCommand struct {
	keyAccess
	journal
	output
	approvedWork
	touchFlags
	Principal []string `required:"" sep:"none" placeholder:"ARN" help:"User or role of the person who leaves; repeat."`
	Reason    string   `required:"" placeholder:"TEXT" help:"Why; the same as in the request."`
	Person    string   `placeholder:"NAME" help:"The person's name in the register of people, by which parts of key material are found."`
	Regions   []string `placeholder:"REGION" help:"Regions whose keys are looked at (default: that of --region or AWS's configuration)."`
	AWSIAM    bool     `name:"aws-iam" help:"Also look into AWS IAM, and deactivate the access keys there."`
}

// Help implements kong.HelpProvider.
func (keysLeaverCommand) Help() string {
	return "Examples:\n  cardea keys leaver --principal arn:aws:iam::111122223333:user/bob --person bob --reason 'left on 30 November' --dry-run\n" +
		"  cardea keys leaver --principal arn:aws:iam::111122223333:user/bob --person bob --reason 'left on 30 November' --aws-iam --register people.toml --approval leaver.request --config cardea.toml\n\n" +
		"At once, without approval, his access keys and sessions are made of no use: on the key service of the installation, and with --aws-iam in AWS IAM (PCI DSS 8.2.5). " +
		"With approval of exactly what --dry-run shows, grants to him are revoked, he is dropped from policies of keys, and keys are rotated of whose material he held a part (PCI DSS 3.7.5). " +
		"It may be stopped at any step and run again: it goes on where it was, and tells what is open. Exit status 3 while something is. " +
		notCounted
}

func (c keysLeaverCommand) Run(ctx context.Context, p *Process) error {
	if strings.TrimSpace(c.Reason) == "" {
		return usageError{errors.New("--reason: say why: it is recorded")}
	}
	for _, arn := range c.Principal {
		who, err := iam.ParseAWSPrincipal(arn)
		if err != nil || who.Kind != iam.PrincipalUser && who.Kind != iam.PrincipalRole {
			return usageError{fmt.Errorf("--principal: %q is not the ARN of a user or role", arn)}
		}
	}
	c.asked = newOwnCalls(p.Now())
	policy, err := c.policy()
	if err != nil {
		return err
	}
	d, err := c.departure(ctx, p)
	if err != nil {
		return err
	}
	if !c.DryRun {
		cfg, err := installation(p, c.Config, c.DataDir)
		if err != nil {
			return err
		}
		held, err := workAlone(cfg, "people who leave") // two at once could undo each other's change of a policy
		if err != nil {
			return err
		}
		defer held.release()
	}
	x, err := c.state(ctx, p, d)
	if err != nil {
		return err
	}
	n, err := x.Needed(policy)
	if err != nil {
		return err
	}
	switch {
	case c.DryRun:
		fmt.Fprintf(p.Stderr, "cardea: nothing was done; it needs approval: %s --reason %s\n", n.Command(), quoted(x.Reason))
		return c.print(p.Stdout, x, reportText(x.Report()))
	case x.Closed:
		if err := writeReport(c.Report, x.Report()); err != nil { // it may have been stopped before it was written
			return err
		}
		return c.print(p.Stdout, x, reportText(x.Report()))
	}
	err = c.performLong(ctx, p, app.OpLifecycleLeaver, "", strings.Join(x.Principals, ", ")+": "+x.Reason, func() (string, string, error) {
		if err := d.Deactivate(ctx, x); err != nil {
			return "", x.Reason, err
		}
		st, ledger, err := c.check(p, c.journal, &x.Approval, n)
		if err = executed(err, x.Finished); err != nil {
			return "", x.Reason, hinted(err, "(access keys are off already; what the approval is for, --dry-run tells)")
		}
		if st.Request.Reason != x.Reason {
			return "", x.Reason, fmt.Errorf("--reason: the request's is %q: what was approved is what is done", st.Request.Reason)
		}
		if err := d.Depart(ctx, x); err != nil {
			return "", x.Reason, hinted(err, "(the same command goes on: %s tells how far it is)", filepath.Join(c.Report, stateFile))
		}
		if !x.Finished.IsZero() {
			x.Closed = true
			err = errors.Join(finish(ledger, st, "finished, nothing is open"), d.Save(x))
		}
		detail := fmt.Sprintf("%s: %s: %d steps, %d things open, %s", strings.Join(x.Principals, ", "), x.Reason, len(x.Steps), len(x.Open), x.Approval.String())
		return "departed", detail, errors.Join(err, writeReport(c.Report, x.Report()))
	})
	if err != nil {
		return err
	}
	if err := c.print(p.Stdout, x, reportText(x.Report())); err != nil {
		return err
	}
	if len(x.Open) > 0 {
		return errFindings
	}
	return nil
}

// departure says where to look for what the person could reach.
func (c *keysLeaverCommand) departure(ctx context.Context, p *Process) (*lifecycle.Departure, error) {
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return nil, err
	}
	if c.Report == "" {
		c.Report = filepath.Join(cfg.Node.DataDir, "leaver-"+strings.NewReplacer(":", "-", "/", "-").Replace(c.Principal[0]))
	}
	d := &lifecycle.Departure{Now: p.Now, Sleep: p.sleep, Save: func(x *lifecycle.Leaver) error { return saveState(c.Report, x) }}
	if len(c.Regions) == 0 {
		c.Regions = []string{c.Region}
	}
	for _, region := range c.Regions {
		at := c.keyAccess
		at.Region = region
		client, err := at.administer(ctx, "")
		if err != nil {
			return nil, err
		}
		d.Regions = append(d.Regions, lifecycle.Region{Name: client.Options().Region, KMS: client})
	}
	if cfg.KeyService.Enabled() {
		k, err := keyServiceFlags{Config: c.Config, DataDir: c.DataDir}.connect(ctx, p)
		if err != nil {
			return nil, err
		}
		d.Directories = append(d.Directories, serviceDirectory{k})
	}
	if c.AWSIAM {
		dir, err := newIAMDirectory(ctx, c.keyAccess)
		if err != nil {
			return nil, err
		}
		d.Directories = append(d.Directories, dir)
	}
	d.Register, err = c.registered(p)
	return d, err
}

// registered says what the register of people must still be told.
func (c *keysLeaverCommand) registered(p *Process) (string, error) {
	if c.Person == "" || c.Register == "" {
		return "", nil
	}
	reg, err := (registerFile{c.Register}).read()
	if err != nil {
		return "", err
	}
	person, err := reg.Person(c.Person)
	if err != nil {
		return "", fmt.Errorf("--person: %w", err)
	}
	if !person.Left.IsZero() && !p.Now().Before(person.Left) {
		return "", nil
	}
	return fmt.Sprintf("%s is still in the register as %v: write left = %s to that person in %s, and have the register reviewed", c.Person, person.Roles, p.Now().UTC().Truncate(time.Second).Format(time.RFC3339), c.Register), nil
}

// state reads how far the departure is, or finds what there is.
func (c *keysLeaverCommand) state(ctx context.Context, p *Process, d *lifecycle.Departure) (*lifecycle.Leaver, error) {
	x, err := readState[lifecycle.Leaver](c.Report, "cardea keys leaver")
	if err != nil {
		return nil, err
	}
	switch {
	case x != nil && x.Principals[0] != c.Principal[0]:
		return nil, fmt.Errorf("--report: %s is of %s: name another folder", c.Report, x.Principals[0])
	case x != nil && x.Approval.Given():
		return x, nil
	}
	old := x
	if x, err = d.Find(ctx, c.Principal); err != nil { // anew until it is approved: it may have changed
		return nil, err
	}
	if old != nil {
		x.Resume(old)
	}
	x.Person, x.Reason = c.Person, c.Reason
	t, err := c.look(ctx, p, c.journal, c.asked, func(e *cloudtrail.Event) bool { return slices.Contains(c.Principal, e.Principal) })
	if err != nil {
		return nil, err
	}
	t.Principals = nil
	x.Touched = t
	return x, c.parts(ctx, p, x)
}

// parts finds in our own logs which parts of key material the person held.
func (c *keysLeaverCommand) parts(ctx context.Context, p *Process, x *lifecycle.Leaver) (err error) {
	if c.Person == "" {
		return nil
	}
	logs, err := c.own(ctx, p, c.journal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLogs(logs)) }()
	for _, l := range logs {
		for _, origin := range l.origins {
			for n, err := range audit.Entries(ctx, l, origin, 0) {
				if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
					continue // counted by look
				}
				if err != nil {
					return err
				}
				if part := lifecycle.Part(&n.Entry, c.Person); part != nil {
					x.AddPart(part)
				}
			}
		}
	}
	return nil
}
