// Package config reads what an operator wrote: TOML files, a folder of tenants
// and environment variables, into one Config.
//
// It promises that a setting which has no effect is an error, never ignored: an
// unknown or misspelt key, a variable that names nothing, a value of the wrong
// type. Validate tells all problems at once, each by its key and with what to do.
// Secrets come from files only; none is ever part of a printed configuration or
// of an error. Nothing is acted upon here.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"cardea/internal/secret"
)

// Config is the whole configuration. Start from Default or Load: the zero value
// is not a working one. docs/configuration.md describes every key. A Config is
// read-only after Load; copies share the tenants and the secrets.
type Config struct {
	// TenantsDir holds one TOML file a tenant, <name>.toml; "" for none.
	TenantsDir string `toml:"tenants_dir" path:"true"`

	Node      Node      `toml:"node"`
	Vault     Vault     `toml:"vault"`
	Ops       Ops       `toml:"ops"`
	Database  Database  `toml:"database"`
	Audit     Audit     `toml:"audit"`
	Detect    Detect    `toml:"detect"`
	Log       Log       `toml:"log"`
	Limits    Limits    `toml:"limits"`
	Retention Retention `toml:"retention"`
	Locker    Locker    `toml:"locker"`
	Keys      Keys      `toml:"keys"`

	KeyService KeyService `toml:"key_service"`

	Tenants map[string]Tenant `toml:"tenants"`

	ExternalKeyManager ExternalKeyManager      `toml:"external_key_manager"` // alias
	TenantSecrets      map[string]TenantSecret `toml:"tenant_secrets"`       // alias

	// Warnings are what Load found that works but should not stay, such as a
	// secret file that others can read.
	Warnings []string `toml:"-"`

	files    []string // files whose change is a change of the configuration
	problems []error  // what Load found about files named in the configuration; Validate tells it
}

// Node is this process among its peers.
type Node struct {
	Name    string `toml:"name"` // names the audit log; no two running nodes share one
	DataDir string `toml:"data_dir" path:"true"`
}

// Vault is the listener of the locker API.
type Vault struct {
	Listen string `toml:"listen"` // "" serves none

	InsecurePlainHTTPOffLoopback              bool `toml:"insecure_plain_http_off_loopback"`
	InsecurePlainAPIWithoutClientCertificates bool `toml:"insecure_plain_api_without_client_certificates"`

	BodyLimitBytes int64          `toml:"body_limit_bytes"`
	MaxConnections int            `toml:"max_connections"`
	ShutdownGrace  Duration       `toml:"shutdown_grace"`
	AdminSocket    string         `toml:"admin_socket" path:"true"` // for operators on this machine
	TrustedProxies []netip.Prefix `toml:"trusted_proxies"`
	TLS            TLS            `toml:"tls"`
}

// Ops is the listener of metrics, health and readiness.
type Ops struct {
	Listen                       string `toml:"listen"`
	InsecurePlainHTTPOffLoopback bool   `toml:"insecure_plain_http_off_loopback"`
	TLS                          TLS    `toml:"tls"`
}

// TLS is a listener's certificate and what it wants from clients. Without
// CertificateFile the listener speaks plain HTTP.
type TLS struct {
	CertificateFile    string `toml:"certificate_file" path:"true"`
	PrivateKeyFile     string `toml:"private_key_file" path:"true"`
	ClientCAFile       string `toml:"client_ca_file" path:"true"`
	ClientCertificates string `toml:"client_certificates"` // ClientCertificatesOff, …Optional, …Required
}

// Values of TLS.ClientCertificates.
const (
	ClientCertificatesOff      = "off"
	ClientCertificatesOptional = "optional"
	ClientCertificatesRequired = "required"
)

// Enabled says whether the listener speaks TLS.
func (t TLS) Enabled() bool { return t.CertificateFile != "" }

// Database is where records, keys and the audit log are.
type Database struct {
	URL            string `toml:"url" path:"sqlite"` // "sqlite", "sqlite:<path>" or a postgres:// URL without a password
	PasswordFile   string `toml:"password_file" path:"true"`
	MaxConnections int    `toml:"max_connections"`
	MaxBatch       int    `toml:"max_batch"` // requests that may share a commit

	TLS                   string   `toml:"tls"` // DatabaseTLSVerifyFull, …VerifyCA, …InsecureDisable; PostgreSQL only
	CAFile                string   `toml:"ca_file" path:"true"`
	ClientCertificateFile string   `toml:"client_certificate_file" path:"true"`
	ClientPrivateKeyFile  string   `toml:"client_private_key_file" path:"true"`
	StatementTimeout      Duration `toml:"statement_timeout"`

	Password secret.Bytes `toml:"-"` // content of PasswordFile, without its line end
}

// Values of Database.TLS.
const (
	DatabaseTLSVerifyFull      = "verify-full"
	DatabaseTLSVerifyCA        = "verify-ca"
	DatabaseTLSInsecureDisable = "insecure_disable"
)

// Audit is this node's audit log.
type Audit struct {
	SigningKeyFile     string   `toml:"signing_key_file" path:"true"` // made at the first start if missing
	CheckpointInterval Duration `toml:"checkpoint_interval"`

	Signer    AuditSigner    `toml:"signer"` // in place of SigningKeyFile
	Delivery  []Delivery     `toml:"delivery"`
	Publish   Publish        `toml:"publish"`
	Retention AuditRetention `toml:"retention"`

	DualControl AuditDualControl `toml:"dual_control"`
}

// Log is the operator's log, which is not the audit log.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // json, text
}

