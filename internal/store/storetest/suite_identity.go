package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/identity"
)

// RunIdentities tests an identity.Store, as RunKeyService does a kms.Store.
func RunIdentities(t *testing.T, open func(testing.TB) IdentitiesUnderTest) {
	for name, test := range map[string]func(*testing.T, IdentitiesUnderTest){
		"RowsComeBackAsTheyWentIn":          testIdentityRoundTrip,
		"RowIsReplacedInItsVersion":         testIdentityVersions,
		"RowsAreListedInPages":              testIdentityPages,
		"ExpiredRowsAreRemoved":             testIdentityExpiry,
		"ChangesAreTold":                    testIdentityChanges,
		"TransactionThatFailsLeavesNothing": testIdentityRollback,
		"ManySessionsAtOnceAreAllThere":     testManySessions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// PutIdentity stores rows.
func PutIdentity(tb testing.TB, s identity.Store, rows ...*identity.Row) {
	tb.Helper()
	err := tryIdentities(tb, s, func(tx identity.Tx) error {
		for _, r := range rows {
			if err := tx.Put(tb.Context(), r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func testIdentityRoundTrip(t *testing.T, s IdentitiesUnderTest) {
	for i, name := range names() {
		if name == "" {
			continue
		}
		r := IdentityRow("user", name)
		r.Body = make([]byte, i*i*100)
		if i%2 == 0 {
			r.Account, r.ExpiresAt = "", time.Date(2027, 1, 1, 0, 0, i, 123456000, time.UTC)
		}
		PutIdentity(t, s, r)
		if r.Version != 0 {
			t.Errorf("what was stored has been changed: version %d", r.Version)
		}
		got := must[*identity.Row](t)(s.Get(t.Context(), r.Kind, r.Account, r.Name))
		if string(got.Body) != string(r.Body) || !got.ExpiresAt.Equal(r.ExpiresAt) || got.ExpiresAt.IsZero() != r.ExpiresAt.IsZero() ||
			got.Version != 1 || got.Kind != r.Kind || got.Account != r.Account || got.Name != r.Name {
			t.Errorf("row %q: %+v", name, got)
		}
		for _, other := range []identity.Row{{Kind: "role", Account: r.Account, Name: name}, {Kind: "user", Account: "444455556666", Name: name}} {
			if _, err := s.Get(t.Context(), other.Kind, other.Account, other.Name); !errors.Is(err, identity.ErrNoRow) {
				t.Errorf("%s %q of %q: %v", other.Kind, name, other.Account, err)
			}
		}
	}
}

// testIdentityLimits is no test of a store in memory, which takes anything.
func testIdentityLimits(t *testing.T, s IdentitiesUnderTest) {
	long := IdentityRow("user", "long")
	long.Body = make([]byte, 256<<10)
	PutIdentity(t, s, long)
	longer := IdentityRow("user", "longer")
	longer.Body = make([]byte, 256<<10+1)
	for _, c := range []struct {
		row  *identity.Row
		want string
	}{
		{longer, "user longer: body of 262145 bytes, at most 262144 are kept"},
		{IdentityRow("user", "nul\x00"), "text has a NUL character or is not UTF-8"},
		{IdentityRow("user", "\xff"), "text has a NUL character or is not UTF-8"},
		{&identity.Row{Kind: "\xff", Name: "a"}, "text has a NUL character or is not UTF-8"},
	} {
		err := tryIdentities(t, s, func(tx identity.Tx) error { return tx.Put(t.Context(), c.row) })
		if err == nil || err.Error() != c.want {
			t.Errorf("put of %q: %v, want %q", c.row.Name, err, c.want)
		}
		if _, err := s.Get(t.Context(), c.row.Kind, c.row.Account, c.row.Name); !errors.Is(err, identity.ErrNoRow) {
			t.Errorf("get of %q: %v", c.row.Name, err)
		}
		err = tryIdentities(t, s, func(tx identity.Tx) error { return tx.Delete(t.Context(), c.row.Kind, c.row.Account, c.row.Name) })
		if !errors.Is(err, identity.ErrChanged) {
			t.Errorf("delete of %q: %v", c.row.Name, err)
		}
	}
	if got := s.Entries(t); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
}

func testIdentityVersions(t *testing.T, s IdentitiesUnderTest) {
	put := func(version int64, body string) error {
		r := IdentityRow("user", "ann")
		r.Version, r.Body = version, []byte(body)
		return tryIdentities(t, s, func(tx identity.Tx) error { return tx.Put(t.Context(), r) })
	}
	for i, c := range []struct {
		version int64
		want    error
	}{{1, identity.ErrChanged}, {0, nil}, {0, identity.ErrChanged}, {2, identity.ErrChanged}, {1, nil}, {1, identity.ErrChanged}, {2, nil}} {
		size := s.Entries(t)
		if err := put(c.version, fmt.Sprint("step ", i)); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
		if wrote := s.Entries(t) - size; wrote != map[bool]int64{true: 1}[c.want == nil] {
			t.Errorf("step %d: %d entries", i, wrote)
		}
		if c.want == nil {
			got := must[*identity.Row](t)(s.Get(t.Context(), "user", Account, "ann"))
			if got.Version != c.version+1 || string(got.Body) != fmt.Sprint("step ", i) {
				t.Errorf("step %d: version %d %q", i, got.Version, got.Body)
			}
		}
	}
	for _, want := range []error{nil, identity.ErrChanged} {
		err := tryIdentities(t, s, func(tx identity.Tx) error { return tx.Delete(t.Context(), "user", Account, "ann") })
		if !errors.Is(err, want) {
			t.Errorf("delete: %v, want %v", err, want)
		}
	}
	if err := put(0, "again"); err != nil {
		t.Errorf("a name that is free again: %v", err)
	}
}

func testIdentityPages(t *testing.T, s IdentitiesUnderTest) {
	var want []string
	for _, name := range []string{"z", "B", "a", "aa", "a/b", "_", "0", "\U0001F511"} {
		other, role := IdentityRow("user", name), IdentityRow("role", name)
		other.Account = "444455556666"
		PutIdentity(t, s, IdentityRow("user", name), other, role)
		want = append(want, name)
	}
	slices.Sort(want) // by their bytes
	name := func(r identity.Row) string { return r.Name }
	pages(t, "rows", name, func(after string, limit int) ([]identity.Row, error) {
		return s.List(t.Context(), "user", Account, after, limit)
	}, want)
	err := tryIdentities(t, s, func(tx identity.Tx) error {
		pages(t, "rows", name, func(after string, limit int) ([]identity.Row, error) {
			return tx.List(t.Context(), "user", Account, after, limit)
		}, want)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if rows := must[[]identity.Row](t)(s.List(t.Context(), "group", Account, "", 9)); len(rows) != 0 {
		t.Errorf("rows of a kind that has none: %v", rows)
	}
}

func testIdentityExpiry(t *testing.T, s IdentitiesUnderTest) {
	at := func(second int) time.Time { return time.Date(2027, 1, 1, 0, 0, second, 0, time.UTC) }
	for i := range 10 {
		r := IdentityRow("session", fmt.Sprint("s", i))
		if i < 8 {
			r.ExpiresAt = at(i)
		}
		PutIdentity(t, s, r)
	}
	size := s.Entries(t)
	left := func() (names []string) {
		for _, r := range must[[]identity.Row](t)(s.List(t.Context(), "session", Account, "", 99)) {
			names = append(names, r.Name)
		}
		return names
	}
	for _, c := range []struct {
		at    time.Time
		limit int
		n     int
		left  int
	}{
		{at(0).Add(-time.Microsecond), 9, 0, 10},
		{at(0), 9, 1, 9},
		{at(5), 3, 3, 6},
		{at(5), 9, 2, 4},
		{at(5), 9, 0, 4},
		{at(3600), 9, 2, 2},
	} {
		n, err := s.DeleteExpired(t.Context(), c.at, c.limit)
		if got := left(); n != c.n || err != nil || len(got) != c.left {
			t.Errorf("at %v, limit %d: %d removed, %q left, %v; want %d removed, %d left", c.at, c.limit, n, got, err, c.n, c.left)
		}
	}
	if got := left(); !slices.Equal(got, []string{"s8", "s9"}) {
		t.Errorf("left %q, want those that never expire", got)
	}
	if got := s.Entries(t); got != size {
		t.Errorf("%d entries", got-size)
	}
}

// namesSince reads all changes after a number, and moves it.
func namesSince(t *testing.T, s identity.Store, after *int64) map[identity.Name]bool {
	t.Helper()
	all := map[identity.Name]bool{}
	for {
		changes, last, err := s.Changes(t.Context(), *after)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			all[c] = true
		}
		if last <= *after {
			return all
		}
		*after = last
	}
}

func testIdentityChanges(t *testing.T, s IdentitiesUnderTest) {
	name := func(n string) identity.Name { return identity.Name{Kind: "user", Account: Account, Name: n} }
	_, seen, err := s.Changes(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func(tx identity.Tx) error
		want []identity.Name
	}{
		{"made", func(tx identity.Tx) error {
			return errors.Join(tx.Put(t.Context(), IdentityRow("user", "ann")), tx.Put(t.Context(), IdentityRow("user", "bob")))
		}, []identity.Name{name("ann"), name("bob")}},
		{"changed", func(tx identity.Tx) error {
			r, err := tx.Get(t.Context(), "user", Account, "ann")
			return errors.Join(err, tx.Put(t.Context(), r))
		}, []identity.Name{name("ann")}},
		{"deleted", func(tx identity.Tx) error { return tx.Delete(t.Context(), "user", Account, "ann") }, []identity.Name{name("ann")}},
		{"nothing", func(tx identity.Tx) error { return nil }, nil},
		{"many", func(tx identity.Tx) error {
			for i := range 1500 {
				if err := tx.Put(t.Context(), IdentityRow("user", fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		}, func() (ns []identity.Name) {
			for i := range 1500 {
				ns = append(ns, name(fmt.Sprint(i)))
			}
			return ns
		}()},
	} {
		if err := tryIdentities(t, s, c.do); err != nil {
			t.Fatal(err)
		}
		want := map[identity.Name]bool{}
		for _, n := range c.want {
			want[n] = true
		}
		if got := namesSince(t, s, &seen); !maps.Equal(got, want) {
			t.Errorf("%s: changes %v, want %v", c.name, got, want)
		}
		if got := namesSince(t, s, &seen); len(got) != 0 {
			t.Errorf("%s: told twice: %v", c.name, got)
		}
	}
	if changes, last, err := s.Changes(t.Context(), -1); len(changes) != 0 || last < seen || err != nil {
		t.Errorf("changes after -1: %v, %d, %v; want none after %d", changes, last, err, seen)
	}
}

func testIdentityRollback(t *testing.T, s IdentitiesUnderTest) {
	mine := errors.New("mine")
	ann, bob := IdentityRow("user", "ann"), IdentityRow("user", "bob")
	PutIdentity(t, s, bob)
	_, seen, err := s.Changes(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fn   func(identity.Tx) error
		want func(error) bool
	}{
		"fails after it has written": {func(tx identity.Tx) error {
			tx.Append(Entry(t, "update"))
			return errors.Join(tx.Put(t.Context(), ann), mine)
		}, func(err error) bool { return errors.Is(err, mine) }},
		"meets another version": {func(tx identity.Tx) error {
			tx.Append(Entry(t, "update"))
			return errors.Join(tx.Put(t.Context(), ann), tx.Put(t.Context(), bob))
		}, func(err error) bool { return errors.Is(err, identity.ErrChanged) }},
		"misses a row": {func(tx identity.Tx) error {
			tx.Append(Entry(t, "update"))
			_, err := tx.Get(t.Context(), "user", Account, "cy")
			return err
		}, func(err error) bool { return errors.Is(err, identity.ErrNoRow) }},
		"has no entry": {func(tx identity.Tx) error {
			return tx.Put(t.Context(), ann)
		}, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "change without an audit entry")
		}},
	} {
		if err := recovered(func() error { return s.Update(t.Context(), c.fn) }); !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Get(t.Context(), "user", Account, "ann"); !errors.Is(err, identity.ErrNoRow) {
			t.Errorf("%s: row is there: %v", name, err)
		}
		if got := s.Entries(t); got != 1 {
			t.Errorf("%s: %d entries", name, got)
		}
		if got := namesSince(t, s, &seen); len(got) != 0 {
			t.Errorf("%s: changes %v", name, got)
		}
	}
}

func testManySessions(t *testing.T, s IdentitiesUnderTest) {
	const callers, each = 64, 4
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				r := IdentityRow("session", fmt.Sprint(i, "-", j))
				r.Account, r.ExpiresAt = "", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
				if err := tryIdentities(t, s, func(tx identity.Tx) error { return tx.Put(t.Context(), r) }); err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Get(t.Context(), "session", "", r.Name); err != nil {
					t.Errorf("own session: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if rows := must[[]identity.Row](t)(s.List(t.Context(), "session", "", "", 1000)); len(rows) != callers*each {
		t.Errorf("%d sessions, want %d", len(rows), callers*each)
	}
	if got := s.Entries(t); got != callers*each {
		t.Errorf("%d entries, want %d", got, callers*each)
	}
}
