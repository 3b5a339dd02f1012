package config

import (
	"errors"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	nodeNamePattern   = regexp.MustCompile(`^[a-z0-9.-]{1,64}$`)
	tenantNamePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// validation gathers problems, so that an operator sees all of them at once.
type validation struct{ errs []error }

func (v *validation) add(key, format string, args ...any) {
	v.errs = append(v.errs, problem(key, format, args...))
}

// oneOf requires a value out of a list.
func (v *validation) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		v.add(key, "%q is not known, expected one of %s", got, strings.Join(allowed, ", "))
	}
}

func (v *validation) between(key string, got, least, most int64) {
	if got < least || got > most {
		v.add(key, "%d is out of range, expected %d to %d", got, least, most)
	}
}

func (v *validation) durationBetween(key string, got Duration, least, most time.Duration) {
	if got.Duration < least || got.Duration > most {
		l, _ := Duration{least}.MarshalText() // never errs
		m, _ := Duration{most}.MarshalText()
		v.add(key, "%s is out of range, expected %s to %s", got, l, m)
	}
}

// Validate returns every problem of a configuration that Load or Derive has
// completed, joined; each is a *Problem with its key. nil means that the
// configuration makes sense, not that addresses are free or a database answers.
func (c Config) Validate() error {
	v := &validation{errs: slices.Clone(c.problems)}
	if !nodeNamePattern.MatchString(c.Node.Name) {
		v.add("node.name", "%q cannot name a node, expected 1 to 64 of a-z, 0-9, dot and hyphen", c.Node.Name)
	}
	if c.Node.DataDir == "" {
		v.add("node.data_dir", "is empty; name a folder")
	}
	c.validateVault(v)
	c.validateOps(v)
	c.Database.validate(v, "database")
	c.validateKeyService(v)
	v.durationBetween("audit.checkpoint_interval", c.Audit.CheckpointInterval, 100*time.Millisecond, time.Minute)
	c.Audit.Signer.validate(v, c.Vault.Listen != "")
	c.validateDelivery(v)
	c.Audit.Retention.validate(v)
	c.Audit.DualControl.validate(v)
	c.validateDetect(v)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "json", "text")
	c.Limits.validate(v)
	v.durationBetween("retention.sweep_interval", c.Retention.SweepInterval, time.Second, 24*time.Hour)
	v.between("retention.sweep_batch", int64(c.Retention.SweepBatch), 1, 10_000)
	v.durationBetween("keys.cache_ttl", c.Keys.CacheTTL, time.Second, time.Hour)
	v.between("keys.cache_entries", int64(c.Keys.CacheEntries), 1, 10_000_000)
	v.durationBetween("keys.kms_grace", c.Keys.KMSGrace, 0, time.Hour)
	v.between("keys.kms_rate", int64(c.Keys.KMSRate), 10, 1_000_000)
	v.between("keys.reencrypt_rate", int64(c.Keys.ReencryptRate), 1, 1_000_000)
	c.Locker.validate(v)
	for _, name := range sortedKeys(c.Tenants) {
		c.validateTenant(v, name, c.Tenants[name])
	}
	return errors.Join(v.errs...)
}

func (c Config) validateVault(v *validation) {
	if c.Vault.Listen == "" {
		if !c.KeyService.Enabled() {
			v.add("vault.listen", "is empty, and so is key_service.listen: there is nothing to serve")
		}
		if len(c.Tenants) > 0 {
			v.add("tenants", "have no effect: vault.listen is empty, so no vault is served")
		}
		return
	}
	c.Vault.TLS.validate(v, "vault.tls")
	validateListen(v, "vault", c.Vault.Listen, c.Vault.TLS, c.Vault.InsecurePlainHTTPOffLoopback)
	v.between("vault.body_limit_bytes", c.Vault.BodyLimitBytes, 1024, 64<<20)
	v.between("vault.max_connections", int64(c.Vault.MaxConnections), 1, 1_000_000)
	v.durationBetween("vault.shutdown_grace", c.Vault.ShutdownGrace, time.Second, 10*time.Minute)
	for _, p := range c.Vault.TrustedProxies {
		if p != p.Masked() || !p.IsValid() {
			v.add("vault.trusted_proxies", "%s has bits behind its length, expected %s", p, p.Masked())
		} else if p.Bits() == 0 {
			v.add("vault.trusted_proxies", "%s trusts everybody to say where a request came from; name your proxies", p)
		}
	}
}

func (c Config) validateOps(v *validation) {
	c.Ops.TLS.validate(v, "ops.tls")
	validateListen(v, "ops", c.Ops.Listen, c.Ops.TLS, c.Ops.InsecurePlainHTTPOffLoopback)
	if _, port, err := net.SplitHostPort(c.Ops.Listen); err == nil && port != "0" && c.Ops.Listen == c.Vault.Listen {
		v.add("ops.listen", "is the address of vault.listen; give it another port")
	}
}

