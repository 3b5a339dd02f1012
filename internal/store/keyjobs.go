package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

const (
	jobColumns = `id, kind, tenant, holder, state, reason, asked_by, rate, verify, retire, step, key_id, key_version, after_row,
	total, moved, verified, skipped, bad, error, node, until, created_at, updated_at, wait_until, done_at`
	// unfinished is as the unique index has it.
	unfinished = "state NOT IN ('done', 'failed')"
)

func jobArgs(j *vault.Job) []any {
	return []any{
		j.ID[:], string(j.Kind), j.Tenant, j.Holder, string(j.State), j.Reason, j.By, int64(j.Rate), asInt(j.Verify), asInt(j.Retire),
		j.Step, j.Key.ID[:], int64(j.Key.Version), j.After, j.Total, j.Moved, j.Verified, j.Skipped, j.Bad, j.Error,
		j.Node, int64(j.Until), int64(j.CreatedAt), int64(j.UpdatedAt), int64(j.WaitUntil), int64(j.DoneAt),
	}
}

func asInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func scanJob(scan scanFunc, j *vault.Job) error {
	var id, key []byte
	var kind, state string
	var rate, verify, retire, version, until, created, updated, wait, done int64
	if err := scan(&id, &kind, &j.Tenant, &j.Holder, &state, &j.Reason, &j.By, &rate, &verify, &retire,
		&j.Step, &key, &version, &j.After, &j.Total, &j.Moved, &j.Verified, &j.Skipped, &j.Bad, &j.Error,
		&j.Node, &until, &created, &updated, &wait, &done); err != nil {
		return err
	}
	j.Kind, j.State, j.Rate, j.Verify, j.Retire = vault.JobKind(kind), vault.JobState(state), int(rate), verify != 0, retire != 0
	j.Key.Version, j.Until, j.CreatedAt, j.UpdatedAt = uint32(version), vault.Micros(until), vault.Micros(created), vault.Micros(updated)
	j.WaitUntil, j.DoneAt = vault.Micros(wait), vault.Micros(done)
	if err := copyBytes(j.ID[:], id, "id"); err != nil {
		return err
	}
	return copyBytes(j.Key.ID[:], key, "key_id")
}

// selectJob returns nil if there is none.
func selectJob(ctx context.Context, c session, where string, args ...any) (j *vault.Job, err error) {
	err = c.query(ctx, func(scan scanFunc) error {
		j = new(vault.Job)
		return scanJob(scan, j)
	}, "SELECT "+jobColumns+" FROM key_job WHERE "+where, args...)
	return j, err
}

func checkJob(j *vault.Job) error {
	return checkText(string(j.Kind), j.Tenant, j.Holder, string(j.State), j.Reason, j.By, j.Step, j.Error, j.Node)
}

