package config

import (
	"fmt"
	"maps"
	"reflect"

	"github.com/pelletier/go-toml/v2"
)

// Redacted is the effective configuration as TOML, every default and derived
// value filled in, that Load would read back to the same. It holds no secret: only
// names of files that do, and a password in a database URL is replaced.
func (c Config) Redacted() (string, error) {
	c.Database.URL, c.KeyService.Database.URL = redactURL(c.Database.URL), redactURL(c.KeyService.Database.URL)
	b, err := toml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("print configuration: %w", err)
	}
	return string(b), nil
}

// Changed names the keys in which two configurations differ, in no special order,
// the content of secret and key files included; a tenant that only one of them
// has is named as tenants.<name>. The caller knows which of them need a restart.
func Changed(before, after Config) []string {
	var changed []string
	old := map[string]any{}
	walk(reflect.ValueOf(before), "", func(path string, _ reflect.StructField, v reflect.Value) { old[path] = v.Interface() })
	walk(reflect.ValueOf(after), "", func(path string, _ reflect.StructField, v reflect.Value) {
		if was, ok := old[path]; ok && !same(reflect.ValueOf(was), v) {
			changed = append(changed, path)
		}
	})
	if !before.Database.Password.Equal(after.Database.Password) {
		changed = append(changed, "database.password_file")
	}
	if !before.KeyService.Database.Password.Equal(after.KeyService.Database.Password) {
		changed = append(changed, "key_service.database.password_file")
	}
	if !before.KeyService.RootKey.Equal(after.KeyService.RootKey) {
		changed = append(changed, "key_service.root_key_file")
	}
	if !before.KeyService.RootToken.PIN.Equal(after.KeyService.RootToken.PIN) {
		changed = append(changed, "key_service.root_token.pin_file")
	}
	if !before.Audit.Publish.WitnessKey.Equal(after.Audit.Publish.WitnessKey) {
		changed = append(changed, "audit.publish.witness_key_file")
	}
	if !before.Locker.PrivateKeyPEM.Equal(after.Locker.PrivateKeyPEM) {
		changed = append(changed, "locker.private_key_file")
	}
	all := maps.Clone(before.Tenants)
	if all == nil {
		all = map[string]Tenant{}
	}
	maps.Copy(all, after.Tenants)
	for _, name := range sortedKeys(all) {
		changed = append(changed, changedTenant(name, before.Tenants, after.Tenants)...)
	}
	return changed
}

// same compares two values of one setting; no list is an empty list.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func changedTenant(name string, before, after map[string]Tenant) []string {
	key := join("tenants", name)
	a, had := before[name]
	b, has := after[name]
	if had != has {
		return []string{key}
	}
	var changed []string
	if string(a.PublicKeyPEM) != string(b.PublicKeyPEM) {
		changed = append(changed, key+".public_key_file")
	}
	if !a.SealedMasterKey.Equal(b.SealedMasterKey) {
		changed = append(changed, key+".sealed_master_key_file")
	}
	if !a.MasterKey.Equal(b.MasterKey) {
		changed = append(changed, key+".master_key_file")
	}
	if !a.PKCS11.PIN.Equal(b.PKCS11.PIN) {
		changed = append(changed, key+".pkcs11.pin_file")
	}
	if !a.External.Credentials.Equal(b.External.Credentials) {
		changed = append(changed, key+".external.credentials_file")
	}
	return changed
}
