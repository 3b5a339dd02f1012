package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"cardea/internal/audit"
)

// Store is where logs are stored that can be pruned.
type Store interface {
	audit.Source
	PruneLimit(ctx context.Context, origin string, upTo int64) (from, to int64, err error)
	RecordPruning(ctx context.Context, p audit.Pruning, note []byte, e audit.Sealed) error
	FinishPruning(ctx context.Context, origin string) error
}

// ErrNotTheSame says that archive and log differ, so that nothing may be removed.
var ErrNotTheSame = errors.New("the archive's entries are not those of the log: see 'cardea audit verify'")

// PruneOptions say what may be pruned, and by whom.
type PruneOptions struct {
	Before    time.Time // entries that are not older stay
	Verifiers []string  // keys that are trusted
	Now       func() time.Time
	Signer    *audit.Signer // of the log that records it
	// Undelivered gives the first entry of a log that has yet to be delivered, and by
	// which delivery. The entry is not negative; MaxInt64 if all is delivered.
	Undelivered func(origin string) (next int64, delivery string, err error)
	// Record writes an entry about a log into the signer's, by write.
	Record func(ctx context.Context, origin, detail string, write func(context.Context, audit.Sealed) error) error
}

// Pruned is what became of an attempt to prune a log.
type Pruned struct {
	Log      string          `json:"log"`
	From     int64           `json:"from"`              // the first entry that was removed
	To       int64           `json:"to"`                // the entry after the last; 0 if none was
	Archive  string          `json:"archive,omitempty"` // digest
	Waits    string          `json:"waits,omitempty"`   // the delivery that has not delivered what else there is
	Findings []audit.Finding `json:"findings"`          // of the archive; nothing was removed then
}

// Prune removes from the store those entries of a log that the archive has, which
// were read back from it, verified against a signed checkpoint and compared with the
// log's tiles; in whole periods that are older than o.Before, as far as the store
// allows (docs/spec/audit-log.md, Pruning). Whenever a process ends in it, archive and
// log can be read, and the next call goes on. Of several processes one prunes.
func (a *Archive) Prune(ctx context.Context, db Store, origin string, o PruneOptions) (r Pruned, err error) {
	r = Pruned{Log: origin, Findings: []audit.Finding{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("prune %s: %w", origin, err)
		}
	}()
	release, err := a.place.hold(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := db.FinishPruning(ctx, origin); err != nil {
		return r, err
	}
	var upTo int64
	for _, p := range a.periods {
		if p.Log == origin && p.Last.Before(o.Before) {
			upTo = p.To
		}
	}
	next, delivery, err := o.Undelivered(origin)
	if err != nil {
		return r, err
	}
	from, to, err := db.PruneLimit(ctx, origin, min(upTo, next))
	if err != nil {
		return r, err
	}
	if next < upTo {
		if _, all, err := db.PruneLimit(ctx, origin, upTo); err != nil {
			return r, err
		} else if all > max(from, to) {
			r.Waits = delivery
		}
	}
	if to <= from {
		return r, nil
	}
	p := audit.Pruning{Origin: origin, From: from, To: to, Recorder: o.Signer.Origin()}
	report, err := a.verify(ctx, origin, o.Verifiers, func(back *Restored) error { return complete(ctx, &p, db, back, o) })
	if err != nil {
		return r, err
	}
	if len(report.Findings) > 0 {
		r.Findings = report.Findings
		return r, nil
	}
	note, err := o.Signer.SignPruning(p)
	if err != nil {
		return r, err
	}
	err = o.Record(ctx, origin, p.Detail(), func(ctx context.Context, e audit.Sealed) error { return db.RecordPruning(ctx, p, note, e) })
	if err != nil {
		if now, _, lerr := db.PruneLimit(ctx, origin, to); lerr == nil && now != from {
			return r, db.FinishPruning(ctx, origin) // another process was faster
		}
		return r, err
	}
	r.From, r.To, r.Archive = from, to, p.Archive
	return r, db.FinishPruning(ctx, origin)
}

// complete holds what an archive that verifies has against the log that is to be
// pruned, and completes the record.
func complete(ctx context.Context, p *audit.Pruning, db Store, back *Restored, o PruneOptions) error {
	archived, stored := audit.NewTree(), audit.NewTree()
	for h, err := range audit.Leaves(ctx, back, p.Origin) {
		if err != nil {
			return err
		}
		if archived.Size() == p.To {
			break
		}
		if err := grow(archived, h); err != nil {
			return err
		}
	}
	for hashes, err := range audit.TileLeaves(ctx, db, p.Origin, p.To) {
		if err != nil {
			return err
		}
		if err := grow(stored, hashes...); err != nil {
			return err
		}
	}
	if archived.Size() != p.To || archived.Root() != stored.Root() {
		return ErrNotTheSame
	}
	// The manifest's times are signed by nobody, those of entries are.
	for n, err := range audit.Entries(ctx, back, p.Origin, p.To-1) {
		if err != nil {
			return err
		}
		p.Last = n.Entry.Time
		break
	}
	if !p.Last.Before(o.Before) {
		return fmt.Errorf("entry %d is of %s, which must stay: the archive's manifest says otherwise", p.To-1, p.Last.Format(time.RFC3339))
	}
	p.Root, p.Archive, p.Time = archived.Root(), back.Digest(p.Origin, p.To), o.Now()
	if p.Archive == "" {
		return fmt.Errorf("%w: it does not go back to the log's first entry", ErrArchive)
	}
	return nil
}

func grow(t *audit.Tree, hashes ...tlog.Hash) error {
	for _, h := range hashes {
		if err := t.Append(h); err != nil {
			return err
		}
	}
	t.TakeTiles()
	return nil
}
