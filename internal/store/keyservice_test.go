package store_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

var (
	_ kms.Store      = (*store.KeyService)(nil)
	_ identity.Store = (*store.Identities)(nil)
)

func TestKeyServiceSQLite(t *testing.T) {
	storetest.RunKeyService(t, storetest.KeyService(storetest.SQLite))
}

func TestKeyServicePostgres(t *testing.T) {
	storetest.RunKeyService(t, storetest.KeyService(storetest.Postgres))
}

func TestKeyServiceOnSQLite(t *testing.T) { storetest.RunKeyDatabase(t, storetest.SQLite) }

func TestKeyServiceOnPostgres(t *testing.T) { storetest.RunKeyDatabase(t, storetest.Postgres) }

func TestIdentitiesSQLite(t *testing.T) {
	storetest.RunIdentities(t, storetest.Identities(storetest.SQLite))
}

func TestIdentitiesPostgres(t *testing.T) {
	storetest.RunIdentities(t, storetest.Identities(storetest.Postgres))
}

// TestKeyServiceInMemory holds what tests of the key service use to what they will
// meet.
func TestKeyServiceInMemory(t *testing.T) {
	storetest.RunKeyService(t, func(testing.TB) storetest.KeyStoreUnderTest {
		s := kmstest.NewStore()
		return storetest.KeyStoreUnderTest{Store: s, Entries: func(testing.TB) int64 { return int64(len(s.Entries())) }}
	})
}

// TestChangesThatWereRemovedAreMissed: who asks for changes that are no longer known
// is told so, and where to go on.
func TestChangesThatWereRemovedAreMissed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) { changesForgotten(t, db.URL(t)) })
}

func changesForgotten(t *testing.T, url string) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	s := storetest.Open(t, url, func(o *store.Options) {
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	later := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	ks, ids := store.NewKeyService(s), store.NewIdentities(s)
	change := func() {
		storetest.PutKey(t, ks, storetest.Key(), storetest.Key(), storetest.Key(), storetest.Key(), storetest.Key())
		storetest.PutIdentity(t, ids, storetest.IdentityRow("user", storetest.Key().ID))
	}
	change()
	_, early, err1 := ks.Changes(t.Context(), 0)
	_, earlyID, err2 := ids.Changes(t.Context(), 0)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	later(time.Hour)
	change()
	_, middle, err1 := ks.Changes(t.Context(), -1)
	later(23 * time.Hour)
	change()
	prune := func() {
		t.Helper()
		if err := s.PruneChanges(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	prune()
	if changes, _, err := ks.Changes(t.Context(), early); len(changes) != 10 || err != nil {
		t.Errorf("changes of a day: %d, %v; want 10", len(changes), err)
	}
	later(time.Hour + time.Second)
	prune()
	changes, last, err := ks.Changes(t.Context(), early)
	if len(changes) != 0 || !errors.Is(err, kms.ErrForgotten) || errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("changes after some that were removed: %v, %v", changes, err)
	}
	if _, _, err := ids.Changes(t.Context(), earlyID); err == nil || !strings.Contains(err.Error(), "changes are no longer known") {
		t.Errorf("changes of identities after some that were removed: %v", err)
	}
	if changes, _, err := ks.Changes(t.Context(), middle); len(changes) != 5 || err1 != nil || err != nil {
		t.Errorf("changes after the last that was removed: %d, %v", len(changes), err)
	}
	if changes, _, err := ks.Changes(t.Context(), 0); len(changes) != 5 || err != nil {
		t.Errorf("changes for one who knows nothing: %d, %v", len(changes), err)
	}
	change()
	if changes, _, err := ks.Changes(t.Context(), last); len(changes) != 5 || err != nil {
		t.Errorf("changes after those that were missed: %d, %v", len(changes), err)
	}
}
