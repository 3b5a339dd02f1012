package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// unitKind says what a unit does besides adding its entries to the log.
type unitKind uint8

const (
	kindAppend unitKind = iota
	kindPut
	kindUpsert
	kindDelete
	kindFingerprint
	kindHolder
	kindKey
	// kindChange runs a function in a transaction that it shares.
	kindChange
	// kindClosure runs a function in a transaction of its own.
	kindClosure
	// kindOutside runs a function on the writing connection with no transaction open.
	kindOutside
	// kindRead reads between two transactions.
	kindRead
)

// The states of a unit: whoever moves it from queued decides its fate.
const (
	queued    = iota
	taken     // by the committer, which answers it
	abandoned // by its caller, nothing happens
)

// closureFunc makes changes in a transaction of its own on the log with head h
// and returns the entries for them. It may run more than once.
type closureFunc func(ctx context.Context, s session, h head) ([]audit.Sealed, error)

// unit is one call on its way through the committer. The caller fills the first
// part and reads the outcome after done.
type unit struct {
	kind    unitKind
	state   atomic.Int32
	done    chan struct{} // gets one value when the outcome is there
	entries []audit.Sealed
	one     [1]audit.Sealed // backs entries of most units

	record     vault.Record
	lookup     vault.Lookup
	expiredAt  vault.Micros
	hash       vault.MAC
	hashedBy   uint32 // version of the key that made hash
	tenant, id string
	holder     vault.Holder
	key        vault.WrappedKey
	change     changeFunc
	run        closureFunc
	outside    func(context.Context, writer) error
	read       func(context.Context, session) error
	outcome
}

// outcome is what became of a unit.
type outcome struct {
	err     error
	applied bool // its change is made, its entries belong into the log
	again   bool // what stood in its way has gone: it has to be tried once more
	tries   int  // not reset between tries

	// What stood in the way.
	existing       *vault.Record
	standingHolder *vault.Holder
	standingKey    *vault.WrappedKey
	standingID     string
}

var units = sync.Pool{New: func() any { return &unit{done: make(chan struct{}, 1)} }}

// newUnit returns an empty unit with one entry.
func newUnit(kind unitKind, e audit.Sealed) *unit {
	u := units.Get().(*unit)
	u.kind = kind
	u.one[0] = e
	u.entries = u.one[:]
	return u
}

// free gives the unit back. Only the caller may, and only after done.
func (u *unit) free() {
	done := u.done
	*u = unit{done: done} // nobody else holds it now
	units.Put(u)
}

// bytes is about what the unit adds to a segment.
func (u *unit) bytes() int {
	n := 0
	for i := range u.entries {
		n += len(u.entries[i].Line) + 1
	}
	return n
}

// apply makes the unit's change in the open transaction of SQLite. It is what a unit
// means; PostgreSQL has a form for many at once, see plan.
func (u *unit) apply(ctx context.Context, s session) (err error) {
	switch u.kind {
	case kindAppend:
		u.applied = true
	case kindPut:
		if u.applied, err = insertRecord(ctx, s, &u.record); err == nil && !u.applied {
			err = u.findStanding(ctx, s)
		}
	case kindUpsert:
		if u.applied, err = upsertRecord(ctx, s, &u.record); err == nil && !u.applied {
			u.err = errShredded(&u.record)
		}
	case kindDelete:
		u.applied, err = deleteRecord(ctx, s, &u.lookup, u.expiredAt)
	case kindFingerprint:
		if u.applied, err = insertFingerprint(ctx, s, &u.hash, u.hashedBy, u.tenant, u.id); err == nil && !u.applied {
			var found bool
			u.standingID, found, err = selectFingerprint(ctx, s, &u.hash)
			u.again = !found
		}
	case kindHolder:
		if u.applied, err = insertHolder(ctx, s, &u.holder); err == nil && !u.applied {
			u.standingHolder, err = selectHolder(ctx, s, u.holder.Tenant, u.holder.Name)
			u.again = u.standingHolder == nil
		}
	case kindKey:
		if u.applied, err = insertKey(ctx, s, &u.key); err == nil && !u.applied {
			if u.standingKey, err = standingKey(ctx, s, &u.key); u.standingKey != nil {
				u.err = errKeyID(&u.key, u.standingKey)
			}
			u.again = u.standingKey == nil
		}
	default:
		err = fmt.Errorf("unit of kind %d in a group", u.kind)
	}
	return err
}

// findStanding finds what stood in the way of an insert: a row, or that the holder
// is shredded.
func (u *unit) findStanding(ctx context.Context, s session) error {
	existing, err := standing(ctx, s, &u.record)
	if err != nil || existing != nil {
		u.existing = existing
		return err
	}
	may, err := holderMayStore(ctx, s, u.record.HolderID)
	if u.again = may; err == nil && !may {
		u.err = errShredded(&u.record)
	}
	return err
}

func errShredded(r *vault.Record) error {
	return fmt.Errorf("holder %d: %w", r.HolderID, vault.ErrShredded)
}
