package store

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"cardea/internal/vault"
)

const lockHead = "SELECT size, root, writer FROM audit_log WHERE id = $1 FOR UPDATE"

// group implements writer in two round trips: the changes, whose outcome must be
// known before the entries are, then the log and the commit. Units that only add
// entries take one. The functions of kindChange come in between, in trips of their own.
func (w *postgresWriter) group(ctx context.Context, h head, us []*unit, extend func() (*addition, error)) error {
	if _, err := w.session(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*pgTimeout)
	defer cancel()
	p := &w.plan
	p.make(us)
	defer p.reset()
	changes := anyChange(us)
	if p.empty() && !changes {
		a, err := extend()
		if err != nil || a == nil {
			return err
		}
		b := &pipeline{}
		b.extendLog(h, a)
		return b.run(ctx, w.conn)
	}
	b := &pipeline{}
	b.exec("BEGIN", nil)
	b.query(lockHead, isHead(h), h.log)
	p.changes(b)
	if err := b.run(ctx, w.conn); err != nil {
		return err
	}
	if changes {
		if err := w.changes(ctx, us); err != nil {
			return err
		}
	}
	a, err := extend()
	if err != nil {
		return err
	}
	b = &pipeline{}
	p.standing(b, us)
	if a == nil {
		b.exec("ROLLBACK", nil)
	} else {
		b.extendLog(h, a)
		b.exec("COMMIT", nil)
	}
	return b.run(ctx, w.conn)
}

// isHead refuses a row other than h.
func isHead(h head) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		same := false
		err := eachRow(rows, func(scan scanFunc) error {
			var size int64
			var root, writer []byte
			if err := scan(&size, &root, &writer); err != nil {
				return err
			}
			same = size == h.size && bytes.Equal(root, h.root[:]) && bytes.Equal(writer, h.writer[:])
			return nil
		})
		if err == nil && !same {
			return errHeadMoved
		}
		return err
	}
}

// pipeline is statements that go to the server together, and what to do with
// their results.
type pipeline struct {
	batch   pgx.Batch
	results []func(pgx.BatchResults) error
}

// exec queues a statement; done, if not nil, gets how many rows it changed.
func (b *pipeline) exec(sql string, done func(rows int64) error, args ...any) {
	b.batch.Queue(sql, args...)
	b.results = append(b.results, func(r pgx.BatchResults) error {
		tag, err := r.Exec()
		if err == nil && done != nil {
			err = done(tag.RowsAffected())
		}
		return err
	})
}

func (b *pipeline) query(sql string, read func(pgx.Rows) error, args ...any) {
	b.batch.Queue(sql, args...)
	b.results = append(b.results, func(r pgx.BatchResults) error {
		rows, err := r.Query()
		if err != nil {
			return err
		}
		return read(rows)
	})
}

// run sends all and reads the results up to the first error.
func (b *pipeline) run(ctx context.Context, conn *pgx.Conn) error {
	r := conn.SendBatch(ctx, &b.batch)
	for _, result := range b.results {
		if err := result(r); err != nil {
			return errors.Join(err, ignoreServerError(r.Close()))
		}
	}
	return r.Close()
}

// ignoreServerError leaves out that the server did not run what follows an error.
func ignoreServerError(err error) error {
	if isServerError(err) {
		return nil
	}
	return err
}

// extendLog queues the log's part as one statement, which changes nothing unless
// the head is h.
func (b *pipeline) extendLog(h head, a *addition) {
	const move = `WITH moved AS (UPDATE audit_log SET size = $1, root = $2
		WHERE id = $3 AND size = $4 AND root = $5 AND writer = $6 RETURNING id)`
	const tiles = `, tiles AS (INSERT INTO audit_tile (log_id, level, position, hashes)
		SELECT moved.id, t.level, t.position, t.hashes
		FROM moved, unnest($9::bigint[], $10::bigint[], $11::bytea[]) AS t (level, position, hashes))`
	const segment = ` INSERT INTO audit_segment (log_id, first, count, body) SELECT id, $4, $7, $8 FROM moved`
	args := []any{a.size, a.root[:], h.log, h.size, h.root[:], h.writer[:], int64(a.count), a.body}
	sql := move + segment
	if len(a.tiles) > 0 {
		sql = move + tiles + segment
		levels, positions, hashes := []int64{}, []int64{}, [][]byte{}
		for _, t := range a.tiles {
			levels, positions, hashes = append(levels, int64(t.Level)), append(positions, t.Index), append(hashes, t.Data)
		}
		args = append(args, levels, positions, hashes)
	}
	b.exec(sql, func(rows int64) error {
		if rows != 1 {
			return errHeadMoved
		}
		return nil
	}, args...)
}

