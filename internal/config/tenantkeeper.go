package config

import (
	"time"

	"cardea/internal/secret"
)

// TenantPKCS11 is a tenant's key in an HSM that speaks PKCS #11.
type TenantPKCS11 struct {
	Module   string `toml:"module" path:"true"` // PKCS #11 library
	Token    string `toml:"token"`              // label
	PINFile  string `toml:"pin_file" path:"true"`
	KeyLabel string `toml:"key_label"` // of an AES-256 key that cannot leave the token

	PIN secret.Bytes `toml:"-"` // content of PINFile
}

// Enabled says whether the tenant has a key in an HSM.
func (p TenantPKCS11) Enabled() bool { return p.KeyLabel != "" }

// TenantExternal is Hyperswitch's encryption service as a tenant reaches it.
type TenantExternal struct {
	URL             string   `toml:"url"`
	CAFile          string   `toml:"ca_file" path:"true"`
	CertFile        string   `toml:"cert_file" path:"true"` // the vault's, if the service asks for one
	KeyFile         string   `toml:"key_file" path:"true"`
	CredentialsFile string   `toml:"credentials_file" path:"true"` // 64 hex digits that the service knows the tenant by
	Timeout         Duration `toml:"timeout"`                      // of a call with all its tries

	Credentials secret.Bytes `toml:"-"` // 32 bytes
}

// Enabled says whether the tenant has an encryption service.
func (e TenantExternal) Enabled() bool { return e.URL != "" }

// defaultExternalTimeout of a call of the encryption service.
const defaultExternalTimeout = 5 * time.Second

func (t Tenant) validatePKCS11(v *validation, key string) {
	p := t.PKCS11
	key += ".pkcs11"
	if !p.Enabled() {
		if t.Mode == ModePKCS11 {
			v.add(key+".key_label", "is missing; mode %q needs a key in an HSM", t.Mode)
		} else if p.Module != "" || p.Token != "" || p.PINFile != "" {
			v.add(key, "has no effect without key_label; set that or remove the rest")
		}
		return
	}
	for _, s := range []struct{ name, value, what string }{
		{"module", p.Module, "the path of the HSM's PKCS #11 library"},
		{"token", p.Token, "the label of the token"},
		{"pin_file", p.PINFile, "the file with the user's PIN"},
	} {
		if s.value == "" {
			v.add(key+"."+s.name, "is missing; name %s", s.what)
		}
	}
	if n := len(p.Token); n > 32 {
		v.add(key+".token", "has %d bytes, a token's label at most 32", n)
	}
	if n := len(p.KeyLabel); n > 255 {
		v.add(key+".key_label", "has %d bytes, expected at most 255", n)
	}
}

func (t Tenant) validateExternal(v *validation, key string) {
	e := t.External
	key += ".external"
	if !e.Enabled() {
		if t.Mode == ModeExternal {
			v.add(key+".url", "is missing; mode %q needs an encryption service", t.Mode)
		} else if e.CAFile != "" || e.CertFile != "" || e.KeyFile != "" || e.CredentialsFile != "" {
			v.add(key, "has no effect without url; set that or remove the rest")
		}
		return
	}
	validateKMSEndpoint(v, key+".url", e.URL)
	if (e.CertFile == "") != (e.KeyFile == "") {
		v.add(key+".cert_file", "and key_file go together; set both or none")
	}
	v.durationBetween(key+".timeout", e.Timeout, 100*time.Millisecond, 30*time.Second)
}
