package vault

import (
	"context"
	"fmt"
	"sync/atomic"
)

// sampleRows is how many records a job that moved records opens afterwards, of
// those that are stored, if it is not to open all.
const sampleRows = 1000

// verifyJob opens every record of a tenant or of a holder.
func (r *jobRun) verifyJob(ctx context.Context) error {
	r.job.State, r.job.Error = JobRunning, ""
	if r.job.Step == "" {
		inv, err := r.a.o.Store.Inventory(ctx, r.job.Tenant)
		if err != nil {
			return err
		}
		for _, w := range inv {
			if !w.replaceable() || r.job.Holder != "" {
				continue
			}
			n, err := r.a.o.Store.CountRecords(ctx, w.version())
			if err != nil {
				return err
			}
			r.job.Total += n
		}
	}
	if r.job.Holder != "" {
		if err := r.verifyHolder(ctx); err != nil {
			return err
		}
	} else if err := r.verify(ctx); err != nil {
		return err
	}
	if r.job.Bad > 0 {
		return r.end(ctx, JobFailed, fmt.Sprintf("%d records do not open: the audit log names them ('cardea audit show --op key.verify --outcome failed')", r.job.Bad))
	}
	return r.end(ctx, JobDone, "")
}

// verify opens the records as they are stored: all, or a sample. It goes on where
// the job was.
func (r *jobRun) verify(ctx context.Context) error {
	j := &r.job
	inv, err := r.a.o.Store.Inventory(ctx, j.Tenant)
	if err != nil {
		return err
	}
	byVersion(inv)
	var under []WrappedKey
	for _, w := range inv {
		if w.replaceable() && (j.Holder == "" || w.Holder == j.Holder && w.Purpose == PurposeRecord) {
			under = append(under, w)
		}
	}
	from := 0
	if j.Step == stepVerify {
		for i, w := range under {
			if w.version() == j.Key {
				from = i
			}
		}
	} else {
		j.Verified = 0
	}
	if err := r.step(ctx, stepVerify); err != nil {
		return err
	}
	sample := max(1, sampleRows/max(1, len(under)))
	for _, w := range under[from:] {
		if w.version() != j.Key {
			j.Key, j.After = w.version(), 0
		}
		for read := 0; j.Verify || read < sample; {
			limit := jobBatch
			if !j.Verify {
				limit = min(limit, sample-read)
			}
			rows, err := r.a.o.Store.RecordsUnder(ctx, w.version(), j.After, limit)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			read += len(rows)
			// What a job could not move, it has counted.
			if err := r.openAll(ctx, rows, j.Kind == JobVerify || w.State == KeyActive); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *jobRun) verifyHolder(ctx context.Context) error {
	if err := r.step(ctx, stepVerify); err != nil {
		return err
	}
	for {
		rows, err := r.a.o.Store.RecordsOf(ctx, r.job.Tenant, r.job.Holder, r.job.After, jobBatch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := r.openAll(ctx, rows, true); err != nil {
			return err
		}
	}
}

// openAll opens a batch and notes where the job is. count says whether those that
// do not open are counted.
func (r *jobRun) openAll(ctx context.Context, rows []HeldRecord, count bool) error {
	began := r.a.gate.Now()
	failed := make([]error, len(rows))
	var opened atomic.Int64
	err := each(rows, func(i int, h *HeldRecord) error {
		p, err := r.a.o.Keys.Open(ctx, h.context(), h.sealed())
		p.Destroy()
		if err == nil {
			opened.Add(1)
			return nil
		}
		if r.shredded(ctx, h, err) {
			return nil
		}
		if unfit(err) {
			failed[i] = err
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("open records: %w", err)
	}
	for i, cause := range failed {
		if cause == nil || !count {
			continue
		}
		if err := r.tell(ctx, &rows[i], OpKeyVerify, cause); err != nil {
			return err
		}
		r.job.Bad++
	}
	r.job.Verified += opened.Load()
	r.job.After = rows[len(rows)-1].Row
	if err := r.save(ctx, false); err != nil {
		return err
	}
	return r.pace(ctx, len(rows), r.a.gate.Now().Sub(began))
}
