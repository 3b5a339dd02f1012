package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cardea/internal/audit"
)

// The keys of a multi-Region key, one in each Region, share their material and
// their rotation: what changes in the primary key changes in its replicas, in the
// same transaction.

// related reads k as it is now and, if it is a multi-Region key, the other keys of
// the set, as copies that may be changed, k first. If k's state, policy or tags
// have changed since the permission was given, the operation begins anew.
func related(ctx context.Context, tx Tx, k *live) ([]*Key, error) {
	now, err := tx.Key(ctx, k.KeyRef)
	if errors.Is(err, ErrNoRow) || err == nil && now.Version != k.Version {
		return nil, errStale
	}
	if err != nil {
		return nil, err
	}
	keys := []*Key{now.Clone()}
	if now.Regions == nil {
		return keys, nil
	}
	for _, region := range append([]string{now.Regions.Primary}, now.Regions.Replicas...) {
		if region == now.Region {
			continue
		}
		other, err := tx.Key(ctx, KeyRef{now.Account, region, now.ID})
		if err != nil {
			return nil, fmt.Errorf("multi-Region key %s in %s: %w", now.ID, region, err)
		}
		keys = append(keys, other.Clone())
	}
	return keys, nil
}

// putAll writes the keys.
func putAll(ctx context.Context, tx Tx, keys []*Key) error {
	for _, k := range keys {
		if err := tx.PutKey(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func changesOf(keys []*Key) []Change {
	cs := make([]Change, len(keys))
	for i, k := range keys {
		cs[i].KeyRef = k.KeyRef
	}
	return cs
}

// updateShared is updateKey for what replicas share with their primary key k.
// change gets k, then its replicas, which afterwards get from k what they share.
// also adds further entries.
func (c *call) updateShared(ctx context.Context, k *live, change func(keys []*Key) error, also ...func(Tx) error) error {
	return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		keys, err := related(ctx, tx, k)
		if err != nil {
			return []Change{{KeyRef: k.KeyRef}}, err
		}
		changed := changesOf(keys)
		if err := change(keys); err != nil {
			return changed, err
		}
		for _, replica := range keys[1:] {
			keys[0].share(replica)
			who := system("replication", replica.Region, replica.Account)
			if err := c.also(tx, who, OpSynchronizeKey, replica.KeyRef, "keyId", replica.ID); err != nil {
				return changed, err
			}
		}
		for _, f := range also {
			if err := f(tx); err != nil {
				return changed, err
			}
		}
		return changed, putAll(ctx, tx, keys)
	})
}

// share gives a replica what it shares with k, its primary key.
func (k *Key) share(replica *Key) {
	replica.MaterialSecret = k.MaterialSecret
	replica.Rotation = k.Rotation
	if s := replica.State; s == StatePendingDeletion || s == StatePendingReplicaDeletion {
		replica.Deletion.RotationWas, replica.Rotation.Enabled = k.Rotation.Enabled, false
	}
	if k.Origin != OriginExternal {
		replica.Materials = slices.Clone(k.Materials)
		return
	}
	// Imported material is brought into each Region by its owner: shared is which
	// materials there are and which is current, not the material.
	ms := make([]Material, len(k.Materials))
	for i, m := range k.Materials {
		ms[i] = Material{
			ID: m.ID, State: m.State, CreatedAt: m.CreatedAt, RotatedAt: m.RotatedAt, Rotation: m.Rotation,
			Import: PendingImport, Description: m.Description,
		}
		if m.State == MaterialPendingRegions {
			ms[i].State = MaterialPendingRotation
		}
		if old := replica.Material(m.ID); old != nil {
			ms[i].Handle, ms[i].Public, ms[i].Import = old.Handle, old.Public, old.Import
			ms[i].Description, ms[i].Expiration, ms[i].ValidTo = old.Description, old.Expiration, old.ValidTo
		}
	}
	replica.Materials = ms
}

// also adds an entry for what happens along with the operation: CloudTrail has a
// record of its own for it. params are names, each followed by its value.
func (c *call) also(tx Tx, who Caller, op *Operation, ref KeyRef, params ...string) error {
	e, err := c.aside(who, op, ref, params)
	if err != nil {
		return broken(CodeInternal, "The request could not be recorded in the audit log and was refused.", err)
	}
	tx.Append(e)
	return nil
}

func (c *call) aside(who Caller, op *Operation, ref KeyRef, params []string) (audit.Sealed, error) {
	who.RequestID = c.who.RequestID
	a := c.s.begin(who, op)
	a.entry.Time = c.at
	a.resource("key", ref.ARN(), ref.Account)
	a.params(params)
	return a.entry.Seal()
}

// params adds names, each followed by its value.
func (c *call) params(list []string) {
	for p := range slices.Chunk(list, 2) {
		c.param(p[0], p[1])
	}
}
