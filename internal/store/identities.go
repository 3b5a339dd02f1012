package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cardea/internal/audit"
	"cardea/internal/identity"
)

// maxBody is the longest body of a row.
const maxBody = 256 << 10

// Identities keeps who may call the key service in a Store, beside the audit log.
// It implements identity.Store. Row.ExpiresAt is kept to the microsecond.
type Identities struct {
	identityRows
	s *Store
}

// NewIdentities returns the identities' part of s, which stays the caller's to
// close. It also starts to remove what Changes has told long ago.
func NewIdentities(s *Store) *Identities {
	s.startPruning()
	return &Identities{identityRows{func(ctx context.Context, fn func(context.Context, session) error) error {
		return identityError(s.view(ctx, readIdentity, fn))
	}}, s}
}

// identityError says of a database that cannot be used what users of identities
// understand.
func identityError(err error) error {
	if u, is := errors.AsType[*unavailableError](err); is {
		return fmt.Errorf("database unavailable: %w", u.cause)
	}
	return err
}

// Append implements identity.Store.
func (i *Identities) Append(ctx context.Context, entries ...audit.Sealed) error {
	return identityError(i.s.Append(ctx, entries...))
}

// Update implements identity.Store, as KeyService.Update does kms.Store.
func (i *Identities) Update(ctx context.Context, fn func(identity.Tx) error) error {
	return identityError(i.s.change(ctx, func(ctx context.Context, c session, n *numbers) ([]audit.Sealed, bool, error) {
		tx := &identityTx{work: work{s: c}}
		tx.identityRows = identityRows{tx.do}
		return tx.finish(fn(tx), func() error { return tx.tellChanges(ctx, n, i.s.now()) })
	}))
}

// Changes implements identity.Store.
func (i *Identities) Changes(ctx context.Context, after int64) ([]identity.Name, int64, error) {
	var changed []identity.Name
	var r changesRead
	err := i.view(ctx, func(ctx context.Context, c session) (err error) {
		changed = nil
		r, err = identityChanges.after(ctx, c, after, func(scan scanFunc, n *int64) error {
			var name identity.Name
			var kind string
			err := scan(n, &kind, &name.Account, &name.Name)
			name.Kind = identity.Kind(kind)
			changed = append(changed, name)
			return err
		})
		return err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case r.forgotten:
		return nil, r.last, fmt.Errorf("changes of identities after number %d: %w", after, identity.ErrForgotten)
	}
	return changed, r.last, nil
}

// DeleteExpired implements identity.Store. It is no change to tell of: what has
// expired nobody uses any more, with or without a row.
func (i *Identities) DeleteExpired(ctx context.Context, at time.Time, limit int) (int, error) {
	if i.s.com == nil {
		return 0, ErrReadOnly
	}
	var deleted int64
	err := i.s.com.closure(ctx, func(ctx context.Context, c session, _ head) (_ []audit.Sealed, err error) {
		deleted, err = c.exec(ctx, `DELETE FROM identity_row WHERE expires_at <> 0 AND expires_at <= $1 AND id IN
			(SELECT id FROM identity_row WHERE expires_at <> 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2)`, at.UnixMicro(), int64(limit))
		return nil, err
	})
	return int(deleted), identityError(err)
}

// identityRows reads identities, in a transaction or outside. It implements
// identity.Reader.
type identityRows struct{ view rowView }

// Get implements identity.Reader.
func (r identityRows) Get(ctx context.Context, kind identity.Kind, account, name string) (*identity.Row, error) {
	rows, err := r.rows(ctx, kind, account, "SELECT name, version, expires_at, body FROM identity_row WHERE kind = $1 AND account = $2 AND name = $3",
		string(kind), account, name)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, identity.ErrNoRow
	}
	return &rows[0], nil
}

// List implements identity.Reader.
func (r identityRows) List(ctx context.Context, kind identity.Kind, account, after string, limit int) ([]identity.Row, error) {
	return r.rows(ctx, kind, account, `SELECT name, version, expires_at, body FROM identity_row
		WHERE kind = $1 AND account = $2 AND name > $3 ORDER BY name LIMIT $4`, string(kind), account, after, int64(limit))
}

func (r identityRows) rows(ctx context.Context, kind identity.Kind, account, sql string, args ...any) (rows []identity.Row, err error) {
	if checkArgs(args) != nil {
		return nil, nil // none can have that name
	}
	err = r.view(ctx, func(ctx context.Context, c session) error {
		rows = nil
		return c.query(ctx, func(scan scanFunc) error {
			row := identity.Row{Kind: kind, Account: account}
			var expires int64
			err := scan(&row.Name, &row.Version, &expires, &row.Body)
			row.ExpiresAt = timeOf(expires)
			rows = append(rows, row)
			return err
		}, sql, args...)
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// identityTx implements identity.Tx.
type identityTx struct {
	work
	identityRows
	changes []identity.Name
}

func (tx *identityTx) changed(n identity.Name) {
	if !slices.Contains(tx.changes, n) {
		tx.changes = append(tx.changes, n)
	}
}

// tellChanges makes the changes known, numbered.
func (tx *identityTx) tellChanges(ctx context.Context, n *numbers, now time.Time) error {
	lists := make([][]any, len(tx.changes))
	for i, c := range tx.changes {
		number, err := n.take(ctx, tx.s)
		if err != nil {
			return err
		}
		lists[i] = []any{number, now.UnixMicro(), string(c.Kind), c.Account, c.Name}
	}
	return execAll(ctx, tx.s, "INSERT INTO identity_change (n, changed_at, kind, account, name) VALUES ($1, $2, $3, $4, $5)", lists)
}

// Put implements identity.Tx.
func (tx *identityTx) Put(ctx context.Context, r *identity.Row) error {
	if len(r.Body) > maxBody {
		return fmt.Errorf("%s %s: body of %d bytes, at most %d are kept", r.Kind, r.Name, len(r.Body), maxBody)
	}
	if err := checkText(string(r.Kind), r.Account, r.Name); err != nil {
		return err
	}
	sql := `INSERT INTO identity_row (kind, account, name, version, expires_at, body) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (kind, account, name) DO NOTHING`
	if r.Version != 0 {
		sql = `UPDATE identity_row SET version = version + 1, expires_at = $5, body = $6
			WHERE kind = $1 AND account = $2 AND name = $3 AND version = $4`
	}
	body := r.Body
	if body == nil {
		body = []byte{} // not NULL
	}
	n, err := tx.exec(ctx, sql, string(r.Kind), r.Account, r.Name, cmp.Or(r.Version, 1), microsOf(r.ExpiresAt), body)
	if err := one(n, err, identity.ErrChanged); err != nil {
		return err
	}
	tx.changed(identity.Name{Kind: r.Kind, Account: r.Account, Name: r.Name})
	return nil
}

// Delete implements identity.Tx.
func (tx *identityTx) Delete(ctx context.Context, kind identity.Kind, account, name string) error {
	if checkText(string(kind), account, name) != nil {
		return identity.ErrChanged
	}
	n, err := tx.exec(ctx, "DELETE FROM identity_row WHERE kind = $1 AND account = $2 AND name = $3", string(kind), account, name)
	if err := one(n, err, identity.ErrChanged); err != nil {
		return err
	}
	tx.changed(identity.Name{Kind: kind, Account: account, Name: name})
	return nil
}
