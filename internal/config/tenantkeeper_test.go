package config_test

import (
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/secret"
)

// inHSM is a valid configuration whose tenant jwe has its key in an HSM.
func inHSM(t *testing.T, change func(*config.Tenant)) config.Config {
	t.Helper()
	return withKeeper(t, func(x *config.Tenant) {
		x.Mode = config.ModePKCS11
		x.PKCS11 = config.TenantPKCS11{Module: "/lib/p11.so", Token: "cards", PINFile: "pin", KeyLabel: "vault", PIN: secret.Copy([]byte("1234567"))}
		if change != nil {
			change(x)
		}
	})
}

// inService is a valid configuration whose tenant jwe has its key in an encryption
// service.
func inService(t *testing.T, change func(*config.Tenant)) config.Config {
	t.Helper()
	return withKeeper(t, func(x *config.Tenant) {
		x.Mode = config.ModeExternal
		x.External.URL = "https://keys.example:6128"
		if change != nil {
			change(x)
		}
	})
}

func withKeeper(t *testing.T, change func(*config.Tenant)) config.Config {
	t.Helper()
	c := valid(t)
	x := c.Tenants["jwe"]
	change(&x)
	c.Tenants["jwe"] = x
	c.Derive("host")
	return c
}

func TestKeysInAnHSMOrAnEncryptionServiceAreAccepted(t *testing.T) {
	for name, c := range map[string]config.Config{
		"HSM": inHSM(t, nil),
		"longest names": inHSM(t, func(x *config.Tenant) {
			x.PKCS11.Token, x.PKCS11.KeyLabel = strings.Repeat("t", 32), strings.Repeat("k", 255)
		}),
		"rows of it in local": inHSM(t, func(x *config.Tenant) { x.Mode = config.ModeLocal }),
		"service":             inService(t, nil),
		"service, mTLS": inService(t, func(x *config.Tenant) {
			x.External.CAFile, x.External.CertFile, x.External.KeyFile = "ca.pem", "vault.pem", "vault.key"
			x.External.CredentialsFile, x.External.Credentials = "basic", secret.Random(32)
		}),
		"service on this machine": inService(t, func(x *config.Tenant) { x.External.URL = "http://127.0.0.1:6128" }),
		"shortest timeout":        inService(t, func(x *config.Tenant) { x.External.Timeout = config.Duration{Duration: 100 * time.Millisecond} }),
		"longest timeout":         inService(t, func(x *config.Tenant) { x.External.Timeout = config.Duration{Duration: 30 * time.Second} }),
		"rows of both in local": withKeeper(t, func(x *config.Tenant) {
			x.External.URL, x.PKCS11 = "https://keys.example", config.TenantPKCS11{Module: "/lib/p11.so", Token: "cards", PINFile: "pin", KeyLabel: "vault"}
		}),
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := inService(t, nil).Tenants["jwe"].External.Timeout.Duration; got != 5*time.Second {
		t.Errorf("timeout %s unless it is set", got)
	}
}

func TestKeysInAnHSMAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*config.Tenant)
		want   []string
	}{
		"no key":   {func(x *config.Tenant) { x.PKCS11 = config.TenantPKCS11{} }, []string{`tenants.jwe.pkcs11.key_label: is missing; mode "pkcs11" needs a key in an HSM`}},
		"no label": {func(x *config.Tenant) { x.PKCS11.KeyLabel = "" }, []string{`tenants.jwe.pkcs11.key_label: is missing; mode "pkcs11" needs a key in an HSM`}},
		"module alone": {func(x *config.Tenant) {
			x.Mode, x.PKCS11 = config.ModeLocal, config.TenantPKCS11{Module: "/lib/p11.so"}
		}, []string{"tenants.jwe.pkcs11: has no effect without key_label; set that or remove the rest"}},
		"token alone": {func(x *config.Tenant) { x.Mode, x.PKCS11 = config.ModeLocal, config.TenantPKCS11{Token: "cards"} }, []string{"tenants.jwe.pkcs11: has no effect without key_label; set that or remove the rest"}},
		"PIN alone":   {func(x *config.Tenant) { x.Mode, x.PKCS11 = config.ModeLocal, config.TenantPKCS11{PINFile: "pin"} }, []string{"tenants.jwe.pkcs11: has no effect without key_label; set that or remove the rest"}},
		"label alone": {func(x *config.Tenant) { x.PKCS11 = config.TenantPKCS11{KeyLabel: "vault"} }, []string{
			"tenants.jwe.pkcs11.module: is missing; name the path of the HSM's PKCS #11 library",
			"tenants.jwe.pkcs11.token: is missing; name the label of the token",
			"tenants.jwe.pkcs11.pin_file: is missing; name the file with the user's PIN",
		}},
		"label alone, local": {func(x *config.Tenant) { x.Mode, x.PKCS11.Module = config.ModeLocal, "" }, []string{"tenants.jwe.pkcs11.module: is missing; name the path of the HSM's PKCS #11 library"}},
		"names too long": {func(x *config.Tenant) {
			x.PKCS11.Token, x.PKCS11.KeyLabel = strings.Repeat("t", 33), strings.Repeat("k", 256)
		}, []string{
			"tenants.jwe.pkcs11.token: has 33 bytes, a token's label at most 32", "tenants.jwe.pkcs11.key_label: has 256 bytes, expected at most 255",
		}},
		"mode": {func(x *config.Tenant) { x.Mode = "hsm" }, []string{`tenants.jwe.mode: "hsm" is not known, expected one of local, aws_kms_envelope, aws_kms, pkcs11, external`}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, inHSM(t, tc.change).Validate(), tc.want...) })
	}
}

