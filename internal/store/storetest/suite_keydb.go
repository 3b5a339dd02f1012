package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/store"
)

// RunKeyDatabase tests what only a database has to show of the key service, on new
// ones that url makes.
func RunKeyDatabase(t *testing.T, url func(testing.TB) string) {
	for name, test := range map[string]func(*testing.T, string){
		"TextThatNotBothDatabasesTakeIsRefused": func(t *testing.T, url string) {
			testKeyServiceText(t, KeyService(func(testing.TB) string { return url })(t))
		},
		"IdentityThatIsTooLongIsRefused": func(t *testing.T, url string) {
			testIdentityLimits(t, Identities(func(testing.TB) string { return url })(t))
		},
		"UpdatesShareACommit":                  testSharedCommit,
		"UpdateAtFaultFailsAlone":              testUpdatePoison,
		"UpdateThatPanicsFailsAlone":           testUpdatePanic,
		"UpdateWaitsForItsFunction":            testUpdateCancelled,
		"UpdatesOfNodesComeOneAfterTheOther":   testNodesCount,
		"ChangesOfNodesAreAllSeen":             testNodesChanges,
		"KeyServiceThatIsClosedIsUnavailable":  testKeyServiceClosed,
		"KeyServiceThatIsReadOnlyRefuses":      testKeyServiceReadOnly,
		"DocumentThatIsDamagedIsNoOutage":      testDamagedDocument,
		"SeedsAreAsTheServiceWouldStoreThem":   testSeed,
		"KeyServiceAndVaultShareTheirAuditLog": testSharedLog,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, url(t))
		})
	}
}

