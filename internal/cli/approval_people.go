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
	Register string        `arg:"" type:"path" placeholder:"FILE" help:"Register of people."`
	Within   time.Duration `placeholder:"DURATION" help:"Find what ends within this time, too, such as 720h, so that it is renewed before (default 0s)."`
	output
}

// Help implements kong.HelpProvider.
func (approvalRegisterCommand) Help() string {
	return "Examples:\n  cardea approval register people.toml\n  cardea approval register people.toml --within 720h\n\n" +
		"Exit status 3 if somebody's time is over, a custodian has no acknowledgement in force, or one who left knows a part of a key: what he holds stays in the register until that key is replaced or divided anew."
}

// personView is a line of the register.
type personView struct {
	Name       string    `json:"name"`
	FullName   string    `json:"full_name"`
	Roles      []string  `json:"roles"`
	ValidUntil time.Time `json:"valid_until"`
	Left       time.Time `json:"left,omitzero"`

	AcknowledgedUntil time.Time       `json:"acknowledged_until,omitzero"`
	Holds             []approval.Part `json:"holds,omitempty"`
	Finding           string          `json:"finding,omitempty"`
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
		v := personView{
			Name: person.Name, FullName: person.FullName, ValidUntil: person.ValidUntil, Left: person.Left,
			AcknowledgedUntil: reg.AcknowledgedUntil(person.Name), Holds: person.Holds,
		}
		for _, r := range person.Roles {
			v.Roles = append(v.Roles, string(r))
		}
		var words []string
		for _, f := range reg.Review(person.Name, p.Now(), c.Within) {
			words = append(words, f.Error())
		}
		v.Finding = strings.Join(words, "; ")
		findings = findings || v.Finding != ""
		if v.Finding == "" && !person.Left.IsZero() && !p.Now().Before(person.Left) {
			v.Finding = "left on " + person.Left.Format(time.DateOnly) // nothing is to be done
		}
		var holds []string
		for _, part := range v.Holds {
			holds = append(holds, part.String())
		}
		people = append(people, v)
		rows = append(rows, []string{v.Name, v.FullName, strings.Join(v.Roles, ", "), day(v.ValidUntil), day(v.AcknowledgedUntil), strings.Join(holds, ", "), v.Finding})
	}
	err = c.print(p.Stdout, struct {
		SHA256 string       `json:"sha256"`
		People []personView `json:"people"`
	}{reg.Digest(), people}, func(w io.Writer) error {
		return table(w, "nobody is in the register", []string{"NAME", "FULL NAME", "ROLES", "VALID UNTIL", "ACKNOWLEDGED UNTIL", "HOLDS", "FINDING"}, rows)
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