func TestKeysInAnEncryptionServiceAreRefused(t *testing.T) {
	external := func(f func(*config.TenantExternal)) func(*config.Tenant) {
		return func(x *config.Tenant) { f(&x.External) }
	}
	local := func(f func(*config.TenantExternal)) func(*config.Tenant) {
		return func(x *config.Tenant) {
			x.Mode, x.External.URL = config.ModeLocal, ""
			f(&x.External)
		}
	}
	const (
		alone    = "tenants.jwe.external: has no effect without url; set that or remove the rest"
		endpoint = "tenants.jwe.external.url: is not an endpoint, expected https://host or https://host:port"
		together = "tenants.jwe.external.cert_file: and key_file go together; set both or none"
	)
	for name, tc := range map[string]struct {
		change func(*config.Tenant)
		want   string
	}{
		"no service":          {external(func(e *config.TenantExternal) { e.URL = "" }), `tenants.jwe.external.url: is missing; mode "external" needs an encryption service`},
		"authority alone":     {local(func(e *config.TenantExternal) { e.CAFile = "ca.pem" }), alone},
		"certificate alone":   {local(func(e *config.TenantExternal) { e.CertFile = "vault.pem" }), alone},
		"key alone":           {local(func(e *config.TenantExternal) { e.KeyFile = "vault.key" }), alone},
		"credentials alone":   {local(func(e *config.TenantExternal) { e.CredentialsFile = "basic" }), alone},
		"no scheme":           {external(func(e *config.TenantExternal) { e.URL = "keys.example:6128" }), endpoint},
		"a path":              {external(func(e *config.TenantExternal) { e.URL = "https://keys.example/data" }), endpoint},
		"a secret in it":      {external(func(e *config.TenantExternal) { e.URL = "https://u:canary@keys.example" }), endpoint},
		"plain":               {external(func(e *config.TenantExternal) { e.URL = "http://keys.example" }), "tenants.jwe.external.url: http://keys.example is plain HTTP to another machine, which would see keys and card data in clear; use https"},
		"certificate, no key": {external(func(e *config.TenantExternal) { e.CertFile = "vault.pem" }), together},
		"key, no certificate": {external(func(e *config.TenantExternal) { e.KeyFile = "vault.key" }), together},
		"too short":           {external(func(e *config.TenantExternal) { e.Timeout = config.Duration{Duration: 99 * time.Millisecond} }), "tenants.jwe.external.timeout: 99ms is out of range, expected 100ms to 30s"},
		"too long":            {external(func(e *config.TenantExternal) { e.Timeout = config.Duration{Duration: 31 * time.Second} }), "tenants.jwe.external.timeout: 31s is out of range, expected 100ms to 30s"},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, inService(t, tc.change).Validate(), tc.want) })
	}
}

// TestFilesOfKeepersAreRead, and what is wrong with them is told, but not their
// content.
func TestFilesOfKeepersAreRead(t *testing.T) {
	const text = `
[tenants.hsm]
mode = "pkcs11"
[tenants.hsm.pkcs11]
module = "p11.so"
token = "cards"
pin_file = "pin"
key_label = "vault"
[tenants.service]
mode = "external"
[tenants.service.external]
url = "https://keys.example:6128"
ca_file = "ca.pem"
cert_file = "vault.pem"
key_file = "vault.key"
credentials_file = "basic"
`
	files := map[string]string{
		"cardea.toml": text, "p11.so": "x", "pin": "1234567\n", "ca.pem": "x", "vault.pem": "x", "vault.key": "x",
		"basic": strings.Repeat("0a", 32) + "\n",
	}
	f := newFolder(t, files)
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	hsm, service := c.Tenants["hsm"].PKCS11, c.Tenants["service"].External
	if string(hsm.PIN.Expose()) != "1234567" || hsm.Module != f.path("p11.so") {
		t.Errorf("PIN is not the file's, or module %s", hsm.Module)
	}
	if string(service.Credentials.Expose()) != strings.Repeat("\n", 32) || service.CAFile != f.path("ca.pem") {
		t.Errorf("credentials are not the file's, or authority %s", service.CAFile)
	}

	for name, content := range map[string]string{"pin": "1234567\ncanary\n", "basic": "canary"} {
		f.write(t, name, content)
	}
	wantErrors(t, mustLoad(t, f).Validate(),
		"tenants.hsm.pkcs11.pin_file: "+f.path("pin")+" has more than one line, expected the PIN alone",
		"tenants.service.external.credentials_file: "+f.path("basic")+": expected 64 hex digits (32 bytes), got 6 characters")
}

// TestFilesOfKeepersThatCannotBeReadAreTold, and so is a PIN that is none.
func TestFilesOfKeepersThatCannotBeReadAreTold(t *testing.T) {
	f := newFolder(t, map[string]string{"pin": "", "cardea.toml": `
[tenants.hsm]
mode = "pkcs11"
pkcs11 = {module = "p11.so", token = "cards", pin_file = "pin", key_label = "vault"}
[tenants.service]
mode = "external"
external = {url = "https://keys.example:6128", ca_file = "ca.pem", cert_file = "vault.pem", key_file = "vault.key", credentials_file = "basic"}
`})
	missing := func(call, key, name string) string {
		return key + ": " + call + " " + f.path(name) + ": no such file or directory"
	}
	wantErrors(t, mustLoad(t, f).Validate(),
		"tenants.hsm.pkcs11.pin_file: "+f.path("pin")+" is empty",
		missing("open", "tenants.hsm.pkcs11.module", "p11.so"),
		missing("stat", "tenants.service.external.credentials_file", "basic"),
		missing("open", "tenants.service.external.ca_file", "ca.pem"),
		missing("open", "tenants.service.external.cert_file", "vault.pem"),
		missing("open", "tenants.service.external.key_file", "vault.key"),
	)
}
