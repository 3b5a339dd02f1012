package keymanager

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// MAC implements vault.KeyManager.
func (e *Envelope) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	label, err := macLabel(p)
	if err != nil {
		return vault.MAC{}, err
	}
	n, now, err := e.name(ctx, activeName{tenant, "", p})
	if err != nil {
		return vault.MAC{}, err
	}
	return e.macUnder(ctx, &n.active, now, label, parts)
}

// MACs implements vault.KeyChanger.
func (e *Envelope) MACs(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) ([]vault.VersionMAC, error) {
	label, err := macLabel(p)
	if err != nil {
		return nil, err
	}
	n, now, err := e.name(ctx, activeName{tenant, "", p})
	if err != nil {
		return nil, err
	}
	all := make([]vault.VersionMAC, 1+len(n.older))
	for i := range all {
		h := &n.active
		if i > 0 {
			h = n.older[i-1]
		}
		all[i].Version, all[i].Since = h.w.Version, h.w.CreatedAt
		if all[i].MAC, err = e.macUnder(ctx, h, now, label, parts); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// macLabel refuses purposes whose keys make no hashes.
func macLabel(p vault.Purpose) (string, error) {
	switch p {
	case vault.PurposeDedupe:
		return "cardea dedupe v1", nil
	case vault.PurposeFingerprint:
		return "cardea fingerprint v1", nil
	}
	return "", fmt.Errorf("keyed hash under a %s key: a key has one purpose only", p)
}

func (e *Envelope) macUnder(ctx context.Context, h *held, now time.Time, label string, parts [][]byte) (vault.MAC, error) {
	k, _, err := e.hold(ctx, h, now)
	if err != nil {
		return vault.MAC{}, err
	}
	defer k.release()
	if r, ok := e.wrappers[k.mode].(*kmsReferences); ok {
		return r.mac(ctx, k, macMessage(k.tenant, k.purpose, label, parts))
	}
	return ciphertext.MAC(k.key, label, parts...)
}

// macMessage is what KMS makes the MAC of (docs/spec/wrapped-key.md). Tenants and
// purposes may share a KMS key.
func macMessage(tenant string, p vault.Purpose, label string, parts [][]byte) []byte {
	inner := ciphertext.Context(label, parts...)
	defer secret.Wipe(inner) // the parts may hold a card number
	digest := sha256.Sum256(inner)
	return ciphertext.Context("cardea kms mac v1", []byte(tenant), []byte(p), digest[:])
}
