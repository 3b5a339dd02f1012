package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// keyFixture is what work on keys works on: a key, a record under it, a job.
type keyFixture struct {
	s   *store.Store
	key vault.WrappedKey
	row vault.HeldRecord
	job vault.Job
}

func newKeyFixture(t *testing.T, s *store.Store, n int) keyFixture {
	name := fmt.Sprint("merchant_", n)
	h, _, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: name, Secret: []byte("secret")}, storetest.Entry(t, name))
	if err != nil {
		t.Fatal(err)
	}
	f := keyFixture{s: s}
	f.key = vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: "public", Holder: name, Purpose: vault.PurposeRecord, Version: 1, State: vault.KeyActive,
		Mode: vault.ModeLocal, Wrapped: []byte("wrapped"), CreatedAt: 1,
	}
	if _, created, err := s.PutKey(t.Context(), f.key, storetest.Entry(t, "key")); !created || err != nil {
		t.Fatal(created, err)
	}
	r := storetest.Record(h.ID)
	r.Key = f.key.ID
	if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
		t.Fatal(err)
	}
	rows, err := s.RecordsOf(t.Context(), "public", name, 0, 2)
	if err != nil || len(rows) != 1 {
		t.Fatal(len(rows), err)
	}
	f.row = rows[0]
	f.job = vault.Job{ID: vault.NewKeyID(), Kind: vault.JobReencrypt, Tenant: "public", Holder: name, State: vault.JobRunning}
	if _, created, err := s.PutJob(t.Context(), f.job, storetest.Entry(t, "job")); !created || err != nil {
		t.Fatal(created, err)
	}
	if _, claimed, err := s.ClaimJob(t.Context(), f.job.ID, "a", 1, 1<<40); !claimed || err != nil {
		t.Fatal(claimed, err)
	}
	f.job.Node = "a"
	return f
}

// keyCall is a call of vault.KeyWork and what tells whether it has happened: facts
// that are all there, or none is.
type keyCall struct {
	name  string
	event bool // other nodes are told
	call  func(t *testing.T, f *keyFixture, e audit.Sealed) error
	facts func(t *testing.T, f *keyFixture) []bool
}

func applied(done bool, err error) error {
	if err == nil && !done {
		return errors.New("nothing was done")
	}
	return err
}

