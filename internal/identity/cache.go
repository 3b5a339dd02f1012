package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"cardea/internal/iam"
)

// principal is a user or role ready for use. It does not change.
type principal struct {
	row      *entity
	account  string
	arn      string
	tags     []Tag
	policies []iam.NamedPolicy // its own, without those of groups
	boundary *iam.Policy
	trust    *iam.Policy // of a role
}

// group is a group's policies, named "group/x/policy".
type group struct{ policies []iam.NamedPolicy }

// policyCache keeps parsed documents by what they say, so that many identities
// with the same policy share it. Policies do not change.
type policyCache struct {
	cache *otter.Cache[policyKey, *iam.Policy]
}

type policyKey struct {
	kind iam.PolicyKind
	hash [sha256.Size]byte
}

func newPolicyCache(size int) *policyCache {
	return &policyCache{otter.Must(&otter.Options[policyKey, *iam.Policy]{MaximumSize: size})}
}

// parse is iam.ParsePolicy.
func (c *policyCache) parse(kind iam.PolicyKind, text string) (*iam.Policy, error) {
	k := policyKey{kind, sha256.Sum256([]byte(text))}
	if p, found := c.cache.GetIfPresent(k); found {
		return p, nil
	}
	p, err := iam.ParsePolicy(kind, []byte(text))
	if err != nil {
		return nil, err
	}
	c.cache.Set(k, p)
	return p, nil
}

// now is where the caches stand: what is read after it may be cached only if
// nothing has been forgotten since, for it may be older than what was forgotten.
func (s *Service) cacheEpoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// keep caches what was read at the epoch, unless something has been forgotten since.
func (s *Service) keep(epoch uint64, set func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		set()
	}
}

// forget drops from the caches what has changed. Credentials depend on several
// rows, so a change of any but a session makes all of them be put together anew,
// at their next use: gen tells the old from the new. What is parsed stays.
func (s *Service) forget(changed []Name) {
	if len(changed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	for _, n := range changed {
		switch n.Kind {
		case kindSession:
			s.creds.Invalidate(n.Name)
		case kindAccount:
			s.addAccount(n.Name)
		case kindMember, kindAlias, kindDevice:
		default:
			s.identities.Invalidate(n)
			s.gen.Add(1)
		}
	}
}

// forgetAll drops everything but parsed documents, which do not change: credentials
// are put together anew.
func (s *Service) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.gen.Add(1)
	s.identities.InvalidateAll()
}

// addAccount notes an account. The caller holds s.mu. Accounts are never removed; one
// whose creation failed after all is noted until the next start, and owns nothing.
func (s *Service) addAccount(id string) {
	old := s.accounts.Load()
	next := make(accountSet, len(*old)+1)
	for k := range *old {
		next[k] = struct{}{}
	}
	next[id] = struct{}{}
	s.accounts.Store(&next)
}

// principal returns a user or role, or ErrNoRow. Names are compared exactly.
func (s *Service) principal(ctx context.Context, kind Kind, account, name string) (*principal, error) {
	v, found := s.identities.GetIfPresent(Name{kind, account, fold(name)})
	if !found {
		return s.readPrincipal(ctx, kind, account, name)
	}
	p, ok := v.(*principal)
	if !ok || p.row.Name != name {
		return nil, ErrNoRow
	}
	return p, nil
}

// readPrincipal is principal as it is now, whatever the cache has: another node may have
// deleted it and made another of the same name a moment ago.
func (s *Service) readPrincipal(ctx context.Context, kind Kind, account, name string) (*principal, error) {
	n := Name{kind, account, fold(name)}
	epoch := s.cacheEpoch()
	row, err := load[entity](ctx, s.store, kind, account, n.Name)
	if err != nil {
		return nil, err
	}
	p, err := s.enliven(row)
	if err != nil {
		return nil, err
	}
	s.keep(epoch, func() { s.identities.Set(n, p) })
	if p.row.Name != name {
		return nil, ErrNoRow
	}
	return p, nil
}

// owner is the user or role of the name if it has the unique id, or ErrNoRow.
func (s *Service) owner(ctx context.Context, kind Kind, account, name, id string) (*principal, error) {
	p, err := s.principal(ctx, kind, account, name)
	if err == nil && p.row.ID != id {
		p, err = s.readPrincipal(ctx, kind, account, name)
	}
	if err == nil && p.row.ID != id {
		return nil, ErrNoRow
	}
	return p, err
}

