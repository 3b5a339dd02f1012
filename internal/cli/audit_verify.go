package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/siem"
)

type auditVerifyCommand struct {
	logSource
	output
	PublicKey     []string `placeholder:"KEY" help:"Public key that signs the checkpoints, or a file of such keys, one a line. Without it the ones beside the node's signing key are used, which proves less."`
	Checkpoint    []string `type:"path" placeholder:"FILE" help:"Signed checkpoints that were kept elsewhere, one after the other: the log must continue them."`
	Published     []string `type:"path" placeholder:"DIR" help:"Folder of checkpoints that [audit.publish] published, or a copy of its bucket: the log must continue all of them."`
	Proof         string   `type:"path" placeholder:"FILE" xor:"source,archive" help:"Verify a proof of one entry, or between two checkpoints, which 'cardea audit prove' wrote, instead of logs; nothing else is needed."`
	AllowUnsigned bool     `help:"Verify consistency only, without knowing who signs."`
}

// Help implements kong.HelpProvider.
func (auditVerifyCommand) Help() string {
	return "Examples:\n  cardea audit verify --config cardea.toml --public-key audit.pub\n" +
		"  cardea audit verify --bundle audit.cardea --public-key audit.pub --checkpoint kept.notes\n" +
		"  cardea audit verify --config cardea.toml --public-key audit.pub --published /mnt/witness/cardea\n" +
		"  cardea audit verify --config cardea.toml --public-key audit.pub --archive s3://bucket/cardea\n" +
		"  cardea audit verify --proof entry.proof --public-key audit.pub\n\n" +
		"Exit status 3 means that something is wrong with a log."
}

func (c auditVerifyCommand) Run(ctx context.Context, p *Process) (err error) {
	if c.Proof != "" {
		return c.verifyProof(p)
	}
	src, err := c.open(ctx, p, "verify")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	o := audit.VerifyOptions{Origins: c.Origin, AllowUnsigned: c.AllowUnsigned}
	if o.Verifiers, err = c.keys(p, src); err != nil {
		return err
	}
	for _, path := range c.Checkpoint {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--checkpoint: %w", err)
		}
		o.Kept = append(o.Kept, splitNotes(b)...)
	}
	alien, err := c.published(&o)
	if err != nil {
		return err
	}
	if err := awaitSigned(ctx, p, src); err != nil {
		return err
	}
	bar := newProgress(p, "verify", "entries")
	o.Progress = bar.set
	from := src.Source
	if src.archive != nil {
		from, o.Archive = src.stored, src.archive
	}
	report, err := audit.Verify(ctx, from, o)
	bar.finish()
	if errors.Is(err, audit.ErrNoTrustedKey) {
		return usageError{hinted(err, "give it by --public-key, or verify consistency only with --allow-unsigned")}
	}
	if err != nil {
		return err
	}
	addFindings(&report, alien)
	if err := c.print(p.Stdout, report, func(w io.Writer) error { return printReport(w, report) }); err != nil {
		return err
	}
	if !report.OK() {
		return errFindings
	}
	return nil
}

// published adds the published checkpoints to those that the logs are held against.
// One that no trusted key signed is a finding, not a reason to stop: either the key
// of the log was replaced, or somebody put it there.
func (c auditVerifyCommand) published(o *audit.VerifyOptions) (map[string][]audit.Finding, error) {
	alien := map[string][]audit.Finding{}
	for _, dir := range c.Published {
		all, err := siem.ReadFolder(dir)
		if err != nil {
			return nil, fmt.Errorf("--published: %w", err)
		}
		if len(all) == 0 {
			return nil, usageError{fmt.Errorf("--published: no checkpoint in %s: name the folder of [audit.publish], or a copy of its bucket", dir)}
		}
		for _, signed := range all {
			cp, err := audit.OpenCheckpoint(signed, o.Verifiers...)
			if len(o.Origins) > 0 && cp.Origin != "" && !slices.Contains(o.Origins, cp.Origin) {
				continue
			}
			switch {
			case err == nil, errors.Is(err, audit.ErrUnknownKey) && o.AllowUnsigned:
				o.Kept = append(o.Kept, signed)
			case errors.Is(err, audit.ErrUnknownKey):
				alien[cp.Origin] = append(alien[cp.Origin], audit.Finding{
					Kind: audit.KindUnknownKey, Seq: cp.Size,
					Message: fmt.Sprintf("the published checkpoint of %d entries is not signed by a trusted key: the log's signing key was replaced, or the checkpoint is not of it", cp.Size),
				})
			case errors.Is(err, audit.ErrBadSignature):
				return nil, fmt.Errorf("--published: a checkpoint in %s was changed: %w", dir, err)
			default:
				return nil, fmt.Errorf("--published: %w", err)
			}
		}
	}
	return alien, nil
}

