package vault

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// sweepParallel is how many expired rows are removed at once, so that they share
// commits.
const sweepParallel = 64

// Sweep removes up to limit expired records, each with an audit entry of its
// own, and returns how many it removed (PCI DSS 3.2.1). An error is that of the
// first that was not removed; it does not keep the others.
func (s *Service) Sweep(ctx context.Context, limit int) (int, error) {
	removed, _, err := s.sweep(ctx, limit)
	return removed, err
}

// sweep tells besides whether there may be more.
func (s *Service) sweep(ctx context.Context, limit int) (removed int, more bool, err error) {
	if limit < 1 {
		return 0, false, fmt.Errorf("sweep of %d records: must be at least 1", limit)
	}
	rows, err := s.store.Expired(ctx, s.now(), limit)
	if err != nil {
		return 0, false, fmt.Errorf("list expired records: %w", err)
	}
	var count atomic.Int64
	var g errgroup.Group
	g.SetLimit(sweepParallel)
	for _, r := range rows {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			deleted, err := s.expireRow(ctx, r)
			if deleted {
				count.Add(1)
			}
			return err
		})
	}
	err = cmp.Or(g.Wait(), ctx.Err())
	removed = int(count.Load())
	if err != nil {
		return removed, false, fmt.Errorf("remove expired records: %w", err)
	}
	// Without any progress another pass would find the same.
	return removed, len(rows) == limit && removed > 0, nil
}

// SweepEvery sweeps at once and then every interval until ctx ends. A pass that
// finds a full batch is followed by another at once.
func (s *Service) SweepEvery(ctx context.Context, interval time.Duration, batch int) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		n, more, err := s.sweep(ctx, batch)
		if err != nil && ctx.Err() == nil {
			s.Logger.ErrorContext(ctx, "expired records not removed, next try after the interval", slog.Any("error", err))
		}
		if n > 0 {
			s.Logger.InfoContext(ctx, "expired records removed", slog.Int("count", n))
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// expireRow removes a row if it is expired, and reports whether it did.
func (s *Service) expireRow(ctx context.Context, r ExpiredRecord) (deleted bool, err error) {
	t := Target{Tenant: r.Tenant, Holder: r.Holder, Customer: r.Customer, Reference: r.Reference, RequestID: RequestID(ctx)}
	err = s.do(ctx, iam.System("sweeper"), OpRecordExpire, t, func(c *call) error {
		c.entry.Resource.Kind = r.Kind.String()
		deleted, err = c.commit(ctx, "expired", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return s.store.DeleteRecord(ctx, r.Lookup, s.now(), e)
		})
		if err == nil && !deleted {
			c.entry.Result = "absent"
		}
		return err
	})
	return deleted, err
}
