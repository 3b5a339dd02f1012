package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/jackc/pgx/v5"

	"cardea/internal/vault"
)

// plan arranges the changes of a group into statements that each make many of
// them. Changes of different rows commute. Those of one row keep their order: a
// wave holds, in this order, deletes, upserts and inserts, and a change goes into
// the first wave in which it comes after every earlier one of its row.
type plan struct {
	waves        []*wave
	used         int // of waves
	lookups      map[vault.Lookup]place
	dedupes      map[vault.MAC]place
	fingerprints []*unit
	holders      []*unit
	keys         []*unit
}

type wave struct {
	deletes []*deleteStatement
	upserts recordArrays
	puts    recordArrays
}

// deleteStatement removes rows, with expiredAt only those expired then.
type deleteStatement struct {
	expiredAt vault.Micros
	us        []*unit
	lookups   [][]byte
}

// place is where in the plan the last change of a row stands.
type place struct{ wave, rank int }

// The ranks in a wave. Two inserts of one row may share a statement, which runs
// them in order.
const (
	rankDelete = iota
	rankUpsert
	rankPut
)

// after is the first wave in which a change of this rank comes after p.
func (p place) after(rank int) int {
	if rank > p.rank || rank == rankPut && p.rank == rankPut {
		return p.wave
	}
	return p.wave + 1
}

func (p *plan) make(us []*unit) {
	if p.lookups == nil {
		p.lookups, p.dedupes = make(map[vault.Lookup]place), make(map[vault.MAC]place)
	}
	ordered := false // whether there is anything but inserts of records
	for _, u := range us {
		ordered = ordered || u.kind == kindUpsert || u.kind == kindDelete
	}
	for _, u := range us {
		switch u.kind {
		case kindAppend:
			u.applied = true
		case kindPut:
			w := p.wave(rankPut, &u.record.Lookup, u.record.Dedupe, ordered)
			w.puts.us = append(w.puts.us, u)
		case kindUpsert:
			w := p.wave(rankUpsert, &u.record.Lookup, u.record.Dedupe, ordered)
			w.upserts.us = append(w.upserts.us, u)
		case kindDelete:
			p.wave(rankDelete, &u.lookup, nil, ordered).delete(u)
		case kindFingerprint:
			p.fingerprints = append(p.fingerprints, u)
		case kindHolder:
			p.holders = append(p.holders, u)
		case kindKey:
			p.keys = append(p.keys, u)
		}
	}
	p.sort()
}

// sort gives rows the order in which all nodes lock them. Two nodes that make the same
// rows at once, each in an order of its own, would wait for each other until PostgreSQL
// ends one of them a second later. Calls that share a commit are concurrent: none may
// rely on an order. What remains, the committer resolves.
func (p *plan) sort() {
	for _, w := range p.waves[:p.used] {
		w.upserts.fill()
		w.puts.fill()
	}
	slices.SortStableFunc(p.fingerprints, func(a, b *unit) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	slices.SortStableFunc(p.holders, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.holder.Tenant, b.holder.Tenant), cmp.Compare(a.holder.Name, b.holder.Name))
	})
	slices.SortStableFunc(p.keys, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.key.Tenant, b.key.Tenant), cmp.Compare(a.key.Holder, b.key.Holder),
			cmp.Compare(a.key.Purpose, b.key.Purpose), cmp.Compare(a.key.Version, b.key.Version))
	})
}

// wave finds the wave for a change of the row with one of two keys.
func (p *plan) wave(rank int, l *vault.Lookup, d *vault.MAC, ordered bool) *wave {
	n := 0
	if ordered {
		if last, ok := p.lookups[*l]; ok {
			n = last.after(rank)
		}
		if d != nil {
			if last, ok := p.dedupes[*d]; ok {
				n = max(n, last.after(rank))
			}
			p.dedupes[*d] = place{n, rank}
		}
		p.lookups[*l] = place{n, rank}
	}
	for n >= len(p.waves) {
		p.waves = append(p.waves, new(wave))
	}
	p.used = max(p.used, n+1)
	return p.waves[n]
}

// empty reports whether nothing is to be changed.
func (p *plan) empty() bool {
	return p.used == 0 && len(p.fingerprints) == 0 && len(p.holders) == 0 && len(p.keys) == 0
}

// reset forgets the units and keeps the memory.
func (p *plan) reset() {
	for _, w := range p.waves[:p.used] {
		w.deletes = nil
		w.upserts.reset()
		w.puts.reset()
	}
	p.used = 0
	clear(p.lookups)
	clear(p.dedupes)
	p.fingerprints, p.holders, p.keys = p.fingerprints[:0], p.holders[:0], p.keys[:0]
}

