package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"cardea/internal/audit"
)

type auditExportCommand struct {
	logSource
	Out string `arg:"" optional:"" type:"path" placeholder:"FILE" help:"Where to; standard output if missing."`
}

// Help implements kong.HelpProvider.
func (auditExportCommand) Help() string {
	return "Examples:\n  cardea audit export --config cardea.toml audit.cardea\n  cardea audit verify --bundle audit.cardea --public-key audit.pub"
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
	if c.Out == "" {
		return audit.WriteBundle(ctx, p.Stdout, src, origins)
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(audit.WriteBundle(ctx, f, src, origins), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out)) // nothing half done stays
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: logs %s\n", c.Out, orNone(strings.Join(origins, ", ")))
	return err
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