// addFindings adds findings to the reports of their logs.
func addFindings(r *audit.Report, more map[string][]audit.Finding) {
	for i := range r.Logs {
		l := &r.Logs[i]
		l.Findings = append(l.Findings, more[l.Origin]...)
		delete(more, l.Origin)
	}
	for _, origin := range slices.Sorted(maps.Keys(more)) {
		r.Logs = append(r.Logs, audit.LogReport{Origin: origin, Findings: more[origin], Notes: []audit.Finding{}})
	}
}

// signedWithin is when a log that has just begun must have its first checkpoint. On a
// machine that is busy, or whose disk is, it has it later than after the second or so.
const signedWithin = 10 * time.Second

// awaitSigned waits for the first checkpoint of logs that have none: a node that
// has just been started for the first time signs within a second or so, and its
// log is not to be blamed before.
func awaitSigned(ctx context.Context, p *Process, src *opened) error {
	if src.key == "" {
		return nil // a file does not change any more
	}
	origins, err := src.Logs(ctx)
	if err != nil {
		return err
	}
	for start := p.Now(); ; {
		signed := 0
		for _, origin := range origins {
			for _, err := range src.Checkpoints(ctx, origin) {
				if err != nil {
					return fmt.Errorf("checkpoints of %s: %w", origin, err)
				}
				signed++
				break
			}
		}
		if signed == len(origins) || p.Now().Sub(start) > signedWithin {
			return nil
		}
		if err := p.sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// keys are the public keys to trust.
func (c auditVerifyCommand) keys(p *Process, src *opened) ([]string, error) {
	given := c.PublicKey
	if len(given) == 0 && src.key != "" && !c.AllowUnsigned {
		matches, err := filepath.Glob(globText(strings.TrimSuffix(src.key, ".key")) + "*.pub")
		if err != nil {
			return nil, err
		}
		given = matches
		fmt.Fprintf(p.Stderr, "trusting the public keys in %s: whoever can write there could have put them there; "+
			"keep a copy elsewhere and give it by --public-key\n", filepath.Dir(src.key))
	}
	var keys []string
	for _, k := range given {
		if strings.HasPrefix(k, "cardea/") {
			keys = append(keys, k)
			continue
		}
		b, err := os.ReadFile(k)
		if err != nil {
			return nil, fmt.Errorf("--public-key: %w", err)
		}
		keys = append(keys, strings.Fields(string(b))...)
	}
	return keys, nil
}

// globText is a path as filepath.Glob takes it for itself.
func globText(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// splitNotes takes apart signed notes that follow each other in one file. A note
// ends with its signatures, lines that begin with a dash and a space.
func splitNotes(b []byte) [][]byte {
	var notes [][]byte
	start, at, signed := 0, 0, false
	for line := range bytes.Lines(b) {
		signature := bytes.HasPrefix(line, []byte("— "))
		if signed && !signature {
			notes = append(notes, b[start:at])
			start = at
		}
		signed = signature
		at += len(line)
	}
	if start < len(b) || len(notes) == 0 {
		notes = append(notes, b[start:])
	}
	return notes
}

func printReport(w io.Writer, r audit.Report) error {
	for _, l := range r.Logs {
		verdict := "intact"
		if len(l.Findings) > 0 {
			verdict = "NOT INTACT"
		}
		fmt.Fprintf(w, "%s: %s, %d entries, %d checkpoints, %d entries after the last one\n", printable(l.Origin), verdict, l.Entries, l.Checkpoints, l.UnsignedTail)
		if l.Entries > 0 {
			fmt.Fprintf(w, "  from %s to %s, root %s\n", l.First.Format(time.RFC3339), l.Last.Format(time.RFC3339), l.Root)
		}
		if l.Pruned > 0 && !l.PrunedAt.IsZero() {
			fmt.Fprintf(w, "  entries before %d were archived and pruned, as recorded on %s; archive sha256/%s\n", l.Pruned, l.PrunedAt.Format(time.RFC3339), l.PrunedInto)
		}
		for _, f := range l.Findings {
			fmt.Fprintf(w, "  FINDING %s at entry %d: %s\n", f.Kind, f.Seq, printable(f.Message))
		}
		for _, f := range l.Notes {
			fmt.Fprintf(w, "  note: %s at entry %d: %s\n", f.Kind, f.Seq, printable(f.Message))
		}
		if l.Omitted > 0 {
			fmt.Fprintf(w, "  and %d more\n", l.Omitted)
		}
	}
	if len(r.Logs) == 0 {
		fmt.Fprintln(w, "no audit log found")
	}
	return nil
}
