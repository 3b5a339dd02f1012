package cli

import (
	"context"
	"io"
	"strings"

	"cardea/internal/identity"
)

type identityGroupCommands struct {
	Create     identityGroupCreateCommand `cmd:"" help:"Make a group without users."`
	List       identityGroupListCommand   `cmd:"" help:"List groups."`
	Show       identityGroupShowCommand   `cmd:"" help:"Tell a group's users and policies."`
	Delete     identityGroupDeleteCommand `cmd:"" help:"Delete a group that has neither users nor policies."`
	AddUser    identityGroupAddCommand    `cmd:"" help:"Make a user a member of a group."`
	RemoveUser identityGroupRemoveCommand `cmd:"" help:"End a user's membership of a group."`
}

type identityGroupCreateCommand struct {
	identityFlags
	output
	Name string `arg:"" help:"Name of the group."`
	Path string `default:"/" placeholder:"PATH" help:"Path in the ARN (default /)."`
}

// Help implements kong.HelpProvider.
func (identityGroupCreateCommand) Help() string {
	return "Examples:\n  cardea identity group create auditors"
}

func (c identityGroupCreateCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var g identity.Group
	if err := k.call(ctx, "identity/CreateGroup", &identity.CreateGroupInput{Account: c.Account, Name: c.Name, Path: c.Path}, &g); err != nil {
		return err
	}
	return c.print(p.Stdout, groupOf(g), groupText(g))
}

func groupText(g identity.Group) func(io.Writer) error {
	return func(w io.Writer) error {
		return fields(w, []string{"group", g.Name}, []string{"arn", g.ARN}, []string{"id", g.ID}, []string{"created", day(g.CreatedAt)},
			[]string{"policies", strings.Join(g.Policies, ", ")}, []string{"users", strings.Join(g.Members, ", ")})
	}
}

type identityGroupListCommand struct {
	identityFlags
	output
	listFlags
}

// Help implements kong.HelpProvider.
func (identityGroupListCommand) Help() string {
	return "Examples:\n  cardea identity group list\n  cardea identity group list --config cardea.toml --output json"
}

func (c identityGroupListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	all, err := listAll[identity.Group](ctx, k, "identity/ListGroups", identity.Page{Account: c.Account, Prefix: c.PathPrefix})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, views(all, groupOf), func(w io.Writer) error {
		var rows [][]string
		for _, g := range all {
			rows = append(rows, []string{g.Name, g.ARN, day(g.CreatedAt), strings.Join(g.Policies, ",")})
		}
		return table(w, "no group", []string{"GROUP", "ARN", "CREATED", "POLICIES"}, rows)
	})
}

type identityGroupShowCommand struct {
	identityFlags
	output
	Name string `arg:"" help:"Name of the group."`
}

// Help implements kong.HelpProvider.
func (identityGroupShowCommand) Help() string {
	return "Examples:\n  cardea identity group show auditors"
}

func (c identityGroupShowCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var g identity.Group
	if err := k.call(ctx, "identity/DescribeGroup", &identity.EntityInput{Account: c.Account, Name: c.Name}, &g); err != nil {
		return err
	}
	return c.print(p.Stdout, groupOf(g), groupText(g))
}

type identityGroupDeleteCommand struct {
	identityFlags
	Name string `arg:"" help:"Name of the group."`
}

// Help implements kong.HelpProvider.
func (identityGroupDeleteCommand) Help() string {
	return "Examples:\n  cardea identity group delete auditors"
}

func (c identityGroupDeleteCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/DeleteGroup", func() any {
		return &identity.EntityInput{Account: c.Account, Name: c.Name}
	}, "group %s is deleted", c.Name)
}

// memberArgs name a group and a user.
type memberArgs struct {
	Group string `arg:"" help:"Name of the group."`
	User  string `arg:"" help:"Name of the user."`
}

type identityGroupAddCommand struct {
	identityFlags
	memberArgs
}

// Help implements kong.HelpProvider.
func (identityGroupAddCommand) Help() string {
	return "Examples:\n  cardea identity group add-user auditors alice"
}

func (c identityGroupAddCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/AddUserToGroup", func() any {
		return &identity.MemberInput{Account: c.Account, Group: c.Group, User: c.User}
	}, "user %s is a member of group %s", c.User, c.Group)
}

type identityGroupRemoveCommand struct {
	identityFlags
	memberArgs
}

// Help implements kong.HelpProvider.
func (identityGroupRemoveCommand) Help() string {
	return "Examples:\n  cardea identity group remove-user auditors alice"
}

func (c identityGroupRemoveCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/RemoveUserFromGroup", func() any {
		return &identity.MemberInput{Account: c.Account, Group: c.Group, User: c.User}
	}, "user %s is no member of group %s", c.User, c.Group)
}
