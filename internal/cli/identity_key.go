package cli

import (
	"context"
	"io"

	"cardea/internal/identity"
)

type identityKeyCommands struct {
	Create  identityKeyCreateCommand  `cmd:"" help:"Make an access key for a user."`
	List    identityKeyListCommand    `cmd:"" help:"List a user's access keys."`
	Enable  identityKeyEnableCommand  `cmd:"" help:"Make an access key active again."`
	Disable identityKeyDisableCommand `cmd:"" help:"Make an access key, and the sessions begun with it, of no use for now."`
	Delete  identityKeyDeleteCommand  `cmd:"" help:"Delete an access key."`
	Unlock  identityKeyUnlockCommand  `cmd:"" help:"End the lockout of an access key after failed authentications."`
}

// userFlag names whose access key or second factor it is.
type userFlag struct {
	User string `required:"" placeholder:"NAME" help:"The user."`
}

type identityKeyCreateCommand struct {
	identityFlags
	output
	userFlag
	secretFlags
}

// Help implements kong.HelpProvider.
func (identityKeyCreateCommand) Help() string {
	return "Examples:\n  cardea identity key create --user alice --out-file alice.credentials\n" +
		"  cardea identity key create --user alice --show-secret --output json\n\n" +
		"A user has at most two, so that one can be replaced by the other."
}

func (c identityKeyCreateCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	return c.deliver(p, c.output, k, func() (*identity.NewAccessKey, error) {
		var key identity.NewAccessKey
		return &key, k.call(ctx, "identity/CreateAccessKey", &identity.EntityInput{Account: c.Account, Name: c.User}, &key)
	})
}

type identityKeyListCommand struct {
	identityFlags
	output
	userFlag
}

// Help implements kong.HelpProvider.
func (identityKeyListCommand) Help() string {
	return "Examples:\n  cardea identity key list --user alice\n  cardea identity key list --user alice --output json"
}

func (c identityKeyListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	var keys identity.List[identity.AccessKey]
	if err := k.call(ctx, "identity/ListAccessKeys", &identity.EntityInput{Account: c.Account, Name: c.User}, &keys); err != nil {
		return err
	}
	return c.print(p.Stdout, views(keys.Items, accessKeyOf), func(w io.Writer) error {
		var rows [][]string
		for _, key := range keys.Items {
			state := "active"
			if !key.Active {
				state = "inactive"
			}
			if key.LockedUntil.After(p.Now()) {
				state = "locked"
			}
			rows = append(rows, []string{key.ID, state, day(key.CreatedAt), day(key.LockedUntil)})
		}
		return table(w, "no access key", []string{"ACCESS KEY", "STATE", "CREATED", "LOCKED UNTIL"}, rows)
	})
}

// accessKeyArgs name an access key.
type accessKeyArgs struct {
	identityFlags
	userFlag
	ID string `arg:"" help:"The access key's id, AKIA…."`
}

func (a accessKeyArgs) change(ctx context.Context, p *Process, operation string, active bool, outcome string) error {
	return a.do(ctx, p, operation, func() any {
		return &identity.AccessKeyInput{Account: a.Account, User: a.User, ID: a.ID, Active: active}
	}, "access key %s is %s", a.ID, outcome)
}

type identityKeyEnableCommand struct{ accessKeyArgs }

// Help implements kong.HelpProvider.
func (identityKeyEnableCommand) Help() string {
	return "Examples:\n  cardea identity key enable --user alice AKIAIOSFODNN7EXAMPLE"
}

func (c identityKeyEnableCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "identity/UpdateAccessKey", true, "active")
}

type identityKeyDisableCommand struct{ accessKeyArgs }

// Help implements kong.HelpProvider.
func (identityKeyDisableCommand) Help() string {
	return "Examples:\n  cardea identity key disable --user alice AKIAIOSFODNN7EXAMPLE"
}

func (c identityKeyDisableCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "identity/UpdateAccessKey", false, "inactive")
}

type identityKeyDeleteCommand struct{ accessKeyArgs }

// Help implements kong.HelpProvider.
func (identityKeyDeleteCommand) Help() string {
	return "Examples:\n  cardea identity key delete --user alice AKIAIOSFODNN7EXAMPLE"
}

func (c identityKeyDeleteCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "identity/DeleteAccessKey", false, "deleted")
}

type identityKeyUnlockCommand struct{ accessKeyArgs }

// Help implements kong.HelpProvider.
func (identityKeyUnlockCommand) Help() string {
	return "Examples:\n  cardea identity key unlock --user alice AKIAIOSFODNN7EXAMPLE\n\n" +
		"First make sure who asks for it (PCI DSS 8.3.4). A lockout ends by itself after half an hour."
}

func (c identityKeyUnlockCommand) Run(ctx context.Context, p *Process) error {
	return c.change(ctx, p, "identity/UnlockAccessKey", false, "unlocked")
}
