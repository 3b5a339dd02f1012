package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Limits of names, in characters (AWS: "IAM and AWS STS quotas").
const (
	maxUserName  = 64
	maxRoleName  = 64
	maxGroupName = 128
)

// User is a user as it is told. It holds nothing secret.
type User struct {
	Account    string
	Name       string
	Path       string
	ID         string // AIDA…
	ARN        string
	CreatedAt  time.Time
	Tags       []Tag
	Policies   []string // names
	Boundary   string   // document of the permissions boundary; empty if none
	Groups     []string
	AccessKeys []string // ids
	MFADevices []string // serial numbers, which are ARNs
}

func userOf(u *stored[entity]) User {
	b := u.Body
	out := User{
		Account: u.Account, Name: b.Name, Path: b.Path, ID: b.ID, ARN: entityARN(u), CreatedAt: b.Created, Tags: tagsOf(b.Tags),
		Policies: policyNames(b), Boundary: b.Boundary, Groups: slices.Clone(b.Groups), AccessKeys: slices.Clone(b.Keys),
	}
	for _, d := range b.Devices {
		out.MFADevices = append(out.MFADevices, deviceARN(u.Account, d))
	}
	return out
}

func entityARN(e *stored[entity]) string { return arnOf(e.Kind, e.Account, e.Body.Path, e.Body.Name) }

// EntityInput names a user, role or group.
type EntityInput struct {
	Account string
	Name    string
}

// entityInput is an EntityInput of a kind.
type entityInput struct {
	*EntityInput
	kind Kind
}

func (in entityInput) check(v *violations) { checkEntity(v, in.kind, in.EntityInput) }

func checkEntity(v *violations, kind Kind, in *EntityInput) {
	v.account(in.Account)
	switch kind {
	case kindGroup:
		v.name("groupName", in.Name, maxGroupName)
	case kindRole:
		v.name("roleName", in.Name, maxRoleName)
	default:
		v.name("userName", in.Name, maxUserName)
	}
}

// CreateUserInput creates a user.
type CreateUserInput struct {
	Account  string
	Name     string // at most 64 characters; not distinguished by case from others
	Path     string // default "/"
	Tags     []Tag
	Boundary string // document of a permissions boundary; none if empty
}

func (in *CreateUserInput) check(v *violations) {
	checkEntity(v, kindUser, &EntityInput{in.Account, in.Name})
	v.path("path", in.Path)
	v.tags(in.Tags)
}

// CreateUser creates a user, who may do nothing yet.
func (s *Service) CreateUser(ctx context.Context, who Caller, in *CreateUserInput) (*User, error) {
	return perform(ctx, s, who, OpCreateUser, in, func(c *call, out *User) error {
		u := c.newUser(in)
		if err := c.allow(entityARN(u)); err != nil {
			return err
		}
		if err := s.checkDocuments(u.Body, kindUser); err != nil {
			return err
		}
		*out = userOf(u)
		return c.create(ctx, u, "User")
	})
}

func (c *call) newUser(in *CreateUserInput) *stored[entity] {
	u := c.newEntity(kindUser, prefixUser, in.Account, in.Name, in.Path)
	u.Body.Tags, u.Body.Boundary = tagBodies(in.Tags), in.Boundary
	return u
}

func (c *call) newEntity(kind Kind, prefix, account, name, path string) *stored[entity] {
	if path == "" {
		path = "/"
	}
	e := &stored[entity]{
		Name: Name{kind, account, fold(name)},
		Body: &entity{V: rowVersion, Name: name, ID: newEntityID(prefix), Path: path, Created: moment(c.at)},
	}
	c.param(string(kind)+"Name", name)
	c.param("path", path)
	c.resource(string(kind), entityARN(e), account)
	c.result(string(kind)+"Id", e.Body.ID)
	return e
}

// create writes a new user, role or group.
func (c *call) create(ctx context.Context, e *stored[entity], what string) error {
	return c.update(ctx, func(ctx context.Context, tx Tx) error {
		if err := accountIs(ctx, tx, e.Account); err != nil {
			return err
		}
		if err := absent(ctx, tx, e.Name, what+" with name "+e.Body.Name+" already exists."); err != nil {
			return err
		}
		return put(ctx, tx, e)
	})
}

