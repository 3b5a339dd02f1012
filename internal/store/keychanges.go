package store

import (
	"bytes"
	"context"
	"slices"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// ReplaceSealed is one transaction, which commits of requests wait for: a few
// hundred rows at a time are meant. If no row is as it was read, nothing is written,
// not even the entry.
func (s *Store) ReplaceSealed(ctx context.Context, changes []vault.ResealedRecord, e audit.Sealed) ([]bool, error) {
	changes = eachHashOnce(changes)
	var done []bool
	// A card that another node stores at this moment may have one of the keyed hashes
	// and not be seen: then it is seen the next time.
	for n := 1; ; n++ {
		err := s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
			done = make([]bool, len(changes))
			replace := replaceEach
			if _, is := c.(*postgresWriter); is {
				replace = replaceTogether
			}
			switch replaced, err := replace(ctx, c, changes, done); {
			case err != nil:
				return nil, err
			case replaced == 0:
				return nil, callerError{errUnchanged}
			}
			return []audit.Sealed{e}, nil
		})
		switch {
		case err == nil:
			return done, nil
		case !isUnique(err):
			return nil, err
		case n == maxTries:
			return nil, unavailable(err)
		}
	}
}

// eachHashOnce leaves a keyed hash to the first of those rows that are to get it.
func eachHashOnce(changes []vault.ResealedRecord) []vault.ResealedRecord {
	if !slices.ContainsFunc(changes, func(ch vault.ResealedRecord) bool { return ch.Dedupe != nil }) {
		return changes
	}
	seen := make(map[vault.MAC]bool, len(changes))
	out := make([]vault.ResealedRecord, len(changes))
	for i, ch := range changes {
		if ch.Dedupe != nil {
			if seen[*ch.Dedupe] {
				ch.Dedupe = new(vault.MAC) // zero is no keyed hash: it is stored as NULL
			}
			seen[*ch.Dedupe] = true
		}
		out[i] = ch
	}
	return out
}

const (
	replaceSealed = "UPDATE record SET mode = $3, key_id = $4, key_version = $5, sealed = $6"
	whereAsRead   = " WHERE id = $1 AND sealed = $2"
)

// replaceEach is a statement a row.
func replaceEach(ctx context.Context, c session, changes []vault.ResealedRecord, done []bool) (replaced int64, err error) {
	const plain = replaceSealed + whereAsRead
	const hashed = replaceSealed + `, dedupe = CASE WHEN EXISTS (SELECT 1 FROM record o WHERE o.dedupe = $7 AND o.id <> $1) THEN NULL ELSE $7 END,
		hashed_by = CASE WHEN EXISTS (SELECT 1 FROM record o WHERE o.dedupe = $7 AND o.id <> $1) THEN 0 ELSE $8 END` + whereAsRead
	for i := range changes {
		ch := &changes[i]
		sql, args := plain, []any{ch.Row, ch.Was, int64(ch.Sealed.Mode), ch.Sealed.Key[:], int64(ch.Sealed.KeyVersion), ch.Sealed.Blob}
		if ch.Dedupe != nil {
			hash, by := hashOf(ch)
			sql, args = hashed, append(args, hash, by)
		}
		n, err := c.exec(ctx, sql, args...)
		if err != nil {
			return replaced, err
		}
		done[i] = n == 1
		replaced += n
	}
	return replaced, nil
}

// hashOf is the keyed hash that a row is to get, and its key's version, as stored.
func hashOf(ch *vault.ResealedRecord) ([]byte, int64) {
	if ch.Dedupe == nil || *ch.Dedupe == (vault.MAC{}) {
		return nil, 0
	}
	return ch.Dedupe[:], int64(max(1, ch.HashedBy))
}

