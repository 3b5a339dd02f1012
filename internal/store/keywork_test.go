package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// migrateTo brings an empty database up to a version.
func migrateTo(t *testing.T, address string, version int64) {
	t.Helper()
	driver, source, dialect, folder := "pgx", address, goose.DialectPostgres, "migrations/postgres"
	if path, ok := strings.CutPrefix(address, "sqlite:"); ok {
		if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o700); err != nil {
			t.Fatal(err)
		}
		driver, source, dialect, folder = "sqlite", "file:"+path, goose.DialectSQLite3, "migrations/sqlite"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(dialect, db, os.DirFS(folder), goose.WithTableName("schema_version"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseWithDataIsBroughtUpToDate: the release with schema version 2 has left
// keys, records and fingerprints.
func TestDatabaseWithDataIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		address := db.URL(t)
		migrateTo(t, address, 2)
		exec := func(sql string, args ...any) { t.Helper(); storetest.Exec(t, address, sql, args...) }
		id := vault.NewKeyID()
		for version, state := range map[int]vault.KeyState{1: vault.KeyActive, 2: vault.KeyActive, 3: vault.KeyDestroyed} {
			exec(`INSERT INTO wrapped_key (key_id, version, tenant, holder, purpose, state, mode, wrapped, created_at)
				VALUES ($1, $2, 'public', 'merchant_1', 'record', $3, 1, $4, 5)`, id[:], version, string(state), []byte("wrapped"))
		}
		gone := vault.NewKeyID()
		exec(`INSERT INTO wrapped_key (key_id, version, tenant, holder, purpose, state, mode, wrapped, created_at)
			VALUES ($1, 1, 'public', 'merchant_9', 'record', 'destroyed', 1, $2, 5)`, gone[:], []byte{})
		exec("INSERT INTO holder (tenant, name, created_at) VALUES ('public', 'merchant_1', 1)")
		var records []vault.Record
		for i := range 3 {
			r := storetest.Record(1)
			var dedupe []byte
			if r.Key, r.KeyVersion = id, 2; i > 0 {
				dedupe = r.Dedupe[:]
			} else {
				r.Dedupe, r.HashedBy = nil, 0
			}
			exec(`INSERT INTO record (lookup, dedupe, holder_id, space, kind, customer, reference, mode, key_id, key_version, sealed, created_at, expires_at)
				VALUES ($1, $2, 1, 1, 1, $3, $4, 1, $5, 2, $6, 7, 0)`, r.Lookup[:], dedupe, r.Customer, r.Reference, id[:], r.Sealed)
			records = append(records, r)
		}
		exec("INSERT INTO fingerprint (hash, tenant, id) VALUES ($1, 'public', 'print')", bytes.Repeat([]byte{1}, 32))
		if db.Name == "postgres" { // a node that ended in the middle of the last migration
			exec("CREATE INDEX record_holder ON record (id)")
		}
		s := storetest.Open(t, address)
		keys, err := s.Inventory(t.Context(), "public")
		if err != nil || len(keys) != 4 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for i, want := range []vault.KeyState{vault.KeyDecryptOnly, vault.KeyActive, vault.KeyDestroyed} {
			k := keys[i]
			if k.Version != uint32(i+1) || k.State != want || k.ChangedAt != 0 || k.Sealed != 0 || k.CreatedAt != 5 || string(k.Wrapped) != "wrapped" {
				t.Errorf("key %+v, want it %s", k, want)
			}
		}
		for _, r := range records {
			got, err := s.Record(t.Context(), r.Lookup)
			if err != nil || got.Reference != r.Reference || got.HashedBy != r.HashedBy || (got.Dedupe == nil) != (r.Dedupe == nil) {
				t.Errorf("record %+v, %v, want it hashed by version %d", got, err, r.HashedBy)
			}
		}
		rows, err := s.RecordsUnder(t.Context(), vault.KeyVersion{ID: id, Version: 2}, 0, 10)
		if err != nil || len(rows) != 3 {
			t.Errorf("%d rows under the key, %v", len(rows), err)
		}
		for p, want := range map[vault.Purpose]int64{vault.PurposeDedupe: 2, vault.PurposeFingerprint: 1} {
			if n, err := s.CountHashed(t.Context(), "public", p, 1); n != want || err != nil {
				t.Errorf("%s: %d hashes, want %d; %v", p, n, want, err)
			}
		}
		if _, created, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "merchant_2"}, storetest.Entry(t, "new")); !created || err != nil {
			t.Error(created, err)
		}
		// A merchant that was shredded by the release before, and one that was not.
		for name, shredded := range map[string]bool{"merchant_9": true, "merchant_1": false} {
			h, err := s.Holder(t.Context(), "public", name)
			if err != nil || (h.ShreddedAt != 0) != shredded {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
			if _, err := s.PutRecord(t.Context(), storetest.Record(h.ID), storetest.Entry(t, name)); errors.Is(err, vault.ErrShredded) != shredded || err != nil && !shredded {
				t.Errorf("%s: %v", name, err)
			}
		}
		storetest.Verify(t, s)
	})
}