func (w *wave) delete(u *unit) {
	for _, d := range w.deletes {
		if d.expiredAt == u.expiredAt {
			d.us, d.lookups = append(d.us, u), append(d.lookups, u.lookup[:])
			return
		}
	}
	w.deletes = append(w.deletes, &deleteStatement{expiredAt: u.expiredAt, us: []*unit{u}, lookups: [][]byte{u.lookup[:]}})
}

// changes queues the statements.
func (p *plan) changes(b *pipeline) {
	p.lockHolders(b)
	for _, w := range p.waves[:p.used] {
		for _, d := range w.deletes {
			d.queue(b)
		}
		if len(w.upserts.us) > 0 {
			b.query(insertRecords+upsertTail+" RETURNING lookup", upserted(w.upserts.us), w.upserts.args()...)
		}
		if len(w.puts.us) > 0 {
			b.query(insertRecords+" ON CONFLICT DO NOTHING RETURNING lookup, dedupe", inserted(w.puts.us), w.puts.args()...)
		}
	}
	p.queueFingerprints(b)
	p.queueHolders(b)
	for _, u := range p.keys {
		b.exec(insertKeySQL, func(rows int64) error {
			u.applied = rows == 1
			return nil
		}, keyArgs(&u.key)...)
	}
}

func (d *deleteStatement) queue(b *pipeline) {
	read := func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var lookup []byte
			if err := scan(&lookup); err != nil {
				return err
			}
			for _, u := range d.us {
				if bytes.Equal(u.lookup[:], lookup) {
					u.applied = true
				}
			}
			return nil
		})
	}
	if d.expiredAt == 0 {
		b.query("DELETE FROM record WHERE lookup = ANY($1) RETURNING lookup", read, d.lookups)
	} else {
		b.query("DELETE FROM record WHERE lookup = ANY($1) AND expires_at <> 0 AND expires_at < $2 RETURNING lookup",
			read, d.lookups, int64(d.expiredAt))
	}
}

// lockHolders keeps the holders of new records from being shredded until the
// transaction ends. A mark that another node has just made is waited for, and the
// statements that follow see it.
func (p *plan) lockHolders(b *pipeline) {
	var ids []int64
	for _, w := range p.waves[:p.used] {
		ids = append(append(ids, w.upserts.holders...), w.puts.holders...)
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids) // nodes lock in one order
	b.exec("SELECT 1 FROM holder WHERE id = ANY($1) ORDER BY id FOR KEY SHARE", nil, slices.Compact(ids))
}

// insertRecords inserts those whose holders are not shredded, in their order, which a
// join could change.
const insertRecords = "INSERT INTO record (" + recordColumns + `)
	SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::smallint[], $5::smallint[], $6::text[], $7::text[],
	$8::smallint[], $9::bytea[], $10::bigint[], $11::bytea[], $12::bigint[], $13::bigint[], $14::bigint[]) AS u (` + recordColumns + `)
	WHERE (SELECT ` + mayStore + ` FROM holder h WHERE h.id = u.holder_id)`

// recordArrays is the columns of several records.
type recordArrays struct {
	us                                  []*unit
	lookups, dedupes, keys, sealed      [][]byte
	holders, versions, created, expires []int64
	hashedBy                            []int64
	spaces, kinds, modes                []int16
	customers, references               []string
}

// fill makes the columns of us, in the order of what may stand in the way of a row
// that another node makes at the same moment: a card's keyed hash, else the lookup key.
func (a *recordArrays) fill() {
	slices.SortStableFunc(a.us, func(x, y *unit) int { return bytes.Compare(rival(&x.record), rival(&y.record)) })
	for _, u := range a.us {
		a.add(&u.record)
	}
}

func rival(r *vault.Record) []byte {
	if r.Dedupe != nil {
		return r.Dedupe[:]
	}
	return r.Lookup[:]
}

