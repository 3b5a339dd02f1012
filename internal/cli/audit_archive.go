package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/app"
	"cardea/internal/audit"
	"cardea/internal/retention"
)

type auditArchiveCommand struct {
	logSource
	output
	PublicKey []string `placeholder:"KEY" help:"Public key that signs the checkpoints, or a file of such keys. Without it the ones beside the node's signing key are used, which proves less."`
	Before    string   `required:"" placeholder:"TIME" help:"Entries before this time (RFC 3339), or older than a duration (720h)."`
	Out       string   `required:"" placeholder:"PLACE" help:"The archive, a folder or s3://BUCKET/PREFIX; what is new is added to it."`

	KMSKey         string `name:"kms-key" placeholder:"KEY" help:"Key of KMS that encrypts objects in S3 (id, ARN or alias); the bucket's setting if not given."`
	ObjectLock     string `enum:",governance,compliance" default:"" placeholder:"MODE" help:"Lock objects in S3 against removal: governance or compliance; not locked if not given. The bucket needs Object Lock."`
	ObjectLockDays int    `default:"1096" placeholder:"DAYS" help:"With --object-lock: for so many days (default 1096, three years; at least 366)."`

	Prune bool   `help:"Then remove from the database what is archived and older than --keep; see docs/retention.md."`
	Keep  string `default:"2208h" placeholder:"DURATION" help:"With --prune: entries that are younger stay (default 2208h, 92 days)."`
}

// Help implements kong.HelpProvider.
func (auditArchiveCommand) Help() string {
	return "Examples:\n  cardea audit archive --config cardea.toml --public-key audit.pub --before 720h --out /archive/cardea\n" +
		"  cardea audit archive --config cardea.toml --public-key audit.pub --before 720h --out s3://bucket/cardea --prune\n" +
		"  cardea audit verify --archive /archive/cardea --public-key audit.pub\n" +
		"  cardea audit show --config cardea.toml --archive s3://bucket/cardea --since 2026-01-01T00:00:00Z --tenant acme\n\n" +
		"Archived is what a signed checkpoint covers and has not been archived before. What was written is read back and verified, with all that the archive had. " +
		"Without --prune it stays in the database too. Pruned are this node's logs and its command line's, or those of --origin. " +
		"Exit status 3 means that something does not verify: then nothing of that log was added or removed."
}

// archived is the JSON of 'cardea audit archive'. Its names are stable.
type archived struct {
	Log      string            `json:"log"`
	Period   *retention.Period `json:"period,omitempty"` // nothing if there was nothing new
	Pruned   *retention.Pruned `json:"pruned,omitempty"` // nothing without --prune
	Findings []audit.Finding   `json:"findings"`
}

// minimumAtHand is what PCI DSS 10.5.1 asks to have at hand.
const minimumAtHand = 90 * 24 * time.Hour

// minimumKept is how long it asks to keep logs, in days.
const minimumKept = 366

func (c auditArchiveCommand) Run(ctx context.Context, p *Process) error {
	before, keep, err := c.check(p)
	if err != nil {
		return err
	}
	place, err := c.place(ctx, "--out", c.Out, func(o *retention.BucketOptions) {
		o.KMSKey, o.LockMode, o.LockFor, o.Now = c.KMSKey, strings.ToUpper(c.ObjectLock), time.Duration(c.ObjectLockDays)*24*time.Hour, p.Now
	})
	if err != nil {
		return err
	}
	to, err := retention.OpenArchive(ctx, place)
	if err != nil {
		return fmt.Errorf("--out %s: %w", c.Out, err)
	}
	all, keys, err := c.archive(ctx, p, to, before)
	if err != nil {
		return err
	}
	if c.Prune {
		if err := c.prune(ctx, p, to, all, keys, p.Now().Add(-keep)); err != nil {
			return err
		}
	}
	if err := c.print(p.Stdout, all, func(w io.Writer) error { return printArchived(w, all) }); err != nil {
		return err
	}
	for _, a := range all {
		if len(a.Findings) > 0 || a.Pruned != nil && len(a.Pruned.Findings) > 0 {
			return errFindings
		}
	}
	return nil
}

// check checks what was given, before anything is opened.
func (c auditArchiveCommand) check(p *Process) (before time.Time, keep time.Duration, err error) {
	if before, err = moment("--before", c.Before, p.Now()); err != nil {
		return before, 0, err
	}
	switch keep, err = time.ParseDuration(c.Keep); {
	case err != nil || keep < 0:
		return before, 0, usageError{fmt.Errorf("--keep: %q is not a duration such as 2208h", c.Keep)}
	case before.After(p.Now()):
		return before, 0, usageError{errors.New("--before: the period is not over")}
	case c.Archive != "":
		return before, 0, usageError{errors.New("--archive: what is archived is not archived again")}
	case c.Prune && c.Bundle != "":
		return before, 0, usageError{errors.New("--prune: a bundle is not pruned; name a database by --config or --data-dir")}
	case !isBucket(c.Out) && (c.KMSKey != "" || c.ObjectLock != ""):
		return before, 0, usageError{errors.New("--kms-key and --object-lock are for an archive in S3")}
	case c.ObjectLock != "" && c.ObjectLockDays < minimumKept:
		return before, 0, usageError{fmt.Errorf("--object-lock-days: %d; logs are kept for 12 months (PCI DSS 10.5.1), so at least %d", c.ObjectLockDays, minimumKept)}
	case c.Prune && keep < minimumAtHand:
		fmt.Fprintln(p.Stderr, "--keep: PCI DSS 10.5.1 asks for three months of the logs at hand; less is for tests")
	}
	return before, keep, nil
}

