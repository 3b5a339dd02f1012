package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cardea/internal/identity"
	"cardea/internal/secret"
)

type identityCommands struct {
	Bootstrap identityBootstrapCommand `cmd:"" help:"Make the first account of a key service, with an administrator and his access key."`
	Account   identityAccountCommands  `cmd:"" help:"Accounts, each with users, roles and keys of its own."`
	User      identityUserCommands     `cmd:"" help:"Users: people and programs with access keys."`
	Group     identityGroupCommands    `cmd:"" help:"Groups, whose policies all their users have."`
	Role      identityRoleCommands     `cmd:"" help:"Roles, which others assume for a time."`
	Policy    identityPolicyCommands   `cmd:"" help:"Policies of users, groups and roles: what they may do."`
	Boundary  identityBoundaryCommands `cmd:"" help:"Permissions boundaries of users and roles: what they may do at most."`
	Key       identityKeyCommands      `cmd:"" help:"Access keys of users."`
	MFA       identityMFACommands      `cmd:"" name:"mfa" help:"Second factors of users."`
}

// identityFlags say whose identities a command is about.
type identityFlags struct {
	keyServiceFlags
	Account string `placeholder:"ID" help:"The account; it need not be named if there is only one."`
}

// open connects to the key service and settles the account.
func (f *identityFlags) open(ctx context.Context, p *Process) (*keyService, error) {
	k, err := f.connect(ctx, p)
	if err == nil {
		f.Account, err = k.account(f.Account)
	}
	return k, err
}

// do has an operation without an answer done, and says so.
func (f *identityFlags) do(ctx context.Context, p *Process, operation string, in func() any, format string, args ...any) error {
	k, err := f.open(ctx, p)
	if err == nil {
		err = k.call(ctx, operation, in(), nil)
	}
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, format+"\n", args...)
	}
	return err
}

// secretFlags say where a new access key goes. It is told once, so that one of them
// must be given.
type secretFlags struct {
	OutFile    string `type:"path" required:"" xor:"secret" placeholder:"FILE" help:"New file for the access key, as AWS's tools read it (AWS_SHARED_CREDENTIALS_FILE); only its owner can read it."`
	ShowSecret bool   `required:"" xor:"secret" help:"Print the access key with its secret on standard output instead."`
	Profile    string `default:"default" placeholder:"NAME" help:"Name of the profile in the file (default default)."`
}

// begin makes the file before there is a secret: one that cannot be written would
// be lost. The file is nil if the secret is to be shown.
func (s secretFlags) begin() (*os.File, error) {
	if strings.ContainsAny(s.Profile, "[]\r\n") || s.Profile == "" {
		return nil, usageError{fmt.Errorf("--profile: %q cannot name a profile", s.Profile)}
	}
	if s.ShowSecret {
		return nil, nil //nolint:nilnil // none is wanted
	}
	f, err := os.OpenFile(s.OutFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, usageError{fmt.Errorf("--out-file: %s exists; name a new file", s.OutFile)}
	}
	if err != nil {
		return nil, fmt.Errorf("--out-file: %w", err)
	}
	return f, nil
}

// newAccessKey is what is told of an access key when it is made.
type newAccessKey struct {
	Account  string          `json:"account"`
	User     string          `json:"user"`
	ID       string          `json:"access_key_id"`
	Secret   json.RawMessage `json:"secret_access_key,omitempty"` // --show-secret only
	File     string          `json:"file,omitempty"`
	Endpoint string          `json:"endpoint"`
	Region   string          `json:"region"`
}

