package vault

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// textUnderWay refuses a job beside another.
const textUnderWay = "job %s (%s, begun %s) is under way for it already: wait for it ('cardea keys jobs'), or cancel it"

// JobRequest asks for a job on the records of a tenant, or of one merchant.
type JobRequest struct {
	Tenant string `json:"tenant"`
	Holder string `json:"holder,omitempty"`
	Reason string `json:"reason,omitempty"` // Rotate: ReasonOperator or ReasonCompromise; Shred: free text
	Rate   int    `json:"rate,omitempty"`   // rows a second at most; 0 as configured
	Verify bool   `json:"verify,omitempty"` // open every moved record afterwards, not only a sample
	Keep   bool   `json:"keep,omitempty"`   // do not retire what is replaced
}

const maxRate = 1_000_000

// Rotate begins a job that replaces the keys of the tenant's records, or of one
// merchant's, by new versions, moves every record under them while reads and
// writes go on, verifies, and retires the old versions. The keys of keyed hashes
// stay: a fingerprint cannot be computed again without its card.
func (a *KeyAdmin) Rotate(ctx context.Context, who iam.Principal, r JobRequest) (Job, error) {
	j := a.newJob(JobReencrypt, r.Tenant, r.Holder, who)
	j.Reason, j.Rate, j.Verify, j.Retire = r.Reason, r.Rate, r.Verify, !r.Keep
	if j.Reason == "" {
		j.Reason = ReasonOperator
	}
	return a.start(ctx, who, j, "", func(t Tenant) error {
		switch {
		case j.Reason != ReasonOperator && j.Reason != ReasonCompromise:
			return &ValidationError{Field: "reason", Reason: fmt.Sprintf("must be %q or %q", ReasonOperator, ReasonCompromise)}
		case j.Holder != "" && t.Mode == ModeKMS:
			return &Refusal{Result: "no_key", Reason: fmt.Sprintf("tenant %s is in mode aws_kms, in which merchants have no keys of their own: rotate the tenant", t.Name)}
		case j.Holder != "":
			return a.hasKey(ctx, t.Name, j.Holder)
		}
		return nil
	})
}

// hasKey refuses a holder that has no branch key.
func (a *KeyAdmin) hasKey(ctx context.Context, tenant, holder string) error {
	inv, err := a.o.Store.Inventory(ctx, tenant)
	if err != nil {
		return err
	}
	for _, w := range inv {
		if w.Holder == holder && w.Purpose == PurposeRecord {
			return nil
		}
	}
	return &Refusal{Result: "not_found", Reason: fmt.Sprintf("tenant %s has no key of %s: it is not a merchant with cards; entities share the tenant's key", tenant, holder)}
}

// Plan tells what Migrate would do, and changes nothing.
func (a *KeyAdmin) Plan(ctx context.Context, who iam.Principal, tenant string) ([]KeyMove, error) {
	var out []KeyMove
	err := a.do(ctx, who, OpKeyList, tenant, "", func(c *call) error {
		t, err := a.gate.Tenants.Tenant(tenant)
		if err != nil {
			return err
		}
		inv, err := a.o.Store.Inventory(ctx, tenant)
		if err != nil {
			return err
		}
		for _, p := range a.plan(inv, t, &Job{Tenant: tenant, Reason: ReasonMode}) {
			k := a.info(p.WrappedKey)
			if k.Records, err = a.toMove(ctx, p.WrappedKey, p.action); err != nil {
				return err
			}
			k.Counted = true
			if p.idle(k.Records) {
				p.action = ActionNone
			}
			out = append(out, KeyMove{k, p.action})
		}
		c.entry.Result = "planned"
		return nil
	})
	return out, err
}

// Migrate begins a job that moves keys and records of a tenant to the mode and
// the KMS key that its configuration names now. A migration that is under way is
// begun anew, so that setting the configuration back and migrating again is the
// way back.
func (a *KeyAdmin) Migrate(ctx context.Context, who iam.Principal, r JobRequest) (Job, error) {
	j := a.newJob(JobReencrypt, r.Tenant, "", who)
	j.Reason, j.Rate, j.Verify, j.Retire = ReasonMode, r.Rate, r.Verify, !r.Keep
	return a.start(ctx, who, j, ReasonMode, func(t Tenant) error {
		if r.Holder != "" {
			return &ValidationError{Field: "holder", Reason: "a tenant is migrated as a whole"}
		}
		inv, err := a.o.Store.Inventory(ctx, t.Name)
		if err != nil {
			return err
		}
		for _, p := range a.plan(inv, t, &j) {
			n, err := a.toMove(ctx, p.WrappedKey, p.action)
			if err != nil || p.action != ActionNone && !p.idle(n) {
				return err
			}
		}
		return &Refusal{Result: "nothing_to_do", Reason: fmt.Sprintf("all keys of tenant %s are in mode %s and under its configured KMS key already", t.Name, t.Mode)}
	})
}

