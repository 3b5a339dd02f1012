package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"cardea/internal/identity"
)

type identityPolicyCommands struct {
	Put    identityPolicyPutCommand    `cmd:"" help:"Give a policy to a user, role or group; one of the same name is replaced."`
	Show   identityPolicyShowCommand   `cmd:"" help:"Print a policy."`
	Delete identityPolicyDeleteCommand `cmd:"" help:"Take a policy away."`
}

// holderFlags name who has a policy.
type holderFlags struct {
	User  string `required:"" xor:"holder" placeholder:"NAME" help:"The user who has it."`
	Role  string `required:"" xor:"holder" placeholder:"NAME" help:"The role that has it."`
	Group string `required:"" xor:"holder" placeholder:"NAME" help:"The group that has it."`
}

// holder is the kind of the holder as operations spell it, and as people do, and
// its name.
func (h holderFlags) holder() (kind, spoken, name string) {
	switch {
	case h.User != "":
		return "User", "user", h.User
	case h.Role != "":
		return "Role", "role", h.Role
	}
	return "Group", "group", h.Group
}

type identityPolicyPutCommand struct {
	identityFlags
	holderFlags
	Name     string `arg:"" help:"Name of the policy."`
	Document string `arg:"" type:"path" name:"file" help:"Policy document; - is standard input."`
}

// Help implements kong.HelpProvider.
func (identityPolicyPutCommand) Help() string {
	return "Examples:\n  cardea identity policy put --user alice read-keys read-keys.json\n" +
		"  cardea identity policy put --group auditors read-keys - < read-keys.json\n\n" +
		"Whether a request is then allowed, 'cardea kms explain' tells."
}

func (c identityPolicyPutCommand) Run(ctx context.Context, p *Process) error {
	text, err := readDocument(p, c.Document)
	if err != nil {
		return err
	}
	kind, spoken, name := c.holder()
	return c.do(ctx, p, "identity/Put"+kind+"Policy", func() any {
		return &identity.PolicyInput{Account: c.Account, Entity: name, Name: c.Name, Document: text}
	}, "%s %s has policy %s", spoken, name, c.Name)
}

type identityPolicyShowCommand struct {
	identityFlags
	holderFlags
	Name string `arg:"" help:"Name of the policy."`
}

// Help implements kong.HelpProvider.
func (identityPolicyShowCommand) Help() string {
	return "Examples:\n  cardea identity policy show --user alice read-keys\n\nIt is printed as it was put."
}

func (c identityPolicyShowCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	kind, _, name := c.holder()
	var policy identity.Policy
	in := &identity.PolicyInput{Account: c.Account, Entity: name, Name: c.Name}
	if err := k.call(ctx, "identity/Get"+kind+"Policy", in, &policy); err != nil {
		return err
	}
	_, err = io.WriteString(p.Stdout, strings.TrimSuffix(policy.Document, "\n")+"\n")
	return err
}

type identityPolicyDeleteCommand struct {
	identityFlags
	holderFlags
	Name string `arg:"" help:"Name of the policy."`
}

// Help implements kong.HelpProvider.
func (identityPolicyDeleteCommand) Help() string {
	return "Examples:\n  cardea identity policy delete --user alice read-keys"
}

func (c identityPolicyDeleteCommand) Run(ctx context.Context, p *Process) error {
	kind, spoken, name := c.holder()
	return c.do(ctx, p, "identity/Delete"+kind+"Policy", func() any {
		return &identity.PolicyInput{Account: c.Account, Entity: name, Name: c.Name}
	}, "%s %s has no policy %s", spoken, name, c.Name)
}

type identityBoundaryCommands struct {
	Set   identityBoundarySetCommand   `cmd:"" help:"Set what a user or role may do at most, whatever its policies allow."`
	Clear identityBoundaryClearCommand `cmd:"" help:"Remove the permissions boundary of a user or role."`
}

// boundedFlags name who has a permissions boundary.
type boundedFlags struct {
	User string `required:"" xor:"holder" placeholder:"NAME" help:"The user."`
	Role string `required:"" xor:"holder" placeholder:"NAME" help:"The role."`
}

func (b boundedFlags) set(ctx context.Context, p *Process, f identityFlags, text, outcome string) error {
	kind, spoken, name := holderFlags{User: b.User, Role: b.Role}.holder()
	return f.do(ctx, p, "identity/Set"+kind+"Boundary", func() any {
		return &identity.BoundaryInput{Account: f.Account, Entity: name, Document: text}
	}, "%s", fmt.Sprintf("%s %s has %s permissions boundary", spoken, name, outcome))
}

type identityBoundarySetCommand struct {
	identityFlags
	boundedFlags
	Document string `arg:"" type:"path" name:"file" help:"Policy document; - is standard input."`
}

// Help implements kong.HelpProvider.
func (identityBoundarySetCommand) Help() string {
	return "Examples:\n  cardea identity boundary set --user alice at-most.json"
}

func (c identityBoundarySetCommand) Run(ctx context.Context, p *Process) error {
	text, err := readDocument(p, c.Document)
	if err != nil {
		return err
	}
	return c.set(ctx, p, c.identityFlags, text, "a new")
}

type identityBoundaryClearCommand struct {
	identityFlags
	boundedFlags
}

// Help implements kong.HelpProvider.
func (identityBoundaryClearCommand) Help() string {
	return "Examples:\n  cardea identity boundary clear --user alice"
}

func (c identityBoundaryClearCommand) Run(ctx context.Context, p *Process) error {
	return c.set(ctx, p, c.identityFlags, "", "no")
}
