package identity

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/sigv4"
)

// lockFor is how long an access key is locked (PCI DSS 8.3.4: at least 30 minutes).
const lockFor = 30 * time.Minute

// keyGuard is under which name failures of access keys are counted.
const keyGuard = "key"

// Failed counts a failed authentication with an access key, which the transport has
// recorded. The last of Options.MaxFailures in a row locks the key for half an
// hour on all nodes, with an entry of its own; then even a right signature is
// refused, as if there were no such key. Failures with keys that do not exist are
// not counted. The error is that of the store.
func (s *Service) Failed(ctx context.Context, accessKeyID string, ip netip.Addr) error {
	l, err := s.live(ctx, accessKeyID)
	if errors.Is(err, sigv4.ErrUnknownKey) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.now().Before(l.locked) {
		return nil
	}
	s.guarded.Store(true)
	lock := s.guard.Fail(keyGuard, accessKeyID)
	l.strikes.counted.Store(true) // after it was counted: see Succeeded
	if !lock {
		return nil
	}
	who := Caller{Operator: iam.System("lockout"), IP: ip}
	err = s.recordLockout(ctx, &who, accessKeyID, l.account, func(ctx context.Context, tx Tx, until time.Time) error {
		err := setLock(ctx, tx, l.kind, accessKeyID, until)
		if errors.Is(err, ErrNoRow) { // deleted meanwhile
			return nil
		}
		return err
	})
	if err != nil { // not locked: the next failure tries again
		s.guard.Forget(keyGuard, accessKeyID)
		s.guard.Import([]custodian.Lockout{{Tenant: keyGuard, Name: accessKeyID, Failures: s.maxFailures - 1}})
	}
	return err
}

// Succeeded ends a row of failures. It costs next to nothing if there was none.
func (s *Service) Succeeded(accessKeyID string) {
	l, found := s.creds.GetIfPresent(accessKeyID)
	if !found || !l.strikes.counted.Load() {
		return
	}
	l.strikes.counted.Store(false) // before: a failure meanwhile sets it again
	s.guard.Success(keyGuard, accessKeyID)
}

// recordLockout records that something was tried too often, with the change that
// lock makes, which may be nil.
func (s *Service) recordLockout(ctx context.Context, who *Caller, what, account string, lock func(ctx context.Context, tx Tx, until time.Time) error) error {
	return s.do(ctx, who, OpLockout, nil, func(c *call) error {
		until := c.at.Add(lockFor)
		c.entry.PCI = pciDenied
		c.entry.Detail = strconv.Itoa(s.maxFailures) + " failures in a row: locked until " + until.UTC().Format(time.RFC3339)
		c.resource("credential", what, account)
		c.asked = true
		if lock == nil {
			return nil
		}
		return c.update(ctx, func(ctx context.Context, tx Tx) error { return lock(ctx, tx, until) })
	})
}

// setLock locks an access key or session, or, with the zero time, unlocks it. One
// that is gone is ErrNoRow.
func setLock(ctx context.Context, tx Tx, kind Kind, id string, until time.Time) error {
	if kind == kindSession {
		row, err := load[sessionBody](ctx, tx, kind, "", id)
		if err != nil {
			return err
		}
		row.Body.Locked = until
		return put(ctx, tx, row)
	}
	row, err := load[keyBody](ctx, tx, kind, "", id)
	if err != nil {
		return err
	}
	row.Body.Locked = until
	return put(ctx, tx, row)
}

// UnlockAccessKey ends the lockout of an access key, once its user's identity has
// been confirmed (PCI DSS 8.3.4), and forgets the failures that this node counted.
func (s *Service) UnlockAccessKey(ctx context.Context, who Caller, in *AccessKeyInput) error {
	err := s.do(ctx, &who, OpUnlockAccessKey, in, func(c *call) error {
		return c.accessKey(ctx, in, func(ctx context.Context, tx Tx, _ *stored[keyBody]) error {
			return setLock(ctx, tx, kindAccessKey, in.ID, time.Time{})
		})
	})
	if err == nil {
		s.guard.Forget(keyGuard, in.ID)
	}
	return err
}
