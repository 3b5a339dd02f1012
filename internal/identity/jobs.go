package identity

import (
	"context"
	"log/slog"
	"time"
)

// RunJobs forgets what other nodes change, every Options.RefreshEvery, and removes
// ended sessions, until ctx ends. While the database cannot be reached it keeps
// trying; nothing can be done with a stale identity meanwhile, since no operation
// is answered without its audit entry.
func (s *Service) RunJobs(ctx context.Context) {
	refresh, expire := time.NewTicker(s.refreshEvery), time.NewTicker(expireEvery)
	defer refresh.Stop()
	defer expire.Stop()
	broken := false // so that an outage is logged once
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			err = s.Refresh(ctx)
		case <-expire.C:
			err = s.expire(ctx)
		}
		if err != nil && !broken && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "jobs of the identity service do not work", slog.Any("error", err))
		}
		broken = err != nil
	}
}
