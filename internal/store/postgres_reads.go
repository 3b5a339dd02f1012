package store

import (
	"bytes"
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/vault"
)

const (
	// readWorkers is how many round trips with point reads are under way at most.
	readWorkers = 4
	// maxReads is how many point reads share one.
	maxReads = 256
)

// coalescer lets point reads share round trips. Each worker takes a read as soon
// as it comes, and with it those that came while all workers were busy: alone, a
// read waits for nobody; of many, most wait for one round trip.
type coalescer struct {
	db      *postgresDB
	queue   chan *readRequest
	done    chan struct{} // closed to end the workers
	workers sync.WaitGroup
	sizes   prometheus.Observer
}

// readRequest is one point read: what is sought by kind, and what is found.
type readRequest struct {
	kind         readKind
	lookup       vault.Lookup
	hash         vault.MAC
	tenant, name string

	same     *readRequest // another one that seeks the same
	answered chan struct{}
	record   *vault.Record
	holder   *vault.Holder
	id       string
	found    bool
	err      error
}

func newCoalescer(db *postgresDB, workers int, sizes prometheus.Observer) *coalescer {
	c := &coalescer{db: db, queue: make(chan *readRequest, maxReads), done: make(chan struct{}), sizes: sizes}
	for range workers {
		c.workers.Go(c.work)
	}
	return c
}

// do answers q. It leaves when ctx ends, which the others do not notice.
func (c *coalescer) do(ctx context.Context, q *readRequest) error {
	q.answered = make(chan struct{})
	select {
	case c.queue <- q:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return ErrClosed
	}
	select {
	case <-q.answered:
		return q.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return ErrClosed
	}
}

func (c *coalescer) close() {
	close(c.done)
	c.workers.Wait()
}

func (c *coalescer) work() {
	var qs []*readRequest
	g := readGroup{
		records: make(map[vault.Lookup]*readRequest), both: make(map[vault.Lookup]*readRequest), prints: make(map[vault.MAC]*readRequest),
	}
	for {
		select {
		case <-c.done:
			return
		case q := <-c.queue:
			qs = append(qs[:0], q)
		}
		for more := true; more && len(qs) < maxReads; {
			select {
			case q := <-c.queue:
				qs = append(qs, q)
			default:
				more = false
			}
		}
		c.sizes.Observe(float64(len(qs)))
		c.read(&g, qs)
		clear(qs)
	}
}

// read answers all of qs.
func (c *coalescer) read(g *readGroup, qs []*readRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), pgTimeout)
	defer cancel()
	g.add(qs)
	err := c.db.view(ctx, func(ctx context.Context, s session) error {
		b := &pipeline{}
		g.queue(b)
		return b.run(ctx, s.(*postgresSession).conn) // postgresDB.view gives no other
	})
	g.reset()
	for _, q := range qs {
		q.err = err
		close(q.answered)
	}
}

// readGroup is the reads of a round trip by what they seek. Those that seek the
// same are linked.
type readGroup struct {
	records, both  map[vault.Lookup]*readRequest
	prints         map[vault.MAC]*readRequest
	holders        []*readRequest
	lookups        [][]byte
	bothLookups    [][]byte
	hashes         [][]byte
	tenants, names []string
}

func (g *readGroup) add(qs []*readRequest) {
	for _, q := range qs {
		switch q.kind {
		case readRecord:
			if q.same = g.records[q.lookup]; q.same == nil {
				g.lookups = append(g.lookups, q.lookup[:])
			}
			g.records[q.lookup] = q
		case readRecordAndHolder:
			if q.same = g.both[q.lookup]; q.same == nil {
				g.bothLookups = append(g.bothLookups, q.lookup[:])
			}
			g.both[q.lookup] = q
		case readFingerprint:
			if q.same = g.prints[q.hash]; q.same == nil {
				g.hashes = append(g.hashes, q.hash[:])
			}
			g.prints[q.hash] = q
		case readHolder:
			g.holders = append(g.holders, q)
			g.tenants, g.names = append(g.tenants, q.tenant), append(g.names, q.name)
		}
	}
}

