package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cardea/internal/kms"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

// TestUpdateCutAtEachStepIsWholeOrNothing cuts the connection at each step of a
// change of the key service. Key, alias, grant, change and entry are there together
// or none is, as the caller is told.
func TestUpdateCutAtEachStepIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	c := new(cutter)
	s := storetest.Open(t, url, func(o *store.Options) { o.SetDial(c.dial) })
	ks := store.NewKeyService(s)
	size := func() int64 {
		head, err := s.Head(t.Context(), "cardea/"+storetest.Node)
		if err != nil {
			t.Fatal(err)
		}
		return head.Size
	}
	create := func() (ref kms.KeyRef, alias string, grant string, runs int, err error) {
		k, e := storetest.Key(), storetest.Entry(t, "create")
		g := storetest.Grant(k.KeyRef)
		a := &kms.Alias{Account: k.Account, Region: k.Region, Name: "alias/" + k.ID, KeyID: k.ID}
		err = ks.Update(t.Context(), func(tx kms.Tx) error {
			runs++
			tx.Append(e)
			return errors.Join(tx.PutKey(t.Context(), k), tx.PutAlias(t.Context(), a, false), tx.PutGrant(t.Context(), g))
		})
		return k.KeyRef, a.Name, g.ID, runs, err
	}
	if _, _, _, _, err := create(); err != nil { // statements are prepared now
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for _, away := range []bool{false, true} {
		for sends, cut := 0, true; cut; sends++ {
			name := fmt.Sprintf("%d writes reach the server, away %v", sends, away)
			_, seen, err := ks.Changes(t.Context(), -1)
			if err != nil {
				t.Fatal(err)
			}
			before := size()
			c.arm(sends, away)
			ref, alias, grant, runs, err := create()
			cut = c.disarm()
			for deadline := time.Now().Add(time.Minute); s.Append(t.Context(), storetest.Entry(t, "back")) != nil; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: not usable again", name)
				}
			}
			_, err1 := ks.Key(t.Context(), ref)
			_, err2 := ks.Alias(t.Context(), ref.Account, ref.Region, alias)
			_, err3 := ks.Grant(t.Context(), ref, grant)
			changes, _, err4 := ks.Changes(t.Context(), seen)
			there := err1 == nil
			for i, e := range []error{err1, err2, err3} {
				if there != (e == nil) || e != nil && !errors.Is(e, kms.ErrNoRow) {
					t.Errorf("%s: read %d: %v", name, i, e)
				}
			}
			if err4 != nil || len(changes) != map[bool]int{true: 2}[there] {
				t.Errorf("%s: key is there %v, changes %v, %v", name, there, changes, err4)
			}
			if entries := size() - before - 1; entries != map[bool]int64{true: 1}[there] {
				t.Errorf("%s: key is there %v, %d entries", name, there, entries)
			}
			switch {
			case err == nil && there:
				outcomes["done"]++
			case err != nil && !there && errors.Is(err, kms.ErrUnavailable) && strings.Contains(err.Error(), "nothing was written"):
				outcomes["nothing"]++
			case errors.Is(err, kms.ErrUnavailable) && strings.Contains(err.Error(), "outcome of the commit is unknown"):
				outcomes["unknown"]++
			default:
				t.Errorf("%s: key is there %v, error %v", name, there, err)
			}
			if !away && (err != nil || !there) {
				t.Errorf("%s: %v; it can be tried again", name, err)
			}
			if runs > 1 {
				outcomes["again"]++
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

// TestUpdateOnAFullDiskLeavesNothing is of SQLite; see TestSQLiteDiskFull.
func TestUpdateOnAFullDiskLeavesNothing(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	ks := store.NewKeyService(s)
	limit := limitFiles(t)
	limit(1 << 20)
	var stored []kms.KeyRef
	var refused kms.KeyRef
	var err error
	for err == nil && len(stored) < 1000 {
		k, e := storetest.Key(), storetest.Entry(t, "create")
		k.Policy = strings.Repeat("p", 8<<10)
		err = ks.Update(t.Context(), func(tx kms.Tx) error {
			tx.Append(e)
			return errors.Join(tx.PutKey(t.Context(), k), tx.PutGrant(t.Context(), storetest.Grant(k.KeyRef)))
		})
		if refused = k.KeyRef; err == nil {
			stored = append(stored, k.KeyRef)
		}
	}
	if !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "nothing was written") {
		t.Fatalf("first call on a full disk, after %d: %v", len(stored), err)
	}
	if _, err := ks.Key(t.Context(), refused); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("key of the call that failed: %v", err)
	}
	limit(0)
	for deadline := time.Now().Add(time.Minute); s.Append(t.Context(), storetest.Entry(t, "back")) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not usable again")
		}
	}
	seen, changes := int64(0), 0
	for {
		cs, last, err := ks.Changes(t.Context(), seen)
		if err != nil {
			t.Fatal(err)
		}
		if changes += len(cs); len(cs) == 0 {
			break
		}
		seen = last
	}
	if changes != len(stored) {
		t.Errorf("%d changes for %d keys", changes, len(stored))
	}
	if rep := storetest.Verify(t, s); rep.Logs[0].Entries != int64(len(stored)+1) {
		t.Errorf("%d entries for %d keys and one more", rep.Logs[0].Entries, len(stored))
	}
}

// TestLastUsesAreWrittenWhileAKeyIsBeingDeleted by another node: those of other keys
// stay, and that of the key goes with it.
func TestLastUsesAreWrittenWhileAKeyIsBeingDeleted(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	deleter, user := store.NewKeyService(storetest.Open(t, url)), store.NewKeyService(storetest.Open(t, url, storetest.OnNode("other")))
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 3 { // from the second time on all statements are prepared
		gone, stays := storetest.Key(), storetest.Key()
		storetest.PutKey(t, user, gone, stays)
		wrote := make(chan error, 1)
		err := deleter.Update(t.Context(), func(tx kms.Tx) error {
			if err := tx.DeleteKey(t.Context(), gone.KeyRef); err != nil {
				return err
			}
			go func() {
				wrote <- user.PutUsage(t.Context(), []kms.Usage{{Key: gone.KeyRef, At: time.Unix(1, 0)}, {Key: stays.KeyRef, At: time.Unix(1, 0)}})
			}()
			for waiting := 0; waiting == 0 && len(wrote) == 0; { // for the lock that this transaction has
				err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%kms_usage%'`).Scan(&waiting)
				if err != nil {
					return err
				}
			}
			tx.Append(storetest.Entry(t, "delete"))
			return nil
		})
		if err := errors.Join(err, <-wrote); err != nil {
			t.Fatal(err)
		}
		if _, err := user.Usage(t.Context(), gone.KeyRef); !errors.Is(err, kms.ErrNoRow) {
			t.Errorf("the deleted key's: %v", err)
		}
		if _, err := user.Usage(t.Context(), stays.KeyRef); err != nil {
			t.Errorf("the other key's: %v", err)
		}
	}
}
