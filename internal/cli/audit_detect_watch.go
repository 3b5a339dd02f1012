package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"cardea/internal/app"
	"cardea/internal/collect"
	"cardea/internal/config"
	"cardea/internal/detect"
	"cardea/internal/siem"
	"cardea/internal/watch"
)

type auditWatchCommand struct {
	detectFlags
	output
	State   string        `type:"path" required:"" placeholder:"DIR" help:"Folder for what was learned and how far was read; made if it is not there. One per source."`
	Deliver []string      `type:"path" placeholder:"FILE" help:"Configuration to whose receivers ([[audit.delivery]]) alerts are handed; that of --config unless given."`
	Every   time.Duration `default:"30s" placeholder:"DURATION" help:"How often the source is looked at (default 30s)."`
	Stall   time.Duration `default:"15m" placeholder:"DURATION" help:"Raise an alarm when the source could not be read for so long (default 15m)."`
	Silent  time.Duration `placeholder:"DURATION" help:"Raise an alarm when no new event has come for so long; left to rule B9 unless given."`
	Once    bool          `help:"Stop when there is nothing new, instead of waiting."`
}

// Help implements kong.HelpProvider.
func (auditWatchCommand) Help() string {
	return "Examples:\n  cardea audit watch --from s3://trail-bucket/AWSLogs/ --digests --state /var/lib/cardea/detect --rules detection.toml --deliver cardea.toml\n" +
		"  cardea audit watch --config cardea.toml --state /var/lib/cardea/detect --rules detection.toml\n" +
		"  cardea audit watch --from sqs:https://sqs.eu-central-1.amazonaws.com/111122223333/trail --queue-bucket trail-bucket --state /var/lib/cardea/detect --output json\n\n" +
		placesHelp + "Alerts are printed as they come, one a line, and handed to the receivers of the configuration. Both happen before the place in the source is noted: " +
		"after a crash some come twice, with the same id. 'cardea serve' does the same by itself with [detect] in its configuration."
}

func (c auditWatchCommand) Run(ctx context.Context, p *Process) (err error) {
	places, err := c.places()
	switch {
	case err != nil:
		return err
	case len(places) > 1:
		return usageError{errors.New("--from: watch one place; run another watch, with its own --state, for the other")}
	case c.Every <= 0:
		return usageError{fmt.Errorf("--every: %v, expected more than 0", c.Every)}
	}
	o, err := c.options(p)
	if err != nil {
		return err
	}
	lock, err := app.LockDetection(c.State)
	if errors.Is(err, app.ErrWatched) {
		return hinted(fmt.Errorf("--state: %w", err), "give this one a folder of its own")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	w := watch.Options{
		Name: "watch", Detect: o, State: filepath.Join(c.State, "detection.state"), Changes: app.ChangesFile(c.Changes),
		StallAfter: c.Stall, SilentAfter: c.Silent, Now: p.Now, Logger: slog.New(slog.NewTextHandler(p.Stderr, nil)),
	}
	hand := printer{p: p, asJSON: c.Output == "json"}
	if hand.spool, err = c.receivers(p); err != nil {
		return err
	}
	if hand.spool != nil {
		w.Alarm = &app.SpooledAlarm{Spool: hand.spool, Now: p.Now, Logger: w.Logger}
	}
	w.Hand = hand.hand
	sources, done, err := c.sources(ctx, p, places)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	w.Sources = app.Sources(sources)
	if len(places) > 0 {
		w.Lag = app.TrailLag
	}
	watcher, err := watch.Open(w)
	if errors.Is(err, detect.ErrState) {
		return hinted(err, "move the file away to begin anew; baselines are then learned again")
	}
	if err != nil {
		return err
	}
	if !c.Once {
		return watcher.Run(ctx, c.Every, p.sleep)
	}
	if err := watcher.Round(ctx); err != nil {
		return err
	}
	return watcher.Save(ctx)
}

// sources opens what is watched.
func (c auditWatchCommand) sources(ctx context.Context, p *Process, places []collect.Place) ([]collect.SourceCloser, func() error, error) {
	if len(places) > 0 {
		keys, err := c.keys(p)
		if err != nil {
			return nil, nil, err
		}
		s, err := app.OpenTrail(ctx, places[0], collect.Options{State: c.State, Now: p.Now}, c.Digests, keys)
		if err != nil {
			return nil, nil, fmt.Errorf("--from %s: %w", places[0], err)
		}
		return s, func() error { return app.CloseSources(s) }, nil
	}
	src, err := c.open(ctx, p, "watch")
	if err != nil {
		return nil, nil, err
	}
	if err := tellUnwatched(ctx, p, c.logSource, src); err != nil {
		return nil, nil, errors.Join(err, src.close())
	}
	s, err := collect.OpenLogs(collect.LogsOptions{
		Options: collect.Options{State: filepath.Join(c.State, "source"), Now: p.Now}, Name: "audit log", Source: src,
		Origins: func(ctx context.Context) ([]string, error) { return c.origins(ctx, src) },
	})
	if err != nil {
		return nil, nil, errors.Join(err, src.close())
	}
	return []collect.SourceCloser{s}, src.close, nil
}

// receivers are those that alerts are handed to, nil if there are none.
func (c auditWatchCommand) receivers(p *Process) (*siem.Spool, error) {
	files := c.Deliver
	if len(files) == 0 {
		files = c.Config
	}
	if len(files) == 0 {
		return nil, nil
	}
	cfg, err := config.Load(files, p.Env)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return nil, err
	}
	if len(cfg.Audit.Delivery) == 0 {
		if len(c.Deliver) > 0 {
			return nil, usageError{errNoReceivers("--deliver")}
		}
		return nil, nil
	}
	return app.AlertSpool(cfg)
}

// printer prints alerts, and hands them to the deliveries if there are any.
type printer struct {
	p      *Process
	asJSON bool
	spool  *siem.Spool
}

func (t printer) hand(ctx context.Context, a *detect.Alert) error {
	if t.spool != nil {
		if err := alertsInto(t.spool, t.p).Hand(ctx, a); err != nil {
			return err
		}
	}
	if t.asJSON {
		b, err := json.Marshal(a)
		if err != nil {
			return err
		}
		_, err = t.p.Stdout.Write(append(b, '\n'))
		return err
	}
	ticket := ""
	if a.SuppressedBy != "" {
		ticket = " (suppressed by " + a.SuppressedBy + ")"
	}
	_, err := fmt.Fprintf(t.p.Stdout, "%s %s %s: %s%s. %s\n", a.Time.UTC().Format(time.RFC3339), a.Severity, a.Rule, printable(a.Reason), printable(ticket), a.Next)
	return err
}
