package storetest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/vault"
)

// Run tests stores on new databases that url makes.
func Run(t *testing.T, url func(testing.TB) string) {
	tests := map[string]func(*testing.T, string){
		"RecordComesBackAsItWentIn":             testRecordRoundTrip,
		"RecordIsInsertedOnce":                  testPutConflicts,
		"UpsertReplacesAllOfARecord":            testUpsert,
		"DeleteTellsWhetherThereWasARecord":     testDelete,
		"ExpiredListsTheOldestFirst":            testExpired,
		"HolderIsInsertedOnce":                  testHolder,
		"FingerprintIsInsertedOnce":             testFingerprint,
		"KeyVersionIsInsertedOnce":              testKeys,
		"TextThatNotBothDatabasesTakeIsRefused": testText,
		"ProbeWorks":                            testProbe,
		"ManyAddsOfOneCardStoreOne":             testConcurrentAdds,
		"ManyCallsAllGetTheirOwnOutcome":        testManyCallers,

		"ChangesOfOneRecordKeepTheirOrder":    testOrderInCommit,
		"CallAtFaultFailsAlone":               testPoison,
		"CallLeavesTheQueueWithItsContext":    testCancelled,
		"FullQueueEndsWithTheContext":         testFullQueue,
		"ReadsSeeOneCommitAsAWhole":           testReadYourWrites,
		"OutcomesFitSomeOrder":                testLinearizable,
		"CloseFinishesWhatWasAccepted":        testCloseUnderLoad,
		"StoreThatIsClosedRefuses":            testClosed,
		"MasterSealIsReplacedByItsGeneration": testMasterSeal,
		"CredentialsAreReplacedTogether":      testCredentials,
		"UpdateThatFailsLeavesNothing":        testUpdateRollback,

		"LogGoesOnAfterReopening":              testResume,
		"LogOfManyKindsVerifies":               testSource,
		"LogIsPrunedBesideItsNode":             testPrune,
		"LogIsPrunedToItsLastCommit":           testPruneAll,
		"PruningThatIsNotAllowedDoesNothing":   testPruneRefused,
		"InterruptedPruningIsFinished":         testPruneInterrupted,
		"PruningKeepsItsRecords":               testPruneKeepsRecords,
		"LogOfAppendsInOneCallStaysInOrder":    testAppendMany,
		"LogIsSignedAsItGrowsAndAtClose":       testCheckpoints,
		"LogThatIsDamagedIsNotWritten":         testDamaged,
		"LogTakenByAnotherProcessEndsTheStore": testHeadMoved,
		"LogIsOpenInOneProcess":                testSecondOpen,
		"NodesShareADatabase":                  testNodes,
		"NodesMakeOneKey":                      testNodesMakeOneKey,
		"NodesMayMigrateAtOnce":                testMigrateAtOnce,
		"NewerSchemaIsRefused":                 testNewerSchema,
		"ReaderLooksOnBesideAServer":           testReadOnly,
		"CheckpointKeyOfAnotherLogIsRefused":   testForeignSigner,
		"OldCheckpointsAreReadInOrder":         testCheckpointOrder,
		"SegmentsAreReadFromWithin":            testSegmentsFrom,
	}
	maps.Copy(tests, keyWorkTests())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, url(t))
		})
	}
}

// must fails tb at an error.
func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// entries is how many the log of Node has.
func entries(tb testing.TB, s *store.Store) int64 {
	tb.Helper()
	return must[audit.Head](tb)(s.Head(tb.Context(), "cardea/"+Node)).Size
}

func sameRecord(tb testing.TB, got, want vault.Record) {
	tb.Helper()
	if d, w := got.Dedupe, want.Dedupe; (d == nil) != (w == nil) || d != nil && *d != *w {
		tb.Errorf("dedupe key %x, want %x", d, w)
	}
	if want.Dedupe == nil {
		want.HashedBy = 0
	}
	got.Dedupe, want.Dedupe = nil, nil
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		tb.Errorf("record\n got %s\nwant %s", g, w)
	}
}

// names are ids that a client may send.
func names() []string {
	return []string{
		"", " ", "plain", strings.Repeat("x", vault.MaxID), strings.Repeat("\U0001F4B3", vault.MaxID),
		"quote'\"`", "back\\slash", "%like_", "$1", "?1", "new\nline\r\ttab", "nul\u2400", "\u0001\u001f\u007f", "bom\ufeff", "\u202ertl", "e\u0301 \u00e9", "\ufffd\uffff",
		"a", "A", "null", "--;DROP TABLE record",
	}
}

