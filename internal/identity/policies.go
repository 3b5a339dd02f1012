package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"cardea/internal/iam"
)

// maxPolicyName is the longest name of an inline policy.
const maxPolicyName = 128

// Quotas of policies in characters without white space (AWS: "IAM and AWS STS
// quotas"): of all inline policies of an entity together, of a trust policy and of
// a boundary.
const (
	maxUserPolicies  = 2048
	maxRolePolicies  = 10240
	maxGroupPolicies = 5120
	maxTrustPolicy   = 4096
	maxBoundary      = 6144
)

// PolicyInput names an inline policy of a user, role or group.
type PolicyInput struct {
	Account  string
	Entity   string // name of the user, role or group
	Name     string
	Document string // Put… only; JSON
}

type policyInput struct {
	*PolicyInput
	kind Kind
	put  bool
}

func (in policyInput) check(v *violations) {
	checkEntity(v, in.kind, &EntityInput{in.Account, in.Entity})
	v.name("policyName", in.Name, maxPolicyName)
	if in.put {
		v.required("policyDocument", in.Document != "")
	}
}

// Policy is an inline policy as it was put.
type Policy struct {
	Name     string
	Document string
}

// PutUserPolicy adds or replaces an inline policy of a user, as the two below do
// for others. Errors: MalformedPolicyDocument, LimitExceeded, NoSuchEntity.
func (s *Service) PutUserPolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.putPolicy(ctx, who, OpPutUserPolicy, kindUser, in)
}

// PutRolePolicy is PutUserPolicy for a role.
func (s *Service) PutRolePolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.putPolicy(ctx, who, OpPutRolePolicy, kindRole, in)
}

// PutGroupPolicy is PutUserPolicy for a group.
func (s *Service) PutGroupPolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.putPolicy(ctx, who, OpPutGroupPolicy, kindGroup, in)
}

func (s *Service) putPolicy(ctx context.Context, who Caller, op *Operation, kind Kind, in *PolicyInput) error {
	return s.do(ctx, &who, op, policyInput{in, kind, true}, func(c *call) error {
		c.param("policyName", in.Name)
		e, err := c.entity(ctx, kind, &EntityInput{in.Account, in.Entity})
		if err != nil {
			return err
		}
		if _, err := parsePolicy(iam.IdentityPolicy, in.Document); err != nil {
			return err
		}
		return c.changeEntity(ctx, e, func(_ context.Context, _ Tx, e *stored[entity]) error {
			b := e.Body
			if i, found := findPolicy(b, in.Name); found {
				b.Policies[i].Document = in.Document
			} else {
				b.Policies = slices.Insert(b.Policies, i, policyBody{in.Name, in.Document})
			}
			return checkQuota(b, kind)
		})
	})
}

func findPolicy(b *entity, name string) (int, bool) {
	return slices.BinarySearchFunc(b.Policies, name, func(p policyBody, name string) int { return strings.Compare(p.Name, name) })
}

func policyNames(b *entity) []string {
	var names []string
	for _, p := range b.Policies {
		names = append(names, p.Name)
	}
	return names
}

// GetUserPolicy returns an inline policy of a user.
func (s *Service) GetUserPolicy(ctx context.Context, who Caller, in *PolicyInput) (*Policy, error) {
	return s.getPolicy(ctx, who, OpGetUserPolicy, kindUser, in)
}

// GetRolePolicy returns an inline policy of a role.
func (s *Service) GetRolePolicy(ctx context.Context, who Caller, in *PolicyInput) (*Policy, error) {
	return s.getPolicy(ctx, who, OpGetRolePolicy, kindRole, in)
}

// GetGroupPolicy returns an inline policy of a group.
func (s *Service) GetGroupPolicy(ctx context.Context, who Caller, in *PolicyInput) (*Policy, error) {
	return s.getPolicy(ctx, who, OpGetGroupPolicy, kindGroup, in)
}

func (s *Service) getPolicy(ctx context.Context, who Caller, op *Operation, kind Kind, in *PolicyInput) (*Policy, error) {
	return perform(ctx, s, who, op, policyInput{in, kind, false}, func(c *call, out *Policy) error {
		c.param("policyName", in.Name)
		e, err := c.entity(ctx, kind, &EntityInput{in.Account, in.Entity})
		if err != nil {
			return err
		}
		i, found := findPolicy(e.Body, in.Name)
		if !found {
			return noPolicy(kind, in.Name)
		}
		*out = Policy(e.Body.Policies[i])
		return nil
	})
}

func noPolicy(kind Kind, name string) *Error {
	return refuse(CodeNoSuchEntity, "The "+string(kind)+" policy with name "+name+" cannot be found.")
}

// DeleteUserPolicy removes an inline policy of a user.
func (s *Service) DeleteUserPolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.deletePolicy(ctx, who, OpDeleteUserPolicy, kindUser, in)
}

// DeleteRolePolicy removes an inline policy of a role.
func (s *Service) DeleteRolePolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.deletePolicy(ctx, who, OpDeleteRolePolicy, kindRole, in)
}

