package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

func wantRefusal(t testing.TB, what string, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("%s:\ngot  %v\nwant %s", what, err, want)
	}
}

func TestRefusalsOfKeyOperations(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	ctx, who, a := t.Context(), operator(), n.admin
	begin := func(f func(context.Context, vault.JobRequest) (vault.Job, error), r vault.JobRequest) error {
		_, err := f(ctx, r)
		return err
	}
	rotate := func(ctx context.Context, r vault.JobRequest) (vault.Job, error) { return a.Rotate(ctx, who, r) }
	migrate := func(ctx context.Context, r vault.JobRequest) (vault.Job, error) { return a.Migrate(ctx, who, r) }
	verify := func(ctx context.Context, r vault.JobRequest) (vault.Job, error) { return a.Verify(ctx, who, r) }
	shred := func(ctx context.Context, r vault.JobRequest) (vault.Job, error) { return a.Shred(ctx, who, r) }
	keys, err := a.Keys(ctx, who, vault.KeyQuery{Tenant: "acme", Holder: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	key := keys[0].ID
	before := n.keyStates(t)
	for name, c := range map[string]struct {
		err          error
		want, result string
	}{
		"rate":              {begin(rotate, vault.JobRequest{Tenant: "acme", Rate: -1}), "rate: must be between 1 and 1000000 rows a second, or 0 for what is configured", "invalid"},
		"reason":            {begin(rotate, vault.JobRequest{Tenant: "acme", Reason: "spring"}), `reason: must be "operator" or "compromise"`, "invalid"},
		"unknown tenant":    {begin(rotate, vault.JobRequest{Tenant: "nobody"}), `tenant "nobody": unknown tenant`, "unknown_tenant"},
		"merchant unknown":  {begin(rotate, vault.JobRequest{Tenant: "acme", Holder: "m9"}), "tenant acme has no key of m9: it is not a merchant with cards; entities share the tenant's key", "not_found"},
		"entity":            {begin(rotate, vault.JobRequest{Tenant: "acme", Holder: "e1"}), "tenant acme has no key of e1: it is not a merchant with cards; entities share the tenant's key", "not_found"},
		"nothing to do":     {begin(migrate, vault.JobRequest{Tenant: "acme"}), "all keys of tenant acme are in mode local and under its configured KMS key already", "nothing_to_do"},
		"part of a tenant":  {begin(migrate, vault.JobRequest{Tenant: "acme", Holder: "m1"}), "holder: a tenant is migrated as a whole", "invalid"},
		"nobody's records":  {begin(verify, vault.JobRequest{Tenant: "acme", Holder: "m9"}), "tenant acme has no merchant or entity m9", "not_found"},
		"nobody's shred":    {begin(shred, vault.JobRequest{Tenant: "acme", Holder: "m9", Reason: "r"}), "tenant acme has no merchant or entity m9", "not_found"},
		"shred for nothing": {begin(shred, vault.JobRequest{Tenant: "acme", Holder: "m1"}), "reason: must not be empty: the audit log tells it", "invalid"},
		"shred of all":      {begin(shred, vault.JobRequest{Tenant: "acme", Reason: "r"}), "holder: must not be empty", "invalid"},
		"long reason":       {begin(shred, vault.JobRequest{Tenant: "acme", Holder: "m1", Reason: strings.Repeat("a", 201)}), "reason: must be UTF-8 of at most 200 characters", "invalid"},
		"active":            {a.Retire(ctx, who, "acme", key, 1), "version 1 of key " + key + " is active: replace it first by 'cardea keys rotate'", "active"},
		"no version":        {a.Retire(ctx, who, "acme", key, 2), "tenant acme has no version 2 of key " + key, "not_found"},
		"not suspended":     {a.Resume(ctx, who, "acme", "r"), "tenant acme is not suspended", "not_suspended"},
		"suspend, why":      {a.Suspend(ctx, who, "acme", ""), "reason: must not be empty: the audit log tells it", "invalid"},
	} {
		wantRefusal(t, name, c.err, c.want)
		if found := slices.ContainsFunc(since(t, n.store, 0), func(e audit.Entry) bool {
			return e.Outcome != audit.Allowed && e.Result == c.result && e.Detail == c.want
		}); !found {
			t.Errorf("%s: no entry with result %s", name, c.result)
		}
	}
	_, err = a.Keys(ctx, who, vault.KeyQuery{Tenant: "acme", Key: "x"})
	wantRefusal(t, "no key", err, "no such key in tenant acme: not found")
	_, err = a.Rotate(ctx, client("acme"), vault.JobRequest{Tenant: "other"})
	checkError(t, "another tenant's client", err, vault.ErrDenied)
	wantStates(t, n.keyStates(t), before...)

	n.setMode(vault.ModeKMS, "k")
	wantRefusal(t, "merchant in KMS", begin(rotate, vault.JobRequest{Tenant: "acme", Holder: "m1"}),
		"tenant acme is in mode aws_kms, in which merchants have no keys of their own: rotate the tenant")
}

func TestVersionIsNotRetiredWhileItIsInUse(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1", Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if j = n.finish(t, j.ID); j.State != vault.JobDone {
		t.Fatalf("%+v", j)
	}
	keys, err := n.admin.Keys(t.Context(), operator(), vault.KeyQuery{Tenant: "acme", Holder: "m1"})
	if err != nil || len(keys) != 2 {
		t.Fatalf("%+v, %v", keys, err)
	}
	name := "version 1 of key " + keys[0].ID
	retire := func() error { return n.admin.Retire(t.Context(), operator(), "acme", keys[0].ID, 1) }
	wantRefusal(t, "at once", retire(), name+" was replaced just now, and other nodes may not know: try again in 1m0s")
	n.clock.pass(time.Minute)
	if err := retire(); err != nil {
		t.Error(err)
	}
	wantRefusal(t, "twice", retire(), name+" is retired already")

	// The fingerprint's key that finds something stays.
	id := n.fingerprint(t, visa)
	if _, err := n.keys.Rotate(t.Context(), "acme", "", vault.PurposeFingerprint, "test"); err != nil {
		t.Fatal(err)
	}
	n.clock.pass(time.Minute)
	prints, err := n.admin.Keys(t.Context(), operator(), vault.KeyQuery{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(prints, func(k vault.KeyInfo) bool { return k.Purpose == vault.PurposeFingerprint })
	wantRefusal(t, "fingerprints", n.admin.Retire(t.Context(), operator(), "acme", prints[i].ID, 1),
		"version 1 of key "+prints[i].ID+" still finds 1 fingerprints, which cannot be computed again without their cards")
	if n.fingerprint(t, visa) != id {
		t.Error("the fingerprint has changed")
	}
}

func TestPauseContinueAndCancel(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	all := n.fill(t, 4)
	n.clock.pass(time.Second)
	ctx, who := t.Context(), operator()
	j, err := n.admin.Rotate(ctx, who, vault.JobRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.admin.Rotate(ctx, who, vault.JobRequest{Tenant: "acme"})
	wantRefusal(t, "two at once", err, fmt.Sprintf("job %s (operator, begun 2026-03-01T12:00:01Z) is under way for it already: wait for it ('cardea keys jobs'), or cancel it", j.ID))
	id := j.ID.String()
	_, err = n.admin.Continue(ctx, who, id)
	wantRefusal(t, "not paused", err, "job "+id+" is running, not paused")
	if j, err = n.admin.Pause(ctx, who, id); err != nil || j.State != vault.JobPaused {
		t.Fatalf("%+v, %v", j, err)
	}
	_, err = n.admin.Pause(ctx, who, id)
	wantRefusal(t, "paused twice", err, "job "+id+" is paused already")
	n.admin.TakeUp(ctx)
	wantStates(t, n.keyStates(t)[1:], "/record v1 active local 1", "m1/record v1 active local 2", "m2/record v1 active local 2")
	if j, err = n.admin.Continue(ctx, who, id); err != nil || j.State != vault.JobRunning {
		t.Fatalf("%+v, %v", j, err)
	}
	n.admin.TakeUp(ctx)
	if j, err = n.admin.Cancel(ctx, who, id); err != nil || j.State != vault.JobFailed || j.Error != "cancelled by root; what was moved stays moved" {
		t.Fatalf("%+v, %v", j, err)
	}
	_, err = n.admin.Cancel(ctx, who, id)
	wantRefusal(t, "cancelled twice", err, "job "+id+" is failed already")
	n.check(t, all)
	jobs, err := n.admin.Jobs(ctx, who, "acme")
	if err != nil || len(jobs) != 1 || jobs[0].ID != j.ID {
		t.Errorf("%+v, %v", jobs, err)
	}
}

// A node that lost its job to an operator or another node finds out and stops.
func TestNodeGivesUpAJobThatIsTakenFromIt(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	all := n.fill(t, 300)
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	n.keys.FailWith(func(op string) (err error) {
		if op == "Reseal" {
			once.Do(func() {
				n.clock.pass(2 * time.Second) // so that it writes its progress
				_, err = n.admin.Pause(t.Context(), operator(), j.ID.String())
			})
		}
		return err
	})
	n.admin.TakeUp(t.Context())
	if j, err = n.admin.Job(t.Context(), operator(), j.ID.String()); err != nil || j.State != vault.JobPaused {
		t.Errorf("%+v, %v", j, err)
	}
	n.check(t, all)
}

// What is refused does not stop the node that has the job.
func TestRefusalLeavesAJobToItsNode(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 300)
	n.clock.pass(time.Second)
	j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	var refused error
	n.keys.FailWith(func(op string) error {
		if op == "Reseal" {
			once.Do(func() {
				n.clock.pass(2 * time.Second) // so that it writes its progress
				_, refused = n.admin.Continue(t.Context(), operator(), j.ID.String())
			})
		}
		return nil
	})
	n.admin.TakeUp(t.Context())
	wantRefusal(t, "not paused", refused, "job "+j.ID.String()+" is running, not paused")
	if j, err = n.admin.Job(t.Context(), operator(), j.ID.String()); err != nil || j.State != vault.JobWaiting || j.Node != "a" {
		t.Errorf("%+v, %v", j, err)
	}
}

// meantimeStore does something before a job is saved.
type meantimeStore struct {
	*vaulttest.Store
	before func()
}

func (s *meantimeStore) SaveJob(ctx context.Context, j vault.Job, e *audit.Sealed) (bool, error) {
	s.before()
	return s.Store.SaveJob(ctx, j, e)
}

// Of two operators at once, also on one node, the later one is told so, and what the
// other was told is done stays done.
func TestOperatorsAtOnceDoNotUndoEachOther(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	n.setMode(vault.ModeKMSEnvelope, "k")
	j, err := n.admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	store := &meantimeStore{Store: n.store}
	admin := vault.NewKeyAdmin(vault.KeyAdminOptions{Gate: n.Gate, Service: n.Service, Store: store, Keys: n.keys, Custodians: n.guards})
	store.before = func() {
		store.before = func() {}
		if _, err := admin.Migrate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true}); err != nil {
			t.Error(err)
		}
	}
	_, err = admin.Pause(t.Context(), operator(), j.ID.String())
	wantRefusal(t, "overtaken", err, "job "+j.ID.String()+" has changed meanwhile: look at it again")
	if j, err = n.admin.Job(t.Context(), operator(), j.ID.String()); err != nil || j.State != vault.JobRunning || !j.Verify {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestJobSurvivesWhatFailsForAWhile(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"Inventory", "CountRecords", "PassPays", "RecordsAmong", "RecordsUnder", "ReplaceSealed", "SaveJob", "RotateKey", "ChangeKey", "Reseal", "Open", "Rotate"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			n := newKeyNode(t, "a", nil)
			all := n.fill(t, 120)
			n.clock.pass(time.Second)
			j, err := n.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			left := 3
			fail := func(called string) error {
				if called == op && left > 0 {
					left--
					return fmt.Errorf("%s: %w", op, vault.ErrKeyUnavailable)
				}
				return nil
			}
			n.store.FailWith(fail)
			n.keys.FailWith(fail)
			n.admin.TakeUp(t.Context())
			n.clock.pass(20 * time.Second) // its lease, should it not have been given back
			if j = n.finish(t, j.ID); j.State != vault.JobDone || j.Bad != 0 || j.Error != "" {
				t.Errorf("%+v", j)
			}
			n.store.FailWith(nil)
			n.keys.FailWith(nil)
			n.check(t, all)
			n.allIn(t, vault.ModeLocal, 121)
		})
	}
}

