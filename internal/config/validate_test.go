package config_test

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/secret"
)

// valid is a configuration with every part in use.
func valid(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Vault.Listen = "0.0.0.0:8080"
	c.Vault.TLS = config.TLS{CertificateFile: "c", PrivateKeyFile: "k", ClientCAFile: "a", ClientCertificates: "required"}
	c.Database.URL = "postgres://cardea@db.example:5432/cardea"
	c.Locker.PrivateKeyPEM = secret.Copy([]byte(privatePEM(t, "rsa")))
	jwe := config.DefaultTenant()
	jwe.Envelope, jwe.PublicKeyPEM = "jwe", []byte(publicPEM(t, "rsa"))
	plain := config.DefaultTenant()
	plain.Clients = []config.Client{{Name: "hyperswitch", SubjectCN: "hyperswitch"}}
	c.Tenants = map[string]config.Tenant{"jwe": jwe, "plain": plain}
	return c
}

func TestValidConfiguration(t *testing.T) {
	c := valid(t)
	c.Derive("host")
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.Tenants["jwe"].ResponseKeyAlgorithm != config.AlgRSAOAEP256 {
		t.Errorf("an RSA tenant is answered with %s by default", c.Tenants["jwe"].ResponseKeyAlgorithm)
	}
	if c.Database.TLS != config.DatabaseTLSVerifyFull {
		t.Errorf("TLS to a database elsewhere: %q", c.Database.TLS)
	}
}

// tenant changes one tenant of c.
func tenant(c *config.Config, name string, change func(*config.Tenant)) {
	t := c.Tenants[name]
	change(&t)
	c.Tenants[name] = t
}

