package config

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"maps"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// Default is the configuration without a file: SQLite in ./cardea-data, the
// vault on loopback, no tenant. What follows from other settings is left empty
// here and filled in by derive.
func Default() Config {
	return Config{
		Node: Node{DataDir: "./cardea-data"},
		Vault: Vault{
			Listen:         "127.0.0.1:8080",
			BodyLimitBytes: 2_097_152, // the locker contract's 2 MB
			MaxConnections: 4096,
			ShutdownGrace:  Duration{30 * time.Second},
			TLS:            TLS{ClientCertificates: ClientCertificatesOff},
		},
		Ops: Ops{
			Listen: "127.0.0.1:9464",
			TLS:    TLS{ClientCertificates: ClientCertificatesOff},
		},
		Database: defaultDatabase(),
		Audit:    Audit{CheckpointInterval: Duration{time.Second}, Publish: Publish{Interval: Duration{5 * time.Minute}}, Retention: defaultAuditRetention()},
		Detect:   defaultDetect(),
		Log:      Log{Level: "info", Format: "json"},
		Limits: Limits{
			CustodianAttemptsPerMinute: 6,
			CustodianLockoutAfter:      10, // PCI DSS 8.3.4 allows no more
			CustodianLockout:           Duration{30 * time.Minute},
		},
		Retention: Retention{SweepInterval: Duration{time.Minute}, SweepBatch: 500},
		Keys:      Keys{CacheTTL: Duration{5 * time.Minute}, CacheEntries: 10_000, KMSGrace: Duration{15 * time.Minute}, KMSRate: 5000, ReencryptRate: 1000},
		KeyService: KeyService{
			MaxConnections: 4096,
			TLS:            TLS{ClientCertificates: ClientCertificatesOff},
			Regions:        []string{"us-east-1"}, // what AWS's own tools take for granted
			Unseal:         UnsealShares,
			CacheEntries:   10_000,
			Clusters:       map[string]Cluster{},
			Database:       defaultDatabase(),
		},
		Tenants:       map[string]Tenant{},
		TenantSecrets: map[string]TenantSecret{},
	}
}

func defaultDatabase() Database {
	return Database{
		URL:              "sqlite",
		MaxConnections:   16,
		MaxBatch:         256,
		StatementTimeout: Duration{10 * time.Second},
	}
}

// DefaultTenant is a tenant of which nothing is said.
func DefaultTenant() Tenant {
	return Tenant{
		Mode: ModeLocal, Envelope: EnvelopePlain, LazyHolders: true, Unseal: UnsealShares, KMS: TenantKMS{Oversize: OversizeRefuse}, External: TenantExternal{Timeout: Duration{defaultExternalTimeout}},
		Cryptoperiod: Duration{365 * 24 * time.Hour}, MessageLimit: 1 << 32,
	}
}

// Derive fills in what follows from other settings and is not set itself. Load
// calls it; a Config made in code needs it before Validate.
func (c *Config) Derive(hostName string) {
	if c.Node.Name == "" {
		c.Node.Name = nodeName(hostName)
	}
	if c.Audit.SigningKeyFile == "" {
		c.Audit.SigningKeyFile = filepath.Join(c.Node.DataDir, "audit-signing.key")
	}
	c.Audit.DualControl.derive()
	c.KeyService.DualControl.derive()
	c.Audit.Signer.derive(c.Audit.SigningKeyFile)
	for i := range c.Audit.Delivery {
		c.Audit.Delivery[i].derive()
	}
	c.Detect.derive(c.Node.DataDir)
	if c.Limits.DeletePerSecond > 0 && c.Limits.DeletePerSecond <= math.MaxInt32 && c.Limits.DeleteBurst == 0 {
		c.Limits.DeleteBurst = int(math.Ceil(c.Limits.DeletePerSecond))
	}
	if c.KeyService.SigningKeyFile == "" {
		c.KeyService.SigningKeyFile = filepath.Join(c.Node.DataDir, "key-service-signing.key")
	}
	if c.Vault.AdminSocket == "" {
		c.Vault.AdminSocket = filepath.Join(c.Node.DataDir, "vault.sock")
	}
	if c.KeyService.AdminSocket == "" {
		c.KeyService.AdminSocket = filepath.Join(c.Node.DataDir, "admin.sock")
	}
	for _, d := range []*Database{&c.Database, &c.KeyService.Database} {
		if d.TLS == "" {
			d.TLS = d.defaultTLS()
		}
	}
	c.Tenants = maps.Clone(c.Tenants) // others may be reading theirs
	for name, t := range c.Tenants {
		t.derive(c.Locker)
		c.Tenants[name] = t
	}
}

func (t *Tenant) derive(l Locker) {
	t.KMS.derive()
	if t.Envelope == EnvelopeJWE {
		t.deriveAlgorithms(l)
	}
	for i := range t.Clients {
		c := &t.Clients[i]
		c.FingerprintSHA256 = strings.ToLower(strings.ReplaceAll(c.FingerprintSHA256, ":", "")) // as openssl prints it
		if c.Merchants == nil {
			c.Merchants = []string{"*"}
		}
		if c.Actions == nil {
			c.Actions = []string{"*"}
		}
	}
}

// deriveAlgorithms takes the algorithms from the kinds of keys. RSA-OAEP with
// SHA-1 is never a default. A key that does not parse is Validate's to tell.
func (t *Tenant) deriveAlgorithms(l Locker) {
	if t.ResponseKeyAlgorithm == "" {
		switch k, _ := parsePublicKey(t.PublicKeyPEM); k.(type) {
		case *rsa.PublicKey:
			t.ResponseKeyAlgorithm = AlgRSAOAEP256
		case *ecdsa.PublicKey:
			t.ResponseKeyAlgorithm = AlgECDHESA256K
		}
	}
	if t.ResponseSignature == "" {
		switch k, _ := parsePrivateKey(l.PrivateKeyPEM); k.(type) {
		case *rsa.PublicKey:
			t.ResponseSignature = AlgRS256
		case *ecdsa.PublicKey:
			t.ResponseSignature = AlgES256
		}
	}
}

// nodeName makes a host name fit for an audit log's origin.
func nodeName(host string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '-':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, host)
	name = strings.Trim(name[:min(len(name), 64)], "-.")
	if name == "" {
		return "cardea"
	}
	return name
}
