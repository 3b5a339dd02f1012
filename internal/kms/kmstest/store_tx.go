package kmstest

import (
	"context"

	"cardea/internal/audit"
	"cardea/internal/kms"
)

// tx changes a copy of the state.
type tx struct {
	reader
	entries []audit.Sealed
	changes []kms.Change
	fault   func(call string) error
}

func (t *tx) fails(call string) error {
	if t.fault == nil {
		return nil
	}
	return t.fault(call)
}

func (t *tx) changed(ref kms.KeyRef) { t.changes = append(t.changes, kms.Change{KeyRef: ref}) }

func (t *tx) PutKey(_ context.Context, k *kms.Key) error {
	if err := t.fails("Tx.PutKey"); err != nil {
		return err
	}
	old, found := t.keys[k.KeyRef]
	if found != (k.Version != 0) || found && old.Version != k.Version {
		return kms.ErrChanged
	}
	c := k.Clone()
	c.Version++
	t.keys[k.KeyRef] = c
	t.changed(k.KeyRef)
	return nil
}

func (t *tx) DeleteKey(_ context.Context, ref kms.KeyRef) error {
	if err := t.fails("Tx.DeleteKey"); err != nil {
		return err
	}
	if _, found := t.keys[ref]; !found {
		return kms.ErrChanged
	}
	delete(t.keys, ref)
	delete(t.usage, ref)
	for k, a := range t.aliases {
		if a.Account == ref.Account && a.Region == ref.Region && a.KeyID == ref.ID {
			delete(t.aliases, k)
			t.changes = append(t.changes, kms.Change{KeyRef: kms.KeyRef{Account: a.Account, Region: a.Region}, Alias: a.Name})
		}
	}
	for k := range t.grants {
		if k.key == ref {
			delete(t.grants, k)
		}
	}
	t.changed(ref)
	return nil
}

func (t *tx) CountKeys(_ context.Context, account, region, keyStoreID string) (int, error) {
	n := 0
	for ref, k := range t.keys {
		if ref.Account == account && ref.Region == region && (keyStoreID == "" || k.KeyStoreID == keyStoreID) {
			n++
		}
	}
	return n, nil
}

func (t *tx) PutAlias(_ context.Context, a *kms.Alias, replace bool) error {
	if err := t.fails("Tx.PutAlias"); err != nil {
		return err
	}
	k := aliasKey{a.Account, a.Region, a.Name}
	old, found := t.aliases[k]
	ref := kms.KeyRef{Account: a.Account, Region: a.Region, ID: a.KeyID}
	if _, there := t.keys[ref]; found != replace || !there {
		return kms.ErrChanged
	}
	if found {
		t.changed(kms.KeyRef{Account: a.Account, Region: a.Region, ID: old.KeyID})
	}
	t.aliases[k] = *a
	t.changes = append(t.changes, kms.Change{KeyRef: ref, Alias: a.Name})
	return nil
}

func (t *tx) DeleteAlias(_ context.Context, account, region, name string) error {
	if err := t.fails("Tx.DeleteAlias"); err != nil {
		return err
	}
	k := aliasKey{account, region, name}
	old, found := t.aliases[k]
	if !found {
		return kms.ErrChanged
	}
	delete(t.aliases, k)
	t.changes = append(t.changes, kms.Change{KeyRef: kms.KeyRef{Account: account, Region: region, ID: old.KeyID}, Alias: name})
	return nil
}

func (t *tx) PutGrant(_ context.Context, g *kms.Grant) error {
	if err := t.fails("Tx.PutGrant"); err != nil {
		return err
	}
	k := grantKey{g.Key, g.ID}
	_, found := t.grants[k]
	if _, there := t.keys[g.Key]; found || !there {
		return kms.ErrChanged
	}
	t.grants[k] = *g
	t.changed(g.Key)
	return nil
}

func (t *tx) DeleteGrant(_ context.Context, ref kms.KeyRef, id string) error {
	if err := t.fails("Tx.DeleteGrant"); err != nil {
		return err
	}
	k := grantKey{ref, id}
	if _, found := t.grants[k]; !found {
		return kms.ErrChanged
	}
	delete(t.grants, k)
	t.changed(ref)
	return nil
}

func (t *tx) CountGrants(_ context.Context, ref kms.KeyRef) (int, error) {
	n := 0
	for k := range t.grants {
		if k.key == ref {
			n++
		}
	}
	return n, nil
}

func (t *tx) PutKeyStore(_ context.Context, s *kms.KeyStore) error {
	if err := t.fails("Tx.PutKeyStore"); err != nil {
		return err
	}
	k := storeKey{s.Account, s.Region, s.ID}
	old, found := t.stores[k]
	if found != (s.Version != 0) || found && old.Version != s.Version {
		return kms.ErrChanged
	}
	c := *s
	c.Version++
	t.stores[k] = c
	return nil
}

func (t *tx) DeleteKeyStore(_ context.Context, account, region, id string) error {
	if err := t.fails("Tx.DeleteKeyStore"); err != nil {
		return err
	}
	k := storeKey{account, region, id}
	if _, found := t.stores[k]; !found {
		return kms.ErrChanged
	}
	delete(t.stores, k)
	return nil
}

func (t *tx) Append(e audit.Sealed) { t.entries = append(t.entries, e) }
