package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cardea/internal/store"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
)

// load stores records from several callers until it is stopped. It keeps what was
// acknowledged.
type load struct {
	s      *store.Store
	stored atomic.Int64
	failed atomic.Int64
	mu     sync.Mutex
	acked  []vault.Record
	wg     sync.WaitGroup
	cancel context.CancelFunc
}

func startLoad(t *testing.T, s *store.Store, holder int64) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{s: s, cancel: cancel}
	for range 16 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				r := storetest.Record(holder)
				_, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference))
				if err != nil {
					l.failed.Add(1)
					if !errors.Is(err, vault.ErrUnavailable) {
						t.Errorf("call while the database is away: %v", err)
					}
					continue
				}
				l.mu.Lock()
				l.acked = append(l.acked, r)
				l.mu.Unlock()
				l.stored.Add(1)
			}
		})
	}
	return l
}

// await returns when n more than now are stored.
func (l *load) await(t *testing.T, n int64) {
	t.Helper()
	want := l.stored.Load() + n
	for deadline := time.Now().Add(time.Minute); l.stored.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d stored, want %d; %d failed", l.stored.Load(), want, l.failed.Load())
		}
	}
}

// stop ends the load and looks for everything that was acknowledged.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.wg.Wait()
	for _, r := range l.acked {
		if got, err := l.s.Record(t.Context(), r.Lookup); err != nil || got.Reference != r.Reference {
			t.Fatalf("acknowledged record %s: %v", r.Reference, err)
		}
	}
	t.Logf("%d stored, %d failed", l.stored.Load(), l.failed.Load())
}

func TestPostgresBackendsTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	signer := storetest.Signer(t, storetest.Node)
	s := storetest.Open(t, url, storetest.WithSigner(signer))
	l := startLoad(t, s, storetest.Holder(t, s).ID)
	for range 5 {
		l.await(t, 200)
		storetest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	l.await(t, 200)
	l.stop(t)
	if rep := storetest.Verify(t, s, signer.Verifier()); rep.Logs[0].Entries < l.stored.Load() {
		t.Errorf("%d entries for %d answers", rep.Logs[0].Entries, l.stored.Load())
	}
	select {
	case err := <-s.Fatal():
		t.Errorf("fatal: %v", err)
	default:
	}
}

// limitFiles returns a function that limits the size of files, 0 for what it was,
// which it is again when t ends.
func limitFiles(t *testing.T) func(uint64) {
	signal.Ignore(unix.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := func(cur uint64) {
		t.Helper()
		if cur == 0 {
			cur = old.Cur
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: cur, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		limit(0)
		signal.Reset(unix.SIGXFSZ)
	})
	return limit
}

// TestSQLiteDiskFull uses a limit on the size of files in place of a full disk, so
// it cannot run beside other tests.
func TestSQLiteDiskFull(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	h := storetest.Holder(t, s)
	setLimit := limitFiles(t)
	setLimit(1 << 20)
	var stored []vault.Record
	put := func() error {
		r := storetest.Record(h.ID)
		r.Sealed = make([]byte, 8<<10)
		_, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference))
		if err == nil {
			stored = append(stored, r)
		}
		return err
	}
	var err error
	for err == nil && len(stored) < 1000 {
		err = put()
	}
	if !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), "nothing was written") {
		t.Fatalf("first call on a full disk, after %d: %v", len(stored), err)
	}
	if err := put(); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("next call on a full disk: %v", err)
	}
	full := len(stored)
	for _, r := range stored {
		if _, err := s.Record(t.Context(), r.Lookup); err != nil {
			t.Fatalf("read on a full disk: %v", err)
		}
	}
	setLimit(0)
	for deadline := time.Now().Add(time.Minute); put() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not usable again")
		}
	}
	if len(stored) != full+1 {
		t.Errorf("%d stored after the disk was full, want 1", len(stored)-full)
	}
	if rep := storetest.Verify(t, s); rep.Logs[0].Entries != int64(len(stored)+1) {
		t.Errorf("%d entries for %d records and a holder", rep.Logs[0].Entries, len(stored))
	}
}

// cutter breaks the connections of a store in the middle of an exchange.
type cutter struct {
	mu    sync.Mutex
	armed bool
	away  bool // from the cut on nothing connects
	dark  bool // nothing connects
	// send is how many writes still reach the server, and whether the answer to the
	// last of them is lost.
	send int
}