// TestRowsAreLookedAtInStretches: what takes many statements finds what one would.
func TestRowsAreLookedAtInStretches(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		s := storetest.Open(t, db.URL(t))
		s.SetWindow(7)
		one := storetest.Holder(t, s)
		two, _, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "merchant_2"}, storetest.Entry(t, "merchant_2"))
		if err != nil {
			t.Fatal(err)
		}
		tenant := vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "public", Purpose: vault.PurposeDirect, Version: 1, State: vault.KeyActive, Mode: vault.ModeKMS, Wrapped: []byte("w")}
		merchant := tenant
		merchant.ID, merchant.Holder, merchant.Purpose = vault.NewKeyID(), "merchant_1", vault.PurposeRecord
		for _, k := range []vault.WrappedKey{tenant, merchant} {
			if _, created, err := s.PutKey(t.Context(), k, storetest.Entry(t, "key")); !created || err != nil {
				t.Fatal(created, err)
			}
		}
		// Two long stretches of others' rows are in between.
		const rows = 120
		for i := range rows {
			r := storetest.Record(two.ID)
			r.Key = tenant.ID
			if i < 10 || i%50 == 0 || i > rows-4 {
				r.HolderID, r.Key, r.HashedBy = one.ID, merchant.ID, 2
			}
			if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
				t.Fatal(err)
			}
			if i%3 == 0 {
				hash := vault.MAC{byte(i), 1}
				if _, _, err := s.PutFingerprint(t.Context(), "public", hash, uint32(1+i%2), fmt.Sprint(i), storetest.Entry(t, "print")); err != nil {
					t.Fatal(err)
				}
			}
		}
		const mine = 10 + 2 + 3
		for _, c := range []struct {
			key  vault.WrappedKey
			want int
		}{{tenant, rows - mine}, {merchant, mine}} {
			v := vault.KeyVersion{ID: c.key.ID, Version: 1}
			if n, err := s.CountRecords(t.Context(), v); n != int64(c.want) || err != nil {
				t.Errorf("%d counted, want %d; %v", n, c.want, err)
			}
			for _, limit := range []int{1, 6, 7, 8, 1000} {
				n, after := 0, int64(0)
				for {
					page, err := s.RecordsUnder(t.Context(), v, after, limit)
					if err != nil || len(page) > limit {
						t.Fatal(len(page), err)
					}
					if len(page) == 0 {
						break
					}
					n, after = n+len(page), page[len(page)-1].Row
				}
				if n != c.want {
					t.Errorf("limit %d: %d listed, want %d", limit, n, c.want)
				}
			}
			if _, err := s.ChangeKey(t.Context(), v, vault.KeyActive, vault.KeyRetired, 1, storetest.Entry(t, "retire")); !errors.Is(err, vault.ErrConflict) {
				t.Errorf("retired with rows: %v", err)
			}
		}
		for _, among := range []struct {
			under map[vault.KeyVersion]bool
			want  int
		}{
			{map[vault.KeyVersion]bool{{ID: merchant.ID, Version: 1}: true, {ID: vault.NewKeyID(), Version: 1}: true}, mine},
			{map[vault.KeyVersion]bool{{ID: merchant.ID, Version: 1}: true, {ID: tenant.ID, Version: 1}: true}, rows},
		} {
			for _, limit := range []int{1, 6, 7, 8, 1000} {
				n, after := 0, int64(0)
				for {
					page, err := s.RecordsAmong(t.Context(), among.under, after, limit)
					if err != nil || len(page) > limit {
						t.Fatal(len(page), err)
					}
					if len(page) == 0 {
						break
					}
					n, after = n+len(page), page[len(page)-1].Row
				}
				if n != among.want {
					t.Errorf("limit %d: %d listed of several versions, want %d", limit, n, among.want)
				}
			}
		}
		for n, want := range map[int64]bool{rows/4 - 1: false, rows / 4: true} {
			if pays, err := s.PassPays(t.Context(), n); pays != (want && db.Name == "sqlite") || err != nil {
				t.Errorf("%d of %d rows: %v, %v", n, rows, pays, err)
			}
		}
		if rows, err := s.RecordsWithDedupe(t.Context(), "public", 3, 0, 1000); len(rows) != 120 || err != nil {
			t.Errorf("%d rows with a hash, %v", len(rows), err)
		}
		for version, want := range map[uint32]int64{1: rows - mine, 2: mine} {
			if n, err := s.CountHashed(t.Context(), "public", vault.PurposeDedupe, version); n != want || err != nil {
				t.Errorf("version %d: %d records, want %d; %v", version, n, want, err)
			}
			if n, err := s.CountHashed(t.Context(), "public", vault.PurposeFingerprint, version); n != 20 || err != nil {
				t.Errorf("version %d: %d fingerprints, want 20; %v", version, n, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.CountRecords(ctx, vault.KeyVersion{ID: tenant.ID, Version: 1}); err == nil && db.Name == "postgres" {
			t.Error("counted though the caller has left")
		}
	})
}