func keyCalls() []keyCall {
	key := func(t *testing.T, f *keyFixture, version uint32) vault.WrappedKey {
		k, err := f.s.Key(t.Context(), f.key.ID, version)
		if err != nil && !errors.Is(err, vault.ErrNotFound) {
			t.Error(err)
		}
		return k
	}
	record := func(t *testing.T, f *keyFixture) vault.Record {
		r, err := f.s.Record(t.Context(), f.row.Lookup)
		if err != nil && !errors.Is(err, vault.ErrNotFound) {
			t.Error(err)
		}
		return r
	}
	holder := func(t *testing.T, f *keyFixture) vault.Holder {
		h, err := f.s.Holder(t.Context(), "public", f.row.Holder.Name)
		if err != nil && !errors.Is(err, vault.ErrNotFound) {
			t.Error(err)
		}
		return h
	}
	second := vault.MAC{1, 2}
	return []keyCall{
		{"RotateKey", true, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			k := f.key
			k.Version = 2
			_, created, err := f.s.RotateKey(t.Context(), k, e)
			return applied(created, err)
		}, func(t *testing.T, f *keyFixture) []bool {
			return []bool{key(t, f, 1).State == vault.KeyDecryptOnly, key(t, f, 2).State == vault.KeyActive}
		}},
		{"RewrapKey", true, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			k := f.key
			k.Mode, k.Wrapped = vault.ModeKMSEnvelope, []byte("anew")
			return applied(f.s.RewrapKey(t.Context(), k, f.key.Wrapped, e))
		}, func(t *testing.T, f *keyFixture) []bool {
			k := key(t, f, 1)
			return []bool{k.Mode == vault.ModeKMSEnvelope, string(k.Wrapped) == "anew"}
		}},
		{"ChangeKey", true, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			return applied(f.s.ChangeKey(t.Context(), vault.KeyVersion{ID: f.key.ID, Version: 1}, vault.KeyActive, vault.KeyDestroyed, 9, e))
		}, func(t *testing.T, f *keyFixture) []bool {
			k := key(t, f, 1)
			return []bool{k.State == vault.KeyDestroyed, len(k.Wrapped) == 0, k.ChangedAt == 9}
		}},
		{"ReplaceSealed", false, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			hash := second
			copy(hash[2:], f.row.Dedupe[2:])
			done, err := f.s.ReplaceSealed(t.Context(), []vault.ResealedRecord{{
				Row: f.row.Row, Was: f.row.Sealed, Sealed: vault.Sealed{Mode: vault.ModeKMS, Key: f.key.ID, KeyVersion: 2, Blob: []byte("anew")}, Dedupe: &hash, HashedBy: 2,
			}}, e)
			return applied(len(done) == 1 && done[0], err)
		}, func(t *testing.T, f *keyFixture) []bool {
			r := record(t, f)
			return []bool{r.Mode == vault.ModeKMS, r.KeyVersion == 2, string(r.Sealed) == "anew", r.Dedupe != nil && r.Dedupe[0] == second[0] && r.Dedupe[1] == second[1], r.HashedBy == 2}
		}},
		{"DeleteRows", false, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			n, err := f.s.DeleteRows(t.Context(), []int64{f.row.Row}, e)
			return applied(n == 1, err)
		}, func(t *testing.T, f *keyFixture) []bool { return []bool{record(t, f).Sealed == nil} }},
		{"ShredHolder", true, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			return applied(f.s.ShredHolder(t.Context(), f.row.Holder.ID, 9, e))
		}, func(t *testing.T, f *keyFixture) []bool {
			h := holder(t, f)
			return []bool{h.Secret == nil, h.ShreddedAt == 9}
		}},
		{"PutJob", false, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			_, created, err := f.s.PutJob(t.Context(), vault.Job{ID: vault.NewKeyID(), Kind: vault.JobVerify, Tenant: f.row.Holder.Name, State: vault.JobRunning}, e)
			return applied(created, err)
		}, func(t *testing.T, f *keyFixture) []bool {
			jobs, err := f.s.Jobs(t.Context(), f.row.Holder.Name, 10)
			if err != nil {
				t.Error(err)
			}
			return []bool{len(jobs) == 1}
		}},
		{"SaveJob", false, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			j := f.job
			j.Moved, j.After, j.State = 7, 8, vault.JobPaused
			return applied(f.s.SaveJob(t.Context(), j, &e))
		}, func(t *testing.T, f *keyFixture) []bool {
			jobs, err := f.s.Jobs(t.Context(), "public", 0)
			if err != nil {
				t.Error(err)
			}
			for _, j := range jobs {
				if j.ID == f.job.ID {
					return []bool{j.Moved == 7, j.After == 8, j.State == vault.JobPaused}
				}
			}
			t.Error("job is gone")
			return nil
		}},
		{"Suspend", true, func(t *testing.T, f *keyFixture, e audit.Sealed) error {
			return applied(f.s.Suspend(t.Context(), f.row.Holder.Name, "test", 1, e))
		}, func(t *testing.T, f *keyFixture) []bool {
			marked, err := f.s.Suspended(t.Context())
			if err != nil {
				t.Error(err)
			}
			return []bool{marked[f.row.Holder.Name] == "test"}
		}},
	}
}

func sizeOf(t *testing.T, s *store.Store) int64 {
	t.Helper()
	head, err := s.Head(t.Context(), "cardea/"+storetest.Node)
	if err != nil {
		t.Fatal(err)
	}
	return head.Size
}

func newestEvent(t *testing.T, s *store.Store) int64 {
	t.Helper()
	events, err := s.KeyEvents(t.Context(), 0, 1)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	return events[0].Number
}

// wholeOrNothing looks at what a call has left: change, entry and event together, or
// nothing. It reports which.
func wholeOrNothing(t *testing.T, name string, c keyCall, f *keyFixture, size, event int64) (there bool) {
	t.Helper()
	facts := c.facts(t, f)
	for i, fact := range facts {
		if there = facts[0]; fact != there {
			t.Errorf("%s: half done, fact %d of %v", name, i, facts)
		}
	}
	if n := sizeOf(t, f.s) - size; n != map[bool]int64{true: 1}[there] {
		t.Errorf("%s: it has happened %v, %d entries", name, there, n)
	}
	events, err := f.s.KeyEvents(t.Context(), event, 10)
	if want := map[bool]int{true: 1}[there && c.event]; err != nil || len(events) != want {
		t.Errorf("%s: it has happened %v, events %+v, %v", name, there, events, err)
	}
	return there
}