// drop makes the next request read the row anew.
func (s *Service) drop(n Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.identities.Invalidate(n)
}

// enliven makes a row of a user or role ready for use.
func (s *Service) enliven(row *stored[entity]) (*principal, error) {
	b := row.Body
	p := &principal{row: b, account: row.Account, arn: arnOf(row.Kind, row.Account, b.Path, b.Name), tags: tagsOf(b.Tags)}
	var err error
	if p.policies, err = s.namedPolicies(b, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", p.arn, err)
	}
	if b.Boundary != "" {
		if p.boundary, err = s.policies.parse(iam.IdentityPolicy, b.Boundary); err != nil {
			return nil, fmt.Errorf("boundary of %s: %w", p.arn, err)
		}
	}
	if b.Trust != "" {
		if p.trust, err = s.policies.parse(iam.TrustPolicy, b.Trust); err != nil {
			return nil, fmt.Errorf("trust policy of %s: %w", p.arn, err)
		}
	}
	return p, nil
}

func (s *Service) namedPolicies(b *entity, prefix string) ([]iam.NamedPolicy, error) {
	var out []iam.NamedPolicy
	for _, p := range b.Policies {
		parsed, err := s.policies.parse(iam.IdentityPolicy, p.Document)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.Name, err)
		}
		out = append(out, iam.NamedPolicy{Name: prefix + p.Name, Policy: parsed})
	}
	return out, nil
}

// group returns a group's policies, or ErrNoRow.
func (s *Service) group(ctx context.Context, account, name string) (*group, error) {
	n := Name{kindGroup, account, fold(name)}
	if v, found := s.identities.GetIfPresent(n); found {
		if g, ok := v.(*group); ok {
			return g, nil
		}
	}
	epoch := s.cacheEpoch()
	row, err := load[entity](ctx, s.store, kindGroup, account, n.Name)
	if err != nil {
		return nil, err
	}
	policies, err := s.namedPolicies(row.Body, "group/"+row.Body.Name+"/")
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", row.Body.Name, err)
	}
	g := &group{policies}
	s.keep(epoch, func() { s.identities.Set(n, g) })
	return g, nil
}

// all are the identity policies that speak for p: its own and those of its groups.
func (s *Service) all(ctx context.Context, p *principal) ([]iam.NamedPolicy, error) {
	if len(p.row.Groups) == 0 {
		return p.policies, nil
	}
	out := append([]iam.NamedPolicy(nil), p.policies...)
	for _, name := range p.row.Groups {
		g, err := s.group(ctx, p.account, name)
		if errors.Is(err, ErrNoRow) {
			// Its policies may deny something: the subject must not be less limited. Or p
			// was taken out of it on another node.
			s.drop(Name{kindUser, p.account, fold(p.row.Name)})
			return nil, fmt.Errorf("group %s of %s: %w", name, p.arn, errStale)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, g.policies...)
	}
	return out, nil
}

// Refresh makes the caches forget what other nodes have changed since it was last
// called. RunJobs calls it.
func (s *Service) Refresh(ctx context.Context) error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	for {
		changed, last, err := s.store.Changes(ctx, s.seen)
		if errors.Is(err, ErrForgotten) { // cut off from the database for long
			s.forgetAll()
			if err := s.loadAccounts(ctx); err != nil {
				return fmt.Errorf("list accounts: %w", err)
			}
			s.seen = last
			continue
		}
		if err != nil {
			return fmt.Errorf("read changes of identities: %w", err)
		}
		s.forget(changed)
		if last <= s.seen {
			return nil
		}
		s.seen = last
	}
}

// Times of the jobs.
const (
	expireEvery = time.Minute
	expireBatch = 1000
	// keepExpired is how long ended sessions stay, so that who uses them is told
	// that they have expired.
	keepExpired = time.Hour
)

// expire removes sessions that ended a while ago.
func (s *Service) expire(ctx context.Context) error {
	for {
		n, err := s.store.DeleteExpired(ctx, s.now().Add(-keepExpired), expireBatch)
		if err != nil {
			return fmt.Errorf("delete expired sessions: %w", err)
		}
		if n < expireBatch {
			return nil
		}
	}
}