type cutConn struct {
	net.Conn
	c     *cutter
	drain bool // the answer is lost
	gone  bool // it was cut
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	dark := c.dark
	c.mu.Unlock()
	if dark {
		return nil, errCut
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, c: c}, nil
}

// arm cuts the next connection that is written to: the server gets n writes, and
// the answer to the last is lost. If away, nothing connects until back.
func (c *cutter) arm(n int, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.send, c.away = true, n, away
}

// disarm takes a cut back, if it has not been made, and lets all connect.
func (c *cutter) disarm() (made bool) {
	c.mu.Lock()
	made, c.armed = !c.armed, false
	c.mu.Unlock()
	c.back()
	return made
}

func (c *cutter) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dark = false
}

var errCut = errors.New("connection is cut")

func (c *cutConn) Write(b []byte) (int, error) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	// The driver clears up after a cut when it comes to it, which may be after the next
	// one is armed: what it then writes is not what is to be cut.
	if c.gone {
		return 0, errCut
	}
	if c.c.armed && !isCancel(b) {
		if c.c.send == 0 {
			c.gone, c.c.armed, c.c.dark = true, false, c.c.away
			c.Conn.Close()
			return 0, errCut
		}
		if c.c.send--; c.c.send == 0 {
			c.drain, c.c.armed, c.c.dark = true, false, c.c.away
		}
	}
	return c.Conn.Write(b)
}

// isCancel tells the request that a connection of its own makes, to end what the server
// does on another: its length and code, then which (CancelRequest in PostgreSQL's
// "Message Formats"). Other messages begin with a letter, or have another code there.
func isCancel(b []byte) bool {
	return len(b) >= 8 && b[0] == 0 && binary.BigEndian.Uint32(b[4:]) == 80877102
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the server has answered
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	if c.drain && n > 0 {
		c.gone = true
		c.Conn.Close()
		return 0, errCut
	}
	return n, err
}

// TestCommitWhoseAnswerIsLostIsLookedUp cuts the connection at each step of a
// commit. What the caller is told has to be what is there.
func TestCommitWhoseAnswerIsLostIsLookedUp(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	c := new(cutter)
	s := storetest.Open(t, url, func(o *store.Options) {
		o.SetDial(c.dial)
	})
	h := storetest.Holder(t, s)
	size := func() int64 {
		head, err := s.Head(t.Context(), "cardea/"+storetest.Node)
		if err != nil {
			t.Fatal(err)
		}
		return head.Size
	}
	put := func(r vault.Record) error {
		_, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference))
		return err
	}
	appendOne := func(r vault.Record) error { return s.Append(t.Context(), storetest.Entry(t, r.Reference)) }
	for _, call := range []func(vault.Record) error{put, appendOne} {
		if err := call(storetest.Record(h.ID)); err != nil { // statements are prepared now
			t.Fatal(err)
		}
	}
	const nothing, unknown = "nothing was written", "outcome of the commit is unknown"
	for _, tc := range []struct {
		name   string
		call   func(vault.Record) error
		record bool
		sends  int
		away   bool   // there is no new connection for a while
		err    string // then
		wrote  bool   // then
	}{
		{"record, changes not sent", put, true, 0, false, "", true},
		{"record, changes not answered", put, true, 1, false, "", true},
		{"record, commit not answered", put, true, 2, false, "", true},
		{"entry, not sent", appendOne, false, 0, false, "", true},
		{"entry, not answered", appendOne, false, 1, false, "", true},
		{"record, changes not sent, away", put, true, 0, true, nothing, false},
		{"record, changes not answered, away", put, true, 1, true, nothing, false},
		{"record, commit not answered, away", put, true, 2, true, unknown, true},
		{"entry, not sent, away", appendOne, false, 0, true, unknown, false},
		{"entry, not answered, away", appendOne, false, 1, true, unknown, true},
	} {
		before := size()
		r := storetest.Record(h.ID)
		c.arm(tc.sends, tc.away)
		err := tc.call(r)
		if tc.err == "" && err != nil || tc.err != "" && (!errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
		c.back()
		for deadline := time.Now().Add(time.Minute); tc.away && put(storetest.Record(h.ID)) != nil; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not usable again", tc.name)
			}
		}
		want := map[bool]int64{true: 1}[tc.wrote] + map[bool]int64{true: 1}[tc.away]
		if got := size() - before; got != want {
			t.Errorf("%s: %d entries, want %d", tc.name, got, want)
		}
		if _, err := s.Record(t.Context(), r.Lookup); tc.record && (err == nil) != tc.wrote {
			t.Errorf("%s: record: %v", tc.name, err)
		}
		if err := put(storetest.Record(h.ID)); err != nil {
			t.Errorf("%s: next call: %v", tc.name, err)
		}
		if err := appendOne(r); err != nil {
			t.Errorf("%s: next call: %v", tc.name, err)
		}
	}
	storetest.Verify(t, s)
}

