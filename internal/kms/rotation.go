package kms

import (
	"context"
	"slices"
	"strconv"
	"time"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
)

// The period of automatic rotations, in days.
const (
	minRotationDays     = 90
	maxRotationDays     = 2560
	defaultRotationDays = 365
)

// rotationIsNear is how long before an automatic rotation none on demand is begun.
const rotationIsNear = 20 * time.Minute

func (in *EnableKeyRotationInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.number("rotationPeriodInDays", in.RotationPeriodInDays, minRotationDays, maxRotationDays)
}

func (in *DisableKeyRotationInput) check(v *violations)   { v.keyID("keyId", in.KeyID) }
func (in *GetKeyRotationStatusInput) check(v *violations) { v.keyID("keyId", in.KeyID) }
func (in *RotateKeyOnDemandInput) check(v *violations)    { v.keyID("keyId", in.KeyID) }

// EnableKeyRotation has the key's material replaced every so many days, 365 if the
// request does not say. The first time is so many days from now; a new period
// counts from the rotation before, and may be over already.
func (s *Service) EnableKeyRotation(ctx context.Context, who Caller, in *EnableKeyRotationInput) error {
	return s.do(ctx, who, OpEnableKeyRotation, in, func(c *call) error {
		days := int32(defaultRotationDays)
		if in.RotationPeriodInDays != nil {
			days = *in.RotationPeriodInDays
			c.param("rotationPeriodInDays", strconv.Itoa(int(days)))
		}
		return c.setRotation(ctx, in.KeyID, func(q *iam.Context) {
			q.Add("kms:RotationPeriodInDays", iam.Number(int64(days)))
		}, func(r *Rotation) {
			last := c.at
			if r.Enabled {
				last = r.Next.AddDate(0, 0, -int(r.PeriodDays))
			}
			r.Enabled, r.PeriodDays, r.Next = true, days, last.AddDate(0, 0, int(days))
		})
	})
}

// DisableKeyRotation ends automatic rotation; what was rotated stays.
func (s *Service) DisableKeyRotation(ctx context.Context, who Caller, in *DisableKeyRotationInput) error {
	return s.do(ctx, who, OpDisableKeyRotation, in, func(c *call) error {
		return c.setRotation(ctx, in.KeyID, nil, func(r *Rotation) {
			r.Enabled, r.PeriodDays, r.Next = false, 0, time.Time{}
		})
	})
}

func (c *call) setRotation(ctx context.Context, keyID string, add func(*iam.Context), set func(*Rotation)) error {
	c.param("keyId", keyID)
	k, err := c.key(ctx, keyID, ask{add: add})
	if err != nil {
		return err
	}
	if k.Origin == OriginExternal {
		return k.wrongOrigin()
	}
	if err := k.checkRotates(); err != nil {
		return err
	}
	return c.updateShared(ctx, k, func(keys []*Key) error {
		set(&keys[0].Rotation)
		return nil
	})
}

// checkRotates refuses keys whose material is never replaced, and replicas, whose
// material is replaced with that of their primary key.
func (k *Key) checkRotates() error {
	switch {
	case k.KeyStoreID != "":
		return k.wrongOrigin()
	case k.Spec != keyspec.SymmetricDefault:
		return refuse(CodeUnsupported, k.ARN()+" key spec is "+string(k.Spec)+" which is not valid for this operation.")
	case k.Replicates():
		return k.notPrimary()
	}
	return nil
}

func (k *Key) wrongOrigin() error {
	return refuse(CodeUnsupported, k.ARN()+" origin is "+string(k.Origin)+" which is not valid for this operation.")
}

func (k *Key) notPrimary() error {
	return refuse(CodeUnsupported, k.ARN()+" is not a multi-Region primary key.")
}

// GetKeyRotationStatus tells whether and when the key is rotated by itself. Of keys
// that never are it says that they are not, which is no error: clients ask for
// every key. There is never a rotation on demand under way: RotateKeyOnDemand is
// done when it answers.
func (s *Service) GetKeyRotationStatus(ctx context.Context, who Caller, in *GetKeyRotationStatusInput) (*GetKeyRotationStatusOutput, error) {
	return perform(ctx, s, who, OpGetKeyRotationStatus, in, func(c *call, out *GetKeyRotationStatusOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		out.KeyID = k.ID
		if k.Rotation.Enabled && k.State != StatePendingDeletion && k.State != StatePendingReplicaDeletion {
			days := k.Rotation.PeriodDays
			out.KeyRotationEnabled, out.NextRotationDate, out.RotationPeriodInDays = true, k.Rotation.Next, &days
		}
		return nil
	})
}

