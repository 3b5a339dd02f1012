package kms

import (
	"context"
	"errors"
)

func (in *GetKeyLastUsageInput) check(v *violations) { v.keyID("keyId", in.KeyID) }

// GetKeyLastUsage tells the last successful cryptographic operation with a key. Uses
// by other nodes are known when their jobs have written them, after seconds. Replicas
// of a multi-Region key have last uses of their own.
func (s *Service) GetKeyLastUsage(ctx context.Context, who Caller, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
	return perform(ctx, s, who, OpGetKeyLastUsage, in, func(c *call, out *GetKeyLastUsageOutput) error {
		c.param("keyId", in.KeyID)
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		own, used := s.usage.of(k.KeyRef) // before the store is asked: it may be written in between
		last, err := s.store.Usage(ctx, k.KeyRef)
		if err != nil && !errors.Is(err, ErrNoRow) {
			return broken(CodeInternal, "The key's last use could not be read.", err)
		}
		if err != nil {
			last = nil
		}
		if used && (last == nil || !own.At.Before(last.At)) {
			last = &own
		}
		// Uses are recorded from a key's creation on. An unused key has an empty object.
		*out = GetKeyLastUsageOutput{KeyID: k.arn, KeyCreationDate: k.CreatedAt, TrackingStartDate: k.CreatedAt, KeyLastUsage: &KeyLastUsageData{}}
		if last != nil {
			*out.KeyLastUsage = KeyLastUsageData{
				CloudTrailEventID: last.EventID, KMSRequestID: last.RequestID, Operation: last.Operation, Timestamp: last.At,
			}
		}
		return nil
	})
}
