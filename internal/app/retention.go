package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/retention"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// How long after its start a node archives for the first time, and how long after a
// try that did not succeed again.
const (
	archiveFirst = time.Minute
	archiveAgain = 15 * time.Minute
)

// errNotArchived says that logs do not verify, so that they were not archived.
var errNotArchived = errors.New("the audit log is not intact: see 'cardea audit verify'")

// keeper archives the logs of a node, and prunes them if it is told to.
type keeper struct {
	n      *Node
	whole  config.Config // of all nodes of the process, with the deliveries
	now    func() time.Time
	log    *slog.Logger
	doneAt atomic.Int64 // Unix time of the last success, or of the start
}

// buildRetention makes the keepers of all nodes, if logs are to be archived.
func (a *App) buildRetention(cfg config.Config, now func() time.Time) ([]*keeper, error) {
	if !cfg.Audit.Retention.Enabled() {
		return nil, nil
	}
	var keepers []*keeper
	for _, n := range a.nodes() {
		k := &keeper{n: n, whole: cfg, now: now, log: a.log}
		k.doneAt.Store(now().Unix())
		err := a.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cardea_log_archive_age_seconds", Help: "Time since the node's audit logs were last archived with success, or since its start.",
			ConstLabels: prometheus.Labels{"part": n.name},
		}, func() float64 { return float64(now().Unix() - k.doneAt.Load()) }))
		if err != nil {
			return nil, fmt.Errorf("metrics of retention: %w", err)
		}
		keepers = append(keepers, k)
	}
	return keepers, nil
}

// retain archives until ctx ends, in goroutines of g. That the logs are read for it
// is itself an entry (PCI DSS 10.2.1.3), once.
func (a *App) retain(ctx context.Context, g *errgroup.Group) error {
	keepers, err := a.buildRetention(a.current(), a.now())
	if err != nil {
		return err
	}
	for _, k := range keepers {
		what := "archive to " + k.whole.Audit.Retention.Dir
		if b := k.whole.Audit.Retention.Bucket; b != "" {
			what = "archive to s3://" + b
		}
		if err := k.n.gate.Record(ctx, iam.System("retention"), vault.OpLogRead, vault.Target{}, "read", what); err != nil {
			return fmt.Errorf("record the archive: %w", err)
		}
		g.Go(func() error {
			k.run(ctx, a.tellRetention)
			return nil
		})
	}
	return nil
}

// now is the clock of the nodes.
func (a *App) now() func() time.Time {
	for _, n := range a.nodes() {
		return n.now
	}
	return time.Now //nolint:forbidigo // there is no node, and nothing to archive
}

// tellRetention tells receivers of what a keeper does not succeed in; nil ends it.
func (a *App) tellRetention(ctx context.Context, k *keeper, err error) {
	subject := k.n.current().Node.Name
	switch {
	case a.delivery == nil && err != nil:
		a.log.ErrorContext(ctx, "audit log not archived", slog.String("part", k.n.name), slog.Any("error", err))
		return
	case a.delivery == nil:
		return
	case err == nil:
		a.delivery.pumps.Resolve(ctx, siem.CheckRetention, subject, "the audit logs of "+subject+" are archived again")
		return
	}
	a.delivery.pumps.Raise(ctx, siem.Finding{
		Check: siem.CheckRetention, Subject: subject, Since: time.Unix(k.doneAt.Load(), 0).UTC(), Message: "the audit logs of " + subject + " are not archived: " + err.Error(),
		Next: "nothing is removed that is not archived; see what 'cardea audit verify' finds, and whether the archive can be reached",
	})
}

func (k *keeper) run(ctx context.Context, tell func(context.Context, *keeper, error)) {
	wait := archiveFirst
	for sleep(ctx, wait) == nil {
		err := k.archive(ctx)
		if ctx.Err() != nil {
			return
		}
		tell(ctx, k, err)
		if wait = k.whole.Audit.Retention.Interval.Duration; err != nil {
			wait = min(wait, archiveAgain)
			continue
		}
		k.doneAt.Store(k.now().Unix())
	}
}

// archive archives the logs of the node and of its command line, and prunes them.
func (k *keeper) archive(ctx context.Context) error {
	r := k.whole.Audit.Retention
	place, err := archivePlace(ctx, r, k.now)
	if err != nil {
		return err
	}
	to, err := retention.OpenArchive(ctx, place)
	if err != nil {
		return err
	}
	cfg := k.n.current()
	keys, err := publicKeys(cfg.Audit.SigningKeyFile)
	if err != nil {
		return err
	}
	mine, err := OwnLogs(cfg)
	if err != nil {
		return err
	}
	there, err := k.n.store.Logs(ctx)
	if err != nil {
		return err
	}
	var errs error
	for _, origin := range mine {
		if slices.Contains(there, origin) {
			errs = errors.Join(errs, k.archiveLog(ctx, to, origin, keys))
		}
	}
	return errs
}

func (k *keeper) archiveLog(ctx context.Context, to *retention.Archive, origin string, keys []string) error {
	r := k.whole.Audit.Retention
	done, err := to.Add(ctx, k.n.store, origin, k.now().Add(-r.ArchiveAfter.Duration), k.now(), keys)
	switch {
	case err != nil:
		return err
	case len(done.Report.Findings) > 0:
		return fmt.Errorf("%s: %w: %s", origin, errNotArchived, done.Report.Findings[0].Message)
	case done.Period.To > 0:
		k.log.InfoContext(ctx, "audit log archived", slog.String("log", origin), slog.Int64("from", done.Period.From), slog.Int64("to", done.Period.To), slog.String("file", done.Period.File))
	}
	if !r.Prune {
		return nil
	}
	o := pruneOptions(k.whole, k.n.gate, k.n.signer, iam.System("retention"), k.now)
	o.Before, o.Verifiers = k.now().Add(-r.AtHand.Duration), keys
	p, err := to.Prune(ctx, k.n.store, origin, o)
	switch {
	case err != nil:
		return err
	case len(p.Findings) > 0:
		return fmt.Errorf("archive of %s: %w: %s", origin, errNotArchived, p.Findings[0].Message)
	case p.To > 0:
		k.log.InfoContext(ctx, "audit log pruned", slog.String("log", origin), slog.Int64("from", p.From), slog.Int64("to", p.To))
	}
	if p.Waits != "" {
		k.log.WarnContext(ctx, "audit log not pruned: a delivery has not delivered it", slog.String("log", origin), slog.String("delivery", p.Waits))
	}
	return nil
}

// archivePlace is the place of the archive.
func archivePlace(ctx context.Context, r config.AuditRetention, now func() time.Time) (retention.Place, error) {
	if r.Dir != "" {
		return retention.Folder(r.Dir), nil
	}
	return retention.Bucket(ctx, retention.BucketOptions{
		Bucket: r.Bucket, Prefix: strings.Trim(r.Prefix, "/"), Region: r.Region, Endpoint: r.Endpoint, Profile: r.Profile, CAFile: r.CAFile,
		KMSKey: r.KMSKey, LockMode: strings.ToUpper(r.ObjectLock), LockFor: r.Kept.Duration, Now: now,
	})
}

// publicKeys are the public keys beside a signing key: those of the node's log, also
// earlier ones, and of its command line's.
func publicKeys(signingKey string) ([]string, error) {
	dir, base := filepath.Split(strings.TrimSuffix(signingKey, ".key"))
	files, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), base) || !strings.HasSuffix(f.Name(), ".pub") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		keys = append(keys, strings.Fields(string(b))...)
	}
	return keys, nil
}