// DeleteGroupPolicy removes an inline policy of a group.
func (s *Service) DeleteGroupPolicy(ctx context.Context, who Caller, in *PolicyInput) error {
	return s.deletePolicy(ctx, who, OpDeleteGroupPolicy, kindGroup, in)
}

func (s *Service) deletePolicy(ctx context.Context, who Caller, op *Operation, kind Kind, in *PolicyInput) error {
	return s.do(ctx, &who, op, policyInput{in, kind, false}, func(c *call) error {
		c.param("policyName", in.Name)
		return c.change(ctx, kind, &EntityInput{in.Account, in.Entity}, func(_ context.Context, _ Tx, e *stored[entity]) error {
			i, found := findPolicy(e.Body, in.Name)
			if !found {
				return noPolicy(kind, in.Name)
			}
			e.Body.Policies = slices.Delete(e.Body.Policies, i, i+1)
			return nil
		})
	})
}

// BoundaryInput sets or removes the permissions boundary of a user or role.
type BoundaryInput struct {
	Account  string
	Entity   string
	Document string // empty removes it
}

type boundaryInput struct {
	*BoundaryInput
	kind Kind
}

func (in boundaryInput) check(v *violations) {
	checkEntity(v, in.kind, &EntityInput{in.Account, in.Entity})
}

// SetUserBoundary sets or removes the permissions boundary of a user. Unlike AWS,
// where a boundary is a managed policy, it is a document of its own.
func (s *Service) SetUserBoundary(ctx context.Context, who Caller, in *BoundaryInput) error {
	return s.setBoundary(ctx, who, OpPutUserBoundary, OpDeleteUserBoundary, kindUser, in)
}

// SetRoleBoundary is SetUserBoundary for a role.
func (s *Service) SetRoleBoundary(ctx context.Context, who Caller, in *BoundaryInput) error {
	return s.setBoundary(ctx, who, OpPutRoleBoundary, OpDeleteRoleBoundary, kindRole, in)
}

func (s *Service) setBoundary(ctx context.Context, who Caller, put, remove *Operation, kind Kind, in *BoundaryInput) error {
	op := put
	if in.Document == "" {
		op = remove
	}
	return s.do(ctx, &who, op, boundaryInput{in, kind}, func(c *call) error {
		e, err := c.entity(ctx, kind, &EntityInput{in.Account, in.Entity})
		if err != nil {
			return err
		}
		if err := s.checkDocuments(&entity{Boundary: in.Document}, kind); err != nil {
			return err
		}
		return c.changeEntity(ctx, e, func(_ context.Context, _ Tx, e *stored[entity]) error {
			if in.Document == "" && e.Body.Boundary == "" {
				return refuse(CodeNoSuchEntity, "The "+string(kind)+" "+in.Entity+" does not have a permissions boundary.")
			}
			e.Body.Boundary = in.Document
			return nil
		})
	})
}

// checkDocuments checks the boundary and trust policy of a new or changed entity.
func (s *Service) checkDocuments(b *entity, kind Kind) error {
	if b.Boundary != "" {
		if n := policySize(b.Boundary); n > maxBoundary {
			return refuse(CodeLimitExceeded, "Cannot exceed quota for PolicySize: "+strconv.Itoa(maxBoundary))
		}
		if _, err := parsePolicy(iam.IdentityPolicy, b.Boundary); err != nil {
			return err
		}
	}
	if kind != kindRole || b.Trust == "" {
		return nil
	}
	if n := policySize(b.Trust); n > maxTrustPolicy {
		return refuse(CodeLimitExceeded, "Cannot exceed quota for ACLSizePerRole: "+strconv.Itoa(maxTrustPolicy))
	}
	_, err := parsePolicy(iam.TrustPolicy, b.Trust)
	return err
}

// parsePolicy is iam.ParsePolicy with the API's errors.
func parsePolicy(kind iam.PolicyKind, text string) (*iam.Policy, error) {
	p, err := iam.ParsePolicy(kind, []byte(text))
	if errors.Is(err, iam.ErrPolicyTooLarge) {
		return nil, refuse(CodeLimitExceeded, "Cannot exceed quota for PolicySize: "+strconv.Itoa(iam.MaxPolicyBytes))
	}
	if err != nil {
		return nil, &Error{Code: CodeMalformedPolicy, Message: strings.ToUpper(err.Error()[:1]) + err.Error()[1:] + ".", cause: err}
	}
	return p, nil
}

// checkQuota bounds the inline policies of an entity.
func checkQuota(b *entity, kind Kind) error {
	most, name := maxUserPolicies, "user "
	switch kind {
	case kindRole:
		most, name = maxRolePolicies, "role "
	case kindGroup:
		most, name = maxGroupPolicies, "group "
	}
	n := 0
	for _, p := range b.Policies {
		n += policySize(p.Document)
	}
	if n > most {
		return refuse(CodeLimitExceeded, "Maximum policy size of "+strconv.Itoa(most)+" bytes exceeded for "+name+b.Name)
	}
	return nil
}

// policySize is the length without white space, which AWS does not count.
func policySize(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}
