package identity

import (
	"context"
	"strings"
	"time"
)

// Account is an account of the key service.
type Account struct {
	ID        string
	Alias     string // empty if none
	CreatedAt time.Time
}

// CreateAccountInput creates an account.
type CreateAccountInput struct {
	ID    string // 12 digits; chosen at random if empty
	Alias string // 3 to 63 of a-z, 0-9 and single hyphens; optional, and one account's only
}

func (in *CreateAccountInput) check(v *violations) {
	if in.ID != "" {
		v.account(in.ID)
	}
	if in.Alias != "" && v.length("accountAlias", in.Alias, len(in.Alias), 3, 63) && !isAlias(in.Alias) {
		v.add("accountAlias", in.Alias, `satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`)
	}
}

func isAlias(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return !strings.HasPrefix(s, "-") && !strings.HasSuffix(s, "-") && !strings.Contains(s, "--") && !isAccount(s)
}

// CreateAccount creates an account without users.
func (s *Service) CreateAccount(ctx context.Context, who Caller, in *CreateAccountInput) (*Account, error) {
	return perform(ctx, s, who, OpCreateAccount, in, func(c *call, out *Account) error {
		a := c.newAccount(in)
		if err := c.allow("*"); err != nil {
			return err
		}
		*out = Account{a.Body.ID, a.Body.Alias, a.Body.Created}
		return c.update(ctx, func(ctx context.Context, tx Tx) error { return putAccount(ctx, tx, a) })
	})
}

func (c *call) newAccount(in *CreateAccountInput) *stored[accountBody] {
	id := in.ID
	if id == "" {
		id = newAccountID()
	}
	c.param("accountId", id)
	c.param("accountAlias", in.Alias)
	c.resource("account", rootARN(id), id)
	return &stored[accountBody]{
		Name: Name{kindAccount, "", id},
		Body: &accountBody{V: rowVersion, ID: id, Alias: in.Alias, Created: moment(c.at)},
	}
}

func putAccount(ctx context.Context, tx Tx, a *stored[accountBody]) error {
	if err := absent(ctx, tx, a.Name, "Account with id "+a.Body.ID+" already exists."); err != nil {
		return err
	}
	if a.Body.Alias != "" {
		alias := &stored[accountBody]{Name: Name{kindAlias, "", a.Body.Alias}, Body: &accountBody{V: rowVersion, ID: a.Body.ID}}
		if err := absent(ctx, tx, alias.Name, "The account alias "+a.Body.Alias+" already exists."); err != nil {
			return err
		}
		if err := put(ctx, tx, alias); err != nil {
			return err
		}
	}
	return put(ctx, tx, a)
}

// ListAccounts lists accounts, ordered by id.
func (s *Service) ListAccounts(ctx context.Context, who Caller, in *Page) (*List[Account], error) {
	return perform(ctx, s, who, OpListAccounts, in, func(c *call, out *List[Account]) error {
		if err := c.allow("*"); err != nil {
			return err
		}
		return list(ctx, s.store, kindAccount, "", in, out, func(a *stored[accountBody]) (Account, bool) {
			return Account{a.Body.ID, a.Body.Alias, a.Body.Created}, true
		})
	})
}

// BootstrapInput names the first account and its administrator.
type BootstrapInput struct {
	Account CreateAccountInput
	User    string // default admin
}

func (in *BootstrapInput) check(v *violations) {
	in.Account.check(v)
	if in.User != "" {
		v.name("userName", in.User, maxUserName)
	}
}

// Bootstrapped is what the first administrator needs.
type Bootstrapped struct {
	Account Account
	User    User
	Key     NewAccessKey
}

// Destroy wipes the secret.
func (b *Bootstrapped) Destroy() { b.Key.Destroy() }

const administratorPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// Bootstrap creates the first account, an administrator who may do everything in
// it, and an access key, all or nothing. If there is an account already it is
// refused: EntityAlreadyExists.
func (s *Service) Bootstrap(ctx context.Context, who Caller, in *BootstrapInput) (*Bootstrapped, error) {
	return perform(ctx, s, who, OpBootstrap, in, func(c *call, out *Bootstrapped) error {
		a := c.newAccount(&in.Account)
		u := CreateUserInput{Account: a.Body.ID, Name: in.User}
		if u.Name == "" {
			u.Name = "admin"
		}
		if err := c.allow("*"); err != nil {
			return err
		}
		user := c.newUser(&u)
		user.Body.Policies = []policyBody{{"AdministratorAccess", administratorPolicy}}
		key, err := c.newAccessKey(ctx, user, &out.Key)
		if err != nil {
			return err
		}
		out.Account = Account{a.Body.ID, a.Body.Alias, a.Body.Created}
		out.User = userOf(user)
		return c.update(ctx, func(ctx context.Context, tx Tx) error {
			others, err := tx.List(ctx, kindAccount, "", "", 1)
			if err != nil {
				return err
			}
			if len(others) > 0 {
				return refuse(CodeEntityAlreadyExists, "There is an account already. Only the first one is bootstrapped.")
			}
			if err := putAccount(ctx, tx, a); err != nil {
				return err
			}
			if err := put(ctx, tx, key); err != nil {
				return err
			}
			return put(ctx, tx, user)
		})
	})
}
