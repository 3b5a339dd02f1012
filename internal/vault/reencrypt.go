package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"cardea/internal/audit"
)

// The steps of a job. Each finds out by itself what is left of it, so that a job
// that was cut off anywhere begins at the first again and soon is where it was.
const (
	stepKeys    = "keys"
	stepRecords = "records"
	stepHashes  = "hashes"
	stepVerify  = "verify"
	stepRetire  = "retire"
)

// reencrypt replaces keys and moves every record from under the replaced ones.
func (r *jobRun) reencrypt(ctx context.Context) error {
	j := &r.job
	resumed := j.Step
	j.State, j.Error = JobRunning, ""
	old, err := r.keys(ctx, resumed == "" || resumed == stepKeys)
	if err != nil {
		return err
	}
	if resumed == "" || resumed == stepKeys {
		j.Total, j.After, j.Key = 0, 0, KeyVersion{}
		for _, w := range old {
			n, err := r.a.toMove(ctx, w, r.former(w))
			if err != nil {
				return err
			}
			j.Total += n
		}
	}
	if resumed != stepVerify && resumed != stepRetire {
		j.Bad = 0
		if err := r.records(ctx, old); err != nil {
			return err
		}
		if err := r.hashes(ctx); err != nil {
			return err
		}
		j.Key, j.After = KeyVersion{}, 0
	}
	if resumed != stepRetire {
		if err := r.verify(ctx); err != nil {
			return err
		}
	}
	if !j.Retire {
		return r.finish(ctx)
	}
	return r.retire(ctx, old)
}

// finish ends the job.
func (r *jobRun) finish(ctx context.Context) error {
	if r.job.Bad == 0 {
		return r.end(ctx, JobDone, "")
	}
	return r.end(ctx, JobFailed, fmt.Sprintf("%d records do not open or cannot be moved: they are as they were, the audit log names them "+
		"('cardea audit show --op key.reencrypt --outcome failed'), and what they are under is not retired", r.job.Bad))
}

// keys brings the keys themselves up to date and returns the replaced ones, from
// under which records are to be moved. replace says whether those that are due
// for their own sake are still to be replaced.
func (r *jobRun) keys(ctx context.Context, replace bool) ([]WrappedKey, error) {
	j := &r.job
	if err := r.step(ctx, cmp.Or(j.Step, stepKeys)); err != nil {
		return nil, err
	}
	t, err := r.a.gate.Tenants.Tenant(j.Tenant)
	if err != nil {
		return nil, err
	}
	inv, err := r.a.o.Store.Inventory(ctx, j.Tenant)
	if err != nil {
		return nil, err
	}
	p := *j
	if !replace {
		p.Reason = ReasonMode // only what is not as configured
	}
	for _, k := range r.a.plan(inv, t, &p) {
		if err := r.change(ctx, k); err != nil {
			return nil, err
		}
		if err := r.save(ctx, false); err != nil {
			return nil, err
		}
	}
	if inv, err = r.a.o.Store.Inventory(ctx, j.Tenant); err != nil {
		return nil, err
	}
	var old []WrappedKey
	for _, w := range inv {
		if !w.replaceable() || j.Holder != "" && (w.Holder != j.Holder || w.Purpose != PurposeRecord) {
			continue
		}
		left := w.State == KeyDecryptOnly
		if action := r.former(w); action != ActionNone {
			// One that a node used which had not heard of its successor, or of a former mode.
			n, err := r.a.toMove(ctx, w, action)
			if err != nil {
				return nil, err
			}
			left = n > 0
		}
		if left {
			old = append(old, w)
		}
	}
	return old, nil
}

// former says what is to be done with records that are under a key which is not to
// have them, though it was not replaced.
func (r *jobRun) former(w WrappedKey) KeyAction {
	t, err := r.a.gate.Tenants.Tenant(w.Tenant)
	switch {
	case err != nil: // it is served no more, and so are its jobs
	case w.State == KeyRetired:
		return ActionDrain
	case w.State == KeyActive:
		if action := r.a.planMoved(w, t, &Job{Reason: ReasonMode}); action == ActionDrain || action == ActionSift {
			return action
		}
	}
	return ActionNone
}

