package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/notekey"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

type approvalCommands struct {
	Keygen      approvalKeygenCommand      `cmd:"" help:"Make the key that a person signs with."`
	Register    approvalRegisterCommand    `cmd:"" help:"Check the register of people and list who may do what."`
	Acknowledge approvalAcknowledgeCommand `cmd:"" help:"Sign a key custodian's responsibilities (PCI DSS 3.7.8)."`
	Request     approvalRequestCommand     `cmd:"" help:"Ask for an operation that no one person may do alone."`
	Approve     approvalApproveCommand     `cmd:"" help:"Approve a request, after reading it."`
	Show        approvalShowCommand        `cmd:"" help:"Verify a request and tell how far it is."`
}

// maxNoteFile bounds the files that are read here, in bytes.
const maxNoteFile = 1 << 20

// readSmall reads a file of at most maxNoteFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxNoteFile+1))
	if err == nil && len(text) > maxNoteFile {
		err = fmt.Errorf("%s: longer than %d bytes", path, maxNoteFile)
	}
	return text, err
}

// personKey is the key file of a person.
type personKey struct {
	Key string `required:"" type:"path" placeholder:"FILE" help:"Your key, as 'cardea approval keygen' made it."`
}

func (k personKey) signer() (*notekey.Signer, error) {
	text, err := readSmall(k.Key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	key := secret.New(text)
	defer key.Destroy()
	s, err := notekey.Parse(key)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", k.Key, err)
	}
	return s, nil
}

// registerFile is the register of people.
type registerFile struct {
	Register string `required:"" type:"path" placeholder:"FILE" help:"Register of people: who may ask, approve, and hold parts of keys."`
}

func (r registerFile) read() (*approval.Register, error) {
	text, err := readSmall(r.Register)
	if err != nil {
		return nil, fmt.Errorf("--register: %w", err)
	}
	reg, err := approval.ParseRegister(text)
	if err != nil {
		return nil, fmt.Errorf("--register: %s: %w", r.Register, err)
	}
	return reg, nil
}

// journal is where a command of a person is recorded: the log of the command line in
// an installation's database.
type journal struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"journal" help:"Configuration of the installation whose audit log records this."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"journal" help:"Data folder of 'cardea dev' whose audit log records this (default ./cardea-data)."`
}

// perform does act as an operation that is recorded. Without an installation it is
// done and recorded nowhere, and says so, unless it must be recorded: what people
// sign on machines of their own is recorded where it is executed.
func (j journal) perform(ctx context.Context, p *Process, must bool, op *vault.Operation, t vault.Target, key string, act func() (result, detail string, err error)) error {
	if !must && len(j.Config) == 0 && j.DataDir == "" {
		if _, err := os.Stat("./cardea-data"); err != nil {
			fmt.Fprintln(p.Stderr, "cardea: no installation here (--config, --data-dir): recorded when it is executed")
			_, _, err := act()
			return err
		}
	}
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return err
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return err
	}
	err = tool.Gate.Perform(ctx, operator(p), op, t, key, act)
	return errors.Join(err, tool.Close())
}

type approvalKeygenCommand struct {
	Name string `required:"" placeholder:"NAME" help:"The person's name in the register: a-z, 0-9, dot, underscore, hyphen."`
	Out  string `required:"" type:"path" placeholder:"FILE" help:"File for the key, which must not exist. It is secret, and that person's alone."`
}

// Help implements kong.HelpProvider.
func (approvalKeygenCommand) Help() string {
	return "Examples:\n  cardea approval keygen --name alice --out alice.key\n\nWhat is printed goes into the register as the person's key."
}

func (c approvalKeygenCommand) Run(p *Process) error {
	key, verifier, err := notekey.Generate(c.Name)
	if err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	defer key.Destroy()
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err = f.Write(append(key.Expose(), '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err = fmt.Fprintln(p.Stdout, verifier)
	return err
}

type approvalRegisterCommand struct {
	Register string `arg:"" type:"path" placeholder:"FILE" help:"Register of people."`
	output
}

// Help implements kong.HelpProvider.
func (approvalRegisterCommand) Help() string {
	return "Examples:\n  cardea approval register people.toml\n\nExit status 3 if somebody's time is over, or a custodian has no acknowledgement in force."
}

// personView is a line of the register.
type personView struct {
	Name       string    `json:"name"`
	FullName   string    `json:"full_name"`
	Roles      []string  `json:"roles"`
	ValidUntil time.Time `json:"valid_until"`
	Left       time.Time `json:"left,omitzero"`
	Finding    string    `json:"finding,omitempty"`
}

func (c approvalRegisterCommand) Run(p *Process) error {
	reg, err := registerFile{c.Register}.read()
	if err != nil {
		return err
	}
	var (
		people   []personView
		rows     [][]string
		findings = false
	)
	for _, person := range reg.People {
		v := personView{Name: person.Name, FullName: person.FullName, ValidUntil: person.ValidUntil, Left: person.Left}
		for _, r := range person.Roles {
			v.Roles = append(v.Roles, string(r))
		}
		left := !person.Left.IsZero() && !p.Now().Before(person.Left)
		for _, r := range person.Roles {
			check := reg.May
			if r == approval.RoleCustodian {
				check = func(name string, _ approval.Role, now time.Time) error { return reg.Custodian(name, now) }
			}
			if err := check(person.Name, r, p.Now()); err != nil && v.Finding == "" {
				v.Finding = err.Error()
			}
		}
		findings = findings || v.Finding != "" && !left
		people = append(people, v)
		rows = append(rows, []string{v.Name, v.FullName, strings.Join(v.Roles, ", "), day(v.ValidUntil), v.Finding})
	}
	err = c.print(p.Stdout, struct {
		SHA256 string       `json:"sha256"`
		People []personView `json:"people"`
	}{reg.Digest(), people}, func(w io.Writer) error {
		return table(w, "nobody is in the register", []string{"NAME", "FULL NAME", "ROLES", "VALID UNTIL", "FINDING"}, rows)
	})
	if err == nil && findings {
		err = errFindings
	}
	return err
}

type approvalAcknowledgeCommand struct {
	personKey
	Life time.Duration `default:"8760h" placeholder:"DURATION" help:"For how long, at most 9600h (default 8760h)."`
	Yes  bool          `help:"I have read the responsibilities, which are printed without this, and accept them."`
}

// Help implements kong.HelpProvider.
func (approvalAcknowledgeCommand) Help() string {
	return "Examples:\n  cardea approval acknowledge --key alice.key\n  cardea approval acknowledge --key alice.key --yes > alice.ack\n\nWhat is printed goes into the register, as the person's acknowledgement."
}

func (c approvalAcknowledgeCommand) Run(p *Process) error {
	if !c.Yes {
		_, err := fmt.Fprintf(p.Stdout, "%s\n\nTo accept this, add --yes.\n", approval.Responsibilities)
		return err
	}
	s, err := c.signer()
	if err != nil {
		return err
	}
	defer s.Destroy()
	ack, err := approval.Acknowledge(s, p.Now(), c.Life)
	if err != nil {
		return fmt.Errorf("--life: %w", err)
	}
	_, err = p.Stdout.Write(ack)
	return err
}

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
	signed, err := readSmall(c.Request)
	if err != nil {
		return err
	}
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

// replaceFile replaces a file whole.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