func testSharedCommit(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	ks, ids := store.NewKeyService(s), store.NewIdentities(s)
	k := Key()
	PutKey(t, ks, k)
	before := len(segments(t, s))
	var calls []func()
	for i := range 24 {
		calls = append(calls, func() {
			var err error
			switch i % 3 {
			case 0:
				err = tryUpdate(t, ks, func(tx kms.Tx) error { return tx.PutGrant(t.Context(), Grant(k.KeyRef)) })
			case 1:
				err = tryIdentities(t, ids, func(tx identity.Tx) error {
					return tx.Put(t.Context(), IdentityRow("user", strings.Repeat("u", i)))
				})
			case 2:
				err = s.Append(t.Context(), Entry(t, "beside"))
			}
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	gate.Together(t, calls...)
	all := segments(t, s)
	if len(all) != before+1 || all[before].Count != 24 {
		t.Errorf("%d commits, the last of %d entries; want 1 of 24", len(all)-before, all[len(all)-1].Count)
	}
	Verify(t, s)
}

// testUpdatePoison puts calls that fail in every way among others in one commit.
func testUpdatePoison(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	ks := store.NewKeyService(s)
	k := Key()
	PutKey(t, ks, k)
	size, seen := entries(t, s), int64(0)
	changesSince(t, ks, &seen)
	mine := errors.New("mine")
	good := make([]*kms.Grant, 12)
	errs := make([]error, len(good))
	calls := make([]func(), len(good))
	for i := range calls {
		good[i] = Grant(k.KeyRef)
		calls[i] = func() {
			errs[i] = tryUpdate(t, ks, func(tx kms.Tx) error {
				if i == 3 { // refuses
					return mine
				}
				if err := tx.PutGrant(t.Context(), good[i]); err != nil {
					return err
				}
				switch i {
				case 5, 10: // fails after it has written
					return mine
				case 7: // is refused after it has written
					return tx.PutKey(t.Context(), k)
				}
				return nil
			})
		}
	}
	gate.Together(t, calls...)
	for i, err := range errs {
		_, rerr := ks.Grant(t.Context(), k.KeyRef, good[i].ID)
		want := map[int]error{3: mine, 5: mine, 7: kms.ErrChanged, 10: mine}[i]
		if !errors.Is(err, want) || errors.Is(rerr, kms.ErrNoRow) != (want != nil) {
			t.Errorf("call %d: %v, want %v; read after it: %v", i, err, want, rerr)
		}
	}
	if got := entries(t, s) - size; got != 8 {
		t.Errorf("%d entries, want 8", got)
	}
	if got := changesSince(t, ks, &seen); len(got) != 1 {
		t.Errorf("changes %v, want that of the key", got)
	}
	update(t, ks, func(tx kms.Tx) error {
		if n, err := tx.CountGrants(t.Context(), k.KeyRef); n != 8 || err != nil {
			t.Errorf("%d grants, %v; want 8", n, err)
		}
		return nil
	})
	Verify(t, s)
}

func testUpdatePanic(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	ks := store.NewKeyService(s)
	keys := []*kms.Key{Key(), Key(), Key()}
	var errs [3]error
	gate.Together(t, func() { errs[0] = tryUpdate(t, ks, func(tx kms.Tx) error { return tx.PutKey(t.Context(), keys[0]) }) },
		func() {
			errs[1] = tryUpdate(t, ks, func(tx kms.Tx) error {
				if err := tx.PutKey(t.Context(), keys[1]); err != nil {
					return err
				}
				panic("at the disco")
			})
		},
		func() { errs[2] = tryUpdate(t, ks, func(tx kms.Tx) error { return tx.PutKey(t.Context(), keys[2]) }) })
	if errs[0] != nil || errs[2] != nil || errs[1] == nil || errs[1].Error() != "panic in a transaction: at the disco" {
		t.Errorf("errors %q", errs)
	}
	for i, k := range keys {
		if _, err := ks.Key(t.Context(), k.KeyRef); errors.Is(err, kms.ErrNoRow) != (i == 1) {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

// testUpdateCancelled: a call leaves the queue with its context, but not the
// function that is running.
func testUpdateCancelled(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	ks := store.NewKeyService(s)
	left := errors.New("client has gone")
	k := Key()
	put := func(ctx context.Context, begun, release chan struct{}) error {
		e := Entry(t, "update")
		return ks.Update(ctx, func(tx kms.Tx) error {
			tx.Append(e)
			if begun != nil {
				close(begun)
				<-release
			}
			return tx.PutKey(t.Context(), k)
		})
	}
	open := gate.Close(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error)
	go func() { result <- put(ctx, nil, nil) }()
	gate.AwaitQueued(t, 1)
	cancel(left)
	if err := <-result; !errors.Is(err, left) || !errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("call in the queue whose context has ended: %v", err)
	}
	open()
	if _, err := ks.Key(t.Context(), k.KeyRef); !errors.Is(err, kms.ErrNoRow) {
		t.Errorf("what was cancelled is there: %v", err)
	}

	begun, release := make(chan struct{}), make(chan struct{})
	ctx, cancel = context.WithCancelCause(t.Context())
	go func() { result <- put(ctx, begun, release) }()
	<-begun
	cancel(left)
	select {
	case err := <-result:
		t.Errorf("returned while its function runs: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("call that was running when its context ended: %v", err)
	}
	if _, err := ks.Key(t.Context(), k.KeyRef); err != nil {
		t.Error(err)
	}
}

// testNodesCount: a quota that two nodes look at before they write is kept.
func testNodesCount(t *testing.T, url string) {
	const quota = 40
	k := Key()
	a := store.NewKeyService(Open(t, url))
	b := store.NewKeyService(Open(t, url, OnNode("other")))
	PutKey(t, a, k)
	full := errors.New("full")
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		s, node := a, Node
		if i%2 == 1 {
			s, node = b, "other"
		}
		wg.Go(func() {
			for {
				g, e := Grant(k.KeyRef), EntryOf(t, node, "update")
				err := s.Update(t.Context(), func(tx kms.Tx) error {
					tx.Append(e)
					n, err := tx.CountGrants(t.Context(), k.KeyRef)
					switch {
					case err != nil:
						return err
					case n >= quota:
						return full
					}
					return tx.PutGrant(t.Context(), g)
				})
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, full):
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if gs := must[[]kms.Grant](t)(b.Grants(t.Context(), k.KeyRef, kms.GrantFilter{}, "", 1000)); len(gs) != quota || made.Load() != quota {
		t.Errorf("%d grants, %d made; want %d", len(gs), made.Load(), quota)
	}
}

// testNodesChanges: who follows the changes of two nodes sees each change, though
// their transactions overlap.
func testNodesChanges(t *testing.T, url string) {
	nodes := []*store.Store{Open(t, url), Open(t, url, OnNode("other")), Open(t, url, OnNode("third"))}
	follower := store.NewKeyService(nodes[2])
	want := map[kms.Change]bool{}
	var mu sync.Mutex
	var writers, reader sync.WaitGroup
	done := make(chan struct{})
	got := map[kms.Change]bool{}
	reader.Go(func() {
		seen := int64(0)
		for last := false; !last; {
			select {
			case <-done:
				last = true
			default:
			}
			for c := range changesSince(t, follower, &seen) {
				got[c] = true
			}
		}
	})
	for i, s := range nodes[:2] {
		ks, node := store.NewKeyService(s), []string{Node, "other"}[i]
		for range 8 {
			writers.Go(func() {
				for range 25 {
					k := Key()
					e := EntryOf(t, node, "update")
					err := ks.Update(t.Context(), func(tx kms.Tx) error {
						tx.Append(e)
						return tx.PutKey(t.Context(), k)
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					want[kms.Change{KeyRef: k.KeyRef}] = true
					mu.Unlock()
				}
			})
		}
	}
	writers.Wait()
	close(done)
	reader.Wait()
	missed := 0
	for c := range want {
		if !got[c] {
			missed++
		}
	}
	if missed != 0 || len(got) != len(want) {
		t.Errorf("%d changes of %d were missed, %d seen", missed, len(want), len(got))
	}
}

func testKeyServiceClosed(t *testing.T, url string) {
	s := Open(t, url)
	ks, ids := store.NewKeyService(s), store.NewIdentities(s)
	must[struct{}](t)(struct{}{}, s.Close())
	_, err1 := ks.Key(t.Context(), Key().KeyRef)
	_, err2 := ks.Due(t.Context(), time.Now(), 1)
	_, _, err3 := ks.Changes(t.Context(), 0)
	err4 := tryUpdate(t, ks, func(tx kms.Tx) error { return tx.PutKey(t.Context(), Key()) })
	err5 := ks.Append(t.Context(), Entry(t, "late"))
	err6 := ks.PutUsage(t.Context(), []kms.Usage{{Key: Key().KeyRef, At: time.Now()}})
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "database unavailable: ") || strings.Contains(err.Error(), "store is unavailable") {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	_, err1 = ids.Get(t.Context(), "user", Account, "ann")
	_, err2 = ids.DeleteExpired(t.Context(), time.Now(), 1)
	_, _, err3 = ids.Changes(t.Context(), 0)
	err4 = tryIdentities(t, ids, func(tx identity.Tx) error { return tx.Put(t.Context(), IdentityRow("user", "ann")) })
	err5 = ids.Append(t.Context(), Entry(t, "late"))
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if err == nil || !strings.HasPrefix(err.Error(), "database unavailable: ") {
			t.Errorf("call %d of identities: %v", i+1, err)
		}
	}
}

func testKeyServiceReadOnly(t *testing.T, url string) {
	k := Key()
	PutKey(t, store.NewKeyService(Open(t, url)), k)
	s := Open(t, url, ReadOnly)
	ks, ids := store.NewKeyService(s), store.NewIdentities(s)
	if _, err := ks.Key(t.Context(), k.KeyRef); err != nil {
		t.Error(err)
	}
	err1 := tryUpdate(t, ks, func(kms.Tx) error { return nil })
	err2 := ks.PutUsage(t.Context(), []kms.Usage{{Key: k.KeyRef, At: time.Now()}})
	err3 := tryIdentities(t, ids, func(identity.Tx) error { return nil })
	_, err4 := ids.DeleteExpired(t.Context(), time.Now(), 1)
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

// testDamagedDocument: what one row holds must not stop the others.
func testDamagedDocument(t *testing.T, url string) {
	s := Open(t, url)
	ks := store.NewKeyService(s)
	bad, good, moved := Key(), Key(), Key()
	PutKey(t, ks, bad, good, moved)
	for _, c := range []struct{ doc, want string }{
		{`{"account":`, "stored document"},
		{`{"future":1}`, "unknown object member name"},
		{`{"Account":"x"}`, "unknown object member name"},
	} {
		Exec(t, url, "UPDATE kms_key SET doc = $1 WHERE key_id = $2", []byte(c.doc), bad.ID)
		if _, err := ks.Key(t.Context(), bad.KeyRef); err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("key with %s: %v", c.doc, err)
		}
		err := tryUpdate(t, ks, func(tx kms.Tx) error {
			_, err := tx.Key(t.Context(), bad.KeyRef)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, kms.ErrUnavailable) {
			t.Errorf("key with %s in a transaction: %v", c.doc, err)
		}
		if _, err := ks.Key(t.Context(), good.KeyRef); err != nil {
			t.Errorf("another key: %v", err)
		}
	}
	Exec(t, url, "UPDATE kms_key SET doc = (SELECT doc FROM kms_key WHERE key_id = $1) WHERE key_id = $2", good.ID, moved.ID)
	if _, err := ks.Key(t.Context(), moved.KeyRef); err == nil || !strings.Contains(err.Error(), "stored document is that of another row") {
		t.Errorf("key with the document of another: %v", err)
	}
	PutKey(t, ks, Key())
	Verify(t, s)
}

func testSharedLog(t *testing.T, url string) {
	s := Open(t, url)
	Holder(t, s)
	PutKey(t, store.NewKeyService(s), Key())
	PutIdentity(t, store.NewIdentities(s), IdentityRow("user", "ann"))
	if got := entries(t, s); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
	Verify(t, s)
	must[struct{}](t)(struct{}{}, s.Close())
	s = Open(t, url)
	if refs := must[[]kms.KeyRef](t)(store.NewKeyService(s).Keys(t.Context(), Account, Region, "", 9)); len(refs) != 1 {
		t.Errorf("keys after reopening: %v", refs)
	}
}

func testSeed(t *testing.T, url string) {
	s := Open(t, url)
	ks := store.NewKeyService(s)
	own := Key()
	PutKey(t, ks, own)
	like := Key()
	like.Rotation = kms.Rotation{Enabled: true, PeriodDays: 365, Next: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	refs, err := SeedKeys(t.Context(), url, like, 10)
	if err != nil {
		t.Fatal(err)
	}
	grant := Grant(own.KeyRef)
	grant.Grantee, grant.Retiring, grant.Name = "arn:aws:iam::111122223333:role/r", "arn:aws:iam::111122223333:role/retiring", "name"
	if err := SeedGrants(t.Context(), url, grant, append(refs, own.KeyRef), 25); err != nil {
		t.Fatal(err)
	}
	if err := SeedGrants(t.Context(), url, grant, []kms.KeyRef{like.KeyRef}, 1); err == nil || err.Error() != "0 of 1 keys are there" {
		t.Errorf("grants of a key that is not there: %v", err)
	}
	for _, ref := range refs {
		want := like.Clone()
		want.KeyRef, want.Version = ref, 1
		same(t, "key", must[*kms.Key](t)(ks.Key(t.Context(), ref)), want)
		update(t, ks, func(tx kms.Tx) error { // it can be changed
			k, err := tx.Key(t.Context(), ref)
			return errors.Join(err, tx.PutKey(t.Context(), k), tx.PutGrant(t.Context(), Grant(ref)))
		})
	}
	update(t, ks, func(tx kms.Tx) error {
		if n, err := tx.CountKeys(t.Context(), Account, Region, ""); n != 11 || err != nil {
			t.Errorf("%d keys, %v; want 11", n, err)
		}
		for _, ref := range append(refs, own.KeyRef) {
			n, err := tx.CountGrants(t.Context(), ref)
			gs, err2 := tx.Grants(t.Context(), ref, kms.GrantFilter{}, "", 99)
			if err := errors.Join(err, err2); err != nil || n != len(gs) || n < 2 || n > 4 {
				t.Errorf("%d grants by their count, %d are there; %v", n, len(gs), err)
			}
		}
		return nil
	})
	if gs := must[[]kms.Grant](t)(ks.Retirable(t.Context(), Account, Region, grant.Retiring, "", 99)); len(gs) != 25 {
		t.Errorf("%d retirable grants, want 25", len(gs))
	}
	if due := must[[]kms.KeyRef](t)(ks.Due(t.Context(), like.Rotation.Next, 99)); len(due) != 10 {
		t.Errorf("%d keys are due, want 10", len(due))
	}
}
