package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/store"
	"cardea/internal/vault"
)

// job has something in every field.
func job(kind vault.JobKind, holder string, created vault.Micros) vault.Job {
	return vault.Job{
		ID: vault.NewKeyID(), Kind: kind, Tenant: "public", Holder: holder, State: vault.JobRunning, Reason: "operator", By: "ann", Rate: 100,
		Verify: true, Retire: true, Step: "records", Key: vault.KeyVersion{ID: vault.NewKeyID(), Version: 3}, After: 4, Total: 5, Moved: 6,
		Verified: 7, Skipped: 8, Bad: 9, Error: "none", Node: "", Until: 0, CreatedAt: created, UpdatedAt: 12, WaitUntil: 13, DoneAt: 1 << 52,
	}
}

func testPutJob(t *testing.T, url string) {
	s := Open(t, url)
	put := func(j vault.Job) (vault.Job, bool) {
		t.Helper()
		got, created, err := s.PutJob(t.Context(), j, Entry(t, "job"))
		if err != nil {
			t.Fatal(err)
		}
		return got, created
	}
	first := job(vault.JobReencrypt, "", 1)
	writes(t, s, "jobs", 3, func() {
		for _, j := range []vault.Job{first, job(vault.JobVerify, "", 2), job(vault.JobReencrypt, "merchant_1", 3)} {
			got, created := put(j)
			if same(t, "job", got, j); !created {
				t.Error("not created")
			}
		}
		again, created := put(job(vault.JobReencrypt, "", 4))
		if same(t, "standing job", again, first); created {
			t.Error("created twice")
		}
	})
	var successor vault.Job
	for i, state := range []vault.JobState{vault.JobPaused, vault.JobWaiting, vault.JobRunning, vault.JobDone, vault.JobFailed} {
		first.State = state
		if saved, err := s.SaveJob(t.Context(), first, nil); !saved || err != nil {
			t.Fatal(saved, err)
		}
		ended := state == vault.JobDone || state == vault.JobFailed
		var created bool
		successor, created = put(job(vault.JobReencrypt, "", vault.Micros(10+i)))
		if created != ended {
			t.Errorf("a %s job: another is created %v", state, created)
		}
		if ended {
			// It does not come back beside its successor.
			first.State = vault.JobRunning
			writes(t, s, "save of a job that has ended", 0, func() {
				e := Entry(t, "progress")
				if saved, err := s.SaveJob(t.Context(), first, &e); saved || err != nil {
					t.Errorf("a %s job is saved %v, %v", state, saved, err)
				}
			})
			first = successor
		}
	}
	successor.Holder = "merchant_9"
	if _, _, err := s.PutJob(t.Context(), successor, Entry(t, "job")); !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), "the id of job "+successor.ID.String()+" is taken") {
		t.Errorf("id used twice: %v", err)
	}
	Verify(t, s)
}

func testJobs(t *testing.T, url string) {
	s := Open(t, url)
	var want []vault.Job // newest first
	for i := range 12 {
		j := job(vault.JobVerify, fmt.Sprint("merchant_", i), vault.Micros(100+i/2))
		if i%4 != 0 {
			j.State = []vault.JobState{vault.JobDone, vault.JobFailed}[i%2]
		}
		if i >= 8 {
			j.Tenant = "other"
		}
		if _, created, err := s.PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
			t.Fatal(created, err)
		}
		want = append([]vault.Job{j}, want...)
	}
	for _, c := range []struct {
		tenant string
		limit  int
		want   []int // numbers
	}{
		{"", 100, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{"", 5, []int{11, 10, 8, 4, 0}},
		{"", 1, []int{8, 4, 0}},
		{"", 0, []int{8, 4, 0}},
		{"public", 100, []int{7, 6, 5, 4, 3, 2, 1, 0}},
		{"public", 3, []int{7, 4, 0}},
		{"other", 2, []int{11, 8}},
		{"nobody", 9, nil},
	} {
		var jobs []vault.Job
		for _, n := range c.want {
			jobs = append(jobs, want[11-n])
		}
		same(t, fmt.Sprintf("jobs of %q, limit %d", c.tenant, c.limit), must[[]vault.Job](t)(s.Jobs(t.Context(), c.tenant, c.limit)), jobs)
	}
}

func testClaimJob(t *testing.T, url string) {
	s, other := Open(t, url), Open(t, url, OnNode("test-2"))
	j := job(vault.JobReencrypt, "", 1)
	if _, created, err := s.PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
		t.Fatal(created, err)
	}
	claim := func(on *store.Store, node string, now, until vault.Micros, want bool, has string) {
		t.Helper()
		got, ok, err := on.ClaimJob(t.Context(), j.ID, node, now, until)
		if err != nil || ok != want || got.Node != has {
			t.Errorf("claim by %s at %d: %v, has %s, %v", node, now, ok, got.Node, err)
		}
	}
	save := func(on *store.Store, node string, until vault.Micros, want bool) {
		t.Helper()
		mine := j
		mine.Node, mine.Until, mine.Moved = node, until, mine.Moved+1
		e := Entry(t, "progress")
		if on == other {
			e = EntryOf(t, "test-2", "progress")
		}
		got, err := on.SaveJob(t.Context(), mine, &e)
		if err != nil || got != want {
			t.Errorf("save by %s: %v, %v", node, got, err)
		}
		if got {
			j.Moved++
		}
	}
	claim(s, "a", 10, 20, true, "a")
	claim(other, "b", 19, 30, false, "a")
	claim(s, "a", 15, 25, true, "a") // again
	save(s, "a", 25, true)
	writes(t, s, "save without an entry", 0, func() {
		mine := j
		mine.Node, mine.Until = "a", 25
		if saved, err := s.SaveJob(t.Context(), mine, nil); !saved || err != nil {
			t.Error(saved, err)
		}
	})
	save(other, "b", 40, false)
	claim(other, "b", 25, 40, true, "b") // it has run out
	writes(t, s, "save of a job that another node has", 0, func() { save(s, "a", 99, false) })
	save(other, "b", 40, true)
	save(other, "b", 0, true) // gives it free
	claim(s, "a", 1, 5, true, "a")
	save(s, "a", 9, true)
	got := must[[]vault.Job](t)(s.Jobs(t.Context(), "public", 10))
	j.Node, j.Until = "a", 9
	same(t, "job", got, []vault.Job{j})
	claim(other, "operator", 1<<62, 1<<62, true, "operator") // by force
	j.State, j.Node = vault.JobDone, "operator"
	if saved, err := s.SaveJob(t.Context(), j, nil); !saved || err != nil {
		t.Error(saved, err)
	}
	claim(s, "operator", 1<<62, 1<<62, false, "operator") // it has ended
	if _, _, err := s.ClaimJob(t.Context(), vault.NewKeyID(), "a", 1, 2); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("claim of no job: %v", err)
	}
	testClaimsAtOnce(t, s, other)
	Verify(t, s)
}