func TestSuspendedTenantIsRefusedOnAllNodes(t *testing.T) {
	t.Parallel()
	a := newKeyNode(t, "a", nil)
	b := newKeyNode(t, "b", a)
	all := a.fill(t, 2)
	ctx, who := t.Context(), operator()
	if err := a.admin.Suspend(ctx, who, "acme", "leak"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "twice", a.admin.Suspend(ctx, who, "acme", "leak"), "tenant acme is suspended already")
	read := func(n *keyNode) error {
		c, err := n.RetrieveCard(ctx, client("acme"), all[0].owner, all[0].reference)
		c.Destroy()
		return err
	}
	checkError(t, "a", read(a), vault.ErrSuspended)
	checkError(t, "a is not ready", a.Ready("acme"), vault.ErrSuspended)
	if err := read(b); err != nil {
		t.Errorf("b has not heard of it yet: %v", err)
	}
	b.admin.Follow(ctx)
	checkError(t, "b", read(b), vault.ErrSuspended)
	for _, n := range []*keyNode{a, b} {
		if !slices.Equal(n.wiped, []string{"suspended acme"}) {
			t.Errorf("told %v", n.wiped)
		}
		from := n.store.Len()
		checkError(t, "unlock", n.Unlock(ctx, who, "acme"), vault.ErrSuspended)
		if e := only(t, since(t, n.store, from)); told(e) != "custodian.unlock denied suspended" {
			t.Errorf("entry is %+v", e)
		}
		_, err := n.admin.Rotate(ctx, who, vault.JobRequest{Tenant: "acme"})
		checkError(t, "rotation", err, vault.ErrSuspended)
		if err := n.Ready("other"); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		if _, err := n.admin.Keys(ctx, who, vault.KeyQuery{Tenant: "acme"}); err != nil {
			t.Errorf("its keys can be listed: %v", err)
		}
	}
	if !slices.Contains(a.keys.Forgot(), "acme") {
		t.Error("its keys are still in memory")
	}
	c := newKeyNode(t, "c", a) // after a restart
	checkError(t, "c", read(c), vault.ErrSuspended)

	if err := b.admin.Resume(ctx, who, "acme", "all well"); err != nil {
		t.Fatal(err)
	}
	a.admin.Follow(ctx)
	for _, n := range []*keyNode{a, b} {
		if err := read(n); err != nil {
			t.Error(err)
		}
		if !slices.Equal(n.wiped, []string{"suspended acme", "resumed acme"}) {
			t.Errorf("told %v", n.wiped)
		}
	}
}