func testRecordRoundTrip(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	var put []vault.Record
	for i, name := range names() {
		for j, other := range []string{name, "x"} {
			r := Record(h.ID)
			r.Customer, r.Reference = name, other
			r.Lookup = vault.LookupOf("public", "merchant_1", vault.SpaceV1, fmt.Sprint(name, j), other)
			if i%2 == 1 {
				r.Dedupe, r.Space, r.Kind = nil, vault.SpaceV2, vault.KindJSON
			}
			r.KeyVersion, r.ExpiresAt, r.Sealed = 1<<32-1, vault.Micros(1<<62), make([]byte, 1+i*i*100)
			if existing, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference)); err != nil || existing != nil {
				t.Fatalf("put with id %q: existing %v, error %v", name, existing != nil, err)
			}
			put = append(put, r)
		}
	}
	for _, want := range put {
		sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), want.Lookup)), want)
		got, holder, err := s.RecordAndHolder(t.Context(), want.Lookup)
		if err != nil {
			t.Fatal(err)
		}
		sameRecord(t, got, want)
		if fmt.Sprint(holder) != fmt.Sprint(h) {
			t.Errorf("holder %+v, want %+v", holder, h)
		}
	}
	absent := Record(h.ID).Lookup
	if _, err := s.Record(t.Context(), absent); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("absent record: %v", err)
	}
	if _, _, err := s.RecordAndHolder(t.Context(), absent); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("absent record with holder: %v", err)
	}
}

func testPutConflicts(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	a, b := Record(h.ID), Record(h.ID)
	a.ExpiresAt = 1 // long expired: it stands nevertheless
	for _, r := range []vault.Record{a, b} {
		if existing, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference)); err != nil || existing != nil {
			t.Fatal(existing, err)
		}
	}
	both := Record(h.ID)
	both.Dedupe, both.Lookup = a.Dedupe, b.Lookup
	sameDedupe, sameLookup, noDedupe := Record(h.ID), Record(h.ID), Record(h.ID)
	sameDedupe.Dedupe, sameLookup.Lookup = a.Dedupe, b.Lookup
	noDedupe.Dedupe, noDedupe.Lookup = nil, b.Lookup
	size := entries(t, s)
	for name, c := range map[string]struct{ put, want vault.Record }{
		"same card":                         {sameDedupe, a},
		"same reference":                    {sameLookup, b},
		"card of one, reference of another": {both, a},
		"same reference, no dedupe key":     {noDedupe, b},
		"the same again":                    {a, a},
	} {
		existing, err := s.PutRecord(t.Context(), c.put, Entry(t, "not written"))
		if err != nil || existing == nil {
			t.Errorf("%s: existing %v, error %v", name, existing, err)
			continue
		}
		sameRecord(t, *existing, c.want)
	}
	if got := entries(t, s); got != size {
		t.Errorf("%d entries for puts that changed nothing", got-size)
	}
	for _, r := range []vault.Record{sameDedupe} {
		if _, err := s.Record(t.Context(), r.Lookup); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("refused record is there: %v", err)
		}
	}
}

func testUpsert(t *testing.T, url string) {
	s := Open(t, url)
	h, other := Holder(t, s), holderNamed(t, s, "entity_1", []byte("secret"))
	first := Record(h.ID)
	first.Dedupe, first.ExpiresAt = nil, 5
	second := Record(other.ID)
	second.Lookup, second.Space, second.Kind, second.Customer = first.Lookup, vault.SpaceV2, vault.KindJSON, ""
	for _, r := range []vault.Record{first, second, first} {
		if err := s.UpsertRecord(t.Context(), r, Entry(t, r.Reference)); err != nil {
			t.Fatal(err)
		}
		sameRecord(t, must[vault.Record](t)(s.Record(t.Context(), r.Lookup)), r)
	}
	if got := entries(t, s); got != 5 { // with the holders'
		t.Errorf("%d entries, want 5", got)
	}
}

