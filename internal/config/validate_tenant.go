package config

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"regexp"
	"slices"
	"time"
)

var (
	fingerprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	clientNamePattern  = regexp.MustCompile(`^[A-Za-z0-9._@ -]{1,64}$`)
	actionPattern      = regexp.MustCompile(`^[A-Za-z0-9:*]{1,64}$`)
)

func (c Config) validateTenant(v *validation, name string, t Tenant) {
	key := "tenants." + name
	if !tenantNamePattern.MatchString(name) {
		v.add(key, "%q cannot name a tenant, expected 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen", name)
	}
	v.oneOf(key+".mode", t.Mode, ModeLocal, ModeKMSEnvelope, ModeKMS, ModePKCS11, ModeExternal)
	v.oneOf(key+".envelope", t.Envelope, EnvelopePlain, EnvelopeJWE)
	switch t.Envelope {
	case EnvelopeJWE:
		c.validateJWE(v, key, t)
	case EnvelopePlain:
		c.validatePlain(v, key, t)
	}
	if t.Cryptoperiod.Duration != 0 {
		v.durationBetween(key+".cryptoperiod", t.Cryptoperiod, 24*time.Hour, 3*365*24*time.Hour) // NIST SP 800-57 part 1, 5.3.6: at most two years and the time to move
	}
	if t.MessageLimit != 0 {
		v.between(key+".message_limit", t.MessageLimit, 1000, 1<<48)
	}
	t.validateMasterKey(v, key)
	t.validateKMS(v, key)
	t.validatePKCS11(v, key)
	t.validateExternal(v, key)
	c.validateClients(v, key, t)
}

func (c Config) validateJWE(v *validation, key string, t Tenant) {
	if c.Locker.PrivateKeyPEM.Len() == 0 && c.Locker.PrivateKeyFile == "" {
		v.add("locker.private_key_file", `is missing; %s.envelope is "jwe", which needs the vault's key`, key)
	}
	switch {
	case len(t.PublicKeyPEM) == 0 && t.PublicKeyFile == "":
		v.add(key+".public_key_file", `is missing; envelope "jwe" needs the tenant's public key`)
	case len(t.PublicKeyPEM) > 0:
		t.validateKeyAlgorithm(v, key)
	}
	v.durationBetween(key+".replay_window", t.ReplayWindow, 0, 24*time.Hour)
	c.validateSignature(v, key, t)
}

func (c Config) validateSignature(v *validation, key string, t Tenant) {
	want := ""
	switch k, _ := parsePrivateKey(c.Locker.PrivateKeyPEM); k.(type) {
	case *rsa.PublicKey:
		want = AlgRS256
	case *ecdsa.PublicKey:
		want = AlgES256
	default:
		return // no key, or none that can be used: told for locker.private_key_file
	}
	if t.ResponseSignature != AlgRS256 && t.ResponseSignature != AlgES256 {
		v.oneOf(key+".response_signature", t.ResponseSignature, AlgRS256, AlgES256)
	} else if t.ResponseSignature != want {
		v.add(key+".response_signature", "%s does not fit locker.private_key_file, expected %s", t.ResponseSignature, want)
	}
}

func (t Tenant) validateKeyAlgorithm(v *validation, key string) {
	k, err := parsePublicKey(t.PublicKeyPEM)
	if err != nil {
		v.add(key+".public_key_file", "%s: %v", t.PublicKeyFile, err)
		return
	}
	algorithms := []string{AlgRSAOAEP256, AlgRSAOAEP}
	if _, ec := k.(*ecdsa.PublicKey); ec {
		algorithms = []string{AlgECDHESA256K, AlgECDHES}
	}
	if all := []string{AlgRSAOAEP256, AlgRSAOAEP, AlgECDHESA256K, AlgECDHES}; !slices.Contains(all, t.ResponseKeyAlgorithm) {
		v.oneOf(key+".response_key_algorithm", t.ResponseKeyAlgorithm, all...)
	} else if !slices.Contains(algorithms, t.ResponseKeyAlgorithm) {
		v.add(key+".response_key_algorithm", "%s does not fit the kind of key in public_key_file, expected one of %s, %s", t.ResponseKeyAlgorithm, algorithms[0], algorithms[1])
	}
}