// TestKeyWorkCutAtEachStepIsWholeOrNothing cuts the connection at each step of each
// call.
func TestKeyWorkCutAtEachStepIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	address := storetest.Postgres(t)
	c := new(cutter)
	s := storetest.Open(t, address, func(o *store.Options) { o.SetDial(c.dial) })
	n := 0
	outcomes := map[string]int{}
	for _, call := range keyCalls() {
		n++
		warm := newKeyFixture(t, s, n) // statements are prepared now
		if err := call.call(t, &warm, storetest.Entry(t, call.name)); err != nil {
			t.Fatalf("%s: %v", call.name, err)
		}
		for _, away := range []bool{false, true} {
			if away && call.name != "RotateKey" && call.name != "ReplaceSealed" {
				continue // it takes long, and what is then told is the same for all
			}
			for sends, cut := 0, true; cut; sends++ {
				n++
				f := newKeyFixture(t, s, n)
				name := fmt.Sprintf("%s, %d writes reach the server, away %v", call.name, sends, away)
				size, event := sizeOf(t, s), newestEvent(t, s)
				e := storetest.Entry(t, call.name)
				c.arm(sends, away)
				err := call.call(t, &f, e)
				cut = c.disarm()
				for deadline := time.Now().Add(time.Minute); s.Append(t.Context(), storetest.Entry(t, "back")) != nil; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s: not usable again", name)
					}
				}
				there := wholeOrNothing(t, name, call, &f, size+1, event)
				switch {
				case err == nil && there:
					outcomes["done"]++
				case err != nil && !there && errors.Is(err, vault.ErrUnavailable) && strings.Contains(err.Error(), "nothing was written"):
					outcomes["nothing"]++
				case errors.Is(err, vault.ErrUnavailable) && strings.Contains(err.Error(), "outcome of the commit is unknown"):
					outcomes["unknown"]++
				default:
					t.Errorf("%s: it has happened %v, error %v", name, there, err)
				}
				if !away && (err != nil || !there) {
					t.Errorf("%s: %v; it can be tried again", name, err)
				}
				if cut && err == nil {
					outcomes["again"]++
				}
				if sends > 30 {
					t.Fatalf("%s: no end", name)
				}
			}
		}
	}
	for _, o := range []string{"done", "nothing", "unknown", "again"} {
		if outcomes[o] == 0 {
			t.Errorf("outcomes %v: no %s", outcomes, o)
		}
	}
	storetest.Verify(t, s)
}

// TestKeyWorkOnAFullDiskLeavesNothing is of SQLite; see TestSQLiteDiskFull. What the
// callers are told is as it is, and each call works when there is room again.
func TestKeyWorkOnAFullDiskLeavesNothing(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	var fixtures []keyFixture
	for n := range keyCalls() {
		fixtures = append(fixtures, newKeyFixture(t, s, n))
	}
	limit := limitFiles(t)
	limit(4096) // the write-ahead log is longer than that
	for i, call := range keyCalls() {
		name := call.name + " on a full disk"
		size, event := sizeOf(t, s), newestEvent(t, s)
		if err := call.call(t, &fixtures[i], storetest.Entry(t, name)); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if wholeOrNothing(t, name, call, &fixtures[i], size, event) {
			t.Errorf("%s: it has happened", name)
		}
	}
	limit(0)
	for deadline := time.Now().Add(time.Minute); s.Append(t.Context(), storetest.Entry(t, "back")) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not usable again")
		}
	}
	for i, call := range keyCalls() {
		size, event := sizeOf(t, s), newestEvent(t, s)
		if err := call.call(t, &fixtures[i], storetest.Entry(t, call.name)); err != nil || !wholeOrNothing(t, call.name, call, &fixtures[i], size, event) {
			t.Errorf("%s when there is room again: %v", call.name, err)
		}
	}
	storetest.Verify(t, s)
}

// TestKeyWorkThatTheDatabaseRefusesLeavesNothing makes the last statement of each
// call, which adds the entry to the log, fail.
func TestKeyWorkThatTheDatabaseRefusesLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		address := db.URL(t)
		s := storetest.Open(t, address)
		var fixtures []keyFixture
		for n := range keyCalls() {
			fixtures = append(fixtures, newKeyFixture(t, s, n))
		}
		refuse := []string{"CREATE TRIGGER refuse BEFORE INSERT ON audit_segment BEGIN SELECT RAISE(ABORT, 'no entries today'); END"}
		allow := "DROP TRIGGER refuse"
		if db.Name == "postgres" {
			refuse = []string{
				"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation USING MESSAGE = 'no entries today'; END $$",
				"CREATE TRIGGER refuse BEFORE INSERT ON audit_segment FOR EACH ROW EXECUTE FUNCTION refuse()",
			}
			allow = "DROP TRIGGER refuse ON audit_segment"
		}
		for _, sql := range refuse {
			storetest.Exec(t, address, sql)
		}
		for i, call := range keyCalls() {
			size, event := sizeOf(t, s), newestEvent(t, s)
			err := call.call(t, &fixtures[i], storetest.Entry(t, call.name))
			if err == nil || !strings.Contains(err.Error(), "no entries today") {
				t.Errorf("%s: %v", call.name, err)
			}
			if wholeOrNothing(t, call.name, call, &fixtures[i], size, event) {
				t.Errorf("%s has happened without its entry", call.name)
			}
		}
		storetest.Exec(t, address, allow)
		for i, call := range keyCalls() {
			if err := call.call(t, &fixtures[i], storetest.Entry(t, call.name)); err != nil {
				t.Errorf("%s, afterwards: %v", call.name, err)
			}
		}
		storetest.Verify(t, s)
	})
}
