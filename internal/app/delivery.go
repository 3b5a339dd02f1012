package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/httpd"
	"cardea/internal/iam"
	"cardea/internal/siem"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// Delivery carries the audit logs to receivers, and publishes their checkpoints.
type Delivery struct {
	pumps     *siem.Delivery
	publisher *siem.Publisher // nil if nothing is published
	names     []string
	stores    []*store.Store // to close, if they are its own
}

// DeliveryDir is where the state of deliveries is.
func DeliveryDir(cfg config.Config) string { return filepath.Join(cfg.Node.DataDir, "delivery") }

// publishedFile is what was published last.
func publishedFile(cfg config.Config) string {
	return filepath.Join(DeliveryDir(cfg), "published.json")
}

// ReadPublished tells what was published last, by target and log.
func ReadPublished(cfg config.Config) (map[string]siem.LastPublished, error) {
	return siem.ReadPublished(publishedFile(cfg))
}

// delivers says whether a configuration has anything to deliver to.
func delivers(cfg config.Config) bool {
	return len(cfg.Audit.Delivery) > 0 || cfg.Audit.Publish.Enabled()
}

// OpenDelivery opens the databases of cfg for reading and what delivers from them,
// beside a running node or without one. The error is siem.ErrBusy if the node
// delivers by itself.
func OpenDelivery(ctx context.Context, cfg config.Config, o Options) (d *Delivery, err error) {
	if !delivers(cfg) {
		return nil, errors.New("the configuration has no [[audit.delivery]] and no [audit.publish]: there is nothing to deliver to")
	}
	var stores []*store.Store
	defer func() {
		if err != nil {
			for _, s := range stores {
				err = errors.Join(err, s.Close())
			}
		}
	}()
	var nodes []string
	var sources []audit.Source
	for _, c := range NodeConfigs(cfg) {
		s, err := OpenStore(ctx, c, StoreOptions{Logger: o.Logger, Now: o.Now, ReadOnly: true})
		if err != nil {
			return nil, err
		}
		stores, nodes, sources = append(stores, s), append(nodes, c.Node.Name), append(sources, s)
	}
	if d, err = newDelivery(ctx, cfg, o, nodes, sources, nil); err != nil {
		return nil, err
	}
	d.stores = stores
	return d, nil
}

// NodeConfigs are the configurations of the parts that cfg serves, each with a
// database and a log of its own.
func NodeConfigs(cfg config.Config) []config.Config {
	var list []config.Config
	if cfg.Vault.Listen != "" {
		list = append(list, cfg)
	}
	if cfg.KeyService.Enabled() {
		list = append(list, cfg.ForKeyService())
	}
	return list
}

