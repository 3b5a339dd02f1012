package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cardea/internal/audit"
)

// drainAll is drain of many versions.
func (r *jobRun) drainAll(ctx context.Context, old []WrappedKey) (bad int64, err error) {
	if len(old) > 1 {
		pass, err := r.a.o.Store.PassPays(ctx, r.job.Total)
		if err != nil {
			return 0, err
		}
		if pass {
			return r.drain(ctx, old)
		}
	}
	for i := range old {
		n, err := r.drain(ctx, old[i:i+1])
		if err != nil {
			return bad, err
		}
		bad += n
	}
	return bad, nil
}

// source is the versions from under which records are moved in one pass.
type source struct {
	keys  map[KeyVersion]WrappedKey
	names map[KeyVersion]bool
	one   KeyVersion // if it is only one
}

func newSource(old []WrappedKey) source {
	s := source{keys: make(map[KeyVersion]WrappedKey, len(old)), names: make(map[KeyVersion]bool, len(old))}
	for _, w := range old {
		s.keys[w.version()], s.names[w.version()] = w, true
	}
	if len(old) == 1 {
		s.one = old[0].version()
	}
	return s
}

// drain moves the records from under versions until only those are left that
// cannot be moved, and counts these.
func (r *jobRun) drain(ctx context.Context, old []WrappedKey) (bad int64, err error) {
	from := newSource(old)
	r.job.Key = from.one
	for {
		var changed int64
		bad, r.job.After = 0, 0
		next := r.sealBatch(ctx, &from, 0)
		for next.read > 0 && next.err == nil {
			b := next
			// Who has named a rate has the next batch sealed while this one is committed. At
			// the configured rate there is a rest between them, in which rows may change.
			ahead := make(chan batch, 1)
			if r.job.Rate > 0 {
				go func() { ahead <- r.sealBatch(ctx, &from, b.last) }()
			}
			n, skipped, err := r.move(ctx, &from, &b)
			bad += n
			changed += skipped
			r.job.Skipped += skipped
			r.job.After = b.last
			if err == nil {
				err = r.save(ctx, false)
			}
			if r.job.Rate > 0 {
				next = <-ahead
			}
			if err != nil {
				return 0, err
			}
			if r.job.Rate == 0 {
				next = r.sealBatch(ctx, &from, b.last)
			}
		}
		if next.err != nil || changed == 0 {
			return bad, next.err
		}
	}
}

// batch is rows that were read, and sealed anew.
type batch struct {
	read    int          // rows
	last    int64        // their highest number
	leaving []HeldRecord // those of them that are to be moved
	sealed  []Sealed     // of these
	failed  []error      // likewise
	took    time.Duration
	err     error
}

// sealBatch reads the rows under the versions after a row number, and seals them anew.
func (r *jobRun) sealBatch(ctx context.Context, from *source, after int64) (b batch) {
	began := r.a.gate.Now()
	rows, err := r.list(ctx, from, after)
	if err != nil || len(rows) == 0 {
		b.err = err
		return b
	}
	b.read, b.last = len(rows), rows[len(rows)-1].Row
	b.leaving = r.leaving(from, rows)
	b.sealed, b.failed = make([]Sealed, len(b.leaving)), make([]error, len(b.leaving))
	b.err = each(b.leaving, func(i int, h *HeldRecord) error {
		var err error
		b.sealed[i], err = r.reseal(ctx, h, i == 0)
		switch {
		case err == nil:
			return nil
		case r.shredded(ctx, h, err):
			b.failed[i] = ErrShredded
			return nil
		case unfit(err):
			b.failed[i] = err
			return nil
		}
		return fmt.Errorf("move records from under version %d of key %s: %w", h.KeyVersion, h.Key, err)
	})
	b.took = r.a.gate.Now().Sub(began)
	return b
}

func (r *jobRun) list(ctx context.Context, from *source, after int64) ([]HeldRecord, error) {
	if len(from.keys) == 1 {
		return r.a.o.Store.RecordsUnder(ctx, from.one, after, r.batch())
	}
	return r.a.o.Store.RecordsAmong(ctx, from.names, after, r.batch())
}