// archive archives each log that was asked for.
func (c auditArchiveCommand) archive(ctx context.Context, p *Process, to *retention.Archive, before time.Time) (all []archived, keys []string, err error) {
	src, err := c.open(ctx, p, "archive")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if keys, err = (auditVerifyCommand{PublicKey: c.PublicKey}).keys(p, src); err != nil {
		return nil, nil, err
	}
	origins, err := c.origins(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	all = []archived{}
	for _, origin := range origins {
		r, err := to.Add(ctx, src, origin, before, p.Now(), keys)
		switch {
		case errors.Is(err, audit.ErrNoTrustedKey):
			return nil, nil, usageError{hinted(err, "give it by --public-key")}
		case errors.Is(err, retention.ErrElsewhere):
			return nil, nil, hinted(err, "name the archive that has them by --out")
		case err != nil:
			return nil, nil, err
		}
		a := archived{Log: origin, Findings: []audit.Finding{}}
		if len(r.Report.Findings) > 0 {
			a.Findings = r.Report.Findings
		} else if r.Period.To > 0 {
			a.Period = &r.Period
		}
		all = append(all, a)
	}
	return all, keys, nil
}

// prune prunes those of the logs that were archived that this node may.
func (c auditArchiveCommand) prune(ctx context.Context, p *Process, to *retention.Archive, all []archived, keys []string, before time.Time) (err error) {
	cfg, err := c.config(p)
	if err != nil {
		return err
	}
	whole, err := installation(p, c.Config, c.DataDir) // the deliveries are of all of it
	if err != nil {
		return err
	}
	tool, err := openTool(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tool.Close()) }()
	mine, err := app.OwnLogs(cfg)
	if err != nil {
		return err
	}
	o := tool.PruneOptions(whole, operator(p), p.Now)
	o.Before, o.Verifiers = before, keys
	for i := range all {
		if a := &all[i]; len(a.Findings) == 0 && (len(c.Origin) > 0 || slices.Contains(mine, a.Log)) {
			r, err := to.Prune(ctx, tool.Store, a.Log, o)
			if err != nil {
				return hinted(err, "the archive and the database can be read as they are")
			}
			a.Pruned = &r
		}
	}
	return nil
}

func printArchived(w io.Writer, all []archived) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LOG\tENTRIES\tFROM\tTO\tFILE\tBYTES")
	for _, a := range all {
		switch {
		case a.Period != nil:
			x := a.Period
			fmt.Fprintf(t, "%s\t%d to %d\t%s\t%s\t%s\t%d\n", printable(a.Log), x.From, x.To-1, x.First.Format(time.RFC3339), x.Last.Format(time.RFC3339), x.File, x.Bytes)
		case len(a.Findings) > 0:
			fmt.Fprintf(t, "%s\tNOT INTACT, not archived\t-\t-\t-\t-\n", printable(a.Log))
		default:
			fmt.Fprintf(t, "%s\tnothing new\t-\t-\t-\t-\n", printable(a.Log))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range all {
		if err := a.printRest(w); err != nil {
			return err
		}
	}
	return nil
}

// printRest prints what was pruned, and findings.
func (a archived) printRest(w io.Writer) error {
	findings := a.Findings
	var err error
	if p := a.Pruned; p != nil {
		findings = append(findings, p.Findings...)
		switch {
		case len(p.Findings) > 0:
			_, err = fmt.Fprintf(w, "%s: nothing pruned: the archive is NOT INTACT\n", printable(a.Log))
		case p.To > 0:
			_, err = fmt.Fprintf(w, "%s: entries %d to %d pruned from the database\n", printable(a.Log), p.From, p.To-1)
		default:
			_, err = fmt.Fprintf(w, "%s: nothing to prune\n", printable(a.Log))
		}
		if p.Waits != "" && err == nil {
			_, err = fmt.Fprintf(w, "%s: more could be pruned, but delivery %s has not delivered it: see 'cardea audit delivery'\n", printable(a.Log), p.Waits)
		}
	}
	for _, f := range findings {
		if err == nil {
			_, err = fmt.Fprintf(w, "%s: FINDING %s at entry %d: %s\n", printable(a.Log), f.Kind, f.Seq, printable(f.Message))
		}
	}
	return err
}