// deliver has an access key made and puts it where it belongs.
func (s secretFlags) deliver(p *Process, o output, k *keyService, mint func() (*identity.NewAccessKey, error)) (err error) {
	f, err := s.begin()
	if err != nil {
		return err
	}
	key, err := mint()
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(s.OutFile))
		}
		return err
	}
	defer key.Destroy()
	out := newAccessKey{Account: key.Account, User: key.User, ID: key.ID, File: s.OutFile, Endpoint: k.status.URL, Region: k.status.Regions[0]}
	text := fmt.Appendf(nil, "[%s]\naws_access_key_id = %s\naws_secret_access_key = ", s.Profile, key.ID)
	text = fmt.Appendf(append(text, key.Secret.Expose()...), "\nregion = %s\n", out.Region)
	defer secret.Wipe(text)
	if f == nil {
		// Letters, digits and what base64 has besides: a JSON string as it is.
		out.Secret = fmt.Appendf(nil, `"%s"`, key.Secret.Expose())
		defer secret.Wipe(out.Secret)
		return o.print(p.Stdout, out, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("--out-file: the access key %s was made but not written; delete it by 'cardea identity key delete --user %s %s': %w", key.ID, key.User, key.ID, err)
	}
	return o.print(p.Stdout, out, func(w io.Writer) error {
		file := s.OutFile
		if abs, err := filepath.Abs(file); err == nil {
			file = abs
		}
		profile := ""
		if s.Profile != "default" {
			profile = " AWS_PROFILE=" + quoted(s.Profile)
		}
		_, err := fmt.Fprintf(w, "access key %s of user %s is in %s. Its secret is nowhere else, and cannot be told again.\n\n"+
			"  export AWS_SHARED_CREDENTIALS_FILE=%s%s\n  aws --endpoint-url %s kms list-keys\n", key.ID, key.User, file, quoted(file), profile, out.Endpoint)
		return err
	})
}

type identityBootstrapCommand struct {
	keyServiceFlags
	output
	secretFlags
	AccountID string `placeholder:"ID" help:"Its 12 digits; chosen at random if they are not given."`
	Alias     string `placeholder:"NAME" help:"Another name of the account."`
	User      string `default:"admin" placeholder:"NAME" help:"Name of the administrator (default admin), who may do everything in the account."`
}

// Help implements kong.HelpProvider.
func (identityBootstrapCommand) Help() string {
	return "Examples:\n  cardea identity bootstrap --config cardea.toml --out-file admin.credentials\n" +
		"  cardea identity bootstrap --config cardea.toml --account-id 111122223333 --user alice --out-file alice.credentials\n\n" +
		"It is refused once there is an account. 'cardea dev' does it by itself."
}

func (c identityBootstrapCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	return c.deliver(p, c.output, k, func() (*identity.NewAccessKey, error) {
		var b identity.Bootstrapped
		err := k.call(ctx, "identity/Bootstrap", &identity.BootstrapInput{
			Account: identity.CreateAccountInput{ID: c.AccountID, Alias: c.Alias}, User: c.User,
		}, &b)
		return &b.Key, err
	})
}

type identityAccountCommands struct {
	Create identityAccountCreateCommand `cmd:"" help:"Make another account, without users."`
	List   identityAccountListCommand   `cmd:"" help:"List accounts."`
}

type identityAccountCreateCommand struct {
	keyServiceFlags
	output
	ID    string `name:"id" placeholder:"ID" help:"Its 12 digits; chosen at random if they are not given."`
	Alias string `placeholder:"NAME" help:"Another name of the account."`
}

// Help implements kong.HelpProvider.
func (identityAccountCreateCommand) Help() string {
	return "Examples:\n  cardea identity account create --alias payments\n" +
		"  cardea identity account create --config cardea.toml --id 444455556666\n\n" +
		"Its first administrator is a user with a policy: see 'cardea identity user create' and 'cardea identity policy put'."
}

func (c identityAccountCreateCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	var a identity.Account
	if err := k.call(ctx, "identity/CreateAccount", &identity.CreateAccountInput{ID: c.ID, Alias: c.Alias}, &a); err != nil {
		return err
	}
	return c.print(p.Stdout, accountOf(a), func(w io.Writer) error {
		return fields(w, []string{"account", a.ID}, []string{"alias", a.Alias}, []string{"created", day(a.CreatedAt)})
	})
}

type identityAccountListCommand struct {
	keyServiceFlags
	output
}

// Help implements kong.HelpProvider.
func (identityAccountListCommand) Help() string {
	return "Examples:\n  cardea identity account list\n  cardea identity account list --config cardea.toml --output json"
}

func (c identityAccountListCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	all, err := listAll[identity.Account](ctx, k, "identity/ListAccounts", identity.Page{})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, views(all, accountOf), func(w io.Writer) error {
		var rows [][]string
		for _, a := range all {
			rows = append(rows, []string{a.ID, a.Alias, day(a.CreatedAt)})
		}
		return table(w, "no account yet: see 'cardea identity bootstrap'", []string{"ACCOUNT", "ALIAS", "CREATED"}, rows)
	})
}
