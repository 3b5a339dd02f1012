package vault

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/custodian"
	"cardea/internal/iam"
)

// InitToken makes a master key that a device unseals, for a tenant that has none.
// Errors: ErrSealed, ErrUncertain if the store was lost in the middle (the device's
// key stays then), those of the device and of Custody.
func (c *Ceremonies) InitToken(ctx context.Context, who iam.Principal, tenant string, d custodian.Device) error {
	t := Target{Tenant: tenant, RequestID: RequestID(ctx)}
	return c.gate.do(ctx, who, OpCustodianInit, t, func(call *call) error {
		if err := c.unsealed(ctx, tenant); err != nil {
			return err
		}
		seal, err := custodian.NewTokenSeal(ctx, tenant, d)
		if err != nil {
			return err
		}
		err = c.saveToken(ctx, call, seal)
		if err != nil && !errors.Is(err, ErrUncertain) {
			err = errors.Join(err, seal.Discard(ctx, d))
		}
		return err
	})
}

func (c *Ceremonies) saveToken(ctx context.Context, call *call, seal custodian.TokenSeal) error {
	blob, err := seal.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode seal: %w", err)
	}
	info := seal.Info()
	call.entry.Detail = fmt.Sprintf("token, generation %d, no custodians", info.Generation)
	_, err = call.commit(ctx, "sealed", func(ctx context.Context, e audit.Sealed) (bool, error) {
		row := MasterSeal{Tenant: info.Tenant, Generation: info.Generation, Blob: blob, CreatedAt: c.gate.now()}
		err := c.store.Update(ctx, func(tx CustodyTx) error {
			if err := tx.PutMasterSeal(row); err != nil {
				return err
			}
			tx.Append(e)
			return nil
		})
		return err == nil, verdict(row, err)
	})
	return err
}

// TokenSeal returns the tenant's seal, which only a device opens. Errors: ErrNotFound,
// ErrCorrupt, custodian.ErrCustodianSeal if custodians have it.
func (c *Ceremonies) TokenSeal(ctx context.Context, tenant string) (custodian.TokenSeal, error) {
	row, err := c.store.MasterSeal(ctx, tenant)
	if err != nil {
		return custodian.TokenSeal{}, fmt.Errorf("seal of tenant %q: %w", tenant, err)
	}
	var s custodian.TokenSeal
	err = s.UnmarshalBinary(row.Blob)
	if err != nil && !errors.Is(err, custodian.ErrCustodianSeal) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return custodian.TokenSeal{}, fmt.Errorf("seal of tenant %q: %w", tenant, err)
	}
	return s, nil
}