func TestEveryRefusal(t *testing.T) {
	type change = func(*config.Config)
	outer := t
	jwe := func(f func(*config.Tenant)) change { return func(c *config.Config) { tenant(c, "jwe", f) } }
	plain := func(f func(*config.Tenant)) change { return func(c *config.Config) { tenant(c, "plain", f) } }
	client := func(f func(*config.Client)) change {
		return plain(func(t *config.Tenant) { f(&t.Clients[0]) })
	}
	keys := func(f change) change {
		return func(c *config.Config) {
			c.KeyService.Listen = "127.0.0.1:4599"
			f(c)
		}
	}
	cluster := func(id string, cl config.Cluster) change {
		return keys(func(c *config.Config) { c.KeyService.Clusters = map[string]config.Cluster{id: cl} })
	}
	url := func(u string) change { return func(c *config.Config) { c.Database.URL = u } }
	const example = "expected postgres://user@host:5432/database"
	const danger = `tenants.plain.envelope: is "plain", and vault.listen 0.0.0.0:8080 can be reached by other machines: anybody there could act as this tenant. ` +
		`Set envelope = "jwe", or vault.tls.client_certificates and [[tenants.plain.clients]], ` +
		`or accept the danger with vault.insecure_plain_api_without_client_certificates = true`
	for name, tc := range map[string]struct {
		change change
		want   []string
	}{
		"nothing to serve":      {func(c *config.Config) { c.Vault.Listen, c.Tenants = "", nil }, []string{"vault.listen: is empty, and so is key_service.listen: there is nothing to serve"}},
		"tenants without vault": {keys(func(c *config.Config) { c.Vault.Listen = "" }), []string{"tenants: have no effect: vault.listen is empty, so no vault is served"}},
		"keys that nobody serves": {
			func(c *config.Config) {
				c.KeyService.Unseal, c.KeyService.Regions, c.KeyService.Database.URL = "halves", []string{"eu-west-1"}, "sqlite:/x"
				c.KeyService.RootKeyFile = "k"
			},
			[]string{
				"key_service.regions: has no effect without key_service.listen; set that, or remove it",
				"key_service.unseal: has no effect without key_service.listen; set that, or remove it",
				"key_service.root_key_file: has no effect without key_service.listen; set that, or remove it",
				"key_service.database.url: has no effect without key_service.listen; set that, or remove it",
			},
		},
		"keys off loopback":         {keys(func(c *config.Config) { c.KeyService.Listen = "0.0.0.0:4599" }), []string{"key_service.listen: 0.0.0.0:4599 can be reached by other machines, but there is no TLS: set key_service.tls.certificate_file and private_key_file, listen on 127.0.0.1, or accept the danger with key_service.insecure_plain_http_off_loopback = true"}},
		"keys where ops listens":    {keys(func(c *config.Config) { c.KeyService.Listen = c.Ops.Listen }), []string{"key_service.listen: is the address of ops.listen; give it another port"}},
		"keys' connections":         {keys(func(c *config.Config) { c.KeyService.MaxConnections = 0 }), []string{"key_service.max_connections: 0 is out of range, expected 1 to 1000000"}},
		"keys' cache":               {keys(func(c *config.Config) { c.KeyService.CacheEntries = 0 }), []string{"key_service.cache_entries: 0 is out of range, expected 1 to 10000000"}},
		"no Region":                 {keys(func(c *config.Config) { c.KeyService.Regions = nil }), []string{`key_service.regions: is empty; name the Regions that are served, such as ["eu-central-1"]`}},
		"no such Region":            {keys(func(c *config.Config) { c.KeyService.Regions = []string{"Frankfurt"} }), []string{`key_service.regions: "Frankfurt" is not a Region, expected a name such as eu-central-1`}},
		"Region twice":              {keys(func(c *config.Config) { c.KeyService.Regions = []string{"eu-west-1", "eu-west-1"} }), []string{`key_service.regions: "eu-west-1" is named twice`}},
		"root key of one person":    {keys(func(c *config.Config) { c.KeyService.RootKeyFile = "k" }), []string{"key_service.root_key_file: holds a root key that one person can use alone (PCI DSS 3.7.6): make custodians with 'cardea custodian init --tenant key-service', or accept the danger with key_service.insecure_root_key_without_custodians = true"}},
		"danger without a root key": {keys(func(c *config.Config) { c.KeyService.InsecureRootKeyWithoutCustodians = true }), []string{"key_service.insecure_root_key_without_custodians: has no effect without root_key_file; remove it"}},
		"keys' unsealing":           {keys(func(c *config.Config) { c.KeyService.Unseal = "pin" }), []string{`key_service.unseal: "pin" is not known, expected one of shares, halves, pkcs11`}},
		"root token without settings": {keys(func(c *config.Config) { c.KeyService.Unseal = "pkcs11" }), []string{
			"key_service.root_token.library: is missing; name the token's PKCS #11 library", "key_service.root_token.token: is missing; name the token by its label",
			"key_service.root_token.pin_file: is missing; name a file with the PIN of the token's user",
		}},
		"root token for nothing": {keys(func(c *config.Config) {
			c.KeyService.RootToken = config.RootToken{Library: "l", Token: "t", PINFile: "p"}
		}), []string{
			`key_service.root_token.library: has no effect without key_service.unseal = "pkcs11"; set that, or remove it`,
			`key_service.root_token.token: has no effect without key_service.unseal = "pkcs11"; set that, or remove it`,
			`key_service.root_token.pin_file: has no effect without key_service.unseal = "pkcs11"; set that, or remove it`,
		}},
		"two root keys": {keys(func(c *config.Config) {
			c.KeyService.Unseal, c.KeyService.RootToken = "pkcs11", config.RootToken{Library: "l", Token: "t", PINFile: "p"}
			c.KeyService.RootKeyFile, c.KeyService.InsecureRootKeyWithoutCustodians = "k", true
		}), []string{`key_service.root_key_file: cannot be together with key_service.unseal = "pkcs11": there is one root key; remove one of the two`}},
		"keys' database":              {keys(func(c *config.Config) { c.KeyService.Database.MaxBatch = 0 }), []string{"key_service.database.max_batch: 0 is out of range, expected 1 to 4096"}},
		"keys beside the records":     {keys(func(c *config.Config) { c.KeyService.Database.URL = c.Database.URL }), []string{"key_service.database.url: is the vault's database; the keys must not lie beside what they protect (PCI DSS 3.6.1.2): give the key service its own"}},
		"parameter of keys' database": {keys(func(c *config.Config) { c.KeyService.Database.URL = "postgres://u@h/d?sslmode=disable" }), []string{"key_service.database.url: the parameter sslmode is not allowed here; use key_service.database.tls"}},
		"cluster's id":                {cluster("hsm-1", config.Cluster{Library: "l", Token: "t"}), []string{`key_service.clusters.hsm-1: "hsm-1" is not the id of a cluster, expected cluster- and 11 to 16 letters or digits 2 to 7`}},
		"cluster without library":     {cluster("cluster-abcdefghijk", config.Cluster{Token: "t"}), []string{"key_service.clusters.cluster-abcdefghijk.library: is missing; name the token's PKCS #11 library"}},
		"cluster without token":       {cluster("cluster-abcdefghijk", config.Cluster{Library: "l"}), []string{"key_service.clusters.cluster-abcdefghijk.token: is missing; name the token by its label"}},
		"tenant named as the keys":    {func(c *config.Config) { c.Tenants["key-service"] = c.Tenants["jwe"] }, []string{"tenants.key-service: is the name of the key service's root key; give the tenant another"}},
		"node name":                   {func(c *config.Config) { c.Node.Name = "Vault 1" }, []string{`node.name: "Vault 1" cannot name a node, expected 1 to 64 of a-z, 0-9, dot and hyphen`}},
		"no data folder":              {func(c *config.Config) { c.Node.DataDir = "" }, []string{"node.data_dir: is empty; name a folder"}},
		"listen without port":         {func(c *config.Config) { c.Ops.Listen = "9464" }, []string{`ops.listen: "9464" is not an address, expected host:port such as 127.0.0.1:8080`}},
		"port by name":                {func(c *config.Config) { c.Ops.Listen = "127.0.0.1:http" }, []string{`ops.listen: "http" is not a port, expected a number up to 65535`}},
		"port too large":              {func(c *config.Config) { c.Ops.Listen = "127.0.0.1:65536" }, []string{`ops.listen: "65536" is not a port, expected a number up to 65535`}},
		"one address for both":        {func(c *config.Config) { c.Ops.Listen, c.Ops.TLS = c.Vault.Listen, c.Vault.TLS }, []string{"ops.listen: is the address of vault.listen; give it another port"}},
		"body limit":                  {func(c *config.Config) { c.Vault.BodyLimitBytes = 0 }, []string{"vault.body_limit_bytes: 0 is out of range, expected 1024 to 67108864"}},
		"connections":                 {func(c *config.Config) { c.Vault.MaxConnections = 0 }, []string{"vault.max_connections: 0 is out of range, expected 1 to 1000000"}},
		"grace":                       {func(c *config.Config) { c.Vault.ShutdownGrace = config.Duration{} }, []string{"vault.shutdown_grace: 0s is out of range, expected 1s to 10m"}},
		"proxy with host bits":        {func(c *config.Config) { c.Vault.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }, []string{"vault.trusted_proxies: 10.0.0.1/8 has bits behind its length, expected 10.0.0.0/8"}},
		"proxy everywhere":            {func(c *config.Config) { c.Vault.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::/0")} }, []string{"vault.trusted_proxies: ::/0 trusts everybody to say where a request came from; name your proxies"}},
		"key without certificate":     {func(c *config.Config) { c.Ops.TLS.PrivateKeyFile = "k" }, []string{"ops.tls.certificate_file: is missing; private_key_file needs its certificate"}},
		"certificate without key":     {func(c *config.Config) { c.Ops.TLS.CertificateFile = "c" }, []string{"ops.tls.private_key_file: is missing; certificate_file needs its private key"}},
		"client certificates":         {func(c *config.Config) { c.Ops.TLS.ClientCertificates = "yes" }, []string{`ops.tls.client_certificates: "yes" is not known, expected one of off, optional, required`, "ops.tls.client_ca_file: is missing; name the authorities that issue client certificates"}},
		"client CA without use":       {func(c *config.Config) { c.Ops.TLS.ClientCAFile = "a" }, []string{`ops.tls.client_certificates: is "off", so client_ca_file has no effect; set "required" or "optional", or remove client_ca_file`}},
		"client CA missing":           {func(c *config.Config) { c.Vault.TLS.ClientCAFile = "" }, []string{"vault.tls.client_ca_file: is missing; name the authorities that issue client certificates"}},
		"client CA without TLS":       {func(c *config.Config) { c.Ops.TLS.ClientCAFile, c.Ops.TLS.ClientCertificates = "a", "required" }, []string{"ops.tls.certificate_file: is missing; client certificates need TLS"}},
		"plain HTTP off loopback":     {func(c *config.Config) { c.Ops.Listen = ":9464" }, []string{"ops.listen: :9464 can be reached by other machines, but there is no TLS: set ops.tls.certificate_file and private_key_file, listen on 127.0.0.1, or accept the danger with ops.insecure_plain_http_off_loopback = true"}},
		"plain HTTP by host name":     {func(c *config.Config) { c.Ops.Listen = "vault.example:9464" }, []string{"ops.listen: vault.example:9464 can be reached by other machines, but there is no TLS: set ops.tls.certificate_file and private_key_file, listen on 127.0.0.1, or accept the danger with ops.insecure_plain_http_off_loopback = true"}},
		"database scheme":             {url("mysql://u@h/d"), []string{`database.url: expected "sqlite", "sqlite:<path>" or "postgres://user@host:5432/database"`}},
		"database unparsable":         {url("postgres://u@h:port/canary"), []string{`database.url: expected "sqlite", "sqlite:<path>" or "postgres://user@host:5432/database"`}},
		"database password":           {url("postgres://u:canary@h/d"), []string{"database.url: has a password in it; put it into a file and name that in database.password_file"}},
		"database user":               {url("postgres://h/d"), []string{"database.url: names no user; " + example}},
		"database name":               {url("postgres://u@h/"), []string{"database.url: names no database; " + example}},
		"database host twice":         {url("postgres://u@h/d?host=/run"), []string{"database.url: names a host twice, before the path and in the parameter host; keep one"}},
		"database parameters":         {url("postgres://u@h/d?sslmode=disable&PASSWORD=canary&application_name=x"), []string{"database.url: the parameter password is not allowed here; use database.password_file", "database.url: the parameter sslmode is not allowed here; use database.tls"}},
		"database query":              {url("postgres://u@h/d?a;b=%zz"), []string{"database.url: the part behind ? or # is not valid"}},
		"database fragment":           {url("postgres://u@h/d#canary"), []string{"database.url: the part behind ? or # is not valid"}},
		"SQLite without path":         {url("sqlite:"), []string{`database.url: expected "sqlite", or "sqlite:" and a path without ? and #`}},
		"SQLite with options":         {url("sqlite:a.db?mode=ro"), []string{`database.url: expected "sqlite", or "sqlite:" and a path without ? and #`}},
		"database batch":              {func(c *config.Config) { c.Database.MaxBatch = 0 }, []string{"database.max_batch: 0 is out of range, expected 1 to 4096"}},
		"database connections":        {func(c *config.Config) { c.Database.MaxConnections = 1 }, []string{"database.max_connections: 1 is out of range, expected 2 to 1000"}},
		"database timeout":            {func(c *config.Config) { c.Database.StatementTimeout = config.Duration{} }, []string{"database.statement_timeout: 0s is out of range, expected 100ms to 10m"}},
		"database TLS":                {func(c *config.Config) { c.Database.TLS = "require" }, []string{`database.tls: "require" is not known, expected one of verify-full, verify-ca, insecure_disable`}},
		"database TLS off with CA":    {func(c *config.Config) { c.Database.TLS, c.Database.CAFile = "insecure_disable", "a" }, []string{`database.tls: is "insecure_disable", so ca_file and client_certificate_file have no effect; remove them or set "verify-full"`}},
		"verify-ca without CA":        {func(c *config.Config) { c.Database.TLS = "verify-ca" }, []string{`database.ca_file: is missing; "verify-ca" without an authority of your own accepts any public certificate`}},
		"half a client certificate":   {func(c *config.Config) { c.Database.ClientPrivateKeyFile = "k" }, []string{"database.client_certificate_file: and client_private_key_file belong together; set both or none"}},
		"SQLite with PostgreSQL's": {func(c *config.Config) {
			c.Database = config.Default().Database
			c.Database.PasswordFile, c.Database.TLS, c.Database.CAFile = "p", "verify-full", "a"
		}, []string{"database.password_file: has no effect on SQLite; remove it", "database.tls: has no effect on SQLite; remove it", "database.ca_file: has no effect on SQLite; remove it"}},
		"checkpoint":             {func(c *config.Config) { c.Audit.CheckpointInterval = config.Duration{Duration: time.Hour} }, []string{"audit.checkpoint_interval: 1h0m0s is out of range, expected 100ms to 1m"}},
		"log level":              {func(c *config.Config) { c.Log.Level = "trace" }, []string{`log.level: "trace" is not known, expected one of debug, info, warn, error`}},
		"log format":             {func(c *config.Config) { c.Log.Format = "xml" }, []string{`log.format: "xml" is not known, expected one of json, text`}},
		"deletes":                {func(c *config.Config) { c.Limits.DeletePerSecond = math.NaN() }, []string{"limits.delete_per_second: is out of range, expected 0 (off) to 1000000"}},
		"endless deletes":        {func(c *config.Config) { c.Limits.DeletePerSecond = math.Inf(1) }, []string{"limits.delete_per_second: is out of range, expected 0 (off) to 1000000"}},
		"negative deletes":       {func(c *config.Config) { c.Limits.DeletePerSecond = -1 }, []string{"limits.delete_per_second: is out of range, expected 0 (off) to 1000000"}},
		"burst":                  {func(c *config.Config) { c.Limits.DeletePerSecond, c.Limits.DeleteBurst = 1, -1 }, []string{"limits.delete_burst: -1 is out of range, expected 1 to 1000000"}},
		"burst alone":            {func(c *config.Config) { c.Limits.DeleteBurst = 5 }, []string{"limits.delete_burst: has no effect without limits.delete_per_second; set that or remove this"}},
		"custodian attempts":     {func(c *config.Config) { c.Limits.CustodianAttemptsPerMinute = 0 }, []string{"limits.custodian_attempts_per_minute: 0 is out of range, expected 1 to 60"}},
		"lockout after too many": {func(c *config.Config) { c.Limits.CustodianLockoutAfter = 11 }, []string{"limits.custodian_lockout_after: 11 is out of range, expected 1 to 10 attempts (PCI DSS 8.3.4)"}},
		"lockout too short":      {func(c *config.Config) { c.Limits.CustodianLockout = config.Duration{Duration: 29 * time.Minute} }, []string{"limits.custodian_lockout: 29m0s is out of range, expected 30m (PCI DSS 8.3.4) to 720h"}},
		"sweep interval":         {func(c *config.Config) { c.Retention.SweepInterval = config.Duration{} }, []string{"retention.sweep_interval: 0s is out of range, expected 1s to 24h"}},
		"sweep batch":            {func(c *config.Config) { c.Retention.SweepBatch = 0 }, []string{"retention.sweep_batch: 0 is out of range, expected 1 to 10000"}},
		"cache time":             {func(c *config.Config) { c.Keys.CacheTTL = config.Duration{Duration: 61 * time.Minute} }, []string{"keys.cache_ttl: 1h1m0s is out of range, expected 1s to 1h"}},
		"KMS rate":               {func(c *config.Config) { c.Keys.KMSRate = 9 }, []string{"keys.kms_rate: 9 is out of range, expected 10 to 1000000"}},
		"cache entries":          {func(c *config.Config) { c.Keys.CacheEntries = 0 }, []string{"keys.cache_entries: 0 is out of range, expected 1 to 10000000"}},
		"version header":         {func(c *config.Config) { c.Locker.VersionHeader = "a\nb" }, []string{"locker.version_header: expected at most 128 visible ASCII characters"}},
		"locker key missing":     {func(c *config.Config) { c.Locker.PrivateKeyPEM = secret.Bytes{} }, []string{`locker.private_key_file: is missing; tenants.jwe.envelope is "jwe", which needs the vault's key`}},
		"locker key no PEM": {func(c *config.Config) {
			c.Locker.PrivateKeyFile, c.Locker.PrivateKeyPEM = "f", secret.Copy([]byte("canary"))
		}, []string{"locker.private_key_file: f: no PEM block in it"}},
		"tenant name": {func(c *config.Config) {
			c.Tenants["a.b"] = config.DefaultTenant()
			c.Vault.InsecurePlainAPIWithoutClientCertificates = true
		}, []string{`tenants.a.b: "a.b" cannot name a tenant, expected 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen`}},
		"mode":                   {jwe(func(t *config.Tenant) { t.Mode = "kms" }), []string{`tenants.jwe.mode: "kms" is not known, expected one of local, aws_kms_envelope, aws_kms, pkcs11, external`}},
		"envelope":               {jwe(func(t *config.Tenant) { t.Envelope = "JWE" }), []string{`tenants.jwe.envelope: "JWE" is not known, expected one of plain, jwe`}},
		"unseal":                 {jwe(func(t *config.Tenant) { t.Unseal = "auto" }), []string{`tenants.jwe.unseal: "auto" is not known, expected one of shares, halves`}},
		"tenant key missing":     {jwe(func(t *config.Tenant) { t.PublicKeyPEM = nil }), []string{`tenants.jwe.public_key_file: is missing; envelope "jwe" needs the tenant's public key`}},
		"tenant key too short":   {jwe(func(t *config.Tenant) { t.PublicKeyFile, t.PublicKeyPEM = "f", []byte(publicPEM(outer, "rsa1024")) }), []string{"tenants.jwe.public_key_file: f: expected an RSA key of at least 2048 bits or an EC key on P-256"}},
		"tenant key other curve": {jwe(func(t *config.Tenant) { t.PublicKeyFile, t.PublicKeyPEM = "f", []byte(publicPEM(outer, "p384")) }), []string{"tenants.jwe.public_key_file: f: expected an RSA key of at least 2048 bits or an EC key on P-256"}},
		"tenant key private":     {jwe(func(t *config.Tenant) { t.PublicKeyFile, t.PublicKeyPEM = "f", []byte(privatePEM(outer, "p256")) }), []string{`tenants.jwe.public_key_file: f: expected a PEM block "PUBLIC KEY", got "PRIVATE KEY"`}},
		"two tenant keys": {jwe(func(t *config.Tenant) {
			t.PublicKeyFile, t.PublicKeyPEM = "f", []byte(publicPEM(outer, "p256")+publicPEM(outer, "p256"))
		}), []string{"tenants.jwe.public_key_file: f: more than one PEM block in it, expected exactly one"}},
		"algorithm unknown":       {jwe(func(t *config.Tenant) { t.ResponseKeyAlgorithm = "RSA1_5" }), []string{`tenants.jwe.response_key_algorithm: "RSA1_5" is not known, expected one of RSA-OAEP-256, RSA-OAEP, ECDH-ES+A256KW, ECDH-ES`}},
		"algorithm of EC for RSA": {jwe(func(t *config.Tenant) { t.ResponseKeyAlgorithm = "ECDH-ES" }), []string{"tenants.jwe.response_key_algorithm: ECDH-ES does not fit the kind of key in public_key_file, expected one of RSA-OAEP-256, RSA-OAEP"}},
		"algorithm of RSA for EC": {jwe(func(t *config.Tenant) {
			t.PublicKeyPEM, t.ResponseKeyAlgorithm = []byte(publicPEM(outer, "p256")), "RSA-OAEP"
		}), []string{"tenants.jwe.response_key_algorithm: RSA-OAEP does not fit the kind of key in public_key_file, expected one of ECDH-ES+A256KW, ECDH-ES"}},
		"signature unknown": {jwe(func(t *config.Tenant) { t.ResponseSignature = "HS256" }), []string{`tenants.jwe.response_signature: "HS256" is not known, expected one of RS256, ES256`}},
		"signature of EC":   {jwe(func(t *config.Tenant) { t.ResponseSignature = "ES256" }), []string{"tenants.jwe.response_signature: ES256 does not fit locker.private_key_file, expected RS256"}},
		"replay window":     {jwe(func(t *config.Tenant) { t.ReplayWindow = config.Duration{Duration: 25 * time.Hour} }), []string{"tenants.jwe.replay_window: 25h0m0s is out of range, expected 0s to 24h"}},
		"JWE's keys when plain": {plain(func(t *config.Tenant) {
			t.PublicKeyFile, t.ResponseKeyAlgorithm, t.ResponseSignature, t.ReplayWindow = "f", "RSA-OAEP", "RS256", config.Duration{Duration: 1}
		}), []string{
			`tenants.plain.public_key_file: has no effect with envelope "plain"; set envelope = "jwe" or remove it`,
			`tenants.plain.response_key_algorithm: has no effect with envelope "plain"; set envelope = "jwe" or remove it`,
			`tenants.plain.response_signature: has no effect with envelope "plain"; set envelope = "jwe" or remove it`,
			`tenants.plain.replay_window: has no effect with envelope "plain"; set envelope = "jwe" or remove it`,
		}},
		"plain without clients": {plain(func(t *config.Tenant) { t.Clients = nil }), []string{danger}},
		"plain, clients unasked": {func(c *config.Config) { c.Vault.TLS.ClientCertificates, c.Vault.TLS.ClientCAFile = "off", "" }, []string{
			danger,
			`tenants.plain.clients: have no effect while vault.tls.client_certificates is "off"; set "required" or "optional" there`,
		}},
		"two master keys": {plain(func(t *config.Tenant) {
			t.MasterKeyFile, t.SealedMasterKeyFile, t.InsecureMasterKeyWithoutCustodians = "m", "s", true
		}), []string{"tenants.plain.master_key_file: and sealed_master_key_file exclude each other; keep one"}},
		"master key unconfirmed": {plain(func(t *config.Tenant) { t.MasterKeyFile = "m" }), []string{"tenants.plain.master_key_file: lets whoever reads one file decrypt all cards, without custodians; run cardea custodian init instead, or accept the danger with tenants.plain.insecure_master_key_without_custodians = true"}},
		"master key too short":   {plain(func(t *config.Tenant) { t.MasterKey, t.InsecureMasterKeyWithoutCustodians = secret.Random(16), true }), []string{"tenants.plain.master_key_file: has 16 bytes, expected 32"}},
		"client name":            {client(func(c *config.Client) { c.Name = "" }), []string{`tenants.plain.clients.name: "" cannot name a client, expected 1 to 64 letters, digits, spaces and . _ @ -`}},
		"client twice": {plain(func(t *config.Tenant) { t.Clients = append(t.Clients, t.Clients[0]) }), []string{
			"tenants.plain.clients.hyperswitch: the name is used twice in this tenant; the audit log could not tell the two apart",
			"tenants.plain.clients.hyperswitch: another client of this tenant has the same certificate; join the two",
		}},
		"client without certificate": {client(func(c *config.Client) { c.SubjectCN = "" }), []string{"tenants.plain.clients.hyperswitch: expected either fingerprint_sha256 or subject_cn"}},
		"client with two":            {client(func(c *config.Client) { c.FingerprintSHA256 = strings.Repeat("0f", 32) }), []string{"tenants.plain.clients.hyperswitch: expected either fingerprint_sha256 or subject_cn"}},
		"client fingerprint":         {client(func(c *config.Client) { c.FingerprintSHA256, c.SubjectCN = "abc", "" }), []string{"tenants.plain.clients.hyperswitch.fingerprint_sha256: expected the certificate's SHA-256 as 64 hex digits, as openssl x509 -noout -fingerprint -sha256 prints it"}},
		"client without merchants":   {client(func(c *config.Client) { c.Merchants = []string{} }), []string{`tenants.plain.clients.hyperswitch.merchants: is empty, so that nothing would be allowed; expected ids, with * for any characters, or ["*"]`}},
		"client, empty merchant":     {client(func(c *config.Client) { c.Merchants = []string{""} }), []string{"tenants.plain.clients.hyperswitch.merchants: has an empty id in it"}},
		"client without actions":     {client(func(c *config.Client) { c.Actions = []string{} }), []string{`tenants.plain.clients.hyperswitch.actions: is empty, so that nothing would be allowed; expected actions such as "card:Retrieve", or ["*"]`}},
		"client, odd action":         {client(func(c *config.Client) { c.Actions = []string{"card Retrieve"} }), []string{`tenants.plain.clients.hyperswitch.actions: "card Retrieve" is not an action, expected one such as card:Retrieve, card:* or *`}},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid(t)
			tc.change(&c)
			c.Derive("host")
			err := c.Validate()
			wantErrors(t, err, tc.want...)
			wantProblems(t, err)
			if strings.Contains(err.Error(), "canary") {
				t.Error("a value that may be a secret is in the error")
			}
		})
	}
}

