package vault

import (
	"context"
	"crypto/rand"
	"errors"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// holderSecretSize is the length of an entity's secret in bytes.
const holderSecretSize = 32

// ProvisionHolder creates the merchant or entity if it is new, and returns it
// without its secret. It is idempotent: the creation time is always that of the
// first call. Errors: *ValidationError and those of Store.
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
	s.holders.Set(holderKey{tenant, name}, standing)
	return standing, nil
}

// holder finds the holder for a store; if it is new and the tenant allows it,
// the holder is created by an operation of its own.
func (s *Service) holder(ctx context.Context, tenant Tenant, name string) (Holder, error) {
	h, err := s.knownHolder(ctx, tenant.Name, name)
	if err == nil || !errors.Is(err, ErrNotFound) || !tenant.LazyHolders {
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

func (s *Service) knownHolder(ctx context.Context, tenant, name string) (Holder, error) {
	key := holderKey{tenant, name}
	if h, ok := s.holders.GetIfPresent(key); ok {
		return h, nil
	}
	h, err := s.store.Holder(ctx, tenant, name)
	if err != nil {
		return Holder{}, err
	}
	s.holders.Set(key, h)
	return h, nil
}

// forgetHolders makes the next operations look for a tenant's merchants and
// entities, because one of them has lost its secret.
func (s *Service) forgetHolders(tenant string) {
	for k := range s.holders.Keys() {
		if k.tenant == tenant {
			s.holders.Invalidate(k)
		}
	}
}
