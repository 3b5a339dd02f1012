package app

import (
	"context"
	"math"
	"slices"
	"time"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/retention"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// PruneOptions are what the command line prunes logs with, in the name of who.
func (t *Tool) PruneOptions(cfg config.Config, who iam.Principal, now func() time.Time) retention.PruneOptions {
	return pruneOptions(cfg, t.Gate, t.signer, who, now)
}

func pruneOptions(cfg config.Config, g *vault.Gate, s *audit.Signer, who iam.Principal, now func() time.Time) retention.PruneOptions {
	return retention.PruneOptions{
		Now: now, Signer: s,
		Undelivered: func(origin string) (int64, string, error) { return undelivered(cfg, origin) },
		Record: func(ctx context.Context, origin, detail string, write func(context.Context, audit.Sealed) error) error {
			return g.RecordChange(ctx, who, vault.OpLogPrune, vault.Target{Reference: origin}, "pruned", detail, write)
		},
	}
}

// OwnLogs are the logs of a node and of its command line: those that it may prune,
// because it knows to whom they are delivered.
func OwnLogs(cfg config.Config) ([]string, error) {
	origin, err := audit.Origin(cfg.Node.Name)
	return []string{origin, origin + "-cli"}, err
}

// undelivered gives the first entry of a log that one of the configuration's
// deliveries has yet to deliver, and its name. One that has not begun has delivered
// nothing.
func undelivered(cfg config.Config, origin string) (next int64, delivery string, err error) {
	next = math.MaxInt64
	var own []string
	for _, n := range NodeConfigs(cfg) {
		logs, err := OwnLogs(n)
		if err != nil {
			return 0, "", err
		}
		own = append(own, logs...)
	}
	for _, d := range cfg.Audit.Delivery {
		if d.Logs == config.DeliveryLogsOwn && !slices.Contains(own, origin) {
			continue
		}
		s, err := siem.ReadStatus(DeliveryDir(cfg), d.Name, nil)
		if err != nil {
			return 0, "", err
		}
		if at := s.Next[origin]; at < next {
			next, delivery = at, d.Name
		}
	}
	return next, delivery, nil
}