// TestRetirementSeesRowsOfTheLastMoment: a record comes under the version between
// the look at all rows and the change.
func TestRetirementSeesRowsOfTheLastMoment(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		for _, p := range []vault.Purpose{vault.PurposeRecord, vault.PurposeDirect, vault.PurposeDedupe} {
			s, gate := storetest.OpenGated(t, db.URL(t))
			h := storetest.Holder(t, s)
			k := vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "public", Purpose: p, Version: 1, State: vault.KeyActive, Mode: vault.ModeLocal, Wrapped: []byte("w")}
			if p == vault.PurposeRecord {
				k.Holder = h.Name
			}
			if _, created, err := s.PutKey(t.Context(), k, storetest.Entry(t, "key")); !created || err != nil {
				t.Fatal(created, err)
			}
			r := storetest.Record(h.ID)
			if r.Key = k.ID; p == vault.PurposeDedupe {
				r.Key = vault.NewKeyID()
			}
			open := gate.Close(t)
			put, changed := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference))
				put <- err
			}()
			gate.AwaitQueued(t, 1)
			seen := make(chan struct{})
			go func() {
				close(seen)
				_, err := s.ChangeKey(t.Context(), vault.KeyVersion{ID: k.ID, Version: 1}, vault.KeyActive, vault.KeyRetired, 1, storetest.Entry(t, "retire"))
				changed <- err
			}()
			<-seen
			if db.Name == "postgres" { // SQLite's point reads wait at the gate, too
				gate.AwaitQueued(t, 2) // it has looked, and found nothing
			}
			open()
			if err := <-put; err != nil {
				t.Fatal(err)
			}
			if err := <-changed; !errors.Is(err, vault.ErrConflict) || !strings.Contains(err.Error(), "cannot be retired, as rows are under it") {
				t.Errorf("%s: retired with a row: %v", p, err)
			}
			storetest.Verify(t, s)
		}
	})
}

// TestRightsInTheManualSufficeForWorkOnKeys: a role with the rights that
// docs/operations.md gives a node can do all of vault.KeyWork, and what is listed
// for it is needed.
func TestRightsInTheManualSufficeForWorkOnKeys(t *testing.T) {
	t.Parallel()
	if os.Getenv("CARDEA_TEST_POSTGRES") != "" {
		t.Skip("makes roles, which it does not do on somebody's server")
	}
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	admin := storetest.Postgres(t)
	if err := storetest.Open(t, admin).Close(); err != nil {
		t.Fatal(err)
	}
	role := "cardea_key_work_" + strconv.Itoa(os.Getpid())
	storetest.Exec(t, admin, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		storetest.Exec(t, admin, "DROP OWNED BY "+role)
		storetest.Exec(t, admin, "DROP ROLE "+role)
	})
	grants := regexp.MustCompile(`GRANT [A-Z]+ ON [^;]+ TO cardea_node;`).FindAllString(string(text), -1)
	if len(grants) != 4 {
		t.Fatalf("%d grants", len(grants))
	}
	for _, g := range grants {
		storetest.Exec(t, admin, strings.ReplaceAll(g, "cardea_node", role))
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	now := time.Now()
	s := storetest.Open(t, u.String(), func(o *store.Options) { o.Now = func() time.Time { return now } })
	n := 0
	use := func() error {
		now = now.Add(25 * time.Hour)
		n++
		return workOnKeys(t, s, n)
	}
	for range 3 { // the last removes events of the first
		if err := use(); err != nil {
			t.Fatalf("with the rights listed: %v", err)
		}
	}
	for _, right := range []string{
		"INSERT ON key_job", "INSERT ON key_event", "INSERT ON suspended_tenant", "UPDATE ON holder", "UPDATE ON key_job", "UPDATE ON change_counter",
		"UPDATE ON wrapped_key", "DELETE ON key_job", "DELETE ON key_event", "DELETE ON suspended_tenant",
	} {
		storetest.Exec(t, admin, "REVOKE "+right+" FROM "+role)
		_, table, _ := strings.Cut(right, " ON ")
		if err := use(); err == nil || !strings.Contains(err.Error(), "permission denied for table "+table) {
			t.Errorf("without %s: %v", right, err)
		}
		storetest.Exec(t, admin, "GRANT "+right+" TO "+role)
		for deadline := time.Now().Add(time.Minute); use() != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("with %s again: %v", right, use())
			}
		}
	}
}