// Verify begins a job that opens every record of a tenant, or of one merchant or
// entity, and counts those that do not open.
func (a *KeyAdmin) Verify(ctx context.Context, who iam.Principal, r JobRequest) (Job, error) {
	j := a.newJob(JobVerify, r.Tenant, r.Holder, who)
	j.Reason, j.Rate, j.Verify = ReasonOperator, r.Rate, true
	return a.start(ctx, who, j, "", func(t Tenant) error {
		if j.Holder == "" {
			return nil
		}
		_, err := a.knownHolder(ctx, t.Name, j.Holder)
		return err
	})
}

func (a *KeyAdmin) knownHolder(ctx context.Context, tenant, name string) (Holder, error) {
	h, err := a.o.Store.Holder(ctx, tenant, name)
	if isNotFound(err) {
		err = &Refusal{Result: "not_found", Reason: fmt.Sprintf("tenant %s has no merchant or entity %s", tenant, name)}
	}
	return h, err
}

// start checks what is asked for and puts the job into the store. A job that is
// under way is returned if it is of the reason again, to be begun anew; else it is
// a refusal.
func (a *KeyAdmin) start(ctx context.Context, who iam.Principal, j Job, again string, check func(Tenant) error) (Job, error) {
	var standing Job
	err := a.do(ctx, who, OpKeyJob, j.Tenant, j.Holder, func(c *call) error {
		if j.Rate < 0 || j.Rate > maxRate {
			return &ValidationError{Field: "rate", Reason: fmt.Sprintf("must be between 1 and %d rows a second, or 0 for what is configured", maxRate)}
		}
		if err := a.gate.Tenants.usable(j.Tenant); err != nil && j.Kind != JobShred {
			return err
		}
		t, err := a.gate.Tenants.Tenant(j.Tenant)
		if err != nil {
			return err
		}
		if err := check(t); err != nil {
			return err
		}
		c.entry.Detail = fmt.Sprintf("%s, %s, job %s", j.Kind, j.Reason, j.ID)
		begun, err := c.commit(ctx, "begun", func(ctx context.Context, e audit.Sealed) (begun bool, err error) {
			standing, begun, err = a.o.Store.PutJob(ctx, j, e)
			return begun, err
		})
		if err != nil || begun {
			return err
		}
		if again == "" || standing.Reason != again {
			return &Refusal{Result: "job_under_way", Reason: fmt.Sprintf(textUnderWay, standing.ID, standing.Reason, standing.CreatedAt.Time().Format(time.RFC3339))}
		}
		return a.restart(ctx, c, &standing, j)
	})
	a.nudge()
	return standing, err
}

// restart makes an unfinished job begin anew, as j asks for it.
func (a *KeyAdmin) restart(ctx context.Context, c *call, standing *Job, j Job) error {
	return a.seize(ctx, c, standing, "begun_anew", func(s *Job) error {
		s.State, s.Step, s.After, s.Key, s.Error, s.WaitUntil = JobRunning, "", 0, KeyVersion{}, "", 0
		s.Total, s.Moved, s.Verified, s.Skipped, s.Bad = 0, 0, 0, 0, 0
		s.Rate, s.Verify, s.Retire = j.Rate, j.Verify, j.Retire
		return nil
	})
}

// seize takes a job from whichever node has it, changes it, and leaves it to any.
// The node that had it finds out when it next writes its progress; what it does
// until then harms nothing, because rows change only if they are as it read them.
// What is refused takes the job from nobody. Each call has a name of its own, or of
// two operators at once on a node one would undo what the other was told is done.
func (a *KeyAdmin) seize(ctx context.Context, c *call, j *Job, result string, change func(*Job) error) error {
	asRead := *j
	if err := change(&asRead); err != nil {
		return err
	}
	now := a.gate.now()
	by := fmt.Sprintf("%s (operator %d)", a.gate.Node, a.seized.Add(1))
	got, ok, err := a.o.Store.ClaimJob(ctx, j.ID, by, math.MaxInt64, now+Micros(jobLease/time.Microsecond))
	if err != nil {
		return err
	}
	if !ok {
		return &Refusal{Result: "job_ended", Reason: fmt.Sprintf("job %s has ended meanwhile", j.ID)}
	}
	if err := change(&got); err != nil {
		return err
	}
	got.Until, got.UpdatedAt = now, now
	saved, err := c.commit(ctx, result, func(ctx context.Context, e audit.Sealed) (bool, error) {
		return a.o.Store.SaveJob(ctx, got, &e)
	})
	if err == nil && !saved { // another operator was faster
		return &Refusal{Result: "changed", Reason: fmt.Sprintf("job %s has changed meanwhile: look at it again", j.ID)}
	}
	if err == nil && got.ended() {
		a.metrics.ended.WithLabelValues(got.Tenant, string(got.Kind), string(got.State)).Inc()
	}
	*j = got
	return err
}

