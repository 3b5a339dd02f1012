package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"cardea/internal/approval"
	"cardea/internal/notekey"
)

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
