package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
)

func TestEnvironmentOverridesFiles(t *testing.T) {
	const file = `
[vault]
listen = "127.0.0.1:1"
trusted_proxies = ["10.0.0.0/8"]
[database]
url = "postgres://c@127.0.0.1/c"
[tenants.Acme]
lazy_holders = true
`
	for env, get := range map[string]func(config.Config) (got, want any){
		"CARDEA__VAULT__LISTEN=127.0.0.1:2":                       func(c config.Config) (any, any) { return c.Vault.Listen, "127.0.0.1:2" },
		"CARDEA__vault__Listen=127.0.0.1:2":                       func(c config.Config) (any, any) { return c.Vault.Listen, "127.0.0.1:2" },
		"CARDEA__VAULT__TLS__CLIENT_CERTIFICATES=optional":        func(c config.Config) (any, any) { return c.Vault.TLS.ClientCertificates, "optional" },
		"CARDEA__VAULT__INSECURE_PLAIN_HTTP_OFF_LOOPBACK=true":    func(c config.Config) (any, any) { return c.Vault.InsecurePlainHTTPOffLoopback, true },
		"CARDEA__VAULT__BODY_LIMIT_BYTES=4096":                    func(c config.Config) (any, any) { return c.Vault.BodyLimitBytes, int64(4096) },
		"CARDEA__VAULT__MAX_CONNECTIONS=5":                        func(c config.Config) (any, any) { return c.Vault.MaxConnections, 5 },
		"CARDEA__VAULT__SHUTDOWN_GRACE=1m30s":                     func(c config.Config) (any, any) { return c.Vault.ShutdownGrace.Duration, 90 * time.Second },
		"CARDEA__VAULT__TRUSTED_PROXIES=192.0.2.0/24, fd00::/8":   func(c config.Config) (any, any) { return len(c.Vault.TrustedProxies), 2 },
		"CARDEA__VAULT__TRUSTED_PROXIES=":                         func(c config.Config) (any, any) { return len(c.Vault.TrustedProxies), 0 },
		"CARDEA__LIMITS__DELETE_PER_SECOND=0.5":                   func(c config.Config) (any, any) { return c.Limits.DeletePerSecond, 0.5 },
		"CARDEA__NODE__NAME=0012":                                 func(c config.Config) (any, any) { return c.Node.Name, "0012" },
		"CARDEA__LOCKER__VERSION_HEADER=a=b":                      func(c config.Config) (any, any) { return c.Locker.VersionHeader, "a=b" },
		"CARDEA__TENANTS__ACME__LAZY_HOLDERS=false":               func(c config.Config) (any, any) { return c.Tenants["Acme"].LazyHolders, false },
		"CARDEA__TENANTS__acme__UNSEAL=halves":                    func(c config.Config) (any, any) { return c.Tenants["Acme"].Unseal, "halves" },
		"CARDEA__TENANTS__NEW__UNSEAL=halves":                     func(c config.Config) (any, any) { return c.Tenants["new"].Unseal, "halves" },
		"CARDEA__TENANTS__NEW_ONE__MODE=local":                    func(c config.Config) (any, any) { return c.Tenants["new_one"].LazyHolders, true },
		"CARDEA__TENANTS__ACME__REPLAY_WINDOW=5m":                 func(c config.Config) (any, any) { return c.Tenants["Acme"].ReplayWindow.Duration, 5 * time.Minute },
		"CARDEA_VAULT_LISTEN=no setting":                          func(c config.Config) (any, any) { return c.Vault.Listen, "127.0.0.1:1" },
		"CARDEA__DATABASE__STATEMENT_TIMEOUT=2s":                  func(c config.Config) (any, any) { return c.Database.StatementTimeout.Duration, 2 * time.Second },
		"CARDEA__DATABASE__URL=postgres://c@db.example/cards":     func(c config.Config) (any, any) { return c.Database.TLS, "verify-full" },
		"CARDEA__AUDIT__SIGNING_KEY_FILE=/absolute/key":           func(c config.Config) (any, any) { return c.Audit.SigningKeyFile, "/absolute/key" },
		"CARDEA__OPS__INSECURE_PLAIN_HTTP_OFF_LOOPBACK=false":     func(c config.Config) (any, any) { return c.Ops.InsecurePlainHTTPOffLoopback, false },
		"CARDEA__LIMITS__CUSTODIAN_LOCKOUT=1h":                    func(c config.Config) (any, any) { return c.Limits.CustodianLockout.Duration, time.Hour },
		"CARDEA__DATABASE__URL=postgres://c@localhost:5432/cards": func(c config.Config) (any, any) { return c.Database.TLS, "insecure_disable" },
	} {
		c, err := loadText(t, file, env)
		if err != nil {
			t.Errorf("%s: %v", env, err)
			continue
		}
		if got, want := get(c); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", env, got, want)
		}
		if n := len(c.Tenants); n != 1 && !strings.Contains(env, "NEW") {
			t.Errorf("%s: %d tenants", env, n)
		}
	}
}

