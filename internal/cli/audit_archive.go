package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

type auditArchiveCommand struct {
	logSource
	output
	PublicKey []string `placeholder:"KEY" help:"Public key that signs the checkpoints, or a file of such keys. Without it the ones beside the node's signing key are used, which proves less."`
	Before    string   `required:"" placeholder:"TIME" help:"Entries before this time (RFC 3339), or older than a duration (720h)."`
	Out       string   `required:"" type:"path" placeholder:"DIR" help:"Folder of the archive; what is new is added to it."`
}

// Help implements kong.HelpProvider.
func (auditArchiveCommand) Help() string {
	return "Examples:\n  cardea audit archive --config cardea.toml --public-key audit.pub --before 720h --out /archive/cardea\n" +
		"  cardea audit verify --archive /archive/cardea --public-key audit.pub\n" +
		"  cardea audit show --archive /archive/cardea --since 2026-01-01T00:00:00Z --tenant acme\n\n" +
		"Archived is what a signed checkpoint covers and has not been archived before; it stays in the database too. " +
		"What was written is read back and verified, with all that the archive had. Exit status 3 means that something does not verify: then nothing of that log was added."
}

// archived is the JSON of 'cardea audit archive'. Its names are stable.
type archived struct {
	Log      string            `json:"log"`
	Period   *retention.Period `json:"period,omitempty"` // nothing if there was nothing new
	Findings []audit.Finding   `json:"findings"`
}

func (c auditArchiveCommand) Run(ctx context.Context, p *Process) (err error) {
	before, err := moment("--before", c.Before, p.Now())
	if err != nil {
		return err
	}
	if before.After(p.Now()) {
		return usageError{errors.New("--before: the period is not over")}
	}
	if c.Archive != "" {
		return usageError{errors.New("--archive: what is archived is not archived again")}
	}
	to, err := retention.OpenArchive(c.Out)
	if err != nil {
		return fmt.Errorf("--out %s: %w", c.Out, err)
	}
	src, err := c.open(ctx, p, "archive")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	keys, err := auditVerifyCommand{PublicKey: c.PublicKey}.keys(p, src)
	if err != nil {
		return err
	}
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	all, sound := []archived{}, true
	for _, origin := range origins {
		r, err := to.Add(ctx, src, origin, before, p.Now(), keys)
		if errors.Is(err, audit.ErrNoTrustedKey) {
			return usageError{hinted(err, "give it by --public-key")}
		}
		if err != nil {
			return err
		}
		a := archived{Log: origin, Findings: []audit.Finding{}}
		switch {
		case len(r.Report.Findings) > 0:
			a.Findings, sound = r.Report.Findings, false
		case r.Period.To > 0:
			a.Period = &r.Period
		}
		all = append(all, a)
	}
	if err := c.print(p.Stdout, all, func(w io.Writer) error { return printArchived(w, all) }); err != nil {
		return err
	}
	if !sound {
		return errFindings
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
		for _, f := range a.Findings {
			if _, err := fmt.Fprintf(w, "%s: FINDING %s at entry %d: %s\n", printable(a.Log), f.Kind, f.Seq, printable(f.Message)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openArchive opens an archive as a source. It is unpacked into a temporary folder.
func (s logSource) openArchive(ctx context.Context) (*opened, error) {
	a, err := retention.OpenArchive(s.Archive)
	if err != nil {
		return nil, fmt.Errorf("--archive %s: %w", s.Archive, err)
	}
	if len(a.Periods()) == 0 {
		return nil, fmt.Errorf("--archive %s: no archive there: name the folder that 'cardea audit archive' wrote", s.Archive)
	}
	r, err := a.Restore(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("--archive: %w", err)
	}
	return &opened{Source: r, close: r.Close}, nil
}