func TestSilentStoreMakesANodeForget(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.store.FailWith(func(op string) error {
		if op == "KeyEvents" {
			return errors.New("no answer")
		}
		return nil
	})
	n.clock.pass(30 * time.Second)
	n.admin.Follow(t.Context())
	if f := n.keys.Forgot(); len(f) != 0 {
		t.Errorf("forgot %v within its time", f)
	}
	n.clock.pass(time.Second)
	n.admin.Follow(t.Context())
	if f := n.keys.Forgot(); !slices.Equal(f, []string{"acme", "other"}) {
		t.Errorf("forgot %v", f)
	}
}

func TestKeysAreReplacedByThemselvesWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy vault.KeyPolicy
		pass   time.Duration
		reason string
		want   []string
	}{
		"nothing is configured": {vault.KeyPolicy{}, 10 * 365 * 24 * time.Hour, "", nil},
		"not yet":               {vault.KeyPolicy{Cryptoperiod: time.Hour, MessageLimit: 4}, time.Hour - 1, "", nil},
		"old": {vault.KeyPolicy{Cryptoperiod: time.Hour}, time.Hour, "cryptoperiod", []string{
			"/record v1 retired local 0", "/record v2 active local 1", "m1/record v1 retired local 0", "m1/record v2 active local 3", "m2/record v1 retired local 0", "m2/record v2 active local 2",
		}},
		"much used": {vault.KeyPolicy{MessageLimit: 3}, 0, "message limit", []string{
			"/record v1 active local 1", "m1/record v1 retired local 0", "m1/record v2 active local 3", "m2/record v1 active local 2",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newKeyNode(t, "a", nil)
			c.policy.Rate = 1_000_000
			n.policy = c.policy
			all := n.fill(t, 5)
			n.admin.Flush(t.Context())
			n.clock.pass(c.pass)
			n.admin.Schedule(t.Context())
			n.admin.Schedule(t.Context())
			jobs, err := n.admin.Jobs(t.Context(), operator(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			if c.reason == "" {
				if len(jobs) != 0 {
					t.Errorf("began %+v", jobs)
				}
				return
			}
			if len(jobs) != 1 || jobs[0].Reason != c.reason || jobs[0].By != "key-schedule" {
				t.Fatalf("began %+v", jobs)
			}
			if j := n.finish(t, jobs[0].ID); j.State != vault.JobDone {
				t.Errorf("%+v", j)
			}
			wantStates(t, n.keyStates(t)[1:], c.want...)
			n.check(t, all)
		})
	}
}

func TestVerifyNamesWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	n := newKeyNode(t, "a", nil)
	n.fill(t, 4)
	verify := func(holder string) vault.Job {
		j, err := n.admin.Verify(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Holder: holder})
		if err != nil {
			t.Fatal(err)
		}
		return n.finish(t, j.ID)
	}
	if j := verify(""); j.State != vault.JobDone || j.Verified != 5 || j.Total != 5 {
		t.Errorf("%+v", j)
	}
	if j := verify("m1"); j.State != vault.JobDone || j.Verified != 2 {
		t.Errorf("%+v", j)
	}
	n.store.Damage()
	from := n.store.Len()
	if j := verify(""); j.State != vault.JobFailed || j.Bad != 5 || j.Error != "5 records do not open: the audit log names them ('cardea audit show --op key.verify --outcome failed')" {
		t.Errorf("%+v", j)
	}
	named := 0
	for _, e := range since(t, n.store, from) {
		if e.Op == "key.verify" && e.Outcome == audit.Failed && e.Result == "corrupt" {
			named++
		}
	}
	if named != 5 {
		t.Errorf("%d records are named", named)
	}
}

// Nodes on one store do each job once, whichever has it, and both serve meanwhile.
func TestTwoNodesShareTheWork(t *testing.T) {
	t.Parallel()
	a := newKeyNode(t, "a", nil)
	b := newKeyNode(t, "b", a)
	all := a.fill(t, 400)
	a.clock.pass(time.Second)
	j, err := a.admin.Rotate(t.Context(), operator(), vault.JobRequest{Tenant: "acme", Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	together(3, func(i int) {
		if i < 2 {
			[]*keyNode{a, b}[i].admin.TakeUp(t.Context())
			return
		}
		for _, s := range all[:50] {
			checkNumber(t, b.Service, s.owner, s.reference, s.number)
		}
	})
	if j = b.finish(t, j.ID); j.State != vault.JobDone || j.Moved != 401 || j.Bad != 0 {
		t.Errorf("%+v", j)
	}
	a.check(t, all)
}
