package kms

import (
	"context"
)

func (in *ListKeysInput) check(v *violations) { v.page(in.Limit, in.Marker) }

func (in *UpdateKeyDescriptionInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.chars("description", in.Description, 0, maxDescription)
}

// ListKeys lists the keys of the caller's account in the Region, in the order of
// their ids.
func (s *Service) ListKeys(ctx context.Context, who Caller, in *ListKeysInput) (*ListKeysOutput, error) {
	return perform(ctx, s, who, OpListKeys, in, func(c *call, out *ListKeysOutput) error {
		if err := c.allow("*"); err != nil {
			return err
		}
		refs, next, truncated, err := readPage(ctx, markKey, in.Marker, pageSize(in.Limit, defaultKeys, maxLimit),
			func(r KeyRef) string { return r.ID },
			func(ctx context.Context, after string, limit int) ([]KeyRef, error) {
				return s.store.Keys(ctx, c.who.account(), c.who.Region, after, limit)
			})
		if err != nil {
			return err
		}
		out.Keys = make([]KeyListEntry, 0, len(refs))
		for _, r := range refs {
			out.Keys = append(out.Keys, KeyListEntry{KeyARN: r.ARN(), KeyID: r.ID})
		}
		out.NextMarker, out.Truncated = next, truncated
		return nil
	})
}

// UpdateKeyDescription replaces a key's description, which may be empty.
func (s *Service) UpdateKeyDescription(ctx context.Context, who Caller, in *UpdateKeyDescriptionInput) error {
	return s.do(ctx, who, OpUpdateKeyDescription, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.param("description", in.Description)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.Description = in.Description
			return nil
		})
	})
}
