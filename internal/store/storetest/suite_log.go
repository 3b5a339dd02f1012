package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/vault"
)

func testResume(t *testing.T, url string) {
	var want int64
	for _, more := range []int{0, 1, 254, 1, 1, 300, 700, 0, 23} { // to both sides of a full tile, and over several
		s := Open(t, url)
		if got := entries(t, s); got != want {
			t.Fatalf("%d entries after reopening, want %d", got, want)
		}
		for left := more; left > 0; {
			n := min(left, 100)
			batch := make([]audit.Sealed, n)
			for i := range batch {
				batch[i] = Entry(t, "entry")
			}
			if err := s.Append(t.Context(), batch...); err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		want += int64(more)
		Verify(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testAppendMany(t *testing.T, url string) {
	s := Open(t, url)
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 10 {
				var batch []audit.Sealed
				for j := range 3 {
					batch = append(batch, Entry(t, fmt.Sprint("caller ", caller, " call ", i, " entry ", j)))
				}
				if err := s.Append(t.Context(), batch...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Append(t.Context()); err != nil {
		t.Errorf("append of nothing: %v", err)
	}
	seen := 0
	var call string
	for n, err := range audit.Entries(t.Context(), s, "cardea/"+Node, 0) {
		if err != nil {
			t.Fatal(err)
		}
		name, entry, _ := strings.Cut(n.Entry.Resource.Reference, " entry ")
		if entry != fmt.Sprint(seen%3) || entry != "0" && name != call {
			t.Errorf("entry %d is %q, after call %q", seen, n.Entry.Resource.Reference, call)
		}
		call = name
		seen++
	}
	if seen != 240 {
		t.Errorf("%d entries, want 240", seen)
	}
	if err := s.Append(t.Context(), make([]audit.Sealed, audit.MaxSegmentEntries+1)...); err == nil || !strings.Contains(err.Error(), "more than one commit may hold") {
		t.Errorf("too many entries: %v", err)
	}
	Verify(t, s)
}

func testSource(t *testing.T, url string) {
	signer := Signer(t, Node)
	s := Open(t, url, WithSigner(signer))
	h := Holder(t, s)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				r := Record(h.ID)
				if _, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = Open(t, url, ReadOnly)
	rep := Verify(t, s, signer.Verifier())
	if l := rep.Logs[0]; len(rep.Logs) != 1 || l.Entries != 801 || l.Signed != 801 || l.Checkpoints == 0 {
		t.Errorf("report %+v, want 801 entries, all signed", l)
	}
	tiles := 0
	for tile, err := range s.Tiles(t.Context(), "cardea/"+Node) {
		if err != nil {
			t.Fatal(err)
		}
		if tile.Level != 0 || tile.Index != int64(tiles) || len(tile.Data) != audit.TileBytes {
			t.Errorf("tile %d is %d/%d of %d bytes", tiles, tile.Level, tile.Index, len(tile.Data))
		}
		tiles++
	}
	if tiles != 3 {
		t.Errorf("%d tiles, want 3", tiles)
	}
	for range s.Tiles(t.Context(), "cardea/nobody") {
		t.Error("tile of a log that is not there")
	}
	if head := must[audit.Head](t)(s.Head(t.Context(), "cardea/nobody")); head != (audit.Head{}) {
		t.Errorf("head of a log that is not there: %+v", head)
	}
}

func testSegmentsFrom(t *testing.T, url string) {
	s := Open(t, url)
	var firsts []int64
	for i := range 130 { // more than a page
		firsts = append(firsts, entries(t, s))
		batch := make([]audit.Sealed, 1+i%3)
		for j := range batch {
			batch[j] = Entry(t, "entry")
		}
		if err := s.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	size := entries(t, s)
	for from := range size + 3 {
		want := 0
		for want+1 < len(firsts) && firsts[want+1] <= from {
			want++
		}
		i := want
		for g, err := range s.Segments(t.Context(), "cardea/"+Node, from) {
			if err != nil {
				t.Fatal(err)
			}
			if g.First != firsts[i] {
				t.Fatalf("from %d: segment %d where %d should be", from, g.First, firsts[i])
			}
			if i++; from%10 != 0 {
				break // those that follow are looked at now and then
			}
		}
		if from%10 == 0 && i != len(firsts) {
			t.Fatalf("from %d: %d segments, want %d", from, i-want, len(firsts)-want)
		}
	}
}

// awaitSigned returns when a checkpoint covers the whole log.
func awaitSigned(tb testing.TB, s *store.Store, signer *audit.Signer) {
	tb.Helper()
	size := entries(tb, s)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		for note, err := range s.Checkpoints(tb.Context(), "cardea/"+Node) {
			if err != nil {
				tb.Fatal(err)
			}
			if must[audit.Checkpoint](tb)(audit.OpenCheckpoint(note, signer.Verifier())).Size == size {
				return
			}
		}
		if time.Now().After(deadline) {
			tb.Fatalf("log of %d entries is not signed", size)
		}
	}
}

func testCheckpoints(t *testing.T, url string) {
	signer := Signer(t, Node)
	s := Open(t, url, WithSigner(signer))
	for range 3 {
		if err := s.Append(t.Context(), Entry(t, "entry")); err != nil {
			t.Fatal(err)
		}
		awaitSigned(t, s, signer)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Signed seldom, but at Close.
	s = Open(t, url, WithSigner(signer), func(o *store.Options) { o.CheckpointInterval = time.Hour })
	if err := s.Append(t.Context(), Entry(t, "last")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = Open(t, url)
	l := Verify(t, s, signer.Verifier()).Logs[0]
	if l.Entries != 4 || l.Signed != 4 || l.Checkpoints < 4 {
		t.Errorf("report %+v, want 4 entries, 4 signed", l)
	}
}

func testCheckpointOrder(t *testing.T, url string) {
	signer := Signer(t, Node)
	s := Open(t, url, WithSigner(signer))
	for range 20 {
		if err := s.Append(t.Context(), Entry(t, "entry")); err != nil {
			t.Fatal(err)
		}
		awaitSigned(t, s, signer)
	}
	last := int64(-1)
	for note, err := range s.Checkpoints(t.Context(), "cardea/"+Node) {
		if err != nil {
			t.Fatal(err)
		}
		c := must[audit.Checkpoint](t)(audit.OpenCheckpoint(note, signer.Verifier()))
		if c.Size <= last {
			t.Errorf("checkpoint of %d after that of %d", c.Size, last)
		}
		last = c.Size
	}
}

func testForeignSigner(t *testing.T, url string) {
	_, err := TryOpen(t, url, WithSigner(Signer(t, "test-2")))
	if err == nil || err.Error() != "checkpoint key is for log cardea/test-2, this node's is cardea/test-1" {
		t.Errorf("open: %v", err)
	}
}

func testDamaged(t *testing.T, url string) {
	signer := Signer(t, Node)
	s := Open(t, url, WithSigner(signer))
	for range 300 {
		if err := s.Append(t.Context(), Entry(t, "entry")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, damage, repair string }{
		{"size", "UPDATE audit_log SET size = size - 1", "UPDATE audit_log SET size = size + 1"},
		{"size, signed", "UPDATE audit_log SET size = size - 256", "UPDATE audit_log SET size = size + 256"},
		{"tile", "UPDATE audit_tile SET position = 7", "UPDATE audit_tile SET position = 0"},
		{"tile's place", "UPDATE audit_tile SET level = 1", "UPDATE audit_tile SET level = 0"},
		{"segment gone", "UPDATE audit_segment SET first = first + 1000 WHERE first = 280", "UPDATE audit_segment SET first = first - 1000 WHERE first = 1280"},
		{"segment's count", "UPDATE audit_segment SET count = 2 WHERE first = 280", "UPDATE audit_segment SET count = 1 WHERE first = 280"},
	} {
		Exec(t, url, c.damage)
		if _, err := TryOpen(t, url); !errors.Is(err, audit.ErrDamaged) || !strings.Contains(err.Error(), "audit log cardea/"+Node) {
			t.Errorf("%s: %v", c.name, err)
		}
		Exec(t, url, c.repair)
		s, err := TryOpen(t, url)
		if err != nil {
			t.Fatalf("%s, repaired: %v", c.name, err)
		}
		Verify(t, s, signer.Verifier())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testHeadMoved(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	r := Record(h.ID)
	Exec(t, url, "UPDATE audit_log SET writer = $1", make([]byte, 16))
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, store.ErrLogTaken) || !errors.Is(err, vault.ErrUnavailable) ||
			!strings.Contains(err.Error(), "audit log cardea/test-1: another process writes this audit log: node names must be unique") {
			t.Errorf("call on a log that is taken: %v", err)
		}
	}
	gate.Together(t,
		func() { _, err := s.PutRecord(t.Context(), r, Entry(t, "refused")); refused(err) },
		func() { refused(s.Append(t.Context(), Entry(t, "refused"))) })
	select {
	case err := <-s.Fatal():
		refused(err)
	case <-time.After(patience):
		t.Error("nothing from Fatal")
	}
	refused(s.Append(t.Context(), Entry(t, "refused")))
	refused(s.Update(t.Context(), func(vault.CustodyTx) error { return nil }))
	if _, err := s.Record(t.Context(), r.Lookup); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("record of a call that was refused: %v", err)
	}
	if got := entries(t, s); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
}

func testSecondOpen(t *testing.T, url string) {
	s := Open(t, url)
	if _, err := TryOpen(t, url); !errors.Is(err, store.ErrLogTaken) {
		t.Errorf("second open: %v", err)
	}
	if err := s.Append(t.Context(), Entry(t, "entry")); err != nil {
		t.Errorf("the first, after the second was refused: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	Open(t, url)
}

func testNodes(t *testing.T, url string) {
	nodes := []string{"a", "b", "c"}
	signers := map[string]*audit.Signer{}
	var verifiers []string
	for _, n := range nodes {
		signers[n] = Signer(t, n)
		verifiers = append(verifiers, signers[n].Verifier())
	}
	var stores []*store.Store
	for _, n := range nodes {
		stores = append(stores, Open(t, url, OnNode(n), WithSigner(signers[n])))
	}
	h, _, err := stores[0].PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: "merchant_1"}, EntryOf(t, "a", "holder"))
	if err != nil {
		t.Fatal(err)
	}
	// The same cards on all nodes at once: each is stored once.
	const cards = 100
	var puts [cards][]vault.Record
	for i := range puts {
		first := Record(h.ID)
		for range nodes {
			r := Record(h.ID)
			r.Dedupe = first.Dedupe
			puts[i] = append(puts[i], r)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var stored int64
	answers := make([]map[string]bool, cards)
	for i := range answers {
		answers[i] = map[string]bool{}
	}
	for n, s := range stores {
		for worker := range 4 {
			wg.Go(func() {
				for i := range cards {
					i = (i*7 + worker*25) % cards
					r := puts[i][n]
					r.Lookup[0] ^= byte(worker)
					r.Reference += fmt.Sprint(worker)
					existing, err := s.PutRecord(t.Context(), r, EntryOf(t, nodes[n], r.Reference))
					mu.Lock()
					switch {
					case err != nil:
						t.Error(err)
					case existing == nil:
						stored++
						answers[i][r.Reference] = true
					default:
						answers[i][existing.Reference] = true
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if stored != cards {
		t.Errorf("%d stored, want %d", stored, cards)
	}
	for i, a := range answers {
		if len(a) != 1 {
			t.Errorf("card %d has the references %v", i, a)
		}
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s := Open(t, url, OnNode("d"))
	var logged int64
	for _, l := range Verify(t, s, verifiers...).Logs {
		logged += l.Entries
	}
	if logged != cards+1 {
		t.Errorf("%d entries, want %d", logged, cards+1)
	}
}

// testNodesMakeOneKey has nodes make the first version of the same keys at once, each
// with an id of its own: one is kept, and all are given that one.
func testNodesMakeOneKey(t *testing.T, url string) {
	nodes := []string{"a", "b", "c"}
	var stores []*store.Store
	for _, n := range nodes {
		stores = append(stores, Open(t, url, OnNode(n)))
	}
	for i := range 100 {
		var wg sync.WaitGroup
		var made atomic.Int64
		got := make([]vault.WrappedKey, len(nodes))
		start := make(chan struct{})
		for n, s := range stores {
			k := vault.WrappedKey{
				ID: vault.NewKeyID(), Tenant: "public", Holder: fmt.Sprint("merchant ", i), Purpose: vault.PurposeRecord, Version: 1, State: vault.KeyActive,
				Mode: vault.ModeLocal, Wrapped: []byte("wrapped by " + nodes[n]), CreatedAt: 5,
			}
			e := EntryOf(t, nodes[n], "key")
			wg.Go(func() {
				<-start
				standing, created, err := s.PutKey(t.Context(), k, e)
				if err != nil {
					t.Error(err)
				}
				if got[n] = standing; created {
					made.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if made.Load() != 1 || fmt.Sprint(got[0]) != fmt.Sprint(got[1]) || fmt.Sprint(got[0]) != fmt.Sprint(got[2]) {
			t.Fatalf("key %d: %d made it, they were given %v", i, made.Load(), got)
		}
	}
}

func testMigrateAtOnce(t *testing.T, url string) {
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			s, err := TryOpen(t, url, OnNode(fmt.Sprint("node-", i)))
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Append(t.Context(), EntryOf(t, fmt.Sprint("node-", i), "entry")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func testNewerSchema(t *testing.T, url string) {
	if err := Open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	Exec(t, url, "INSERT INTO schema_version (version_id, is_applied) VALUES (99999, true)")
	for _, change := range []func(*store.Options){func(*store.Options) {}, ReadOnly} {
		_, err := TryOpen(t, url, change)
		if !errors.Is(err, store.ErrSchemaTooNew) || !strings.Contains(err.Error(), "version 99999, this program knows") {
			t.Errorf("open: %v", err)
		}
	}
}

func testReadOnly(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	r := Record(h.ID)
	must[*vault.Record](t)(s.PutRecord(t.Context(), r, Entry(t, "entry")))
	reader := Open(t, url, ReadOnly)
	if l := Verify(t, reader).Logs[0]; l.Entries != 2 {
		t.Errorf("%d entries, want 2", l.Entries)
	}
	sameRecord(t, must[vault.Record](t)(reader.Record(t.Context(), r.Lookup)), r)
	if err := s.Append(t.Context(), Entry(t, "entry")); err != nil { // the server goes on
		t.Error(err)
	}
	if l := Verify(t, reader).Logs[0]; l.Entries != 3 {
		t.Errorf("%d entries, want 3", l.Entries)
	}
	for name, err := range map[string]error{
		"append": reader.Append(t.Context(), Entry(t, "entry")),
		"update": reader.Update(t.Context(), func(vault.CustodyTx) error { return nil }),
		"upsert": reader.UpsertRecord(t.Context(), r, Entry(t, "entry")),
		"probe":  reader.Probe(t.Context()).Write,
	} {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if reader.Fatal() != nil {
		t.Error("a reader has something fatal to tell")
	}
}