// newJob is a job that may run at once.
func (a *KeyAdmin) newJob(kind JobKind, tenant, holder string, who iam.Principal) Job {
	now := a.gate.now()
	return Job{ID: NewKeyID(), Kind: kind, Tenant: tenant, Holder: holder, State: JobRunning, By: who.Name, CreatedAt: now, UpdatedAt: now}
}

// begin puts a job of Cardea's own into the store, unless one is there.
func (a *KeyAdmin) begin(ctx context.Context, who iam.Principal, j Job, detail string) (standing Job, begun bool, err error) {
	unfinished, err := a.o.Store.Jobs(ctx, j.Tenant, 1)
	if err != nil {
		return Job{}, false, err
	}
	for _, u := range unfinished {
		if u.Kind == j.Kind && u.Holder == j.Holder && !u.ended() {
			return u, false, nil
		}
	}
	err = a.do(ctx, who, OpKeyJob, j.Tenant, j.Holder, func(c *call) error {
		c.entry.Detail = fmt.Sprintf("%s, job %s: %s", j.Kind, j.ID, detail)
		begun, err = c.commit(ctx, "begun", func(ctx context.Context, e audit.Sealed) (begun bool, err error) {
			standing, begun, err = a.o.Store.PutJob(ctx, j, e)
			return begun, err
		})
		if err == nil && !begun {
			c.entry.Result = "existed"
		}
		return err
	})
	a.nudge()
	return standing, begun, err
}

func (j *Job) ended() bool { return j.State == JobDone || j.State == JobFailed }

// nudge makes the worker look for jobs now.
func (a *KeyAdmin) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Jobs lists the jobs of a tenant, or of all if it is empty, newest first: all
// that are not finished and the last others.
func (a *KeyAdmin) Jobs(ctx context.Context, who iam.Principal, tenant string) ([]Job, error) {
	var out []Job
	err := a.do(ctx, who, OpKeyList, tenant, "", func(c *call) error {
		var err error
		out, err = a.o.Store.Jobs(ctx, tenant, 100)
		c.entry.Result = "told"
		return err
	})
	return out, err
}

// Job returns a job by its id.
func (a *KeyAdmin) Job(ctx context.Context, who iam.Principal, id string) (Job, error) {
	j, err := a.job(ctx, id)
	if err != nil {
		return Job{}, a.withoutJob(ctx, who, OpKeyList, err)
	}
	err = a.do(ctx, who, OpKeyList, j.Tenant, j.Holder, func(c *call) error {
		c.entry.Result, c.entry.Detail = "told", "job "+id
		return nil
	})
	return j, err
}

// job finds a job. Whoever asks is checked by what follows.
func (a *KeyAdmin) job(ctx context.Context, id string) (Job, error) {
	all, err := a.o.Store.Jobs(ctx, "", 1000)
	if err != nil {
		return Job{}, err
	}
	for _, j := range all {
		if j.ID.String() == id {
			return j, nil
		}
	}
	return Job{}, fmt.Errorf("job %s: %w", strings.ToValidUTF8(id[:min(len(id), 64)], ""), ErrNotFound)
}

// withoutJob is an operation on a job that was not found, of which nobody knows whose
// it is: the gate records that it was asked for, and by whom.
func (a *KeyAdmin) withoutJob(ctx context.Context, who iam.Principal, op *Operation, cause error) error {
	return a.do(ctx, who, op, "", "", func(*call) error { return cause })
}

// Pause stops a job until Continue; Cancel ends it where it is. Records that were
// moved stay where they are, and no version that still has records is retired.
func (a *KeyAdmin) Pause(ctx context.Context, who iam.Principal, id string) (Job, error) {
	return a.changeJob(ctx, who, id, "paused", func(j *Job) error {
		if j.State == JobPaused {
			return &Refusal{Result: "paused", Reason: "job " + id + " is paused already"}
		}
		j.State = JobPaused
		return nil
	})
}