// move puts a batch in the place of what was read.
func (r *jobRun) move(ctx context.Context, from *source, b *batch) (bad, skipped int64, err error) {
	began := r.a.gate.Now()
	changes := make([]ResealedRecord, 0, len(b.leaving))
	old := map[KeyVersion]bool{}
	for i := range b.leaving {
		h := &b.leaving[i]
		if isShredded(b.failed[i]) {
			continue
		}
		if b.failed[i] != nil {
			bad++
			if err := r.tell(ctx, h, OpKeyReencrypt, b.failed[i]); err != nil {
				return 0, 0, err
			}
			continue
		}
		old[h.under()] = true
		changes = append(changes, ResealedRecord{Row: h.Row, Was: h.Sealed, Sealed: b.sealed[i], HashedBy: h.HashedBy})
	}
	moved, err := r.replace(ctx, from, old, changes)
	if err != nil {
		return 0, 0, err
	}
	r.job.Moved += moved
	return bad, int64(len(changes)) - moved, r.pace(ctx, b.read, b.took+r.a.gate.Now().Sub(began))
}

// leaving takes out the records that are already as they would be if they were sealed
// anew.
func (r *jobRun) leaving(from *source, rows []HeldRecord) []HeldRecord {
	return slices.DeleteFunc(rows, func(h HeldRecord) bool {
		w := from.keys[h.under()]
		return w.State == KeyActive && r.a.o.Keys.Stays(w.Tenant, h.sealed()) && r.a.o.Keys.Current(w)
	})
}

// reseal seals a record anew, and makes sure that it opens before it takes the
// place of the one that does. check asks for that also where it is a call to KMS.
func (r *jobRun) reseal(ctx context.Context, h *HeldRecord, check bool) (Sealed, error) {
	at := h.context()
	s, err := r.a.o.Keys.Reseal(ctx, at, h.sealed())
	if err != nil || s.Mode == ModeKMS && !check {
		return s, err
	}
	p, err := r.a.o.Keys.Open(ctx, at, s)
	p.Destroy()
	if errors.Is(err, ErrCorrupt) { // not the record's fault
		return s, fmt.Errorf("what was sealed just now does not open, so nothing was replaced: %w: %s", ErrKeyUnavailable, err.Error())
	}
	return s, err
}

// replace puts a batch in its place and counts the rows that were still as read.
func (r *jobRun) replace(ctx context.Context, from *source, old map[KeyVersion]bool, changes []ResealedRecord) (moved int64, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	err = r.a.do(ctx, r.who(), OpKeyReencrypt, r.job.Tenant, "", func(c *call) error {
		c.entry.Detail = r.describe(c, from, old, changes)
		some, err := c.commit(ctx, "moved", func(ctx context.Context, e audit.Sealed) (bool, error) {
			done, err := r.a.o.Store.ReplaceSealed(ctx, changes, e)
			moved = 0
			for _, d := range done {
				if d {
					moved++
				}
			}
			return moved > 0, err
		})
		if err == nil && !some {
			c.entry.Result = "changed"
		}
		return err
	})
	return moved, err
}

// describe says what a batch moves, from under old; c names the version if it is one.
func (r *jobRun) describe(c *call, from *source, old map[KeyVersion]bool, changes []ResealedRecord) string {
	first, to := &changes[0], &changes[0].Sealed
	if len(old) > 1 {
		return fmt.Sprintf("%d records, rows %d to %d, from %d key versions to those in use now in mode %s, but those changed meanwhile, job %s",
			len(changes), first.Row, changes[len(changes)-1].Row, len(old), to.Mode, r.job.ID)
	}
	var w WrappedKey
	for v := range old {
		w = from.keys[v]
	}
	c.key(w.version())
	c.entry.Resource.Merchant = w.Holder
	return fmt.Sprintf("%d records from version %d of key %s in mode %s to version %d of key %s in mode %s, but those changed meanwhile, job %s",
		len(changes), w.Version, w.ID, w.Mode, to.KeyVersion, to.Key, to.Mode, r.job.ID)
}

// tell names a record that does not open in the audit log, once a run.
func (r *jobRun) tell(ctx context.Context, h *HeldRecord, op *Operation, cause error) error {
	if r.told[h.Row] {
		return nil
	}
	err := r.a.do(ctx, r.who(), op, r.job.Tenant, h.Holder.Name, func(c *call) error {
		c.names(&h.Record)
		c.entry.Resource.Customer = h.Customer
		return fmt.Errorf("row %d, job %s: %w", h.Row, r.job.ID, cause)
	})
	if !unfit(err) || errors.Is(err, ErrUnavailable) { // the entry was not written
		return err
	}
	r.told[h.Row] = true
	return nil
}
