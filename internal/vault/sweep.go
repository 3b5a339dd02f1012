package vault

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"cardea/internal/iam"
)

// sweepParallel is how many expired rows are removed at once, so that they share
// commits.
const sweepParallel = 64

// Sweep removes up to limit expired records, each with an audit entry of its
// own, and returns how many it removed (PCI DSS 3.2.1).
func (s *Service) Sweep(ctx context.Context, limit int) (int, error) {
	rows, err := s.store.Expired(ctx, s.now(), limit)
	if err != nil {
		return 0, fmt.Errorf("list expired records: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sweepParallel)
	for _, r := range rows {
		g.Go(func() error { return s.expireRow(ctx, r) })
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("remove expired records: %w", err)
	}
	return len(rows), nil
}

// SweepEvery sweeps at once and then every interval until ctx ends. A pass that
// finds a full batch is followed by another at once.
func (s *Service) SweepEvery(ctx context.Context, interval time.Duration, batch int) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		n, err := s.Sweep(ctx, batch)
		if err != nil && ctx.Err() == nil {
			s.Logger.ErrorContext(ctx, "expired records not removed, next try after the interval", slog.Any("error", err))
		}
		if n > 0 {
			s.Logger.InfoContext(ctx, "expired records removed", slog.Int("count", n))
		}
		if n == batch && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Service) expireRow(ctx context.Context, r ExpiredRecord) error {
	t := Target{Tenant: r.Tenant, Holder: r.Holder, Customer: r.Customer, Reference: r.Reference, RequestID: RequestID(ctx)}
	return s.do(ctx, iam.System("sweeper"), OpRecordExpire, t, func(c *call) error {
		c.entry.Resource.Kind = r.Kind.String()
		e, err := c.with("expired")
		if err != nil {
			return err
		}
		deleted, err := s.store.DeleteRecord(ctx, r.Lookup, s.now(), e)
		if err != nil {
			return err
		}
		if deleted {
			c.done()
		} else {
			c.entry.Result = "absent"
		}
		return nil
	})
}
