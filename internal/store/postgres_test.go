package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// pauser holds back the writes of a store's connections to the server.
type pauser struct {
	before atomic.Pointer[func()] // a write
	writes atomic.Int64
}

type pausedConn struct {
	net.Conn
	p *pauser
}

func (p *pauser) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	return &pausedConn{conn, p}, err
}

func (c *pausedConn) Write(b []byte) (int, error) {
	c.p.writes.Add(1)
	if f := c.p.before.Load(); f != nil {
		(*f)()
	}
	return c.Conn.Write(b)
}

func openPaused(t *testing.T, change ...func(*store.Options)) (*store.Store, *pauser, string) {
	url := storetest.Postgres(t)
	p := new(pauser)
	s := storetest.Open(t, url, append(change, func(o *store.Options) { o.SetDial(p.dial) })...)
	return s, p, url
}

// TestPutFindsThatWhatStoodInItsWayIsGone: another node deletes a record after an
// insert has met it and before the insert has read it.
func TestPutFindsThatWhatStoodInItsWayIsGone(t *testing.T) {
	t.Parallel()
	s, p, url := openPaused(t)
	h := storetest.Holder(t, s)
	other := storetest.Open(t, url, storetest.OnNode("other"))
	first, second := storetest.Record(h.ID), storetest.Record(h.ID)
	second.Dedupe = first.Dedupe
	for range 2 { // the second time all statements are prepared
		if existing, err := s.PutRecord(t.Context(), first, storetest.Entry(t, "first")); err != nil {
			t.Fatal(existing, err)
		}
	}
	writes := 0
	between := func() {
		if writes++; writes == 2 { // the first is the insert
			deleted, err := other.DeleteRecord(t.Context(), first.Lookup, 0, storetest.EntryOf(t, "other", "deleted"))
			if !deleted || err != nil {
				t.Errorf("deleted %v, error %v", deleted, err)
			}
		}
	}
	p.before.Store(&between)
	existing, err := s.PutRecord(t.Context(), second, storetest.Entry(t, "second"))
	p.before.Store(nil)
	if err != nil || existing != nil {
		t.Fatalf("existing %+v, error %v", existing, err)
	}
	if got, err := s.Record(t.Context(), second.Lookup); err != nil || got.Reference != second.Reference {
		t.Errorf("record %q, error %v", got.Reference, err)
	}
	storetest.Verify(t, s)
}

// TestReadsShareARoundTrip: reads that come while others are under way go
// together, and one that leaves does not take the others with it.
func TestReadsShareARoundTrip(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s, p, _ := openPaused(t, func(o *store.Options) { o.ReadConns, o.Metrics = 1, reg })
	h := storetest.Holder(t, s)
	var records []vault.Record
	for range 3 {
		r := storetest.Record(h.ID)
		if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	hash := vault.MAC{7}
	if _, _, err := s.PutFingerprint(t.Context(), "public", hash, 1, "print", storetest.Entry(t, "print")); err != nil {
		t.Fatal(err)
	}
	calls := []func(ctx context.Context) (string, error){
		func(ctx context.Context) (string, error) {
			r, err := s.Record(ctx, records[0].Lookup)
			return r.Reference, err
		},
		func(ctx context.Context) (string, error) {
			r, h, err := s.RecordAndHolder(ctx, records[1].Lookup)
			return r.Reference + h.Name, err
		},
		func(ctx context.Context) (string, error) { return s.Fingerprint(ctx, hash) },
		func(ctx context.Context) (string, error) {
			h, err := s.Holder(ctx, "public", "merchant_1")
			return h.Name, err
		},
		func(ctx context.Context) (string, error) {
			r, err := s.Record(ctx, vault.Lookup{1})
			return r.Reference, err
		},
		func(ctx context.Context) (string, error) {
			_, _, err := s.RecordAndHolder(ctx, vault.Lookup{1})
			return "", err
		},
		func(ctx context.Context) (string, error) { return s.Fingerprint(ctx, vault.MAC{8}) },
		func(ctx context.Context) (string, error) {
			_, err := s.Holder(ctx, "public", "nobody")
			return "", err
		},
	}
	wants := []string{records[0].Reference, records[1].Reference + "merchant_1", "print", "merchant_1"}
	// Prepared and connected from here on.
	for _, call := range calls {
		call(t.Context())
	}
	const each = 25
	release := make(chan struct{})
	hold := func() { <-release }
	p.before.Store(&hold)
	queries := p.writes.Load()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	begun := make(chan struct{}, each*len(calls)+1)
	left := make(chan error, 1)
	go func() { // one that leaves
		begun <- struct{}{}
		_, err := s.Record(ctx, records[2].Lookup)
		left <- err
	}()
	for range each {
		for i, call := range calls {
			wg.Go(func() {
				begun <- struct{}{}
				got, err := call(t.Context())
				if i < len(wants) && (err != nil || got != wants[i]) || i >= len(wants) && !errors.Is(err, vault.ErrNotFound) {
					t.Errorf("call %d: %q, error %v", i, got, err)
				}
			})
		}
	}
	for range cap(begun) {
		<-begun
	}
	cancel(gone)
	if err := <-left; !errors.Is(err, gone) || !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("read whose context has ended: %v", err)
	}
	p.before.Store(nil)
	close(release)
	wg.Wait()
	if n := p.writes.Load() - queries; n > each*int64(len(calls))/4 {
		t.Errorf("%d round trips for %d reads", n, each*len(calls))
	}
	storetest.Verify(t, s)
}

