package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"cardea/internal/iam"
)

// Bounds of the cache of grants. A list is the grants of one key to one grantee;
// one that is longer than maxCachedList is read from the store each time.
const (
	cachedGrants  = 200_000 // in all lists together, with one more for each list; a few hundred bytes each
	maxCachedList = 5_000
	grantsAtOnce  = 1_000
)

// grantCache ties lists of grants to a live key: when the key is forgotten, which a
// change of its grants does, nobody asks for its lists any more.
type grantCache struct{ serial atomic.Uint64 }

// grantLists are the cached lists of all keys.
type grantLists struct {
	lists *otter.Cache[grantList, []Grant]
	last  *atomic.Uint64
}

type grantList struct {
	key     uint64
	grantee string
}

func newGrantLists() grantLists {
	return grantLists{
		lists: otter.Must(&otter.Options[grantList, []Grant]{
			MaximumWeight: cachedGrants, Weigher: func(_ grantList, gs []Grant) uint32 { return uint32(1 + len(gs)) },
		}),
		last: new(atomic.Uint64),
	}
}

// name names the list of the key's grants to the grantee.
func (l grantLists) name(k *live, grantee string) grantList {
	n := k.grants.serial.Load()
	if n == 0 {
		k.grants.serial.CompareAndSwap(0, l.last.Add(1))
		n = k.grants.serial.Load()
	}
	return grantList{n, grantee}
}

// grantee is a way in which a grant can name a caller.
type grantee struct {
	name             string
	session, account bool // see iam.GrantMatch
}

// grantees are the names of a caller, the one that its own policies limit least first.
func grantees(c *iam.Caller) []grantee {
	var gs []grantee
	if c.Type == iam.CallerService {
		for _, name := range c.Services {
			gs = append(gs, grantee{name: name, session: true})
		}
		return gs
	}
	if c.Session != "" {
		gs = append(gs, grantee{name: c.Session, session: true})
	}
	if c.ARN != "" && c.Type != iam.CallerRoot {
		gs = append(gs, grantee{name: c.ARN})
	}
	if c.Account != "" {
		gs = append(gs, grantee{name: rootARN(c.Account), account: true})
	}
	return gs
}

// rootARN is how an account is named as a principal.
func rootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

// named returns the name by which a grant's principal is the caller. id is the
// principal's unique id, "" if the grant knows none.
func named(c *iam.Caller, principal, id string) (grantee, bool) {
	if !isPrincipal(c, id) {
		return grantee{}, false
	}
	for _, g := range grantees(c) {
		if g.name == principal {
			return g, true
		}
	}
	return grantee{}, false
}

// isPrincipal reports whether the caller is the user or role, or a session of the role, with
// the unique id: a name may have been another's before.
func isPrincipal(c *iam.Caller, id string) bool {
	own, _, _ := strings.Cut(c.ID, ":")
	return id == "" || id == own
}

func (g *Grant) match(by grantee) *iam.GrantMatch {
	return &iam.GrantMatch{ID: g.ID, ToSession: by.session, ToAccount: by.account}
}

// findGrant looks for a grant on k that lets the subject do op, nil if there is
// none. It takes time proportional to the number of the key's grants to the
// subject, however many others there are. Tokens name grants that this node's cache
// may not know yet.
func (s *Service) findGrant(ctx context.Context, k *live, who *iam.Subject, op GrantOperation, a ask) (*iam.GrantMatch, error) {
	if op == grantRetireGrant {
		return retires(&who.Caller, a.grant), nil
	}
	var found *iam.GrantMatch
	for _, by := range grantees(&who.Caller) {
		err := s.eachGrant(ctx, k, by.name, func(g *Grant) bool {
			if isPrincipal(&who.Caller, g.GranteeID) && g.permits(op, a) {
				found = g.match(by)
			}
			return found == nil
		})
		if err != nil {
			return nil, broken(CodeInternal, "The key's grants could not be read.", err)
		}
		if found != nil {
			return found, nil
		}
	}
	for _, t := range a.tokens {
		g, err := s.grantOfToken(ctx, k, t)
		if err != nil {
			return nil, err
		}
		if g == nil {
			continue
		}
		if by, is := named(&who.Caller, g.Grantee, g.GranteeID); is && g.permits(op, a) {
			return g.match(by), nil
		}
	}
	return nil, nil // no grant is an answer
}

// eachGrant calls yield with the key's grants to a grantee until it returns false.
func (s *Service) eachGrant(ctx context.Context, k *live, grantee string, yield func(*Grant) bool) error {
	name := s.cache.grants.name(k, grantee)
	if gs, cached := s.cache.grants.lists.GetIfPresent(name); cached {
		for i := range gs {
			if !yield(&gs[i]) {
				return nil
			}
		}
		return nil
	}
	var keep []Grant
	for after, n, done := "", 0, false; ; {
		page, err := s.store.Grants(ctx, k.KeyRef, GrantFilter{Grantee: grantee}, after, grantsAtOnce)
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && !done; i++ {
			done = !yield(&page[i])
		}
		if n += len(page); n <= maxCachedList {
			keep = append(keep, page...)
		} else if keep = nil; done {
			return nil
		}
		if len(page) < grantsAtOnce {
			if n <= maxCachedList {
				s.cache.grants.lists.Set(name, keep)
			}
			return nil
		}
		after = page[len(page)-1].ID
	}
}

// grantOfToken is the grant that a token names, nil if it is one of another key.
func (s *Service) grantOfToken(ctx context.Context, k *live, token string) (*Grant, error) {
	t, err := parseGrantToken(token)
	if err != nil || t.key != k.KeyRef {
		return nil, err
	}
	g, err := s.store.Grant(ctx, k.KeyRef, t.grant)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, errGrantToken()
	case err != nil:
		return nil, broken(CodeInternal, "The key's grants could not be read.", err)
	case !t.madeBy(g):
		return nil, errGrantToken()
	}
	return g, nil
}

// permits reports whether the grant lets its grantee do op.
func (g *Grant) permits(op GrantOperation, a ask) bool {
	if !slices.Contains(g.Operations, op) {
		return false
	}
	c := g.Constraints
	if c == nil {
		c = &GrantConstraints{}
	}
	if c.SourceARN != "" {
		return false // no request comes on behalf of a resource here
	}
	switch op {
	case grantCreateGrant:
		return a.grant != nil && a.grant.within(g)
	case grantDescribeKey:
		return true
	default:
		return c.hold(a.context)
	}
}

// retires reports whether the caller may retire the grant by what the grant says.
func retires(c *iam.Caller, g *Grant) *iam.GrantMatch {
	if g == nil {
		return nil
	}
	if by, is := named(c, g.Retiring, g.RetiringID); is {
		return g.match(by)
	}
	if by, is := named(c, g.Grantee, g.GranteeID); is && slices.Contains(g.Operations, grantRetireGrant) {
		return g.match(by)
	}
	return nil
}
