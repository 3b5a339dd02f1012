package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	bad, err := r.drainAll(ctx, old)
	r.job.Bad += bad
	return err
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
	bad, err := r.drainAll(ctx, old)
	if err != nil {
		return err
	}
	for _, w := range old {
		if w.State != KeyDecryptOnly {
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
