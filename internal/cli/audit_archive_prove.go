package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

type auditProveCommand struct {
	logSource
	ID    string `arg:"" optional:"" placeholder:"ENTRY-ID" help:"Id of the entry, as 'cardea audit show --output json' prints it."`
	Older string `type:"path" placeholder:"FILE" help:"Signed checkpoint that was kept: prove, instead of an entry, that the log begins with what it signs. Of several in the file the oldest."`
	Newer string `type:"path" placeholder:"FILE" help:"With --older: signed checkpoint up to which to prove it. Of several in the file the newest; without it the newest that is stored with the log."`
	Out   string `required:"" type:"path" placeholder:"FILE" help:"File for the proof, which must not exist."`
}

// Help implements kong.HelpProvider.
func (auditProveCommand) Help() string {
	return "Examples:\n  cardea audit prove --config cardea.toml 019c3a52-7d10-7cc0-a0f5-21a1f5a5b1c4 --out entry.proof\n" +
		"  cardea audit verify --proof entry.proof --public-key audit.pub\n" +
		"  cardea audit prove --config cardea.toml --older kept.notes --origin cardea/vault-1 --out continued.proof\n" +
		"  cardea audit verify --proof continued.proof --public-key audit.pub\n\n" +
		"The proof of an entry has the entry and no other: it is the inclusion proof of RFC 6962 under a signed checkpoint.\n" +
		"With --older it has no entry at all: it is the consistency proof of RFC 6962 between two signed checkpoints,\n" +
		"which shows that nothing that the older one covers was changed or removed since."
}

func (c auditProveCommand) Run(ctx context.Context, p *Process) (err error) {
	switch {
	case (c.ID == "") == (c.Older == ""):
		return usageError{errors.New("name the id of an entry, or a checkpoint that was kept by --older")}
	case c.Newer != "" && c.Older == "":
		return usageError{errors.New("--newer has no effect without --older")}
	}
	src, err := c.open(ctx, p, "prove")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
	}
	if c.Older != "" {
		return c.proveConsistency(ctx, p, src, origins)
	}
	proof, err := retention.Prove(ctx, src, origins, c.ID)
	if errors.Is(err, retention.ErrUnsigned) {
		return hinted(err, "try again in a few seconds, when the node has signed")
	}
	if errors.Is(err, retention.ErrNoEntry) { // it may be in the archive
		_, terr := tellAbsent(ctx, p.Stderr, src, origins, time.Time{})
		return errors.Join(err, terr)
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
	_, err = fmt.Fprintf(p.Stdout, "%s: entry %d; verify it by 'cardea audit verify --proof'\n", c.Out, proof.Seq)
	return err
}

// proved is the JSON of 'cardea audit verify --proof'. Its names are stable.
type proved struct {
	Log      string      `json:"log"`
	Seq      int64       `json:"seq"`
	Entry    audit.Entry `json:"entry"`
	Signed   int64       `json:"signed"` // entries that the checkpoint covers
	SignedAt time.Time   `json:"signed_at,omitzero"`
}

// verifyProof checks a proof offline.
func (c auditVerifyCommand) verifyProof(p *Process) error {
	if len(c.PublicKey) == 0 {
		return usageError{errors.New("--proof: name the key that is trusted by --public-key")}
	}
	keys, err := c.keys(p, &opened{})
	if err != nil {
		return err
	}
	b, err := readBounded(c.Proof, retention.MaxProof)
	if err != nil {
		return fmt.Errorf("--proof: %w", err)
	}
	if retention.IsConsistency(b) {
		return c.verifyConsistency(p, b, keys)
	}
	proof, err := retention.ParseProof(b)
	if err != nil {
		return fmt.Errorf("--proof %s: %w", c.Proof, err)
	}
	e, cp, err := proof.Check(keys...)
	if err != nil {
		return c.notProved(p, err)
	}
	r := proved{Log: cp.Origin, Seq: proof.Seq, Entry: e, Signed: cp.Size, SignedAt: cp.Time}
	return c.print(p.Stdout, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: entry %d is proved: %s %s by %s:%s at %s\n  by the signed checkpoint of %d entries\n", printable(r.Log), r.Seq,
			e.Op, e.Outcome, e.Who.Type, printable(e.Who.Name), e.Time.Format(time.RFC3339), r.Signed)
		return err
	})
}

// notProved tells why a proof shows nothing.
func (c auditVerifyCommand) notProved(p *Process, err error) error {
	for _, wrong := range []error{
		retention.ErrWrongProof, retention.ErrNotPrefix, audit.ErrBadSignature, audit.ErrUnknownKey, audit.ErrMalformedCheckpoint, audit.ErrMalformedEntry,
	} {
		if errors.Is(err, wrong) {
			fmt.Fprintf(p.Stderr, "cardea: %s: NOT PROVED: %s\n", c.Proof, printable(err.Error()))
			return errFindings
		}
	}
	return err
}
