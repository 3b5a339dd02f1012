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
	ID  string `arg:"" placeholder:"ENTRY-ID" help:"Id of the entry, as 'cardea audit show --output json' prints it."`
	Out string `required:"" type:"path" placeholder:"FILE" help:"File for the proof, which must not exist."`
}

// Help implements kong.HelpProvider.
func (auditProveCommand) Help() string {
	return "Examples:\n  cardea audit prove --config cardea.toml 019c3a52-7d10-7cc0-a0f5-21a1f5a5b1c4 --out entry.proof\n" +
		"  cardea audit verify --proof entry.proof --public-key audit.pub\n\n" +
		"The proof has the entry and no other. It is the inclusion proof of RFC 6962 under a signed checkpoint."
}

func (c auditProveCommand) Run(ctx context.Context, p *Process) (err error) {
	src, err := c.open(ctx, p, "prove")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	origins, err := c.origins(ctx, src)
	if err != nil {
		return err
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
	proof, err := retention.ParseProof(b)
	if err != nil {
		return fmt.Errorf("--proof %s: %w", c.Proof, err)
	}
	e, cp, err := proof.Check(keys...)
	switch {
	case errors.Is(err, retention.ErrWrongProof), errors.Is(err, audit.ErrBadSignature), errors.Is(err, audit.ErrUnknownKey),
		errors.Is(err, audit.ErrMalformedCheckpoint), errors.Is(err, audit.ErrMalformedEntry):
		fmt.Fprintf(p.Stderr, "cardea: %s: NOT PROVED: %s\n", c.Proof, printable(err.Error()))
		return errFindings
	case err != nil:
		return err
	}
	r := proved{Log: cp.Origin, Seq: proof.Seq, Entry: e, Signed: cp.Size, SignedAt: cp.Time}
	return c.print(p.Stdout, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: entry %d is proved: %s %s by %s:%s at %s\n  by the signed checkpoint of %d entries\n", printable(r.Log), r.Seq,
			e.Op, e.Outcome, e.Who.Type, printable(e.Who.Name), e.Time.Format(time.RFC3339), r.Signed)
		return err
	})
}
