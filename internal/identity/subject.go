package identity

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"cardea/internal/iam"
)

// SubjectOf is the principal with the ARN as it would be to policies if it made a
// request, for questions what it may do: an account's root, a user with a
// long-term access key, a role or a session of one. A role is given as a session
// named explain. It authenticates nobody. Errors: NoSuchEntity, ServiceFailure.
func (s *Service) SubjectOf(ctx context.Context, arn string) (*iam.Subject, error) {
	none := refuse(CodeNoSuchEntity, "There is no principal "+cut(arn)+": name a user, a role, a session of a role or an account's root by its ARN.")
	a, err := iam.ParseARN(arn)
	if err != nil || !s.HasAccount(ctx, a.Account) {
		return nil, none
	}
	if arn == rootARN(a.Account) {
		return &iam.Subject{Caller: iam.Caller{Type: iam.CallerRoot, ARN: arn, Account: a.Account, ID: a.Account}}, nil
	}
	kind, name, ok := principalOf(a)
	if !ok {
		return nil, none
	}
	p, err := s.principal(ctx, kind, a.Account, name)
	if errors.Is(err, ErrNoRow) || err == nil && a.Service != "sts" && p.arn != arn {
		return nil, none
	}
	if err != nil {
		return nil, own(err)
	}
	sub, err := s.subject(ctx, p, "")
	if err != nil {
		return nil, own(err)
	}
	if kind == kindRole {
		session := "explain"
		if a.Service == "sts" {
			session = a.Resource[strings.LastIndexByte(a.Resource, '/')+1:]
		}
		sub.Caller.Type, sub.Caller.Session = iam.CallerRole, sessionARN(a.Account, p.row.Name, session)
		sub.Caller.ID += ":" + session
		sub.Caller.Issued = s.now()
	}
	return sub, nil
}

// Accounts are the ids of all accounts, sorted.
func (s *Service) Accounts() []string {
	return slices.Sorted(maps.Keys(*s.accounts.Load()))
}
