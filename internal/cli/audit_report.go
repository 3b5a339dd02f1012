package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/retention"
)

type auditReportCommand struct {
	logSource
	From   []string `placeholder:"PLACE" xor:"source,archive" help:"Records of AWS CloudTrail instead of our own logs: a file, a folder, or s3://BUCKET/PREFIX. May be given more than once."`
	Hours  int      `default:"24" placeholder:"N" help:"The last N hours (default 24, at most 8784)."`
	Until  string   `placeholder:"TIME" help:"End of the time (RFC 3339), or a duration before now; now if missing."`
	Top    int      `default:"20" placeholder:"N" help:"Names listed of each kind (default 20)."`
	Output string   `short:"o" enum:"table,json,html" default:"table" help:"Print a table, json, or a web page that needs nothing else."`
	Out    string   `type:"path" placeholder:"FILE" help:"Write it to this file, which must not exist, instead of standard output."`
}

// Help implements kong.HelpProvider.
func (auditReportCommand) Help() string {
	return "Examples:\n  cardea audit report --config cardea.toml --hours 24\n" +
		"  cardea audit report --config cardea.toml --key-service --output html --out usage.html\n" +
		"  cardea audit report --from s3://trail-bucket/AWSLogs --hours 168 --output json\n\n" +
		"Of each kind of names 10,000 are counted exactly; of more, the most frequent ones are found, and how far their counts may be off is told. " +
		"Exit status 3 means that parts of the logs could not be read."
}

func (c auditReportCommand) Run(ctx context.Context, p *Process) error {
	switch {
	case c.Hours < 1 || c.Hours > retention.MaxHours:
		return usageError{fmt.Errorf("--hours: %d, expected 1 to %d", c.Hours, retention.MaxHours)}
	case c.Top < 1 || c.Top > retention.MaxNames:
		return usageError{fmt.Errorf("--top: %d, expected 1 to %d", c.Top, retention.MaxNames)}
	}
	until, err := moment("--until", c.Until, p.Now())
	if err != nil {
		return err
	}
	if until.IsZero() {
		until = p.Now()
	}
	usage, err := retention.NewUsage(until.Add(-time.Duration(c.Hours)*time.Hour), until)
	if err != nil {
		return err
	}
	var sources []string
	if len(c.From) > 0 {
		sources = c.From
		err = c.readTrails(ctx, usage, until)
	} else {
		sources, err = c.readLogs(ctx, p, usage, until)
	}
	if err != nil {
		return err
	}
	r := usage.Report(c.Top, p.Now(), sources)
	if err := toFile(c.Out, p.Stdout, func(w io.Writer) error { return c.write(w, r) }); err != nil {
		return err
	}
	if r.Problems > 0 {
		fmt.Fprintf(p.Stderr, "cardea: %d parts of the logs could not be read: see 'cardea audit verify', or 'cardea audit verify-cloudtrail'\n", r.Problems)
		return errFindings
	}
	return nil
}

// toFile has write write to a new file, of which nothing stays if that fails, or
// to standard output.
func toFile(path string, stdout io.Writer, write func(io.Writer) error) error {
	if path == "" {
		out := bufio.NewWriter(stdout)
		return errors.Join(write(out), out.Flush())
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	out := bufio.NewWriter(f)
	if err := errors.Join(write(out), out.Flush(), f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("--out: %w", err), os.Remove(path))
	}
	return nil
}

// readTrails counts the records of CloudTrail's files, one after the other. What is
// delivered twice is within a few files.
func (c auditReportCommand) readTrails(ctx context.Context, usage *retention.Usage, until time.Time) error {
	names, seen := cloudtrail.NewNames(), newRecent()
	from := until.Add(-time.Duration(c.Hours) * time.Hour)
	for _, place := range c.From {
		files, err := trailFiles(ctx, place)
		if err != nil {
			return fmt.Errorf("--from %s: %w", place, err)
		}
		for _, x := range files {
			if !x.time.IsZero() && (x.time.Before(from) || !x.time.Before(until.Add(deliveryLag))) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := readTrail(ctx, x, names, seen, usage); err != nil {
				return fmt.Errorf("--from %s: %s: %w", place, x.name, err)
			}
		}
	}
	return nil
}

func readTrail(ctx context.Context, x trailFile, names *cloudtrail.Names, seen *recent, usage *retention.Usage) error {
	o, err := x.objects.Open(ctx, x.name)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	s, err := cloudtrail.Parse(o.Body, cloudtrail.Options{Names: names}, func(e *cloudtrail.Event) error {
		if e.ID != "" && seen.again(e.ID) {
			usage.Repeat()
		} else {
			usage.Add(e)
		}
		return nil
	})
	usage.Problem(s.Skipped)
	return err
}

// readLogs counts the entries of our own logs.
func (c auditReportCommand) readLogs(ctx context.Context, p *Process, usage *retention.Usage, until time.Time) (origins []string, err error) {
	src, err := c.open(ctx, p, "report")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if origins, err = c.origins(ctx, src); err != nil {
		return nil, err
	}
	since := until.Add(-time.Duration(c.Hours) * time.Hour)
	missing, err := tellAbsent(ctx, p.Stderr, src, origins, since)
	if err != nil {
		return nil, err
	}
	if missing {
		usage.Problem(1)
	}
	return origins, countEntries(ctx, src, origins, usage, since, until)
}

// countEntries counts the entries of a time in logs.
func countEntries(ctx context.Context, src audit.Source, origins []string, usage *retention.Usage, since, until time.Time) error {
	for _, origin := range origins {
		from, err := retention.From(ctx, src, origin, since)
		if err != nil {
			return err
		}
		for n, err := range audit.Entries(ctx, src, origin, from) {
			if errors.Is(err, audit.ErrMalformedEntry) || errors.Is(err, audit.ErrMalformedSegment) {
				usage.Problem(1)
				continue
			}
			if err != nil {
				return err
			}
			if n.Entry.Time.After(until.Add(retention.ClockSlack)) {
				break
			}
			if e, ok := cloudtrail.EventOf(&n.Entry); ok {
				usage.Add(&e)
			}
		}
	}
	return nil
}

func (c auditReportCommand) write(w io.Writer, r retention.Report) error {
	switch c.Output {
	case "html":
		return r.WriteHTML(w)
	case "json":
		return output{Output: "json"}.print(w, r, nil)
	}
	fmt.Fprintf(w, "%s to %s: %d operations, %d failed, %d records in clear\n", r.Since.Format(time.RFC3339), r.Until.Format(time.RFC3339), r.Calls, r.Failed, r.Records)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, table := range []struct {
		title string
		retention.Table
	}{
		{"KEY", r.Keys}, {"PRINCIPAL", r.Principals}, {"OPERATION", r.Operations}, {"ERROR", r.Errors}, {"TENANT", r.Tenants}, {"IN CLEAR TO", r.Released},
	} {
		if len(table.Top) == 0 {
			continue
		}
		fmt.Fprintf(t, "\n%s\tCALLS\tFAILED\tIN CLEAR\tLAST\n", table.title)
		for _, n := range table.Top {
			calls := fmt.Sprint(n.Calls)
			if n.Over > 0 {
				calls += fmt.Sprintf(" (-%d)", n.Over)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", printable(n.Name), calls, n.Failed, n.Records, n.Last.Format(time.RFC3339))
		}
	}
	return t.Flush()
}
