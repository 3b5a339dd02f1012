package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cardea/internal/secret"
)

// KeyServiceTenant is the name under which custodians keep the key service's root
// key. No tenant of the vault may have it.
const KeyServiceTenant = "key-service"

// KeyService is the key service: its listener, its own database and audit log,
// and who unseals it.
type KeyService struct {
	Listen                       string `toml:"listen"` // "" serves none
	InsecurePlainHTTPOffLoopback bool   `toml:"insecure_plain_http_off_loopback"`
	MaxConnections               int    `toml:"max_connections"`
	TLS                          TLS    `toml:"tls"`

	Regions        []string `toml:"regions"` // the first is the default of tools
	SigningKeyFile string   `toml:"signing_key_file" path:"true"`
	AdminSocket    string   `toml:"admin_socket" path:"true"`

	Unseal                           string    `toml:"unseal"` // UnsealShares, UnsealHalves, UnsealPKCS11
	RootToken                        RootToken `toml:"root_token"`
	RootKeyFile                      string    `toml:"root_key_file" path:"true"`
	InsecureRootKeyWithoutCustodians bool      `toml:"insecure_root_key_without_custodians"`

	CacheEntries int                `toml:"cache_entries"` // materials kept unwrapped
	Clusters     map[string]Cluster `toml:"clusters"`

	DualControl DualControl `toml:"dual_control"`

	Database Database `toml:"database"`

	RootKey secret.Bytes `toml:"-"` // 32 bytes, content of RootKeyFile
}

// RootToken is the PKCS #11 token that unseals the root key, with UnsealPKCS11.
type RootToken struct {
	Library string `toml:"library" path:"true"`
	Token   string `toml:"token"` // label
	PINFile string `toml:"pin_file" path:"true"`

	PIN secret.Bytes `toml:"-"` // content of PINFile
}

// Cluster is a PKCS #11 token that custom key stores of type AWS_CLOUDHSM can name
// by its id.
type Cluster struct {
	Library         string `toml:"library" path:"true"`
	Token           string `toml:"token"` // label
	TrustAnchorFile string `toml:"trust_anchor_file" path:"true"`
}

var (
	regionPattern  = regexp.MustCompile(`^([a-z]+-){2,3}\d+$`)
	clusterPattern = regexp.MustCompile(`^cluster-[2-7a-zA-Z]{11,16}$`)
)

// Enabled says whether the key service is served.
func (k KeyService) Enabled() bool { return k.Listen != "" }

// ForKeyService is the configuration of the key service as a node of its own: its
// database, its audit log, and its root key as that of its one tenant. So whatever
// works on a vault's database, log and custodians works on the key service's.
func (c Config) ForKeyService() Config {
	k := c.KeyService
	c.Node.Name = strings.TrimRight(c.Node.Name[:min(len(c.Node.Name), maxNodeName-len("-keys-cli"))], ".-") + "-keys"
	c.Audit.SigningKeyFile, c.Audit.Signer = k.SigningKeyFile, AuditSigner{} // a sealed key service could not sign its own log
	c.Database = k.Database
	if c.Database.URL == "sqlite" {
		c.Database.URL = "sqlite:" + filepath.Join(c.Node.DataDir, "keys.db")
	}
	c.Vault.Listen, c.Vault.TLS, c.Vault.MaxConnections = k.Listen, k.TLS, k.MaxConnections
	c.Vault.InsecurePlainHTTPOffLoopback = k.InsecurePlainHTTPOffLoopback
	c.Tenants = map[string]Tenant{KeyServiceTenant: {
		Mode: ModeLocal, Envelope: EnvelopePlain, Unseal: k.Unseal,
		MasterKeyFile: k.RootKeyFile, MasterKey: k.RootKey, InsecureMasterKeyWithoutCustodians: k.InsecureRootKeyWithoutCustodians,
	}}
	return c
}

// maxNodeName is the longest name of a node.
const maxNodeName = 64

