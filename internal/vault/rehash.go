package vault

import (
	"cmp"
	"context"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/pan"
	"cardea/internal/secret"
)

// hashes computes the keyed hashes of cards again that are under a replaced key.
func (r *jobRun) hashes(ctx context.Context) error {
	if r.job.Holder != "" {
		return nil
	}
	active, err := r.hashKey(ctx)
	if err != nil || active.Version <= 1 {
		return err
	}
	// Until every node looks for cards by their hash under it, none gets one.
	if settles := active.CreatedAt + Micros(settleDelay.Microseconds()); r.a.gate.now() < settles {
		return r.wait(ctx, stepHashes, settles)
	}
	if err := r.step(ctx, stepHashes); err != nil {
		return err
	}
	r.job.Key = active.version()
	for {
		var changed int64
		r.job.After = 0
		for {
			began := r.a.gate.Now()
			rows, err := r.a.o.Store.RecordsWithDedupe(ctx, r.job.Tenant, active.Version, r.job.After, jobBatch)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			skipped, err := r.rehash(ctx, active, rows)
			if err != nil {
				return err
			}
			changed += skipped
			r.job.After = rows[len(rows)-1].Row
			if err := cmp.Or(r.save(ctx, false), r.pace(ctx, len(rows), r.a.gate.Now().Sub(began))); err != nil {
				return err
			}
		}
		if changed == 0 {
			return nil
		}
	}
}

// hashKey is the active key of cards' keyed hashes; the zero one if there is none.
func (r *jobRun) hashKey(ctx context.Context) (WrappedKey, error) {
	w, err := r.a.o.Store.ActiveKey(ctx, r.job.Tenant, "", PurposeDedupe)
	if isNotFound(err) {
		return WrappedKey{}, nil
	}
	return w, err
}

// rehash gives a batch of rows their hashes under the active key.
func (r *jobRun) rehash(ctx context.Context, active WrappedKey, rows []HeldRecord) (skipped int64, err error) {
	hashes := make([]*MAC, len(rows))
	err = each(rows, func(i int, h *HeldRecord) error {
		var err error
		hashes[i], err = r.hash(ctx, active, h)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("hash cards again: %w", err)
	}
	var changes []ResealedRecord
	for i, h := range rows {
		if hashes[i] != nil { // else it is told of by then
			changes = append(changes, ResealedRecord{Row: h.Row, Was: h.Sealed, Sealed: h.sealed(), Dedupe: hashes[i], HashedBy: active.Version})
		}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	var done int64
	err = r.a.do(ctx, r.who(), OpKeyReencrypt, r.job.Tenant, "", func(c *call) error {
		c.key(active.version())
		c.entry.Detail = fmt.Sprintf("%d cards hashed under version %d of the dedupe key, but those changed meanwhile, job %s", len(changes), active.Version, r.job.ID)
		some, err := c.commit(ctx, "hashed", func(ctx context.Context, e audit.Sealed) (bool, error) {
			is, err := r.a.o.Store.ReplaceSealed(ctx, changes, e)
			done = 0
			for _, d := range is {
				if d {
					done++
				}
			}
			return done > 0, err
		})
		if err == nil && !some {
			c.entry.Result = "changed"
		}
		return err
	})
	return int64(len(changes)) - done, err
}

// hash is a card's keyed hash under the active key; nil if the card does not open.
func (r *jobRun) hash(ctx context.Context, active WrappedKey, h *HeldRecord) (*MAC, error) {
	plaintext, err := r.a.o.Keys.Open(ctx, h.context(), h.sealed())
	defer plaintext.Destroy()
	var hashed secret.Bytes
	if err == nil {
		hashed, err = hashedPart(h.Kind, plaintext)
		defer hashed.Destroy()
	}
	if err != nil {
		if unfit(err) || r.shredded(ctx, h, err) {
			return nil, nil //nolint:nilnil // moving it tells so
		}
		return nil, err
	}
	all, err := r.a.o.Keys.MACs(ctx, h.Holder.Tenant, PurposeDedupe, dedupeParts(h.Kind, h.Holder.Name, h.Customer, hashed)...)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || all[0].Version != active.Version {
		return nil, fmt.Errorf("the dedupe key has changed meanwhile: %w", ErrKeyUnavailable)
	}
	return &all[0].MAC, nil
}

// hashedPart is what of a record's plaintext its keyed hash is of.
func hashedPart(k Kind, plaintext secret.Bytes) (secret.Bytes, error) {
	if k != KindCard {
		return secret.Copy(plaintext.Expose()), nil
	}
	c, err := decodeCard(plaintext)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer c.Destroy()
	return receivedNumber(c.Number), nil
}

func receivedNumber(n pan.PAN) secret.Bytes { return secret.Copy(n.Received().Expose()) }

// dedupeParts are what the keyed hash of a card or of data is made of.
func dedupeParts(k Kind, merchant, customer string, hashed secret.Bytes) [][]byte {
	return [][]byte{[]byte(k.String()), []byte(merchant), []byte(customer), hashed.Expose()}
}