// standing queues the reads of what stood in the way of units.
func (p *plan) standing(b *pipeline, us []*unit) {
	var lookups, dedupes, hashes [][]byte
	var holders []int64
	var tenants, names []string
	for _, u := range us {
		if u.applied || u.err != nil {
			continue
		}
		switch u.kind {
		case kindPut:
			u.again = true
			lookups, holders = append(lookups, u.record.Lookup[:]), append(holders, u.record.HolderID)
			if u.record.Dedupe != nil {
				dedupes = append(dedupes, u.record.Dedupe[:])
			}
		case kindFingerprint:
			u.again = true
			hashes = append(hashes, u.hash[:])
		case kindHolder:
			u.again = true
			tenants, names = append(tenants, u.holder.Tenant), append(names, u.holder.Name)
		case kindKey:
			u.again = true
			b.query(standingKeySQL, readStandingKey(u), standingKeyArgs(&u.key)...)
		}
	}
	if len(dedupes) > 0 {
		b.query("SELECT "+recordColumns+" FROM record WHERE dedupe = ANY($1)", readStandingRecords(us, true), dedupes)
	}
	if len(lookups) > 0 {
		b.query("SELECT "+recordColumns+" FROM record WHERE lookup = ANY($1)", readStandingRecords(us, false), lookups)
		b.query("SELECT id FROM holder WHERE id = ANY($1) AND "+mayStore, readUsableHolders(us), holders)
	}
	if len(hashes) > 0 {
		b.query("SELECT hash, id FROM fingerprint WHERE hash = ANY($1)", readStandingFingerprints(us), hashes)
	}
	if len(names) > 0 {
		b.query("SELECT h.id, h.tenant, h.name, h.secret, h.created_at, h.shredded_at "+holdersByName, readStandingHolders(us), tenants, names)
	}
}

// readStandingRecords gives each unit the row with its dedupe key, or else that
// with its lookup key.
func readStandingRecords(us []*unit, byDedupe bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var r vault.Record
			var c recordRow
			if err := scan(c.targets(&r)...); err != nil {
				return err
			}
			if err := c.fill(&r); err != nil {
				return err
			}
			for _, u := range us {
				if u.kind != kindPut || u.applied || u.existing != nil {
					continue
				}
				d := u.record.Dedupe
				if byDedupe && d != nil && r.Dedupe != nil && *d == *r.Dedupe || !byDedupe && u.record.Lookup == r.Lookup {
					got := r
					u.existing, u.again = &got, false
				}
			}
			return nil
		})
	}
}

// readUsableHolders gives up the units whose holder is shredded and in whose way
// nothing else stands. It comes after readStandingRecords.
func readUsableHolders(us []*unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		usable := map[int64]bool{}
		err := eachRow(rows, func(scan scanFunc) error {
			var id int64
			err := scan(&id)
			usable[id] = true
			return err
		})
		for _, u := range us {
			if err == nil && u.kind == kindPut && u.again && !usable[u.record.HolderID] {
				u.again, u.err = false, errShredded(&u.record)
			}
		}
		return err
	}
}

func readStandingFingerprints(us []*unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var hash []byte
			var id string
			if err := scan(&hash, &id); err != nil {
				return err
			}
			for _, u := range us {
				if u.kind == kindFingerprint && !u.applied && bytes.Equal(u.hash[:], hash) {
					u.standingID, u.again = id, false
				}
			}
			return nil
		})
	}
}

func readStandingHolders(us []*unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var h vault.Holder
			if err := scanHolder(scan, &h); err != nil {
				return err
			}
			for _, u := range us {
				if u.kind == kindHolder && !u.applied && u.holder.Tenant == h.Tenant && u.holder.Name == h.Name {
					u.standingHolder, u.again = &h, false
				}
			}
			return nil
		})
	}
}

func readStandingKey(u *unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			u.standingKey, u.again = new(vault.WrappedKey), false
			err := scanKey(scan, u.standingKey)
			u.err = errKeyID(&u.key, u.standingKey)
			return err
		})
	}
}
