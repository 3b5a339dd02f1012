// Package identitytest has what tests of identities need in place of a database and
// a root key: a store in memory, with faults on request, and secrets sealed under a
// key of their own.
package identitytest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"cardea/internal/audit"
	"cardea/internal/identity"
)

// Store is an identity.Store in memory. Several services may share it, as nodes do.
type Store struct {
	mu      sync.Mutex
	rows    map[identity.Name]identity.Row // replaced as a whole, never changed in place
	log     []audit.Sealed
	changes []identity.Name
	fault   func(call string) error
	reads   int

	forgotten int64
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{rows: map[identity.Name]identity.Row{}} }

// Fail makes calls fail: f gets the name of each, Append, Update, Get and so on, and
// returns nil to let it pass. nil takes the fault away. f must not call the store.
func (s *Store) Fail(f func(call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Entries are the lines of the audit log.
func (s *Store) Entries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.log {
		out = append(out, string(e.Line))
	}
	return out
}

// Rows are copies of all rows, ordered by kind, account and name.
func (s *Store) Rows() []identity.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := slices.Collect(maps.Values(s.rows))
	slices.SortFunc(rows, func(a, b identity.Row) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name))
	})
	return rows
}

// SetBody replaces the body of a row behind the services' backs, as a fault of the
// disk would.
func (s *Store) SetBody(n identity.Name, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[n]
	row.Body = body
	s.rows = maps.Clone(s.rows)
	s.rows[n] = row
	s.changes = append(s.changes, n)
}

// Forget makes the store know no changes but those to come.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = int64(len(s.changes))
}

// Reads counts calls of Get and List outside of transactions.
func (s *Store) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// enter counts a call and fails it on request. The caller holds s.mu.
func (s *Store) enter(call string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(call)
}

func (s *Store) reader(call string) (reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return reader{s.rows}, s.enter(call)
}

// Get implements identity.Store, as do the methods below.
func (s *Store) Get(ctx context.Context, kind identity.Kind, account, name string) (*identity.Row, error) {
	r, err := s.reader("Get")
	if err != nil {
		return nil, err
	}
	return r.Get(ctx, kind, account, name)
}

func (s *Store) List(ctx context.Context, kind identity.Kind, account, after string, limit int) ([]identity.Row, error) {
	r, err := s.reader("List")
	if err != nil {
		return nil, err
	}
	return r.List(ctx, kind, account, after, limit)
}

func (s *Store) Append(_ context.Context, entries ...audit.Sealed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Append"); err != nil {
		return err
	}
	s.log = append(s.log, entries...)
	return nil
}

func (s *Store) Update(_ context.Context, fn func(identity.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Update"); err != nil {
		return err
	}
	t := &tx{reader: reader{maps.Clone(s.rows)}}
	if err := fn(t); err != nil {
		return err
	}
	if len(t.entries) == 0 {
		panic("a change without an audit entry")
	}
	if err := s.enter("Commit"); err != nil {
		return err
	}
	s.rows, s.log, s.changes = t.rows, append(s.log, t.entries...), append(s.changes, t.changes...)
	return nil
}

func (s *Store) Changes(_ context.Context, after int64) ([]identity.Name, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("Changes"); err != nil {
		return nil, 0, err
	}
	n := int64(len(s.changes))
	switch {
	case after < 0:
		return nil, n, nil
	case after < s.forgotten:
		return nil, n, identity.ErrForgotten
	}
	last := min(after+changesLimit, n)
	return slices.Clone(s.changes[min(after, n):last]), last, nil
}

// changesLimit is small, so that tests see lists that are cut.
const changesLimit = 3

func (s *Store) DeleteExpired(_ context.Context, at time.Time, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter("DeleteExpired"); err != nil {
		return 0, err
	}
	rows, n := maps.Clone(s.rows), 0
	for name, r := range s.rows {
		if n < limit && !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(at) {
			delete(rows, name)
			n++
		}
	}
	s.rows = rows
	return n, nil
}

// reader reads one state.
type reader struct {
	rows map[identity.Name]identity.Row
}

func (r reader) Get(_ context.Context, kind identity.Kind, account, name string) (*identity.Row, error) {
	row, found := r.rows[identity.Name{Kind: kind, Account: account, Name: name}]
	if !found {
		return nil, identity.ErrNoRow
	}
	row.Body = slices.Clone(row.Body)
	return &row, nil
}

func (r reader) List(_ context.Context, kind identity.Kind, account, after string, limit int) ([]identity.Row, error) {
	var out []identity.Row
	for n, row := range r.rows {
		if n.Kind == kind && n.Account == account && n.Name > after {
			row.Body = slices.Clone(row.Body)
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b identity.Row) int { return cmp.Compare(a.Name, b.Name) })
	return out[:min(len(out), limit)], nil
}

// tx changes a copy of the state.
type tx struct {
	reader
	entries []audit.Sealed
	changes []identity.Name
}

func (t *tx) Put(_ context.Context, r *identity.Row) error {
	n := identity.Name{Kind: r.Kind, Account: r.Account, Name: r.Name}
	old, found := t.rows[n]
	if found != (r.Version != 0) || found && old.Version != r.Version {
		return identity.ErrChanged
	}
	c := *r
	c.Body = slices.Clone(r.Body)
	c.Version++
	t.rows[n] = c
	t.changes = append(t.changes, n)
	return nil
}

func (t *tx) Delete(_ context.Context, kind identity.Kind, account, name string) error {
	n := identity.Name{Kind: kind, Account: account, Name: name}
	if _, found := t.rows[n]; !found {
		return identity.ErrChanged
	}
	delete(t.rows, n)
	t.changes = append(t.changes, n)
	return nil
}

func (t *tx) Append(e audit.Sealed) { t.entries = append(t.entries, e) }

var _ identity.Store = (*Store)(nil)
