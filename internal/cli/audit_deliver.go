package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/detect"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

type auditDeliverCommand struct {
	configFlag
	Once    bool          `help:"Deliver what is there, publish checkpoints, and end; for cron. Without it, go on until stopped."`
	Alerts  string        `placeholder:"FILE" help:"Take alerts, one a line as 'cardea audit watch --output json' prints them, from a file or - for standard input, and hand them to the deliveries."`
	Timeout time.Duration `default:"10m" placeholder:"DURATION" help:"With --once: give up after this time (10m). What is left is delivered the next time."`
}

// Help implements kong.HelpProvider.
func (auditDeliverCommand) Help() string {
	return "Examples:\n  cardea audit deliver --config cardea.toml --once\n  cardea audit deliver --config cardea.toml\n" +
		"  cardea audit deliver --config cardea.toml --alerts alerts.ndjson\n\n" +
		"Delivers the audit logs to the receivers of [[audit.delivery]] and publishes checkpoints as [audit.publish] says. " +
		"'cardea serve' does so by itself: this is for databases whose node does not run, or does not deliver. See docs/siem.md."
}

func (c auditDeliverCommand) Run(ctx context.Context, p *Process) (err error) {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	if c.Alerts != "" {
		return c.takeAlerts(ctx, p, cfg)
	}
	log, err := logger(cfg, p.Stderr)
	if err != nil {
		return err
	}
	// That the logs are read is itself logged (PCI DSS 10.2.1.3).
	for _, n := range app.NodeConfigs(cfg) {
		tool, err := openTool(ctx, p, n)
		if err != nil {
			return err
		}
		err = tool.Gate.Record(ctx, operator(p), vault.OpLogRead, vault.Target{}, "read", "deliver")
		if err := errors.Join(err, tool.Close()); err != nil {
			return err
		}
	}
	d, err := app.OpenDelivery(ctx, cfg, app.Options{Logger: log, Now: p.Now, Version: version})
	if errors.Is(err, siem.ErrBusy) {
		return hinted(err, "'cardea serve' delivers by itself while it runs")
	}
	if err != nil {
		return explained(err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if !c.Once {
		d.Run(ctx)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err = d.Once(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return hinted(err, "not all was delivered in %s; run it again, or give it more time by --timeout", c.Timeout)
	}
	if err != nil {
		return hinted(err, "nothing is lost: what is left is delivered the next time; see 'cardea audit delivery'")
	}
	if failing := d.Failing(); len(failing) > 0 {
		for _, f := range failing {
			fmt.Fprintf(p.Stderr, "cardea: %s: %s\n", f.Check, printable(f.Message))
		}
		return errFindings
	}
	return nil
}

func errNoReceivers(flag string) error {
	return fmt.Errorf("%s: the configuration has no [[audit.delivery]] to hand alerts to", flag)
}

// alertsInto hands alerts to the deliveries that read a spool.
func alertsInto(spool *siem.Spool, p *Process) *app.Alerts {
	return &app.Alerts{Spool: spool, Sleep: p.sleep, Waiting: func(_ context.Context, err error) {
		if err != nil {
			fmt.Fprintln(p.Stderr, "cardea:", err)
		}
	}}
}

// maxAlertLine bounds a line of an alert, in bytes.
const maxAlertLine = 1 << 20

// takeAlerts hands alerts to the deliveries, which a running node, or another call of
// the command, makes. When it ends with 0, all are kept until they are delivered.
func (c auditDeliverCommand) takeAlerts(ctx context.Context, p *Process, cfg config.Config) (err error) {
	if len(cfg.Audit.Delivery) == 0 {
		return errNoReceivers("--alerts")
	}
	in := io.Reader(p.Stdin)
	if c.Alerts != "-" {
		f, err := os.Open(c.Alerts)
		if err != nil {
			return fmt.Errorf("--alerts: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read from
		in = f
	}
	spool, err := app.AlertSpool(cfg)
	if err != nil {
		return err
	}
	alerts := alertsInto(spool, p)
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxAlertLine)
	taken, bad := 0, 0
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var a detect.Alert
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil || a.ID == "" || a.Rule == "" || a.Time.IsZero() {
			fmt.Fprintf(p.Stderr, "cardea: --alerts: line %d is no alert: expected JSON with id, rule and time\n", n)
			bad++
			continue
		}
		if err := alerts.Hand(ctx, &a); err != nil {
			return fmt.Errorf("alert %s: %w", printable(a.ID), err)
		}
		taken++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("--alerts: %w", err)
	}
	fmt.Fprintf(p.Stdout, "%d alerts handed over\n", taken)
	if bad > 0 {
		return errFindings
	}
	return nil
}

type auditDeliveryCommand struct {
	configFlag
	output
}

// Help implements kong.HelpProvider.
func (auditDeliveryCommand) Help() string {
	return "Examples:\n  cardea audit delivery --config cardea.toml\n  cardea audit delivery --config cardea.toml --output json\n\n" +
		"Works beside a running node. Exit status 3 means that a delivery stalls, or that its receiver refused something."
}

// deliveryReport is what the command prints.
type deliveryReport struct {
	Deliveries []siem.Status                 `json:"deliveries"`
	Published  map[string]siem.LastPublished `json:"published"` // by target and log
}

func (c auditDeliveryCommand) Run(ctx context.Context, p *Process) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	var own, all map[string]int64
	if len(cfg.Audit.Delivery) > 0 {
		if own, all, err = logSizes(ctx, p, cfg); err != nil {
			return err
		}
	}
	r := deliveryReport{Deliveries: []siem.Status{}}
	wrong := false
	for _, d := range cfg.Audit.Delivery {
		sizes := own
		if d.Logs == config.DeliveryLogsAll {
			sizes = all
		}
		s, err := siem.ReadStatus(app.DeliveryDir(cfg), d.Name, sizes)
		if err != nil {
			return err
		}
		wrong = wrong || !s.Stalled.IsZero() || s.Parked > 0
		r.Deliveries = append(r.Deliveries, s)
	}
	if r.Published, err = app.ReadPublished(cfg); err != nil {
		return err
	}
	if err := c.print(p.Stdout, r, func(w io.Writer) error { return printDelivery(w, r) }); err != nil {
		return err
	}
	if wrong {
		return errFindings
	}
	return nil
}

// logSizes are the sizes of the logs of cfg's nodes and of all logs in their
// databases. Only heads are read, no entries.
func logSizes(ctx context.Context, p *Process, cfg config.Config) (own, all map[string]int64, err error) {
	own, all = map[string]int64{}, map[string]int64{}
	for _, n := range app.NodeConfigs(cfg) {
		db, err := app.OpenStore(ctx, n, app.StoreOptions{Logger: discard(), Now: p.Now, ReadOnly: true})
		if err != nil {
			return nil, nil, explained(err)
		}
		origins, err := db.Logs(ctx)
		for _, origin := range origins {
			head, herr := db.Head(ctx, origin)
			err = errors.Join(err, herr)
			all[origin] = head.Size
			if node := strings.TrimPrefix(origin, "cardea/"); node == n.Node.Name || node == n.Node.Name+"-cli" {
				own[origin] = head.Size
			}
		}
		if err := errors.Join(err, db.Close()); err != nil {
			return nil, nil, err
		}
	}
	return own, all, nil
}

func printDelivery(w io.Writer, r deliveryReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Deliveries) > 0 {
		fmt.Fprintln(t, "DELIVERY\tSTATE\tWAITING\tSENT\tREFUSED\tLAST SUCCESS\tERROR")
	}
	for _, s := range r.Deliveries {
		state, waiting := "working", int64(0)
		for _, n := range s.Pending {
			waiting += n
		}
		switch {
		case !s.Stalled.IsZero():
			state = "STALLED since " + s.Stalled.UTC().Format(time.RFC3339)
		case s.Error != "":
			state = "failing"
		case s.SentAt.IsZero():
			state = "new"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", s.Name, state, waiting, s.Sent, s.Parked, lastTime(s.SentAt), dashed(printable(s.Error)))
	}
	if len(r.Published) > 0 {
		fmt.Fprintln(t, "CHECKPOINTS\tOF LOG\tENTRIES\tLAST SUCCESS\t\t\t")
	}
	for _, key := range slices.Sorted(maps.Keys(r.Published)) {
		l := r.Published[key]
		target, origin, _ := strings.Cut(key, " ")
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t\t\t\n", target, printable(origin), l.Size, lastTime(l.At))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Deliveries)+len(r.Published) == 0 {
		fmt.Fprintln(w, "nothing is delivered: the configuration has no [[audit.delivery]] and no [audit.publish]")
	}
	return nil
}

func lastTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func dashed(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
