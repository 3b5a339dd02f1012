package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/sigv4"
)

var _ sigv4.Keys = (*Service)(nil)

// live is an access key or session ready for use. It does not change.
type live struct {
	gen        uint64 // of the cache, see Service.forget
	credential sigv4.Credential
	subject    *iam.Subject
	kind       Kind // kindAccessKey or kindSession
	account    string
	sealed     []byte // the secret
	locked     time.Time
	transitive []string // keys of session tags that go on to the next role
	strikes    *strikes
}

// strikes says whether failures of an access key may have been counted since the
// last success. It outlives the live it was made for.
type strikes struct{ counted atomic.Bool }

// Lookup implements [sigv4.Keys]. The principal is an *[iam.Subject]. A key that is
// unknown, inactive or locked, or whose owner is gone, is sigv4.ErrUnknownKey; any
// other error means that nobody can tell.
func (s *Service) Lookup(ctx context.Context, accessKeyID string) (sigv4.Credential, error) {
	l, err := s.live(ctx, accessKeyID)
	if err != nil {
		return sigv4.Credential{}, err
	}
	if !l.locked.IsZero() && s.now().Before(l.locked) {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	return l.credential, nil
}

// Secret implements [sigv4.Keys]. The error is ErrSecretUnavailable, with its
// cause, if the secret cannot be opened.
func (s *Service) Secret(ctx context.Context, c sigv4.Credential) (secret.Bytes, error) {
	l, err := s.live(ctx, c.SecretID)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, err := s.secrets.OpenSecret(ctx, secretLabel(l.kind, l.account, c.SecretID), l.sealed)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrSecretUnavailable, err)
	}
	return plain, nil
}

// live finds an access key, from the cache if nothing has changed that it depends
// on. One that may not be used is sigv4.ErrUnknownKey.
func (s *Service) live(ctx context.Context, id string) (*live, error) {
	old, found := s.creds.GetIfPresent(id)
	if found && old.gen == s.gen.Load() {
		return old, nil
	}
	if !isKeyID(id) {
		return nil, sigv4.ErrUnknownKey
	}
	for tries := 1; ; tries++ {
		l, err := s.loadLive(ctx, strings.Clone(id), old)
		switch {
		case errors.Is(err, errStale) && tries < maxTries:
		case errors.Is(err, ErrNoRow):
			return nil, sigv4.ErrUnknownKey
		case err != nil:
			return nil, fmt.Errorf("access key %s: %w", id, err)
		default:
			return l, nil
		}
	}
}

func (s *Service) loadLive(ctx context.Context, id string, old *live) (*live, error) {
	gen := s.gen.Load() // before the epoch: what is older is put together anew
	epoch := s.cacheEpoch()
	var l *live
	var err error
	if id[:4] == prefixAccessKey {
		l, err = s.ofAccessKey(ctx, id)
	} else {
		l, err = s.ofSession(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	l.gen = gen
	if old != nil {
		l.strikes = old.strikes
	} else {
		l.strikes = new(strikes)
		l.strikes.counted.Store(s.guarded.Load())
	}
	s.keep(epoch, func() { s.creds.Set(id, l) })
	return l, nil
}

// ofAccessKey puts a long-term access key together, or is ErrNoRow.
func (s *Service) ofAccessKey(ctx context.Context, id string) (*live, error) {
	row, err := load[keyBody](ctx, s.store, kindAccessKey, "", id)
	if err != nil {
		return nil, err
	}
	k := row.Body
	if !k.Active {
		return nil, ErrNoRow
	}
	p, err := s.owner(ctx, kindUser, k.Account, k.User, k.UserID)
	if err != nil {
		return nil, err
	}
	sub, err := s.subject(ctx, p, id)
	if err != nil {
		return nil, err
	}
	return &live{
		credential: sigv4.Credential{SecretID: id, Principal: sub},
		subject:    sub, kind: kindAccessKey, account: k.Account, sealed: k.Secret, locked: k.Locked,
	}, nil
}

// subject is the user p by a long-term access key.
func (s *Service) subject(ctx context.Context, p *principal, id string) (*iam.Subject, error) {
	policies, err := s.all(ctx, p)
	if err != nil {
		return nil, err
	}
	return &iam.Subject{
		Caller:      iam.Caller{Type: iam.CallerUser, ARN: p.arn, Account: p.account, ID: p.row.ID, Tags: p.tags},
		AccessKeyID: id, Identity: policies, Boundary: p.boundary,
	}, nil
}

// ofSession puts temporary credentials together, or is ErrNoRow.
func (s *Service) ofSession(ctx context.Context, id string) (*live, error) {
	row, err := load[sessionBody](ctx, s.store, kindSession, "", id)
	if err != nil {
		return nil, err
	}
	b := row.Body
	p, err := s.owner(ctx, b.Kind, b.Account, b.Of, b.OfID)
	if err != nil {
		return nil, err
	}
	if b.Issued.Before(p.row.NotBefore) {
		return nil, ErrNoRow
	}
	if b.Key != "" { // the access key that it came from must still be good
		k, err := load[keyBody](ctx, s.store, kindAccessKey, "", b.Key)
		if err != nil {
			return nil, err
		}
		if !k.Body.Active || k.Body.UserID != b.OfID {
			return nil, ErrNoRow
		}
	}
	sub, err := s.subject(ctx, p, id)
	if err != nil {
		return nil, err
	}
	sub.Caller.Issued, sub.Caller.MFA, sub.Caller.SourceIdentity = b.Issued, b.MFA, b.Source
	if b.Kind == kindRole {
		sub.Caller.Type = iam.CallerRole
		sub.Caller.Session = sessionARN(b.Account, p.row.Name, b.Name)
		sub.Caller.ID += ":" + b.Name
		sub.Caller.Tags = mergeTags(p.tags, tagsOf(b.Tags))
	}
	for _, text := range b.Policies {
		parsed, err := s.policies.parse(iam.IdentityPolicy, text)
		if err != nil {
			return nil, fmt.Errorf("session policy: %w", err)
		}
		sub.Session = append(sub.Session, iam.NamedPolicy{Name: "session", Policy: parsed})
	}
	return &live{
		credential: sigv4.Credential{
			SecretID: id, SessionTokenHash: [sha256.Size]byte(b.Token), ExpiresAt: row.ExpiresAt, Principal: sub,
		},
		subject: sub, kind: kindSession, account: b.Account, sealed: b.Secret, locked: b.Locked, transitive: b.Transitive,
	}, nil
}

// mergeTags are the tags of a role with those of its session, which win.
func mergeTags(role, session []Tag) []Tag {
	if len(session) == 0 {
		return role
	}
	out := append([]Tag(nil), session...)
	for _, t := range role {
		if findTag(session, t.Key) < 0 {
			out = append(out, t)
		}
	}
	return out
}

// findTag is where the tag with the key is, which is not case-sensitive; -1 if nowhere.
func findTag(ts []Tag, key string) int {
	for i := range ts {
		if strings.EqualFold(ts[i].Key, key) {
			return i
		}
	}
	return -1
}