func (t TLS) validate(v *validation, key string) {
	if t.CertificateFile != "" && t.PrivateKeyFile == "" {
		v.add(key+".private_key_file", "is missing; certificate_file needs its private key")
	}
	if t.PrivateKeyFile != "" && t.CertificateFile == "" {
		v.add(key+".certificate_file", "is missing; private_key_file needs its certificate")
	}
	v.oneOf(key+".client_certificates", t.ClientCertificates, ClientCertificatesOff, ClientCertificatesOptional, ClientCertificatesRequired)
	switch off := t.ClientCertificates == ClientCertificatesOff; {
	case off && t.ClientCAFile != "":
		v.add(key+".client_certificates", `is "off", so client_ca_file has no effect; set "required" or "optional", or remove client_ca_file`)
	case !off && t.ClientCAFile == "":
		v.add(key+".client_ca_file", "is missing; name the authorities that issue client certificates")
	case !off && !t.Enabled():
		v.add(key+".certificate_file", "is missing; client certificates need TLS")
	}
}

func validateListen(v *validation, section, listen string, t TLS, insecure bool) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		v.add(section+".listen", "%q is not an address, expected host:port such as 127.0.0.1:8080", listen)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.add(section+".listen", "%q is not a port, expected a number up to 65535", port)
	}
	if !t.Enabled() && !insecure && !isLoopbackHost(host) {
		v.add(section+".listen", "%s can be reached by other machines, but there is no TLS: set %s.tls.certificate_file and private_key_file, "+
			"listen on 127.0.0.1, or accept the danger with %s.insecure_plain_http_off_loopback = true", listen, section, section)
	}
}

func (d Database) validate(v *validation, key string) {
	d.validateURL(v, key)
	v.between(key+".max_connections", int64(d.MaxConnections), 2, 1000)
	v.between(key+".max_batch", int64(d.MaxBatch), 1, 4096)
	v.durationBetween(key+".statement_timeout", d.StatementTimeout, 100*time.Millisecond, 10*time.Minute)
	if (d.ClientCertificateFile == "") != (d.ClientPrivateKeyFile == "") {
		v.add(key+".client_certificate_file", "and client_private_key_file belong together; set both or none")
	}
	if d.isSQLite() {
		for _, s := range []struct{ key, value string }{
			{"password_file", d.PasswordFile}, {"tls", d.TLS}, {"ca_file", d.CAFile}, {"client_certificate_file", d.ClientCertificateFile},
		} {
			if s.value != "" {
				v.add(key+"."+s.key, "has no effect on SQLite; remove it")
			}
		}
		return
	}
	v.oneOf(key+".tls", d.TLS, DatabaseTLSVerifyFull, DatabaseTLSVerifyCA, DatabaseTLSInsecureDisable)
	if d.TLS == DatabaseTLSInsecureDisable && (d.CAFile != "" || d.ClientCertificateFile != "") {
		v.add(key+".tls", "is %q, so ca_file and client_certificate_file have no effect; remove them or set %q", DatabaseTLSInsecureDisable, DatabaseTLSVerifyFull)
	}
	if d.TLS == DatabaseTLSVerifyCA && d.CAFile == "" {
		v.add(key+".ca_file", "is missing; %q without an authority of your own accepts any public certificate", DatabaseTLSVerifyCA)
	}
}

func (l Limits) validate(v *validation) {
	if math.IsNaN(l.DeletePerSecond) || l.DeletePerSecond < 0 || l.DeletePerSecond > 1e6 {
		v.add("limits.delete_per_second", "is out of range, expected 0 (off) to 1000000")
	} else if l.DeletePerSecond > 0 {
		v.between("limits.delete_burst", int64(l.DeleteBurst), 1, 1_000_000)
	} else if l.DeleteBurst != 0 {
		v.add("limits.delete_burst", "has no effect without limits.delete_per_second; set that or remove this")
	}
	v.between("limits.custodian_attempts_per_minute", int64(l.CustodianAttemptsPerMinute), 1, 60)
	if l.CustodianLockoutAfter < 1 || l.CustodianLockoutAfter > 10 {
		v.add("limits.custodian_lockout_after", "%d is out of range, expected 1 to 10 attempts (PCI DSS 8.3.4)", l.CustodianLockoutAfter)
	}
	if l.CustodianLockout.Duration < 30*time.Minute || l.CustodianLockout.Duration > 30*24*time.Hour {
		v.add("limits.custodian_lockout", "%s is out of range, expected 30m (PCI DSS 8.3.4) to 720h", l.CustodianLockout)
	}
}

func (l Locker) validate(v *validation) {
	if l.PrivateKeyPEM.Len() > 0 {
		if _, err := parsePrivateKey(l.PrivateKeyPEM); err != nil {
			v.add("locker.private_key_file", "%s: %v", l.PrivateKeyFile, err)
		}
	}
	if len(l.VersionHeader) > 128 || strings.ContainsFunc(l.VersionHeader, func(r rune) bool { return r < ' ' || r > '~' }) {
		v.add("locker.version_header", "expected at most 128 visible ASCII characters")
	}
}

// loopbackOnly says whether only this machine can reach an address.
func loopbackOnly(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isLoopbackHost(host)
}
