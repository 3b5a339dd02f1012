package kms

import (
	"context"
	"slices"

	"cardea/internal/keyspec"
)

// markRotation is of the markers of ListKeyRotations.
const markRotation mark = 'r'

func (in *ListKeyRotationsInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	enum(v, "includeKeyMaterial", in.IncludeKeyMaterial, AllMaterial, RotationsOnly)
	v.page(in.Limit, in.Marker)
}

// ListKeyRotations lists the rotations of a key, the oldest first, each with the
// material that became current by it; if asked for, the first material and what
// waits to be rotated to as well.
func (s *Service) ListKeyRotations(ctx context.Context, who Caller, in *ListKeyRotationsInput) (*ListKeyRotationsOutput, error) {
	return perform(ctx, s, who, OpListKeyRotations, in, func(c *call, out *ListKeyRotationsOutput) error {
		c.param("keyId", in.KeyID)
		c.param("includeKeyMaterial", string(in.IncludeKeyMaterial))
		after, err := openMarker(markRotation, in.Marker)
		if err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		if k.KeyStoreID != "" {
			return k.wrongOrigin()
		}
		if k.Spec != keyspec.SymmetricDefault {
			return refuse(CodeUnsupported, k.arn+" key spec is "+string(k.Spec)+" which is not valid for this operation.")
		}
		ms := k.Materials
		if after != "" {
			i := slices.IndexFunc(ms, func(m Material) bool { return m.ID == after })
			if i < 0 { // it was there when the marker was given
				return refuse(CodeInvalidMarker, "The marker is not one of this list.")
			}
			ms = ms[i+1:]
		}
		var list []RotationsListEntry
		for i := range ms {
			if in.IncludeKeyMaterial == AllMaterial || !ms[i].RotatedAt.IsZero() {
				list = append(list, k.rotation(&ms[i]))
			}
		}
		out.Rotations, out.NextMarker, out.Truncated = cutPage(markRotation, list, pageSize(in.Limit, defaultKeys, maxLimit),
			func(e RotationsListEntry) string { return e.KeyMaterialID })
		return nil
	})
}

func (k *Key) rotation(m *Material) RotationsListEntry {
	e := RotationsListEntry{KeyID: k.ID, KeyMaterialID: m.ID, KeyMaterialState: m.State, RotationDate: m.RotatedAt, RotationType: m.Rotation}
	if k.Origin == OriginExternal {
		e.ImportState, e.KeyMaterialDescription, e.ExpirationModel, e.ValidTo = m.Import, m.Description, m.Expiration, m.ValidTo
	}
	return e
}
