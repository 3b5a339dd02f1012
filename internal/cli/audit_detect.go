package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
)

// detectFlags are what detection in a batch and live have in common.
type detectFlags struct {
	logSource
	trailFlags
	Rules   string `type:"path" placeholder:"FILE" help:"What is registered, and thresholds, laid over the rules that ship. See deploy/detection.example.toml."`
	Changes string `type:"path" placeholder:"FILE" help:"Approved changes, whose alerts are listed as suppressed."`
}

// options reads the files that detection goes by.
func (f detectFlags) options(p *Process) (o detect.Options, err error) {
	var rules []byte
	if f.Rules != "" {
		if rules, err = readBounded(f.Rules, detect.MaxRulesFile); err != nil {
			return o, fmt.Errorf("--rules: %w", err)
		}
	}
	if o.Rules, err = detect.ParseRules(rules); err != nil {
		return o, usageError{fmt.Errorf("--rules %s: %w", f.Rules, err)}
	}
	if len(o.Rules.Keys) == 0 {
		fmt.Fprintln(p.Stderr, "no key is registered in --rules: R10 to R12, R18 and R19 have nothing to look at")
	}
	if f.Changes == "" {
		return o, nil
	}
	b, err := readBounded(f.Changes, detect.MaxRulesFile)
	if err != nil {
		return o, fmt.Errorf("--changes: %w", err)
	}
	if o.Changes, err = detect.ParseChanges(b); err != nil {
		return o, usageError{fmt.Errorf("--changes %s: %w", f.Changes, err)}
	}
	return o, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, err
}

type auditDetectCommand struct {
	detectFlags
	output
	Since   string        `default:"24h" placeholder:"TIME" help:"Alerts at or after this time (RFC 3339), or of the last duration (default 24h)."`
	Until   string        `placeholder:"TIME" help:"Events before this time."`
	History time.Duration `default:"672h" placeholder:"DURATION" help:"How much before --since is read, to learn what is usual (default 672h)."`
}

// Help implements kong.HelpProvider.
func (auditDetectCommand) Help() string {
	return "Examples:\n  cardea audit detect --from ./trail --rules detection.toml\n  cardea audit detect --since 24h --config cardea.toml --rules detection.toml --output json\n" +
		"  cardea audit detect --from s3://trail-bucket/AWSLogs/ --digests --region eu-central-1 --rules detection.toml --changes changes.toml\n" +
		"  cardea audit detect --from lookup: --region eu-central-1 --history 48h\n\n" + placesHelp +
		"Without --from the vault's own log is read, with --key-service that of the key service. What is usual is learned from the time before --since. " +
		"Exit status 3 means that there are alerts which no approved change explains."
}

// detectReport is the JSON of 'cardea audit detect'. Its names are stable.
type detectReport struct {
	Since      time.Time      `json:"since"`
	Until      time.Time      `json:"until"`
	Rules      string         `json:"rules"` // hash
	Alerts     []detect.Alert `json:"alerts"`
	Suppressed []detect.Alert `json:"suppressed"`
	Problems   int            `json:"problems"` // parts of the source that are no events
	Stats      detect.Stats   `json:"stats"`
}

func (c auditDetectCommand) Run(ctx context.Context, p *Process) error {
	since, err := moment("--since", c.Since, p.Now())
	if err != nil {
		return err
	}
	until, err := moment("--until", c.Until, p.Now())
	if err != nil {
		return err
	}
	if until.IsZero() {
		until = p.Now()
	}
	o, err := c.options(p)
	if err != nil {
		return err
	}
	// In a batch nobody waits for the judgement, and files of different accounts and
	// Regions are read one after the other.
	o.Rules.Engine.Lateness = max(o.Rules.Engine.Lateness, detect.Duration(time.Hour))
	d, err := detect.New(o)
	if err != nil {
		return err
	}
	r := detectReport{Since: since.UTC(), Until: until.UTC(), Rules: o.Rules.Hash(), Alerts: []detect.Alert{}, Suppressed: []detect.Alert{}}
	see := func(alerts []detect.Alert) {
		for _, a := range alerts {
			switch {
			case a.Time.Before(since):
			case a.SuppressedBy != "":
				r.Suppressed = append(r.Suppressed, a)
			default:
				r.Alerts = append(r.Alerts, a)
			}
		}
	}
	seen := newRecent()
	r.Problems, err = c.each(ctx, p, since.Add(-c.History), until, func(e *cloudtrail.Event) {
		if !seen.again(e.ID) {
			see(d.Observe(e))
		}
	})
	if err != nil {
		return err
	}
	if c.Digests {
		if err := c.eachDigest(ctx, p, since, until, func(e *cloudtrail.Event) { see(d.Observe(e)) }); err != nil {
			return err
		}
	}
	see(d.Advance(until))
	see(d.Finish())
	r.Stats = d.Stats()
	if r.Stats.Events == 0 {
		return hinted(errors.New("no events in that time"), "name where they are by --from, or an earlier time by --since")
	}
	if err := c.print(p.Stdout, r, func(w io.Writer) error { return printAlerts(w, r) }); err != nil {
		return err
	}
	if len(r.Alerts) > 0 {
		return errFindings
	}
	return nil
}

func printAlerts(w io.Writer, r detectReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Alerts)+len(r.Suppressed) > 0 {
		fmt.Fprintln(t, "TIME\tSEVERITY\tRULE\tPCI DSS\tWHAT\tTICKET")
	}
	for _, list := range [][]detect.Alert{r.Alerts, r.Suppressed} {
		for _, a := range list {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Time.UTC().Format(time.RFC3339), a.Severity, a.Rule, a.PCI[0], printable(a.Reason), printable(cmp.Or(a.SuppressedBy, "-")))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d alerts, %d suppressed by approved changes; %d events, rules %s\n", len(r.Alerts), len(r.Suppressed), r.Stats.Events, r.Rules)
	if err == nil && r.Stats.Late > 0 {
		_, err = fmt.Fprintf(w, "%d events came too late for what is learned from counts\n", r.Stats.Late)
	}
	if err == nil && r.Problems > 0 {
		_, err = fmt.Fprintf(w, "%d parts of the source are no events and were skipped\n", r.Problems)
	}
	return err
}
