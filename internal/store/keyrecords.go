package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"cardea/internal/vault"
)

// scanWindow is how many rows a statement looks at, at most. What looks at more
// does so in several, so that none takes long. Tests have s.window less.
const scanWindow = 20_000

// rowSet is rows of table record r that a condition is looked for in: those of a
// holder, along their index, or, if holder is 0, all, along the primary key.
type rowSet struct{ holder int64 }

// between is the condition of rows with numbers above $1 and up to $2, and their
// order. $3 is the holder, if there is one. PostgreSQL gets it as a comparison of
// rows: the primary key would give the order, too, but only the index fits this.
func (r rowSet) between(c session) (where, order string) {
	_, reader := c.(*postgresSession)
	_, writer := c.(*postgresWriter)
	switch {
	case r.holder == 0:
		return "r.id > $1 AND r.id <= $2", "r.id"
	case reader || writer:
		return "(r.holder_id, r.id) > ($3, $1) AND (r.holder_id, r.id) <= ($3, $2)", "r.holder_id, r.id"
	default:
		return "r.id > $1 AND r.id <= $2 AND r.holder_id = $3", "r.id"
	}
}

func (r rowSet) args(after, to int64) []any {
	if r.holder == 0 {
		return []any{after, to}
	}
	return []any{after, to, r.holder}
}

// sought is rows of a set that meet a condition. $%d stand in it for its arguments.
type sought struct {
	rowSet
	condition string
	with      []any
}

// query is the SQL that reads what of the rows between two numbers, in order. tail
// may have one parameter more, as $%d.
func (q sought) query(c session, what, tail string, after, to int64, more ...any) (sql string, args []any) {
	args = q.args(after, to)
	where, order := q.between(c)
	sql = what + " WHERE " + where
	if q.condition != "" {
		sql += " AND " + numbered(q.condition, len(args), len(q.with))
		args = append(args, q.with...)
	}
	if tail != "" {
		sql += " ORDER BY " + order + numbered(tail, len(args), len(more))
		args = append(args, more...)
	}
	return sql, args
}

// numbered gives n parameters the numbers after used.
func numbered(text string, used, n int) string {
	numbers := make([]any, n)
	for i := range numbers {
		numbers[i] = used + i + 1
	}
	return fmt.Sprintf(text, numbers...)
}

// walk calls fn with stretches of the set after a row number, the first of so many
// rows, the next ones longer, until there are no more or fn has enough. It returns
// the last number that it has been at. fn may run twice on a stretch.
func (s *Store) walk(
	ctx context.Context, set rowSet, after, first int64, fn func(ctx context.Context, c session, after, to int64) error, enough func() bool,
) (int64, error) {
	for stretch := min(first, s.window); ; stretch = min(4*stretch, s.window) {
		var n, last int64
		err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
			window, args := sought{rowSet: set}.query(c, "SELECT r.id FROM record r", " LIMIT $%d", after, math.MaxInt64, stretch)
			_, err := queryOne(ctx, c, []any{&n, &last}, "SELECT count(*), coalesce(max(id), 0) FROM ("+window+") AS stretch", args...)
			if err != nil || n == 0 {
				return err
			}
			return fn(ctx, c, after, last)
		})
		if err != nil || n == 0 {
			return after, err
		}
		after = last
		if n < stretch || enough() {
			return after, nil
		}
		if ctx.Err() != nil {
			return after, unavailable(context.Cause(ctx))
		}
	}
}

// count counts rows.
func (s *Store) count(ctx context.Context, q sought) (total int64, err error) {
	_, err = s.countAfter(ctx, q, &total, func() bool { return false })
	return total, err
}

func (s *Store) countAfter(ctx context.Context, q sought, total *int64, enough func() bool) (last int64, err error) {
	before := int64(0)
	return s.walk(ctx, q.rowSet, 0, s.window, func(ctx context.Context, c session, after, to int64) error {
		sql, args := q.query(c, "SELECT count(*) FROM record r LEFT JOIN holder h ON h.id = r.holder_id", "", after, to)
		var n int64
		_, err := queryOne(ctx, c, []any{&n}, sql, args...)
		*total = before + n
		return err
	}, func() bool {
		before = *total
		return enough()
	})
}

// selectHeld joins rows with their holders. A row without one, which there should
// not be, is not left out.
const selectHeld = `SELECT r.id, r.lookup, r.dedupe, r.holder_id, r.space, r.kind, r.customer, r.reference, r.mode, r.key_id,
	r.key_version, r.sealed, r.created_at, r.expires_at, r.hashed_by,
	coalesce(h.id, 0), coalesce(h.tenant, ''), coalesce(h.name, ''), h.secret, coalesce(h.created_at, 0)
	FROM record r LEFT JOIN holder h ON h.id = r.holder_id`

// heldRow is a row of selectHeld as it is scanned.
type heldRow struct {
	recordAndHolderRow
	vault.HeldRecord
	to []any
}