// Limits keep one client from hurting the rest.
type Limits struct {
	DeletePerSecond            float64  `toml:"delete_per_second"` // v1 deletes a tenant; 0 is off
	DeleteBurst                int      `toml:"delete_burst"`
	CustodianAttemptsPerMinute int      `toml:"custodian_attempts_per_minute"`
	CustodianLockoutAfter      int      `toml:"custodian_lockout_after"`
	CustodianLockout           Duration `toml:"custodian_lockout"`
}

// Retention is the sweeper of expired records.
type Retention struct {
	SweepInterval Duration `toml:"sweep_interval"`
	SweepBatch    int      `toml:"sweep_batch"`
}

// Locker is what all tenants of the locker API share.
type Locker struct {
	PrivateKeyFile string `toml:"private_key_file" path:"true"`
	VersionHeader  string `toml:"version_header"` // x-version of every response; "" sends none

	PrivateKeyPEM secret.Bytes `toml:"-"` // content of PrivateKeyFile
}

// Keys is the cache of unwrapped branch keys.
type Keys struct {
	CacheTTL     Duration `toml:"cache_ttl"`
	CacheEntries int      `toml:"cache_entries"`
	KMSGrace     Duration `toml:"kms_grace"` // for how much longer while KMS is out of reach
	KMSCAFile    string   `toml:"kms_ca_file" path:"true"`
	KMSRate      int      `toml:"kms_rate"` // requests a second of a key and Region

	ReencryptRate int `toml:"reencrypt_rate"` // rows a second that a job moves at most
}

// Tenant is one tenant of the vault. Start from DefaultTenant.
type Tenant struct {
	Mode string `toml:"mode"` // ModeLocal, ModeKMSEnvelope, ModeKMS, ModePKCS11, ModeExternal

	Envelope             string   `toml:"envelope"` // EnvelopePlain, EnvelopeJWE
	PublicKeyFile        string   `toml:"public_key_file" path:"true"`
	ResponseKeyAlgorithm string   `toml:"response_key_algorithm"` // JWE alg of responses
	ResponseSignature    string   `toml:"response_signature"`     // JWS alg of responses
	ReplayWindow         Duration `toml:"replay_window"`          // 0 is off

	LazyHolders bool `toml:"lazy_holders"`

	Cryptoperiod Duration `toml:"cryptoperiod"`  // after which a key is replaced by itself; 0 is never
	MessageLimit int64    `toml:"message_limit"` // records sealed under a key after which likewise; 0 is none

	Unseal                             string `toml:"unseal"` // UnsealShares, UnsealHalves
	SealedMasterKeyFile                string `toml:"sealed_master_key_file" path:"true"`
	MasterKeyFile                      string `toml:"master_key_file" path:"true"`
	InsecureMasterKeyWithoutCustodians bool   `toml:"insecure_master_key_without_custodians"`

	KMS      TenantKMS      `toml:"kms"`
	PKCS11   TenantPKCS11   `toml:"pkcs11"`
	External TenantExternal `toml:"external"`

	Clients []Client `toml:"clients"`

	PublicKeyPEM    []byte       `toml:"-"` // content of PublicKeyFile
	SealedMasterKey secret.Bytes `toml:"-"` // 60 bytes: nonce, ciphertext, tag
	MasterKey       secret.Bytes `toml:"-"` // 32 bytes
}

// Values of the fields of Tenant.
const (
	ModeLocal       = "local"
	ModeKMSEnvelope = "aws_kms_envelope"
	ModeKMS         = "aws_kms"
	ModePKCS11      = "pkcs11"
	ModeExternal    = "external"

	EnvelopePlain = "plain"
	EnvelopeJWE   = "jwe"

	UnsealShares = "shares"
	UnsealHalves = "halves"
	UnsealPKCS11 = "pkcs11" // of the key service

	AlgRSAOAEP256  = "RSA-OAEP-256"
	AlgRSAOAEP     = "RSA-OAEP" // SHA-1: only where a client knows nothing else
	AlgECDHESA256K = "ECDH-ES+A256KW"
	AlgECDHES      = "ECDH-ES"
	AlgRS256       = "RS256"
	AlgES256       = "ES256"
)

// Client is a client certificate and what its holder may do for the tenant.
type Client struct {
	Name              string   `toml:"name"`               // appears in the audit log
	FingerprintSHA256 string   `toml:"fingerprint_sha256"` // 64 lower-case hex digits after Load
	SubjectCN         string   `toml:"subject_cn"`
	Merchants         []string `toml:"merchants"`
	Actions           []string `toml:"actions"`
}

// Duration is a time.Duration written as Go writes it: "1m30s". It is a struct so
// that a bare number, whose unit nobody can know, is an error.
type Duration struct{ time.Duration }

// UnmarshalText accepts "90s", "1m30s", "500ms"; not a negative one, not a bare number.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 || !strings.ContainsAny(string(text), "nuµmsh") {
		return errors.New(`expected a duration with a unit, such as "500ms", "30s" or "5m"`)
	}
	d.Duration = v
	return nil
}

// MarshalText writes a duration without its zero parts: "5m", not "5m0s".
func (d Duration) MarshalText() ([]byte, error) {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return []byte(s), nil
}

// Problem is one thing wrong with a configuration.
type Problem struct {
	Key  string // dotted: "tenants.acme.mode"; "" if it is about no single key
	Text string // what is wrong and what to do
}

func (p *Problem) Error() string {
	if p.Key == "" {
		return p.Text
	}
	return p.Key + ": " + p.Text
}

func problem(key, format string, args ...any) error {
	return &Problem{Key: key, Text: fmt.Sprintf(format, args...)}
}