// RotateKeyOnDemand replaces the key's material now: by new material, or, for
// imported material, by that which was imported to be next. What there was stays,
// to decrypt. It does not move the schedule of automatic rotations.
//
// AWS begins a rotation and does it soon; here it is done, and durable, when the
// operation answers, so that what is encrypted next is encrypted with the new
// material.
func (s *Service) RotateKeyOnDemand(ctx context.Context, who Caller, in *RotateKeyOnDemandInput) (*RotateKeyOnDemandOutput, error) {
	return perform(ctx, s, who, OpRotateKeyOnDemand, in, func(c *call, out *RotateKeyOnDemandOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		if err := k.checkRotates(); err != nil {
			return err
		}
		if r := &k.Rotation; r.Enabled && r.Next.Sub(c.at) <= rotationIsNear {
			return refuse(CodeConflict, "An automatic rotation of "+k.arn+" is in progress or scheduled to begin within the next 20 minutes.")
		}
		if k.Rotation.OnDemand >= s.limits.OnDemandRotations {
			return refuse(CodeLimitExceeded, "The on-demand rotations limit has been reached for the given keyId. "+
				"No more on-demand rotations can be performed for this key: "+k.arn)
		}
		out.KeyID = k.ID
		c.result("keyId", k.ID)
		if k.Origin == OriginExternal {
			return c.rotateToImported(ctx, k)
		}
		return c.rotate(ctx, k, RotatedOnDemand)
	})
}

// rotate replaces the material by new material of the backend.
func (c *call) rotate(ctx context.Context, k *live, why RotationType) error {
	b, err := c.s.backend(k.Key)
	if err != nil {
		return err
	}
	m := Material{ID: newMaterialID(), State: MaterialNonCurrent, CreatedAt: c.at}
	if m.Handle, m.Public, err = b.Generate(ctx, k.ref(&m)); err != nil {
		return backendError(err)
	}
	err = c.makeCurrent(ctx, k, m.ID, why, func(keys []*Key) error {
		keys[0].Materials = append(keys[0].Materials, m)
		return nil
	})
	unused := k.Clone()
	unused.Materials = []Material{m}
	c.s.undo(ctx, unused, err)
	return err
}

// rotateToImported replaces the material by that which waits for it. All replicas
// must have it too.
func (c *call) rotateToImported(ctx context.Context, k *live) error {
	none := "No available key material pending rotation for the key: " + k.arn + "."
	i := slices.IndexFunc(k.Materials, func(m Material) bool { return m.State == MaterialPendingRotation && m.Import == Imported })
	if i < 0 {
		return refuse(CodeInvalidState, none)
	}
	id := k.Materials[i].ID
	return c.makeCurrent(ctx, k, id, RotatedOnDemand, func(keys []*Key) error {
		for _, k := range keys[1:] {
			if m := k.Material(id); m == nil || m.Import != Imported {
				return refuse(CodeInvalidState, none+" It has not been imported into "+k.ARN()+".")
			}
		}
		return nil
	})
}

// makeCurrent writes a rotation: add brings in the material with the id, which then
// is current.
func (c *call) makeCurrent(ctx context.Context, k *live, id string, why RotationType, add func(keys []*Key) error) error {
	told := []string{
		"keyId", k.ID, "rotationType", string(why), "keyOrigin", string(k.Origin),
		"previousKeyMaterialId", k.Current().ID, "currentKeyMaterialId", id,
	}
	byJob := c.op == OpRotateKey
	if byJob {
		c.params(told)
	}
	return c.updateShared(ctx, k, func(keys []*Key) error {
		if err := add(keys); err != nil {
			return err
		}
		k := keys[0]
		k.promote(id, c.at, why)
		if byJob {
			k.Rotation.Next = c.at.AddDate(0, 0, int(k.Rotation.PeriodDays))
		} else {
			k.Rotation.OnDemand++
		}
		return nil
	}, func(tx Tx) error { // as CloudTrail: what was asked for, and what was done
		if byJob {
			return nil
		}
		return c.also(tx, system("rotation", k.Region, k.Account), OpRotateKey, k.KeyRef, told...)
	})
}

// promote makes the material with the id current.
func (k *Key) promote(id string, now time.Time, why RotationType) {
	for i := range k.Materials {
		switch m := &k.Materials[i]; {
		case m.ID == id:
			m.State, m.RotatedAt, m.Rotation = MaterialCurrent, now, why
		case m.State == MaterialCurrent:
			m.State = MaterialNonCurrent
		}
	}
}
