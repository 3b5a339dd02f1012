package vault

import (
	"context"
	"fmt"

	"cardea/internal/custodian"
	"cardea/internal/iam"
)

// Custodians unseal tenants' master keys. Methods are safe for concurrent use.
type Custodians interface {
	// Submit takes the part of one custodian.
	Submit(tenant, name string, part custodian.Part) error
	// Unlock opens the master key from the parts submitted.
	Unlock(tenant string) error
	// Lock forgets the master key.
	Lock(tenant string) error
	// Status never fails for a known tenant.
	Status(tenant string) (custodian.Status, error)
	// Unlocked is the part of Status that every request asks for.
	Unlocked(tenant string) bool
}

// SubmitPart takes a custodian's part of the tenant's custodian key. who is the
// custodian, and nobody else: one person under two names would be a quorum.
// Errors: ErrDenied and those of package custodian.
func (s *Service) SubmitPart(ctx context.Context, who iam.Principal, tenant string, part custodian.Part) error {
	return s.custody(ctx, who, OpCustodianPart, tenant, "accepted", func() error {
		if who.Type != iam.TypeCustodian {
			return fmt.Errorf("%w: only a custodian gives a part", ErrDenied)
		}
		return s.custodians.Submit(tenant, who.Name, part)
	})
}

// Unlock opens the tenant from the parts submitted.
func (s *Service) Unlock(ctx context.Context, who iam.Principal, tenant string) error {
	return s.custody(ctx, who, OpCustodianUnlock, tenant, "unlocked", func() error { return s.custodians.Unlock(tenant) })
}

// Lock forgets the tenant's master key at once.
func (s *Service) Lock(ctx context.Context, who iam.Principal, tenant string) error {
	return s.custody(ctx, who, OpCustodianLock, tenant, "locked", func() error { return s.custodians.Lock(tenant) })
}

// CustodyStatus tells how far a tenant's unlocking is.
func (s *Service) CustodyStatus(ctx context.Context, who iam.Principal, tenant string) (custodian.Status, error) {
	var st custodian.Status
	err := s.custody(ctx, who, OpCustodianStatus, tenant, "told", func() error {
		var err error
		st, err = s.custodians.Status(tenant)
		return err
	})
	return st, err
}

func (s *Service) custody(ctx context.Context, who iam.Principal, op *Operation, tenant, result string, act func() error) error {
	t := Target{Tenant: tenant, RequestID: RequestID(ctx)}
	return s.do(ctx, who, op, t, func(c *call) error {
		c.entry.Resource.Reference = who.Name
		if err := act(); err != nil {
			return err
		}
		c.entry.Result = result
		return nil
	})
}

// Diagnose probes what a tenant's requests depend on.
func (s *Service) Diagnose(ctx context.Context, who iam.Principal, tenant string) (Probe, error) {
	var p Probe
	err := s.do(ctx, who, OpDiagnose, Target{Tenant: tenant, RequestID: RequestID(ctx)}, func(c *call) error {
		p = s.store.Probe(ctx)
		_, p.Keys = s.keys.MAC(ctx, tenant, PurposeFingerprint, []byte("cardea probe"))
		c.entry.Result = "probed"
		return nil
	})
	return p, err
}