// TestSharedReadsAreNotShared: what two readers of one record get are two things.
func TestSharedReadsAreNotShared(t *testing.T) {
	t.Parallel()
	s, p, _ := openPaused(t, func(o *store.Options) { o.ReadConns = 1 })
	h, _, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "entity", Secret: []byte("secret")}, storetest.Entry(t, "entity"))
	if err != nil {
		t.Fatal(err)
	}
	r := storetest.Record(h.ID)
	if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	hold := func() { <-release }
	p.before.Store(&hold)
	const readers = 8
	var got [readers]vault.Record
	var holders [readers]vault.Holder
	var wg sync.WaitGroup
	begun := make(chan struct{}, readers)
	for i := range readers {
		wg.Go(func() {
			begun <- struct{}{}
			var err error
			if got[i], holders[i], err = s.RecordAndHolder(t.Context(), r.Lookup); err != nil {
				t.Error(err)
			}
		})
	}
	for range readers {
		<-begun
	}
	p.before.Store(nil)
	close(release)
	wg.Wait()
	for i := range readers {
		clear(got[i].Sealed)
		clear(got[i].Dedupe[:])
		clear(holders[i].Secret)
		for j := i + 1; j < readers; j++ {
			if string(got[j].Sealed) != string(r.Sealed) || *got[j].Dedupe != *r.Dedupe || string(holders[j].Secret) != "secret" {
				t.Fatalf("reader %d sees what reader %d did", j, i)
			}
		}
	}
}

// TestSettingsThatAnEngineLacksAreLeftOut: other engines speak the protocol and
// have other settings.
func TestSettingsThatAnEngineLacksAreLeftOut(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "SET synchronous_commit = off"); err != nil {
		t.Fatal(err)
	}
	err = store.ApplySettings(t.Context(), conn, [][2]string{{"lock_timeout", "7s"}, {"cardea_has_no_such_setting", "1"}, {"jit", "off"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"lock_timeout": "7s", "jit": "off", "synchronous_commit": "on"} {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q; %v", name, got, want, err)
		}
	}
	if _, err := conn.Exec(t.Context(), "SET synchronous_commit = remote_apply"); err != nil {
		t.Fatal(err)
	}
	if err := store.ApplySettings(t.Context(), conn, nil); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got); err != nil || got != "remote_apply" {
		t.Errorf("synchronous_commit is %q, %v: a stricter setting must stay", got, err)
	}
}

// TestStatementTimeoutIsThatOfTheOptions: a commit that another transaction blocks
// ends, and the store goes on.
func TestStatementTimeoutIsThatOfTheOptions(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	patient := storetest.Open(t, url, storetest.OnNode("other")) // for all that a busy machine may be slow with
	h, _, err := patient.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "merchant_1", CreatedAt: 1}, storetest.EntryOf(t, "other", "merchant_1"))
	if err != nil {
		t.Fatal(err)
	}
	s := storetest.Open(t, url, func(o *store.Options) { o.StatementTimeout = 3 * time.Second }) // less than settings has for a lock
	blocker, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close(context.Background())
	if _, err := blocker.Exec(t.Context(), "BEGIN; LOCK TABLE record"); err != nil {
		t.Fatal(err)
	}
	r := storetest.Record(h.ID)
	if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("put on a table that is locked: %v", err)
	}
	if _, err := s.Record(t.Context(), r.Lookup); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("read of a table that is locked: %v", err)
	}
	if _, err := blocker.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	storetest.Verify(t, patient)
}

func TestMetricsTellOfTheStore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		url := db.URL(t)
		reg := prometheus.NewRegistry()
		with := func(o *store.Options) { o.Metrics = reg }
		s := storetest.Open(t, url, with)
		storetest.Holder(t, s)
		if _, err := s.Holder(t.Context(), "public", "merchant_1"); err != nil {
			t.Fatal(err)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range families {
			m := f.Metric[0]
			got[f.GetName()] = fmt.Sprint(m.GetGauge().GetValue(), m.GetHistogram().GetSampleCount())
		}
		for name, want := range map[string]string{
			"cardea_store_batch_size": "0 1", "cardea_store_commit_seconds": "0 1", "cardea_store_queue_depth": "0 0",
			"cardea_store_log_entries": "1 0", "cardea_store_checkpoint_failures_total": "0 0",
		} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		for _, name := range []string{"cardea_store_read_seconds", "cardea_store_read_connections", "cardea_store_read_connections_idle"} {
			if _, ok := got[name]; !ok {
				t.Errorf("no metric %s", name)
			}
		}
		if _, err := storetest.TryOpen(t, url, storetest.OnNode("other"), with); err == nil {
			t.Error("two stores on one registry")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		storetest.Open(t, url, with)
	})
}
