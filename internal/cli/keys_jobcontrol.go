package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"cardea/internal/adminapi"
	"cardea/internal/vault"
)

type keysJobsCommand struct {
	vaultFlags
	output
	Tenant string `short:"t" placeholder:"NAME" help:"Only the jobs of this tenant."`
}

// Help implements kong.HelpProvider.
func (keysJobsCommand) Help() string {
	return "Examples:\n  cardea keys jobs\n  cardea keys jobs --config cardea.toml --tenant acme --output json"
}

func (c keysJobsCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	var jobs adminapi.List[*adminapi.Job]
	if err := v.call(ctx, "vault/Jobs", &adminapi.TenantReason{Tenant: c.Tenant}, &jobs); err != nil {
		return err
	}
	if jobs.Items == nil {
		jobs.Items = []*adminapi.Job{}
	}
	return c.print(p.Stdout, jobs.Items, func(w io.Writer) error {
		var rows [][]string
		for _, j := range jobs.Items {
			rows = append(rows, []string{
				j.ID, string(j.Kind), j.Tenant, j.Holder, j.Reason, stepText(j), fmt.Sprintf("%d of %d", j.Moved, j.Total), strconv.FormatInt(j.Bad, 10), day(j.Created), j.Error,
			})
		}
		return table(w, "no job", []string{"JOB", "KIND", "TENANT", "OF", "REASON", "STATE", "MOVED", "BAD", "BEGUN", "PROBLEM"}, rows)
	})
}

func stepText(j *adminapi.Job) string {
	if j.State == vault.JobRunning && j.Step != "" {
		return "running: " + j.Step
	}
	return string(j.State)
}

// jobArg names a job.
type jobArg struct {
	vaultFlags
	Job string `arg:"" help:"The job's id, as 'cardea keys jobs' shows it."`
}

func (a jobArg) change(ctx context.Context, p *Process, operation, done string) error {
	v, err := a.connect(ctx, p)
	var j adminapi.Job
	if err == nil {
		err = v.call(ctx, operation, &adminapi.JobID{ID: a.Job}, &j)
	}
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, "job %s is %s\n", j.ID, done)
	}
	return err
}

type keysPauseCommand struct{ jobArg }

// Help implements kong.HelpProvider.
func (keysPauseCommand) Help() string {
	return "Examples:\n  cardea keys pause 01980000-0000-7000-8000-000000000000"
}

func (c keysPauseCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "vault/Pause", "paused; 'cardea keys continue' carries it on")
}

type keysContinueCommand struct{ jobArg }

// Help implements kong.HelpProvider.
func (keysContinueCommand) Help() string {
	return "Examples:\n  cardea keys continue 01980000-0000-7000-8000-000000000000"
}

func (c keysContinueCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "vault/Continue", "continued")
}

type keysCancelCommand struct{ jobArg }

// Help implements kong.HelpProvider.
func (keysCancelCommand) Help() string {
	return "Examples:\n  cardea keys cancel 01980000-0000-7000-8000-000000000000\n\n" +
		"What was moved stays moved, and is read as before. Shredding cannot be cancelled."
}

func (c keysCancelCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "vault/Cancel", "cancelled")
}

type keysWaitCommand struct {
	jobArg
	output
}

// Help implements kong.HelpProvider.
func (keysWaitCommand) Help() string {
	return "Examples:\n  cardea keys wait 01980000-0000-7000-8000-000000000000\n\nExit status 1 if the job fails."
}

func (c keysWaitCommand) Run(ctx context.Context, p *Process) error {
	v, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	return v.watch(ctx, p, c.output, c.Job)
}
