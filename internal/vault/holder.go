package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// holderSecretSize is the length of an entity's secret in bytes.
const holderSecretSize = 32

// ProvisionHolder creates the merchant or entity if it is new, and returns it
// without its secret. It is idempotent: the creation time is always that of the
// first call. Errors: *ValidationError, ErrShredded and those of Store.
func (s *Service) ProvisionHolder(ctx context.Context, who iam.Principal, tenant, name string) (Holder, error) {
	var h Holder
	t := Target{Tenant: tenant, Holder: name, RequestID: RequestID(ctx)}
	err := s.do(ctx, who, OpHolderCreate, t, func(c *call) error {
		if err := checkID("entity_id", name); err != nil {
			return err
		}
		var err error
		h, err = s.createHolder(ctx, c, tenant, name)
		return err
	})
	if err != nil {
		return Holder{}, err
	}
	h.Secret = nil // nobody's business but the key manager's
	return h, nil
}

// createHolder inserts the holder under the call's own entry, unless it exists.
func (s *Service) createHolder(ctx context.Context, c *call, tenant, name string) (Holder, error) {
	h := Holder{Tenant: tenant, Name: name, Secret: make([]byte, holderSecretSize), CreatedAt: s.now()}
	rand.Read(h.Secret)
	var standing Holder
	seen := s.forgot.Load()
	created, err := c.commit(ctx, "created", func(ctx context.Context, e audit.Sealed) (created bool, err error) {
		standing, created, err = s.store.PutHolder(ctx, h, e)
		return created, err
	})
	if err != nil {
		return Holder{}, err
	}
	if !created {
		c.entry.Result = "existed"
	}
	s.keepHolder(standing, seen)
	return standing, standing.usable()
}

// holder finds the holder for a store; if it is new and the tenant allows it,
// the holder is created by an operation of its own.
func (s *Service) holder(ctx context.Context, tenant Tenant, name string) (Holder, error) {
	h, err := s.knownHolder(ctx, tenant.Name, name)
	if err == nil {
		return h, h.usable()
	}
	if !errors.Is(err, ErrNotFound) || !tenant.LazyHolders {
		return h, err
	}
	t := Target{Tenant: tenant.Name, Holder: name, RequestID: RequestID(ctx)}
	err = s.do(ctx, iam.System("lazy-holder"), OpHolderCreate, t, func(c *call) error {
		h, err = s.createHolder(ctx, c, tenant.Name, name)
		return err
	})
	if err != nil {
		return Holder{}, err
	}
	return h, nil
}

// usable returns nil if records may be stored for h, else ErrShredded.
func (h *Holder) usable() error {
	if h.ShreddedAt == 0 {
		return nil
	}
	return fmt.Errorf("%s was shredded at %s, and nothing is stored for it any more: %w", h.Name, h.ShreddedAt.Time().Format(time.RFC3339), ErrShredded)
}

// knownHolder returns the holder, shredded or not, or ErrNotFound.
func (s *Service) knownHolder(ctx context.Context, tenant, name string) (Holder, error) {
	if h, ok := s.holders.GetIfPresent(holderKey{tenant, name}); ok {
		return h, nil
	}
	seen := s.forgot.Load()
	h, err := s.store.Holder(ctx, tenant, name)
	if err != nil {
		return Holder{}, err
	}
	s.keepHolder(h, seen)
	return h, nil
}

// keepHolder puts a holder into memory that was read when forgot was seen. What was
// read before forgetHolders does not stay: either that finds it, or this sees that it
// was called.
func (s *Service) keepHolder(h Holder, seen uint64) {
	k := holderKey{h.Tenant, h.Name}
	s.holders.Set(k, h)
	if s.forgot.Load() != seen {
		s.holders.Invalidate(k)
	}
}

// forgetHolders makes the next operations look for a tenant's merchants and
// entities, because one of them is shredded.
func (s *Service) forgetHolders(tenant string) {
	s.forgot.Add(1)
	for k := range s.holders.Keys() {
		if k.tenant == tenant {
			s.holders.Invalidate(k)
		}
	}
}