// PutJob implements vault.KeyWork, as do the methods below.
func (s *Store) PutJob(ctx context.Context, j vault.Job, e audit.Sealed) (standing vault.Job, created bool, err error) {
	if err := checkJob(&j); err != nil {
		return vault.Job{}, false, err
	}
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		standing, created = vault.Job{}, false
		for range maxTries {
			n, err := c.exec(ctx, "INSERT INTO key_job ("+jobColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
				$14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) ON CONFLICT DO NOTHING`, jobArgs(&j)...)
			if err != nil {
				return nil, err
			}
			if n == 1 {
				standing, created = j, true
				return []audit.Sealed{e}, s.pruneJobs(ctx, c)
			}
			got, err := selectJob(ctx, c, "tenant = $1 AND kind = $2 AND holder = $3 AND "+unfinished, j.Tenant, string(j.Kind), j.Holder)
			if err != nil {
				return nil, err
			}
			if got != nil {
				standing = *got
				return nil, callerError{errUnchanged}
			}
			// It has ended on another node since.
		}
		return nil, callerError{fmt.Errorf("the id of job %s is taken: %w", j.ID, vault.ErrConflict)}
	})
	if err != nil {
		return vault.Job{}, false, err
	}
	return standing, created, nil
}

const (
	// jobsKept is how long a job is known after it has ended, and maxJobs how many
	// that have ended are, at most. The audit log keeps what they did.
	jobsKept = 400 * 24 * time.Hour
	maxJobs  = 1000
	// pruneJobsBatch is how many a new one removes at most.
	pruneJobsBatch = 100
)

// pruneJobs removes jobs that ended long ago, in the transaction of a new one.
func (s *Store) pruneJobs(ctx context.Context, c session) error {
	const ended = "NOT (" + unfinished + ")"
	_, err := c.exec(ctx, `DELETE FROM key_job WHERE id IN (SELECT id FROM key_job WHERE `+ended+` AND (done_at < $1 OR id IN
		(SELECT id FROM key_job WHERE `+ended+` ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $2)) ORDER BY created_at, id LIMIT $3)`,
		s.now().Add(-jobsKept).UnixMicro(), int64(maxJobs), int64(pruneJobsBatch))
	return err
}

// Jobs implements vault.KeyWork.
func (s *Store) Jobs(ctx context.Context, tenant string, limit int) (jobs []vault.Job, err error) {
	if checkText(tenant) != nil {
		return nil, nil
	}
	const newest = " AND ($1 = '' OR tenant = $1) ORDER BY created_at DESC, id DESC"
	err = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		jobs = nil
		add := func(scan scanFunc) error {
			jobs = append(jobs, vault.Job{})
			return scanJob(scan, &jobs[len(jobs)-1])
		}
		if err := c.query(ctx, add, "SELECT "+jobColumns+" FROM key_job WHERE "+unfinished+newest, tenant); err != nil {
			return err
		}
		if left := limit - len(jobs); left > 0 {
			return c.query(ctx, add, "SELECT "+jobColumns+" FROM key_job WHERE NOT ("+unfinished+")"+newest+" LIMIT $2", tenant, int64(left))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(jobs, func(a, b vault.Job) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), slices.Compare(b.ID[:], a.ID[:]))
	})
	return jobs, nil
}

// ClaimJob reports false of a job that has ended, too, and returns ErrNotFound for
// one that is not there. A job that was left with Until in the past is anybody's.
func (s *Store) ClaimJob(ctx context.Context, id vault.KeyID, node string, now, until vault.Micros) (j vault.Job, claimed bool, err error) {
	if err := checkText(node); err != nil {
		return vault.Job{}, false, err
	}
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		j, claimed = vault.Job{}, false
		n, err := c.exec(ctx, "UPDATE key_job SET node = $2, until = $3 WHERE id = $1 AND "+unfinished+" AND (node = $2 OR node = '' OR until <= $4)",
			id[:], node, int64(until), int64(now))
		if err != nil {
			return nil, err
		}
		got, err := selectJob(ctx, c, "id = $1", id[:])
		if err != nil {
			return nil, err
		}
		if got == nil {
			return nil, callerError{vault.ErrNotFound}
		}
		j, claimed = *got, n == 1
		return nil, nil
	})
	if err != nil {
		return vault.Job{}, false, err
	}
	return j, claimed, nil
}

// SaveJob writes all but what the job is and who asked for it. One that has ended
// stays as it is.
func (s *Store) SaveJob(ctx context.Context, j vault.Job, e *audit.Sealed) (saved bool, err error) {
	if err := checkJob(&j); err != nil {
		return false, err
	}
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		n, err := c.exec(ctx, `UPDATE key_job SET state = $3, rate = $4, verify = $5, retire = $6, step = $7, key_id = $8, key_version = $9,
			after_row = $10, total = $11, moved = $12, verified = $13, skipped = $14, bad = $15, error = $16, until = $17,
			updated_at = $18, wait_until = $19, done_at = $20, reason = $21 WHERE id = $1 AND node = $2 AND `+unfinished,
			j.ID[:], j.Node, string(j.State), int64(j.Rate), asInt(j.Verify), asInt(j.Retire), j.Step, j.Key.ID[:], int64(j.Key.Version),
			j.After, j.Total, j.Moved, j.Verified, j.Skipped, j.Bad, j.Error, int64(j.Until),
			int64(j.UpdatedAt), int64(j.WaitUntil), int64(j.DoneAt), j.Reason)
		saved = n == 1
		switch {
		case err != nil:
			return nil, err
		case !saved:
			return nil, callerError{errUnchanged}
		case e == nil:
			return nil, nil
		}
		return []audit.Sealed{*e}, nil
	})
	if err != nil {
		return false, err
	}
	return saved, nil
}
