package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/iam"
)

// Bounds of the duration of a role's sessions, in seconds.
const (
	minSession     = 900
	defaultSession = 3600
	mostSession    = 43200
)

// Role is a role as it is told.
type Role struct {
	Account     string
	Name        string
	Path        string
	ID          string // AROA…
	ARN         string
	CreatedAt   time.Time
	Description string
	Tags        []Tag
	TrustPolicy string   // document
	Policies    []string // names
	Boundary    string   // document of the permissions boundary; empty if none
	MaxSession  int      // seconds
}

func roleOf(r *stored[entity]) Role {
	b := r.Body
	return Role{
		Account: r.Account, Name: b.Name, Path: b.Path, ID: b.ID, ARN: entityARN(r), CreatedAt: b.Created, Description: b.Description,
		Tags: tagsOf(b.Tags), TrustPolicy: b.Trust, Policies: policyNames(b), Boundary: b.Boundary, MaxSession: b.MaxSession,
	}
}

// CreateRoleInput creates a role.
type CreateRoleInput struct {
	Account     string
	Name        string // at most 64 characters; not distinguished by case from others
	Path        string // default "/"
	TrustPolicy string // document: who may assume it
	Description string // at most 1000 characters
	MaxSession  int    // seconds, 3600 to 43200; default 3600
	Tags        []Tag
	Boundary    string // document of a permissions boundary; none if empty
}

func (in *CreateRoleInput) check(v *violations) {
	checkEntity(v, kindRole, &EntityInput{in.Account, in.Name})
	v.path("path", in.Path)
	v.tags(in.Tags)
	v.required("assumeRolePolicyDocument", in.TrustPolicy != "")
	v.number("maxSessionDuration", in.MaxSession, defaultSession, mostSession)
	v.description(in.Description)
}

func (v *violations) description(s string) {
	if v.length("description", "", utf8.RuneCountInString(s), 0, 1000) && (!utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f
	})) {
		v.add("description", "", `satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`)
	}
}

// CreateRole creates a role. Errors: MalformedPolicyDocument, also if the trust
// policy names principals that do not exist; EntityAlreadyExists, LimitExceeded.
func (s *Service) CreateRole(ctx context.Context, who Caller, in *CreateRoleInput) (*Role, error) {
	return perform(ctx, s, who, OpCreateRole, in, func(c *call, out *Role) error {
		r := c.newEntity(kindRole, prefixRole, in.Account, in.Name, in.Path)
		b := r.Body
		b.Trust, b.Description, b.MaxSession = in.TrustPolicy, in.Description, in.MaxSession
		b.Tags, b.Boundary = tagBodies(in.Tags), in.Boundary
		if b.MaxSession == 0 {
			b.MaxSession = defaultSession
		}
		if err := c.allow(entityARN(r)); err != nil {
			return err
		}
		if err := s.checkDocuments(b, kindRole); err != nil {
			return err
		}
		var err error
		if b.Trusted, err = s.trusted(ctx, b.Trust); err != nil {
			return err
		}
		*out = roleOf(r)
		return c.create(ctx, r, "Role")
	})
}

// trusted finds the principals that a trust policy names, which must exist, and
// their ids.
func (s *Service) trusted(ctx context.Context, trust string) ([]trustedBody, error) {
	p, err := parsePolicy(iam.TrustPolicy, trust)
	if err != nil {
		return nil, err
	}
	var named []iam.PolicyPrincipal
	for _, e := range []iam.Effect{iam.Allow, iam.Deny} {
		named = append(append(named, p.Principals(e, false)...), p.Principals(e, true)...)
	}
	var out []trustedBody
	for _, n := range named {
		ok := true
		switch n.Kind {
		case iam.PrincipalAccount:
			ok = s.HasAccount(ctx, n.Account())
		case iam.PrincipalUser, iam.PrincipalRole, iam.PrincipalRoleSession:
			var id string
			if id, ok, err = s.idOf(ctx, n.Value); err != nil {
				return nil, err
			}
			out = append(out, trustedBody{n.Value, id})
		case iam.PrincipalFederated:
			ok = false
		case iam.PrincipalEveryone, iam.PrincipalService, iam.PrincipalProvider, iam.PrincipalUniqueID:
		}
		if !ok {
			quoted, err := jsontext.AppendQuote(nil, n.Value)
			if err != nil {
				return nil, err
			}
			return nil, refuse(CodeMalformedPolicy, `Invalid principal in policy: "AWS":`+string(quoted))
		}
	}
	slices.SortFunc(out, func(a, b trustedBody) int { return strings.Compare(a.ARN, b.ARN) })
	return slices.Compact(out), nil
}

// idOf is the unique id of the user or role with the ARN, or of a session's role.
func (s *Service) idOf(ctx context.Context, arn string) (id string, ok bool, err error) {
	a, err := iam.ParseARN(arn)
	if err != nil {
		return "", false, nil //nolint:nilerr // it names nothing
	}
	kind, name, ok := principalOf(a)
	if !ok || !s.HasAccount(ctx, a.Account) {
		return "", false, nil
	}
	p, err := s.readPrincipal(ctx, kind, a.Account, name) // what is put holds on to the id for good
	if errors.Is(err, ErrNoRow) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return p.row.ID, a.Service == "sts" || p.arn == arn, nil
}