// newDelivery builds deliveries of the logs of nodes, which sources have in the
// same order.
func newDelivery(ctx context.Context, cfg config.Config, o Options, nodes []string, sources []audit.Source, metrics prometheus.Registerer) (*Delivery, error) {
	var own []string
	var logs, ownLogs []siem.Log
	for i, node := range nodes {
		origin, err := audit.Origin(node)
		if err != nil {
			return nil, fmt.Errorf("node.name: %w", err)
		}
		both := []string{origin, origin + "-cli"}
		own = append(own, both...)
		logs = append(logs, siem.Log{Source: sources[i]})
		ownLogs = append(ownLogs, siem.Log{Source: sources[i], Origins: both})
	}
	d := &Delivery{}
	var receivers []siem.Receiver
	for i, c := range cfg.Audit.Delivery {
		sink, err := newSink(ctx, cfg.Node.Name, c, o)
		if err != nil {
			return nil, fmt.Errorf("audit.delivery[%d]: %w", i, err)
		}
		r := siem.Receiver{
			Name: c.Name, Sink: sink, Filter: siem.Filter(c.Filter), BatchEntries: c.BatchEntries, Linger: c.BatchWait.Duration,
			Timeout: c.Timeout.Duration, StallAfter: c.StallAfter.Duration, FromNow: c.Start == config.DeliveryStartNow,
		}
		if c.Logs == config.DeliveryLogsOwn {
			r.Origins = own
		}
		receivers, d.names = append(receivers, r), append(d.names, c.Name)
	}
	if !slices.ContainsFunc(cfg.Audit.Delivery, func(c config.Delivery) bool { return c.Logs == config.DeliveryLogsAll }) {
		logs = ownLogs
	}
	var err error
	if d.pumps, err = siem.Open(siem.Options{Dir: DeliveryDir(cfg), Logs: logs, Receivers: receivers, Now: o.Now, Logger: o.Logger, Metrics: metrics}); err != nil {
		return nil, err
	}
	if !cfg.Audit.Publish.Enabled() {
		return d, nil
	}
	targets, err := publishTargets(ctx, cfg.Audit.Publish, d.pumps.Spool(), o)
	if err == nil {
		d.publisher, err = siem.NewPublisher(siem.PublisherOptions{
			Path: publishedFile(cfg), Logs: ownLogs, Targets: targets, Interval: cfg.Audit.Publish.Interval.Duration,
			Delivery: d.pumps, Now: o.Now, Logger: o.Logger, Metrics: metrics,
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit.publish: %w", err), d.pumps.Close())
	}
	return d, nil
}

func newSink(ctx context.Context, node string, c config.Delivery, o Options) (siem.Sink, error) {
	e := &siem.Encoder{Format: siem.Format(c.Format), Product: o.Version, Host: node, Enterprise: c.EnterpriseNumber, RecordIntegrity: c.OCSFRecordIntegrity}
	if c.Type == config.DeliveryFile {
		return siem.NewFile(siem.FileOptions{
			Path: c.Path, Encoder: e, MaxBytes: c.RotateBytes, MaxAge: c.RotateAfter.Duration, Keep: c.RotateKeep, NoSync: c.NoSync, Now: o.Now,
		}), nil
	}
	if c.Type == config.DeliveryS3 {
		return siem.NewS3(ctx, siem.S3Options{Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, Endpoint: c.Endpoint, Profile: c.Profile, CAFile: c.CAFile}, e)
	}
	t, err := siem.TLSFiles{CAFile: c.CAFile, CertificateFile: c.CertificateFile, PrivateKeyFile: c.PrivateKeyFile}.Config()
	if err != nil {
		return nil, err
	}
	if c.Type == config.DeliveryWebhook {
		return siem.NewWebhook(siem.WebhookOptions{URL: c.URL, TLS: t, Encoder: e, Key: c.Key, Now: o.Now}), nil
	}
	if c.PlainTCP || c.InsecurePlainTCPOffLoopback {
		t = (*tls.Config)(nil)
	}
	return siem.NewSyslog(siem.SyslogOptions{Address: c.Address, TLS: t, Encoder: e, Newlines: c.Framing == config.FramingNewlines, Unconfirmed: c.Unconfirmed}), nil
}

func publishTargets(ctx context.Context, p config.Publish, spool *siem.Spool, o Options) (map[string]siem.Target, error) {
	targets := map[string]siem.Target{}
	if p.Dir != "" {
		targets["folder"] = siem.Folder{Dir: p.Dir}
	}
	if p.Deliveries {
		targets["deliveries"] = siem.Spooled{Spool: spool}
	}
	if p.WitnessURL != "" {
		t, err := siem.TLSFiles{CAFile: p.WitnessCAFile}.Config()
		if err != nil {
			return nil, err
		}
		targets["witness"] = siem.NewWitness(siem.WebhookOptions{URL: p.WitnessURL, TLS: t, Key: p.WitnessKey, Now: o.Now})
	}
	if p.Bucket != "" {
		f, err := siem.NewS3Folder(ctx, siem.S3Options{
			Bucket: p.Bucket, Prefix: p.Prefix, Region: p.Region, Endpoint: p.Endpoint, Profile: p.Profile, CAFile: p.CAFile,
			LockMode: strings.ToUpper(p.ObjectLock), LockFor: time.Duration(p.ObjectLockDays) * 24 * time.Hour,
		}, o.Now)
		if err != nil {
			return nil, err
		}
		targets["bucket"] = f
	}
	return targets, nil
}

// Run delivers and publishes until ctx ends.
func (d *Delivery) Run(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error { d.pumps.Run(ctx); return nil })
	if d.publisher != nil {
		g.Go(func() error { d.publisher.Run(ctx); return nil })
	}
	_ = g.Wait()
}

// Once publishes, and delivers what is there.
func (d *Delivery) Once(ctx context.Context) error {
	var err error
	if d.publisher != nil {
		if err = d.publisher.Publish(ctx); err != nil {
			err = fmt.Errorf("publish checkpoints: %w", err)
		}
	}
	return errors.Join(err, d.pumps.Drain(ctx))
}

// Failing are the checks of the delivery that fail now.
func (d *Delivery) Failing() []siem.Finding { return d.pumps.Failing() }

// Close gives the deliveries up and closes databases that it has opened.
func (d *Delivery) Close() error {
	err := d.pumps.Close()
	for _, s := range d.stores {
		err = errors.Join(err, s.Close())
	}
	return err
}

// buildDelivery builds what delivers from the nodes of the process, if anything is
// to be delivered.
func (a *App) buildDelivery(ctx context.Context, cfg config.Config, o Options) error {
	if !delivers(cfg) {
		return nil
	}
	var names []string
	var sources []audit.Source
	for _, n := range a.nodes() {
		names, sources = append(names, n.current().Node.Name), append(sources, n.store)
	}
	var err error
	a.delivery, err = newDelivery(ctx, cfg, o, names, sources, a.registry)
	return err
}

// deliver delivers until ctx ends, in a goroutine of g. That logs are read, and for
// whom, is itself an entry (PCI DSS 10.2.1.3): once, not for each reading.
func (a *App) deliver(ctx context.Context, g *errgroup.Group) error {
	if err := a.guardDeliveries(ctx); err != nil {
		return err
	}
	if a.delivery == nil {
		return nil
	}
	for _, n := range a.nodes() {
		to := "delivery to " + strings.Join(a.delivery.names, ", ")
		if len(a.delivery.names) == 0 {
			to = "publication of checkpoints"
		}
		if err := n.gate.Record(ctx, iam.System("delivery"), vault.OpLogRead, vault.Target{}, "read", to); err != nil {
			return fmt.Errorf("record the delivery: %w", err)
		}
	}
	a.tellRollbacks(ctx, a.delivery.pumps)
	g.Go(func() error { a.delivery.Run(ctx); return nil })
	return nil
}

// deliveryReadiness tells of deliveries in trouble. They are no reason to be
// unready: a vault must not go down with a SIEM.
func (a *App) deliveryReadiness() []httpd.Check {
	if a.delivery == nil {
		return nil
	}
	c := httpd.Check{Name: "audit_delivery", State: httpd.Working}
	var troubles []string
	for _, f := range a.delivery.Failing() {
		troubles = append(troubles, f.Message)
	}
	c.Detail = strings.Join(troubles, "; ")
	return []httpd.Check{c}
}

// closeDelivery is part of Close.
func (a *App) closeDelivery() error {
	if a.delivery == nil {
		return nil
	}
	if err := a.delivery.Close(); err != nil {
		a.log.Warn("delivery not closed", slog.Any("error", err))
		return err
	}
	return nil
}