func (c Config) validateKeyService(v *validation) {
	const key = "key_service"
	k := c.KeyService
	if _, taken := c.Tenants[KeyServiceTenant]; taken {
		v.add("tenants."+KeyServiceTenant, "is the name of the key service's root key; give the tenant another")
	}
	if !k.Enabled() {
		unset := Default()
		unset.Node = c.Node // from which paths follow
		unset.Derive("")
		without := Config{KeyService: unset.KeyService}
		for _, set := range Changed(without, Config{KeyService: k}) {
			v.add(set, "has no effect without %s.listen; set that, or remove it", key)
		}
		return
	}
	k.TLS.validate(v, key+".tls")
	validateListen(v, key, k.Listen, k.TLS, k.InsecurePlainHTTPOffLoopback)
	for _, other := range []struct{ key, listen string }{{"vault", c.Vault.Listen}, {"ops", c.Ops.Listen}} {
		if k.Listen == other.listen && !strings.HasSuffix(k.Listen, ":0") {
			v.add(key+".listen", "is the address of %s.listen; give it another port", other.key)
		}
	}
	v.between(key+".max_connections", int64(k.MaxConnections), 1, 1_000_000)
	v.between(key+".cache_entries", int64(k.CacheEntries), 1, 10_000_000)
	if len(k.Regions) == 0 {
		v.add(key+".regions", "is empty; name the Regions that are served, such as [\"eu-central-1\"]")
	}
	for i, r := range k.Regions {
		if !regionPattern.MatchString(r) {
			v.add(key+".regions", "%q is not a Region, expected a name such as eu-central-1", r)
		}
		if slices.Contains(k.Regions[:i], r) {
			v.add(key+".regions", "%q is named twice", r)
		}
	}
	k.validateUnseal(v, key)
	k.DualControl.validate(v, key+".dual_control")
	for _, id := range sortedKeys(k.Clusters) {
		at, cluster := key+".clusters."+id, k.Clusters[id]
		if !clusterPattern.MatchString(id) {
			v.add(at, "%q is not the id of a cluster, expected cluster- and 11 to 16 letters or digits 2 to 7", id)
		}
		if cluster.Library == "" {
			v.add(at+".library", "is missing; name the token's PKCS #11 library")
		}
		if cluster.Token == "" {
			v.add(at+".token", "is missing; name the token by its label")
		}
	}
	k.Database.validate(v, key+".database")
	if c.Vault.Listen != "" && k.Database.URL == c.Database.URL && k.Database.URL != "sqlite" {
		v.add(key+".database.url", "is the vault's database; the keys must not lie beside what they protect (PCI DSS 3.6.1.2): give the key service its own")
	}
}

func (k KeyService) validateUnseal(v *validation, key string) {
	v.oneOf(key+".unseal", k.Unseal, UnsealShares, UnsealHalves, UnsealPKCS11)
	t := k.RootToken
	for _, s := range []struct{ name, value, what string }{
		{"library", t.Library, "name the token's PKCS #11 library"},
		{"token", t.Token, "name the token by its label"},
		{"pin_file", t.PINFile, "name a file with the PIN of the token's user"},
	} {
		at := key + ".root_token." + s.name
		if k.Unseal == UnsealPKCS11 && s.value == "" {
			v.add(at, "is missing; %s", s.what)
		}
		if k.Unseal != UnsealPKCS11 && s.value != "" {
			v.add(at, "has no effect without %s.unseal = %q; set that, or remove it", key, UnsealPKCS11)
		}
	}
	switch {
	case k.Unseal == UnsealPKCS11 && k.RootKeyFile != "":
		v.add(key+".root_key_file", "cannot be together with %s.unseal = %q: there is one root key; remove one of the two", key, UnsealPKCS11)
	case k.RootKeyFile != "" && !k.InsecureRootKeyWithoutCustodians:
		v.add(key+".root_key_file", "holds a root key that one person can use alone (PCI DSS 3.7.6): make custodians with 'cardea custodian init --tenant %s', "+
			"or accept the danger with %s.insecure_root_key_without_custodians = true", KeyServiceTenant, key)
	case k.RootKeyFile == "" && k.InsecureRootKeyWithoutCustodians:
		v.add(key+".insecure_root_key_without_custodians", "has no effect without root_key_file; remove it")
	}
}