func testDelete(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	const expires = 1000
	del := func(l vault.Lookup, at vault.Micros) bool {
		t.Helper()
		before := entries(t, s)
		deleted, err := s.DeleteRecord(t.Context(), l, at, Entry(t, "deleted"))
		if err != nil {
			t.Fatal(err)
		}
		if wrote := entries(t, s) - before; (wrote == 1) != deleted || wrote > 1 {
			t.Errorf("deleted %v, %d entries", deleted, wrote)
		}
		return deleted
	}
	put := func(expires vault.Micros) vault.Lookup {
		r := Record(h.ID)
		r.ExpiresAt = expires
		must[*vault.Record](t)(s.PutRecord(t.Context(), r, Entry(t, r.Reference)))
		return r.Lookup
	}
	for _, c := range []struct {
		name    string
		expires vault.Micros
		at      vault.Micros
		deleted bool
	}{
		{"without condition", 0, 0, true},
		{"without condition, expiring", expires, 0, true},
		{"before it expires", expires, expires - 1, false},
		{"at its last microsecond", expires, expires, false},
		{"expired", expires, expires + 1, true},
		{"never expiring", 0, 1 << 62, false},
	} {
		l := put(c.expires)
		if got := del(l, c.at); got != c.deleted {
			t.Errorf("%s: deleted %v, want %v", c.name, got, c.deleted)
		}
		if _, err := s.Record(t.Context(), l); errors.Is(err, vault.ErrNotFound) != c.deleted {
			t.Errorf("%s: read after: %v", c.name, err)
		}
		if c.deleted && del(l, c.at) {
			t.Errorf("%s: deleted twice", c.name)
		}
	}
	if del(Record(h.ID).Lookup, 0) {
		t.Error("absent record deleted")
	}
}

func testExpired(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	var want []vault.Record
	for i := range 10 {
		r := Record(h.ID)
		r.ExpiresAt = vault.Micros(100 - i*10) // 100 … 10
		if i == 9 {
			r.ExpiresAt = 0
		}
		must[*vault.Record](t)(s.PutRecord(t.Context(), r, Entry(t, r.Reference)))
		want = append([]vault.Record{r}, want...)
	}
	want = want[1:] // without the one that never expires
	for _, c := range []struct {
		now   vault.Micros
		limit int
		n     int
	}{{0, 10, 0}, {20, 10, 0}, {21, 10, 1}, {100, 10, 8}, {101, 10, 9}, {1 << 62, 3, 3}} {
		got := must[[]vault.ExpiredRecord](t)(s.Expired(t.Context(), c.now, c.limit))
		if len(got) != c.n {
			t.Errorf("at %d, limit %d: %d rows, want %d", c.now, c.limit, len(got), c.n)
			continue
		}
		for i, e := range got {
			r := want[i]
			w := vault.ExpiredRecord{Lookup: r.Lookup, Tenant: h.Tenant, Holder: h.Name, Space: r.Space, Kind: r.Kind, Customer: r.Customer, Reference: r.Reference, ExpiresAt: r.ExpiresAt}
			if e != w {
				t.Errorf("at %d, row %d: %+v, want %+v", c.now, i, e, w)
			}
		}
	}
}

func testHolder(t *testing.T, url string) {
	s := Open(t, url)
	seen := map[int64]bool{}
	for i, name := range names() {
		h := vault.Holder{Tenant: "public", Name: name, CreatedAt: 7, ID: 99}
		if i%2 == 0 {
			h.Secret = []byte(strings.Repeat("s", 32))
		}
		got, created, err := s.PutHolder(t.Context(), h, Entry(t, "holder"))
		if err != nil || !created || seen[got.ID] || got.ID == 0 {
			t.Fatalf("holder %q: %+v created %v, error %v", name, got, created, err)
		}
		seen[got.ID], h.ID = true, got.ID
		if read := must[vault.Holder](t)(s.Holder(t.Context(), "public", name)); fmt.Sprint(read) != fmt.Sprint(h) || fmt.Sprint(got) != fmt.Sprint(h) {
			t.Errorf("holder %q: put %+v, read %+v, want %+v", name, got, read, h)
		}
		other := vault.Holder{Tenant: "public", Name: name, Secret: []byte("other"), CreatedAt: 8}
		size := entries(t, s)
		again, created, err := s.PutHolder(t.Context(), other, Entry(t, "holder"))
		if err != nil || created || fmt.Sprint(again) != fmt.Sprint(h) || entries(t, s) != size {
			t.Errorf("holder %q again: %+v created %v, error %v", name, again, created, err)
		}
	}
	if _, err := s.Holder(t.Context(), "other", "plain"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("holder of another tenant: %v", err)
	}
	if _, created, err := s.PutHolder(t.Context(), vault.Holder{Tenant: "other", Name: "plain"}, Entry(t, "holder")); !created || err != nil {
		t.Errorf("same name in another tenant: created %v, error %v", created, err)
	}
}

