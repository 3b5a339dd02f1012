package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

const (
	// jobLease is how long a node has a job without writing its progress.
	jobLease = 15 * time.Second
	// saveInterval is how often a job's progress is written.
	saveInterval = time.Second
	// jobRetry is when a job is tried again that could not go on.
	jobRetry = 5 * time.Second
	// jobBatch is how many rows change in one transaction: few enough that
	// requests, whose commits it holds up, do not feel it.
	jobBatch = 100
	// fastBatch is that of a job at fastRate rows a second or more, which somebody has
	// named: fewer commits, each of which requests wait for a millisecond.
	fastBatch = 250
	fastRate  = 10_000
	// jobParallel is how many records are opened or sealed at once: in mode aws_kms
	// each is a call to KMS.
	jobParallel = 8
	// defaultRate is in rows a second.
	defaultRate = 1000
)

// jobsAtOnce is how many jobs a node carries on at once.
const jobsAtOnce = 4

var (
	errTaken = errors.New("the job is no longer this node's")
	errWaits = errors.New("the job waits")
)

// takeUp carries on the jobs that no other node has.
func (a *KeyAdmin) takeUp(ctx context.Context) {
	all, err := a.o.Store.Jobs(ctx, "", 1)
	if err != nil {
		if ctx.Err() == nil {
			a.gate.Logger.WarnContext(ctx, "jobs on keys not read", slog.Any("error", err))
		}
		return
	}
	a.metrics.read(all)
	for i := len(all); i > 0; i-- { // the oldest first
		if j := all[i-1]; a.ready(j) {
			a.jobs.Go(func() { a.carryOn(ctx, j) })
		}
	}
}

// ready says whether a job can run here now, and if so notes that it does.
func (a *KeyAdmin) ready(j Job) bool {
	now := a.gate.now()
	switch {
	case j.State != JobRunning && (j.State != JobWaiting || now < j.WaitUntil),
		j.Node != a.gate.Node && j.Until > now:
		return false
	}
	if j.Kind != JobShred && a.gate.Tenants.usable(j.Tenant) != nil {
		return false
	}
	if _, err := a.gate.Tenants.Tenant(j.Tenant); err != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, is := a.running[j.ID]; is || len(a.running) >= jobsAtOnce || a.gate.Now().Before(a.later[j.ID]) {
		return false
	}
	delete(a.later, j.ID)
	a.running[j.ID] = struct{}{}
	return true
}

// carryOn runs a job as far as it goes.
func (a *KeyAdmin) carryOn(ctx context.Context, j Job) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.running, j.ID)
	}()
	now := a.gate.now()
	j, ok, err := a.o.Store.ClaimJob(ctx, j.ID, a.gate.Node, now, now+Micros(jobLease/time.Microsecond))
	if err != nil || !ok || j.ended() || j.State == JobPaused {
		return
	}
	r := &jobRun{a: a, job: j, counted: j, saved: now, limit: a.limiter(j), told: map[int64]bool{}}
	err = r.run(ctx)
	switch {
	case err == nil, errors.Is(err, errTaken), errors.Is(err, errWaits):
	case ctx.Err() != nil:
		r.release("")
	default:
		a.mu.Lock()
		a.later[j.ID] = a.gate.Now().Add(jobRetry)
		a.mu.Unlock()
		a.metrics.failures.WithLabelValues(j.Tenant, string(j.Kind)).Inc()
		a.gate.Logger.WarnContext(ctx, "job on keys cannot go on just now, and is tried again",
			slog.String("job", j.ID.String()), slog.String("tenant", j.Tenant), slog.Any("error", err))
		r.release(err.Error())
	}
}

func (a *KeyAdmin) limiter(j Job) *rate.Limiter {
	n := j.Rate
	if n == 0 {
		n = a.o.Policy(j.Tenant).Rate
	}
	if n == 0 {
		n = defaultRate
	}
	return rate.NewLimiter(rate.Limit(n), max(jobBatch, n/10))
}

// jobRun is a job on this node.
type jobRun struct {
	a       *KeyAdmin
	job     Job
	counted Job // as the metrics know it
	saved   Micros
	limit   *rate.Limiter
	told    map[int64]bool // rows of which the audit log has been told that they do not open
}

// batch is how many records are moved in one transaction.
func (r *jobRun) batch() int {
	if r.job.Rate >= fastRate {
		return fastBatch
	}
	return jobBatch
}

func (r *jobRun) run(ctx context.Context) error {
	switch r.job.Kind {
	case JobReencrypt:
		return r.reencrypt(ctx)
	case JobVerify:
		return r.verifyJob(ctx)
	case JobShred:
		return r.shred(ctx)
	}
	return r.end(ctx, JobFailed, fmt.Sprintf("this release knows no job %q: let a newer one carry it on", r.job.Kind))
}

// who does a job's work.
func (r *jobRun) who() iam.Principal { return iam.System("key-job") }

// save writes the progress, at most once in saveInterval unless it must.
func (r *jobRun) save(ctx context.Context, must bool) error {
	r.count()
	now := r.a.gate.now()
	if !must && now-r.saved < Micros(saveInterval/time.Microsecond) {
		return nil
	}
	return r.write(ctx, now, nil)
}

// count adds what was done since the last time to the metrics.
func (r *jobRun) count() {
	r.a.metrics.done(&r.counted, &r.job)
	r.counted = r.job
}

func (r *jobRun) write(ctx context.Context, now Micros, e *audit.Sealed) error {
	ctx, cancel := lasting(ctx)
	defer cancel()
	r.job.UpdatedAt, r.saved = now, now
	if r.job.Node != "" {
		r.job.Until = now + Micros(jobLease/time.Microsecond)
	}
	ok, err := r.a.o.Store.SaveJob(ctx, r.job, e)
	if err == nil && !ok {
		return errTaken
	}
	return err
}

