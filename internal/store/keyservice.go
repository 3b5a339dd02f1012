package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cardea/internal/audit"
	"cardea/internal/kms"
)

// usageBatch is how many last uses share a transaction.
const usageBatch = 128

// KeyService keeps the state of the key service in a Store, beside the audit log.
// It implements kms.Store. Times come back to the nanosecond, in the zone in which
// they went in.
type KeyService struct {
	keyRows
	s *Store
}

// NewKeyService returns the key service's part of s, which stays the caller's to
// close. It also starts to remove what Changes has told long ago.
func NewKeyService(s *Store) *KeyService {
	s.startPruning()
	return &KeyService{keyRows{s.keyServiceView(readKeyService)}, s}
}

// keyServiceView is view with the errors of the key service.
func (s *Store) keyServiceView(kind readKind) rowView {
	return func(ctx context.Context, fn func(context.Context, session) error) error {
		return keyServiceError(s.view(ctx, kind, fn))
	}
}

// keyServiceError says of a database that cannot be used what the key service
// asks for. Other errors stay as they are.
func keyServiceError(err error) error {
	if u, is := errors.AsType[*unavailableError](err); is {
		return fmt.Errorf("%w: %w", kms.ErrUnavailable, u.cause)
	}
	return err
}

// Append implements kms.Store.
func (k *KeyService) Append(ctx context.Context, entries ...audit.Sealed) error {
	return keyServiceError(k.s.Append(ctx, entries...))
}

// Update implements kms.Store. fn runs on the goroutine that commits for the whole
// node, which waits for it. Several calls share a commit, and what they do happens
// one after the other, on all nodes.
func (k *KeyService) Update(ctx context.Context, fn func(kms.Tx) error) error {
	return keyServiceError(k.s.change(ctx, func(ctx context.Context, c session, n *numbers) ([]audit.Sealed, bool, error) {
		tx := &keyTx{work: work{s: c}}
		tx.keyRows = keyRows{tx.do}
		return tx.finish(fn(tx), func() error { return tx.tellChanges(ctx, n, k.s.now()) })
	}))
}

// PutUsage implements kms.Store. Uses of keys that are gone are left out.
func (k *KeyService) PutUsage(ctx context.Context, us []kms.Usage) error {
	if k.s.com == nil {
		return ErrReadOnly
	}
	us = latestUses(us)
	docs := make([][]byte, len(us))
	for i := range us {
		u := &us[i]
		err := checkText(u.Key.Account, u.Key.Region, u.Key.ID)
		if err == nil {
			docs[i], err = encodeDoc(u)
		}
		if err != nil {
			return fmt.Errorf("last use of key %s: %w", u.Key.ID, err)
		}
	}
	for len(us) > 0 {
		n := min(len(us), usageBatch)
		err := k.s.com.closure(ctx, func(ctx context.Context, c session, _ head) ([]audit.Sealed, error) {
			return nil, mergeUses(ctx, c, us[:n], docs[:n])
		})
		if err != nil {
			return keyServiceError(err)
		}
		us, docs = us[n:], docs[n:]
	}
	return nil
}

// latestUses is the latest use of each key, in the order of the keys: nodes that
// write at the same time must not wait for each other in a circle.
func latestUses(us []kms.Usage) []kms.Usage {
	us = slices.Clone(us)
	slices.SortStableFunc(us, func(a, b kms.Usage) int {
		return cmp.Or(compareRefs(a.Key, b.Key), b.At.Compare(a.At))
	})
	return slices.CompactFunc(us, func(a, b kms.Usage) bool { return a.Key == b.Key })
}

// mergeUses writes uses of different keys, in one statement where each would be a
// round trip.
func mergeUses(ctx context.Context, s session, us []kms.Usage, docs [][]byte) error {
	const later = ` ON CONFLICT (key_row) DO UPDATE SET used_at = excluded.used_at, doc = excluded.doc
		WHERE excluded.used_at > kms_usage.used_at`
	if _, is := s.(*postgresWriter); !is {
		for i := range us {
			_, err := s.exec(ctx, `INSERT INTO kms_usage (key_row, used_at, doc)
				SELECT id, $4, $5 FROM kms_key WHERE account = $1 AND region = $2 AND key_id = $3`+later,
				us[i].Key.Account, us[i].Key.Region, us[i].Key.ID, us[i].At.UnixMicro(), docs[i])
			if err != nil {
				return err
			}
		}
		return nil
	}
	// The keys are locked first: one that another node is deleting is waited for, and
	// then is gone, where the constraint of kms_usage would refuse all of them.
	var accounts, regions, ids []string
	var ats []int64
	for _, u := range us {
		accounts, regions, ids, ats = append(accounts, u.Key.Account), append(regions, u.Key.Region), append(ids, u.Key.ID), append(ats, u.At.UnixMicro())
	}
	_, err := s.exec(ctx, `INSERT INTO kms_usage (key_row, used_at, doc)
		SELECT k.id, u.used_at, u.doc FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[]) AS u (account, region, key_id, used_at, doc)
		JOIN kms_key k ON k.account = u.account AND k.region = u.region AND k.key_id = u.key_id FOR KEY SHARE OF k`+later, accounts, regions, ids, ats, docs)
	return err
}

func compareRefs(a, b kms.KeyRef) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region), cmp.Compare(a.ID, b.ID))
}

// Due implements kms.Store.
func (k *KeyService) Due(ctx context.Context, at time.Time, limit int) ([]kms.KeyRef, error) {
	return k.refs(ctx, `SELECT account, region, key_id FROM kms_key
		WHERE due_at <> 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`, at.UnixMicro(), int64(limit))
}

// dueMicros is when the key is due, rounded up so that it is never found too early;
// 0 for never.
func dueMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, t.Add(time.Microsecond-1).UnixMicro())
}

// Changes implements kms.Store.
func (k *KeyService) Changes(ctx context.Context, after int64) ([]kms.Change, int64, error) {
	var changes []kms.Change
	var r changesRead
	err := k.view(ctx, func(ctx context.Context, c session) (err error) {
		changes = nil
		r, err = keyChanges.after(ctx, c, after, func(scan scanFunc, n *int64) error {
			var ch kms.Change
			err := scan(n, &ch.Account, &ch.Region, &ch.ID, &ch.Alias)
			changes = append(changes, ch)
			return err
		})
		return err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case r.forgotten:
		return nil, r.last, fmt.Errorf("changes of keys after number %d: %w", after, kms.ErrForgotten)
	}
	return changes, r.last, nil
}