func TestLockerKeysOfAllForms(t *testing.T) {
	for name, tc := range map[string]struct{ pem, want string }{
		"RSA":       {privatePEM(t, "rsa"), ""},
		"P-256":     {privatePEM(t, "p256"), ""},
		"SEC 1":     {sec1PEM(t), ""},
		"PKCS#1":    {pkcs1PEM(t), ""},
		"RSA 1024":  {privatePEM(t, "rsa1024"), "expected an RSA key of at least 2048 bits or an EC key on P-256"},
		"P-384":     {privatePEM(t, "p384"), "expected an RSA key of at least 2048 bits or an EC key on P-256"},
		"public":    {publicPEM(t, "rsa"), `expected a PEM block "PRIVATE KEY", "RSA PRIVATE KEY" or "EC PRIVATE KEY", got "PUBLIC KEY"`},
		"damaged":   {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected an RSA key of at least 2048 bits or an EC key on P-256"},
		"encrypted": {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "PEM headers in it: an encrypted key cannot be used, give the key itself and protect its file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			c.Locker.PrivateKeyFile, c.Locker.PrivateKeyPEM = "f", secret.Copy([]byte(tc.pem))
			c.Derive("host")
			if err := c.Validate(); tc.want == "" {
				wantErrors(t, err)
			} else {
				wantErrors(t, err, "locker.private_key_file: f: "+tc.want)
			}
		})
	}
}