// change does what is planned for a key.
func (r *jobRun) change(ctx context.Context, k planned) error {
	keys := r.a.o.Keys
	if !k.replaceable() && k.Mode != ModeKMS && (k.action == ActionRewrap || k.action == ActionRotate && !keys.Current(k.WrappedKey)) {
		// Also what is to be replaced: it goes on finding what was made under it.
		if _, err := keys.Rewrap(ctx, k.WrappedKey); err != nil && !errors.Is(err, ErrKeyFixed) {
			return fmt.Errorf("rewrap %s key %s: %w", k.Purpose, k.ID, err)
		}
	}
	if k.action == ActionRotate {
		if _, err := keys.Rotate(ctx, k.Tenant, k.Holder, k.Purpose, r.job.Reason); err != nil {
			return fmt.Errorf("replace %s key %s: %w", k.Purpose, k.ID, err)
		}
	}
	return nil
}

// records moves every record from under old versions.
func (r *jobRun) records(ctx context.Context, old []WrappedKey) error {
	if err := r.step(ctx, stepRecords); err != nil {
		return err
	}
	for _, w := range old {
		bad, err := r.drain(ctx, w)
		if err != nil {
			return err
		}
		r.job.Bad += bad
	}
	return nil
}

// drain moves the records from under a version until only those are left that
// cannot be moved, and counts these.
func (r *jobRun) drain(ctx context.Context, w WrappedKey) (bad int64, err error) {
	r.job.Key = w.version()
	for {
		var changed int64
		bad, r.job.After = 0, 0
		next := r.sealBatch(ctx, w, 0)
		for len(next.read) > 0 && next.err == nil {
			b := next
			last := b.read[len(b.read)-1].Row
			// Who has named a rate has the next batch sealed while this one is committed. At
			// the configured rate there is a rest between them, in which rows may change.
			ahead := make(chan batch, 1)
			if r.job.Rate > 0 {
				go func() { ahead <- r.sealBatch(ctx, w, last) }()
			}
			n, skipped, err := r.move(ctx, w, &b)
			bad += n
			changed += skipped
			r.job.Skipped += skipped
			r.job.After = last
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
				next = r.sealBatch(ctx, w, last)
			}
		}
		if next.err != nil || changed == 0 {
			return bad, next.err
		}
	}
}

// batch is rows that were read, and sealed anew.
type batch struct {
	read    []HeldRecord
	leaving []HeldRecord // those of them that are to be moved
	sealed  []Sealed     // of these
	failed  []error      // likewise
	took    time.Duration
	err     error
}

// sealBatch reads the rows under a key after a row number, and seals them anew.
func (r *jobRun) sealBatch(ctx context.Context, w WrappedKey, after int64) (b batch) {
	began := r.a.gate.Now()
	if b.read, b.err = r.a.o.Store.RecordsUnder(ctx, w.version(), after, jobBatch); b.err != nil {
		return b
	}
	b.leaving = r.leaving(w, b.read)
	b.sealed, b.failed = make([]Sealed, len(b.leaving)), make([]error, len(b.leaving))
	err := each(b.leaving, func(i int, h *HeldRecord) error {
		var err error
		b.sealed[i], err = r.reseal(ctx, h, i == 0)
		if err != nil && unfit(err) {
			b.failed[i] = err
			return nil
		}
		return err
	})
	if err != nil {
		b.err = fmt.Errorf("move records from under version %d of key %s: %w", w.Version, w.ID, err)
	}
	b.took = r.a.gate.Now().Sub(began)
	return b
}

