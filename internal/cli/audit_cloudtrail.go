package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/cloudtrail"
	"cardea/internal/collect"
)

type auditVerifyCloudTrailCommand struct {
	output
	Where      string   `arg:"" placeholder:"WHERE" help:"Folder with a copy of the bucket, or s3://BUCKET/PREFIX. Digests are looked for in AWSLogs."`
	PublicKeys []string `type:"path" placeholder:"FILE" help:"What 'aws cloudtrail list-public-keys' printed, one file for each region. Without it AWS is asked."`
	Since      string   `placeholder:"TIME" help:"Only digests since this time, or this long ago (24h)."`
	Until      string   `placeholder:"TIME" help:"Only digests until this time, or this long ago."`
	Bucket     string   `placeholder:"NAME" help:"The bucket that a folder is a copy of, prefix included (NAME/PREFIX). Without it the digests are believed."`
	Region     string   `placeholder:"NAME" help:"Region of the bucket, if the environment does not tell."`
	Profile    string   `placeholder:"NAME" help:"Profile of AWS's shared configuration."`
	Endpoint   string   `placeholder:"URL" help:"Instead of AWS's own."`
}

// Help implements kong.HelpProvider.
func (auditVerifyCloudTrailCommand) Help() string {
	return "Examples:\n  cardea audit verify-cloudtrail s3://audit-logs --since 168h\n" +
		"  cardea audit verify-cloudtrail ./copy --bucket audit-logs --public-keys keys.json --output json\n\n" +
		"A folder has no signatures of its newest digests, which S3 keeps beside the objects: see docs/spec/cloudtrail.md.\n\n" +
		"Exit status 3 means that something was changed, removed, added or moved, or cannot be proven."
}

func (c auditVerifyCloudTrailCommand) Run(ctx context.Context, p *Process) error {
	o := cloudtrail.DigestOptions{Now: p.Now}
	var err error
	if o.Since, err = moment("--since", c.Since, p.Now()); err != nil {
		return err
	}
	if o.Until, err = moment("--until", c.Until, p.Now()); err != nil {
		return err
	}
	objects, err := c.objects(ctx, &o)
	if err != nil {
		return err
	}
	if o.Keys, err = c.keys(p); err != nil {
		return err
	}
	bar := newProgress(p, "verify", "files")
	o.Progress = bar.set
	report, err := cloudtrail.VerifyDigests(ctx, objects, o)
	bar.finish()
	if err != nil {
		return hinted(err, "see that the bucket can be listed and read, and that AWS's credentials are there")
	}
	if len(report.Trails) == 0 {
		return hinted(fmt.Errorf("no digests and no log files of CloudTrail in %s", c.Where), "name the place that AWSLogs is in, and see that the trail has log file validation")
	}
	if err := c.print(p.Stdout, report, func(w io.Writer) error { return printTrails(w, report) }); err != nil {
		return err
	}
	if !report.OK() {
		return errFindings
	}
	return nil
}

// objects opens what is to be verified.
func (c auditVerifyCloudTrailCommand) objects(ctx context.Context, o *cloudtrail.DigestOptions) (cloudtrail.Objects, error) {
	if at, ok := strings.CutPrefix(c.Where, "s3://"); ok {
		bucket, prefix, _ := strings.Cut(at, "/")
		if bucket == "" || c.Bucket != "" {
			return nil, usageError{errors.New("want s3://BUCKET/PREFIX, and --bucket with a folder only")}
		}
		o.Bucket, o.Prefix = bucket, prefix
		return collect.Objects(ctx, c.aws(), bucket)
	}
	st, err := os.Stat(c.Where)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, usageError{fmt.Errorf("%s is no folder", c.Where)}
	}
	root, prefix, err := collect.TrailRoot(c.Where)
	if err != nil {
		return nil, err
	}
	o.Prefix = prefix
	if c.Bucket != "" {
		bucket, base, _ := strings.Cut(c.Bucket, "/")
		if base = strings.Trim(base, "/"); base != "" {
			base += "/"
		}
		o.Bucket, o.Base = bucket, base
	}
	return collect.Dir(root), nil
}

func (c auditVerifyCloudTrailCommand) aws() collect.AWS {
	return collect.AWS{Region: c.Region, Profile: c.Profile, Endpoint: c.Endpoint}
}

func (c auditVerifyCloudTrailCommand) keys(p *Process) (cloudtrail.Keys, error) {
	if len(c.PublicKeys) == 0 {
		fmt.Fprintln(p.Stderr, "asking AWS for the public keys; give them by --public-keys to verify offline")
		return collect.PublicKeys(c.aws()), nil
	}
	return trailKeys(c.PublicKeys)
}

// trailKeys reads the files of --public-keys.
func trailKeys(files []string) (cloudtrail.Keys, error) {
	keys, err := cloudtrail.ReadKeys(files)
	if _, unread := errors.AsType[*fs.PathError](err); err != nil && !unread {
		return nil, usageError{hinted(fmt.Errorf("--public-keys: %w", err), "want the output of 'aws cloudtrail list-public-keys --start-time … --end-time …' for the time of the digests")}
	}
	if err != nil {
		return nil, fmt.Errorf("--public-keys: %w", err)
	}
	return keys, nil
}

func printTrails(w io.Writer, r cloudtrail.DigestReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCOUNT\tREGION\tTRAIL\tDIGESTS\tLOG FILES\tFROM\tTO\tRESULT")
	for _, x := range r.Trails {
		verdict := "valid"
		if len(x.Findings) > 0 {
			verdict = fmt.Sprintf("NOT VALID (%d)", len(x.Findings)+x.Omitted)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", printable(x.Account), printable(x.Region), orNone(printable(x.Trail)), x.Digests, x.Logs, instant(x.First), instant(x.Last), verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, x := range r.Trails {
		for _, f := range x.Findings {
			fmt.Fprintf(w, "FINDING %s: %s\n  %s\n", f.Outcome, printable(f.Object), printable(f.Message))
		}
		if x.Omitted > 0 {
			fmt.Fprintf(w, "and %d more of %s in %s\n", x.Omitted, printable(x.Account), printable(x.Region))
		}
		for _, f := range x.Notes {
			fmt.Fprintf(w, "note: %s: %s\n", printable(f.Object), printable(f.Message))
		}
	}
	return nil
}

// instant is a time as tables show it.
func instant(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
