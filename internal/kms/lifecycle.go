package kms

import "context"

func (in *DisableKeyInput) check(v *violations) { v.keyID("keyId", in.KeyID) }

// DisableKey keeps a key from being used until EnableKey.
func (s *Service) DisableKey(ctx context.Context, who Caller, in *DisableKeyInput) error {
	return s.do(ctx, who, OpDisableKey, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.State = StateDisabled
			return nil
		})
	})
}