// validatePlain: a plain request proves nothing about its sender, so off loopback
// it needs a client certificate that belongs to the tenant.
func (c Config) validatePlain(v *validation, key string, t Tenant) {
	for _, s := range []struct {
		key string
		set bool
	}{
		{"public_key_file", t.PublicKeyFile != ""},
		{"response_key_algorithm", t.ResponseKeyAlgorithm != ""},
		{"response_signature", t.ResponseSignature != ""},
		{"replay_window", t.ReplayWindow.Duration != 0},
	} {
		if s.set {
			v.add(key+"."+s.key, `has no effect with envelope "plain"; set envelope = "jwe" or remove it`)
		}
	}
	certified := len(t.Clients) > 0 && c.Vault.TLS.ClientCertificates != ClientCertificatesOff
	if !certified && !loopbackOnly(c.Vault.Listen) && !c.Vault.InsecurePlainAPIWithoutClientCertificates {
		v.add(key+".envelope", `is "plain", and vault.listen %s can be reached by other machines: anybody there could act as this tenant. `+
			`Set envelope = "jwe", or vault.tls.client_certificates and [[%s.clients]], `+
			"or accept the danger with vault.insecure_plain_api_without_client_certificates = true", c.Vault.Listen, key)
	}
}

func (t Tenant) validateMasterKey(v *validation, key string) {
	v.oneOf(key+".unseal", t.Unseal, UnsealShares, UnsealHalves)
	bare := t.MasterKeyFile != "" || t.MasterKey.Len() > 0
	sealed := t.SealedMasterKeyFile != "" || t.SealedMasterKey.Len() > 0
	if bare && sealed {
		v.add(key+".master_key_file", "and sealed_master_key_file exclude each other; keep one")
	}
	if bare && !t.InsecureMasterKeyWithoutCustodians {
		v.add(key+".master_key_file", "lets whoever reads one file decrypt all cards, without custodians; "+
			"run cardea custodian init instead, or accept the danger with %s.insecure_master_key_without_custodians = true", key)
	}
	if n := t.MasterKey.Len(); n != 0 && n != masterKeyBytes {
		v.add(key+".master_key_file", "has %d bytes, expected %d", n, masterKeyBytes)
	}
}

func (c Config) validateClients(v *validation, key string, t Tenant) {
	if len(t.Clients) > 0 && c.Vault.TLS.ClientCertificates == ClientCertificatesOff {
		v.add(key+".clients", `have no effect while vault.tls.client_certificates is "off"; set "required" or "optional" there`)
	}
	names, certificates := map[string]bool{}, map[string]bool{}
	for _, cl := range t.Clients {
		key := key + ".clients"
		if !clientNamePattern.MatchString(cl.Name) {
			v.add(key+".name", "%q cannot name a client, expected 1 to 64 letters, digits, spaces and . _ @ -", cl.Name)
		} else if key += "." + cl.Name; names[cl.Name] {
			v.add(key, "the name is used twice in this tenant; the audit log could not tell the two apart")
		}
		names[cl.Name] = true
		if (cl.FingerprintSHA256 == "") == (cl.SubjectCN == "") {
			v.add(key, "expected either fingerprint_sha256 or subject_cn")
		}
		if cl.FingerprintSHA256 != "" && !fingerprintPattern.MatchString(cl.FingerprintSHA256) {
			v.add(key+".fingerprint_sha256", "expected the certificate's SHA-256 as 64 hex digits, as openssl x509 -noout -fingerprint -sha256 prints it")
		}
		certificate := cl.FingerprintSHA256 + "\x00" + cl.SubjectCN
		if certificates[certificate] && certificate != "\x00" {
			v.add(key, "another client of this tenant has the same certificate; join the two")
		}
		certificates[certificate] = true
		cl.validateGrants(v, key)
	}
}

func (cl Client) validateGrants(v *validation, key string) {
	if len(cl.Merchants) == 0 {
		v.add(key+".merchants", `is empty, so that nothing would be allowed; expected ids, with * for any characters, or ["*"]`)
	}
	if slices.Contains(cl.Merchants, "") {
		v.add(key+".merchants", "has an empty id in it")
	}
	if len(cl.Actions) == 0 {
		v.add(key+".actions", `is empty, so that nothing would be allowed; expected actions such as "card:Retrieve", or ["*"]`)
	}
	for _, a := range cl.Actions {
		if !actionPattern.MatchString(a) {
			v.add(key+".actions", "%q is not an action, expected one such as card:Retrieve, card:* or *", a)
		}
	}
}