func TestPostgresAwayFailsAtOnce(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	var away atomic.Bool
	s := storetest.Open(t, url, func(o *store.Options) {
		o.SetDial(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if away.Load() {
				return nil, errCut
			}
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		})
	})
	h := storetest.Holder(t, s)
	away.Store(true)
	storetest.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	start := time.Now()
	for range 50 {
		if err := s.Append(t.Context(), storetest.Entry(t, "away")); !errors.Is(err, vault.ErrUnavailable) {
			t.Fatalf("append: %v", err)
		}
		if _, err := s.Holder(t.Context(), h.Tenant, h.Name); !errors.Is(err, vault.ErrUnavailable) {
			t.Fatalf("read: %v", err)
		}
	}
	if took := time.Since(start); took > time.Minute { // a second's wait in each would take longer
		t.Errorf("100 calls took %v", took)
	}
	if p := s.Probe(t.Context()); p.Connect == nil || p.Read == nil || p.Write == nil || p.Delete == nil {
		t.Errorf("probe: %+v", p)
	}
	away.Store(false)
	for deadline := time.Now().Add(time.Minute); s.Append(t.Context(), storetest.Entry(t, "back")) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not usable again")
		}
	}
	if p := s.Probe(t.Context()); p != (vault.Probe{}) {
		t.Errorf("probe after it is back: %+v", p)
	}
	if rep := storetest.Verify(t, s); rep.Logs[0].Entries != 2 {
		t.Errorf("%d entries, want 2", rep.Logs[0].Entries)
	}
}

func TestSQLiteFilesAreTheOwnersOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	path := filepath.Join(dir, "cardea.db")
	check := func() {
		t.Helper()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("folder: %v, %v", info.Mode(), err)
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) < 4 {
			t.Errorf("%d files, %v", len(files), err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("file %s: %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
	s := storetest.Open(t, "sqlite:"+path)
	storetest.Holder(t, s)
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // somebody copied it back
		t.Fatal(err)
	}
	storetest.Open(t, "sqlite:"+path)
	check()
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("this is no database, and long enough to be sure of it: "+strings.Repeat("no ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url, node, want string
		readOnly              bool
	}{
		{"no path", "sqlite:", "a", `sqlite path "": want that of a file`, false},
		{"memory", "sqlite::memory:", "a", `sqlite path ":memory:": want that of a file`, false},
		{"no database", "sqlite:" + file, "a", "file is not a database", false},
		{"folder is a file", "sqlite:" + file + "/x", "a", "not a directory", false},
		{"file is not there", "sqlite:" + file + "2", "a", "no such file", true},
		{"node", "sqlite:" + file + "3", "Node 1", `node name "Node 1": want 1 to 64 of a-z`, false},
		{"no server", "postgres://cardea:geheim@/db?host=" + t.TempDir(), "a", "failed to connect", false},
		{"no URL", "postgres://cardea:geheim@[::1", "a", "cannot parse", false},
	} {
		_, err := storetest.TryOpen(t, c.url, storetest.OnNode(c.node), func(o *store.Options) { o.ReadOnly = c.readOnly })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the error shows the password", c.name)
		}
	}
}

// TestSQLiteLogOfChangesStaysShort: upkeep copies the write-ahead log into the file
// while commits go on.
func TestSQLiteLogOfChangesStaysShort(t *testing.T) {
	t.Parallel()
	url := storetest.SQLite(t)
	s := storetest.Open(t, url)
	h := storetest.Holder(t, s)
	wal := strings.TrimPrefix(url, "sqlite:") + "-wal"
	// Without upkeep it would have all; with it some 100 MiB, and more where the disk is
	// slow to take the copies while it takes commits.
	const limit, all = 256 << 20, 480 << 20
	deadline := time.Now().Add(30 * time.Second)
	for written := 0; written < all; {
		r := storetest.Record(h.ID)
		r.Sealed = make([]byte, 1<<20)
		if err := s.UpsertRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
			t.Fatal(err)
		}
		written += len(r.Sealed)
		if info, err := os.Stat(wal); err != nil || info.Size() > limit {
			t.Fatalf("after %d MiB the log has %d MiB, %v", written>>20, info.Size()>>20, err)
		}
		if time.Now().After(deadline) {
			t.Logf("stopped after %d MiB", written>>20)
			break
		}
	}
	storetest.Verify(t, s)
}

