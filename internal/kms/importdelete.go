package kms

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

func (in *DeleteImportedKeyMaterialInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.materialID(in.KeyMaterialID)
}

// DeleteImportedKeyMaterial takes imported material out of a key at once: that with
// the id in the request, or else the current one. The key cannot be used until the
// same material is imported again; but material that it has not been rotated to yet
// is forgotten.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context, who Caller, in *DeleteImportedKeyMaterialInput) (*DeleteImportedKeyMaterialOutput, error) {
	return perform(ctx, s, who, OpDeleteImportedKeyMaterial, in, func(c *call, out *DeleteImportedKeyMaterialOutput) error {
		c.param("keyId", in.KeyID)
		c.param("keyMaterialId", in.KeyMaterialID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		if k.Origin != OriginExternal {
			return k.wrongOrigin()
		}
		m := k.Current()
		if in.KeyMaterialID != "" {
			if m = k.Material(in.KeyMaterialID); m == nil {
				return refuse(CodeNotFound, "Key material "+in.KeyMaterialID+" of "+k.arn+" does not exist.")
			}
		}
		out.KeyID = k.arn
		c.result("keyId", k.arn)
		if m == nil { // nothing was ever imported
			return nil
		}
		if err := c.approve(k, map[string]string{"material": m.ID}); err != nil {
			return err
		}
		out.KeyMaterialID = m.ID
		c.result("keyMaterialId", m.ID)
		if err := c.removeMaterial(ctx, k, []string{m.ID}); err != nil {
			return err
		}
		s.destroy(ctx, k.Key, []Material{*m})
		return nil
	})
}

// removeMaterial takes the materials with the ids out of the key, and what waits to
// be rotated to out of its replicas as well.
func (c *call) removeMaterial(ctx context.Context, k *live, ids []string) error {
	lose := func(k *Key) {
		for _, id := range ids {
			k.lose(id)
		}
	}
	if w := k.waiting(); w != nil && slices.Contains(ids, w.ID) && !k.Replicates() {
		return c.updateShared(ctx, k, func(keys []*Key) error {
			lose(keys[0])
			return nil
		})
	}
	return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
		lose(k)
		return nil
	})
}

// lose takes imported material out of the key.
func (k *Key) lose(id string) {
	m := k.Material(id)
	if m == nil {
		return
	}
	associated := m.State == MaterialCurrent || m.State == MaterialNonCurrent
	if !associated && !k.Replicates() {
		k.Materials = slices.DeleteFunc(k.Materials, func(m Material) bool { return m.ID == id })
		return
	}
	m.Handle, m.Public, m.Import, m.Expiration, m.ValidTo = nil, nil, PendingImport, "", time.Time{}
	if associated && (k.State == StateEnabled || k.State == StateDisabled) {
		k.State = StatePendingImport
	}
}

// destroy has the backend forget materials that are gone from the store. It is too
// late to refuse: what stays behind is told to the operator.
func (s *Service) destroy(ctx context.Context, k *Key, ms []Material) {
	ctx, cancel := lasting(ctx)
	defer cancel()
	b, err := s.backend(k)
	for i := range ms {
		if err == nil {
			err = b.Destroy(ctx, k.ref(&ms[i]))
		}
		if err != nil {
			s.log.WarnContext(ctx, "deleted key material stays in its backend",
				slog.String("key_id", k.ID), slog.String("material_id", ms[i].ID), slog.Any("error", err))
		}
	}
}
