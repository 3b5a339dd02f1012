package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// The steps of shredding besides stepKeys.
const (
	stepProve  = "prove"
	stepRemove = "remove"
)

// Shred begins a job that makes everything of one merchant or entity unreadable
// for ever: it has nothing stored for it any more, destroys every version of its
// keys, waits until no node has them in memory, shows that none of its records opens,
// says so in the audit log, and removes the rows. In mode aws_kms, in which a merchant
// has no key of its own, records are only removed, and the log says that. There is no
// way back: what is stored for a merchant afterwards is ErrShredded. The name of an
// entity is free again when all is gone. Copies of the database from before are as
// safe as the keys that wrapped the merchant's.
func (a *KeyAdmin) Shred(ctx context.Context, who iam.Principal, r JobRequest) (Job, error) {
	j := a.newJob(JobShred, r.Tenant, r.Holder, who)
	j.Reason = r.Reason
	return a.start(ctx, who, j, "", func(t Tenant) error {
		if err := checkReason(r.Reason); err != nil {
			return err
		}
		if err := checkID("holder", r.Holder); err != nil {
			return err
		}
		h, err := a.knownHolder(ctx, t.Name, r.Holder)
		if err == nil && h.ShreddedAt != 0 {
			return &Refusal{Result: "shredded", Reason: fmt.Sprintf("%s of tenant %s was shredded at %s, or still is being ('cardea keys jobs')",
				h.Name, h.Tenant, h.ShreddedAt.Time().Format(time.RFC3339))}
		}
		return err
	})
}

func (r *jobRun) shred(ctx context.Context) error {
	j := &r.job
	resumed := j.Step
	j.State, j.Error = JobRunning, ""
	h, err := r.a.o.Store.Holder(ctx, j.Tenant, j.Holder)
	after := resumed == stepProve || resumed == stepRemove
	if isNotFound(err) || err == nil && after && h.ShreddedAt == 0 {
		// Its name was freed just before the node ended, and may be another's by now.
		return r.end(ctx, JobDone, "")
	}
	if err != nil {
		return err
	}
	if err := r.mark(ctx, h); err != nil {
		return err
	}
	destroyed, err := r.destroy(ctx)
	if err != nil {
		return err
	}
	if !after {
		// Until every node has forgotten the keys, what it has may still open somewhere.
		return r.wait(ctx, stepProve, r.a.gate.now()+Micros(RetireDelay.Microseconds()))
	}
	if resumed == stepProve {
		if err := r.prove(ctx, destroyed); err != nil {
			return err
		}
	}
	if err := r.removeAll(ctx); err != nil {
		return err
	}
	// A merchant's name is kept. What KMS itself encrypted was a merchant's, too.
	if entity := destroyed == 0 && j.Total == j.Verified; entity {
		if err := r.freeName(ctx, h); err != nil {
			return err
		}
	}
	return r.end(ctx, JobDone, "")
}

// mark has nothing stored for the holder from now on, on any node, and destroys its
// secret.
func (r *jobRun) mark(ctx context.Context, h Holder) error {
	if r.job.Step == "" {
		if err := r.step(ctx, stepKeys); err != nil {
			return err
		}
	}
	if h.ShreddedAt != 0 {
		return nil
	}
	err := r.a.do(ctx, r.who(), OpKeyShred, h.Tenant, h.Name, func(c *call) error {
		c.entry.Resource.Kind = "holder"
		c.entry.Detail = fmt.Sprintf("nothing is stored for it from now on, and the secret destroyed that the keys of its v2 records are made with, job %s of %s: %s",
			r.job.ID, r.job.By, r.job.Reason)
		done, err := c.commit(ctx, string(KeyDestroyed), func(ctx context.Context, e audit.Sealed) (bool, error) {
			return r.a.o.Store.ShredHolder(ctx, h.ID, r.a.gate.now(), e)
		})
		if err == nil && !done {
			c.entry.Result = "existed"
		}
		return err
	})
	r.a.o.Service.forgetHolders(h.Tenant)
	return err
}

// destroy destroys what there still is of the holder's keys, and returns how many
// are destroyed in all.
func (r *jobRun) destroy(ctx context.Context) (destroyed int, err error) {
	inv, err := r.a.o.Store.Inventory(ctx, r.job.Tenant)
	if err != nil {
		return 0, err
	}
	for _, w := range inv {
		if w.Holder != r.job.Holder || w.Purpose != PurposeRecord {
			continue
		}
		destroyed++
		if w.State == KeyDestroyed {
			continue
		}
		if err := r.destroyKey(ctx, w); err != nil {
			return 0, err
		}
	}
	return destroyed, nil
}

func (r *jobRun) destroyKey(ctx context.Context, w WrappedKey) error {
	err := r.a.do(ctx, r.who(), OpKeyShred, w.Tenant, w.Holder, func(c *call) error {
		c.key(w.version())
		c.entry.Detail = fmt.Sprintf("material of the key destroyed, job %s of %s: %s", r.job.ID, r.job.By, r.job.Reason)
		done, err := c.commit(ctx, string(KeyDestroyed), func(ctx context.Context, e audit.Sealed) (bool, error) {
			return r.a.o.Store.ChangeKey(ctx, w.version(), w.State, KeyDestroyed, r.a.gate.now(), e)
		})
		if err == nil && !done {
			return fmt.Errorf("version %d of key %s changed meanwhile: %w", w.Version, w.ID, ErrUnavailable) // tried again
		}
		return err
	})
	r.a.o.Keys.ForgetKey(w.Tenant, w.version())
	return err
}