func newHeldRow() *heldRow {
	h := new(heldRow)
	h.to = append([]any{&h.Row}, h.targets(&h.Record, &h.Holder)...)
	return h
}

// read returns what scan stores.
func (h *heldRow) read(scan scanFunc) (vault.HeldRecord, error) {
	h.HeldRecord = vault.HeldRecord{}
	if err := scan(h.to...); err != nil {
		return vault.HeldRecord{}, err
	}
	err := h.fill(&h.Record, &h.Holder)
	return h.HeldRecord, err
}

// list reads up to limit rows after a row number.
func (s *Store) list(ctx context.Context, q sought, after int64, limit int) ([]vault.HeldRecord, error) {
	if limit <= 0 {
		return nil, nil
	}
	var rows []vault.HeldRecord
	before := 0
	row := newHeldRow()
	_, err := s.walk(ctx, q.rowSet, after, int64(limit), func(ctx context.Context, c session, after, to int64) error {
		rows = rows[:before]
		sql, args := q.query(c, selectHeld, " LIMIT $%d", after, to, int64(limit-before))
		return c.query(ctx, func(scan scanFunc) error {
			h, err := row.read(scan)
			rows = append(rows, h)
			return err
		}, sql, args...)
	}, func() bool {
		before = len(rows)
		return before >= limit
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// under is the rows under a key version. Those under a key of a merchant are the
// merchant's; those under a key of the tenant may be anybody's, and are looked for
// in the whole table. found is false where there can be none.
func (s *Store) under(ctx context.Context, v vault.KeyVersion) (q sought, found bool, err error) {
	k, err := s.Key(ctx, v.ID, v.Version)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return sought{}, false, err
	}
	q = sought{condition: "r.key_id = $%d AND r.key_version = $%d", with: []any{v.ID[:], int64(v.Version)}}
	if k.Holder != "" {
		// On a connection that reads: that of Holder waits for the commit of the batch before.
		var h *vault.Holder
		err := s.view(ctx, readHolder, func(ctx context.Context, c session) (err error) {
			h, err = selectHolder(ctx, c, k.Tenant, k.Holder)
			return err
		})
		if err != nil || h == nil {
			return sought{}, false, err
		}
		q.holder = h.ID
	}
	return q, true, nil
}

// CountRecords takes time for each row of the merchant whose key it is, or, of a key
// of the tenant, for each row that there is.
func (s *Store) CountRecords(ctx context.Context, v vault.KeyVersion) (int64, error) {
	q, found, err := s.under(ctx, v)
	if err != nil || !found {
		return 0, err
	}
	return s.count(ctx, q)
}

// RecordsUnder implements vault.KeyWork.
func (s *Store) RecordsUnder(ctx context.Context, v vault.KeyVersion, after int64, limit int) ([]vault.HeldRecord, error) {
	q, found, err := s.under(ctx, v)
	if err != nil || !found {
		return nil, err
	}
	return s.list(ctx, q, after, limit)
}

// RecordsAmong reads every row after the number until it has found its own, in the
// order in which they lie in the database.
func (s *Store) RecordsAmong(ctx context.Context, under map[vault.KeyVersion]bool, after int64, limit int) ([]vault.HeldRecord, error) {
	if limit <= 0 {
		return nil, nil
	}
	rows := make([]vault.HeldRecord, 0, limit)
	row := newHeldRow()
	for stretch := min(int64(limit), s.window); ; stretch = min(4*stretch, s.window) {
		before, seen, last := len(rows), int64(0), after
		err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
			rows, seen = rows[:before], 0
			sql, args := sought{}.query(c, selectHeld, " LIMIT $%d", after, math.MaxInt64, stretch)
			return c.query(ctx, func(scan scanFunc) error {
				if len(rows) == limit {
					return nil
				}
				h, err := row.read(scan)
				if seen, last = seen+1, h.Row; under[vault.KeyVersion{ID: h.Key, Version: h.KeyVersion}] {
					rows = append(rows, h)
				}
				return err
			}, sql, args...)
		})
		switch {
		case err != nil:
			return nil, err
		case len(rows) == limit, seen < stretch:
			return rows, nil
		case ctx.Err() != nil:
			return nil, unavailable(context.Cause(ctx))
		}
		after = last
	}
}

// passShare is the share of all rows, one in so many, from which on a pass pays.
const passShare = 4

// PassPays looks at what a batch changes. In SQLite that is pages: a hundred rows in
// a line lie on ten, a hundred of one merchant on up to a hundred. In PostgreSQL a
// row that is alone on its page takes the room of one that was moved before, and its
// indexes stay as they are, which those in a line would all need anew.
func (s *Store) PassPays(ctx context.Context, rows int64) (bool, error) {
	if _, is := s.db.(*sqliteDB); !is {
		return false, nil
	}
	var last int64
	err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
		_, err := queryOne(ctx, c, []any{&last}, "SELECT coalesce(max(id), 0) FROM record")
		return err
	})
	return rows >= last/passShare, err
}