func TestSQLiteGivesFreePagesBack(t *testing.T) {
	t.Parallel()
	url := storetest.SQLite(t)
	path := strings.TrimPrefix(url, "sqlite:")
	s := storetest.Open(t, url)
	h := storetest.Holder(t, s)
	var records []vault.Record
	for range 40 {
		r := storetest.Record(h.ID)
		r.Sealed = make([]byte, 1<<20)
		if _, err := s.PutRecord(t.Context(), r, storetest.Entry(t, r.Reference)); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	for _, r := range records {
		if deleted, err := s.DeleteRecord(t.Context(), r.Lookup, 0, storetest.Entry(t, r.Reference)); !deleted || err != nil {
			t.Fatal(deleted, err)
		}
	}
	if err := s.VacuumSQLite(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Verify(t, s)
	if err := s.Close(); err != nil { // the log of changes goes into the file
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 8<<20 {
		t.Errorf("after 40 MiB were deleted the file has %d MiB, %v", info.Size()>>20, err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("log of changes after Close: %v", err)
	}
}

func TestThinningKeepsTheLastCheckpointOfEachStretch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		url := db.URL(t)
		now := time.Date(2026, 11, 22, 12, 0, 30, 0, time.UTC)
		s := storetest.Open(t, url, storetest.WithSigner(storetest.Signer(t, storetest.Node)), func(o *store.Options) {
			o.Now = func() time.Time { return now }
			o.CheckpointInterval = time.Hour
		})
		size := 0
		add := func(at time.Time) {
			size++
			storetest.Exec(t, url, "INSERT INTO audit_checkpoint (log_id, size, signed_at, note) SELECT id, $1, $2, $3 FROM audit_log",
				size, at.UnixMicro(), []byte(at.Format(time.RFC3339)))
		}
		for _, age := range []time.Duration{
			60*24*time.Hour + 20*time.Minute, 60*24*time.Hour + 10*time.Minute, 60*24*time.Hour + time.Minute, // one hour
			40 * 24 * time.Hour,
			3*time.Hour + 2*time.Second, 3*time.Hour + time.Second, 3 * time.Hour, // one minute
			3*time.Hour - 45*time.Second,
			time.Minute, 59 * time.Second, time.Second, // young
		} {
			add(now.Add(-age))
		}
		left := func() (sizes []string) {
			t.Helper()
			for note, err := range s.Checkpoints(t.Context(), "cardea/"+storetest.Node) {
				if err != nil {
					t.Fatal(err)
				}
				at, err := time.Parse(time.RFC3339, string(note))
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, now.Sub(at).String())
			}
			return sizes
		}
		thin := func(want ...string) {
			t.Helper()
			if err := s.ThinCheckpoints(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := left(); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("ages left %v, want %v", got, want)
			}
		}
		thin("1440h1m0s", "960h0m0s", "3h0m0s", "2h59m15s", "1m0s", "59s", "1s")
		thin("1440h1m0s", "960h0m0s", "3h0m0s", "2h59m15s", "1m0s", "59s", "1s")
		now = now.Add(2 * time.Hour) // 14:00:30; two were in 11:59, one in 12:00
		thin("1442h1m0s", "962h0m0s", "5h0m0s", "4h59m15s", "2h0m59s", "2h0m1s")
		now = now.Add(50 * 24 * time.Hour) // all are old
		thin("2642h1m0s", "2162h0m0s", "1204h59m15s", "1202h0m59s", "1202h0m1s")
	})
}