// workOnKeys calls everything of vault.KeyWork that writes.
func workOnKeys(t *testing.T, s *store.Store, n int) error {
	ctx, e := t.Context(), storetest.Entry(t, "rights")
	name := fmt.Sprint("merchant_", n)
	h, _, err := s.PutHolder(ctx, vault.Holder{Tenant: "public", Name: name, Secret: []byte("secret")}, e)
	if err != nil {
		return err
	}
	k := vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "public", Holder: name, Purpose: vault.PurposeRecord, Version: 1, State: vault.KeyActive, Mode: vault.ModeLocal, Wrapped: []byte("w")}
	_, _, put := s.PutKey(ctx, k, e)
	v := vault.KeyVersion{ID: k.ID, Version: 1}
	k.Version = 2
	_, _, rotate := s.RotateKey(ctx, k, e)
	_, rewrap := s.RewrapKey(ctx, k, k.Wrapped, e)
	r := storetest.Record(h.ID)
	r.Key = k.ID
	_, store := s.PutRecord(ctx, r, e)
	rows, list := s.RecordsUnder(ctx, v, 0, 10)
	if err := errors.Join(put, rotate, rewrap, store, list, s.AddSealed(ctx, map[vault.KeyVersion]uint64{v: 1})); err != nil {
		return err
	}
	_, replace := s.ReplaceSealed(ctx, []vault.ResealedRecord{{
		Row: rows[0].Row, Was: rows[0].Sealed, Sealed: vault.Sealed{Mode: r.Mode, Key: k.ID, KeyVersion: 2, Blob: []byte("anew")}, Dedupe: &vault.MAC{1, byte(n)}, HashedBy: 2,
	}}, e)
	_, change := s.ChangeKey(ctx, v, vault.KeyDecryptOnly, vault.KeyDestroyed, 1, e)
	_, shred := s.ShredHolder(ctx, h.ID, 1, e)
	_, remove := s.DeleteRows(ctx, []int64{rows[0].Row}, e)
	_, free := s.FreeName(ctx, h.ID, e)
	j := vault.Job{ID: vault.NewKeyID(), Kind: vault.JobShred, Tenant: "public", Holder: name, State: vault.JobRunning}
	_, _, begin := s.PutJob(ctx, j, e)
	j, _, claim := s.ClaimJob(ctx, j.ID, "a", 1, 2)
	_, save := s.SaveJob(ctx, j, &e)
	_, suspend := s.Suspend(ctx, name, "", 1, e)
	_, resume := s.Resume(ctx, name, e)
	_, events := s.KeyEvents(ctx, 1, 10)
	return errors.Join(replace, change, shred, remove, free, begin, claim, save, suspend, resume, events)
}

// TestHashTakenByAnotherNodeIsLeftOut: a card comes in on another node, in a
// transaction that PostgreSQL does not show yet.
func TestHashTakenByAnotherNodeIsLeftOut(t *testing.T) {
	t.Parallel()
	s, _, address := openPaused(t)
	h := storetest.Holder(t, s)
	r, theirs := storetest.Record(h.ID), storetest.Record(h.ID)
	if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
		t.Fatal(err)
	}
	rows, err := s.RecordsOf(t.Context(), "public", "merchant_1", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `INSERT INTO record (lookup, dedupe, holder_id, space, kind, customer, reference, mode, key_id, key_version, sealed, created_at, expires_at)
		VALUES ($1, $2, 1, 1, 1, '', '', 1, $3, 1, $4, 7, 0)`, theirs.Lookup[:], theirs.Dedupe[:], r.Key[:], r.Sealed); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		done, err := s.ReplaceSealed(t.Context(), []vault.ResealedRecord{{
			Row: rows[0].Row, Was: r.Sealed, Sealed: vault.Sealed{Mode: r.Mode, Key: r.Key, KeyVersion: 2, Blob: []byte("anew")}, Dedupe: theirs.Dedupe, HashedBy: 2,
		}}, storetest.Entry(t, "replace"))
		if err == nil && !done[0] {
			err = errors.New("not replaced")
		}
		answer <- err
	}()
	awaitLock(t, address)
	if _, err := other.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	got, err := s.Record(t.Context(), r.Lookup)
	if err != nil || got.Dedupe != nil || got.HashedBy != 0 || string(got.Sealed) != "anew" {
		t.Errorf("record %+v, %v", got, err)
	}
	storetest.Verify(t, s)
}
