package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cardea/internal/config"
)

func TestLoadOfNothingIsAValidDefault(t *testing.T) {
	c, err := config.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c.Vault.Listen != "127.0.0.1:8080" || c.Ops.Listen != "127.0.0.1:9464" || c.SQLitePath() != here+"/cardea-data/vault.db" ||
		c.Audit.SigningKeyFile != here+"/cardea-data/audit-signing.key" || c.Node.Name == "" || c.Keys.CacheTTL.Duration != 5*time.Minute {
		t.Errorf("got %+v", c)
	}
	if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "no tenant is configured") }) {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestLaterFilesLieOverEarlierOnes(t *testing.T) {
	f := newFolder(t, map[string]string{
		"a.toml": `
[vault]
listen = "127.0.0.1:1"
max_connections = 7
trusted_proxies = ["10.0.0.0/8", "10.1.0.0/16"]
[tenants.acme]
lazy_holders = false
[[tenants.acme.clients]]
name = "one"
subject_cn = "one"
[[tenants.acme.clients]]
name = "two"
subject_cn = "two"
`,
		"b.toml": `
[vault]
listen = "127.0.0.1:2"
trusted_proxies = ["192.0.2.0/24"]
[[tenants.acme.clients]]
name = "three"
subject_cn = "three"
[tenants.other]
`,
	})
	c, err := config.Load([]string{f.path("a.toml"), f.path("b.toml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Vault.Listen != "127.0.0.1:2" || c.Vault.MaxConnections != 7 {
		t.Errorf("vault: %+v", c.Vault)
	}
	if len(c.Vault.TrustedProxies) != 1 || c.Vault.TrustedProxies[0].String() != "192.0.2.0/24" {
		t.Errorf("a list does not replace a list: %v", c.Vault.TrustedProxies)
	}
	acme, other := c.Tenants["acme"], c.Tenants["other"]
	if acme.LazyHolders || len(acme.Clients) != 1 || acme.Clients[0].Name != "three" {
		t.Errorf("acme: %+v", acme)
	}
	if !other.LazyHolders || other.Mode != config.ModeLocal || other.Envelope != config.EnvelopePlain {
		t.Errorf("a tenant without keys lacks the defaults: %+v", other)
	}
}

func TestRelativePathsBelongToTheFileTheyAreWrittenIn(t *testing.T) {
	f := newFolder(t, map[string]string{
		"etc/cardea.toml": `
tenants_dir = "tenants.d"
[node]
data_dir = "data"
[database]
url = "sqlite:db/cards.db"
[tenants.acme]
public_key_file = "acme.pem"
`,
		"etc/tenants.d/other.toml": `public_key_file = "other.pem"`,
	})
	c, err := config.Load([]string{f.path("etc/cardea.toml")}, []string{"CARDEA__OPS__TLS__CLIENT_CA_FILE=ca.pem", "CARDEA__TENANTS__OTHER__MASTER_KEY_FILE=m"})
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.TenantsDir:                     f.path("etc/tenants.d"),
		c.Node.DataDir:                   f.path("etc/data"),
		c.SQLitePath():                   f.path("etc/db/cards.db"),
		c.Audit.SigningKeyFile:           f.path("etc/data/audit-signing.key"),
		c.Tenants["acme"].PublicKeyFile:  f.path("etc/acme.pem"),
		c.Tenants["other"].PublicKeyFile: f.path("etc/tenants.d/other.pem"),
		c.Ops.TLS.ClientCAFile:           here + "/ca.pem",
		c.Tenants["other"].MasterKeyFile: here + "/m",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestLoadRefusesWhatHasNoEffect(t *testing.T) {
	for text, want := range map[string][]string{
		"[vault]\nlistn = \"x\"\n[vualt]":               {`:2: vault.listn: unknown key; did you mean listen?`, `:3: vualt: unknown key; did you mean vault?`},
		"[vault]\nsomething_else = 1":                   {`:2: vault.something_else: unknown key`},
		"[vault]\nListen = \"x\"":                       {`:2: vault.Listen: unknown key; did you mean listen?`},
		"vault.tls.certificate = \"x\"":                 {`:1: vault.tls.certificate: unknown key`},
		"[database]\nmax_connections = \"3\"":           {`:2: database.max_connections: expected a whole number`},
		"[database]\nmax_connections = 3.5":             {`:2: database.max_connections: expected a whole number`},
		"[database]\nmax_connections = true":            {`:2: database.max_connections: expected a whole number`},
		"[database]\nurl = 5":                           {`:2: database.url: expected text in quotes`},
		"[database]\nurl = 2020-01-01":                  {`:2: database.url: expected text in quotes`},
		"[limits]\ndelete_per_second = \"1\"":           {`:2: limits.delete_per_second: expected a number`},
		"[vault]\ninsecure_plain_http_off_loopback = 1": {`:2: vault.insecure_plain_http_off_loopback: expected true or false`},
		"[vault]\nshutdown_grace = 30":                  {`:2: vault.shutdown_grace: expected a duration in quotes, such as "30s"`},
		"[vault]\nshutdown_grace = \"30\"":              {`:2: vault.shutdown_grace: expected a duration in quotes, such as "30s"`},
		"[vault]\nshutdown_grace = \"0\"":               {`:2: vault.shutdown_grace: expected a duration in quotes, such as "30s"`},
		"[vault]\nshutdown_grace = \"-5s\"":             {`:2: vault.shutdown_grace: expected a duration in quotes, such as "30s"`},
		"[vault.shutdown_grace]\nDuration = 5":          {`:1: vault.shutdown_grace: expected a duration in quotes, such as "30s"`},
		"[vault]\n\ntrusted_proxies = [\"10.0.0.1\"]":   {`:3: vault.trusted_proxies[0]: expected a network in quotes, such as "10.0.0.0/8"`},
		"[vault]\ntrusted_proxies = \"10.0.0.0/8\"":     {`:2: vault.trusted_proxies: expected a list`},
		"vault = 1":                       {`:1: vault: expected a table`},
		"tenants = []":                    {`:1: tenants: expected a table`},
		"[tenants]\nacme = 1":             {`:2: tenants.acme: expected a table`},
		"[tenants.acme]\nmod = \"local\"": {`:2: tenants.acme.mod: unknown key; did you mean mode?`},
		"[tenants.acme]\nclients = [{name = \"a\"}, {nme = \"b\"}]":                     {`:2: tenants.acme.clients[1].nme: unknown key; did you mean name?`},
		"[[tenants.acme.clients]]\nname = \"a\"\n[[tenants.acme.clients]]\nnme = \"b\"": {`:4: tenants.acme.clients[1].nme: unknown key; did you mean name?`},
		"[tenants.acme]\nmaster_key = \"00\"":                                           {`:2: tenants.acme.master_key: unknown key`},
		"a = [":                                                                         {`:1:5: array is incomplete`},
		"[node]\nname = \"a\"\nname = \"b\"":                                            {`:3:1: key name is already defined`},
		"[node]\nname = \"a\"\n[node]":                                                  {`:3:2: table node already exists`},
		"[vault]\nmax_connections = 99999999999999999999":                               {`:2:19: decimal number is too large to fit in a 64-bit signed integer`},
		"\xff": nil, // its words are go-toml's
		"[node]\nname = \"" + strings.Repeat("x", 1<<20) + "\"": {`: larger than 1048576 bytes`},
	} {
		f := newFolder(t, map[string]string{"cardea.toml": text})
		_, err := f.load()
		if want == nil {
			if err == nil {
				t.Errorf("%.60q was accepted", text)
			}
			continue
		}
		for i := range want {
			want[i] = f.path("cardea.toml") + want[i]
		}
		wantErrors(t, err, want...)
	}
}

func TestLoadRefusesFilesItCannotRead(t *testing.T) {
	f := newFolder(t, nil)
	if err := syscall.Mkfifo(f.path("pipe.toml"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load([]string{f.path("missing.toml"), f.path("pipe.toml"), string(f)}, nil)
	wantErrors(t, err,
		"stat "+f.path("missing.toml")+": no such file or directory",
		f.path("pipe.toml")+": not a regular file",
		string(f)+": not a regular file")
}

func TestTenantsDir(t *testing.T) {
	f := newFolder(t, map[string]string{
		"cardea.toml":            "tenants_dir = \"d\"\n[tenants.first]",
		"d/acme.toml":            "lazy_holders = false\n[[clients]]\nname = \"c\"\nsubject_cn = \"c\"",
		"d/.hidden.toml":         "nonsense",
		"d/acme.toml.bak":        "nonsense",
		"d/folder/ignored.toml":  "nonsense",
		"d/Second_Tenant-2.toml": "",
	})
	c := mustLoad(t, f)
	if len(c.Tenants) != 3 || c.Tenants["acme"].LazyHolders || c.Tenants["acme"].Clients[0].Merchants[0] != "*" || !c.Tenants["Second_Tenant-2"].LazyHolders {
		t.Errorf("tenants: %+v", c.Tenants)
	}

	f.write(t, "d/first.toml", "")
	f.write(t, "d/broken.toml", "mod = \"local\"")
	_, err := f.load()
	wantErrors(t, err,
		f.path("d/broken.toml")+":1: tenants.broken.mod: unknown key; did you mean mode?",
		f.path("d/first.toml")+": tenant first is defined in a configuration file too; keep one of the two")

	if err := os.RemoveAll(f.path("d")); err != nil {
		t.Fatal(err)
	}
	_, err = f.load()
	wantErrors(t, err, "tenants_dir: open "+f.path("d")+": no such file or directory; create the folder or remove the key")
}

func TestTenantFileWithABadNameIsAProblem(t *testing.T) {
	c := mustLoad(t, newFolder(t, map[string]string{"cardea.toml": `tenants_dir = "d"`, "d/a b.toml": ""}))
	wantErrors(t, c.Validate(), `tenants.a b: "a b" cannot name a tenant, expected 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen`)
}

func TestSecretFiles(t *testing.T) {
	hex32, hex60 := strings.Repeat("0f", 32), strings.Repeat("0f", 60)
	f := newFolder(t, map[string]string{
		"cardea.toml": `
[database]
url = "postgres://cardea@127.0.0.1/cardea"
password_file = "password"
[locker]
private_key_file = "locker.pem"
[tenants.acme]
envelope = "jwe"
public_key_file = "acme.pem"
sealed_master_key_file = "sealed"
[tenants.dev]
master_key_file = "master"
insecure_master_key_without_custodians = true
`,
		"password": "0012\n", "locker.pem": privatePEM(t, "rsa"), "acme.pem": publicPEM(t, "p256"), "sealed": hex60 + "\n", "master": hex32,
	})
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := string(c.Database.Password.Expose()); got != "0012" {
		t.Error("the password is not the line that was written, leading zeros and all")
	}
	acme := c.Tenants["acme"]
	if acme.SealedMasterKey.Len() != 60 || c.Tenants["dev"].MasterKey.Len() != 32 || c.Tenants["dev"].MasterKey.Expose()[31] != 0x0f {
		t.Error("hex was not decoded")
	}
	if acme.ResponseKeyAlgorithm != config.AlgECDHESA256K || acme.ResponseSignature != config.AlgRS256 {
		t.Errorf("derived %s and %s", acme.ResponseKeyAlgorithm, acme.ResponseSignature)
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "tenants.dev.insecure_master_key_without_custodians is set") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if c.Database.TLS != config.DatabaseTLSInsecureDisable {
		t.Errorf("TLS to a database on loopback: %q", c.Database.TLS)
	}
}

func TestRootTokenIsRead(t *testing.T) {
	f := newFolder(t, map[string]string{
		"cardea.toml": `
[key_service]
listen = "127.0.0.1:4599"
unseal = "pkcs11"
[key_service.root_token]
library = "p11.so"
token = "cardea root"
pin_file = "pin"
`, "p11.so": "", "pin": "0012\n",
	})
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	got := c.KeyService.RootToken
	if got.Library != f.path("p11.so") || got.Token != "cardea root" || string(got.PIN.Expose()) != "0012" {
		t.Errorf("library %s, token %q, or another PIN", got.Library, got.Token)
	}
	if k := c.ForKeyService(); k.Tenants[config.KeyServiceTenant].Unseal != config.UnsealPKCS11 {
		t.Error("the key service as a node does not say how it is unsealed")
	}
	f.write(t, "pin", "12\n34\n")
	wantErrors(t, mustLoad(t, f).Validate(), "key_service.root_token.pin_file: "+f.path("pin")+" has more than one line, expected the PIN alone")
}

func TestSecretFilesThatOthersCanReadAreWarnedOf(t *testing.T) {
	f := newFolder(t, map[string]string{
		"cardea.toml": "[database]\nurl = \"postgres://c@127.0.0.1/c\"\npassword_file = \"pw\"\n[vault.tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\n[tenants.a]",
		"pw":          "x", "c": "x", "k": "x",
	})
	for name, mode := range map[string]os.FileMode{"pw": 0o640, "k": 0o604, "c": 0o644} {
		if err := os.Chmod(f.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"database.password_file: " + f.path("pw") + " has mode 0640: not only its owner can use it; chmod 600 " + f.path("pw"),
		"vault.tls.private_key_file: " + f.path("k") + " has mode 0604: not only its owner can use it; chmod 600 " + f.path("k"),
	}
	if got := mustLoad(t, f).Warnings; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestSecretFilesThatAreWrongAreProblems(t *testing.T) {
	f := newFolder(t, map[string]string{
		"cardea.toml": `
[database]
url = "postgres://cardea@127.0.0.1/cardea"
password_file = "lines"
[vault.tls]
certificate_file = "nocert"
private_key_file = "nokey"
[locker]
private_key_file = "empty"
[tenants.a]
master_key_file = "short"
insecure_master_key_without_custodians = true
[tenants.b]
sealed_master_key_file = "nothex"
[tenants.c]
envelope = "jwe"
public_key_file = "nopub"
[tenants.d]
sealed_master_key_file = "big"
`,
		"lines": "canary-one\ncanary-two\n", "empty": " \n", "short": "0f0f", "nothex": strings.Repeat("zz", 60), "big": strings.Repeat("0", 65<<10),
	})
	err := mustLoad(t, f).Validate()
	wantErrors(t, err,
		"database.password_file: "+f.path("lines")+" has more than one line, expected the password alone",
		"locker.private_key_file: "+f.path("empty")+" is empty",
		"tenants.a.master_key_file: "+f.path("short")+": expected 64 hex digits (32 bytes), got 4 characters",
		"tenants.b.sealed_master_key_file: "+f.path("nothex")+": expected hex digits only",
		"tenants.c.public_key_file: stat "+f.path("nopub")+": no such file or directory",
		"tenants.d.sealed_master_key_file: "+f.path("big")+": larger than 65536 bytes",
		"vault.tls.certificate_file: open "+f.path("nocert")+": no such file or directory",
		"vault.tls.private_key_file: open "+f.path("nokey")+": no such file or directory",
	)
	wantProblems(t, err)
	if strings.Contains(err.Error(), "canary") {
		t.Error("a secret is in the error")
	}
}

func TestInsecureSettingsAreWarnedOf(t *testing.T) {
	c, err := loadText(t, `
[vault]
listen = "0.0.0.0:1"
insecure_plain_http_off_loopback = true
insecure_plain_api_without_client_certificates = true
[ops]
insecure_plain_http_off_loopback = true
[database]
url = "postgres://c@db.example/c"
tls = "insecure_disable"
[tenants.a]
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	want := []string{
		"vault.insecure_plain_http_off_loopback is set: not for cardholder data in production",
		"vault.insecure_plain_api_without_client_certificates is set: not for cardholder data in production",
		"ops.insecure_plain_http_off_loopback is set: not for cardholder data in production",
		"database.tls is insecure_disable: everything that the database is told crosses the network in clear",
	}
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("got %q", c.Warnings)
	}
}

func TestNodeNameComesFromTheHost(t *testing.T) {
	for host, want := range map[string]string{
		"Vault_1.Example.COM": "vault-1.example.com", "": "cardea", "...": "cardea", "-a-": "a", "ü": "cardea",
		strings.Repeat("a", 100): strings.Repeat("a", 64), strings.Repeat("a", 63) + ".b": strings.Repeat("a", 63),
	} {
		c := config.Default()
		c.Derive(host)
		if c.Node.Name != want {
			t.Errorf("%q gives %q, want %q", host, c.Node.Name, want)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestClientFingerprintsAreAcceptedAsOpenSSLPrintsThem(t *testing.T) {
	c, err := loadText(t, "[vault]\ntls = {certificate_file = \"/c\", private_key_file = \"/k\", client_ca_file = \"/a\", client_certificates = \"required\"}\n"+
		"[[tenants.a.clients]]\nname = \"x\"\nfingerprint_sha256 = \"AB:"+strings.TrimSuffix(strings.Repeat("0f:", 31), ":")+"\"")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Tenants["a"].Clients[0].FingerprintSHA256; got != "ab"+strings.Repeat("0f", 31) {
		t.Errorf("got %s", got)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("[vault]\nlisten = \"127.0.0.1:1\"\n[tenants.a]\n[[tenants.a.clients]]\nname = \"x\""))
	f.Add([]byte("[tenants.a]\nlazy_holders = false\n[keys]\ncache_ttl = \"1h0m5s\"\n[limits]\ndelete_per_second = 1e-3"))
	f.Add([]byte("[database]\nurl = \"postgres://u@h/db?application_name=%41\"\n[vault]\ntrusted_proxies = [\"::/1\"]\n[node]\nname = \"a\""))
	f.Add([]byte("tenants = {a = {clients = [{}]}}\nvault.shutdown_grace = \"1m\""))
	f.Add([]byte("[database]\nurl = \"postgres://u:p@h:1,h2/db?sslmode=x\""))
	f.Add([]byte("[vault]\ntrusted_proxies = [\"10.0.0.0/8\", {}]"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "cardea.toml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load([]string{path}, []string{"CARDEA__TENANTS_DIR="})
		if err != nil || c.Validate() != nil {
			return
		}
		printed, err := c.Redacted()
		if err != nil {
			t.Fatalf("a valid configuration cannot be printed: %v", err)
		}
		if err := os.WriteFile(path, []byte(printed), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := config.Load([]string{path}, nil)
		if err != nil {
			t.Fatalf("what was printed cannot be loaded: %v", err)
		}
		if changed := config.Changed(c, again); len(changed) > 0 {
			t.Errorf("what was printed loads as something else: %v", changed)
		}
	})
}
