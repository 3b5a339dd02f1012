package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cardea/internal/identity"
)

type identityRoleCommands struct {
	Create         identityRoleCreateCommand `cmd:"" help:"Make a role that others can assume for a time."`
	List           identityRoleListCommand   `cmd:"" help:"List roles."`
	Show           identityRoleShowCommand   `cmd:"" help:"Tell everything about a role but its policies' text."`
	Delete         identityRoleDeleteCommand `cmd:"" help:"Delete a role without policies; its sessions end."`
	Update         identityRoleUpdateCommand `cmd:"" help:"Change a role's description or the longest session."`
	Trust          identityRoleTrustCommand  `cmd:"" help:"Replace a role's trust policy: who may assume it."`
	Tag            identityRoleTagCommand    `cmd:"" help:"Set tags of a role."`
	Untag          identityRoleUntagCommand  `cmd:"" help:"Remove tags of a role."`
	RevokeSessions identityRoleRevokeCommand `cmd:"" help:"End all sessions of a role."`
}

type identityRoleCreateCommand struct {
	identityFlags
	output
	newFlags
	Name        string        `arg:"" help:"Name of the role."`
	Trust       string        `type:"path" required:"" placeholder:"FILE" help:"Policy document that says who may assume it; - is standard input."`
	Description string        `placeholder:"TEXT" help:"What it is for."`
	MaxSession  time.Duration `default:"1h" placeholder:"TIME" help:"The longest session, 1h to 12h (default 1h)."`
}

// Help implements kong.HelpProvider.
func (identityRoleCreateCommand) Help() string {
	return "Examples:\n  cardea identity role create decrypter --trust trust.json\n" +
		"  cardea identity role create decrypter --trust trust.json --max-session 4h --description 'reads cards for disputes'"
}

func (c identityRoleCreateCommand) Run(ctx context.Context, p *Process) error {
	if c.Boundary == "-" && c.Trust == "-" {
		return usageError{errors.New("--boundary, --trust: only one of them can be on standard input")}
	}
	tags, boundary, err := c.read(p)
	if err != nil {
		return err
	}
	trust, err := readDocument(p, c.Trust)
	if err != nil {
		return fmt.Errorf("--trust: %w", err)
	}
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var r identity.Role
	if err := k.call(ctx, "identity/CreateRole", &identity.CreateRoleInput{
		Account: c.Account, Name: c.Name, Path: c.Path, TrustPolicy: trust, Description: c.Description,
		MaxSession: int(c.MaxSession / time.Second), Tags: tags, Boundary: boundary,
	}, &r); err != nil {
		return err
	}
	return c.print(p.Stdout, roleOf(r), roleText(r))
}

func roleText(r identity.Role) func(io.Writer) error {
	return func(w io.Writer) error {
		return fields(w,
			[]string{"role", r.Name}, []string{"arn", r.ARN}, []string{"id", r.ID}, []string{"created", day(r.CreatedAt)},
			[]string{"description", r.Description}, []string{"longest session", (time.Duration(r.MaxSession) * time.Second).String()},
			[]string{"tags", tagText(r.Tags)}, []string{"policies", strings.Join(r.Policies, ", ")},
			[]string{"boundary", r.Boundary}, []string{"trust", r.TrustPolicy})
	}
}

type identityRoleListCommand struct {
	identityFlags
	output
	listFlags
}

// Help implements kong.HelpProvider.
func (identityRoleListCommand) Help() string {
	return "Examples:\n  cardea identity role list\n  cardea identity role list --config cardea.toml --output json"
}

func (c identityRoleListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	all, err := listAll[identity.Role](ctx, k, "identity/ListRoles", identity.Page{Account: c.Account, Prefix: c.PathPrefix})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, views(all, roleOf), func(w io.Writer) error {
		var rows [][]string
		for _, r := range all {
			rows = append(rows, []string{r.Name, r.ARN, day(r.CreatedAt), strings.Join(r.Policies, ","), r.Description})
		}
		return table(w, "no role", []string{"ROLE", "ARN", "CREATED", "POLICIES", "DESCRIPTION"}, rows)
	})
}

type identityRoleShowCommand struct {
	identityFlags
	output
	Name string `arg:"" help:"Name of the role."`
}

// Help implements kong.HelpProvider.
func (identityRoleShowCommand) Help() string {
	return "Examples:\n  cardea identity role show decrypter\n  cardea identity role show decrypter --output json"
}