// testClaimsAtOnce: at any time one node at most has the job.
func testClaimsAtOnce(t *testing.T, stores ...*store.Store) {
	j := job(vault.JobVerify, "", 1)
	if _, created, err := stores[0].PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
		t.Fatal(created, err)
	}
	var clock, owners, claims atomic.Int64
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			s, node := stores[worker%len(stores)], fmt.Sprint("node-", worker)
			for range 10 {
				mine, ok, err := s.ClaimJob(t.Context(), j.ID, node, vault.Micros(clock.Add(1)), 1<<40)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					continue
				}
				claims.Add(1)
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d nodes have the job", n)
				}
				mine.Moved++
				owners.Add(-1) // before it is given free
				mine.Until = 0
				if saved, err := s.SaveJob(t.Context(), mine, nil); !saved || err != nil {
					t.Errorf("save of one's own: %v, %v", saved, err)
				}
			}
		})
	}
	wg.Wait()
	for _, got := range must[[]vault.Job](t)(stores[0].Jobs(t.Context(), "", 10)) {
		if got.ID == j.ID && got.Moved != j.Moved+claims.Load() {
			t.Errorf("%d saves, %d are there", claims.Load(), got.Moved-j.Moved)
		}
	}
}

// testPruneJobs: a new job removes those that ended long ago, or before many others.
func testPruneJobs(t *testing.T, url string) {
	now := time.Now()
	s := Open(t, url, func(o *store.Options) { o.Now = func() time.Time { return now } })
	at := func(age time.Duration) vault.Micros { return vault.MicrosOf(now.Add(-age)) }
	const day = 24 * time.Hour
	end := func(j vault.Job, state vault.JobState, done vault.Micros) {
		t.Helper()
		j, _, err := s.ClaimJob(t.Context(), j.ID, "a", 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if j.State, j.DoneAt = state, done; !must[bool](t)(s.SaveJob(t.Context(), j, nil)) {
			t.Fatal("not saved")
		}
	}
	put := func(j vault.Job) vault.Job {
		t.Helper()
		if _, created, err := s.PutJob(t.Context(), j, Entry(t, "job")); !created || err != nil {
			t.Fatal(created, err)
		}
		return j
	}
	kept := func(want ...vault.Job) {
		t.Helper()
		var got, ids []vault.KeyID
		for _, j := range must[[]vault.Job](t)(s.Jobs(t.Context(), "", 3000)) {
			got = append(got, j.ID)
		}
		for _, j := range want {
			ids = append(ids, j.ID)
		}
		same(t, "jobs", got, ids)
	}
	ended := func(name string, state vault.JobState, age time.Duration) vault.Job {
		j := put(job(vault.JobVerify, name, at(age)))
		end(j, state, at(age))
		return j
	}
	long := put(job(vault.JobVerify, "long", at(900*day)))
	recent := ended("recent", vault.JobFailed, 399*day)
	ended("old", vault.JobDone, 401*day)
	now = now.Add(time.Hour)
	first := put(job(vault.JobVerify, "first", at(0)))
	kept(first, recent, long)

	Exec(t, url, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1050)
		INSERT INTO key_job (id, kind, tenant, holder, state, reason, asked_by, rate, verify, retire, step, key_id, key_version, after_row, total, moved,
			verified, skipped, bad, error, node, until, created_at, updated_at, wait_until, done_at)
		SELECT `+map[bool]string{true: "CAST(printf('%016d', i) AS BLOB)", false: "convert_to(lpad(i::text, 16, '0'), 'UTF8')"}[strings.HasPrefix(url, "sqlite:")]+`,
			kind, tenant, holder, 'done', reason, asked_by, rate, verify, retire, step, key_id, key_version, after_row, total, moved,
			verified, skipped, bad, error, node, until, created_at + i, updated_at, wait_until, updated_at FROM n, key_job WHERE holder = 'recent'`)
	Exec(t, url, "UPDATE key_job SET done_at = $1 WHERE state = 'done'", int64(at(0)))
	last := put(job(vault.JobVerify, "last", at(0)))
	jobs := must[[]vault.Job](t)(s.Jobs(t.Context(), "", 3000))
	if len(jobs) != 1003 || jobs[0].ID != last.ID || jobs[1002].ID != long.ID {
		t.Errorf("%d jobs, want the newest 1000 that have ended and three others", len(jobs))
	}
}
