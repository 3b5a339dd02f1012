package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/vault"
)

type approvalRequestCommand struct {
	personKey
	registerFile
	journal
	Operation string        `required:"" placeholder:"OPERATION" help:"What is to be done, such as key.schedule-deletion; a wrong one gets the list."`
	Target    string        `required:"" placeholder:"WHAT" help:"To what: a key ARN, a tenant, a node."`
	Param     []string      `sep:"none" placeholder:"NAME=VALUE" help:"With what; repeat. Exactly these are approved."`
	Reason    string        `required:"" placeholder:"TEXT" help:"Why."`
	Approvals int           `default:"2" placeholder:"N" help:"How many others must approve (default 2)."`
	Expires   time.Duration `default:"72h" placeholder:"DURATION" help:"When it ends, at most 720h (default 72h)."`
	Out       string        `required:"" type:"path" placeholder:"FILE" help:"File for the request, which must not exist; it is not secret."`
}

// Help implements kong.HelpProvider.
func (approvalRequestCommand) Help() string {
	return "Examples:\n  cardea approval request --register people.toml --key alice.key --operation key.schedule-deletion " +
		"--target arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --param window=30 " +
		"--reason 'project ended, CHG-7' --out deletion.request"
}

func (c approvalRequestCommand) Run(ctx context.Context, p *Process) error {
	reg, err := c.read()
	if err != nil {
		return err
	}
	s, err := c.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	params, err := pairs("--param", c.Param)
	if err != nil {
		return err
	}
	r, signed, err := approval.Ask(approval.Request{
		Operation: approval.Operation(c.Operation), Target: c.Target, Params: params, Reason: c.Reason,
		Approvals: c.Approvals, Expires: p.Now().Add(c.Expires),
	}, reg, s, p.Now())
	if err != nil {
		return usageError{err}
	}
	err = c.perform(ctx, p, false, app.OpApprovalAsk, vault.Target{Reference: r.ID}, "", func() (string, string, error) {
		f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // it is to be passed on
		if err != nil {
			return "", "", fmt.Errorf("--out: %w", err)
		}
		_, err = f.Write(signed)
		return "asked", fmt.Sprintf("%s by %s, %s of %s", r.ID, s.Name(), r.Operation, r.Target), errors.Join(err, f.Sync(), f.Close())
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: give %s to %d others, who run 'cardea approval approve'.\n", r.ID, c.Out, r.Approvals)
	return err
}

// pairs reads NAME=VALUE flags.
func pairs(flag string, texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := out[name]; !ok || twice {
			return nil, usageError{fmt.Errorf("%s: %q is not NAME=VALUE, or is given twice", flag, text)}
		}
		out[name] = value
	}
	return out, nil
}

// stateView is how far a request is.
type stateView struct {
	ID        string            `json:"id"`
	Operation string            `json:"operation"`
	Target    string            `json:"target"`
	Params    map[string]string `json:"params,omitempty"`
	Reason    string            `json:"reason"`
	Requester string            `json:"requester"`
	Created   time.Time         `json:"created"`
	Expires   time.Time         `json:"expires"`
	Needed    int               `json:"approvals_needed"`
	Approvers []string          `json:"approvers"`
	Others    []string          `json:"others,omitempty"`
	State     string            `json:"state"` // approved, waiting, expired
}

func viewState(st *approval.State, now time.Time) stateView {
	r := st.Request
	v := stateView{
		ID: r.ID, Operation: string(r.Operation), Target: r.Target, Params: r.Params, Reason: r.Reason, Requester: r.Requester,
		Created: r.Created, Expires: r.Expires, Needed: r.Approvals, Approvers: append([]string{}, st.Approvers...), Others: st.Others, State: "waiting",
	}
	switch {
	case !now.Before(r.Expires):
		v.State = "expired"
	case st.Approved():
		v.State = "approved"
	}
	return v
}

func (v *stateView) text(w io.Writer) error {
	rows := [][]string{{"id", v.ID}, {"operation", v.Operation}, {"target", v.Target}}
	for _, name := range slices.Sorted(maps.Keys(v.Params)) {
		rows = append(rows, []string{name, v.Params[name]})
	}
	rows = append(rows, []string{"reason", v.Reason}, []string{"asked by", v.Requester + ", " + v.Created.Format(time.RFC3339)},
		[]string{"expires", v.Expires.Format(time.RFC3339)}, []string{"approvals", fmt.Sprintf("%d of %d: %s", len(v.Approvers), v.Needed, orNone(strings.Join(v.Approvers, ", ")))})
	for _, o := range v.Others {
		rows = append(rows, []string{"does not count", o})
	}
	return fields(w, append(rows, []string{"state", v.State})...)
}

type approvalShowCommand struct {
	Request string `arg:"" type:"path" placeholder:"FILE" help:"The request."`
	registerFile
	output
}

// Help implements kong.HelpProvider.
func (approvalShowCommand) Help() string {
	return "Examples:\n  cardea approval show deletion.request --register people.toml\n\nExit status 3 unless it is approved and in time."
}

func (c approvalShowCommand) Run(p *Process) error {
	reg, err := c.read()
	if err != nil {
		return err
	}
	signed, err := readSmall(c.Request)
	if err != nil {
		return err
	}
	st, err := approval.Open(signed, reg, p.Now())
	if err != nil {
		return err
	}
	v := viewState(st, p.Now())
	if err := c.print(p.Stdout, v, v.text); err != nil {
		return err
	}
	if v.State != "approved" {
		return errFindings
	}
	return nil
}

type approvalApproveCommand struct {
	Request string `arg:"" type:"path" placeholder:"FILE" help:"The request; your signature is added to it."`
	personKey
	registerFile
	journal
	output
}

// Help implements kong.HelpProvider.
func (approvalApproveCommand) Help() string {
	return "Examples:\n  cardea approval show deletion.request --register people.toml\n  cardea approval approve deletion.request --register people.toml --key bob.key"
}

func (c approvalApproveCommand) Run(ctx context.Context, p *Process) error {
	reg, err := c.read()
	if err != nil {
		return err
	}
	s, err := c.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	signed, release, err := readToReplace(c.Request)
	if err != nil {
		return err
	}
	defer release()
	st, out, err := approval.Approve(signed, reg, s, p.Now())
	if err != nil {
		return err
	}
	r := st.Request
	err = c.perform(ctx, p, false, app.OpApprovalApprove, vault.Target{Reference: r.ID}, "", func() (string, string, error) {
		return "approved", fmt.Sprintf("%s by %s, %s of %s", r.ID, s.Name(), r.Operation, r.Target), replaceFile(c.Request, out)
	})
	if err != nil {
		return err
	}
	v := viewState(st, p.Now())
	return c.print(p.Stdout, v, v.text)
}