func (c identityRoleShowCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var r identity.Role
	if err := k.call(ctx, "identity/DescribeRole", &identity.EntityInput{Account: c.Account, Name: c.Name}, &r); err != nil {
		return err
	}
	return c.print(p.Stdout, roleOf(r), roleText(r))
}

type identityRoleDeleteCommand struct {
	identityFlags
	Name string `arg:"" help:"Name of the role."`
}

// Help implements kong.HelpProvider.
func (identityRoleDeleteCommand) Help() string {
	return "Examples:\n  cardea identity role delete decrypter"
}

func (c identityRoleDeleteCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/DeleteRole", func() any {
		return &identity.EntityInput{Account: c.Account, Name: c.Name}
	}, "role %s is deleted", c.Name)
}

type identityRoleUpdateCommand struct {
	identityFlags
	Name        string        `arg:"" help:"Name of the role."`
	Description *string       `placeholder:"TEXT" help:"What it is for."`
	MaxSession  time.Duration `placeholder:"TIME" help:"The longest session, 1h to 12h."`
}

// Help implements kong.HelpProvider.
func (identityRoleUpdateCommand) Help() string {
	return "Examples:\n  cardea identity role update decrypter --max-session 2h\n" +
		"  cardea identity role update decrypter --description 'reads cards for disputes'\n\n" +
		"Sessions that exist go on as they are."
}

func (c identityRoleUpdateCommand) Run(ctx context.Context, p *Process) error {
	if c.Description == nil && c.MaxSession == 0 {
		return usageError{errors.New("nothing to change: give --description, --max-session or both")}
	}
	return c.do(ctx, p, "identity/UpdateRole", func() any {
		return &identity.UpdateRoleInput{Account: c.Account, Name: c.Name, Description: c.Description, MaxSession: int(c.MaxSession / time.Second)}
	}, "role %s is changed", c.Name)
}

type identityRoleTrustCommand struct {
	identityFlags
	Name     string `arg:"" help:"Name of the role."`
	Document string `arg:"" type:"path" name:"file" help:"Policy document that says who may assume it; - is standard input."`
}

// Help implements kong.HelpProvider.
func (identityRoleTrustCommand) Help() string {
	return "Examples:\n  cardea identity role trust decrypter trust.json\n\n" +
		"Sessions that exist go on: see 'cardea identity role revoke-sessions'."
}

func (c identityRoleTrustCommand) Run(ctx context.Context, p *Process) error {
	text, err := readDocument(p, c.Document)
	if err != nil {
		return err
	}
	return c.do(ctx, p, "identity/UpdateTrustPolicy", func() any {
		return &identity.TrustInput{Account: c.Account, Role: c.Name, Document: text}
	}, "role %s has a new trust policy", c.Name)
}

type identityRoleTagCommand struct {
	identityFlags
	Name string   `arg:"" help:"Name of the role."`
	Tags []string `arg:"" name:"tag" sep:"none" help:"KEY=VALUE; one of the same key is replaced."`
}

// Help implements kong.HelpProvider.
func (identityRoleTagCommand) Help() string {
	return "Examples:\n  cardea identity role tag decrypter team=disputes"
}

func (c identityRoleTagCommand) Run(ctx context.Context, p *Process) error {
	tags, err := parseTags("tag", c.Tags)
	if err != nil {
		return err
	}
	return c.do(ctx, p, "identity/TagRole", func() any {
		return &identity.TagInput{Account: c.Account, Name: c.Name, Tags: tags}
	}, "role %s is tagged", c.Name)
}

type identityRoleUntagCommand struct {
	identityFlags
	Name string   `arg:"" help:"Name of the role."`
	Keys []string `arg:"" name:"key" sep:"none" help:"Key of a tag."`
}

// Help implements kong.HelpProvider.
func (identityRoleUntagCommand) Help() string {
	return "Examples:\n  cardea identity role untag decrypter team"
}

func (c identityRoleUntagCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/UntagRole", func() any {
		return &identity.TagInput{Account: c.Account, Name: c.Name, Keys: c.Keys}
	}, "role %s is untagged", c.Name)
}

type identityRoleRevokeCommand struct {
	identityFlags
	Name string `arg:"" help:"Name of the role."`
}

// Help implements kong.HelpProvider.
func (identityRoleRevokeCommand) Help() string {
	return "Examples:\n  cardea identity role revoke-sessions decrypter\n\n" +
		"Whoever may assume the role can begin a new session: see 'cardea identity role trust'."
}

func (c identityRoleRevokeCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/RevokeSessions", func() any {
		return &identity.RevokeInput{Account: c.Account, Role: c.Name}
	}, "the sessions of role %s are ended", c.Name)
}
