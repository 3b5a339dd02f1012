package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"cardea/internal/adminapi"
	"cardea/internal/identity"
)

type identityUserCommands struct {
	Create         identityUserCreateCommand `cmd:"" help:"Make a user, who may do nothing yet."`
	List           identityUserListCommand   `cmd:"" help:"List users."`
	Show           identityUserShowCommand   `cmd:"" help:"Tell everything about a user but his policies' text."`
	Delete         identityUserDeleteCommand `cmd:"" help:"Delete a user; his keys and sessions are of no use from then on."`
	Tag            identityUserTagCommand    `cmd:"" help:"Set tags of a user, which policies may ask for."`
	Untag          identityUserUntagCommand  `cmd:"" help:"Remove tags of a user."`
	RevokeSessions identityUserRevokeCommand `cmd:"" help:"End the sessions that a user began with GetSessionToken."`
}

// newFlags are common to users and roles when they are made.
type newFlags struct {
	Path     string   `default:"/" placeholder:"PATH" help:"Path in the ARN, such as /payments/ (default /)."`
	Tag      []string `sep:"none" placeholder:"KEY=VALUE" help:"A tag; repeat."`
	Boundary string   `type:"path" placeholder:"FILE" help:"Policy document of a permissions boundary; - is standard input."`
}

// read gets tags and the boundary's document.
func (f newFlags) read(p *Process) (tags []identity.Tag, boundary string, err error) {
	if tags, err = parseTags("--tag", f.Tag); err != nil {
		return nil, "", err
	}
	if f.Boundary != "" {
		boundary, err = readDocument(p, f.Boundary)
	}
	return tags, boundary, err
}

type identityUserCreateCommand struct {
	identityFlags
	output
	newFlags
	Name string `arg:"" help:"Name of the user."`
}

// Help implements kong.HelpProvider.
func (identityUserCreateCommand) Help() string {
	return "Examples:\n  cardea identity user create alice\n" +
		"  cardea identity user create payments-api --path /apps/ --tag team=payments --config cardea.toml\n\n" +
		"Then give policies with 'cardea identity policy put', and an access key with 'cardea identity key create'."
}

func (c identityUserCreateCommand) Run(ctx context.Context, p *Process) error {
	tags, boundary, err := c.read(p)
	if err != nil {
		return err
	}
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var u identity.User
	in := &identity.CreateUserInput{Account: c.Account, Name: c.Name, Path: c.Path, Tags: tags, Boundary: boundary}
	if err := k.call(ctx, "identity/CreateUser", in, &u); err != nil {
		return err
	}
	return c.print(p.Stdout, userOf(u), userText(u))
}

func userText(u identity.User) func(io.Writer) error {
	return func(w io.Writer) error {
		return fields(w,
			[]string{"user", u.Name}, []string{"arn", u.ARN}, []string{"id", u.ID}, []string{"created", day(u.CreatedAt)},
			[]string{"tags", tagText(u.Tags)}, []string{"groups", strings.Join(u.Groups, ", ")},
			[]string{"policies", strings.Join(u.Policies, ", ")}, []string{"boundary", u.Boundary},
			[]string{"access keys", strings.Join(u.AccessKeys, ", ")}, []string{"second factors", strings.Join(u.MFADevices, ", ")})
	}
}

// listFlags are common to lists of users, groups and roles.
type listFlags struct {
	PathPrefix string `placeholder:"PATH" help:"Only those whose path begins so, such as /apps/."`
}

type identityUserListCommand struct {
	identityFlags
	output
	listFlags
}

// Help implements kong.HelpProvider.
func (identityUserListCommand) Help() string {
	return "Examples:\n  cardea identity user list\n  cardea identity user list --path-prefix /apps/ --output json"
}