func testFingerprint(t *testing.T, url string) {
	s := Open(t, url)
	hash := vault.MAC{1, 2, 3}
	if _, err := s.Fingerprint(t.Context(), hash); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("unknown hash: %v", err)
	}
	for i, want := range []bool{true, false} {
		id, created, err := s.PutFingerprint(t.Context(), "public", hash, 1, fmt.Sprint("id ", i), Entry(t, "fingerprint"))
		if id != "id 0" || created != want || err != nil {
			t.Errorf("put %d: %q created %v, error %v", i, id, created, err)
		}
	}
	if id := must[string](t)(s.Fingerprint(t.Context(), hash)); id != "id 0" {
		t.Errorf("id %q", id)
	}
	if got := entries(t, s); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
}

func testKeys(t *testing.T, url string) {
	s := Open(t, url)
	key := func(version uint32, state vault.KeyState) vault.WrappedKey {
		return vault.WrappedKey{
			ID: vault.NewKeyID(), Tenant: "public", Holder: "merchant_1", Purpose: vault.PurposeRecord, Version: version, State: state,
			Mode: vault.ModeLocal, Wrapped: []byte(fmt.Sprint("wrapped ", version)), CreatedAt: 5,
		}
	}
	old, active := key(1, vault.KeyDecryptOnly), key(2, vault.KeyActive)
	tenant := key(2, vault.KeyActive)
	tenant.Holder, tenant.Purpose = "", vault.PurposeDedupe
	for _, k := range []vault.WrappedKey{old, active, tenant} {
		got, created, err := s.PutKey(t.Context(), k, Entry(t, "key"))
		if err != nil || !created || fmt.Sprint(got) != fmt.Sprint(k) {
			t.Fatalf("put: %+v created %v, error %v", got, created, err)
		}
		if read := must[vault.WrappedKey](t)(s.Key(t.Context(), k.ID, k.Version)); fmt.Sprint(read) != fmt.Sprint(k) {
			t.Errorf("read %+v, want %+v", read, k)
		}
	}
	for _, c := range []struct {
		tenant, holder string
		p              vault.Purpose
		want           *vault.WrappedKey
	}{
		{"public", "merchant_1", vault.PurposeRecord, &active},
		{"public", "", vault.PurposeDedupe, &tenant},
		{"public", "", vault.PurposeRecord, nil},
		{"public", "merchant_1", vault.PurposeDedupe, nil},
		{"other", "merchant_1", vault.PurposeRecord, nil},
	} {
		got, err := s.ActiveKey(t.Context(), c.tenant, c.holder, c.p)
		if c.want == nil && !errors.Is(err, vault.ErrNotFound) || c.want != nil && (err != nil || fmt.Sprint(got) != fmt.Sprint(*c.want)) {
			t.Errorf("active key of %s/%s for %s: %+v, %v", c.tenant, c.holder, c.p, got, err)
		}
	}
	if _, err := s.Key(t.Context(), old.ID, 2); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("version that is not there: %v", err)
	}
	size := entries(t, s)
	got, created, err := s.PutKey(t.Context(), key(2, vault.KeyActive), Entry(t, "key"))
	if err != nil || created || fmt.Sprint(got) != fmt.Sprint(active) || entries(t, s) != size {
		t.Errorf("version that is taken: %+v created %v, error %v", got, created, err)
	}
	// A key id names one key: another use of it is a mistake, not a race.
	double := key(3, vault.KeyActive)
	double.ID, double.Version, double.Holder = active.ID, active.Version, "merchant_2"
	if _, _, err := s.PutKey(t.Context(), double, Entry(t, "key")); err == nil || errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("key id used twice: %v", err)
	}
}

