package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/vault"
)

// waitFlags say whether a command stays until the job that it begins has ended.
type waitFlags struct {
	Wait bool `negatable:"" default:"true" help:"Stay until the job has ended, and show how far it is (default). The job goes on without the command, too."`
}

// begin begins a job and, if it is to wait, watches it.
func (v *runningVault) begin(ctx context.Context, p *Process, o output, wait bool, operation string, in vault.JobRequest) error {
	var j adminapi.Job
	if err := v.call(ctx, operation, &in, &j); err != nil {
		return err
	}
	if wait {
		return v.watch(ctx, p, o, j.ID)
	}
	return o.print(p.Stdout, &j, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "job %s has begun: watch it by 'cardea keys wait %s'\n", j.ID, j.ID)
		return err
	})
}

// watch shows a job until it has ended, and how it ended.
func (v *runningVault) watch(ctx context.Context, p *Process, o output, id string) error {
	j, err := v.follow(ctx, p, id)
	if err != nil {
		return err
	}
	err = o.print(p.Stdout, j, func(out io.Writer) error {
		return fields(out, []string{"job", j.ID}, []string{"state", string(j.State)}, []string{"moved", strconv.FormatInt(j.Moved, 10)},
			[]string{"verified", strconv.FormatInt(j.Verified, 10)}, []string{"bad", strconv.FormatInt(j.Bad, 10)}, []string{"took", j.Done.Sub(j.Created).Round(time.Millisecond).String()})
	})
	if err == nil && j.State == vault.JobFailed {
		err = errors.New(printable(j.Error))
	}
	return err
}

// longestPause is how often a long job is asked for. Each time is an entry of the audit log.
const longestPause = 5 * time.Second

// follow shows how far a job is until it has ended, well or not.
func (v *runningVault) follow(ctx context.Context, p *Process, id string) (*adminapi.Job, error) {
	w := &jobWatch{p: p}
	defer w.clear()
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, longestPause) {
		var j adminapi.Job // anew: what is not in the next answer is not so any more
		if err := v.call(ctx, "vault/Job", &adminapi.JobID{ID: id}, &j); err != nil {
			return nil, err
		}
		if j.Ended() {
			return &j, nil
		}
		w.show(&j)
		if err := p.sleep(ctx, pause); err != nil {
			w.clear()
			fmt.Fprintf(p.Stderr, "job %s goes on without this command: 'cardea keys wait %s' watches it again\n", id, id)
			return nil, err
		}
	}
}

// jobWatch is what is shown of a job: a bar on a terminal, else a line when
// something has changed that somebody must know.
type jobWatch struct {
	p    *Process
	bar  *progress
	step string
	told string
}

func (w *jobWatch) show(j *adminapi.Job) {
	text := ""
	switch {
	case j.Error != "":
		text = "cannot go on just now: " + printable(j.Error)
	case j.State == vault.JobPaused:
		text = "paused; 'cardea keys continue " + j.ID + "' carries it on"
	case j.State == vault.JobWaiting:
		text = "waits until " + day(j.WaitUntil) + ", when every node knows of the change"
	}
	if text != "" {
		if text != w.told {
			w.clear()
			fmt.Fprintln(w.p.Stderr, text)
		}
		w.told = text
		return
	}
	if w.bar == nil || w.step != j.Step {
		w.clear()
		w.bar, w.step = newProgress(w.p, j.Step, "records"), j.Step
	}
	done := j.Moved
	if j.Step == "verify" {
		done = j.Verified
	}
	w.bar.set(done, max(done, j.Total))
}

func (w *jobWatch) clear() {
	if w.bar != nil {
		w.bar.finish()
	}
}