func TestLastOfTwoEqualVariablesCounts(t *testing.T) {
	c, err := loadText(t, "", "CARDEA__NODE__NAME=a", "CARDEA__NODE__NAME=b")
	if err != nil || c.Node.Name != "b" {
		t.Errorf("got %q, %v", c.Node.Name, err)
	}
}

func TestEnvironmentCanNameTheFolderOfTenants(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "", "d/acme.toml": ""})
	c := mustLoad(t, f, "CARDEA__TENANTS_DIR="+f.path("d"), "CARDEA__TENANTS__ACME__UNSEAL=halves")
	if c.Tenants["acme"].Unseal != "halves" {
		t.Errorf("tenants: %+v", c.Tenants)
	}
}

func TestEnvironmentRefusals(t *testing.T) {
	const file = "[tenants.acme]\n[tenants.ACME]"
	for env, want := range map[string]string{
		"CARDEA__VAULT__LISTN=canary":                             "CARDEA__VAULT__LISTN: no such setting; did you mean listen?",
		"CARDEA__VALT__LISTEN=canary":                             "CARDEA__VALT__LISTEN: no such setting; did you mean vault?",
		"CARDEA__NOTHING=canary":                                  "CARDEA__NOTHING: no such setting",
		"CARDEA__VAULT=canary":                                    "CARDEA__VAULT: vault is a section, not a key",
		"CARDEA__VAULT__LISTEN__X=canary":                         "CARDEA__VAULT__LISTEN__X: listen has no keys below it",
		"CARDEA__VAULT__=canary":                                  "CARDEA__VAULT__: expected CARDEA__SECTION__KEY",
		"CARDEA__=canary":                                         "CARDEA__: expected CARDEA__SECTION__KEY",
		"CARDEA__DATABASE__PASSWORD=canary":                       "CARDEA__DATABASE__PASSWORD: secrets come from files only: put it into a file and name that in CARDEA__DATABASE__PASSWORD_FILE",
		"CARDEA__TENANTS__NEW__MASTER_KEY=canary":                 "CARDEA__TENANTS__NEW__MASTER_KEY: secrets come from files only: put it into a file and name that in CARDEA__TENANTS__NEW__MASTER_KEY_FILE",
		"CARDEA__VAULT__MAX_CONNECTIONS=canary":                   "CARDEA__VAULT__MAX_CONNECTIONS: expected a whole number",
		"CARDEA__VAULT__MAX_CONNECTIONS=1e3":                      "CARDEA__VAULT__MAX_CONNECTIONS: expected a whole number",
		"CARDEA__LIMITS__DELETE_PER_SECOND=canary":                "CARDEA__LIMITS__DELETE_PER_SECOND: expected a number",
		"CARDEA__OPS__INSECURE_PLAIN_HTTP_OFF_LOOPBACK=1":         "CARDEA__OPS__INSECURE_PLAIN_HTTP_OFF_LOOPBACK: expected true or false",
		"CARDEA__VAULT__SHUTDOWN_GRACE=30":                        `CARDEA__VAULT__SHUTDOWN_GRACE: expected a duration with a unit, such as "500ms", "30s" or "5m"`,
		"CARDEA__VAULT__TRUSTED_PROXIES=10.0.0.0/8,canary":        "CARDEA__VAULT__TRUSTED_PROXIES: expected networks such as 10.0.0.0/8, separated by commas",
		"CARDEA__TENANTS__NEW=canary":                             "CARDEA__TENANTS__NEW: expected CARDEA__TENANTS__NAME__KEY",
		"CARDEA__TENANTS=canary":                                  "CARDEA__TENANTS: expected CARDEA__TENANTS__NAME__KEY",
		"CARDEA__TENANTS__NEW__MOD=canary":                        "CARDEA__TENANTS__NEW__MOD: no such setting; did you mean mode?",
		"CARDEA__TENANTS__NEW__CLIENTS=canary":                    "CARDEA__TENANTS__NEW__CLIENTS: cannot be set by the environment; set it in a file",
		"CARDEA__TENANTS__ACME__MODE=canary":                      "CARDEA__TENANTS__ACME__MODE: could mean the tenants ACME and acme; set it in their files",
		"CARDEA__NODE__NAME=canary CARDEA__node__name=canary-two": "CARDEA__node__name: is the same setting as CARDEA__NODE__NAME; keep one",
	} {
		_, err := loadText(t, file, strings.Fields(env)...)
		wantErrors(t, err, want)
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the value is in the error", env)
		}
	}
}

func TestAllWrongVariablesAreTold(t *testing.T) {
	_, err := loadText(t, "", "CARDEA__A=1", "CARDEA__B=1", "CARDEA__TENANTS__X=1")
	wantErrors(t, err, "CARDEA__A: no such setting", "CARDEA__B: no such setting", "CARDEA__TENANTS__X: expected CARDEA__TENANTS__NAME__KEY")
}
