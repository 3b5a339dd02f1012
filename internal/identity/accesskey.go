package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"cardea/internal/secret"
)

// maxAccessKeys is how many access keys a user may have: two, to rotate them.
const maxAccessKeys = 2

// AccessKey is a long-term access key as it is told: without its secret.
type AccessKey struct {
	ID        string // AKIA…
	Account   string
	User      string
	Active    bool
	CreatedAt time.Time
	// LockedUntil is when the lockout after failed authentications ends; zero if
	// there is none.
	LockedUntil time.Time
}

// NewAccessKey is an access key with its secret, which is told this once.
type NewAccessKey struct {
	AccessKey
	Secret secret.Bytes // 40 characters
}

// Destroy wipes the secret.
func (k *NewAccessKey) Destroy() { k.Secret.Destroy() }

func accessKeyOf(k *stored[keyBody], now time.Time) AccessKey {
	out := AccessKey{ID: k.Name.Name, Account: k.Body.Account, User: k.Body.User, Active: k.Body.Active, CreatedAt: k.Body.Created}
	if now.Before(k.Body.Locked) {
		out.LockedUntil = k.Body.Locked
	}
	return out
}

// CreateAccessKey makes an access key for a user. The caller destroys the answer.
func (s *Service) CreateAccessKey(ctx context.Context, who Caller, in *EntityInput) (*NewAccessKey, error) {
	return perform(ctx, s, who, OpCreateAccessKey, entityInput{in, kindUser}, func(c *call, out *NewAccessKey) error {
		u, err := c.entity(ctx, kindUser, in)
		if err != nil {
			return err
		}
		key, err := c.newAccessKey(ctx, u, out)
		if err != nil {
			return err
		}
		keys := u.Body.Keys
		return c.changeEntity(ctx, u, func(ctx context.Context, tx Tx, u *stored[entity]) error {
			u.Body.Keys = keys
			return put(ctx, tx, key)
		})
	})
}

// newAccessKey makes a key and adds its id to the user.
func (c *call) newAccessKey(ctx context.Context, u *stored[entity], out *NewAccessKey) (*stored[keyBody], error) {
	if len(u.Body.Keys) >= maxAccessKeys {
		return nil, refuse(CodeLimitExceeded, "Cannot exceed quota for AccessKeysPerUser: "+strconv.Itoa(maxAccessKeys))
	}
	id := newKeyID(prefixAccessKey)
	out.Secret = newSecretKey()
	sealed, err := c.s.seal(ctx, kindAccessKey, u.Account, id, out.Secret)
	if err != nil {
		return nil, err
	}
	k := &stored[keyBody]{
		Name: Name{kindAccessKey, "", id},
		Body: &keyBody{V: rowVersion, Account: u.Account, User: u.Body.Name, UserID: u.Body.ID, Secret: sealed, Active: true, Created: moment(c.at)},
	}
	u.Body.Keys = append(u.Body.Keys, id)
	slices.Sort(u.Body.Keys)
	out.AccessKey = accessKeyOf(k, c.at)
	c.result("accessKeyId", id)
	return k, nil
}

// ListAccessKeys lists the access keys of a user, ordered by id.
func (s *Service) ListAccessKeys(ctx context.Context, who Caller, in *EntityInput) (*List[AccessKey], error) {
	return perform(ctx, s, who, OpListAccessKeys, entityInput{in, kindUser}, func(c *call, out *List[AccessKey]) error {
		u, err := c.entity(ctx, kindUser, in)
		if err != nil {
			return err
		}
		for _, id := range u.Body.Keys {
			k, err := load[keyBody](ctx, s.store, kindAccessKey, "", id)
			if errors.Is(err, ErrNoRow) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			out.Items = append(out.Items, accessKeyOf(k, c.at))
		}
		return nil
	})
}

// AccessKeyInput names an access key.
type AccessKeyInput struct {
	Account string
	User    string
	ID      string
	Active  bool // UpdateAccessKey only
}

func (in *AccessKeyInput) check(v *violations) {
	checkEntity(v, kindUser, &EntityInput{in.Account, in.User})
	if v.required("accessKeyId", in.ID != "") && v.length("accessKeyId", in.ID, len(in.ID), 16, 128) && !isName(in.ID) {
		v.add("accessKeyId", in.ID, `satisfy regular expression pattern: [\w]+`)
	}
}

// UpdateAccessKey makes a key active or inactive. An inactive key, and every
// session that came from it, authenticates nobody.
func (s *Service) UpdateAccessKey(ctx context.Context, who Caller, in *AccessKeyInput) error {
	return s.do(ctx, &who, OpUpdateAccessKey, in, func(c *call) error {
		c.param("status", map[bool]string{true: "Active", false: "Inactive"}[in.Active])
		return c.accessKey(ctx, in, func(ctx context.Context, tx Tx, k *stored[keyBody]) error {
			k.Body.Active = in.Active
			return put(ctx, tx, k)
		})
	})
}

// DeleteAccessKey deletes a key, and so ends every session that came from it.
func (s *Service) DeleteAccessKey(ctx context.Context, who Caller, in *AccessKeyInput) error {
	return s.do(ctx, &who, OpDeleteAccessKey, in, func(c *call) error {
		return c.accessKey(ctx, in, func(ctx context.Context, tx Tx, k *stored[keyBody]) error {
			u, err := load[entity](ctx, tx, kindUser, in.Account, fold(in.User))
			if err != nil {
				return err
			}
			u.Body.Keys = slices.DeleteFunc(u.Body.Keys, func(id string) bool { return id == in.ID })
			if err := put(ctx, tx, u); err != nil {
				return err
			}
			return tx.Delete(ctx, kindAccessKey, "", in.ID)
		})
	})
}

// accessKey is the whole of an operation that changes one access key.
func (c *call) accessKey(ctx context.Context, in *AccessKeyInput, change func(ctx context.Context, tx Tx, k *stored[keyBody]) error) error {
	u, err := c.entity(ctx, kindUser, &EntityInput{in.Account, in.User})
	if err != nil {
		return err
	}
	c.param("accessKeyId", in.ID)
	return c.update(ctx, func(ctx context.Context, tx Tx) error {
		k, err := load[keyBody](ctx, tx, kindAccessKey, "", in.ID)
		if errors.Is(err, ErrNoRow) || err == nil && k.Body.UserID != u.Body.ID {
			return refuse(CodeNoSuchEntity, "The Access Key with id "+in.ID+" cannot be found.")
		}
		if err != nil {
			return err
		}
		return change(ctx, tx, k)
	})
}