// replaceTogether is one statement, of PostgreSQL.
func replaceTogether(ctx context.Context, c session, changes []vault.ResealedRecord, done []bool) (replaced int64, err error) {
	const (
		set = "UPDATE record r SET mode = c.mode, key_id = c.key_id, key_version = c.key_version, sealed = c.sealed"
		as  = ` FROM unnest($1::bigint[], $2::bytea[], $3::smallint[], $4::bytea[], $5::bigint[], $6::bytea[]`
		end = ") WHERE r.id = c.id AND r.sealed = c.was RETURNING r.id"

		plain  = set + as + ") AS c (id, was, mode, key_id, key_version, sealed" + end
		hashed = set + `, dedupe = CASE WHEN c.keep THEN r.dedupe WHEN c.taken THEN NULL ELSE c.dedupe END,
			hashed_by = CASE WHEN c.keep THEN r.hashed_by WHEN c.taken THEN 0 ELSE c.hashed_by END
			FROM (SELECT u.*, EXISTS (SELECT 1 FROM record o WHERE o.dedupe = u.dedupe AND o.id <> u.id) AS taken` +
			as + ", $7::bytea[], $8::bigint[], $9::boolean[]) AS u (id, was, mode, key_id, key_version, sealed, dedupe, hashed_by, keep)" + ") AS c WHERE r.id = c.id AND r.sealed = c.was RETURNING r.id"
	)
	var rows, versions, hashedBy []int64
	var modes []int16
	var was, keys, sealed, hashes [][]byte
	var keep []bool
	rehash := false
	at := make(map[int64]int, len(changes))
	for i := range changes {
		ch := &changes[i]
		at[ch.Row] = i
		rows, was, modes = append(rows, ch.Row), append(was, ch.Was), append(modes, int16(ch.Sealed.Mode))
		keys, versions, sealed = append(keys, ch.Sealed.Key[:]), append(versions, int64(ch.Sealed.KeyVersion)), append(sealed, ch.Sealed.Blob)
		hash, by := hashOf(ch)
		hashes, hashedBy, keep = append(hashes, hash), append(hashedBy, by), append(keep, ch.Dedupe == nil)
		rehash = rehash || ch.Dedupe != nil
	}
	sql, args := plain, []any{rows, was, modes, keys, versions, sealed}
	if rehash {
		sql, args = hashed, append(args, hashes, hashedBy, keep)
	}
	err = c.query(ctx, func(scan scanFunc) error {
		var row int64
		err := scan(&row)
		if i, ok := at[row]; ok && !done[i] {
			done[i] = true
			replaced++
		}
		return err
	}, sql, args...)
	return replaced, err
}

// DeleteRows writes nothing, not even the entry, if there is nothing to remove.
func (s *Store) DeleteRows(ctx context.Context, rows []int64, e audit.Sealed) (deleted int, err error) {
	err = s.keyWork(ctx, func(ctx context.Context, c session) ([]audit.Sealed, error) {
		n, err := deleteRows(ctx, c, rows)
		switch deleted = int(n); {
		case err != nil:
			return nil, err
		case deleted == 0:
			return nil, callerError{errUnchanged}
		}
		return []audit.Sealed{e}, nil
	})
	if err != nil {
		return 0, err
	}
	return deleted, nil
}

func deleteRows(ctx context.Context, c session, rows []int64) (deleted int64, err error) {
	if _, is := c.(*postgresWriter); is {
		return c.exec(ctx, "DELETE FROM record WHERE id = ANY($1)", rows)
	}
	for _, row := range rows {
		n, err := c.exec(ctx, "DELETE FROM record WHERE id = $1", row)
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, nil
}

// duplicate implements database.
func (d *sqliteDB) duplicate(ctx context.Context, hashes []vault.MAC) (r *vault.Record, err error) {
	err = d.point(ctx, func(ctx context.Context, s session) error {
		r = nil
		for i := 0; i < len(hashes) && r == nil; i++ {
			if r, err = selectOne(ctx, s, byDedupe, hashes[i][:]); err != nil {
				return err
			}
		}
		return nil
	})
	return r, err
}

// duplicate implements database.
func (d *postgresDB) duplicate(ctx context.Context, hashes []vault.MAC) (r *vault.Record, err error) {
	var list [][]byte
	for i := range hashes {
		list = append(list, hashes[i][:])
	}
	err = d.view(ctx, func(ctx context.Context, s session) error {
		r = nil
		best := len(hashes)
		return s.query(ctx, func(scan scanFunc) error {
			got, c := new(vault.Record), recordRow{}
			if err := scan(c.targets(got)...); err != nil {
				return err
			}
			if err := c.fill(got); err != nil {
				return err
			}
			for i := range best {
				if bytes.Equal(hashes[i][:], c.dedupe) {
					r, best = got, i
					break
				}
			}
			return nil
		}, "SELECT "+recordColumns+" FROM record WHERE dedupe = ANY($1)", list)
	})
	return r, err
}