// step begins a step.
func (r *jobRun) step(ctx context.Context, name string) error {
	r.job.Step = name
	return r.save(ctx, true)
}

// release leaves the job to any node.
func (r *jobRun) release(problem string) {
	ctx, cancel := lasting(context.Background()) // the node may be stopping
	defer cancel()
	now := r.a.gate.now()
	r.job.Error, r.job.UpdatedAt, r.job.Until = problem, now, now
	if _, err := r.a.o.Store.SaveJob(ctx, r.job, nil); err != nil {
		r.a.gate.Logger.WarnContext(ctx, "job on keys not given back, its time will pass", slog.String("job", r.job.ID.String()), slog.Any("error", err))
	}
}

// wait leaves the job until a time.
func (r *jobRun) wait(ctx context.Context, step string, until Micros) error {
	r.count()
	now := r.a.gate.now()
	r.job.State, r.job.Step, r.job.WaitUntil, r.job.Error = JobWaiting, step, until, ""
	r.job.UpdatedAt, r.job.Until = now, now
	ok, err := r.a.o.Store.SaveJob(ctx, r.job, nil)
	switch {
	case err != nil:
		return err
	case !ok:
		return errTaken
	}
	return errWaits
}

// end finishes the job with an entry that says how it went.
func (r *jobRun) end(ctx context.Context, state JobState, problem string) error {
	r.count()
	now := r.a.gate.now()
	j := r.job // a copy: what is given back after an error has not ended
	j.State, j.Error, j.DoneAt, j.UpdatedAt, j.Until = state, problem, now, now, now
	err := r.a.do(ctx, r.who(), OpKeyJob, j.Tenant, j.Holder, func(c *call) error {
		c.entry.Detail = fmt.Sprintf("%s, %s, job %s of %s: %d moved, %d verified, %d do not open", j.Kind, j.Reason, j.ID, j.By, j.Moved, j.Verified, j.Bad)
		if problem != "" {
			c.entry.Outcome = audit.Failed
			c.entry.Detail += ": " + problem
		}
		_, err := c.commit(ctx, string(state), func(ctx context.Context, e audit.Sealed) (bool, error) {
			ok, err := r.a.o.Store.SaveJob(ctx, j, &e)
			if err == nil && !ok {
				err = errTaken
			}
			return ok, err
		})
		return err
	})
	if err == nil {
		r.a.metrics.ended.WithLabelValues(j.Tenant, string(j.Kind), string(state)).Inc()
		r.a.gate.Logger.InfoContext(ctx, "job on keys ended", slog.String("job", j.ID.String()), slog.String("kind", string(j.Kind)),
			slog.String("tenant", j.Tenant), slog.String("state", string(state)), slog.Int64("moved", j.Moved), slog.Int64("bad", j.Bad))
	}
	return err
}

// pace holds a job to its rate before n rows. At the configured rate it works half of
// the time at most: what makes its batches slow makes requests slow, and then it does
// less. Who names a rate for a job has decided what requests may suffer.
func (r *jobRun) pace(ctx context.Context, n int, last time.Duration) error {
	if err := r.limit.WaitN(ctx, min(n, r.limit.Burst())); err != nil || r.job.Rate > 0 {
		return err
	}
	return r.a.idle(ctx, min(last, maxIdle))
}

// maxIdle bounds the pause after a batch.
const maxIdle = time.Second

// idle waits.
func (a *KeyAdmin) idle(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// each calls f for every row, several at once, until there is an error.
func each(rows []HeldRecord, f func(i int, h *HeldRecord) error) error {
	var (
		g    errgroup.Group
		next atomic.Int64
	)
	for range min(jobParallel, len(rows)) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(rows); i = int(next.Add(1)) - 1 {
				if err := f(i, &rows[i]); err != nil {
					next.Store(int64(len(rows)))
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// context is everything that the record was sealed for, as its row says it.
func (h *HeldRecord) context() RecordContext {
	var secret []byte
	if h.Space == SpaceV2 {
		secret = h.Holder.Secret
	}
	return h.Record.context(Owner{Tenant: h.Holder.Tenant, Merchant: h.Holder.Name, Customer: h.Customer}, secret)
}

// under is the key version that the record is sealed under.
func (r *Record) under() KeyVersion { return KeyVersion{r.Key, r.KeyVersion} }

func (r *Record) sealed() Sealed {
	return Sealed{Mode: r.Mode, Key: r.Key, KeyVersion: r.KeyVersion, Blob: r.Sealed}
}

// unfit says whether err is about the record itself, so that trying again is of
// no use: it does not open, or cannot be sealed in the tenant's mode.
func unfit(err error) bool {
	_, invalid := errors.AsType[*ValidationError](err)
	return invalid || errors.Is(err, ErrCorrupt)
}

// shredded says whether a record does not open because its holder was shredded, and
// is the business of the job that removes it.
func (r *jobRun) shredded(ctx context.Context, h *HeldRecord, err error) bool {
	if isShredded(err) || !errors.Is(err, ErrCorrupt) || len(h.Holder.Secret) > 0 {
		return isShredded(err)
	}
	now, err := r.a.o.Store.Holder(ctx, h.Holder.Tenant, h.Holder.Name)
	return isNotFound(err) || err == nil && now.ShreddedAt != 0
}

func isShredded(err error) bool { return errors.Is(err, ErrShredded) }
func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
func isConflict(err error) bool { return errors.Is(err, ErrConflict) }