func testText(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	size := entries(t, s)
	for _, bad := range []string{"nul\x00", "\xff", "\xc3\x28"} {
		r := Record(h.ID)
		r.Reference = bad
		_, err := s.PutRecord(t.Context(), r, Entry(t, "bad"))
		err2 := s.UpsertRecord(t.Context(), r, Entry(t, "bad"))
		_, _, err3 := s.PutHolder(t.Context(), vault.Holder{Tenant: "public", Name: bad}, Entry(t, "bad"))
		_, _, err4 := s.PutFingerprint(t.Context(), "public", vault.MAC{9}, 1, bad, Entry(t, "bad"))
		_, _, err5 := s.PutKey(t.Context(), vault.WrappedKey{Tenant: "public", Holder: bad}, Entry(t, "bad"))
		for i, err := range []error{err, err2, err3, err4, err5} {
			if err == nil || err.Error() != "text has a NUL character or is not UTF-8" {
				t.Errorf("%q, call %d: %v", bad, i, err)
			}
		}
		if _, err := s.Holder(t.Context(), "public", bad); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("holder %q: %v", bad, err)
		}
	}
	if got := entries(t, s); got != size {
		t.Errorf("%d entries for nothing", got-size)
	}
}

func testProbe(t *testing.T, url string) {
	s := Open(t, url)
	for range 2 {
		if p := s.Probe(t.Context()); p != (vault.Probe{}) {
			t.Errorf("probe: %+v", p)
		}
	}
	var wg sync.WaitGroup
	for range 4 { // a load balancer and an operator look at once
		wg.Go(func() {
			for range 25 {
				if p := s.Probe(t.Context()); p != (vault.Probe{}) {
					t.Errorf("probe beside others: %+v", p)
				}
			}
		})
	}
	wg.Wait()
	if got := entries(t, s); got != 0 {
		t.Errorf("%d entries for a probe", got)
	}
	must[struct{}](t)(struct{}{}, s.Close())
	p := s.Probe(t.Context())
	for name, err := range map[string]error{"connect": p.Connect, "read": p.Read, "write": p.Write, "delete": p.Delete} {
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
}

func testConcurrentAdds(t *testing.T, url string) {
	s, gate := OpenGated(t, url)
	h := Holder(t, s)
	card := Record(h.ID).Dedupe
	const n = 32
	var mu sync.Mutex
	var winners []vault.Record
	references := map[string]int{}
	add := func() {
		r := Record(h.ID)
		r.Dedupe = card
		existing, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference))
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			t.Error(err)
		case existing == nil:
			winners = append(winners, r)
			references[r.Reference]++
		default:
			references[existing.Reference]++
		}
	}
	calls := make([]func(), n)
	for i := range calls {
		calls[i] = add
	}
	gate.Together(t, calls...) // one commit
	var wg sync.WaitGroup
	for range n { // as it comes
		wg.Go(add)
	}
	wg.Wait()
	if len(winners) != 1 || len(references) != 1 || references[winners[0].Reference] != 2*n {
		t.Errorf("%d stored it, the answers are %v", len(winners), references)
	}
	if got := entries(t, s); got != 2 {
		t.Errorf("%d entries, want the holder's and one", got)
	}
}

func testManyCallers(t *testing.T, url string) {
	s := Open(t, url)
	h := Holder(t, s)
	const callers, each = 16, 25
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range each {
				r := Record(h.ID)
				if _, err := s.PutRecord(t.Context(), r, Entry(t, r.Reference)); err != nil {
					t.Error(err)
					return
				}
				got, err := s.Record(t.Context(), r.Lookup)
				if err != nil {
					t.Error(err)
					return
				}
				sameRecord(t, got, r)
				if i%3 == 0 {
					if deleted, err := s.DeleteRecord(t.Context(), r.Lookup, 0, Entry(t, r.Reference)); !deleted || err != nil {
						t.Errorf("own record deleted %v, error %v", deleted, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got, want := entries(t, s), int64(1+callers*(each+9)); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	Verify(t, s)
}

func testClosed(t *testing.T, url string) {
	s := Open(t, url)
	must[struct{}](t)(struct{}{}, s.Close())
	must[struct{}](t)(struct{}{}, s.Close()) // again
	if err := s.Append(t.Context(), Entry(t, "late")); !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, store.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := s.Record(t.Context(), vault.Lookup{}); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
}
