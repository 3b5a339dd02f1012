package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

// maxNotes bounds a file of checkpoints that follow each other.
const maxNotes = 64 << 20

// proveConsistency writes a proof that a log goes on as an older checkpoint said.
func (c auditProveCommand) proveConsistency(ctx context.Context, p *Process, src audit.Source, origins []string) error {
	older, from, err := chooseCheckpoint("--older", c.Older, c.Origin, false)
	if err != nil {
		return err
	}
	if !slices.Contains(origins, from.Origin) {
		return usageError{fmt.Errorf("--older: the checkpoint is of %s, which is not among the logs here", printable(from.Origin))}
	}
	var newer []byte
	if c.Newer != "" {
		if newer, _, err = chooseCheckpoint("--newer", c.Newer, []string{from.Origin}, true); err != nil {
			return err
		}
	}
	proof, err := retention.ProveConsistency(ctx, src, older, newer)
	if errors.Is(err, retention.ErrNotPrefix) {
		fmt.Fprintf(p.Stderr, "cardea: NOT PROVED: %s\n", printable(err.Error()))
		return errFindings
	}
	if err != nil {
		return err
	}
	err = toFile(c.Out, p.Stdout, func(w io.Writer) error {
		_, err := w.Write(proof.Encode())
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: %s from %d entries on; verify it by 'cardea audit verify --proof'\n", c.Out, printable(from.Origin), from.Size)
	return err
}

// chooseCheckpoint takes the oldest or the newest of the checkpoints in a file, all of
// one log, of those that are chosen.
func chooseCheckpoint(flag, path string, origins []string, newest bool) (signed []byte, chosen audit.Checkpoint, err error) {
	b, err := readBounded(path, maxNotes)
	if err != nil {
		return nil, chosen, fmt.Errorf("%s: %w", flag, err)
	}
	for _, one := range splitNotes(b) {
		c, err := audit.OpenCheckpoint(one)
		if err != nil && !errors.Is(err, audit.ErrUnknownKey) {
			return nil, chosen, fmt.Errorf("%s %s: %w", flag, path, err)
		}
		switch {
		case len(origins) > 0 && !slices.Contains(origins, c.Origin):
		case signed == nil, c.Origin == chosen.Origin && newest == (c.Size > chosen.Size):
			signed, chosen = one, c
		case c.Origin != chosen.Origin:
			return nil, chosen, usageError{fmt.Errorf("%s %s: checkpoints of more than one log; choose one by --origin", flag, path)}
		}
	}
	if signed == nil {
		return nil, chosen, usageError{fmt.Errorf("%s %s: no checkpoint of the log that was chosen", flag, path)}
	}
	return signed, chosen, nil
}

// continued is the JSON of 'cardea audit verify --proof' for two checkpoints. Its names
// are stable.
type continued struct {
	Log     string    `json:"log"`
	Older   int64     `json:"older"` // entries
	OlderAt time.Time `json:"older_at,omitzero"`
	Newer   int64     `json:"newer"`
	NewerAt time.Time `json:"newer_at,omitzero"`
}

// verifyConsistency checks a proof of two checkpoints offline.
func (c auditVerifyCommand) verifyConsistency(p *Process, b []byte, keys []string) error {
	proof, err := retention.ParseConsistency(b)
	if err != nil {
		return fmt.Errorf("--proof %s: %w", c.Proof, err)
	}
	older, newer, err := proof.Check(keys...)
	if err != nil {
		return c.notProved(p, err)
	}
	r := continued{Log: older.Origin, Older: older.Size, OlderAt: older.Time, Newer: newer.Size, NewerAt: newer.Time}
	return c.print(p.Stdout, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: it is proved that the %d entries signed on %s are the first of the %d signed on %s\n",
			printable(r.Log), r.Older, r.OlderAt.Format(time.RFC3339), r.Newer, r.NewerAt.Format(time.RFC3339))
		return err
	})
}