// RecordsOf implements vault.KeyWork.
func (s *Store) RecordsOf(ctx context.Context, tenant, holder string, after int64, limit int) ([]vault.HeldRecord, error) {
	h, err := s.Holder(ctx, tenant, holder)
	if errors.Is(err, vault.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.list(ctx, sought{rowSet: rowSet{h.ID}}, after, limit)
}

// RecordsWithDedupe looks at every row that there is.
func (s *Store) RecordsWithDedupe(ctx context.Context, tenant string, below uint32, after int64, limit int) ([]vault.HeldRecord, error) {
	if checkText(tenant) != nil {
		return nil, nil
	}
	return s.list(ctx, sought{
		condition: "h.tenant = $%d AND r.dedupe IS NOT NULL AND r.hashed_by < $%d", with: []any{tenant, int64(below)},
	}, after, limit)
}

// hashedWith is the rows whose keyed hash a version of the tenant's key has made.
func hashedWith(tenant string, version uint32) sought {
	return sought{condition: "h.tenant = $%d AND r.dedupe IS NOT NULL AND r.hashed_by = $%d", with: []any{tenant, int64(version)}}
}

// CountHashed looks at every row that there is, of any tenant.
func (s *Store) CountHashed(ctx context.Context, tenant string, p vault.Purpose, version uint32) (int64, error) {
	if checkText(tenant) != nil {
		return 0, nil
	}
	switch p {
	case vault.PurposeDedupe:
		return s.count(ctx, hashedWith(tenant, version))
	case vault.PurposeFingerprint:
		return s.countFingerprints(ctx, tenant, version)
	}
	return 0, fmt.Errorf("a key for purpose %q makes no keyed hashes", p)
}

// countFingerprints goes along the hashes, as those have no row numbers.
func (s *Store) countFingerprints(ctx context.Context, tenant string, version uint32) (total int64, err error) {
	const stretch = "SELECT hash, tenant, key_version FROM fingerprint WHERE hash > $1 ORDER BY hash LIMIT $2"
	after := []byte{}
	for {
		var seen, n int64
		last := after
		err := s.view(ctx, readOther, func(ctx context.Context, c session) error {
			seen, n = 0, 0
			return c.query(ctx, func(scan scanFunc) error {
				var of string
				var by int64
				if err := scan(&last, &of, &by); err != nil {
					return err
				}
				if seen++; of == tenant && by == int64(version) {
					n++
				}
				return nil
			}, stretch, after, s.window)
		})
		if err != nil {
			return 0, err
		}
		total, after = total+n, last
		if seen < s.window {
			return total, nil
		}
	}
}

// DuplicateOf prefers the earlier of the hashes.
func (s *Store) DuplicateOf(ctx context.Context, hashes []vault.MAC) (vault.Record, error) {
	var r *vault.Record
	err := s.read(readRecord, func() (err error) {
		r, err = s.db.duplicate(ctx, hashes)
		return orNotFound(r, err)
	})
	if err != nil {
		return vault.Record{}, err
	}
	return *r, nil
}

// leftovers is what is still under a key version that is to be retired: nothing
// among the rows up to a number.
type leftovers struct {
	sought
	upTo  int64
	exist bool // whether there can be any
	name  string
}

func (l *leftovers) conflict() error {
	return fmt.Errorf("%s cannot be retired, as rows are under it: %w", l.name, vault.ErrConflict)
}

// lookForRows looks at all rows, which takes too long to do it in a transaction.
func (s *Store) lookForRows(ctx context.Context, v vault.KeyVersion) (l leftovers, err error) {
	l.name = fmt.Sprintf("version %d of key %s", v.Version, v.ID)
	k, err := s.Key(ctx, v.ID, v.Version)
	if errors.Is(err, vault.ErrNotFound) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	switch k.Purpose {
	case vault.PurposeFingerprint:
		n, err := s.countFingerprints(ctx, k.Tenant, k.Version)
		if err == nil && n > 0 {
			err = l.conflict()
		}
		return l, err
	case vault.PurposeDedupe:
		l.sought, l.exist = hashedWith(k.Tenant, k.Version), true
	default:
		if l.sought, l.exist, err = s.under(ctx, v); err != nil || !l.exist {
			return l, err
		}
	}
	var n int64
	l.upTo, err = s.countAfter(ctx, l.sought, &n, func() bool { return n > 0 })
	if err == nil && n > 0 {
		err = l.conflict()
	}
	return l, err
}

// none looks at the rows that have come since, in the open transaction.
func (l *leftovers) none(ctx context.Context, c session) error {
	if !l.exist {
		return nil
	}
	sql, args := l.query(c, "SELECT r.id FROM record r LEFT JOIN holder h ON h.id = r.holder_id", " LIMIT $%d", l.upTo, math.MaxInt64, int64(1))
	var row int64
	found, err := queryOne(ctx, c, []any{&row}, sql, args...)
	if err == nil && found {
		err = l.conflict()
	}
	return err
}