func (g *readGroup) reset() {
	clear(g.records)
	clear(g.both)
	clear(g.prints)
	clear(g.holders)
	g.lookups, g.bothLookups, g.hashes = g.lookups[:0], g.bothLookups[:0], g.hashes[:0]
	g.holders, g.tenants, g.names = g.holders[:0], g.tenants[:0], g.names[:0]
}

// queue queues a query for each kind that is there.
func (g *readGroup) queue(b *pipeline) {
	if len(g.lookups) > 0 {
		b.query("SELECT "+recordColumns+" FROM record WHERE lookup = ANY($1)", g.readRecords, g.lookups)
	}
	if len(g.bothLookups) > 0 {
		b.query(selectRecordAndHolder+"r.lookup = ANY($1)", g.readBoth, g.bothLookups)
	}
	if len(g.hashes) > 0 {
		b.query("SELECT hash, id FROM fingerprint WHERE hash = ANY($1)", g.readFingerprints, g.hashes)
	}
	if len(g.names) > 0 {
		b.query("SELECT h.id, h.tenant, h.name, h.secret, h.created_at, h.shredded_at "+holdersByName, g.readHolders, g.tenants, g.names)
	}
}

func (g *readGroup) readRecords(rows pgx.Rows) error {
	return eachRow(rows, func(scan scanFunc) error {
		r, c := new(vault.Record), recordRow{}
		if err := scan(c.targets(r)...); err != nil {
			return err
		}
		if err := c.fill(r); err != nil {
			return err
		}
		for q := g.records[r.Lookup]; q != nil; q = q.same {
			q.record = r
			r = cloneRecord(r, q.same)
		}
		return nil
	})
}

func (g *readGroup) readBoth(rows pgx.Rows) error {
	return eachRow(rows, func(scan scanFunc) error {
		r, h, c := new(vault.Record), new(vault.Holder), recordAndHolderRow{}
		if err := scan(c.targets(r, h)...); err != nil {
			return err
		}
		if err := c.fill(r, h); err != nil {
			return err
		}
		for q := g.both[r.Lookup]; q != nil; q = q.same {
			q.record, q.holder = r, h
			r, h = cloneRecord(r, q.same), cloneHolder(h, q.same)
		}
		return nil
	})
}

func (g *readGroup) readFingerprints(rows pgx.Rows) error {
	return eachRow(rows, func(scan scanFunc) error {
		var raw []byte
		var hash vault.MAC
		var id string
		if err := scan(&raw, &id); err != nil {
			return err
		}
		if err := copyBytes(hash[:], raw, "hash"); err != nil {
			return err
		}
		for q := g.prints[hash]; q != nil; q = q.same {
			q.id, q.found = id, true
		}
		return nil
	})
}

func (g *readGroup) readHolders(rows pgx.Rows) error {
	return eachRow(rows, func(scan scanFunc) error {
		h := new(vault.Holder)
		if err := scanHolder(scan, h); err != nil {
			return err
		}
		for _, q := range g.holders {
			if q.tenant == h.Tenant && q.name == h.Name {
				q.holder = cloneHolder(h, q)
			}
		}
		return nil
	})
}

// cloneRecord copies r for another reader, if there is one: what a read returns
// is the caller's alone.
func cloneRecord(r *vault.Record, next *readRequest) *vault.Record {
	if next == nil {
		return nil
	}
	c := *r
	c.Sealed = bytes.Clone(r.Sealed)
	if r.Dedupe != nil {
		d := *r.Dedupe
		c.Dedupe = &d
	}
	return &c
}

func cloneHolder(h *vault.Holder, next *readRequest) *vault.Holder {
	if next == nil {
		return nil
	}
	c := *h
	c.Secret = bytes.Clone(h.Secret)
	return &c
}