// Continue ends a pause.
func (a *KeyAdmin) Continue(ctx context.Context, who iam.Principal, id string) (Job, error) {
	return a.changeJob(ctx, who, id, "continued", func(j *Job) error {
		if j.State != JobPaused {
			return &Refusal{Result: "not_paused", Reason: fmt.Sprintf("job %s is %s, not paused", id, j.State)}
		}
		j.State, j.Error = JobRunning, ""
		return nil
	})
}

// Cancel ends a job. Shredding cannot be cancelled once it has begun.
func (a *KeyAdmin) Cancel(ctx context.Context, who iam.Principal, id string) (Job, error) {
	return a.changeJob(ctx, who, id, "cancelled", func(j *Job) error {
		if j.Kind == JobShred {
			return &Refusal{Result: "cannot_cancel", Reason: "job " + id + " has destroyed keys: what is left of it cannot be kept"}
		}
		j.State, j.DoneAt = JobFailed, a.gate.now()
		j.Error = fmt.Sprintf("cancelled by %s; what was moved stays moved", who.Name)
		return nil
	})
}

func (a *KeyAdmin) changeJob(ctx context.Context, who iam.Principal, id, result string, change func(*Job) error) (Job, error) {
	j, err := a.job(ctx, id)
	if err != nil {
		return Job{}, a.withoutJob(ctx, who, OpKeyJob, err)
	}
	err = a.do(ctx, who, OpKeyJob, j.Tenant, j.Holder, func(c *call) error {
		c.entry.Detail = fmt.Sprintf("%s, job %s", j.Kind, j.ID)
		if j.ended() {
			return &Refusal{Result: "job_ended", Reason: fmt.Sprintf("job %s is %s already", id, j.State)}
		}
		return a.seize(ctx, c, &j, result, change)
	})
	a.mu.Lock()
	delete(a.later, j.ID)
	a.mu.Unlock()
	a.nudge()
	return j, err
}

// Retire retires a replaced version that has no records left. Errors: *Refusal.
func (a *KeyAdmin) Retire(ctx context.Context, who iam.Principal, tenant, id string, version uint32) error {
	return a.do(ctx, who, OpKeyRetire, tenant, "", func(c *call) error {
		c.entry.Resource.Key, c.entry.Resource.KeyVersion = id, int(version)
		inv, err := a.o.Store.Inventory(ctx, tenant)
		if err != nil {
			return err
		}
		for _, w := range inv {
			if w.ID.String() == id && w.Version == version {
				c.entry.Resource.Merchant = w.Holder
				return a.retire(ctx, c, w)
			}
		}
		return &Refusal{Result: "not_found", Reason: fmt.Sprintf("tenant %s has no version %d of key %s", tenant, version, id)}
	})
}

// retire retires w under the call's entry.
func (a *KeyAdmin) retire(ctx context.Context, c *call, w WrappedKey) error {
	name := fmt.Sprintf("version %d of key %s", w.Version, w.ID)
	switch left := a.retirableAt(w).Time().Sub(a.gate.Now()); {
	case w.State == KeyActive:
		return &Refusal{Result: "active", Reason: name + " is active: replace it first by 'cardea keys rotate'"}
	case w.State != KeyDecryptOnly:
		return &Refusal{Result: string(w.State), Reason: fmt.Sprintf("%s is %s already", name, w.State)}
	case left > 0:
		return &Refusal{Result: "too_early", Reason: fmt.Sprintf("%s was replaced just now, and other nodes may not know: try again in %s", name, left.Round(time.Second))}
	}
	n, err := a.count(ctx, w)
	if err != nil {
		return err
	}
	if n == 0 {
		retired, err := c.commit(ctx, "retired", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return a.o.Store.ChangeKey(ctx, w.version(), KeyDecryptOnly, KeyRetired, a.gate.now(), e)
		})
		if err == nil && !retired {
			return &Refusal{Result: "changed", Reason: name + " has changed meanwhile: look at it again"}
		}
		if !isConflict(err) {
			return err
		}
	}
	if w.Purpose == PurposeFingerprint {
		return &Refusal{Result: "rows_remain", Reason: fmt.Sprintf("%s still finds %d fingerprints, which cannot be computed again without their cards", name, n)}
	}
	return &Refusal{Result: "rows_remain", Reason: fmt.Sprintf("%s still has %d records under it: move them by 'cardea keys rotate'", name, n)}
}

// retirableAt is when a replaced version may be retired.
func (a *KeyAdmin) retirableAt(w WrappedKey) Micros {
	return w.ChangedAt + Micros(RetireDelay/time.Microsecond)
}
