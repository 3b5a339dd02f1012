package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxGroups is how many groups a user may be in.
const maxGroups = 10

// Group is a group as it is told.
type Group struct {
	Account   string
	Name      string
	Path      string
	ID        string // AGPA…
	ARN       string
	CreatedAt time.Time
	Policies  []string // names
	Members   []string // names of users; DescribeGroup only
}

func groupOf(g *stored[entity]) Group {
	b := g.Body
	return Group{
		Account: g.Account, Name: b.Name, Path: b.Path, ID: b.ID, ARN: entityARN(g), CreatedAt: b.Created, Policies: policyNames(b),
	}
}

// CreateGroupInput creates a group.
type CreateGroupInput struct {
	Account string
	Name    string // at most 128 characters; not distinguished by case from others
	Path    string // default "/"
}

func (in *CreateGroupInput) check(v *violations) {
	checkEntity(v, kindGroup, &EntityInput{in.Account, in.Name})
	v.path("path", in.Path)
}

// CreateGroup creates a group without members.
func (s *Service) CreateGroup(ctx context.Context, who Caller, in *CreateGroupInput) (*Group, error) {
	return perform(ctx, s, who, OpCreateGroup, in, func(c *call, out *Group) error {
		g := c.newEntity(kindGroup, prefixGroup, in.Account, in.Name, in.Path)
		if err := c.allow(entityARN(g)); err != nil {
			return err
		}
		*out = groupOf(g)
		return c.create(ctx, g, "Group")
	})
}

// DescribeGroup tells everything about a group but its policies' text.
func (s *Service) DescribeGroup(ctx context.Context, who Caller, in *EntityInput) (*Group, error) {
	return perform(ctx, s, who, OpGetGroup, entityInput{in, kindGroup}, func(c *call, out *Group) error {
		g, err := c.entity(ctx, kindGroup, in)
		if err != nil {
			return err
		}
		*out = groupOf(g)
		return members(ctx, s.store, g, func(user string) bool {
			out.Members = append(out.Members, user)
			return true
		})
	})
}

// members calls each for the members of a group, ordered by name, until it returns false.
func members(ctx context.Context, r Reader, g *stored[entity], each func(user string) bool) error {
	prefix := memberName(g.Body.Name, "")
	for after := prefix; ; {
		rows, err := r.List(ctx, kindMember, g.Account, after, pageSize)
		if err != nil {
			return err
		}
		for i := range rows {
			if !strings.HasPrefix(rows[i].Name, prefix) {
				return nil
			}
			m, err := decodeRow[memberBody](&rows[i])
			if err != nil {
				return err
			}
			if !each(m.Body.User) {
				return nil
			}
			after = rows[i].Name
		}
		if len(rows) < pageSize {
			return nil
		}
	}
}

// ListGroups lists groups of an account, ordered by name without regard to case.
func (s *Service) ListGroups(ctx context.Context, who Caller, in *Page) (*List[Group], error) {
	return listEntities(ctx, s, who, OpListGroups, kindGroup, in, groupOf)
}

// DeleteGroup deletes a group without members and policies; others are a
// DeleteConflict.
func (s *Service) DeleteGroup(ctx context.Context, who Caller, in *EntityInput) error {
	return s.do(ctx, &who, OpDeleteGroup, entityInput{in, kindGroup}, func(c *call) error {
		g, err := c.entity(ctx, kindGroup, in)
		if err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error {
			now, err := load[entity](ctx, tx, kindGroup, g.Account, g.Name.Name)
			if err != nil {
				return err
			}
			if len(now.Body.Policies) > 0 {
				return refuse(CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
			}
			empty := true
			if err := members(ctx, tx, now, func(string) bool { empty = false; return false }); err != nil {
				return err
			}
			if !empty {
				return refuse(CodeDeleteConflict, "Cannot delete entity, must remove users from group first.")
			}
			return tx.Delete(ctx, kindGroup, g.Account, g.Name.Name)
		})
	})
}

// MemberInput names a user and a group.
type MemberInput struct {
	Account string
	Group   string
	User    string
}

func (in *MemberInput) check(v *violations) {
	checkEntity(v, kindGroup, &EntityInput{in.Account, in.Group})
	v.name("userName", in.User, maxUserName)
}

// memberName names the row of a membership. Names hold no slash.
func memberName(group, user string) string { return fold(group) + "/" + fold(user) }

// AddUserToGroup makes a user a member. One that is already stays one.
func (s *Service) AddUserToGroup(ctx context.Context, who Caller, in *MemberInput) error {
	return s.member(ctx, who, OpAddUserToGroup, in, func(ctx context.Context, tx Tx, g, u *stored[entity]) error {
		i, found := slices.BinarySearch(u.Body.Groups, g.Body.Name)
		if found {
			return nil
		}
		if len(u.Body.Groups) >= maxGroups {
			return refuse(CodeLimitExceeded, "Cannot exceed quota for GroupsPerUser: "+strconv.Itoa(maxGroups))
		}
		u.Body.Groups = slices.Insert(u.Body.Groups, i, g.Body.Name)
		return put(ctx, tx, &stored[memberBody]{
			Name: Name{kindMember, in.Account, memberName(in.Group, in.User)},
			Body: &memberBody{V: rowVersion, Group: g.Body.Name, User: u.Body.Name},
		})
	})
}

// RemoveUserFromGroup ends a membership. One that is none is no error.
func (s *Service) RemoveUserFromGroup(ctx context.Context, who Caller, in *MemberInput) error {
	return s.member(ctx, who, OpRemoveUserFromGroup, in, func(ctx context.Context, tx Tx, g, u *stored[entity]) error {
		i, found := slices.BinarySearch(u.Body.Groups, g.Body.Name)
		if !found {
			return nil
		}
		u.Body.Groups = slices.Delete(u.Body.Groups, i, i+1)
		return tx.Delete(ctx, kindMember, in.Account, memberName(in.Group, in.User))
	})
}

// member is the whole of an operation on a membership. The user is written after change.
func (s *Service) member(ctx context.Context, who Caller, op *Operation, in *MemberInput, change func(ctx context.Context, tx Tx, g, u *stored[entity]) error) error {
	return s.do(ctx, &who, op, in, func(c *call) error {
		c.param("userName", in.User)
		g, err := c.entity(ctx, kindGroup, &EntityInput{in.Account, in.Group})
		if err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error {
			// The group is read again: it must not be deleted meanwhile.
			if _, err := tx.Get(ctx, kindGroup, g.Account, g.Name.Name); err != nil {
				return err
			}
			u, err := load[entity](ctx, tx, kindUser, in.Account, fold(in.User))
			if errors.Is(err, ErrNoRow) || err == nil && u.Body.Name != in.User {
				return noSuch(kindUser, in.User)
			}
			if err != nil {
				return err
			}
			if err := change(ctx, tx, g, u); err != nil {
				return err
			}
			return put(ctx, tx, u)
		})
	})
}