func (a *recordArrays) add(r *vault.Record) {
	var dedupe []byte
	if r.Dedupe != nil {
		dedupe = r.Dedupe[:]
	}
	a.lookups, a.dedupes = append(a.lookups, r.Lookup[:]), append(a.dedupes, dedupe)
	a.keys, a.sealed = append(a.keys, r.Key[:]), append(a.sealed, r.Sealed)
	a.holders, a.versions = append(a.holders, r.HolderID), append(a.versions, int64(r.KeyVersion))
	a.created, a.expires = append(a.created, int64(r.CreatedAt)), append(a.expires, int64(r.ExpiresAt))
	a.hashedBy = append(a.hashedBy, hashedBy(r))
	a.spaces, a.kinds, a.modes = append(a.spaces, int16(r.Space)), append(a.kinds, int16(r.Kind)), append(a.modes, int16(r.Mode))
	a.customers, a.references = append(a.customers, r.Customer), append(a.references, r.Reference)
}

func (a *recordArrays) args() []any {
	return []any{
		a.lookups, a.dedupes, a.holders, a.spaces, a.kinds, a.customers, a.references,
		a.modes, a.keys, a.versions, a.sealed, a.created, a.expires, a.hashedBy,
	}
}

func (a *recordArrays) reset() {
	clear(a.us)
	*a = recordArrays{
		us: a.us[:0], lookups: a.lookups[:0], dedupes: a.dedupes[:0], keys: a.keys[:0], sealed: a.sealed[:0],
		holders: a.holders[:0], versions: a.versions[:0], created: a.created[:0], expires: a.expires[:0], hashedBy: a.hashedBy[:0],
		spaces: a.spaces[:0], kinds: a.kinds[:0], modes: a.modes[:0], customers: a.customers[:0], references: a.references[:0],
	}
}

// upserted marks the units whose records come back. Of a shredded holder none does.
func upserted(us []*unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		err := eachRow(rows, func(scan scanFunc) error {
			var lookup []byte
			if err := scan(&lookup); err != nil {
				return err
			}
			for _, u := range us {
				if bytes.Equal(u.record.Lookup[:], lookup) {
					u.applied = true
				}
			}
			return nil
		})
		for _, u := range us {
			if err == nil && !u.applied {
				u.err = errShredded(&u.record)
			}
		}
		return err
	}
}

// inserted marks the units whose records come back, the first of equal ones. They
// come in the order in which they went.
func inserted(us []*unit) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		next := 0
		return eachRow(rows, func(scan scanFunc) error {
			var lookup, dedupe []byte
			if err := scan(&lookup, &dedupe); err != nil {
				return err
			}
			for i := range us {
				u := us[(next+i)%len(us)]
				d := u.record.Dedupe
				if !u.applied && bytes.Equal(u.record.Lookup[:], lookup) && (d == nil && dedupe == nil || d != nil && bytes.Equal(d[:], dedupe)) {
					u.applied = true
					next += i + 1
					break
				}
			}
			return nil
		})
	}
}

func (p *plan) queueFingerprints(b *pipeline) {
	if len(p.fingerprints) == 0 {
		return
	}
	var hashes [][]byte
	var tenants, ids []string
	var versions []int64
	for _, u := range p.fingerprints {
		hashes, tenants, ids = append(hashes, u.hash[:]), append(tenants, u.tenant), append(ids, u.id)
		versions = append(versions, int64(u.hashedBy))
	}
	b.query(`INSERT INTO fingerprint (hash, tenant, id, key_version)
		SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[])
		ON CONFLICT (hash) DO NOTHING RETURNING hash`, func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var hash []byte
			if err := scan(&hash); err != nil {
				return err
			}
			for _, u := range p.fingerprints {
				if bytes.Equal(u.hash[:], hash) {
					u.applied = true
					break
				}
			}
			return nil
		})
	}, hashes, tenants, ids, versions)
}

func (p *plan) queueHolders(b *pipeline) {
	if len(p.holders) == 0 {
		return
	}
	var tenants, names []string
	var secrets [][]byte
	var created []int64
	for _, u := range p.holders {
		h := &u.holder
		tenants, names = append(tenants, h.Tenant), append(names, h.Name)
		secrets, created = append(secrets, h.Secret), append(created, int64(h.CreatedAt))
	}
	b.query(`INSERT INTO holder (tenant, name, secret, created_at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
		ON CONFLICT (tenant, name) DO NOTHING RETURNING id, tenant, name`, func(rows pgx.Rows) error {
		return eachRow(rows, func(scan scanFunc) error {
			var id int64
			var tenant, name string
			if err := scan(&id, &tenant, &name); err != nil {
				return err
			}
			for _, u := range p.holders {
				if u.holder.Tenant == tenant && u.holder.Name == name {
					u.holder.ID, u.applied = id, true
					break
				}
			}
			return nil
		})
	}, tenants, names, secrets, created)
}
