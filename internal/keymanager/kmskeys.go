package keymanager

import (
	"fmt"
	"strings"
	"sync/atomic"

	"cardea/internal/kmsclient"
	"cardea/internal/vault"
)

// KMSKeys are a tenant's keys in AWS KMS. Keys are named by ARN or id, not by
// alias: an alias may come to mean another key.
type KMSKeys struct {
	// Key wraps branch keys or encrypts records. Its replicas are multi-Region keys
	// with the same key id, which open what it sealed.
	Key kmsclient.Key
	// MAC is the HMAC_256 key of mode aws_kms; without one the keyed hashes of that
	// mode are made under branch keys, as in mode aws_kms_envelope.
	MAC kmsclient.Key
	// Previous are ARNs of keys that still open what they sealed. What names any
	// other key is not opened: whoever could write a row would choose its key.
	Previous []string
	// OversizeEnvelope seals what is too long for KMS in mode aws_kms_envelope.
	OversizeEnvelope bool
}

// isPresent reports whether the stored text names the key that seals now.
func (k KMSKeys) isPresent(stored string) bool {
	if sameKMSKey(k.Key.ID, stored) {
		return true
	}
	for _, r := range k.Key.Replicas {
		if sameKMSKey(inRegion(k.Key.ID, r.Region), stored) { // the same material as at home
			return true
		}
	}
	return false
}

// opens is how to reach the key that the stored text names.
func (k KMSKeys) opens(stored string) (kmsclient.Key, error) {
	if k.isPresent(stored) {
		return k.Key, nil
	}
	if p, ok := k.previous(stored); ok {
		return p, nil
	}
	return kmsclient.Key{}, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf(
		"names KMS key %s, which is neither the tenant's kms.key_id nor among its kms.previous_key_ids: %w", stored, vault.ErrKeyUnavailable)}
}

// hashes is how to reach the HMAC key that the stored text names.
func (k KMSKeys) hashes(stored string) (kmsclient.Key, error) {
	if sameKMSKey(k.MAC.ID, stored) {
		return k.MAC, nil
	}
	if p, ok := k.previous(stored); ok {
		return p, nil
	}
	return kmsclient.Key{}, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf(
		"keyed hashes are made by KMS key %s, which is neither the tenant's kms.mac_key_id nor among its kms.previous_key_ids: %w", stored, vault.ErrKeyUnavailable)}
}

func (k KMSKeys) previous(stored string) (kmsclient.Key, bool) {
	for _, p := range k.Previous {
		if sameKMSKey(p, stored) {
			key := k.Key
			key.ID, key.Replicas = p, nil
			if region := regionOf(p); region != "" {
				key.Region = region
			}
			return key, true
		}
	}
	return kmsclient.Key{}, false
}

// sameKMSKey compares two names of keys, of which one may be an id without the rest
// of its ARN.
func sameKMSKey(a, b string) bool {
	return a != "" && b != "" && (a == b || a == bareID(b) || b == bareID(a))
}

// bareID is the key id at the end of a key ARN, empty for anything else.
func bareID(arn string) string {
	_, id, _ := strings.Cut(arn, ":key/")
	if regionOf(arn) == "" {
		return ""
	}
	return id
}

// inRegion is the ARN of a multi-Region key in another Region.
func inRegion(arn, region string) string {
	f := strings.Split(arn, ":")
	if regionOf(arn) == "" || !strings.HasPrefix(f[5], "key/mrk-") {
		return ""
	}
	f[3] = region
	return strings.Join(f, ":")
}

// regionOf is the Region of a key ARN, empty for anything else.
func regionOf(id string) string {
	if f := strings.Split(id, ":"); len(f) == 6 && f[0] == "arn" {
		return f[3]
	}
	return ""
}

// KMSTenants are the keys in AWS KMS of the tenants that have some. They may change
// at any time; a reader sees the old set or the new one whole.
type KMSTenants struct {
	set atomic.Pointer[map[string]KMSKeys]
}

// NewKMSTenants starts with keys, which the caller does not change any more.
func NewKMSTenants(keys map[string]KMSKeys) *KMSTenants {
	t := &KMSTenants{}
	t.Replace(keys)
	return t
}

// Replace makes keys the whole set.
func (t *KMSTenants) Replace(keys map[string]KMSKeys) { t.set.Store(&keys) }

// All are the keys of all tenants, not to be changed.
func (t *KMSTenants) All() map[string]KMSKeys { return *t.set.Load() }

func (t *KMSTenants) of(tenant string) (KMSKeys, error) {
	k, ok := (*t.set.Load())[tenant]
	if !ok {
		return KMSKeys{}, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf("tenant %q has no kms.key_id: %w", tenant, vault.ErrKeyUnavailable)}
	}
	return k, nil
}
