package vault

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cardea/internal/ciphertext"
	"cardea/internal/iam"
)

// KeyInfo is what an operator sees of a key version. No part of it is secret.
type KeyInfo struct {
	ID      string    `json:"key"`
	Version uint32    `json:"version"`
	Tenant  string    `json:"tenant"`
	Holder  string    `json:"holder,omitempty"` // the merchant; empty for a key of the whole tenant
	Purpose Purpose   `json:"purpose"`
	Spec    string    `json:"spec"`
	State   KeyState  `json:"state"`
	Mode    string    `json:"mode"`
	KMSKey  string    `json:"kms_key,omitempty"` // that wraps it, or that it stands for
	Current bool      `json:"current"`           // its mode and KMS key are those that are configured
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed,omitzero"` // of the state
	// Due is when it is replaced by itself, if it is active and has a cryptoperiod.
	Due          time.Time `json:"due,omitzero"`
	Counted      bool      `json:"counted"` // whether Records was
	Records      int64     `json:"records"` // under it now, or keyed hashes that it made
	Sealed       uint64    `json:"sealed"`  // under it since it was made, at least
	MessageLimit uint64    `json:"message_limit,omitempty"`
}

// KeyQuery chooses key versions. Empty fields choose all.
type KeyQuery struct {
	Tenant string `json:"tenant"` // must be given
	Holder string `json:"holder,omitempty"`
	Key    string `json:"key,omitempty"`   // id
	Count  bool   `json:"count,omitempty"` // count the records under each, which looks at all of them
}

// Keys lists the key versions of a tenant by holder, purpose and version.
func (a *KeyAdmin) Keys(ctx context.Context, who iam.Principal, q KeyQuery) ([]KeyInfo, error) {
	var out []KeyInfo
	err := a.do(ctx, who, OpKeyList, q.Tenant, q.Holder, func(c *call) error {
		c.entry.Resource.Key = q.Key
		a.flush(ctx)
		inv, err := a.o.Store.Inventory(ctx, q.Tenant)
		if err != nil {
			return err
		}
		for _, w := range inv {
			if q.Holder != "" && w.Holder != q.Holder || q.Key != "" && w.ID.String() != q.Key {
				continue
			}
			k := a.info(w)
			if q.Count {
				if k.Records, err = a.count(ctx, w); err != nil {
					return err
				}
				k.Counted = true
			}
			out = append(out, k)
		}
		c.entry.Result = "told"
		if len(out) == 0 && (q.Key != "" || q.Holder != "") {
			return fmt.Errorf("no such key in tenant %s: %w", q.Tenant, ErrNotFound)
		}
		return nil
	})
	return out, err
}

func (a *KeyAdmin) info(w WrappedKey) KeyInfo {
	k := KeyInfo{
		ID: w.ID.String(), Version: w.Version, Tenant: w.Tenant, Holder: w.Holder, Purpose: w.Purpose, Spec: w.spec(), State: w.State,
		Mode: w.Mode.String(), KMSKey: w.kmsKey(), Current: a.o.Keys.Current(w), Created: w.CreatedAt.Time(), Sealed: w.Sealed,
	}
	if w.ChangedAt != 0 {
		k.Changed = w.ChangedAt.Time()
	}
	p := a.o.Policy(w.Tenant)
	if w.State == KeyActive && w.replaceable() {
		k.MessageLimit = p.MessageLimit
		if p.Cryptoperiod > 0 {
			k.Due = w.CreatedAt.Time().Add(p.Cryptoperiod)
		}
	}
	return k
}

// count is how many records are under a key version, or keyed hashes of it stored.
func (a *KeyAdmin) count(ctx context.Context, w WrappedKey) (int64, error) {
	if w.replaceable() {
		return a.o.Store.CountRecords(ctx, w.version())
	}
	return a.o.Store.CountHashed(ctx, w.Tenant, w.Purpose, w.Version)
}

// replaceable says whether records can be moved from under the key to another.
func (w *WrappedKey) replaceable() bool {
	return w.Purpose == PurposeRecord || w.Purpose == PurposeDirect
}

func (w *WrappedKey) spec() string {
	switch w.Purpose {
	case PurposeDedupe, PurposeFingerprint:
		return "HMAC_256"
	case PurposeDirect:
		return "SYMMETRIC_DEFAULT"
	case PurposeRecord:
	}
	return "AES_256"
}

// kmsKey is the KMS key that wraps w or that w stands for; empty if there is none.
func (w *WrappedKey) kmsKey() string {
	if w.Mode != ModeKMSEnvelope && w.Mode != ModeKMS {
		return ""
	}
	k, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	if err != nil {
		return "" // destroyed, or not as it was stored
	}
	return k.KMSKey
}

// byVersion puts key versions of one key together, the newest last.
func byVersion(inv []WrappedKey) {
	slices.SortFunc(inv, func(a, b WrappedKey) int {
		return cmp.Or(cmp.Compare(a.Holder, b.Holder), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Version, b.Version))
	})
}