func TestVaultKeyDecidesTheSignature(t *testing.T) {
	c := valid(t)
	c.Locker.PrivateKeyPEM = secret.Copy([]byte(privatePEM(t, "p256")))
	c.Derive("host")
	if err := c.Validate(); err != nil || c.Tenants["jwe"].ResponseSignature != config.AlgES256 {
		t.Errorf("got %s, %v", c.Tenants["jwe"].ResponseSignature, err)
	}
}

func TestOldResponseAlgorithmWorksWhereAskedFor(t *testing.T) {
	c := valid(t)
	tenant(&c, "jwe", func(t *config.Tenant) { t.ResponseKeyAlgorithm = config.AlgRSAOAEP })
	c.Derive("host")
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDatabasesThatAreAllowed(t *testing.T) {
	for url, tls := range map[string]string{
		"sqlite":                                           "",
		"sqlite:/var/lib/x.db":                             "",
		"postgres://u@127.0.0.1/d":                         "insecure_disable",
		"postgresql://u@[::1]:5432/d":                      "insecure_disable",
		"postgres://u@/d?host=/run/postgresql":             "insecure_disable",
		"postgres://u@/d":                                  "insecure_disable",
		"postgres:///d?user=u":                             "insecure_disable",
		"postgres://u@a.example:1,127.0.0.1:2/d":           "verify-full",
		"postgres://u@localhost,127.0.0.1:2/d":             "insecure_disable",
		"postgres://u@/d?host=/run/postgresql,db.example":  "verify-full",
		"postgres://u@db.example/d?application_name=vault": "verify-full",
	} {
		c := config.Default()
		c.Database.URL = url
		c.Derive("host")
		if err := c.Validate(); err != nil || c.Database.TLS != tls {
			t.Errorf("%s: tls %q, %v; want %q", url, c.Database.TLS, err, tls)
		}
	}
}

func TestPlainAPIIsAllowedOnLoopbackAndWhereTheDangerIsAccepted(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"loopback":      func(c *config.Config) { c.Vault.Listen = "127.0.0.1:1" },
		"loopback IPv6": func(c *config.Config) { c.Vault.Listen = "[::1]:1" },
		"loopback name": func(c *config.Config) { c.Vault.Listen = "localhost:1" },
		"danger":        func(c *config.Config) { c.Vault.InsecurePlainAPIWithoutClientCertificates = true },
		"without TLS": func(c *config.Config) {
			c.Vault.Listen, c.Vault.TLS = "localhost:1", config.TLS{ClientCertificates: "off"}
		},
	} {
		c := valid(t)
		tenant(&c, "plain", func(t *config.Tenant) { t.Clients = nil })
		change(&c)
		c.Derive("host")
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBurstFollowsTheRate(t *testing.T) {
	for rate, want := range map[float64]int{0: 0, 0.1: 1, 1: 1, 2.5: 3} {
		c := config.Default()
		c.Limits.DeletePerSecond = rate
		c.Derive("host")
		if err := c.Validate(); err != nil || c.Limits.DeleteBurst != want {
			t.Errorf("rate %v: burst %d, %v; want %d", rate, c.Limits.DeleteBurst, err, want)
		}
	}
}

// TestKeyServiceIsANodeOfItsOwn: what works on a vault's database, log and
// custodians works on the key service's.
func TestKeyServiceIsANodeOfItsOwn(t *testing.T) {
	c := valid(t)
	c.Node.Name, c.Node.DataDir = strings.Repeat("n", 64), "data"
	c.KeyService.Listen = "127.0.0.1:4599"
	c.Derive("host")
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	k := c.ForKeyService()
	if err := k.Validate(); err == nil || err.Error() != "tenants.key-service: is the name of the key service's root key; give the tenant another\n"+
		"key_service.listen: is the address of vault.listen; give it another port" {
		t.Errorf("what is wrong with the key service's view: %v", err) // nothing else is
	}
	if len(k.Node.Name)+len("-cli") > 64 || !strings.HasSuffix(k.Node.Name, "n-keys") {
		t.Errorf("node %q", k.Node.Name)
	}
	if got := []string{k.SQLitePath(), k.Audit.SigningKeyFile, k.Vault.Listen}; got[0] != "data/keys.db" || got[1] != "data/key-service-signing.key" || got[2] != "127.0.0.1:4599" {
		t.Errorf("got %q", got)
	}
	if _, ok := k.Tenants[config.KeyServiceTenant]; !ok || len(k.Tenants) != 1 || len(c.Tenants) != 2 {
		t.Errorf("tenants %v, of the vault %v", k.Tenants, c.Tenants)
	}
}