func accountIs(ctx context.Context, r Reader, account string) error {
	_, err := r.Get(ctx, kindAccount, "", account)
	if errors.Is(err, ErrNoRow) {
		return refuse(CodeNoSuchEntity, "The account with id "+account+" cannot be found.")
	}
	return err
}

// entity reads a user, role or group as it is now and asks whether the caller may
// do the operation on it. Whether it exists is told only to who may ask for one of
// its name.
func (c *call) entity(ctx context.Context, kind Kind, in *EntityInput) (*stored[entity], error) {
	e, err := load[entity](ctx, c.s.store, kind, in.Account, fold(in.Name))
	if err != nil && !errors.Is(err, ErrNoRow) {
		return nil, err
	}
	there := err == nil && e.Body.Name == in.Name
	arn := arnOf(kind, in.Account, "/", in.Name)
	if there {
		arn = entityARN(e)
	}
	c.param(string(kind)+"Name", in.Name)
	c.resource(string(kind), arn, in.Account)
	if err := c.allow(arn); err != nil {
		return nil, err
	}
	if !there {
		return nil, noSuch(kind, in.Name)
	}
	return e, nil
}

func noSuch(kind Kind, name string) *Error {
	return refuse(CodeNoSuchEntity, "The "+string(kind)+" with name "+name+" cannot be found.")
}

// change is the whole of an operation that changes one user, role or group.
// change may write more by tx.
func (c *call) change(ctx context.Context, kind Kind, in *EntityInput, change func(ctx context.Context, tx Tx, e *stored[entity]) error) error {
	e, err := c.entity(ctx, kind, in)
	if err != nil {
		return err
	}
	return c.changeEntity(ctx, e, change)
}

// changeEntity writes what change makes of e. If e is not as it was read, the
// operation begins anew.
func (c *call) changeEntity(ctx context.Context, e *stored[entity], change func(ctx context.Context, tx Tx, e *stored[entity]) error) error {
	return c.update(ctx, func(ctx context.Context, tx Tx) error {
		now, err := load[entity](ctx, tx, e.Kind, e.Account, e.Name.Name)
		if err != nil {
			return err
		}
		if now.Version != e.Version {
			return errStale
		}
		if err := change(ctx, tx, now); err != nil {
			return err
		}
		return put(ctx, tx, now)
	})
}

// DescribeUser tells everything about a user but its policies' text and secrets.
func (s *Service) DescribeUser(ctx context.Context, who Caller, in *EntityInput) (*User, error) {
	return perform(ctx, s, who, OpGetUser, entityInput{in, kindUser}, func(c *call, out *User) error {
		u, err := c.entity(ctx, kindUser, in)
		if err == nil {
			*out = userOf(u)
		}
		return err
	})
}

// ListUsers lists users of an account, ordered by name without regard to case.
func (s *Service) ListUsers(ctx context.Context, who Caller, in *Page) (*List[User], error) {
	return listEntities(ctx, s, who, OpListUsers, kindUser, in, userOf)
}

func listEntities[T any](ctx context.Context, s *Service, who Caller, op *Operation, kind Kind, in *Page, of func(*stored[entity]) T) (*List[T], error) {
	return perform(ctx, s, who, op, accountPage{in}, func(c *call, out *List[T]) error {
		c.param("pathPrefix", in.Prefix)
		if err := c.allow("arn:aws:iam::" + in.Account + ":" + string(kind) + "/"); err != nil {
			return err
		}
		if err := accountIs(ctx, s.store, in.Account); err != nil {
			return err
		}
		return list(ctx, s.store, kind, in.Account, in, out, func(e *stored[entity]) (T, bool) {
			return of(e), strings.HasPrefix(e.Body.Path, in.Prefix)
		})
	})
}

