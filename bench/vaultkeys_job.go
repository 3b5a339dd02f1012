package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/vault"
)

// reencryptRows is how many rows are moved.
func (o options) reencryptRows() int {
	if o.quick {
		return 4000
	}
	return 100_000
}

// measureReencrypt measures how fast 'cardea keys rotate' moves rows, beside the bound
// of a bulk update, and what requests feel of it at the rate that is the default.
func measureReencrypt(ctx context.Context, o options, r *report, exe, dir, db string) error {
	name, database, n := "SQLite", "sqlite", o.reencryptRows()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var bound float64
	var err error
	if db == "postgres" {
		name = "PostgreSQL"
		var raw string
		if raw, err = postgres(ctx, "bench_bound"); err != nil {
			return err
		}
		if database, err = postgres(ctx, "bench_rotate"); err != nil {
			return err
		}
		if bound, err = boundUpdatePostgres(ctx, raw, n); err == nil {
			err = settle(ctx, database)
		}
	} else {
		bound, err = boundUpdateSQLite(ctx, dir, n)
	}
	if err != nil {
		return fmt.Errorf("bound: %w", err)
	}
	s, err := localVault(ctx, exe, filepath.Join(dir, "vault"), database)
	if err != nil {
		return err
	}
	cards, err := seed(s.server, o.conns, n)
	if err != nil {
		return err
	}
	j, err := s.rotate(ctx, exe, "--rate", "1000000")
	if err != nil {
		return err
	}
	took, err := s.records(ctx, j)
	if err != nil {
		return err
	}
	r.add(row{what: name + " re-encryption, rows", rate: float64(n) / took.Seconds(), bound: bound, note: fmt.Sprintf("%d rows, no limit but its pauses; bound: bulk update, 100 rows and an audit row a commit (target 50 %%)", n)})

	if j, err = s.rotate(ctx, exe); err != nil {
		return err
	}
	idle, busy, rows, err := s.takeTurns(ctx, o, j, cards)
	if err != nil {
		return err
	}
	r.add(row{
		what: name + " requests while re-encryption runs", bound: idle.rate(),
		note: fmt.Sprintf("bound: idle, p99 %s ms; p99 %.1f times (target 2); %.0f rows/s moved meanwhile", ms(idle.P99), float64(busy.P99)/float64(idle.P99), rows),
	}.with(busy))
	return s.stop()
}

// rotate begins 'cardea keys rotate'.
func (s *vaultServer) rotate(ctx context.Context, exe string, flags ...string) (id adminapi.JobID, err error) {
	args := append([]string{"keys", "rotate", "--config", s.config, "--tenant", tenant, "--no-wait", "--output", "json"}, flags...)
	cmd := exec.CommandContext(ctx, exe, args...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return id, fmt.Errorf("keys rotate: %w: %s", err, problem.String())
	}
	if err := json.Unmarshal(out, &struct {
		Job *string `json:"job"`
	}{&id.ID}); err != nil || id.ID == "" {
		return id, fmt.Errorf("keys rotate: unexpected answer %q", out)
	}
	return id, nil
}

const stepRecords = "records"

// job is how a job is.
func (s *vaultServer) job(ctx context.Context, operation string, id adminapi.JobID) (j adminapi.Job, err error) {
	err = s.admin.Call(ctx, "vault/"+operation, &id, &j)
	if err == nil && operation != "Cancel" && (j.State == vault.JobFailed || j.Error != "") {
		err = fmt.Errorf("job: %s", j.Error)
	}
	return j, err
}

// until asks for a job until it is as wanted.
func (s *vaultServer) until(ctx context.Context, id adminapi.JobID, wanted func(adminapi.Job) bool) error {
	for {
		j, err := s.job(ctx, "Job", id)
		if err != nil || wanted(j) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// records is how long a job takes to move all rows. What comes after that, hashes and
// retirement, is cancelled: it waits until every node knows of the new keys.
func (s *vaultServer) records(ctx context.Context, id adminapi.JobID) (time.Duration, error) {
	begun := func(j adminapi.Job) bool { return j.Step != "" && j.Step != "keys" }
	if err := s.until(ctx, id, begun); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := s.until(ctx, id, func(j adminapi.Job) bool { return begun(j) && j.Step != stepRecords }); err != nil {
		return 0, err
	}
	took := time.Since(start)
	j, err := s.job(ctx, "Cancel", id)
	if err == nil && j.Bad > 0 {
		err = fmt.Errorf("%d rows do not open", j.Bad)
	}
	return took, err
}

// takeTurns measures requests, one in four a store, in windows in which a job runs and
// in windows in which it is paused. rows is how many it moved a second
// of the former.
func (s *vaultServer) takeTurns(ctx context.Context, o options, id adminapi.JobID, cards []stored) (idle, busy result, rows float64, err error) {
	base := int(run64.Add(1)) * 1000
	requests := 0
	load := func(o options) (result, error) {
		requests += 1 << 20 // customers of its own for each window
		first := requests
		return s.load(o, func(buf []byte, w, i int) []byte {
			if i%4 == 0 {
				return post(buf, "/cards/add", storeBody(base+w, first+i))
			}
			return post(buf, "/cards/retrieve", cards[(w*7919+i*104729)%len(cards)].body())
		})
	}
	if err = s.until(ctx, id, func(j adminapi.Job) bool { return j.Moved > 0 || j.Step != "" && j.Step != "keys" }); err != nil {
		return idle, busy, 0, err
	}
	before, err := s.replaced(ctx)
	if err != nil {
		return idle, busy, 0, err
	}
	got, err := alternate(o, func(o options) (result, error) {
		r, err := load(o)
		if err != nil {
			return r, err
		}
		j, err := s.job(ctx, "Pause", id)
		if err == nil && j.Step != stepRecords {
			err = errors.New("all rows were moved before the end: take more rows or less time")
		}
		return r, err
	}, func(o options) (result, error) {
		time.Sleep(100 * time.Millisecond) // the batch that it was at is over
		r, err := load(o)
		if err == nil {
			_, err = s.job(ctx, "Continue", id)
		}
		if err == nil {
			err = s.until(ctx, id, func(j adminapi.Job) bool { return j.State == vault.JobRunning && j.Node != "" && j.Step == stepRecords })
		}
		return r, err
	})
	if err != nil {
		return idle, busy, 0, err
	}
	busy, idle = got[0], got[1]
	if _, err = s.job(ctx, "Cancel", id); err != nil {
		return idle, busy, 0, err
	}
	after, err := s.replaced(ctx)
	return idle, busy, float64(before-after) / busy.Elapsed.Seconds(), err
}

// replaced is how many records are under versions of keys that were replaced.
func (s *vaultServer) replaced(ctx context.Context) (n int64, err error) {
	var keys adminapi.List[vault.KeyInfo]
	err = s.admin.Call(ctx, "vault/Keys", &vault.KeyQuery{Tenant: tenant, Count: true}, &keys)
	for _, k := range keys.Items {
		if k.Purpose == vault.PurposeRecord && k.State != vault.KeyActive {
			n += k.Records
		}
	}
	return n, err
}