func (c identityUserListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	all, err := listAll[identity.User](ctx, k, "identity/ListUsers", identity.Page{Account: c.Account, Prefix: c.PathPrefix})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, views(all, userOf), func(w io.Writer) error {
		var rows [][]string
		for _, u := range all {
			rows = append(rows, []string{
				u.Name, u.ARN, day(u.CreatedAt), strings.Join(u.Groups, ","), strings.Join(u.Policies, ","),
				fmt.Sprint(len(u.AccessKeys)), fmt.Sprint(len(u.MFADevices)),
			})
		}
		return table(w, "no user", []string{"USER", "ARN", "CREATED", "GROUPS", "POLICIES", "KEYS", "FACTORS"}, rows)
	})
}

type identityUserShowCommand struct {
	identityFlags
	output
	Name string `arg:"" help:"Name of the user."`
}

// Help implements kong.HelpProvider.
func (identityUserShowCommand) Help() string {
	return "Examples:\n  cardea identity user show alice\n  cardea identity user show alice --output json"
}

func (c identityUserShowCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var u identity.User
	if err := k.call(ctx, "identity/DescribeUser", &identity.EntityInput{Account: c.Account, Name: c.Name}, &u); err != nil {
		return err
	}
	return c.print(p.Stdout, userOf(u), userText(u))
}

type identityUserDeleteCommand struct {
	identityFlags
	Name  string `arg:"" help:"Name of the user."`
	Force bool   `help:"Delete his access keys, second factors, policies and memberships too."`
}

// Help implements kong.HelpProvider.
func (identityUserDeleteCommand) Help() string {
	return "Examples:\n  cardea identity user delete alice --force\n\n" +
		"Without --force, a user who has access keys, second factors, policies or groups is not deleted."
}

func (c identityUserDeleteCommand) Run(ctx context.Context, p *Process) error {
	err := c.do(ctx, p, "identity/DeleteUser", func() any {
		return &identity.DeleteUserInput{Account: c.Account, Name: c.Name, Force: c.Force}
	}, "user %s is deleted", c.Name)
	if refused, ok := errors.AsType[*adminapi.Error](err); ok && refused.Code == string(identity.CodeDeleteConflict) {
		return hinted(err, "--force deletes what belongs to the user too")
	}
	return err
}

type identityUserTagCommand struct {
	identityFlags
	Name string   `arg:"" help:"Name of the user."`
	Tags []string `arg:"" name:"tag" sep:"none" help:"KEY=VALUE; one of the same key is replaced."`
}

// Help implements kong.HelpProvider.
func (identityUserTagCommand) Help() string {
	return "Examples:\n  cardea identity user tag alice team=payments cost-center=42"
}

func (c identityUserTagCommand) Run(ctx context.Context, p *Process) error {
	tags, err := parseTags("tag", c.Tags)
	if err != nil {
		return err
	}
	return c.do(ctx, p, "identity/TagUser", func() any {
		return &identity.TagInput{Account: c.Account, Name: c.Name, Tags: tags}
	}, "user %s is tagged", c.Name)
}

type identityUserUntagCommand struct {
	identityFlags
	Name string   `arg:"" help:"Name of the user."`
	Keys []string `arg:"" name:"key" sep:"none" help:"Key of a tag."`
}

// Help implements kong.HelpProvider.
func (identityUserUntagCommand) Help() string {
	return "Examples:\n  cardea identity user untag alice cost-center"
}

func (c identityUserUntagCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/UntagUser", func() any {
		return &identity.TagInput{Account: c.Account, Name: c.Name, Keys: c.Keys}
	}, "user %s is untagged", c.Name)
}

type identityUserRevokeCommand struct {
	identityFlags
	Name string `arg:"" help:"Name of the user."`
}

// Help implements kong.HelpProvider.
func (identityUserRevokeCommand) Help() string {
	return "Examples:\n  cardea identity user revoke-sessions alice\n\n" +
		"His access keys stay as they are: see 'cardea identity key disable'."
}

func (c identityUserRevokeCommand) Run(ctx context.Context, p *Process) error {
	return c.do(ctx, p, "identity/RevokeSessions", func() any {
		return &identity.RevokeInput{Account: c.Account, User: c.Name}
	}, "the sessions of user %s are ended", c.Name)
}
