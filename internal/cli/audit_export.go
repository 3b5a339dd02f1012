package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
)

type auditExportCommand struct {
	logSource
	Format string `enum:"cardea,cloudtrail" default:"cardea" placeholder:"FORMAT" help:"cardea: all that verifies the logs, for 'cardea audit verify --bundle'. cloudtrail: the key service's entries as records of AWS CloudTrail, one JSON document."`
	Out    string `arg:"" optional:"" type:"path" placeholder:"FILE" help:"Where to; standard output if missing."`
}

// Help implements kong.HelpProvider.
func (auditExportCommand) Help() string {
	return "Examples:\n  cardea audit export --config cardea.toml audit.cardea\n  cardea audit verify --bundle audit.cardea --public-key audit.pub\n" +
		"  cardea audit export --config cardea.toml --key-service --format cloudtrail events.json"
}

func (c auditExportCommand) Run(ctx context.Context, p *Process) (err error) {
	src, err := c.open(ctx, p, "export")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	missing, err := tellAbsent(ctx, p.Stderr, src, origins, time.Time{})
	if err != nil {
		return err
	}
	if missing {
		fmt.Fprintln(p.Stderr, "what is exported has the same gap")
	}
	if c.Out == "" {
		return c.write(ctx, p, p.Stdout, src, origins)
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(c.write(ctx, p, f, src, origins), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out)) // nothing half done stays
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: logs %s\n", c.Out, orNone(strings.Join(origins, ", ")))
	return err
}

func (c auditExportCommand) write(ctx context.Context, p *Process, w io.Writer, src audit.Source, origins []string) error {
	if c.Format != "cloudtrail" {
		return audit.WriteBundle(ctx, w, src, origins)
	}
	out := bufio.NewWriter(w)
	written, others, err := writeCloudTrail(ctx, out, src, origins)
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if others > 0 {
		fmt.Fprintf(p.Stderr, "%d entries are no requests to the key service and have no record in CloudTrail\n", others)
	}
	if written == 0 {
		fmt.Fprintln(p.Stderr, "no entry is of the key service; its log is chosen by --key-service")
	}
	return nil
}

// writeCloudTrail writes one document in the form of CloudTrail's log files.
func writeCloudTrail(ctx context.Context, w *bufio.Writer, src audit.Source, origins []string) (written, others int, err error) {
	w.WriteString(`{"Records":[`) //nolint:errcheck // Flush tells, as with what follows
	for _, origin := range origins {
		for n, err := range audit.Entries(ctx, src, origin, 0) {
			if err != nil {
				return written, others, fmt.Errorf("%s: %w", origin, err)
			}
			r, ok := cloudtrail.FromEntry(n.Entry)
			if !ok {
				others++
				continue
			}
			line, err := json.Marshal(r)
			if err != nil {
				return written, others, fmt.Errorf("%s: entry %d: %w", origin, n.Seq, err)
			}
			if written > 0 {
				w.WriteByte(',') //nolint:errcheck // Flush tells
			}
			w.WriteByte('\n') //nolint:errcheck // Flush tells
			w.Write(line)     //nolint:errcheck // Flush tells
			written++
		}
	}
	_, err = w.WriteString("\n]}\n")
	return written, others, err
}

type auditCheckpointCommand struct {
	logSource
}

// Help implements kong.HelpProvider.
func (auditCheckpointCommand) Help() string {
	return "Examples:\n  cardea audit checkpoint --config cardea.toml >> kept.notes\n" +
		"  cardea audit verify --config cardea.toml --public-key audit.pub --checkpoint kept.notes\n\n" +
		"Kept where nobody who can write to the database can write, checkpoints prove that the log was not cut off or replaced."
}

func (c auditCheckpointCommand) Run(ctx context.Context, p *Process) (err error) {
	src, err := c.open(ctx, p, "checkpoint")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	printed := 0
	for _, origin := range origins {
		var newest []byte
		for note, err := range src.Checkpoints(ctx, origin) {
			if err != nil {
				return fmt.Errorf("checkpoints of %s: %w", origin, err)
			}
			newest = note
		}
		if newest == nil {
			fmt.Fprintf(p.Stderr, "%s: no checkpoint yet\n", printable(origin))
			continue
		}
		if _, err := p.Stdout.Write(newest); err != nil {
			return err
		}
		printed++
	}
	if printed == 0 {
		return errors.New("no log has a checkpoint yet")
	}
	return nil
}