// DeleteUserInput deletes a user.
type DeleteUserInput struct {
	Account string
	Name    string
	// Force deletes its access keys, second factors, policies and memberships too;
	// without it they are a DeleteConflict, as in AWS.
	Force bool
}

func (in *DeleteUserInput) check(v *violations) {
	checkEntity(v, kindUser, &EntityInput{in.Account, in.Name})
}

// DeleteUser deletes a user. Its sessions and keys authenticate nobody from then on.
func (s *Service) DeleteUser(ctx context.Context, who Caller, in *DeleteUserInput) error {
	return s.do(ctx, &who, OpDeleteUser, in, func(c *call) error {
		u, err := c.entity(ctx, kindUser, &EntityInput{in.Account, in.Name})
		if err != nil {
			return err
		}
		if in.Force {
			c.param("force", "true")
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error { return deleteUser(ctx, tx, u, in.Force) })
	})
}

func deleteUser(ctx context.Context, tx Tx, u *stored[entity], force bool) error {
	now, err := load[entity](ctx, tx, kindUser, u.Account, u.Name.Name)
	if err != nil {
		return err
	}
	if now.Version != u.Version {
		return errStale
	}
	b := now.Body
	if !force {
		for _, c := range []struct {
			n    int
			what string
		}{
			{len(b.Keys), "delete access keys"},
			{len(b.Policies), "delete policies"},
			{len(b.Groups), "remove users from group"},
			{len(b.Devices), "delete MFA device"},
		} {
			if c.n > 0 {
				return refuse(CodeDeleteConflict, "Cannot delete entity, must "+c.what+" first.")
			}
		}
	}
	for _, id := range b.Keys {
		if err := tx.Delete(ctx, kindAccessKey, "", id); err != nil {
			return err
		}
	}
	for _, g := range b.Groups {
		if err := tx.Delete(ctx, kindMember, u.Account, memberName(g, b.Name)); err != nil {
			return err
		}
	}
	for _, d := range b.Devices {
		if err := tx.Delete(ctx, kindDevice, u.Account, fold(d)); err != nil {
			return err
		}
	}
	return tx.Delete(ctx, kindUser, u.Account, u.Name.Name)
}

// TagInput sets or removes tags of a user or role.
type TagInput struct {
	Account string
	Name    string
	Tags    []Tag    // to set; a tag of the same key is replaced
	Keys    []string // to remove
}

type tagInput struct {
	*TagInput
	kind Kind
}

func (in tagInput) check(v *violations) {
	checkEntity(v, in.kind, &EntityInput{in.Account, in.Name})
	v.tags(in.Tags)
	v.length("tagKeys", "", len(in.Keys), 0, maxTags)
}

// TagUser sets tags of a user.
func (s *Service) TagUser(ctx context.Context, who Caller, in *TagInput) error {
	return s.tag(ctx, who, OpTagUser, kindUser, in)
}

// UntagUser removes tags of a user. Those that it does not have are ignored.
func (s *Service) UntagUser(ctx context.Context, who Caller, in *TagInput) error {
	return s.tag(ctx, who, OpUntagUser, kindUser, in)
}

func (s *Service) tag(ctx context.Context, who Caller, op *Operation, kind Kind, in *TagInput) error {
	return s.do(ctx, &who, op, tagInput{in, kind}, func(c *call) error {
		for _, t := range in.Tags {
			c.param("tagKey", t.Key)
		}
		for _, k := range in.Keys {
			c.param("tagKey", k)
		}
		return c.change(ctx, kind, &EntityInput{in.Account, in.Name}, func(_ context.Context, _ Tx, e *stored[entity]) error {
			tags := mergeTags(tagsOf(e.Body.Tags), in.Tags)
			tags = slices.DeleteFunc(slices.Clone(tags), func(t Tag) bool {
				return slices.ContainsFunc(in.Keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
			})
			if len(tags) > maxTags {
				return refuse(CodeLimitExceeded, "Cannot exceed quota for TagsPer"+map[Kind]string{kindUser: "User", kindRole: "Role"}[kind]+": 50")
			}
			e.Body.Tags = tagBodies(tags)
			return nil
		})
	})
}