// move puts a batch in the place of what was read.
func (r *jobRun) move(ctx context.Context, w WrappedKey, b *batch) (bad, skipped int64, err error) {
	began := r.a.gate.Now()
	var changes []ResealedRecord
	for i, h := range b.leaving {
		if b.failed[i] != nil {
			bad++
			if err := r.tell(ctx, &b.leaving[i], OpKeyReencrypt, b.failed[i]); err != nil {
				return 0, 0, err
			}
			continue
		}
		changes = append(changes, ResealedRecord{Row: h.Row, Was: h.Sealed, Sealed: b.sealed[i], HashedBy: h.HashedBy})
	}
	moved, err := r.replace(ctx, w, changes)
	if err != nil {
		return 0, 0, err
	}
	r.job.Moved += moved
	return bad, int64(len(changes)) - moved, r.pace(ctx, len(b.read), b.took+r.a.gate.Now().Sub(began))
}

// leaving are the records that are not under w already as they would be if they were
// sealed anew.
func (r *jobRun) leaving(w WrappedKey, rows []HeldRecord) []HeldRecord {
	if w.State != KeyActive || !r.a.o.Keys.Current(w) {
		return rows
	}
	var out []HeldRecord
	for _, h := range rows {
		if !r.a.o.Keys.Stays(w.Tenant, h.sealed()) {
			out = append(out, h)
		}
	}
	return out
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
func (r *jobRun) replace(ctx context.Context, w WrappedKey, changes []ResealedRecord) (moved int64, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	err = r.a.do(ctx, r.who(), OpKeyReencrypt, r.job.Tenant, w.Holder, func(c *call) error {
		c.key(w.version())
		to := changes[0].Sealed
		c.entry.Detail = fmt.Sprintf("%d records from version %d of key %s in mode %s to version %d of key %s in mode %s, but those changed meanwhile, job %s",
			len(changes), w.Version, w.ID, w.Mode, to.KeyVersion, to.Key, to.Mode, r.job.ID)
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

// retire waits until the replaced versions may be retired, and retires those that
// have no record left.
func (r *jobRun) retire(ctx context.Context, old []WrappedKey) error {
	var until Micros
	for _, w := range old {
		if w.State == KeyDecryptOnly {
			until = max(until, r.a.retirableAt(w))
		}
	}
	hashes, err := r.replacedHashes(ctx)
	if err != nil {
		return err
	}
	for _, w := range hashes {
		until = max(until, r.a.retirableAt(w))
	}
	if r.a.gate.now() < until {
		return r.wait(ctx, stepRetire, until)
	}
	if err := r.step(ctx, stepRetire); err != nil {
		return err
	}
	// What came under them until a moment ago, and what could not be moved.
	var bad int64
	for _, w := range old {
		n, err := r.drain(ctx, w)
		if err != nil {
			return err
		}
		if bad += n; n > 0 || w.State != KeyDecryptOnly {
			continue
		}
		if err := r.retireOne(ctx, w); err != nil {
			return err
		}
	}
	if len(hashes) > 0 {
		if err := r.hashes(ctx); err != nil {
			return err
		}
	}
	for _, w := range hashes {
		if err := r.retireOne(ctx, w); err != nil {
			return err
		}
	}
	r.job.Bad = max(r.job.Bad, bad)
	return r.finish(ctx)
}

// replacedHashes are the replaced keys of keyed hashes.
func (r *jobRun) replacedHashes(ctx context.Context) ([]WrappedKey, error) {
	if r.job.Holder != "" {
		return nil, nil
	}
	inv, err := r.a.o.Store.Inventory(ctx, r.job.Tenant)
	var out []WrappedKey
	for _, w := range inv {
		if w.State == KeyDecryptOnly && !w.replaceable() {
			out = append(out, w)
		}
	}
	return out, err
}

// retireOne retires a version. One that still has records, or finds fingerprints,
// stays.
func (r *jobRun) retireOne(ctx context.Context, w WrappedKey) error {
	n, err := r.a.count(ctx, w)
	if err != nil || n > 0 {
		return err
	}
	err = r.a.do(ctx, r.who(), OpKeyRetire, w.Tenant, w.Holder, func(c *call) error {
		c.key(w.version())
		c.entry.Detail = fmt.Sprintf("%s key, job %s", w.Purpose, r.job.ID)
		return r.a.retire(ctx, c, w)
	})
	if _, is := errors.AsType[*Refusal](err); is {
		return nil // the log says why; the next job finds it again
	}
	return err
}
