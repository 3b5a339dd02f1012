package kms

import (
	"context"
	"strconv"
	"time"

	"cardea/internal/iam"
)

// The waiting period of a deletion, in days: what the service model takes, and what
// the service does.
const (
	modelMinWindow, modelMaxWindow = 1, 365
	minWindow, maxWindow           = 7, 30
	defaultWindow                  = 30
)

func (in *EnableKeyInput) check(v *violations)         { v.keyID("keyId", in.KeyID) }
func (in *DisableKeyInput) check(v *violations)        { v.keyID("keyId", in.KeyID) }
func (in *CancelKeyDeletionInput) check(v *violations) { v.keyID("keyId", in.KeyID) }

func (in *ScheduleKeyDeletionInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.number("pendingWindowInDays", in.PendingWindowInDays, modelMinWindow, modelMaxWindow)
}

// EnableKey lets a disabled key be used. If its date of rotation has passed
// meanwhile it is due at once.
func (s *Service) EnableKey(ctx context.Context, who Caller, in *EnableKeyInput) error {
	return s.do(ctx, who, OpEnableKey, in, func(c *call) error { return c.setState(ctx, in.KeyID, StateEnabled) })
}

// DisableKey keeps a key from being used until EnableKey.
func (s *Service) DisableKey(ctx context.Context, who Caller, in *DisableKeyInput) error {
	return s.do(ctx, who, OpDisableKey, in, func(c *call) error { return c.setState(ctx, in.KeyID, StateDisabled) })
}

func (c *call) setState(ctx context.Context, keyID string, state KeyState) error {
	c.param("keyId", keyID)
	k, err := c.key(ctx, keyID, ask{})
	if err != nil {
		return err
	}
	if k.State == state {
		c.unchanged()
	}
	if err := c.approve(k, nil); err != nil {
		return err
	}
	return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
		k.State = state
		return nil
	})
}

// ScheduleKeyDeletion ends a key's use and has it deleted after a waiting period.
// That of a multi-Region primary key begins when the last replica is gone.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, who Caller, in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
	return perform(ctx, s, who, OpScheduleKeyDeletion, in, func(c *call, out *ScheduleKeyDeletionOutput) error {
		days := int32(defaultWindow)
		if in.PendingWindowInDays != nil {
			days = *in.PendingWindowInDays
		}
		c.param("keyId", in.KeyID)
		c.param("pendingWindowInDays", strconv.Itoa(int(days)))
		if days < minWindow || days > maxWindow {
			return refuse(CodeValidation, "PendingWindowInDays must be between 7 and 30.")
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) {
			q.Add("kms:ScheduleKeyDeletionPendingWindowInDays", iam.Number(int64(days)))
		}})
		if err != nil {
			return err
		}
		if err := c.approve(k, map[string]string{"window": strconv.Itoa(int(days))}); err != nil {
			return err
		}
		next := k.Clone()
		next.scheduleDeletion(c.at, days)
		*out = ScheduleKeyDeletionOutput{DeletionDate: next.Deletion.At, KeyID: k.arn, KeyState: next.State, PendingWindowInDays: &days}
		c.result("keyId", k.arn)
		c.result("keyState", string(next.State))
		if !next.Deletion.At.IsZero() {
			c.result("deletionDate", next.Deletion.At.UTC().Format(time.RFC3339))
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.scheduleDeletion(c.at, days)
			return nil
		})
	})
}

// scheduleDeletion makes the key wait for its end.
func (k *Key) scheduleDeletion(now time.Time, days int32) {
	k.Deletion = Deletion{WindowDays: days, RotationWas: k.Rotation.Enabled}
	k.Rotation.Enabled = false
	if r := k.Regions; r != nil && r.Type == Primary && len(r.Replicas) > 0 {
		k.State = StatePendingReplicaDeletion
		return
	}
	k.State, k.Deletion.At = StatePendingDeletion, now.AddDate(0, 0, int(days))
}

// CancelKeyDeletion keeps a key, which is then disabled, or pending import if
// imported material has gone meanwhile.
func (s *Service) CancelKeyDeletion(ctx context.Context, who Caller, in *CancelKeyDeletionInput) (*CancelKeyDeletionOutput, error) {
	return perform(ctx, s, who, OpCancelKeyDeletion, in, func(c *call, out *CancelKeyDeletionOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		out.KeyID = k.arn
		c.result("keyId", k.arn)
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.cancelDeletion()
			return nil
		})
	})
}

func (k *Key) cancelDeletion() {
	k.State = StateDisabled
	if k.lacksMaterial() {
		k.State = StatePendingImport
	}
	k.Rotation.Enabled = k.Deletion.RotationWas
	k.Deletion = Deletion{}
}

// lacksMaterial reports whether material of the key has yet to be imported: it
// cannot be used until all that it ever used is there.
func (k *Key) lacksMaterial() bool {
	if k.Origin != OriginExternal {
		return false
	}
	for i := range k.Materials {
		m := &k.Materials[i]
		if (m.State == MaterialCurrent || m.State == MaterialNonCurrent) && m.Import != Imported {
			return true
		}
	}
	return k.Current() == nil
}