// DescribeRole tells everything about a role but its policies' text.
func (s *Service) DescribeRole(ctx context.Context, who Caller, in *EntityInput) (*Role, error) {
	return perform(ctx, s, who, OpGetRole, entityInput{in, kindRole}, func(c *call, out *Role) error {
		r, err := c.entity(ctx, kindRole, in)
		if err == nil {
			*out = roleOf(r)
		}
		return err
	})
}

// ListRoles lists roles of an account, ordered by name without regard to case.
func (s *Service) ListRoles(ctx context.Context, who Caller, in *Page) (*List[Role], error) {
	return listEntities(ctx, s, who, OpListRoles, kindRole, in, roleOf)
}

// DeleteRole deletes a role, and so ends its sessions. One that has policies is a
// DeleteConflict.
func (s *Service) DeleteRole(ctx context.Context, who Caller, in *EntityInput) error {
	return s.do(ctx, &who, OpDeleteRole, entityInput{in, kindRole}, func(c *call) error {
		r, err := c.entity(ctx, kindRole, in)
		if err != nil {
			return err
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error {
			now, err := load[entity](ctx, tx, kindRole, r.Account, r.Name.Name)
			if err != nil {
				return err
			}
			if len(now.Body.Policies) > 0 {
				return refuse(CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
			}
			return tx.Delete(ctx, kindRole, r.Account, r.Name.Name)
		})
	})
}

// TrustInput replaces a role's trust policy.
type TrustInput struct {
	Account  string
	Role     string
	Document string
}

func (in *TrustInput) check(v *violations) {
	checkEntity(v, kindRole, &EntityInput{in.Account, in.Role})
	v.required("policyDocument", in.Document != "")
}

// UpdateTrustPolicy replaces the policy of who may assume a role. Sessions that
// exist go on. Errors are those of CreateRole.
func (s *Service) UpdateTrustPolicy(ctx context.Context, who Caller, in *TrustInput) error {
	return s.do(ctx, &who, OpUpdateAssumeRolePolicy, in, func(c *call) error {
		r, err := c.entity(ctx, kindRole, &EntityInput{in.Account, in.Role})
		if err != nil {
			return err
		}
		if err := s.checkDocuments(&entity{Trust: in.Document}, kindRole); err != nil {
			return err
		}
		trusted, err := s.trusted(ctx, in.Document)
		if err != nil {
			return err
		}
		return c.changeEntity(ctx, r, func(_ context.Context, _ Tx, r *stored[entity]) error {
			r.Body.Trust, r.Body.Trusted = in.Document, trusted
			return nil
		})
	})
}

// UpdateRoleInput changes a role's description and longest session.
type UpdateRoleInput struct {
	Account     string
	Name        string
	Description *string // nil leaves it
	MaxSession  int     // seconds, 3600 to 43200; 0 leaves it
}

func (in *UpdateRoleInput) check(v *violations) {
	checkEntity(v, kindRole, &EntityInput{in.Account, in.Name})
	v.number("maxSessionDuration", in.MaxSession, defaultSession, mostSession)
	if in.Description != nil {
		v.description(*in.Description)
	}
}

// UpdateRole changes a role. Sessions that exist go on as they are.
func (s *Service) UpdateRole(ctx context.Context, who Caller, in *UpdateRoleInput) error {
	return s.do(ctx, &who, OpUpdateRole, in, func(c *call) error {
		return c.change(ctx, kindRole, &EntityInput{in.Account, in.Name}, func(_ context.Context, _ Tx, r *stored[entity]) error {
			if in.Description != nil {
				r.Body.Description = *in.Description
			}
			if in.MaxSession != 0 {
				r.Body.MaxSession = in.MaxSession
			}
			return nil
		})
	})
}

// TagRole sets tags of a role. Sessions that exist have them at once.
func (s *Service) TagRole(ctx context.Context, who Caller, in *TagInput) error {
	return s.tag(ctx, who, OpTagRole, kindRole, in)
}

// UntagRole removes tags of a role. Those that it does not have are ignored.
func (s *Service) UntagRole(ctx context.Context, who Caller, in *TagInput) error {
	return s.tag(ctx, who, OpUntagRole, kindRole, in)
}

// RevokeInput names a user or role.
type RevokeInput struct {
	Account string
	User    string // one of the two
	Role    string
}

func (in *RevokeInput) check(v *violations) {
	if (in.User == "") == (in.Role == "") {
		v.add("userName", "", "be given, or else roleName, but not both")
		return
	}
	kind, e := in.entity()
	checkEntity(v, kind, e)
}

func (in *RevokeInput) entity() (Kind, *EntityInput) {
	if in.Role != "" {
		return kindRole, &EntityInput{in.Account, in.Role}
	}
	return kindUser, &EntityInput{in.Account, in.User}
}

// RevokeSessions ends all sessions of a role, or those that a user got by
// GetSessionToken. It is Cardea's own operation: AWS's console puts a policy
// instead. Sessions begun later in the same second are ended too.
func (s *Service) RevokeSessions(ctx context.Context, who Caller, in *RevokeInput) error {
	return s.do(ctx, &who, OpRevokeSessions, in, func(c *call) error {
		kind, e := in.entity()
		return c.change(ctx, kind, e, func(_ context.Context, _ Tx, e *stored[entity]) error {
			e.Body.NotBefore = moment(c.at).Add(time.Second)
			return nil
		})
	})
}