// errOpens is why shredding does not go on.
var errOpens = errors.New("a record still opens")

// prove tries to open every record of the holder, and writes into the audit log
// that none does. Records that KMS itself encrypted have no key that was the
// holder's: they are counted by themselves.
func (r *jobRun) prove(ctx context.Context, destroyed int) error {
	j := &r.job
	j.Verified, j.After = 0, 0
	var inKMS int64
	for {
		rows, err := r.a.o.Store.RecordsOf(ctx, j.Tenant, j.Holder, j.After, jobBatch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		began := r.a.gate.Now()
		for i := range rows {
			if rows[i].Mode == ModeKMS && rows[i].Space == SpaceV1 {
				inKMS++
				continue
			}
			if err := r.mustNotOpen(ctx, &rows[i]); err != nil {
				return err
			}
			j.Verified++
		}
		j.After = rows[len(rows)-1].Row
		if err := r.save(ctx, false); err != nil {
			return err
		}
		if err := r.pace(ctx, len(rows), r.a.gate.Now().Sub(began)); err != nil {
			return err
		}
	}
	err := r.a.do(ctx, r.who(), OpKeyShred, j.Tenant, j.Holder, func(c *call) error {
		c.entry.Resource.Kind = "holder"
		c.entry.Result = "proved"
		c.entry.Detail = fmt.Sprintf("%d versions of its key destroyed; of %d records sealed under them or with its secret none opens", destroyed, j.Verified)
		if inKMS > 0 {
			c.entry.Result = "not_shredded"
			c.entry.Detail += fmt.Sprintf("; %d records were encrypted by KMS under a key of the whole tenant, which is not destroyed: "+
				"they are removed, but copies of the database from before open with that key", inKMS)
		}
		c.entry.Detail += fmt.Sprintf("; job %s of %s: %s", j.ID, j.By, j.Reason)
		return nil
	})
	if err != nil {
		return err
	}
	j.Total = j.Verified + inKMS
	return r.step(ctx, stepRemove)
}

// mustNotOpen returns nil if a record cannot be opened and never will be.
func (r *jobRun) mustNotOpen(ctx context.Context, h *HeldRecord) error {
	p, err := r.a.o.Keys.Open(ctx, h.context(), h.sealed())
	p.Destroy()
	switch {
	case err == nil:
		return fmt.Errorf("row %d, under version %d of key %s: %w", h.Row, h.KeyVersion, h.Key, errOpens)
	case errors.Is(err, ErrCorrupt):
		return nil
	}
	// What is out of reach just now proves nothing, but a destroyed key does.
	k, kerr := r.a.o.Store.Key(ctx, h.Key, h.KeyVersion)
	if kerr == nil && (k.State == KeyDestroyed || h.Space == SpaceV2 && len(h.Holder.Secret) == 0) {
		return nil
	}
	return err
}

// removeAll removes the holder's rows, to which none are added any more.
func (r *jobRun) removeAll(ctx context.Context) error {
	j := &r.job
	for {
		began := r.a.gate.Now()
		rows, err := r.a.o.Store.RecordsOf(ctx, j.Tenant, j.Holder, 0, jobBatch)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := r.remove(ctx, rows); err != nil {
			return err
		}
		if err := r.save(ctx, false); err != nil {
			return err
		}
		if err := r.pace(ctx, len(rows), r.a.gate.Now().Sub(began)); err != nil {
			return err
		}
	}
}

// remove removes a batch of rows.
func (r *jobRun) remove(ctx context.Context, rows []HeldRecord) error {
	numbers := make([]int64, len(rows))
	for i, row := range rows {
		numbers[i] = row.Row
	}
	return r.a.do(ctx, r.who(), OpKeyShred, r.job.Tenant, r.job.Holder, func(c *call) error {
		c.entry.Resource.Kind = "holder"
		c.entry.Detail = fmt.Sprintf("%d records removed, job %s", len(rows), r.job.ID)
		done, err := c.commit(ctx, "removed", func(ctx context.Context, e audit.Sealed) (bool, error) {
			n, err := r.a.o.Store.DeleteRows(ctx, numbers, e)
			r.job.Moved += int64(n)
			return n > 0, err
		})
		if err == nil && !done {
			c.entry.Result = "kept" // others were faster
		}
		return err
	})
}

// freeName lets an entity of the same name be created again.
func (r *jobRun) freeName(ctx context.Context, h Holder) error {
	err := r.a.do(ctx, r.who(), OpKeyShred, h.Tenant, h.Name, func(c *call) error {
		c.entry.Resource.Kind = "holder"
		c.entry.Detail = "the holder itself removed, job " + r.job.ID.String()
		done, err := c.commit(ctx, "removed", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return r.a.o.Store.FreeName(ctx, h.ID, e)
		})
		if err == nil && !done {
			return fmt.Errorf("%s has records again: %w", h.Name, ErrUnavailable) // of a node of the release before; tried again
		}
		return err
	})
	r.a.o.Service.forgetHolders(h.Tenant)
	return err
}
